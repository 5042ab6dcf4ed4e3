"""Renders sample faces to a PNG: `python -m tfds_builders.synthface.contact_sheet OUT.png`."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

import cv2
import numpy as np

from fer_jax import errors, labels
from tfds_builders.synthface import presets
from tfds_builders.synthface.spec import Spec
from tfds_builders.synthface.subject import render_subject


def _row(spec: Spec, subject: int) -> np.ndarray:
    """All images of one person side by side, uint8[S, N * S, 3]."""
    return np.hstack([face.image for face in render_subject(spec, subject)])


def _rows(size: int, seed: int) -> list[np.ndarray]:
    """Eight people from the front, three people from five yaws, four people in the wild."""
    studio = dataclasses.replace(
        presets.demo(seed, 8, size), yaws=(0.0,), views=0, expressions=labels.EMOTIONS
    )
    wild = dataclasses.replace(presets.wild(seed, 8, size), expressions=labels.EMOTIONS)
    rows = [_row(studio, subject) for subject in range(8)]
    for subject, expression in enumerate((labels.SURPRISE, labels.DISGUST, labels.ANGER)):
        around = dataclasses.replace(
            studio, yaws=presets.FIVE_YAWS, expressions=(expression,), size=size * 8 // 5
        )
        row = _row(around, 8 + subject)
        rows.append(cv2.resize(row, (size * 8, size * 8 // 5), interpolation=cv2.INTER_AREA))
    return rows + [_row(wild, 11 + subject) for subject in range(4)]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=128, help="side of a face, pixels")
    parser.add_argument("--seed", type=int, default=1, help="another seed shows other people")
    arguments = parser.parse_args()
    with errors.exit_cleanly():
        sheet = np.vstack(_rows(arguments.size, arguments.seed))
        _, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        try:
            arguments.out.write_bytes(data.tobytes())
        except OSError as error:
            raise errors.UserError(
                f"expected a writable PNG path, found {arguments.out} ({error}); "
                "choose another path"
            ) from None
    print(f"{arguments.out}: columns are {', '.join(labels.EMOTIONS)}")


if __name__ == "__main__":
    main()
