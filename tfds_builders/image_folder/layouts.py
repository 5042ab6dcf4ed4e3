"""Tells how to prepare a folder of images whose labels are not its folders.

Recognizes copies of other sets, YOLO trees and labels in file names. Only writes text: nothing is
converted here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fer_jax import labels
from tfds_builders import sources, splits, tables

_FERPLUS = re.compile(r"(.*/)?(label\.csv|fer2013new\.csv)", re.IGNORECASE)
_RAF_DB = re.compile(r"(.*/)?(train|test)_labels\.csv", re.IGNORECASE)
_LAST_WORD = re.compile(r"(?:.*[_\-. ])?([^_\-. ]+)")
_YOLO = re.compile(r"(.*/)?labels/(.*/)?[^/]+\.txt")


def advice(source: sources.Source, root: str, files: Sequence[str]) -> str:
    """How to prepare images that are not in class folders; "" if their labels are not found.

    Args:
      source: the user's copy.
      root: the folder of the images, "" or ending in "/".
      files: the images, relative to `root`.
    """
    names = list(source.sizes())
    place = shlex.quote(str(source.path))
    if any(_FERPLUS.fullmatch(name) for name in names):
        return f"If this is FER+: fer-jax prepare ferplus --manual_dir {place}"
    if any(_RAF_DB.fullmatch(name) for name in names):
        return f"If this is RAF-DB: fer-jax prepare raf_db --config folder_raf --manual_dir {place}"
    inner = {PurePosixPath(file).parent.name for file in files}
    in_classes = any(map(labels.named, inner))
    if not in_classes and all(labels.named(_last_word(file)) for file in files):
        return _sort_by_name(source.path / root, files)
    if all(file.count("/") == 2 for file in files) and len(splits.by_folder(inner)) == len(inner):
        return _swap_folders(source.path / root)
    return ""


def yolo_advice(source: sources.Source) -> str:
    """How to prepare a YOLO tree; "" for other folders.

    It has images/<split>/* with labels/<split>/*, or <split>/images/* with <split>/labels/*.
    """
    names = source.sizes()
    lists = [name for name in names if _YOLO.fullmatch(name)]
    stems = {str(PurePosixPath(name).with_suffix("")) for name in names if "images/" in name}
    if not any(_images_of(name) in stems for name in lists):
        return ""
    folders = sorted({str(PurePosixPath(name).parent) for name in lists})
    classes = _yolo_classes(source)
    globs = " ".join(f"{shlex.quote(folder)}/*.txt" for folder in folders)
    return _commands(
        source.path,
        "Sort a copy into class folders, by the first face of each image"
        + (":" if classes else ", then rename the folders 0, 1 ... to its classes:"),
        f"names=({' '.join(map(shlex.quote, classes))}); for f in {globs}; do "
        'c=$(head -n1 "$f" | cut -d\' \' -f1); [ "$c" ] || continue; '
        'd=$out/$(dirname "$f" | sed -E "s#(^|/)labels(/|\\$)#\\2#;s#^/##")/${names[$c]:-$c}; '
        'i=$(echo "${f%.txt}" | sed -E "s#(^|/)labels/#\\1images/#"); '
        'mkdir -p "$d" && cp "$i".* "$d/"; done',
    )


def _images_of(name: str) -> str:
    """The path of a label list's image, without its suffix."""
    return re.sub(r"(^|/)labels/", r"\1images/", name.removesuffix(".txt"), count=1)


def _yolo_classes(source: sources.Source) -> list[str]:
    """The names in data.yaml, in the order of their numbers; [] if there are none."""
    for name in sources.find(source, r"[^/]+\.ya?ml"):
        text = tables.read_text(source, name).partition("names:")[2]
        inline = re.match(r"\s*\[(.*?)\]", text, re.DOTALL)
        lines = re.match(r"(?:\s*(?:-|\d+:)[ \t]*\S.*\n?)+", text)
        found = (
            inline[1].split(",") if inline else re.findall(r"(?:-|\d+:)[ \t]*(\S.*)", lines[0])
            if lines else []
        )  # fmt: skip
        if found:
            return [one.strip(" '\"\n\r") for one in found]
    return []


def numbered_advice(source: sources.Source, folders: Sequence[str]) -> str:
    """How to prepare class folders that are named by numbers only."""
    place = shlex.quote(str(source.path))
    lines = ["Rename each folder to the class that its images show (neutral, happy ...)."]
    if set(folders) <= set("01234567"):
        lines.append(f"If this is AffectNet: fer-jax prepare affectnet --manual_dir {place}")
    if len(folders) == len(labels.RAF_DB) and set(folders) <= set("01234567"):
        lines.append(
            f"If this is RAF-DB: fer-jax prepare raf_db --config folder_raf --manual_dir {place}"
        )
    return "\n".join(lines)


def _last_word(file: str) -> str:
    match = _LAST_WORD.fullmatch(PurePosixPath(file).stem)
    return match[1] if match else ""


def _sort_by_name(place: Path, files: Sequence[str]) -> str:
    folders = sorted({str(PurePosixPath(file).parent) for file in files})
    globs = " ".join(f"{shlex.quote(folder)}/*.*" for folder in folders)
    return _commands(
        place,
        "The names of the images end in emotions. Sort a copy into class folders:",
        f'for f in {globs}; do c=${{f%.*}}; d=$out/$(dirname "$f")/${{c##*[-_. ]}}; '
        'mkdir -p "$d" && cp "$f" "$d/"; done',
    )


def _swap_folders(place: Path) -> str:
    return _commands(
        place,
        "The split folders are inside the class folders. Swap a copy of them:",
        'for d in */*/; do c=${d%%/*}; s=${d#*/}; mkdir -p "$out/$s" && '
        'cp -r "$d" "$out/$s$c"; done',
    )


def _commands(place: Path, why: str, loop: str) -> str:
    """The text with shell commands that write a copy beside `place`."""
    if not place.is_dir():
        why, place = f"Unpack the archive into FOLDER first. {why}", Path("FOLDER")
    out = place.with_name(f"{place.name}_sorted")
    return (
        f"{why}\n"
        f"  out={shlex.quote(str(out))}; cd {shlex.quote(str(place))}\n"
        f"  {loop}\n"
        f'  fer-jax prepare image_folder --manual_dir "$out"'
    )
