"""Published runs: run directories with a manifest of their files.

They are folders, or repositories of the Hugging Face Hub:

    run.json, config.json, calibration.json   as in every run directory, without local paths
    model.safetensors   the best weights
    model.onnx          the network without fer_jax
    preprocessing.json, labels.json   what a user of the ONNX file needs
    report/             scores and plots, no examples
    README.md           the model card
    manifest.json       size and SHA-256 of all of these

`export.publish` writes them. The manifest shows damage and incomplete copies. It comes with the
files, so it does not show who made them: a commit hash as revision does.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.run_dir import CALIBRATION, LEARNED, PUBLISHED_WEIGHTS, WEIGHTS

MANIFEST = "manifest.json"

HUB = "hub:"
"""Beginning of the name of a run on the Hub: hub:OWNER/NAME or hub:OWNER/NAME@REVISION."""

_READ = ("run.json", "config.json", CALIBRATION, LEARNED, PUBLISHED_WEIGHTS, WEIGHTS)
_PART = r"[A-Za-z0-9][\w.-]*"
_NAME = re.compile(rf"{HUB}({_PART}/{_PART})(?:@([\w./-]+))?", re.ASCII)


def parse(name: str) -> tuple[str, str | None]:
    """Returns the repository, OWNER/NAME, and the revision of a run on the Hub; None if open.

    Raises:
      UserError: another form.
    """
    match = _NAME.fullmatch(name)
    if match is None or ".." in name:
        raise UserError(
            f"expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION, found {name!r}; the page of "
            "the model on the Hub has its name at the top"
        )
    return match[1], match[2]


def import_hub() -> Any:
    """Imports huggingface_hub.

    Raises:
      UserError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"expected the package huggingface_hub, found no {error.name}; install it with: "
            "pip install 'fer-jax[hub]'"
        ) from None
    return huggingface_hub


def download(name: str) -> Path:
    """Downloads a run of the Hub into the cache; returns its folder, which is not verified yet.

    Raises:
      UserError: huggingface_hub is missing, or the Hub does not give the run.
    """
    repository, revision = parse(name)
    hub = import_hub()
    place = f"{repository.replace('/', '--')}@{(revision or 'main').replace('/', '--')}"
    folder = files.cache_folder() / "hub" / place / repository.split("/")[1]
    try:
        hub.snapshot_download(repository, revision=revision, local_dir=folder)
    except Exception as error:  # of several packages, without a common class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"expected the run {name} on the Hub, found: {reason}; check the name, the connection "
            "and, for a private one, that `hf auth login` was run"
        ) from error
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"expected a run that fer-jax publish wrote at {name}, found no {MANIFEST} there"
        )
    return folder


def write_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Writes the manifest of all files in a folder; returns size and SHA-256 by file name."""
    entries = {
        path.relative_to(folder).as_posix(): _entry(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {"format": 1, "files": entries}
    files.write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")
    return entries


def verify(folder: Path) -> None:
    """Checks the files of a published run against its manifest; does nothing for other runs.

    Raises:
      UserError: a file is missing, changed or added.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        wrong = [
            f"{name} is {'missing' if found is None else 'changed'}"
            for name, entry in entries.items()
            for found in [_entry(folder / name) if (folder / name).is_file() else None]
            if found != entry
        ]
        wrong += [
            f"{name} was added"
            for name in _READ
            if (folder / name).exists() and name not in entries
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = [f"{MANIFEST} cannot be read ({type(error).__name__}: {error})"]
    if wrong:
        raise UserError(
            f"expected the files that {path} lists, found: {'; '.join(wrong)}; delete the folder "
            "and download or publish the run again"
        )


def _entry(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
