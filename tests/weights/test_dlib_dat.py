"""Reading dlib's files: every kind of layer, and the error message of every damaged file."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.weights.source import read_source
from tests.weights import dlib_file

RNG = np.random.default_rng(0)
KERNEL, BIAS = RNG.normal(size=(4, 3, 5, 2)).astype(np.float32), np.arange(4, dtype=np.float32)
SCALE, DENSE = -BIAS, RNG.normal(size=(4, 6)).astype(np.float32)
LAYERS = [
    dlib_file.con(KERNEL, BIAS, stride=2),
    dlib_file.affine(SCALE, BIAS),
    dlib_file.text("relu_"),
    dlib_file.pool("max", 3, 2),
    dlib_file.con(KERNEL[:, :1], BIAS),
    dlib_file.text("add_prev_"),
    dlib_file.pool("avg", 0, 1),
    dlib_file.fc(DENSE),
]
VERSIONS = (2, 1, 2, 3)
FILE = dlib_file.network(LAYERS, VERSIONS)


def test_layers_are_read_in_order_as_keras_stores_them(tmp_path):
    (tmp_path / "a.dat").write_bytes(FILE)
    source = read_source(tmp_path / "a.dat")
    assert source.layout == "dlib"
    expected = {
        "con1": (KERNEL.transpose(2, 3, 1, 0), BIAS),
        "affine1": (SCALE, BIAS),
        "con2": (KERNEL[:, :1].transpose(2, 3, 1, 0), BIAS),
        "fc1": (DENSE,),
    }
    assert [layer.name for layer in source.layers] == list(expected)
    for layer in source.layers:
        for array, known in zip(layer.arrays, expected[layer.name], strict=True):
            np.testing.assert_array_equal(array, known)


SHORT = dlib_file.text("affine_") + dlib_file.tensor(BIAS) + dlib_file.view(1, 3, 1, 1) * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FILE[:-1], "it ends within a layer"),
        (FILE[:40], "it ends within a layer"),
        (FILE + b"\x01", "it ends within a layer"),
        (FILE.replace(b"input_rgb_image_sized", b"input_rgb_image_pyra__"[:21]), "the input input"),
        (FILE.replace(b"max_pool_2", b"max_pool_9"), "the layer 'max_pool_9'"),
        (FILE.replace(b"relu_", b"re\xfflu"), "ascii"),
        (FILE.replace(dlib_file.tensor(DENSE), dlib_file.integers(7, 1, 1, 1, 24)), "version 7"),
        (dlib_file.network([LAYERS[0], SHORT], VERSIONS), "4 numbers for views of 6"),
        (FILE[:17] + b"\x4f" + FILE[18:], "an integer starts with the byte 0x4f"),
    ],
)
def test_damaged_files_are_rejected(tmp_path, content, message):
    (tmp_path / "a.dat").write_bytes(content)
    with pytest.raises(UserError, match=f"complete network of dlib, found .*a.dat .*{message}"):
        read_source(tmp_path / "a.dat")
