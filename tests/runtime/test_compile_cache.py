"""Tests of the compilation cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_jax.runtime import compile_cache

ROOT = Path(__file__).parents[2]
JAX_CACHE = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
# Compiles one program; prints the number of programs read from disk, and the bits of the result.
PROGRAM = """
import jax
from fer_jax.runtime import compile_cache
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: event.endswith("cache_hits") and hits.append(event))
print(compile_cache.enable() is not None)
result = jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((8, 8)))
print(len(hits), float(result).hex())
"""


def run(cache: Path, **variables: str) -> list[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in JAX_CACHE}
    environment = inherited | {"PYTHONPATH": str(ROOT), "FER_JAX_CACHE": str(cache), **variables}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.slow
def test_a_second_start_compiles_nothing_and_replaces_a_damaged_program(tmp_path):
    enabled, hits, result = run(tmp_path)
    assert (enabled, hits) == ("True", "0")
    enabled, hits, same = run(tmp_path)
    assert int(hits) > 0
    assert same == result
    for file in tmp_path.rglob("*-cache"):
        file.write_bytes(file.read_bytes()[:100])
    enabled, hits, same = run(tmp_path)
    assert (hits, same) == ("0", result)


@pytest.mark.parametrize("name", ["off", "elsewhere"])
def test_jax_variables_take_precedence(tmp_path, name):
    variable = {
        "off": {"JAX_ENABLE_COMPILATION_CACHE": "0"},
        "elsewhere": {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "elsewhere")},
    }[name]
    assert run(tmp_path / "ours", **variable)[0] == "False"
    assert not (tmp_path / "ours").exists()


def test_a_folder_that_cannot_be_written_disables_the_cache(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file")[:2] == ["False", "0"]


def test_the_oldest_programs_are_removed(tmp_path):
    for age, name in enumerate(("new", "older", "oldest")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    compile_cache.trim(tmp_path, 20)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new", "older"]
