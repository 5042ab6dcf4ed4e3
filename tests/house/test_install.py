"""requirements/install.sh with a fake Python: which .venv it reuses, and what it refuses.

No package is installed here; the real installation is the one that `make test` made.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Behaves like Python for the calls of the script, copies itself into the .venv, and logs what it
# was called to install.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
  --version) echo "Python {version}" ;;
  *"sys.exit("*) exit {unsupported} ;;
  *ensurepip*) exit {no_ensurepip} ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *"pip"*install*) echo "$*" >>pip.log; exit {pip_fails} ;;
esac
"""


def _fake_python(
    path: pathlib.Path,
    version: str = "3.11.2",
    *,
    unsupported: bool = False,
    no_ensurepip: bool = False,
    pip_fails: bool = False,
) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        FAKE_PYTHON.format(
            version=version,
            unsupported=int(unsupported),
            no_ensurepip=int(no_ensurepip),
            pip_fails=int(pip_fails),
        )
    )
    path.chmod(0o755)
    return path


def _install(folder: pathlib.Path, python: pathlib.Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ROOT / "requirements" / "install.sh", "run"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (None, "found no '"),
        ({"version": "3.10.4", "unsupported": True}, "found Python 3.10.4"),
        ({"no_ensurepip": True}, "apt install python3-venv"),
    ],
    ids=["missing", "too old", "without ensurepip"],
)
def test_an_unsupported_python_is_refused_with_one_message(
    tmp_path: pathlib.Path, python: dict | None, message: str
) -> None:
    fake = tmp_path / "python"
    if python is not None:
        _fake_python(fake, **python)
    result = _install(tmp_path, fake)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


def test_a_fresh_install_writes_a_stamp_and_requires_hashes(
    tmp_path: pathlib.Path,
) -> None:
    result = _install(tmp_path, _fake_python(tmp_path / "python"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / ".venv/run.stamp").exists()
    assert not (tmp_path / ".venv/unfinished").exists()
    for line in (tmp_path / "pip.log").read_text().splitlines():
        assert "--require-hashes" in line or "--no-deps" in line


def test_a_failed_install_writes_no_stamp_and_is_repeated_from_scratch(
    tmp_path: pathlib.Path,
) -> None:
    python = _fake_python(tmp_path / "python", pip_fails=True)
    assert _install(tmp_path, python).returncode != 0
    assert not (tmp_path / ".venv/run.stamp").exists()

    (tmp_path / ".venv/partial").touch()
    _fake_python(python)
    assert _install(tmp_path, python).returncode == 0
    assert (tmp_path / ".venv/run.stamp").exists()
    assert not (tmp_path / ".venv/partial").exists()


def test_a_complete_venv_is_reused(tmp_path: pathlib.Path) -> None:
    python = _fake_python(tmp_path / "python")
    assert _install(tmp_path, python).returncode == 0
    (tmp_path / ".venv/marker").touch()
    assert _install(tmp_path, python).returncode == 0
    assert (tmp_path / ".venv/marker").exists()


def test_a_venv_without_python_is_recreated(tmp_path: pathlib.Path) -> None:
    python = _fake_python(tmp_path / "python")
    assert _install(tmp_path, python).returncode == 0
    shutil.rmtree(tmp_path / ".venv/bin")
    assert _install(tmp_path, python).returncode == 0
    assert (tmp_path / ".venv/bin/python").exists()
