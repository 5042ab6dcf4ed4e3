"""Renders the example photos of the page, three portraits and a group, into fer_jax/serve/examples.

python tools/render_examples.py
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from fer_jax.serve.page import EXAMPLES
from tfds_builders.synthface import presets, render_subject

_SIDE = 320  # pixels
_PEOPLE = (
    (0, labels.HAPPINESS, "happiness"),
    (1, labels.SURPRISE, "surprise"),
    (2, labels.ANGER, "anger"),
)


def main() -> None:
    """Renders and writes the examples, in a few seconds."""
    portraits = []
    for person, expression, name in _PEOPLE:
        spec = dataclasses.replace(
            presets.demo(77, 6, _SIDE),
            yaws=(0.0,), views=0, fill=(0.5, 0.6), expressions=(expression,),
        )  # fmt: skip
        (face,) = render_subject(spec, person)
        portraits.append(face.image)
        _write(EXAMPLES / f"{person + 1}_{name}.jpg", face.image)
    _write(EXAMPLES / "4_group.jpg", np.hstack(portraits))


def _write(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
