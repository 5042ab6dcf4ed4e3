"""The sets of synthetic faces that have a name: shaped like the real sets they stand beside."""

from __future__ import annotations

from collections.abc import Callable

from fer_jax import labels
from tfds_builders.synthface.expression import GAZES
from tfds_builders.synthface.spec import Spec

FIVE_YAWS = (-90.0, -45.0, 0.0, 45.0, 90.0)
_UPPER_BODY = (0.55, 0.68)  # fill of KDEF and RaFD: shoulders and some wall
_HEAD = (0.68, 0.82)  # fill of the demo: so that 64 pixels show a face


def demo(seed: int, subjects: int, size: int = 64) -> Spec:
    """Seven expressions, one picture each, from one of three cameras: small and quick to learn."""
    yaws = (-45.0, 0.0, 45.0)
    return Spec("demo", seed, subjects, size, yaws=yaws, views=1, fill=_HEAD)


def kdef_like(seed: int, subjects: int, size: int = 128) -> Spec:
    """KDEF's form: 7 expressions, 5 cameras, 2 sessions; 70 pictures a person."""
    return Spec(
        "kdef_like", seed, subjects, size, yaws=FIVE_YAWS, sessions=2, fill=_UPPER_BODY
    )  # fmt: skip


def rafd_like(seed: int, subjects: int, size: int = 128) -> Spec:
    """RaFD's form: 8 expressions, 3 gazes, 5 cameras; 120 pictures a person."""
    return Spec(
        "rafd_like", seed, subjects, size,
        expressions=labels.EMOTIONS, yaws=FIVE_YAWS, gazes=GAZES, fill=_UPPER_BODY,
    )  # fmt: skip


def wild(seed: int, subjects: int, size: int = 100) -> Spec:
    """In the wild, as RAF-DB: any light, camera and angle up to 60 degrees; 7 pictures a person."""
    return Spec(
        "wild", seed, subjects, size,
        yaw_range=60.0, wild=1.0, fill=_HEAD, glasses=0.25, occlusion=0.12,
    )  # fmt: skip


PRESETS: dict[str, Callable[..., Spec]] = {
    "demo": demo, "kdef_like": kdef_like, "rafd_like": rafd_like, "wild": wild,
}  # fmt: skip
"""Each takes (seed, subjects, size in pixels) and gives a `Spec`."""
