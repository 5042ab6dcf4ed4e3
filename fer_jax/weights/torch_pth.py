"""Reads the tensors of a PyTorch file without PyTorch, and without running code from it.

A .pth file is a pickle, and a pickle can call any function. The unpickler here provides only the
few functions that build tensors, all defined below, and rejects every other name before looking
it up. It reads both formats of torch.save: zip archives, and the pickle streams written until
2020, such as torchvision's vgg16-397923af.pth; and a pickled dictionary of NumPy arrays, as
VGGFace2-pytorch's, also by Python 2, without NumPy's own constructors.
"""

from __future__ import annotations

import collections
import dataclasses
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import jax.numpy as jnp
import numpy as np

from fer_jax.errors import UserError

_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001

_STORAGES: dict[str, Any] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
    "BFloat16Storage": jnp.bfloat16,
}


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _CodeError(Exception):
    """The pickle refers to something other than tensors."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A buffer of numbers that tensors share; `key` is its name in the file."""

    key: str
    dtype: np.dtype
    numel: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A strided view of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, numbers: np.ndarray) -> np.ndarray:
        """Returns a copy of this view of the storage's numbers."""
        spans = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in spans)
        if min(self.shape, default=1) == 0:
            return np.zeros(self.shape, numbers.dtype)
        if min((self.offset, *self.strides)) < 0 or last >= len(numbers):
            raise ValueError(f"a tensor {self.shape} exceeds its storage")
        strides = tuple(stride * numbers.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)
        return np.array(view)


class _NumPy:
    """A NumPy array or dtype: what its `__setstate__` would get.

    Attributes:
      code: of a dtype, such as "f4".
    """

    def __init__(self, code: Any = "") -> None:
        self.code = code
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Returns the array."""
        _, shape, dtype, is_fortran, content = self.state
        numbers = np.dtype(f"{dtype.state[1]}{dtype.code}")
        if numbers.kind not in "fiub":
            raise ValueError(f"an array of {numbers}")
        if isinstance(content, str):  # Python 2's bytes
            content = content.encode("latin1")
        array = np.frombuffer(content, numbers).reshape(shape, order="F" if is_fortran else "C")
        return array.astype(numbers.newbyteorder("="))


class _Unpickler(pickle.Unpickler):
    """Builds dictionaries, lists, numbers, strings, tensors and arrays, and nothing else.

    Attributes:
      storages: the storages that the pickle refers to, by key.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")  # of Python 2's strings, which may be bytes
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Defined per file: a pickle can modify the objects that it gets.
        def rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
            return _Tensor(storage, int(offset), tuple(size), tuple(stride))

        def parameter(tensor: Any, *_: Any) -> Any:
            return tensor

        def numpy_object(*arguments: Any) -> _NumPy:
            return _NumPy(arguments[0])

        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor"): rebuild,  # until PyTorch 0.3
            ("torch._utils", "_rebuild_tensor_v2"): rebuild,
            ("torch._utils", "_rebuild_parameter"): parameter,
            ("numpy.core.multiarray", "_reconstruct"): numpy_object,
            ("numpy.core.multiarray", "scalar"): lambda *_: None,  # an accuracy in a checkpoint
            ("numpy", "dtype"): numpy_object,
            ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # Python 3's bytes
        }
        module = module.replace("numpy._core.", "numpy.core.")  # NumPy 2
        if (module, name) == ("numpy", "ndarray") or (module == "torch" and name in _STORAGES):
            return name
        if (module, name) not in allowed:
            raise _CodeError(f"{module}.{name}")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, numel, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"an unknown persistent id {str(pid)[:60]}")
        storage = _Storage(str(key), np.dtype(_STORAGES[name]), int(numel))
        return self.storages.setdefault(storage.key, storage)


