"""A picture of rendered faces: `python -m tfds_builders.synthface.contact_sheet OUT.png`."""

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
    """uint8[S, N * S, 3]: all pictures of a person, side by side."""
    return np.hstack([face.image for face in render_subject(spec, subject)])


def _rows(size: int, seed: int) -> list[np.ndarray]:
    """Studio people frontally, three heads all around, and people in the wild."""
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
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=128, help="side of a face in pixels")
    parser.add_argument("--seed", type=int, default=1, help="other seeds show other people")
    arguments = parser.parse_args()
    with errors.exit_cleanly():
        sheet = np.vstack(_rows(arguments.size, arguments.seed))
        _, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        try:
            arguments.out.write_bytes(data.tobytes())
        except OSError as error:
            raise errors.UserError(
                f"expected a file name to write a PNG to, found {arguments.out} ({error}); "
                "name another one"
            ) from None
    print(f"{arguments.out}: columns are {', '.join(labels.EMOTIONS)}")


if __name__ == "__main__":
    main()
