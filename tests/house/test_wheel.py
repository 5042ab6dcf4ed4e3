"""The wheel: built here, installed outside the checkout and used from there.

Its dependencies are those of the running environment.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _run(arguments: list[str], cwd: pathlib.Path, site: pathlib.Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    result = subprocess.run(
        arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=ROOT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--no-deps", "--target", str(folder), str(wheel)], cwd=folder)
    return folder


def test_it_contains_the_packages_and_nothing_else(wheel: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fer_jax", "tfds_builders"}
    licenses = {name.split("/")[-1] for name in names if ".dist-info/licenses/" in name}
    assert licenses == {"LICENSE", "NOTICE"}
    for folder, target in [
        ("fer_jax", "fer_jax"),
        ("tfds_builders", "tfds_builders"),
        ("configs", "fer_jax/configs"),
    ]:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{target}/{path.relative_to(ROOT / folder)}" in names


@pytest.mark.parametrize(
    "name",
    [
        "fer_jax/configs/defaults.py",
        "fer_jax/configs/demo.py",
        "fer_jax/faces/mtcnn.npz",
        "fer_jax/shipped/ferplus/weights.safetensors",
        "tfds_builders/synthface/head.npz",
        "tfds_builders/synthetic_faces/README.md",
        "tfds_builders/synthetic_faces/CITATIONS.bib",
        "tfds_builders/synthetic_faces/TAGS.txt",
    ],
)
def test_it_contains_data_files(wheel: pathlib.Path, name: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert name in archive.namelist()


def test_it_imports_from_its_installation(site: pathlib.Path, tmp_path: pathlib.Path) -> None:
    program = (
        "import fer_jax, tfds_builders, importlib.metadata as m\n"
        "print(fer_jax.__file__, tfds_builders.__file__, fer_jax.__version__, m.version('fer-jax'))"
    )
    package, builders, *versions = _run([sys.executable, "-c", program], tmp_path, site).split()
    assert pathlib.Path(package) == site / "fer_jax/__init__.py"
    assert pathlib.Path(builders) == site / "tfds_builders/__init__.py"
    assert versions[0] == versions[1]


def test_its_configs_load_without_a_checkout(site: pathlib.Path, tmp_path: pathlib.Path) -> None:
    program = (
        "from fer_jax import config\n"
        "print(config.shipped_folder())\n"
        "print(config.load('configs/demo.py').is_locked)"
    )
    folder, locked = _run([sys.executable, "-c", program], tmp_path, site).split()
    assert pathlib.Path(folder) == site / "fer_jax/configs"
    assert locked == "True"


def test_the_console_script_starts(site: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert "--config" in _run([sys.executable, str(site / "bin/fer-jax"), "--help"], tmp_path, site)


def test_the_shipped_model_reads_a_photo(site: pathlib.Path, tmp_path: pathlib.Path) -> None:
    photo = site / "fer_jax/serve/examples/1_happiness.jpg"
    command = [sys.executable, str(site / "bin/fer-jax"), "predict", str(photo)]
    row, count = _run(command, tmp_path, site).splitlines()[1:]
    assert row.split()[0].endswith("1_happiness.jpg")
    assert count == "1 face in 1 frame of 1 image"
