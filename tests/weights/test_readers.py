"""Reading weight files: every supported format, and the error message of every invalid file.

The .pth files were written by torch.save of PyTorch 2.13.0.
"""

from __future__ import annotations

import functools
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import ClassVar

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from fer_jax.errors import UserError
from fer_jax.weights.source import read_source

A = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
TENSORS = {
    "a": A,
    "transposed": A.transpose(2, 0, 1),
    "tail": A[1:],
    "half": np.array([1.5, -2], np.float16),
    "bfloat": np.array([1.5, -2], jnp.bfloat16),
    "double": np.array([[0.1]]),
    "counter": np.array(7),
    "parameter": np.array([3], np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("name", ["zip.pth", "stream.pth", "checkpoint.pth"])
def test_pytorch_files(fixture, name):
    source = read_source(fixture / name)
    assert source.layout == "pytorch"
    assert source.tensors.keys() == TENSORS.keys()
    for tensor, expected in TENSORS.items():
        assert source.tensors[tensor].dtype == expected.dtype
        np.testing.assert_array_equal(source.tensors[tensor], expected)


def test_tensors_of_pytorch_0_3(fixture, tmp_path):
    content = (fixture / "stream.pth").read_bytes()
    (tmp_path / "x").write_bytes(content.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor"))
    np.testing.assert_array_equal(
        read_source(tmp_path / "x").tensors["transposed"], TENSORS["transposed"]
    )


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 does, as strings without an encoding."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)

    dispatch[bytes] = save_string


def python_2(content) -> bytes:
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


@pytest.mark.parametrize(
    "write", [python_2, *(functools.partial(pickle.dumps, protocol=p) for p in (2, 3, 4))]
)
def test_a_pickle_of_numpy_arrays(tmp_path, write):
    arrays = {
        "a": A, "b": np.asfortranarray(A[0]), "c": A.astype(">f2"), "d": A.astype(np.int8),
    }  # fmt: skip
    (tmp_path / "x").write_bytes(write(arrays | {"epoch": 3, "accuracy": np.float64(0.5)}))
    source = read_source(tmp_path / "x")
    assert source.layout == "numpy"
    assert source.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        assert source.tensors[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(source.tensors[name], array)


@pytest.mark.parametrize("variant", [{}, {"chunked": True}, {"whole_model": True}])
def test_legacy_layers_are_in_the_order_of_the_attribute(tmp_path, legacy_h5, variant):
    # HDF5 itself lists groups by name: a, b, z.
    layers = [("z", [np.zeros(2)]), ("pool", []), ("a", [np.ones(3), np.ones(1)]), ("b", [A])]
    source = read_source(legacy_h5(tmp_path / "x.bin", layers, **variant))
    assert source.layout == "keras legacy h5"
    assert [layer.name for layer in source.layers] == ["z", "a", "b"]
    assert [array.shape for array in source.layers[1].arrays] == [(3,), (1,)]


def write_keras_3(path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = A
        file["layers/conv2d_1/vars/1"] = A[0]


@pytest.mark.parametrize("archived", [False, True])
def test_keras_3_arrays_by_path(tmp_path, archived):
    path = tmp_path / "x"
    write_keras_3(path)
    if archived:
        with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
            archive.write(path, "model.weights.h5")
            archive.writestr("config.json", "{}")
        path = tmp_path / "x.keras"
    source = read_source(path)
    assert source.layout == "keras 3"
    assert source.tensors.keys() == {"layers/conv2d/vars/0", "layers/conv2d_1/vars/1"}
    np.testing.assert_array_equal(source.tensors["layers/conv2d/vars/0"], A)


def test_safetensors_arrays_by_name(tmp_path):
    tensors = {"a": A, "b": np.array([1.5], jnp.bfloat16)}
    safetensors.numpy.save_file(tensors, tmp_path / "x")
    source = read_source(tmp_path / "x")
    assert source.layout == "pytorch"
    np.testing.assert_array_equal(source.tensors["a"], A)
    assert source.tensors["b"].astype(np.float32) == 1.5


def test_safetensors_that_start_like_a_pickle(tmp_path):
    # The file starts with its header's length; pickles of protocol 2 and later start with 0x80.
    content = safetensors.numpy.save({"a": A}, {"note": "x" * 42})
    assert content[:8] == (128).to_bytes(8, "little")
    (tmp_path / "x").write_bytes(content)
    np.testing.assert_array_equal(read_source(tmp_path / "x").tensors["a"], A)


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def raw_pickle(folder, marker):
    (folder / "x").write_bytes(pickle.dumps({"a": Payload(marker)}, protocol=2))


def zipped_pickle(folder, marker):
    with zipfile.ZipFile(folder / "x", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"a": Payload(marker)}, protocol=2))


def stream_pickle(folder, marker):
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    content = b"".join(pickle.dumps(part, protocol=2) for part in [*head, {"a": Payload(marker)}])
    (folder / "x").write_bytes(content)


def pickle_of_attributes(folder, marker):
    # Accesses code through an allowed module: torch._utils.os.system
    program = b"\x80\x02ctorch._utils\nos.system\n(X\x04\x00\x00\x00truetR."
    with zipfile.ZipFile(folder / "x", "w") as archive:
        archive.writestr("x/data.pkl", program)


def arrays_and_code(folder, marker):
    content = {"a": A, "b": Payload(marker)}
    (folder / "x").write_bytes(pickle.dumps(content, protocol=2))


def objects_in_an_array(folder, marker):
    content = {"a": np.array([Payload(marker)], object)}
    (folder / "x").write_bytes(pickle.dumps(content, protocol=2))


CODE = [
    raw_pickle, zipped_pickle, stream_pickle, pickle_of_attributes, arrays_and_code,
    objects_in_an_array,
]  # fmt: skip


@pytest.mark.parametrize("write", CODE)
def test_code_in_a_pickle_is_rejected_and_not_run(tmp_path, write):
    marker = tmp_path / "marker"
    write(tmp_path, marker)
    with pytest.raises(UserError, match=r"calling \S+, which can run code; it was not run"):
        read_source(tmp_path / "x")
    assert not marker.exists()


def test_the_payload_runs_in_an_ordinary_unpickler(tmp_path):
    raw_pickle(tmp_path, tmp_path / "marker")
    pickle.loads((tmp_path / "x").read_bytes())["a"].close()
    assert (tmp_path / "marker").exists()


def test_a_tensor_larger_than_its_storage_is_rejected(tmp_path, fixture):
    with zipfile.ZipFile(fixture / "zip.pth") as good, zipfile.ZipFile(tmp_path / "x", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("data.pkl"):
                # The shape (2, 3, 4) of the first tensor; K is pickle's one-byte integer.
                assert content.count(b"K\x02K\x03K\x04") == 1
                content = content.replace(b"K\x02K\x03K\x04", b"K\x7fK\x03K\x04")
            bad.writestr(name, content)
    with pytest.raises(UserError, match="exceeds its storage"):
        read_source(tmp_path / "x")


def truncated_h5(path):
    write_keras_3(path)
    truncate(path)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 200])


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["measurements"] = A


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")


def truncated_safetensors(path):
    safetensors.numpy.save_file({"a": A}, path)
    truncate(path)


def copied(name, shorter=0):
    def write(path):
        content = (Path(__file__).parent / "fixture" / name).read_bytes()
        path.write_bytes(content[: len(content) - shorter])

    return write


def pickled(content, change=(b"", b"")):
    def write(path):
        whole = pickle.dumps(content, protocol=2)
        assert change[0] in whole
        path.write_bytes(whole.replace(*change) if change[0] else whole)

    return write


def hdf5(edit):
    """Returns a writer of a Keras 3 file that `edit` changes."""

    def write(path):
        write_keras_3(path)
        with h5py.File(path, "a") as file:
            edit(file)

    return write


def external_storage(file):
    file.create_dataset("x/vars/0", (4,), np.float32, external=[("/etc/hostname", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "a", (4,))
    file.create_virtual_dataset("x/vars/0", layout)


def external_link(file):
    file["x/vars/0"] = h5py.ExternalLink("/tmp/other.h5", "/a")


def huge(file):
    file.create_dataset("x/vars/0", (1 << 40,), np.float32, chunks=(1 << 10,))


def attribute(name, value):
    def edit(file):
        file.attrs[name] = value

    return edit


DAMAGED_HDF5 = "expected a complete Keras HDF5 file.*truncated or damaged"

WRONG = [
    (hdf5(external_link), "to contain its arrays, found a link to the file /tmp/other.h5"),
    (hdf5(external_storage), "to contain its arrays, found an array that is stored in other"),
    (hdf5(virtual), "to contain its arrays, found an array that is stored in other"),
    (
        hdf5(huge),
        r"to contain its arrays, found an array \(1099511627776,\) of .* bytes with 0 stored at",
    ),
    (hdf5(attribute("layer_names", 3)), DAMAGED_HDF5),
    (hdf5(attribute("layer_names", h5py.Empty("S4"))), DAMAGED_HDF5),
    (hdf5(attribute("layer_names", [b"\xff"])), DAMAGED_HDF5),
    (hdf5(attribute("layer_names", ["a", "a"])), f"{DAMAGED_HDF5} .*occurs twice"),
    (lambda path: None, "expected a weight file at .*No such file"),
    (lambda path: path.mkdir(), "expected a weight file at .*directory"),
    (lambda path: path.write_bytes(b""), "an unknown format; use Keras .h5"),
    (lambda path: path.write_text("weights"), "an unknown format"),
    (truncated_h5, r"expected a complete Keras HDF5 file.*truncated or damaged .*truncated"),
    (other_hdf5, "neither a layer_names attribute"),
    (other_zip, r"expected model.weights.h5 .*found readme.txt"),
    (copied("zip.pth", shorter=100), "expected a complete archive.*truncated or damaged"),
    (copied("stream.pth", shorter=40), "a PyTorch file of tensors.*storage .* is truncated"),
    (lambda path: path.write_bytes(pickle.dumps([1.0])), "a pickle not written by torch.save"),
    (lambda path: path.write_bytes(pickle.dumps({"a": 1.0})), "a dict without named tensors"),
    (pickled({"a": np.array(["text"])}), "found .* of another kind .*an array of <U4"),
    (pickled({"a": np.array([{}], object)}), "an array of object"),
    (pickled({"a": A}, (b"K\x02K\x03K\x04", b"K\x02K\x03K\x05")), "cannot reshape"),
    (pickled({"a": A}, (b"f4", b"f8")), "cannot reshape"),
    (truncated_safetensors, "expected a complete safetensors file.*truncated or damaged"),
    (
        lambda path: path.write_bytes(struct.pack("<Q", 9) + b"{"),
        "expected a complete safetensors file",
    ),
]


@pytest.mark.parametrize(("write", "message"), WRONG)
def test_invalid_files_are_reported(tmp_path, write, message):
    path = tmp_path / "x"
    write(path)
    with pytest.raises(UserError, match=f"(?s){message}") as caught:
        read_source(path)
    assert str(path) in str(caught.value)
