"""Whole files or none: writes that a kill or a full disk cannot leave half done.

Nothing is appended here and nothing is read; checkpoints have their own saver.
"""

from __future__ import annotations

import os
from pathlib import Path

from fer_jax.errors import UserError


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes `content` beside `path`, syncs it and renames it into place.

    Missing folders are made. Returns `path`.

    Raises:
      UserError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"expected to write {path}, found: {error.strerror or error}; "
            "free some space or choose a folder that you may write"
        ) from error
    return path


def write_text(path: Path, text: str) -> Path:
    """`write_bytes` for UTF-8 text; file names that are no UTF-8 survive as they are."""
    return write_bytes(path, text.encode("utf-8", "surrogateescape"))
