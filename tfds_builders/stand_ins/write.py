"""Writes a stand-in for a data set that nobody may redistribute.

    fer-jax stand-in kdef OUT --scale 1.0

The files, names and traps are those of the real set; the faces are rendered. Every
file says so, and so does everything that is made from it. What a set looks like is in
its own module, `stand_ins/<name>.py`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import shutil
import zipfile
from pathlib import Path

from fer_jax import errors
from fer_jax.monitor import console
from tfds_builders import pictures

NAMES: tuple[str, ...] = (
    "kdef", "rafd", "raf_db", "sfew", "amfed_plus", "fer2013", "ferplus", "ck_plus", "jaffe",
    "affectnet", "expw", "image_folder",
)  # fmt: skip
"""Sets with a stand-in; `stand_ins/<name>.py` has `write(out, scale)` and `count_images(scale)`."""

MARKER = pictures.STAND_IN_FILE
_FINISHED = {False: "finished", True: "finished, packed"}  # the marker's last line, by `packed`


def write(name: str, out: Path, scale: float = 0.05, *, packed: bool = False) -> Path:
    """Writes a stand-in into `out`, or finishes one that was begun there.

    Args:
      name: One of `NAMES`.
      out: A folder: new, empty, or with an unfinished stand-in of the same scale.
      scale: Share of the set's people, 0 to 1; at least the fewest that make three splits.
      packed: Leave the archive as it is distributed, instead of its tree.

    Returns:
      `out`, which is a `manual_dir` for the set's builder.

    Raises:
      errors.UserError: Unknown name, wrong scale, or a folder with something else in it.
    """
    _check(name, scale)
    _claim(out, name, scale)
    module = importlib.import_module(f"tfds_builders.stand_ins.{name}")
    finished = _FINISHED[packed]
    if {finished, _FINISHED[True]} & set(_marker_lines(out)):
        return out
    written = (one for number in module.write(out, scale) for one in range(number))
    for _ in console.track(written, module.count_images(scale), f"{name}: stand-in"):
        pass
    if packed:
        getattr(module, "pack", _pack)(out)  # some sets are sent in other archives than their tree
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
    """Marks the folder as this stand-in's, unless it is anything else."""
    claim = f"stand-in for {name}, scale {scale}: rendered faces, no person, not the real set\n"
    marker = out / MARKER
    try:
        out.mkdir(parents=True, exist_ok=True)
        if marker.exists():
            first = "".join(_marker_lines(out)[:1])
            if first != claim.strip():
                raise errors.UserError(
                    f"expected {out} to be new or the same stand-in begun before, found another: "
                    f"{first}. Choose another folder."
                )
        elif any(out.iterdir()):
            raise errors.UserError(f"expected {out} to be new or empty, found files in it.")
        else:
            marker.write_text(claim, encoding="utf-8")
    except OSError as error:
        raise errors.UserError(
            f"expected to write in {out}, found: {error.strerror}. Choose another folder."
        ) from error


def _marker_lines(out: Path) -> list[str]:
    return (out / MARKER).read_text(encoding="utf-8").splitlines()


def _pack(out: Path) -> None:
    """Replaces each tree by its archive; nothing to do where that was done before."""
    for tree in sorted(one for one in out.iterdir() if one.is_dir()):
        target = out / f"{tree.name}.zip"
        partial = out / f".{tree.name}.zip.partial"
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:  # JPEGs do not shrink
            for file in sorted(one for one in tree.rglob("*") if one.is_file()):
                archive.write(file, file.relative_to(out))
        os.replace(partial, target)
        shutil.rmtree(tree)
