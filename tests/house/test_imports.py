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
VERBS = [
    "crossval",
    "evaluate",
    "export",
    "main",
    "port_weights",
    "predict",
    "preview",
    "serve",
    "summary",
    "train",
]
VERB_MODULES = {f"fer_jax.{verb}" for verb in VERBS} | {"tfds_builders.build"}
OWN = ("fer_jax", "tfds_builders", "configs", "benchmarks", "launch", "tests")

# Beside the standard library: what a room may import, its own modules included.
ALLOWED = {
    "fer_jax/models": {"jax", "flax", "numpy", "fer_jax.models"},
    "fer_jax/synthetic": {  # rich: the progress bar of a long rendering
        "numpy",
        "cv2",
        "rich",
        "fer_jax.synthetic",
        "fer_jax.errors",
        "fer_jax.labels",
    },
}


def _module(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _sources(room: str) -> list[pathlib.Path]:
    return sorted((ROOT / room).rglob("*.py"))


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


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    standard = set(sys.stdlib_module_names)
    for path in _sources(room):
        foreign = {name for name in _imports(path) if not _is_in(name, ALLOWED[room] | standard)}
        assert foreign == set(), path


def test_nouns_import_neither_verbs_nor_builders() -> None:
    for path in _sources("fer_jax"):
        if _module(path) not in VERB_MODULES:
            wrong = {
                name for name in _imports(path) if _is_in(name, VERB_MODULES | {"tfds_builders"})
            }
            assert wrong == set(), path


def test_builders_import_no_verb_of_the_package() -> None:
    for path in _sources("tfds_builders"):
        wrong = {name for name in _imports(path) if _is_in(name, VERB_MODULES)}
        assert wrong <= {"tfds_builders.build"}, path


def test_tfds_is_not_imported_on_import_of_the_package() -> None:
    for path in _sources("fer_jax"):
        tops = {name.split(".")[0] for name in _import_time_imports(path)}
        assert "tensorflow_datasets" not in tops, path


@pytest.mark.parametrize("room", OWN)
def test_tensorflow_is_imported_nowhere(room: str) -> None:
    for path in _sources(room):
        assert "tensorflow" not in {name.split(".")[0] for name in _imports(path)}, path


def test_importing_every_noun_starts_no_device_and_no_tensorflow() -> None:
    nouns = [module for module in map(_module, _sources("fer_jax")) if module not in VERB_MODULES]
    program = f"""
import importlib, sys
for name in {nouns!r}:
    importlib.import_module(name)
print(sorted({{"tensorflow", "tensorflow_datasets", "torch"}} & set(sys.modules)))
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:2] == ["[]", "False"]
