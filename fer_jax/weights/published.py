"""The ImageNet weights that Keras publishes, and the cache of their ports.

A file is used only if it has the hash that Keras publishes with it. Nothing is downloaded
twice, and nothing is replaced by something else when it cannot be had.
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

BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
BASE_URL_VARIABLE = "FER_JAX_WEIGHTS_URL"
"""Environment variable: another server with the same folders, such as a mirror."""

_TIMEOUT = 60  # seconds without a byte


@dataclasses.dataclass(frozen=True)
class Published:
    """A file that Keras publishes.

    Attributes:
      path: below the base URL.
      md5: as Keras publishes it, in keras/src/applications/<model>.py of Keras 3.15.1.
    """

    path: str
    md5: str

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{os.environ.get(BASE_URL_VARIABLE) or BASE_URL}/{self.path}"


IMAGENET = {
    "vgg16": Published(
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
    ),
    "inception_resnet_v2": Published(
        "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "d19885ff4a710c122648d3b5c3b684e4",
    ),
}


def cached_port(model: str) -> Path:
    """Where the port of a network's ImageNet weights lies, or would lie."""
    return cache_folder() / "weights" / f"{model}_imagenet.safetensors"


def imagenet_port(model: str) -> Path:
    """The port of a network's ImageNet weights, downloaded and ported if need be.

    Raises:
      UserError: nothing is published for the network, or it cannot be downloaded.
    """
    if model not in IMAGENET:
        raise UserError(
            f"no ImageNet weights are published for {model}, only for "
            f"{', '.join(sorted(IMAGENET))}; set --config.model.pretrained=none"
        )
    port = cached_port(model)
    if not port.is_file():
        from fer_jax.weights.port import port as port_file  # HDF5 is read this once

        with tempfile.TemporaryDirectory(dir=_made(port.parent), prefix=".download-") as folder:
            downloaded = Path(folder) / Path(IMAGENET[model].path).name
            _download(IMAGENET[model], model, downloaded)
            port_file(downloaded, model).write(port)
        print(f"ported the ImageNet weights of {model} to {port}")
    return port


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"expected to write the cache {folder}, found: {error.strerror}; "
            f"name another in the environment variable {CACHE_VARIABLE}"
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
    except (OSError, ValueError) as error:  # URLError is an OSError; ValueError: no URL
        reason = str(error).strip("<>")
        raise _unavailable(published, model, f"it cannot be downloaded ({reason})") from error
    with open(to, "rb") as downloaded:
        digest = hashlib.file_digest(downloaded, lambda: hashlib.md5(usedforsecurity=False))
    found = digest.hexdigest()
    if found != published.md5:
        raise _unavailable(
            published, model, f"what was downloaded has the md5 {found}, not {published.md5}"
        )


def _unavailable(published: Published, model: str, why: str) -> UserError:
    name = Path(published.path).name
    return UserError(
        f"expected the ImageNet weights of {model} that Keras publishes ({name}, from "
        f"{published.url}): {why}. Get the file, or torchvision's or timm's, elsewhere and "
        f"run: python -m fer_jax.port_weights FILE --model {model} --out {cached_port(model)}; "
        "or train from random weights with --config.model.pretrained=none"
    )
