"""Bits and nats. Inside, everything is in nats."""

from __future__ import annotations

import math
from typing import Literal

Unit = Literal["bits", "nats"]
# The measures of perception; a source's `divergences` are those it has a rate function for.
Divergence = Literal["w2", "tv", "kl", "chi2", "hellinger"]
# Their names in figures and help.
DIVERGENCE_TITLES: dict[str, str] = {
    "w2": "squared 2-Wasserstein",
    "tv": "total variation",
    "kl": "KL divergence",
    "chi2": "χ² divergence",
    "hellinger": "squared Hellinger",
}
_NATS = {"bits": math.log(2), "nats": 1.0}


def nats_per(unit: Unit) -> float:
    """The nats in one unit.

    Raises:
        ValueError: If the unit is unknown.
    """
    if unit not in _NATS:
        raise ValueError(f"unit must be 'bits' or 'nats'; got {unit!r}")
    return _NATS[unit]


def nats_per_perception(divergence: str, unit: Unit) -> float:
    """The factor from a perception constraint to its internal value: a "kl" is in nats.

    No other divergence has a unit of information.
    """
    return nats_per(unit) if divergence == "kl" else 1.0