def read_zip(archive: zipfile.ZipFile, path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by name of a zip archive written by torch.save.

    Raises:
      UserError: a pickle with code, a damaged file, or no tensors.
    """

    def read() -> dict[str, np.ndarray]:
        (pickled,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        order = "little"
        if f"{folder}byteorder" in archive.namelist():
            order = archive.read(f"{folder}byteorder").decode()
        if order != "little":
            raise ValueError("big-endian numbers")
        with archive.open(pickled) as file:
            tensors = _named(_Unpickler(file).load(), _Tensor)
        numbers = {
            tensor.storage.key: _numbers(
                archive.read(f"{folder}data/{tensor.storage.key}"), tensor.storage
            )
            for tensor in tensors.values()
        }
        return {name: tensor.array(numbers[tensor.storage.key]) for name, tensor in tensors.items()}

    return _guarded(read, path)


def read_stream(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Returns the arrays by name of a stream of pickles written by torch.save, or of NumPy arrays.

    Returns:
      "pytorch" or "numpy", and the arrays.

    Raises:
      UserError: a pickle with code, a damaged file, or no tensors.
    """

    def read() -> tuple[str, dict[str, np.ndarray]]:
        with open(path, "rb") as file:
            first = _Unpickler(file).load()
            if isinstance(first, Mapping):
                arrays = _named(first, _NumPy)
                return "numpy", {name: item.array() for name, item in arrays.items()}
            if first != _STREAM_MAGIC:
                raise ValueError("a pickle not written by torch.save")
            if _Unpickler(file).load() != _STREAM_VERSION:
                raise ValueError("an unsupported version of the stream")
            if not _Unpickler(file).load()["little_endian"]:
                raise ValueError("big-endian numbers")
            unpickler = _Unpickler(file)
            tensors = _named(unpickler.load(), _Tensor)
            numbers = _stream_numbers(file, unpickler.storages)
        return "pytorch", {
            name: tensor.array(numbers[tensor.storage.key]) for name, tensor in tensors.items()
        }

    return _guarded(read, path)


def _stream_numbers(file: IO[bytes], storages: Mapping[str, _Storage]) -> dict[str, np.ndarray]:
    """Reads what follows the pickles: each storage's length (8 bytes) and numbers."""
    numbers = {}
    for key in _Unpickler(file).load():
        storage = storages[str(key)]
        length = int.from_bytes(file.read(8), "little")
        if length != storage.numel:
            raise ValueError(f"a storage of {length} numbers, expected {storage.numel}")
        numbers[str(key)] = _numbers(file.read(length * storage.dtype.itemsize), storage)
    return numbers


def _numbers(content: bytes, storage: _Storage) -> np.ndarray:
    if len(content) < storage.numel * storage.dtype.itemsize:
        raise EOFError(f"storage {storage.key} is truncated")
    numbers = np.frombuffer(content, storage.dtype, storage.numel)
    return numbers if sys.byteorder == "little" else numbers.astype(storage.dtype.newbyteorder("="))


def _named(content: Any, kind: type[_Item]) -> dict[str, _Item]:
    """Returns the arrays of a state dictionary, or of the one inside a training checkpoint."""
    if isinstance(content, Mapping):
        for wrapper in ("state_dict", "model"):
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
        named = {str(name): item for name, item in content.items() if isinstance(item, kind)}
        if named:
            return named
    raise ValueError(f"a {type(content).__name__} without named tensors")


def _guarded(read: Callable[[], _Result], path: Path) -> _Result:
    try:
        return read()
    except _CodeError as error:
        raise UserError(
            f"expected tensors only, found {path} calling {error}, which can run code; it was "
            "not run. Save only the network's state_dict(), or use safetensors"
        ) from None
    except Exception as error:  # a crafted or damaged pickle can fail in any way
        raise UserError(
            f"expected a PyTorch file of tensors, found {path} truncated, damaged or of another "
            f"kind ({str(error) or type(error).__name__}); download it again, or save only the "
            "network's state_dict()"
        ) from error
