"""Labelled faces rendered from a CC0 head model, with numpy and OpenCV only.

Who: identity, hair. What the face does: expression. Where: scene. How it
becomes a picture: head, geometry, raster, surface, texture, skin, wrinkles,
material, lashes, shading, film, render. Sets of pictures: spec, presets,
subject, archive, sets. Scripts: build_head, contact_sheet.
"""

from fer_jax.synthetic.expression import ACTION_UNITS
from fer_jax.synthetic.presets import PRESETS
from fer_jax.synthetic.sets import generate
from fer_jax.synthetic.spec import Spec
from fer_jax.synthetic.subject import Face, render_subject

__all__ = ["ACTION_UNITS", "PRESETS", "Face", "Spec", "generate", "render_subject"]
