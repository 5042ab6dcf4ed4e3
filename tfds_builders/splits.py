"""Names of split folders: train, Train_Set, valid, dev, PublicTest, FER2013Test ...

The one vocabulary of all builders. What a set's splits are used for is up to its protocols.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from tfds_builders import protocols

_SPLIT_OF: dict[str, str] = {
    **dict.fromkeys(("train", "training"), protocols.TRAIN),
    **dict.fromkeys(
        ("val", "valid", "validation", "dev", "development", "publictest"),
        protocols.VALIDATION,
    ),
    **dict.fromkeys(("test", "testing", "privatetest"), protocols.TEST),
}
_EITHER = frozenset({"eval", "evaluation"})  # validation beside a test split, else test
_FILLERS = frozenset({
    "set", "data", "dataset", "split", "folder", "class", "classes", "images", "image", "img",
    "imgs", "faces", "face", "aligned", "cropped", "new", "fer", "ferplus", "plus", "raf", "db",
    "rafdb", "affectnet", "sfew", "2013",
})  # fmt: skip
"""Words that copies add to the name of a split."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def by_folder(folders: Iterable[str]) -> dict[str, str]:
    """Split of each folder whose name is that of a split; other folders are left out.

    Args:
      folders: names of folders of one copy, because "eval" depends on the others.

    Returns:
      Folder to "train", "validation" or "test".
    """
    words = {folder: _word(folder) for folder in folders}
    named = {folder: _SPLIT_OF[word] for folder, word in words.items() if word in _SPLIT_OF}
    either = protocols.VALIDATION if protocols.TEST in named.values() else protocols.TEST
    return {
        folder: named.get(folder, either)
        for folder, word in words.items()
        if folder in named or word in _EITHER
    }


def is_split(folder: str) -> bool:
    """Whether a folder has the name of a split."""
    return bool(by_folder([folder]))


@functools.cache
def _word(folder: str) -> str:
    words = [word.lower() for word in _WORD.findall(folder)]
    return "".join(word for word in words if word not in _FILLERS).removesuffix("set")
