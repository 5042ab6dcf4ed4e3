"""The notebooks of docs/notebooks run from a clean interpreter, and are stored without outputs."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))

_SHELL = """
import subprocess
def _shell(command):
    subprocess.run(command, shell=True, check=True)
"""


def cells(path: pathlib.Path, kind: str) -> list[str]:
    """Returns the text of a notebook's "code" or "markdown" cells."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def as_script(path: pathlib.Path) -> str:
    """Returns the code cells as a program; `!command {variable}` becomes a call of the shell.

    This is what Jupyter does with them, without the fifty packages of Jupyter.
    """
    code = "\n\n".join(cells(path, "code"))
    return _SHELL + re.sub(r"^(\s*)!(.*)$", r"\1_shell(f'''\2''')", code, flags=re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_opens_in_colab(path: pathlib.Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert "colab-badge.svg)](https://colab.research.google.com/" in cells(path, "markdown")[0]
    install = cells(path, "code")[0]
    assert 'REPOSITORY = ""  # @param' in install
    assert "!pip install" in install
    assert max(len(line) for text in cells(path, "code") for line in text.splitlines()) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_a_clean_interpreter(path: pathlib.Path, tmp_path) -> None:
    environment = os.environ | {
        "MPLBACKEND": "Agg",
        "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", as_script(path)], cwd=tmp_path, env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
