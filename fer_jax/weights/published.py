"""The ImageNet weights published by Keras and torchvision: download, port and cache.

A file is used only if its hash is the published one. Each file is downloaded once. If a download
fails, there is no fallback.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path

from fer_jax.errors import UserError
from fer_jax.files import CACHE_VARIABLE, cache_folder

KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
TORCHVISION_URL = "https://download.pytorch.org"
BASE_URL_VARIABLE = "FER_JAX_WEIGHTS_URL"
"""Environment variable: base URL of a mirror with the paths of both servers."""

_TIMEOUT = 60  # seconds without a byte


@dataclasses.dataclass(frozen=True)
class Published:
    """A published weight file.

    Attributes:
      publisher: "Keras" or "torchvision".
      base_url: of the publisher's server.
      path: relative to `base_url`.
      algorithm: of the hash, "md5" or "sha256".
      digest: the hash, hexadecimal.
    """

    publisher: str
    base_url: str
    path: str
    algorithm: str
    digest: str

    @property
    def url(self) -> str:
        """The URL to download from."""
        return f"{os.environ.get(BASE_URL_VARIABLE) or self.base_url}/{self.path}"


def _keras(path: str, md5: str) -> Published:
    """The hash is from keras/src/applications/<model>.py of Keras 3.15.1."""
    return Published("Keras", KERAS_URL, path, "md5", md5)


def _torchvision(name: str, sha256: str) -> Published:
    """The name contains the first eight digits of the hash; users have recorded the others."""
    return Published("torchvision", TORCHVISION_URL, f"models/{name}", "sha256", sha256)


IMAGENET = {
    "vgg16": _keras(
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
    ),
    "inception_resnet_v2": _keras(
        "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "d19885ff4a710c122648d3b5c3b684e4",
    ),
    # IMAGENET1K_V1 of both: trained in the same way, and the usual initial weights for FER.
    "resnet18": _torchvision(
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "resnet50": _torchvision(
        "resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
}


def cached_port(model: str) -> Path:
    """Returns the cache path of a network's ported ImageNet weights."""
    return cache_folder() / "weights" / f"{model}_imagenet.safetensors"


def imagenet_port(model: str) -> Path:
    """Returns a network's ported ImageNet weights, downloading and porting them if needed.

    Raises:
      UserError: no published weights for the network, or a failed download.
    """
    if model not in IMAGENET:
        raise UserError(
            f"no ImageNet weights are published for {model}, only for "
            f"{', '.join(sorted(IMAGENET))}; set --config.model.pretrained=none"
        )
    port = cached_port(model)
    if not port.is_file():
        from fer_jax.weights.port import port as port_file  # slow import, rarely needed

        with tempfile.TemporaryDirectory(
            dir=_make_folder(port.parent), prefix=".download-"
        ) as folder:
            downloaded = Path(folder) / Path(IMAGENET[model].path).name
            _download(IMAGENET[model], model, downloaded)
            port_file(downloaded, model).write(port)
        print(f"ported the ImageNet weights of {model} to {port}")
    return port


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"expected a writable cache folder {folder}, found: {error.strerror}; "
            f"set another one in the environment variable {CACHE_VARIABLE}"
        ) from error
    return folder


def _download(published: Published, model: str, to: Path) -> None:
    print(f"downloading {published.url}", flush=True)
    try:
        with (
            urllib.request.urlopen(published.url, timeout=_TIMEOUT) as answer,
            open(to, "wb") as file,
        ):
            shutil.copyfileobj(answer, file, 1 << 20)
    except (OSError, ValueError) as error:  # URLError is an OSError; ValueError is an invalid URL
        reason = str(error).strip("<>")
        raise _unavailable(published, model, f"the download failed ({reason})") from error
    with open(to, "rb") as downloaded:
        digest = hashlib.file_digest(
            downloaded, lambda: hashlib.new(published.algorithm, usedforsecurity=False)
        )
    actual = digest.hexdigest()
    if actual != published.digest:
        raise _unavailable(
            published,
            model,
            f"the downloaded file has the {published.algorithm} {actual}, not {published.digest}",
        )


def _unavailable(published: Published, model: str, why: str) -> UserError:
    name = Path(published.path).name
    return UserError(
        f"expected the ImageNet weights of {model} published by {published.publisher} ({name}, "
        f"from {published.url}): {why}. Get this file, or torchvision's or timm's, elsewhere and "
        f"run: fer-jax port-weights FILE --model {model} --out {cached_port(model)}; "
        "or train from random weights with --config.model.pretrained=none"
    )
