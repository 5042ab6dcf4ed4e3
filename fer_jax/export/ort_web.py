"""ONNX Runtime Web, which runs ONNX files in a browser: two files of an npm package.

No package of PyPI has them. They come from a copy of the package that the user names, or once, by
way of npm, from the registry that npm is configured for; npm knows the user's mirror and proxy.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fer_jax import files
from fer_jax.errors import UserError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package, in base64: the registry's `dist.integrity`."""

FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""The build for one CPU thread or more, without WebGPU, WebGL and WebNN."""

_HINT = f"with npm: npm pack {PACKAGE}@{VERSION}; then give its file to --ort"
_TIMEOUT = 600  # seconds, for 33 MB


def read(source: Path | None) -> dict[str, bytes]:
    """Returns the files by name.

    Args:
      source: a package file (.tgz) or an unpacked package, such as node_modules/onnxruntime-web;
        None for the cache, which is filled with npm if it is empty.

    Raises:
      UserError: it is no such package, or it cannot be fetched.
    """
    if source is not None:
        return _read_package(source)
    folder = files.cache_folder() / PACKAGE / VERSION
    try:
        return {name: (folder / name).read_bytes() for name in FILES}
    except OSError:
        pass
    found = _fetch()
    for name, content in found.items():
        files.write_bytes(folder / name, content)
    return found


def _read_package(source: Path) -> dict[str, bytes]:
    try:
        if source.is_dir():
            return {name: (source / "dist" / name).read_bytes() for name in FILES}
        with tarfile.open(source) as archive:
            members = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
            return {name: member.read() for name, member in members.items() if member}
    except (OSError, KeyError, tarfile.TarError) as error:
        raise UserError(
            f"expected the npm package {PACKAGE}, as a .tgz file or unpacked, found {source}: "
            f"{str(error).splitlines()[0].rstrip(':')}; get it {_HINT}"
        ) from None


def _fetch() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"expected npm, to fetch {PACKAGE} {VERSION}, found none; install it (Debian: apt "
            f"install npm), or get the package on another machine, {_HINT}"
        )
    print(f"fetching {PACKAGE} {VERSION} with npm (33 MB, once)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
            why = done.stderr.strip()[-300:] or f"exit code {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        packages = list(Path(folder).glob("*.tgz"))
        if len(packages) != 1:
            raise UserError(
                f"expected {PACKAGE} {VERSION} from npm, found: {why}; get it where the registry "
                f"can be reached, {_HINT}"
            )
        digest = base64.b64encode(hashlib.sha512(packages[0].read_bytes()).digest()).decode()
        if digest != SHA512:
            raise UserError(
                f"expected {PACKAGE} {VERSION} with the sha512 {SHA512}, found {digest}; the "
                f"registry of npm serves another file: get it elsewhere, {_HINT}"
            )
        return _read_package(packages[0])
