"""Who goes into which split: by person, or at random as some papers do.

Orders come from hashes of seed and id, so they are the same on every machine and
with every version of numpy, and one missing id moves no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from fer_jax import errors

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"


def shuffled(ids: Iterable[str], seed: int) -> list[str]:
    """`ids` in an order that only `seed` decides."""
    return sorted(ids, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())


def by_group(
    strata: Mapping[str, str], seed: int, validation: float = 0.15, test: float = 0.15
) -> dict[str, str]:
    """Splits groups (people, videos, movies), the same shares in each stratum.

    Args:
      strata: Group id to its stratum (for people, their gender).
      seed: Decides the order.
      validation: Share of each stratum's groups, at least one.
      test: Share of each stratum's groups, at least one.

    Returns:
      Group id to split name.

    Raises:
      errors.UserError: A stratum has fewer than three groups.
    """
    assigned: dict[str, str] = {}
    for stratum in sorted(set(strata.values())):
        order = shuffled((one for one, its in strata.items() if its == stratum), seed)
        if len(order) < 3:
            raise errors.UserError(
                f"expected at least 3 people of kind {stratum!r}, so that train, validation and "
                f"test each get their own, found {len(order)}: {', '.join(order)}. The copy is "
                "incomplete."
            )
        held = max(1, round(test * len(order)))
        kept = max(1, round(validation * len(order)))
        for position, one in enumerate(order):
            is_test, is_validation = position < held, position < held + kept
            assigned[one] = TEST if is_test else VALIDATION if is_validation else TRAIN
    return assigned


def at_random(
    ids: Collection[str], seed: int, test: int, validation: float = 0.1
) -> dict[str, str]:
    """Splits records without regard to people: what the paper did.

    Args:
      ids: Record ids.
      seed: Decides the order.
      test: Number of test records.
      validation: Share of the others.

    Returns:
      Record id to split name.
    """
    order = shuffled(ids, seed)
    kept = round(validation * (len(order) - test))
    names = [TEST] * test + [VALIDATION] * kept + [TRAIN] * (len(order) - test - kept)
    return dict(zip(order, names, strict=True))


def shared_groups(groups_of_split: Mapping[str, Iterable[str]]) -> int:
    """How many group ids occur in more than one split: the leak that a report must name."""
    seen: dict[str, int] = {}
    for groups in groups_of_split.values():
        for one in set(groups) - {""}:
            seen[one] = seen.get(one, 0) + 1
    return sum(times > 1 for times in seen.values())
