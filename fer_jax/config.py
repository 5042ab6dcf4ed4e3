"""Finds a config file, applies overrides, and turns the result into `Settings`.

A config file is Python with a `get_config()` that starts from `defaults()` and sets what differs.
The result is locked: an unknown field is an error that names the nearest one. What the fields
mean is documented in `configs/defaults.py`.
"""

from __future__ import annotations

import contextlib
import difflib
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax import durations, plugins
from fer_jax.errors import UserError, fails_at
from fer_jax.settings import Settings, flatten

_FIELD = "--config."
_PACKAGE = Path(__file__).parent
_ALIASES = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "clip": "clip_norm"}
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def shipped_folder() -> Path:
    """Returns the folder of the shipped configs: the checkout's, else the wheel's."""
    checkout = _PACKAGE.parent / "configs"
    return checkout if (checkout / "defaults.py").is_file() else _PACKAGE / "configs"


def defaults() -> ConfigDict:
    """Returns every field with its default, locked. Config files start from it."""
    return _run_file(shipped_folder() / "defaults.py")


def load_settings(path: str, overrides: Sequence[str] = ()) -> Settings:
    """Loads a config file as validated settings, and imports the plugins that it names.

    Args:
      path: as in `load`.
      overrides: as in `load`.

    Raises:
      UserError: as `load`, a plugin that fails, and a value that is out of range.
    """
    settings = Settings.from_dict(load(path, overrides).to_dict())
    plugins.load(settings.plugins)
    return settings


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a config file and applies overrides. Config files may start from another one.

    Args:
      path: a config file; `configs/kdef.py` is found wherever fer_jax is installed.
      overrides: such as "train.epochs=50". The field's type decides how a value is parsed;
        "none" unsets a field that is unset in the defaults.

    Returns:
      The locked config.

    Raises:
      UserError: no such file, an error in it, an unknown field, or a value of another type.
    """
    config = _run_file(_find(path))
    known = defaults()
    unknown = sorted(set(flatten(config.to_dict())) - set(flatten(known.to_dict())))
    if unknown:
        raise UserError(_unknown_field(unknown[0], known))
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise UserError(
                f"expected --config.FIELD=VALUE, found --config.{override}; "
                "add the value after an equals sign"
            )
        _set(config, name, text)
    return config


def from_stored(stored: Mapping[str, Any]) -> Settings:
    """Returns the settings of a stored config.json; fields that are newer get their default.

    Raises:
      UserError: a value that is not valid.
      KeyError, TypeError, ValueError: not the content of a config.json.
    """
    config = defaults()
    with config.unlocked():
        config.update(stored)
    return Settings.from_dict(config.to_dict())


def overrides_in(arguments: Sequence[str], known: str) -> list[str]:
    """Returns the config overrides of a command line as "train.epochs=50".

    Args:
      arguments: those the verb's parser left, as "--config.FIELD=VALUE" or in two words.
      known: the verb's flags, for the message.

    Raises:
      UserError: any other argument.
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


def _find(path: str) -> Path:
    given = Path(path)
    shipped = shipped_folder() / given.name
    if given.is_file():
        return given
    if given.parent in (Path("."), Path("configs")) and given.suffix in ("", ".py"):
        candidate = shipped.with_suffix(".py")
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
        raise UserError(f"the config file {path} {fails_at(error, str(path))}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"expected get_config() of {path} to return an ml_collections.ConfigDict, "
            f"found {type(config).__name__}; start from fer_jax.config.defaults()"
        )
    return config.lock()


def _set(config: ConfigDict, name: str, text: str) -> None:
    """Sets the dotted field `name` to `text`, parsed as the field's type."""
    known = flatten(config.to_dict())
    if name not in known:
        raise UserError(_unknown_field(name, config))
    *parents, field = name.split(".")
    for parent in parents:
        config = config[parent]
    kind = config.get_type(field)
    if text.lower() == "none" and flatten(defaults().to_dict())[name] is None:
        config[field] = None
        return
    if kind is object:
        config[field] = _duration(name, text)
        return
    try:
        # A tuple that is unset by default is of integers, an empty one of names.
        has_names = kind is tuple and flatten(defaults().to_dict())[name] == ()
        value = tuple(filter(None, text.split(","))) if has_names else _parse(text, kind)
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
    fields = list(flatten(config.to_dict()))
    inside = [field for field in fields if field.startswith(f"{name}.")]
    if inside:
        hint = f"that is a section, with the fields {', '.join(inside)}"
    elif near := _nearest_field(name, fields):
        hint = f"did you mean {near}?"
    else:
        hint = f"fields: {', '.join(fields)}"
    return f"there is no config field {name}; {hint}"


def _nearest_field(name: str, fields: Sequence[str]) -> str | None:
    """The field that is most likely meant; one of the same section first."""
    section, _, last = name.rpartition(".")
    last = _ALIASES.get(last, last)
    siblings = {
        field.rpartition(".")[2]: field for field in fields if field.rpartition(".")[0] == section
    }
    if near := difflib.get_close_matches(last, siblings, n=1, cutoff=0.5):
        return siblings[near[0]]
    everywhere = difflib.get_close_matches(f"{section}.{last}", fields, n=1, cutoff=0.5)
    return everywhere[0] if everywhere else None
