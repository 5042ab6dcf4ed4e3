"""Named sets of synthetic faces, with the layout of real data sets."""

from __future__ import annotations

from collections.abc import Callable

from fer_jax import labels
from tfds_builders.synthface.expression import GAZES
from tfds_builders.synthface.spec import Spec

FIVE_YAWS = (-90.0, -45.0, 0.0, 45.0, 90.0)
_UPPER_BODY = (0.55, 0.68)  # fill as in KDEF and RaFD: head, shoulders and background
_HEAD = (0.68, 0.82)  # closer, so that a 64-pixel image shows the face


def demo(seed: int, subjects: int, size: int = 64) -> Spec:
    """Seven expressions, each from one of three yaws: small and quick to train; 7 images/person."""
    yaws = (-45.0, 0.0, 45.0)
    return Spec("demo", seed, subjects, size, yaws=yaws, views=1, fill=_HEAD)


def kdef_like(seed: int, subjects: int, size: int = 128) -> Spec:
    """As KDEF: 7 expressions, 5 yaws, 2 sessions; 70 images per person."""
    return Spec(
        "kdef_like", seed, subjects, size, yaws=FIVE_YAWS, sessions=2, fill=_UPPER_BODY
    )  # fmt: skip


def rafd_like(seed: int, subjects: int, size: int = 128) -> Spec:
    """As RaFD: 8 expressions, 3 gazes, 5 yaws; 120 images per person."""
    return Spec(
        "rafd_like", seed, subjects, size,
        expressions=labels.EMOTIONS, yaws=FIVE_YAWS, gazes=GAZES, fill=_UPPER_BODY,
    )  # fmt: skip


def wild(seed: int, subjects: int, size: int = 100) -> Spec:
    """As RAF-DB: varied light, camera and background, yaw up to 60 degrees; 7 images per person."""
    return Spec(
        "wild", seed, subjects, size,
        yaw_range=60.0, wild=1.0, fill=_HEAD, glasses=0.25, occlusion=0.12,
    )  # fmt: skip


PRESETS: dict[str, Callable[..., Spec]] = {
    "demo": demo, "kdef_like": kdef_like, "rafd_like": rafd_like, "wild": wild,
}  # fmt: skip
"""Functions of (seed, subjects, size in pixels) that return a `Spec`."""
