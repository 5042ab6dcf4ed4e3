"""Compiled programs that are found without being traced.

JAX's own cache has a program under a key for which it must be traced first, which takes seconds
where a network is deep. Here a program has a name, by what was traced, and keys, by what it
was made from: configuration, sources, versions, devices. A start whose key is known reads the
program at once; one whose key is new, after an upgrade say, traces and looks for the name.

The files lie beside JAX's, are as bounded, and are run when they are read: they are to be as
safe from others as the programs in one's home.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable

import fer_jax
from fer_jax import files
from fer_jax.run_dir import versions
from fer_jax.runtime import compile_cache

_TELLS = ("JAX_", "XLA_", "TF_", "LIBTPU_", "NVIDIA_", "CUDA_")
"""How the names of environment variables begin that JAX and its compilers read."""


def key_of(*parts: object) -> str | None:
    """The key of a program that follows from `parts`, our sources and what JAX is told.

    Args:
      *parts: whatever the program is made from besides; their texts are what counts.

    Returns:
      None where no program is kept, or where the sources may be others than those that run.
    """
    if compile_cache.folder is None or jax.default_backend() != "cpu":
        return None  # other backends trace: it was not seen to work there
    if (sources := _sources()) is None:
        return None
    return _digest(parts, sources, _surroundings())


def name_of(lowered: jax.stages.Lowered, options: Mapping[str, str]) -> str:
    """The name of what was traced, when it is compiled with these options of the compiler."""
    return _digest(lowered.as_text(), sorted(options.items()), _surroundings())


def named(key: str) -> str | None:
    """The name of the program with this key; None if it is not known."""
    path = _path(key, "key")
    try:
        name = path.read_text()
        os.utime(path)  # used last, deleted last
    except (OSError, ValueError):
        return None
    return name


def read(name: str, devices: Sequence[jax.Device]) -> jax.stages.Compiled | None:
    """The program of this name, to run on `devices`; None if there is none or it is not whole."""
    # Whatever is wrong with the file: the program is made again, as if there were none.
    with contextlib.suppress(Exception):
        path = _path(name, "program")
        digest, content = _split(path.read_bytes())
        if hashlib.sha256(content).digest() == digest:
            serialized, taken, given = pickle.loads(zlib.decompress(content))
            found = serialize_executable.deserialize_and_load(
                serialized,
                jax.tree.structure(taken),
                jax.tree.structure(given),
                execution_devices=devices,
            )
            os.utime(path)
            return found
    return None


def keep(name: str, compiled: jax.stages.Compiled) -> None:
    """Keeps a program that was compiled here; a full disk is no reason to stop.

    One that was read, from here or from JAX's cache, must not be kept: XLA has no longer what
    it would write.
    """
    with contextlib.suppress(Exception):
        serialized, *forms = serialize_executable.serialize(compiled)
        # Trees with numbers for leaves: forms themselves cannot be written.
        examples = (jax.tree.unflatten(form, range(form.num_leaves)) for form in forms)
        content = zlib.compress(pickle.dumps((serialized, *examples)), level=1)
        files.write_bytes(_path(name, "program"), hashlib.sha256(content).digest() + content)


def remember(key: str, name: str) -> None:
    """From now on `key` finds the program of this name, if it is kept."""
    with contextlib.suppress(Exception):
        if _path(name, "program").exists():
            files.write_text(_path(key, "key"), name)


@contextlib.contextmanager
def reads_of_jax() -> Iterator[list[str]]:
    """A list that grows by an entry for each program that this thread gets from JAX's cache."""
    reads: list[str] = []
    thread = threading.get_ident()

    def listen(event: str, **_: Any) -> None:
        if event.endswith("/cache_hits") and threading.get_ident() == thread:
            reads.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield reads
    finally:
        jax.monitoring.unregister_event_listener(listen)


def _path(name: str, kind: str) -> Path:
    assert compile_cache.folder is not None, "there are keys only where there is a folder"
    return compile_cache.folder / f"{name}-{kind}"


def _split(content: bytes) -> tuple[bytes, bytes]:
    size = hashlib.sha256().digest_size
    return content[:size], content[size:]


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _surroundings() -> tuple[object, ...]:
    """What compiling depends on besides the program."""
    told = {name: value for name, value in os.environ.items() if name.startswith(_TELLS)}
    device = jax.devices()[0]
    return (
        sorted(versions().items()),
        sys.version,
        sorted(jax.config.values.items()),
        sorted(told.items()),
        device.device_kind,
        device.client.platform_version,
    )


def _sources() -> str | None:
    """Digest of this package's sources; None if one has changed since they were imported."""
    root = Path(fer_jax.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        content = file.read_bytes()
        if file.stat().st_mtime >= fer_jax.IMPORTED:
            return None
        digest.update(f"{file.relative_to(root)} {len(content)} ".encode() + content)
    return digest.hexdigest()
