"""What teachers say about the training images: the targets of a student, stored in its run.

`experiments.distillation` computes them once, before training. They are stored, not computed again
on resume: other devices would change their last bits, and the teachers may be gone by then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.data.records import Split
from fer_jax.errors import UserError

FILE = "teacher.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class Taught:
    """Probabilities of the teachers for N training images.

    Attributes:
      targets: float32[N, C], rows sum to 1; their mean if there are several teachers.
      records: digest of the images' ids, in order.
      runs: the teachers, as "NAME on SET".
      sha256: of the file.
    """

    targets: np.ndarray
    records: str
    runs: tuple[str, ...]
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Returns the description that the student's run.json stores."""
        return {"runs": list(self.runs), "sha256": self.sha256}

    def applied(self, training: Split) -> Split:
        """Returns the student's training records with these targets.

        Raises:
          UserError: the targets are those of other images.
        """
        if self.records != digest_of(training.ids):
            raise UserError(
                f"expected {FILE} with targets for the {len(training):,} training images of the "
                f"run, found those of others ({len(self.targets):,}); choose another --workdir"
            )
        return dataclasses.replace(training, targets=self.targets)


def digest_of(ids: Sequence[str]) -> str:
    """Returns the SHA-256 of record ids."""
    return hashlib.sha256("\0".join(ids).encode("utf-8", "surrogateescape")).hexdigest()


def write(folder: Path, targets: np.ndarray, ids: Sequence[str], runs: Sequence[str]) -> Path:
    """Writes the file into a run directory; the arguments are as in `Taught`."""
    about = json.dumps({"records": digest_of(ids), "runs": list(runs)}).encode()
    content = io.BytesIO()
    np.savez_compressed(
        content, allow_pickle=False, targets=targets, about=np.frombuffer(about, np.uint8)
    )
    return files.write_bytes(folder / FILE, content.getvalue())


def read(folder: Path) -> Taught:
    """Reads the file of a run directory.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        content = (folder / FILE).read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            about, targets = json.loads(stored["about"].tobytes()), stored["targets"]
        return Taught(
            targets, about["records"], tuple(about["runs"]), hashlib.sha256(content).hexdigest()
        )
    except Exception as error:  # a damaged file raises almost anything
        raise UserError(
            f"expected the teacher's probabilities in {folder / FILE}, found: "
            f"{type(error).__name__}: {error}; restore the file or choose another --workdir"
        ) from error
