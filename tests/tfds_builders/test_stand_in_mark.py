"""The mark of a stand-in: found in every format, ignored by the decoder."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_jax.faces.decode import decode
from tfds_builders.stand_in_mark import is_stand_in, mark_stand_in

RGB = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".bmp"])
def test_the_mark_is_found_and_changes_no_pixel(suffix: str) -> None:
    data = cv2.imencode(suffix, RGB)[1].tobytes()
    assert not is_stand_in(data)
    assert is_stand_in(mark_stand_in(data))
    np.testing.assert_array_equal(decode(mark_stand_in(data)), decode(data))
