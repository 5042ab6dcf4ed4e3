"""Reads a weight file of any supported format, detected by content, not by name.

This module does not interpret the arrays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fer_jax.errors import UserError
from fer_jax.weights import dlib_dat, keras_h5, torch_pth
from fer_jax.weights.load import METADATA

FORMATS = (
    "Keras .h5, .weights.h5 and .keras, PyTorch .pth with tensors only, safetensors with "
    "torchvision's or timm's names, VGGFace2-pytorch .pkl, and dlib .dat"
)

_MAX_UNPACKED_BYTES = 16 * 2**20
_MAX_RATIO = 100
"""A member of an archive that is larger than these bytes and this ratio is refused."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"


@dataclasses.dataclass(frozen=True)
class Source:
    """The arrays of a weight file.

    Attributes:
      path: of the file.
      layout: "keras legacy h5" or "dlib" (use `layers`), "keras 3", "pytorch" or "numpy" (use
        `tensors`).
      sha256: hexadecimal digest of the file.
      layers: the layers with weights, in file order.
      tensors: arrays by name.
    """

    path: Path
    layout: str
    sha256: str
    layers: tuple[keras_h5.Layer, ...] = ()
    tensors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def read_source(path: Path) -> Source:
    """Reads all arrays of a weight file.

    Raises:
      UserError: a missing or damaged file, an unknown format, or a pickle that contains
        anything but tensors.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"expected a weight file at {path}, found: {error.strerror or error}; "
            f"supported formats: {FORMATS}"
        ) from error
    if head.startswith(_HDF5):
        return _keras(path, digest)
    if head.startswith(_ZIP):
        return _zipped(path, digest)
    if head.startswith(dlib_dat.MAGIC):
        return Source(path, "dlib", digest, layers=dlib_dat.read_dat(path))
    # Before pickles: the length at the start of safetensors may look like a pickle's first byte.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return Source(path, "pytorch", digest, tensors=_read_safetensors(path))
    if head.startswith(_PICKLE):
        layout, tensors = torch_pth.read_stream(path)
        return Source(path, layout, digest, tensors=tensors)
    raise UserError(f"expected a weight file at {path}, found an unknown format; use {FORMATS}")


def _keras(path: Path, digest: str) -> Source:
    content = keras_h5.read_h5(path, str(path))
    if isinstance(content, dict):
        return Source(path, "keras 3", digest, tensors=content)
    return Source(path, "keras legacy h5", digest, layers=content)


def _zipped(path: Path, digest: str) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if keras_h5.ARCHIVED in names:
                # In memory: HDF5 seeks, and each seek back in an archive reads it from the start.
                _check_ratio(path, archive.getinfo(keras_h5.ARCHIVED))
                file = io.BytesIO(archive.read(keras_h5.ARCHIVED))
                content = keras_h5.read_h5(file, str(path))
                if isinstance(content, dict):
                    return Source(path, "keras 3", digest, tensors=content)
            if any(name.endswith("data.pkl") for name in names):
                tensors = torch_pth.read_zip(archive, path)
                return Source(path, "pytorch", digest, tensors=tensors)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(
            f"expected a complete archive, found {path} truncated or damaged ({error}); "
            "download it again"
        ) from error
    raise UserError(
        f"expected {keras_h5.ARCHIVED} (Keras) or data.pkl (PyTorch) in the archive {path}, "
        f"found {', '.join(names[:5])}"
    )


def _check_ratio(path: Path, member: zipfile.ZipInfo) -> None:
    if member.file_size > max(_MAX_UNPACKED_BYTES, _MAX_RATIO * member.compress_size):
        raise UserError(
            f"expected weights in {path}, found {member.filename} of {member.file_size:,} bytes "
            f"packed into {member.compress_size:,}; use a file from where it was published"
        )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        if METADATA in metadata:
            raise UserError(
                f"{path} is already ported (from {json.loads(metadata[METADATA])['source']}); "
                f"use it with --config.model.pretrained={path}"
            )
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, OSError) as error:
        raise UserError(
            f"expected a complete safetensors file, found {path} truncated or damaged ({error}); "
            "download it again"
        ) from error
