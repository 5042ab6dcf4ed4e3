"""ImageNet weights: from the cache, else from a server (here one on 127.0.0.1), else an error."""

from __future__ import annotations

import functools
import hashlib
import http.server
import socket
import threading
from pathlib import Path

import pytest

from fer_jax.errors import UserError
from fer_jax.weights import load, published
from fer_jax.weights.port import TABLES

FOLDER, NAME = "vgg16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"


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
    (tmp_path / "served" / FOLDER).mkdir(parents=True)
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
    names = [layer.path.split("/")[1] for layer in TABLES["vgg16"].keras_order]
    layers = [
        (name, list(arrays.values()))
        for name, (_, arrays) in zip(names, marked("vgg16"), strict=True)
    ]
    path = legacy_h5(tmp_path / "served" / FOLDER / NAME, layers)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(
        published.IMAGENET, "vgg16", published.Published(f"{FOLDER}/{NAME}", digest)
    )
    return path


def test_a_file_is_downloaded_checked_ported_and_kept(server, keras_file, cache, capsys):
    path = published.imagenet_port("vgg16")
    weights = load.open_weights(path, "vgg16")
    assert weights.source == NAME
    assert weights.source_sha256 == hashlib.sha256(keras_file.read_bytes()).hexdigest()
    assert "downloading http://127.0.0.1" in capsys.readouterr().out
    # The cache holds the port alone, and is used from now on.
    assert [file for file in cache.rglob("*") if file.is_file()] == [path]
    assert published.imagenet_port("vgg16") == path
    assert server.asked == [f"/{FOLDER}/{NAME}"]


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
    with refused("no ImageNet weights are published for light_vgg.*pretrained=none"):
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
    base = "https://storage.googleapis.com/tensorflow/keras-applications"
    name = f"{model}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert entry.url == f"{base}/{model}/{name}"
    assert len(bytes.fromhex(entry.md5)) == 16
    assert model in TABLES
