"""Makes the example pictures of the page again: rendered people, three alone and a group.

python -m tools.render_examples
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders.synthface import presets, render_subject

_SIDE = 320
_PEOPLE = (
    (0, labels.HAPPINESS, "happiness"),
    (1, labels.SURPRISE, "surprise"),
    (2, labels.ANGER, "anger"),
)


def main() -> None:
    """Renders and writes them, in seconds."""
    folder = Path(__file__).parent / "examples"
    folder.mkdir(exist_ok=True)
    pictures = []
    for person, expression, name in _PEOPLE:
        spec = dataclasses.replace(
            presets.demo(77, 6, _SIDE),
            yaws=(0.0,), views=0, fill=(0.5, 0.6), expressions=(expression,),
        )  # fmt: skip
        (face,) = render_subject(spec, person)
        pictures.append(face.image)
        _write(folder / f"{person + 1}_{name}.jpg", face.image)
    _write(folder / "4_group.jpg", np.hstack(pictures))


def _write(path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
