"""ImageNet weights: from the cache, else from a server (here one on 127.0.0.1), else an error."""

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
    """Serves a folder on 127.0.0.1 and counts what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args) -> None:
                server.asked.append(self.path)

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
    """A file laid out as the published one, on the server, whose hash counts as published."""
    names = [layer.path.split("/")[1] for layer in TABLES["vgg16"].layers]
    layers = [
        (name, list(arrays.values()))
        for name, (_, arrays) in zip(names, marked("vgg16"), strict=True)
    ]
    path = legacy_h5(tmp_path / "served" / FOLDER / NAME, layers)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    count_as_published("vgg16", digest, monkeypatch)
    return path


@pytest.fixture
def torchvision_file(tmp_path, server, marked, monkeypatch) -> Path:
    """The same of a network that torchvision publishes; safetensors, which no name hides."""
    path = tmp_path / "served" / TORCH_FOLDER / TORCH_NAME
    tensors = torchvision.tensors_of(marked("resnet18"))
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    safetensors.numpy.save_file(tensors, path)
    count_as_published("resnet18", hashlib.sha256(path.read_bytes()).hexdigest(), monkeypatch)
    return path


def count_as_published(model: str, digest: str, monkeypatch) -> None:
    entry = dataclasses.replace(published.IMAGENET[model], digest=digest)
    monkeypatch.setitem(published.IMAGENET, model, entry)


@pytest.mark.parametrize(
    ("model", "file"), [("vgg16", "keras_file"), ("resnet18", "torchvision_file")]
)
def test_a_file_is_downloaded_checked_ported_and_kept(model, file, server, cache, capsys, request):
    file = request.getfixturevalue(file)
    path = published.imagenet_port(model)
    weights = load.open_weights(path, model)
    assert weights.source == file.name
    assert weights.source_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "downloading http://127.0.0.1" in capsys.readouterr().out
    # The cache holds the port alone, and is used from now on.
    assert [file for file in cache.rglob("*") if file.is_file()] == [path]
    assert published.imagenet_port(model) == path
    assert server.asked == [f"/{file.parent.name}/{file.name}"]


def refused(says: str):
    return pytest.raises(UserError, match=f"(?s){says}")


HELP = "port_weights FILE --model vgg16 --out .*--config.model.pretrained=none"


def test_a_file_with_another_hash_is_refused(server, keras_file, cache):
    content = bytearray(keras_file.read_bytes())
    content[-1] ^= 1
    keras_file.write_bytes(content)
    with refused(f"{NAME}, from {server.url}/.* has the md5 [0-9a-f]{{32}}, not .*{HELP}"):
        published.imagenet_port("vgg16")
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_a_file_that_is_not_there_is_said(server):
    with refused(f"it cannot be downloaded .HTTP Error 404.*{HELP}"):
        published.imagenet_port("vgg16")


def test_no_server_is_said(monkeypatch):
    with socket.socket() as closed:  # bound, and not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv(published.BASE_URL_VARIABLE, url)
        with refused(f"from {url}/{FOLDER}/{NAME}.*cannot be downloaded .*refused.*{HELP}"):
            published.imagenet_port("vgg16")


def test_a_network_without_published_weights_is_refused():
    with refused("no ImageNet weights are published for light_vgg.*resnet50.*pretrained=none"):
        published.imagenet_port("light_vgg")


def test_an_unwritable_cache_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "file"))
    with refused(f"expected to write the cache .*{published.CACHE_VARIABLE}"):
        published.imagenet_port("vgg16")


@pytest.mark.parametrize("model", sorted(published.IMAGENET))
def test_published_addresses_are_whole(model, monkeypatch):
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


def test_another_hash_is_said_of_torchvisions_files_too(server, torchvision_file):
    torchvision_file.write_bytes(b"something else")
    said = f"torchvision publishes .{TORCH_NAME}, from .* has the sha256 [0-9a-f]{{64}}, not "
    with refused(said):
        published.imagenet_port("resnet18")
