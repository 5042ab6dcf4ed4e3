"""Imports point one way, and importing the package is cheap: no TensorFlow, no device.

Read from the sources with ast; one subprocess imports for real.
"""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
OWN = ("fer_jax", "tfds_builders", "configs", "benchmarks", "launch", "tests", "tools")

# `python -m fer_jax.<name>` of each: they start a command, and nothing imports them.
SHIMS = {
    f"fer_jax.{name}"
    for name in (
        "__main__", "crossval", "evaluate", "export.__main__", "main", "port_weights", "predict",
        "preview", "serve.__main__", "summary", "train",
    )
} | {"tfds_builders.build", "tfds_builders.stand_in"}  # fmt: skip

# Beside the standard library: all that a room may import, its own modules included.
ONLY = {
    "fer_jax/models": {"jax", "flax", "numpy", "fer_jax.models", "fer_jax.registry"},
    # pillow_heif: the extra `heic`, imported when a HEIC file is read
    "fer_jax/faces": {"numpy", "cv2", "pillow_heif", "fer_jax.errors", "fer_jax.faces"},
    "tfds_builders/synthface": {  # rich: the progress bar of a long rendering
        "numpy",
        "cv2",
        "rich",
        "tfds_builders.synthface",
        "fer_jax.errors",
        "fer_jax.executor",
        "fer_jax.labels",
    },
}

# What a room must not import: each is above it.
NEVER = {
    "fer_jax/settings.py": {"fer_jax.training", "fer_jax.data", "fer_jax.models", "jax"},
    "fer_jax/runtime": {"fer_jax.training", "fer_jax.data", "fer_jax.monitor", "fer_jax.run_dir"},
    "fer_jax/data": {"fer_jax.training", "fer_jax.monitor", "fer_jax.run_dir", "tfds_builders"},
    "fer_jax/monitor": {"fer_jax.training", "fer_jax.run_dir", "tfds_builders"},
    "fer_jax/weights": {"fer_jax.training", "fer_jax.run_dir", "tfds_builders"},
    "fer_jax/report": {"fer_jax.training", "fer_jax.inference", "fer_jax.run_dir", "jax"},
    "fer_jax/training": {
        "fer_jax.report", "fer_jax.inference", "fer_jax.experiments", "fer_jax.export",
        "fer_jax.serve", "fer_jax.api", "fer_jax.cli",
    },
    "fer_jax/inference": {
        "fer_jax.api", "fer_jax.experiments", "fer_jax.export", "fer_jax.serve", "fer_jax.cli",
        "tfds_builders",
    },
    "fer_jax/export": {"fer_jax.api", "fer_jax.experiments", "fer_jax.serve", "fer_jax.cli"},
    "fer_jax/serve": {"fer_jax.experiments", "fer_jax.export", "fer_jax.cli", "tfds_builders"},
    "fer_jax/experiments": {"fer_jax.export", "fer_jax.serve", "fer_jax.api", "fer_jax.cli"},
    "tfds_builders": {
        "fer_jax.training", "fer_jax.runtime", "fer_jax.models", "fer_jax.report",
        "fer_jax.inference", "fer_jax.experiments", "fer_jax.run_dir", "fer_jax.cli",
    },
}  # fmt: skip


def _module(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _sources(room: str) -> list[pathlib.Path]:
    place = ROOT / room
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def _imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Dotted names; `from a import b` counts as a.b, because b may be a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides where it points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs on import: not inside functions nor `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            waiting.append(child)


def _is_in(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _imports(path: pathlib.Path) -> set[str]:
    return set(_imported(ast.walk(ast.parse(path.read_text()))))


def _import_time_imports(path: pathlib.Path) -> set[str]:
    return set(_imported(_at_import_time(ast.parse(path.read_text()))))


@pytest.mark.parametrize("room", ONLY)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    standard = set(sys.stdlib_module_names)
    for path in _sources(room):
        foreign = {name for name in _imports(path) if not _is_in(name, ONLY[room] | standard)}
        assert foreign == set(), path


@pytest.mark.parametrize("room", NEVER)
def test_a_room_does_not_import_what_is_above_it(room: str) -> None:
    assert (ROOT / room).exists()
    for path in _sources(room):
        if _module(path) not in SHIMS:
            wrong = {name for name in _imports(path) if _is_in(name, NEVER[room])}
            assert wrong == set(), path


def test_nothing_imports_a_shim_and_the_renderer_is_the_builders() -> None:
    for path in _sources("fer_jax"):
        wrong = {
            name for name in _imports(path) if _is_in(name, SHIMS | {"tfds_builders.synthface"})
        }
        assert wrong == set(), path


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count: they hide a circle, they do not open it."""
    modules = {_module(path): path for room in OWN for path in _sources(room)}
    # fer_jax/__init__.py is the public face: its `load` imports what imports its version.
    left_out = SHIMS | {"fer_jax"}
    graph: dict[str, set[str]] = {}
    for module in modules.keys() - left_out:
        names = _imports(modules[module])
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        graph[module] = targets & (modules.keys() - left_out)
    while True:
        leaves = {module for module, targets in graph.items() if not targets}
        if not leaves:
            break
        graph = {
            module: targets - leaves for module, targets in graph.items() if module not in leaves
        }
    assert graph == {}


def test_tfds_is_not_imported_on_import_of_the_package() -> None:
    for path in _sources("fer_jax"):
        tops = {name.split(".")[0] for name in _import_time_imports(path)}
        assert "tensorflow_datasets" not in tops, path


@pytest.mark.parametrize("room", OWN)
def test_tensorflow_is_imported_nowhere(room: str) -> None:
    for path in _sources(room):
        assert "tensorflow" not in {name.split(".")[0] for name in _imports(path)}, path


def test_importing_every_module_starts_no_device_and_no_tensorflow() -> None:
    modules = [module for module in map(_module, _sources("fer_jax")) if module not in SHIMS]
    program = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
print(sorted({{"tensorflow", "torch"}} & set(sys.modules)))
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:2] == ["[]", "False"]
