"""Modules of the user with parts of their own: imports them, and recognizes them in a run.

A plugin is code. It is imported only where the user names it, in the config or with `--plugins`,
or where it is an entry point of an installed package. A run directory says which parts it needs
and never makes anything be imported.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_jax.errors import UserError, fails_at
from fer_jax.printable import printable
from fer_jax.registry import FIELDS, REGISTRIES
from fer_jax.settings import Settings

_HASH_LENGTH = 16  # hexadecimal digits

_loaded: dict[str, str] = {}
"""Module and what `load` was given for it."""


def load(names: Sequence[str]) -> None:
    """Imports plugins: paths of .py files, or names of modules.

    Raises:
      UserError: no such file or module, or it fails.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _load_file(Path(name).expanduser())
            else:
                importlib.import_module(name)
        except UserError:
            raise
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):
                raise UserError(
                    f"the plugin {name} needs {error.name}, which is not installed"
                ) from error
            raise UserError(
                f"expected the plugin {name} as a module that Python can import, found none; give "
                "the path of its .py file, or install its package"
            ) from None
        except Exception as error:  # a plugin is the user's code: any error in it is input
            raise UserError(f"the plugin {name} {fails_at(error, name)}") from error
        if name.endswith(".py"):
            path = Path(name).expanduser().resolve()
            _loaded[path.stem] = str(path)
        else:
            _loaded[name] = name


def _load_file(path: Path) -> None:
    """Imports a file as the module of its name."""
    name, file = path.stem, str(path.resolve())
    if not path.is_file():
        raise UserError(f"expected a plugin at {path}, found no file; correct its path")
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    other = getattr(sys.modules.get(name), "__file__", None) or (spec and spec.origin) or ""
    if (name in sys.modules or spec) and str(Path(other).resolve()) != file:
        raise UserError(
            f"expected a plugin whose name is no other module's, found {path}: there is {name} at "
            f"{other or 'the standard library'}; rename the file"
        )
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # it ends with .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def used_by(settings: Settings) -> list[dict[str, str]]:
    """Returns kind, name, module and version of each part of the user that a run has."""
    names = {
        "network": (settings.model.name,),
        "optimizer": (settings.optim.name,),
        "augmentation": settings.augment.extra,
        "data_set": (settings.data.name,),
    }
    return [
        {"kind": kind, "name": name, "module": module, "version": version_of(module)}
        for kind, chosen in names.items()
        for name in chosen
        if (module := REGISTRIES[kind].modules.get(name))
    ]


def named_for(parts: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Returns what the user named for these parts, for `load` in another process."""
    return tuple(_loaded[one["module"]] for one in parts if one["module"] in _loaded)


@functools.cache
def version_of(module: str) -> str:
    """Returns the version of a module's package, else the hash of its file; "" without a file."""
    top = module.split(".")[0]
    if packages := importlib.metadata.packages_distributions().get(top):
        return f"{packages[0]} {importlib.metadata.version(packages[0])}"
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return ""
    return f"sha256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:_HASH_LENGTH]}"


def describe(parts: Sequence[Mapping[str, str]]) -> str:
    """Returns what `used_by` found as text: "network tiny of my_parts (sha256 1f2e)"."""
    groups: dict[str, list[str]] = {}
    for one in parts:
        kind = one["kind"].replace("_", " ")
        groups.setdefault(f"{one['module']} ({one['version']})", []).append(f"{kind} {one['name']}")
    return "; ".join(f"{', '.join(names)} of {module}" for module, names in groups.items())


def check(parts: Sequence[Mapping[str, str]], run: Path) -> None:
    """Checks that the parts that a run needs are known; notes on stderr which have changed.

    Raises:
      UserError: one is not known; says how to name its plugin.
    """
    missing = [one for one in parts if not REGISTRIES[one["kind"]].knows(one["name"])]
    if missing:
        files = ",".join(sorted({f"{one['module']}.py" for one in missing}))
        raise UserError(
            f"expected {describe(missing)}, which the run {run} was trained with, found no such "
            "part. A plugin is code, and opening a run imports none. If you trust it, install its "
            f"package or name its file: --plugins {files} (fer-jax train: --config.plugins={files})"
        )
    modules = [REGISTRIES[one["kind"]].modules.get(one["name"], "fer_jax") for one in parts]
    current = [
        {**one, "module": module, "version": version_of(module)}
        for one, module in zip(parts, modules, strict=True)
    ]
    if current != list(parts):
        _note_change(str(run), describe(parts), describe(current))


@functools.cache  # once: several parts of a command open a run
def _note_change(run: str, recorded: str, current: str) -> None:
    line = f"note: the run {run} was trained with {recorded}; now it has {current}"
    print(printable(f"{line}: results may differ"), file=sys.stderr)


def are_valid(stored: Any) -> bool:
    """Whether stored parts have the form that `used_by` returns."""
    keys = {"kind", "name", "module", "version"}
    return isinstance(stored, list) and all(
        isinstance(one, dict)
        and one.keys() == keys
        and all(isinstance(value, str) for value in one.values())
        and one["kind"] in FIELDS
        for one in stored
    )
