"""The options that bring in what is the user's own, and where logs go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.config import WeightedTerm

Modules = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FILE.py")]
Terms = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=WEIGHT")]

Logging = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="LOG")]


def weighted_terms(texts: Sequence[str]) -> tuple[WeightedTerm, ...]:
    """What `--term` says.

    Raises:
        QuadrateError: If a text is not a name and a weight, or a name is there twice.
    """
    from quadrate.config import WeightedTerm

    terms: list[WeightedTerm] = []
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or math.isnan(weight) or any(term.name == name for term in terms):
            raise QuadrateError(
                "--term takes a registered loss and its weight, each loss once, as in edges=0.1;"
                f" got {text!r}"
            )
        terms.append(WeightedTerm(name, weight))
    return tuple(terms)
