"""Tests of fonts: a name in any script is drawn, or shown as escapes with a note."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fer_jax import fonts
from fer_jax.inference import draw
from fer_jax.report import plots

NO_FONT_HAS = "\U000f0000\U000f0001"  # for private use: in no font


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("anger $x$", "DejaVu Sans"),
        ("\u0440\u0430\u0434\u043e\u0441\u0442\u044c", "DejaVu Sans"),
        ("\ue000", "STIXNonUnicode"),  # Matplotlib contains it, and DejaVu Sans lacks the letter
        (NO_FONT_HAS, None),
    ],
)
def test_the_font_of_a_text(text, family):
    found = fonts.font_for(text)
    assert (found and found.family) == family
    assert fonts.drawable(text) == (text if found else r"\U000f0000\U000f0001")


def test_a_missing_font_is_reported_once(capsys):
    fonts._note_missing.cache_clear()
    assert fonts.drawable(f"a{NO_FONT_HAS[0]} b") == r"a\U000f0000 b"
    fonts.drawable(NO_FONT_HAS)
    assert capsys.readouterr().err.count("note: no installed font") == 1


def test_figures_have_no_missing_glyphs():
    names = [NO_FONT_HAS, "\u0440", "\ue000"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion_matrix(np.eye(3, dtype=int), names, NO_FONT_HAS)
        plots.emotion_analysis(np.zeros((8, 8, 3), np.uint8), np.ones(3) / 3, names, 0, names[0])


def test_letters_on_images_differ_by_script():
    letters = [
        draw._letters(text, 20) for text in ("\u0440\u0430\u0434", "\u0436\u0430\u0434", "???")
    ]
    assert all(0.9 < one.max() <= 1 for one in letters)
    assert not np.array_equal(letters[0], letters[1])
    assert not np.array_equal(letters[0], letters[2])


@pytest.mark.parametrize("shape", [(3, 3, 3), (2000, 3, 3), (3, 2000, 3)])
def test_a_label_fits_an_image_of_any_shape(shape):
    assert draw.annotate(np.zeros(shape, np.uint8), [], enlarge=False).shape == shape
