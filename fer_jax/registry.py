"""Networks, optimizers, augmentations and data sets by name: the project's and the user's own.

    @fer_jax.register("network", "tiny")
    class Tiny(nn.Module): ...

A user's part is registered when its module is imported. `plugins` imports the modules that a
config names. Installed packages list theirs as entry points of the group `fer_jax.plugins`, which
are imported when a name is not known without them.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from fer_jax.errors import UserError, fails_at

GROUP = "fer_jax.plugins"
"""Entry points of installed packages with parts."""

T = TypeVar("T")


class Network(NamedTuple):
    """A network's module class, and the smallest image side in pixels that it accepts.

    The side is that of the default settings, see `models.registry.smallest_input`.
    """

    module: Any
    min_size: int


class Registry(dict[str, Any]):
    """Parts of one kind by name.

    Attributes:
      kind: as `register` takes it.
      modules: the module that registered each part of a user.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.modules: dict[str, str] = {}

    def add(self, name: str, part: Any, module: str = "") -> None:
        """Adds a part of the project, or of a user's `module`, which may replace its own.

        Raises:
          UserError: the name is taken.
        """
        if name in self and self.modules.get(name) != (module or None):
            raise UserError(
                f"expected a new name of a {self.kind}, found {name!r}, which is taken by "
                f"{self.modules.get(name, 'fer_jax')}; choose another"
            )
        self[name] = part
        if module:
            self.modules[name] = module

    def with_built_in(self, parts: Mapping[str, Any]) -> Registry:
        """Adds the parts of the project, and returns the registry."""
        for name, part in parts.items():
            self.add(name, part)
        return self

    def knows(self, name: str) -> bool:
        """Whether there is such a part, here or in an installed package."""
        if name not in self:
            load_entry_points()
        return name in self

    def find(self, name: str) -> Any:
        """Returns a part.

        Raises:
          UserError: no such name; the message has the closest and all known ones.
        """
        if not self.knows(name):
            near = difflib.get_close_matches(name, self, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = f"one of {', '.join(self)}" if self else f"a registered {self.kind}"
            raise UserError(
                f"expected {known} for {FIELDS[self.kind]}, found {name!r}{hint}\n"
                f"If it is your own: name the file that registers it, --config.plugins=FILE.py "
                "or --plugins FILE.py"
            )
        return self[name]


FIELDS = {
    "network": "model.name",
    "optimizer": "optim.name",
    "augmentation": "augment.extra",
    "data_set": "data.name",
}
"""The config field that names parts of each kind."""

REGISTRIES = {kind: Registry(kind) for kind in FIELDS}


def register(kind: str, name: str, min_size: int = 1) -> Callable[[T], T]:
    """Returns a decorator that makes a part of yours known under a name.

    Args:
      kind: "network": a `flax.linen.Module` with the fields `classes` and `dtype` that maps float
        images [B, H, W, 3] and `train: bool` to float32 logits [B, classes]; selected by
        `config.model.name`.
        "optimizer": a function from `OptimSettings` to the `optax.GradientTransformation` before
        weight decay and learning rate, such as `optax.scale_by_adam()`; `config.optim.name`.
        "augmentation": a function of float32 images [B, H, W, 3] in 0..255 and one random key per
        image, key[B], that returns such images; `config.augment.extra`.
        "data_set": a `tfds_builders.stored.StoredBuilder` whose `name` is this one;
        `config.data.name`.
      name: as the config names it.
      min_size: of a network: the smallest image side in pixels that it accepts.

    Raises:
      UserError: an unknown kind, or a name that is taken.
    """
    if kind not in REGISTRIES:
        raise UserError(f"expected one of {', '.join(REGISTRIES)} to register, found {kind!r}")
    module = sys._getframe(1).f_globals["__name__"]  # noqa: SLF001 - as namedtuple does

    def add(part: T) -> T:
        fields = getattr(part, "__dataclass_fields__", {})
        if kind == "network" and not {"classes", "dtype"} <= fields.keys():
            raise UserError(
                f"expected a flax.linen.Module with the fields classes and dtype as the network "
                f"{name!r}, found {part!r}"
            )
        REGISTRIES[kind].add(name, Network(part, min_size) if kind == "network" else part, module)
        return part

    return add


def load_entry_points() -> None:
    """Imports the parts of installed packages.

    Raises:
      UserError: one of them fails.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except UserError:
            raise
        except Exception as error:  # any error of another's code
            raise UserError(
                f"the plugin {entry.name} of an installed package {fails_at(error)}; repair or "
                "uninstall it"
            ) from error
