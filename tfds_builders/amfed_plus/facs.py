"""Derives emotions from action units by the rule `facs_v1`, as AM-FED+ has no emotion labels.

The rule is the EMFACS prototypes (Friesen and Ekman, 1983) reduced to the units that
AM-FED+ codes: AU1, 6, 7, 16, 20 and 23 to 25 are missing. A changed rule needs a new name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fer_jax import labels
from tfds_builders.amfed_plus import au_labels

RULE = "facs_v1"
THRESHOLD = 50.0  # percent of the coders, at least, for a unit to count as shown

Shown = Callable[[str], bool]


def _happiness(shown: Shown) -> bool:
    return shown(au_labels.SMILE) and not _any(shown, "AU04", "AU09", "AU10", "AU15")


def _contempt(shown: Shown) -> bool:
    """Contempt is unilateral: AU12 or AU14, or both, on one side only."""
    left = _any(shown, "Unilateral_LAU12", "Unilateral_LAU14")
    right = _any(shown, "Unilateral_RAU12", "Unilateral_RAU14")
    return not shown(au_labels.SMILE) and left != right


def _disgust(shown: Shown) -> bool:
    return shown("AU09") or (shown("AU10") and _any(shown, "AU04", "AU17"))


def _fear(shown: Shown) -> bool:
    return shown("AU02") and shown("AU04") and _any(shown, "AU05", "AU26")


def _surprise(shown: Shown) -> bool:
    return shown("AU02") and _any(shown, "AU05", "AU26") and not shown("AU04")


def _anger(shown: Shown) -> bool:
    frowns = shown("AU04") and _any(shown, "AU05", "AU17")
    return frowns and not _any(shown, "AU02", "AU09", "AU10", "AU15")


def _sadness(shown: Shown) -> bool:
    droops = shown("AU15") and _any(shown, "AU04", "AU17")
    return droops and not shown(au_labels.SMILE) and not shown("AU09")


_PROTOTYPES: dict[str, Callable[[Shown], bool]] = {
    labels.ANGER: _anger,
    labels.CONTEMPT: _contempt,
    labels.DISGUST: _disgust,
    labels.FEAR: _fear,
    labels.HAPPINESS: _happiness,
    labels.SADNESS: _sadness,
    labels.SURPRISE: _surprise,
}


def label(agreement: Mapping[str, float]) -> str | None:
    """The class of a frame by its action units.

    Args:
      agreement: column (of `au_labels.COLUMNS`) to percent of the coders; a missing column
        counts as 0. Smile is AU12 on both sides.

    Returns:
      One of the seven emotions if exactly one prototype matches; neutral if all columns
      are 0; `labels.OTHER` otherwise; None if the tracker failed.
    """
    if agreement.get(au_labels.TRACKER_FAIL, 0.0) >= THRESHOLD:
        return None
    units = {one: value for one, value in agreement.items() if one != au_labels.TRACKER_FAIL}
    if not any(units.values()):
        return labels.NEUTRAL
    matches = [
        name
        for name, fits in _PROTOTYPES.items()
        if fits(lambda unit: units.get(unit, 0.0) >= THRESHOLD)
    ]
    return matches[0] if len(matches) == 1 else labels.OTHER


def _any(shown: Shown, *units: str) -> bool:
    return any(shown(unit) for unit in units)
