"""Published ImageNet weights: download (from a server on 127.0.0.1), cache and errors."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from fer_jax.errors import UserError
from fer_jax.weights import load, published
from fer_jax.weights.port import TABLES
from tests.weights import torchvision

FOLDER, NAME = "vgg16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
TORCH_FOLDER, TORCH_NAME = "models", "resnet18-f37072fd.pth"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on 127.0.0.1 and records the requested paths."""

    def __init__(self, folder: Path) -> None:
        self.requested: list[str] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args) -> None:
                server.requested.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    for folder in (FOLDER, TORCH_FOLDER):
        (tmp_path / "served" / folder).mkdir(parents=True)
    with Server(tmp_path / "served") as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv(published.BASE_URL_VARIABLE, server.url)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def keras_file(tmp_path, server, legacy_h5, marked, monkeypatch) -> Path:
    """A file on the server with the published layout, registered as the published file."""
    names = [layer.path.split("/")[1] for layer in TABLES["vgg16"].layers]
    layers = [
        (name, list(arrays.values()))
        for name, (_, arrays) in zip(names, marked("vgg16"), strict=True)
    ]
    path = legacy_h5(tmp_path / "served" / FOLDER / NAME, layers)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    register_as_published("vgg16", digest, monkeypatch)
    return path


@pytest.fixture
def torchvision_file(tmp_path, server, marked, monkeypatch) -> Path:
    """The same for torchvision, in safetensors: the format is detected by content."""
    path = tmp_path / "served" / TORCH_FOLDER / TORCH_NAME
    tensors = torchvision.tensors_of(marked("resnet18"))
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    safetensors.numpy.save_file(tensors, path)
    register_as_published("resnet18", hashlib.sha256(path.read_bytes()).hexdigest(), monkeypatch)
    return path


def register_as_published(model: str, digest: str, monkeypatch) -> None:
    entry = dataclasses.replace(published.IMAGENET[model], digest=digest)
    monkeypatch.setitem(published.IMAGENET, model, entry)


@pytest.mark.parametrize(
    ("model", "file"), [("vgg16", "keras_file"), ("resnet18", "torchvision_file")]
)
def test_a_file_is_downloaded_ported_and_cached(model, file, server, cache, capsys, request):
    file = request.getfixturevalue(file)
    path = published.imagenet_port(model)
    weights = load.open_weights(path, model)
    assert weights.source == file.name
    assert weights.source_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "downloading http://127.0.0.1" in capsys.readouterr().out
    # The cache contains only the ported file, and is used from now on.
    assert [file for file in cache.rglob("*") if file.is_file()] == [path]
    assert published.imagenet_port(model) == path
    assert server.requested == [f"/{file.parent.name}/{file.name}"]


def rejected(message: str):
    return pytest.raises(UserError, match=f"(?s){message}")


HELP = "port-weights FILE --model vgg16 --out .*--config.model.pretrained=none"


def test_a_file_with_another_hash_is_rejected(server, keras_file, cache):
    content = bytearray(keras_file.read_bytes())
    content[-1] ^= 1
    keras_file.write_bytes(content)
    with rejected(f"{NAME}, from {server.url}/.* has the md5 [0-9a-f]{{32}}, not .*{HELP}"):
        published.imagenet_port("vgg16")
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_a_missing_file_is_reported(server):
    with rejected(f"the download failed .HTTP Error 404.*{HELP}"):
        published.imagenet_port("vgg16")


def test_a_missing_server_is_reported(monkeypatch):
    with socket.socket() as closed:  # bound, but not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv(published.BASE_URL_VARIABLE, url)
        with rejected(f"from {url}/{FOLDER}/{NAME}.*the download failed .*refused.*{HELP}"):
            published.imagenet_port("vgg16")


def test_a_network_without_published_weights_is_rejected():
    with rejected("no ImageNet weights are published for light_vgg.*resnet50.*pretrained=none"):
        published.imagenet_port("light_vgg")


def test_an_unwritable_cache_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "file"))
    with rejected(f"expected a writable cache folder .*{published.CACHE_VARIABLE}"):
        published.imagenet_port("vgg16")


@pytest.mark.parametrize("model", sorted(published.IMAGENET))
def test_published_urls_and_hashes_are_complete(model, monkeypatch):
    monkeypatch.delenv(published.BASE_URL_VARIABLE, raising=False)
    entry = published.IMAGENET[model]
    if entry.publisher == "Keras":
        base = "https://storage.googleapis.com/tensorflow/keras-applications"
        path, length = f"{model}/{model}_weights_tf_dim_ordering_tf_kernels_notop.h5", 16
    else:
        # The name ends with the first digits of the hash.
        base = "https://download.pytorch.org"
        path, length = f"models/{model}-{entry.digest[:8]}.pth", 32
    assert entry.url == f"{base}/{path}"
    assert len(bytes.fromhex(entry.digest)) == length
    assert model in TABLES


def test_a_torchvision_file_with_another_hash_is_rejected(server, torchvision_file):
    torchvision_file.write_bytes(b"something else")
    with rejected(f"by torchvision .{TORCH_NAME}, from .* has the sha256 [0-9a-f]{{64}}, not "):
        published.imagenet_port("resnet18")
