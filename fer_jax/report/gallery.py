"""The gallery of suspected labels: a self-contained page on which people decide about each.

Decisions are kept in the browser, and saved as relabel.csv. The page needs no network.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fer_jax import files
from fer_jax.report.page import template

_SIDE = 112  # pixels of a thumbnail at most
_QUALITY = 88


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A suspected label.

    Attributes:
      id: record id.
      part: split or fold of the image.
      given: its label.
      own: the label in the data set, if an earlier decision has changed it to `given`.
      suggested: the class that the network suggests.
      probabilities: of the given and the suggested class.
      decision: an earlier one; "" if open.
    """

    id: str
    part: str
    given: str
    own: str
    suggested: str
    probabilities: tuple[float, float]
    decision: str = ""


def write_gallery(
    path: Path,
    title: str,
    origin: str,
    warnings: Sequence[str],
    names: Sequence[str],
    joint: np.ndarray,
    count: int,
    suspects: Sequence[Suspect],
    images: Sequence[np.ndarray],
    others: Sequence[Sequence[str]] = (),
) -> Path:
    """Writes the page.

    Args:
      path: the file.
      title: of the page.
      origin: says who predicted what.
      warnings: shown at the top.
      names: C class names.
      joint: float[C, C], estimated number of images by given label and true class.
      count: number of images in all.
      suspects: all suspects, the most suspicious first.
      images: uint8[H, W, 3] RGB of the first of them; the others are in the saved table only.
      others: further rows of the saved table.
    """
    rows: list[dict[str, Any]] = [dataclasses.asdict(one) for one in suspects]
    for row, image in zip(rows, images, strict=False):
        row["image"] = thumbnail(image)
    ids = "\n".join(f"{one.id} {one.own} {one.suggested}" for one in suspects)
    content = {
        "title": title,
        "origin": origin,
        "warnings": warnings,
        "names": names,
        "matrix": _matrix(names, joint),
        "count": count,
        "suspects": len(suspects),
        "shown": len(images),
        "data": {
            "key": hashlib.sha256(ids.encode("utf-8", "surrogateescape")).hexdigest()[:16],
            "names": list(names),
            "rows": rows,
            "others": [list(row) for row in others],
        },
    }
    return files.write_text(path, template("gallery.html").render(content))


def thumbnail(image: np.ndarray) -> str:
    """Encodes uint8[H, W, 3] RGB as the data URL of a small JPEG."""
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _matrix(names: Sequence[str], joint: np.ndarray) -> list[dict[str, Any]]:
    """Returns a row for each given class: images, share of wrong labels, and the cells."""
    counts = joint.sum(axis=1)
    shares = joint / np.maximum(counts, 1)[:, None]
    return [
        {
            "name": name,
            "count": float(counts[row]),
            "wrong": float(1 - shares[row, row]) if counts[row] else 0.0,
            "cells": [
                (float(joint[row, column]), float(shares[row, column]), row == column)
                for column in range(len(names))
            ],
        }
        for row, name in enumerate(names)
    ]
