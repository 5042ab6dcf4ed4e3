"""The locks in requirements/: hashed, complete, consistent with each other, and without hosts.

They are not installed here.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]
LOCKS = ("build", "run", "rest", "dev", "check", "docs", "parity", "peers")
PYTHONS = ("3.11", "3.12", "3.13")
FORBIDDEN = re.compile(
    r"tensorflow(-cpu|-gpu|-intel)?|tf-nightly.*|torch.*|nvidia-.*|jax-cuda.*|libtpu"
)


ALLOWED = {"peers": {"tensorflow-cpu"}}  # for `make benchmark`, in a separate environment


@dataclasses.dataclass(frozen=True)
class Pin:
    """One locked release: a line of the lock with its continuation lines."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return next(iter(self.requirement.specifier)).version

    def applies_to(self, python: str) -> bool:
        environment = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "sys_platform": "linux",
            "platform_python_implementation": "CPython",
        }
        return self.requirement.marker is None or self.requirement.marker.evaluate(environment)


def _pins(lock: str) -> list[Pin]:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    pins = []
    for line in text.splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        pins.append(Pin(Requirement(requirement), tuple(hashes)))
    return pins


def _lines(path: pathlib.Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def _declared(lock: str) -> list[Requirement]:
    """Returns the requirements of a lock, from pyproject.toml, parity.in or peers.in."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    declared = {
        "build": project["dependency-groups"]["build"],
        "run": project["project"]["dependencies"],
        "rest": project["project"]["dependencies"] + extras["rest"],
        "dev": project["project"]["dependencies"] + extras["rest"] + extras["test"] + extras["dev"],
        "check": project["project"]["dependencies"]
        + extras["cluster"]
        + extras["gcs"]
        + extras["hub"]
        + extras["mlflow"]
        + extras["wandb"]
        + extras["onnx"]
        + extras["s3"]
        + extras["rest"]
        + extras["serve"]
        + extras["check"],
        "docs": project["project"]["dependencies"] + extras["docs"],
        "parity": _lines(ROOT / "requirements" / "parity.in"),
        "peers": _lines(ROOT / "requirements" / "peers.in"),
    }[lock]
    requirements = [Requirement(line) for line in declared]
    return [requirement for requirement in requirements if requirement.name != "fer-jax"]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_hashed(lock: str) -> None:
    pins = _pins(lock)
    assert pins
    for pin in pins:
        assert [spec.operator for spec in pin.requirement.specifier] == ["=="], pin
        assert pin.hashes, f"{pin.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in pin.hashes), pin.name


@pytest.mark.parametrize("lock", LOCKS)
def test_no_host_and_no_forbidden_package(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    assert not re.search(r"https?:|file:|@ |--(extra-)?index|--find-links|--trusted-host", text)
    found = {pin.name for pin in _pins(lock) if FORBIDDEN.fullmatch(pin.name)}
    assert found == ALLOWED.get(lock, set())


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_every_declared_requirement_is_locked_once(lock: str, python: str) -> None:
    pins: dict[str, Pin] = {}
    for pin in _pins(lock):
        if pin.applies_to(python):
            assert pin.name not in pins, f"{pin.name} is locked twice for Python {python}"
            pins[pin.name] = pin
    for requirement in _declared(lock):
        pin = pins[canonicalize_name(requirement.name)]
        assert pin.version in requirement.specifier, f"{pin.requirement} against {requirement}"


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("run", "dev"),
        ("run", "rest"),
        ("rest", "dev"),
        ("rest", "check"),
        ("build", "dev"),
        ("parity", "dev"),
        ("check", "dev"),
        ("run", "check"),
        ("docs", "dev"),
        ("docs", "check"),
        ("peers", "check"),
        ("peers", "parity"),
    ],
)
def test_the_locks_agree(smaller: str, larger: str) -> None:
    pinned = {(pin.name, pin.version) for pin in _pins(larger)}
    names = {name for name, _ in pinned}
    disagreeing = {
        str(pin.requirement)
        for pin in _pins(smaller)
        if pin.name in names and (pin.name, pin.version) not in pinned
    }
    assert disagreeing == set()


@pytest.mark.parametrize(("python", "jax"), [("3.11", "0.10.2"), ("3.12", "0.1"), ("3.13", "0.1")])
def test_python_311_has_the_last_jax_that_supports_it(python: str, jax: str) -> None:
    versions = [pin.version for pin in _pins("run") if pin.name == "jax" and pin.applies_to(python)]
    assert len(versions) == 1
    assert versions[0].startswith(jax)
