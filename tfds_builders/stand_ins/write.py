"""Writes a stand-in for a data set that cannot be redistributed.

    fer-jax stand-in kdef OUT --scale 1.0

The layout, file names and irregularities are those of the real set; the faces are rendered.
The files carry a mark, and everything built from them records it.
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from fer_jax import errors
from fer_jax.monitor import console
from tfds_builders.stand_in_mark import STAND_IN_FILE
from tfds_builders.stand_ins import faces

NAMES: tuple[str, ...] = (
    "kdef", "rafd", "raf_db", "sfew", "amfed_plus", "fer2013", "ferplus", "ck_plus", "jaffe",
    "affectnet", "expw", "image_folder",
)  # fmt: skip
"""Sets with a stand-in, each a module of this folder."""

MARKER = STAND_IN_FILE
_FINISHED = {False: "finished", True: "finished, packed"}  # last line of the marker, by `packed`


def write(name: str, out: Path, scale: float = 0.05, *, packed: bool = False) -> Path:
    """Writes a stand-in into `out`, or resumes an unfinished one.

    Args:
      name: one of `NAMES`.
      out: a folder that is new, empty, or has an unfinished stand-in of the same scale.
      scale: fraction of the set in (0, 1]; never fewer people than three splits need.
      packed: whether to write the archives as distributed instead of their files.

    Returns:
      `out`, which is a `manual_dir` for the set's builder.

    Raises:
      errors.UserError: unknown name, invalid scale, or a folder with other files.
    """
    _check(name, scale)
    _claim(out, name, scale)
    module = importlib.import_module(f"tfds_builders.stand_ins.{name}")
    finished = _FINISHED[packed]
    if {finished, _FINISHED[True]} & set(_marker_lines(out)):
        return out
    written = (image for count in module.write(out, scale) for image in range(count))
    for _ in console.track(written, module.count_images(scale), f"{name}: stand-in"):
        pass
    if packed:
        getattr(module, "pack", _pack)(out)
    with open(out / MARKER, "a", encoding="utf-8") as marker:
        marker.write(f"{finished}\n")
    return out


def _check(name: str, scale: float) -> None:
    if name not in NAMES:
        nearest = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise errors.UserError(
            f"expected a set with a stand-in ({', '.join(NAMES)}), found {name!r}.{hint}"
        )
    if not 0.0 < scale <= 1.0:
        raise errors.UserError(f"expected --scale between 0 and 1, found {scale}.")


def _claim(out: Path, name: str, scale: float) -> None:
    """Writes the marker of this stand-in into the folder; an error if it has anything else."""
    claim = f"stand-in for {name}, scale {scale}: rendered faces, no person, not the real set\n"
    marker = out / MARKER
    try:
        out.mkdir(parents=True, exist_ok=True)
        if marker.exists():
            first = "".join(_marker_lines(out)[:1])
            if first != claim.strip():
                raise errors.UserError(
                    f"expected {out} to be new or the same stand-in, found another: "
                    f"{first}. Choose another folder."
                )
        elif any(out.iterdir()):
            raise errors.UserError(
                f"expected {out} to be new or empty, found files in it. Choose another folder."
            )
        else:
            marker.write_text(claim, encoding="utf-8")
    except OSError as error:
        raise errors.UserError(
            f"expected a writable folder at {out}, found: {error.strerror}. Choose another folder."
        ) from error


def _marker_lines(out: Path) -> list[str]:
    return (out / MARKER).read_text(encoding="utf-8").splitlines()


def _pack(out: Path) -> None:
    """Replaces each folder by a zip of the same name."""
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        faces.pack(folder, out / f"{folder.name}.zip", out)
