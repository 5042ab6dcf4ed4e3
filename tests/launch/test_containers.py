"""The container files, checked without a container engine: paths, commands and the health check."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from fer_jax.cli import predict, serve

ROOT = Path(__file__).parents[2]
SERVE = "Dockerfile.serve"
RAY = "Dockerfile.ray"


def instructions(name: str) -> list[tuple[str, str]]:
    """Returns the instructions of a container file and their arguments."""
    text = (ROOT / "launch" / name).read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def arguments(name: str, instruction: str) -> list[str]:
    return [rest for found, rest in instructions(name) if found == instruction]


@pytest.mark.parametrize("name", ["Dockerfile", SERVE, RAY])
def test_what_is_copied_exists_and_python_is_supported(name):
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in arguments(name, "COPY"):
        *sources, target = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source not in ignored
            assert (ROOT / source).is_dir() or target.endswith("/")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (image,) = arguments(name, "FROM")
    minor = re.fullmatch(r"(?:python:3\.|rayproject/ray:.*-py3)(\d+)-(?:slim|cpu)", image)[1]
    version = f"3.{minor}"
    assert version in SpecifierSet(project["requires-python"])


@pytest.mark.parametrize("name", ["Dockerfile", SERVE])
def test_the_container_does_not_run_as_root(name):
    (user,) = arguments(name, "USER")
    assert any(re.search(rf"useradd .*\b{user}\b", line) for line in arguments(name, "RUN"))
    names = [found for found, _ in instructions(name)]
    assert names.index("USER") < names.index("ENTRYPOINT")


@pytest.mark.parametrize(("name", "lock"), [(SERVE, "rest.lock"), (RAY, "run.lock")])
def test_packages_come_from_locks_only(name, lock):
    for line in arguments(name, "RUN"):
        for command in filter(None, re.findall(r"pip install ([^&]*)", line)):
            words = command.split()
            if "-r" not in words:
                assert words[-1] == "."
                assert "--no-deps" in words
                continue
            assert "--require-hashes" in words
            listed = words[words.index("-r") + 1]
            assert any(listed in copied.split() for copied in arguments(name, "COPY"))
    assert lock in str(arguments(name, "RUN"))


def test_the_server_starts_with_flags_that_exist_and_is_checked_where_it_listens():
    (entry,) = arguments(SERVE, "ENTRYPOINT")
    program, verb, *flags = ast.literal_eval(entry)
    options = serve.parse(flags)
    assert (program, verb, options.host, options.no_page) == ("fer-jax", "serve", "0.0.0.0", True)
    assert options.run is None  # the shipped model
    assert serve.parse([*flags, "/runs/demo"]).run == Path("/runs/demo")
    assert arguments(SERVE, "EXPOSE") == [str(options.port)]
    (health,) = arguments(SERVE, "HEALTHCHECK")
    program, flag, code = ast.literal_eval(health[health.index("[") :])
    assert (program, flag) == ("python", "-c")
    compile(code, SERVE, "exec")
    assert f"http://127.0.0.1:{options.port}/health" in code


def test_the_photo_that_is_predicted_in_the_image_is_copied_into_it():
    (line,) = (one for one in arguments(SERVE, "RUN") if one.startswith("fer-jax predict"))
    (photo,) = predict.parse(shlex.split(line)[2:]).inputs
    path = Path(photo).relative_to(arguments(SERVE, "WORKDIR")[0])
    assert (ROOT / path).is_file()
    assert any(str(path).startswith(copied.split()[0]) for copied in arguments(SERVE, "COPY"))
