"""Renders labeled faces from a CC0 head model, with numpy and OpenCV only.

| stage | modules |
|---|---|
| random parameters | identity, expression, scene |
| mesh | head, geometry, hair |
| rasterization | raster, surface |
| materials | texture, material, skin, wrinkles |
| image | shading, lashes, glasses, camera, render |
| data sets | spec, presets, subject, archive, sets |

The script `contact_sheet` shows what the faces look like.
"""

from tfds_builders.synthface.expression import ACTION_UNITS
from tfds_builders.synthface.presets import PRESETS
from tfds_builders.synthface.sets import generate
from tfds_builders.synthface.spec import Spec
from tfds_builders.synthface.subject import Face, render_subject

__all__ = ["ACTION_UNITS", "PRESETS", "Face", "Spec", "generate", "render_subject"]
