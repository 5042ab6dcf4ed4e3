"""Finds, loads, overrides and checks a run's configuration.

A config file is Python with a `get_config()` that starts from `defaults()` and sets
what differs. The result is locked: a field that does not exist is an error that
names the nearest one. What the fields mean stands in `configs/defaults.py`.
"""

from __future__ import annotations

import contextlib
import difflib
import runpy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax import durations
from fer_jax.errors import UserError

_FIELD = "--config."
_PACKAGE = Path(__file__).parent
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def shipped_folder() -> Path:
    """The folder of the configs that come with the project: of the checkout, else of the wheel."""
    checkout = _PACKAGE.parent / "configs"
    return checkout if (checkout / "defaults.py").is_file() else _PACKAGE / "configs"


def defaults() -> ConfigDict:
    """Every field with its default, locked."""
    return _run_file(shipped_folder() / "defaults.py")


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a config file and applies overrides.

    Args:
      path: a config file; `configs/kdef.py` is found wherever fer_jax is installed.
      overrides: such as "train.epochs=50"; the field's type decides how a value is read,
        and "none" unsets a field that is unset in the defaults.

    Returns:
      The locked configuration.

    Raises:
      UserError: no such file, an error in it, an unknown field or a value of another type.
    """
    config = _run_file(_find(path))
    unknown = sorted(set(flatten(config)) - set(flatten(defaults())))
    if unknown:
        raise UserError(_unknown_field(unknown[0], defaults()))
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise UserError(
                f"expected --config.FIELD=VALUE, found --config.{override}; "
                "put the value behind an equals sign"
            )
        _set(config, name, text)
    return config


def overrides_in(arguments: Sequence[str], known: str) -> list[str]:
    """The overrides among what is left of a command line, as "train.epochs=50".

    Args:
      arguments: such as ["--config.train.epochs=50"], or in two words.
      known: the verb's own flags, for the message.

    Raises:
      UserError: something else is among them.
    """
    overrides, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith(_FIELD):
            raise UserError(
                f"unknown argument {argument!r}; there are {known} and {_FIELD}FIELD=VALUE"
            )
        if "=" not in argument and rest and not rest[0].startswith("--"):
            argument = f"{argument}={rest.pop(0)}"
        overrides.append(argument.removeprefix(_FIELD))
    return overrides


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.epochs": 30, ...} of a nested configuration."""
    return dict(_items(config, prefix))


def _items(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from _items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _find(path: str) -> Path:
    given = Path(path)
    shipped = shipped_folder() / given.name
    if given.is_file():
        return given
    if given.parent in (Path("."), Path("configs")):
        for candidate in (shipped, shipped.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    names = sorted(file.stem for file in shipped_folder().glob("*.py") if file.stem != "defaults")
    near = difflib.get_close_matches(given.stem, names, n=1)
    hint = f"; did you mean configs/{near[0]}.py?" if near else ""
    raise UserError(
        f"expected a config file, found nothing at {path}{hint} "
        f"(shipped: {', '.join(f'configs/{name}.py' for name in names)})"
    )


def _run_file(path: Path) -> ConfigDict:
    try:
        config = runpy.run_path(str(path))["get_config"]()
    except UserError:
        raise
    except KeyError:
        raise UserError(f"expected a function get_config() in {path}, found none") from None
    except Exception as error:  # a config file is the user's code: any error in it is input
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = getattr(error, "lineno", None) or (frames[-1].lineno if frames else "?")
        first = str(error).split("\n")[0]
        raise UserError(
            f"the config file {path} fails at line {line}: {type(error).__name__}: {first}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"expected get_config() of {path} to return an ml_collections.ConfigDict, "
            f"found {type(config).__name__}; start from fer_jax.config.defaults()"
        )
    return config.lock()


def _set(config: ConfigDict, name: str, text: str) -> None:
    """Sets the field `name` (dotted) to the value that `text` spells in the field's type."""
    known = flatten(config)
    if name not in known:
        raise UserError(_unknown_field(name, config))
    *parents, field = name.split(".")
    for parent in parents:
        config = config[parent]
    kind = config.get_type(field)
    if text == "none" and flatten(defaults())[name] is None:
        config[field] = None
        return
    if kind is object:
        config[field] = _duration(name, text)
        return
    try:
        value = _parse(text, kind)
    except ValueError:
        wanted = "integers with commas between them" if kind is tuple else kind.__name__
        raise UserError(
            f"expected {wanted} for --config.{name}, found {text!r} "
            f"(the value without this flag: {known[name]!r})"
        ) from None
    config[field] = value


def _parse(text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError(text)
        return text.lower() in _TRUE
    if kind is tuple:
        return tuple(int(part) for part in text.split(",") if text)
    return kind(text)


def _duration(name: str, text: str) -> int | float | str:
    durations.parse(f"--config.{name}", text, plain="")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _unknown_field(name: str, config: ConfigDict) -> str:
    fields = list(flatten(config))
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    inside = [field for field in fields if field.startswith(f"{name}.")]
    if inside:
        hint = f"that is a section, with the fields {', '.join(inside)}"
    elif near:
        hint = f"did you mean {near[0]}?"
    else:
        hint = f"fields: {', '.join(fields)}"
    return f"there is no config field {name}; {hint}"
