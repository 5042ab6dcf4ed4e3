"""Labeled faces rendered from a CC0 head model, with numpy and OpenCV only.

Who: identity, hair. What the face does: expression. Where: scene. How it
becomes a picture: head, geometry, raster, surface, texture, skin, wrinkles,
material, lashes, shading, film, render. Sets of pictures: spec, presets,
subject, archive, sets. Scripts: build_head, contact_sheet.
"""

from tfds_builders.synthface.expression import ACTION_UNITS
from tfds_builders.synthface.presets import PRESETS
from tfds_builders.synthface.sets import generate
from tfds_builders.synthface.spec import Spec
from tfds_builders.synthface.subject import Face, render_subject

__all__ = ["ACTION_UNITS", "PRESETS", "Face", "Spec", "generate", "render_subject"]
