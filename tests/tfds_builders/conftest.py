"""The small KDEF on disk, prepared and unprepared, and copies of it to damage."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable

import pytest

from tests.tfds_builders import small_kdef
from tfds_builders import prepare as build


@pytest.fixture(scope="session")
def kdef_tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A manual_dir with KDEF unpacked; read-only."""
    root = tmp_path_factory.mktemp("kdef")
    small_kdef.write_tree(root)
    return root


@pytest.fixture(scope="session")
def kdef_data(kdef_tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A data_dir with `kdef_tree` prepared; read-only."""
    root = tmp_path_factory.mktemp("prepared")
    build.prepare("kdef", None, str(root), str(kdef_tree))
    return root


@pytest.fixture
def kdef_data_copy(kdef_data: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of `kdef_data` that a test may damage."""
    return shutil.copytree(kdef_data, tmp_path / "prepared")


@pytest.fixture
def kdef_copy(kdef_tree: pathlib.Path, tmp_path: pathlib.Path) -> Callable[[], pathlib.Path]:
    """A function that creates a copy to damage, and returns its folder of sessions (AF01 ...)."""

    def copy() -> pathlib.Path:
        shutil.copytree(kdef_tree, tmp_path / "damaged")
        return tmp_path / "damaged" / "KDEF_and_AKDEF" / "KDEF"

    return copy
