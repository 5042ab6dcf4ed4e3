"""Every source file: functions are short, and no machine or registry is named."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = [
    "fer_jax",
    "configs",
    "tfds_builders",
    "tests",
    "launch",
    "benchmarks",
    "results",
    "tools",
    "docs",
    "requirements",
    ".ci",
    ".github",
]
LONGEST_FUNCTION = 60  # lines; a screen and a little

# Written so that this file passes its own test.
MACHINE = re.compile(r"/[r]oot/|[.]pyen[v]|/[w]ork/|pythonhoste[d]|pypi[.]org")


def _files() -> Iterator[pathlib.Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file())
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def test_no_file_names_a_machine_or_a_registry_host() -> None:
    found = []
    for path in _files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match}" for match in MACHINE.findall(text)]
    assert found == []


def test_functions_are_short() -> None:
    long = []
    for path in _files():
        # A config is a list of commented fields; splitting it would help nobody.
        if path.suffix != ".py" or path.parent.name == "configs":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []
