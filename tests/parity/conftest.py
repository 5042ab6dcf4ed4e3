"""Fixtures for the libraries that several tests compare with: Keras on JAX, PyTorch and timm.

They are installed in .venv-parity (`make parity`), never in .venv. The fixtures import them, so
that the tests can be collected and counted without them.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "jax"
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"


class _Anything(type):
    """A class with every attribute, for names that are looked up but never used."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Module(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _NoTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Provides an empty torchvision, which timm imports but its networks do not use.

    Not every CPU build of PyTorch has a matching build of torchvision.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def random_like(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random float32 values for a weight.

    Kernels preserve the scale of activations. All other arrays, including BatchNorm's statistics
    and scales, are far from their initial values.
    """
    rng = np.random.default_rng([seed, len(name), *name.encode()])
    if len(shape) > 1:
        # Keras' kernels are (rows, columns, inputs, outputs), PyTorch's (outputs, inputs, ...).
        fan_in = np.prod(shape[1:] if name.endswith("weight") else shape[:-1])
        return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    if "var" in name:
        return rng.uniform(0.5, 2, shape).astype(np.float32)
    if re.search(r"(bn\d?|downsample\.1)\.weight$|gamma$", name):
        return (rng.choice([-1, 1], shape) * rng.uniform(0.5, 1.5, shape)).astype(np.float32)
    return rng.normal(0, 0.2, shape).astype(np.float32)


def relative_difference(ours: Any, theirs: Any) -> float:
    """max|a - b| / max|b|."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    assert np.abs(theirs).max() > 0
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="session")
def keras() -> types.ModuleType:
    return importlib.import_module("keras")


@pytest.fixture(scope="session")
def torch() -> types.ModuleType:
    return importlib.import_module("torch")


@pytest.fixture(scope="session")
def timm() -> types.ModuleType:
    if not any(isinstance(finder, _NoTorchvision) for finder in sys.meta_path):
        sys.meta_path.append(_NoTorchvision())  # after the real one, if installed
    return importlib.import_module("timm")


@pytest.fixture(scope="session")
def random_weight() -> Callable[..., np.ndarray]:
    return random_like


@pytest.fixture(scope="session")
def difference() -> Callable[[Any, Any], float]:
    return relative_difference
