"""URDC (Nguyen et al. 2025).

Universal decoders for distortion and classification, and what a Wasserstein term changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quadrate.errors import QuadrateError
from quadrate.experiments.claims.claim import Answer, Check, Claim, Spread
from quadrate.experiments.claims.comparisons import shared_seeds, urdc_mses
from quadrate.experiments.claims.rdpc_claims import BOUGHT, bought_with_mse
from quadrate.experiments.reports.summary import Row

_BySeed = dict[str, dict[int, float]]


def _stays(rows: Sequence[Row]) -> tuple[str, Answer]:
    mses = _without(rows)
    return _where(mses), _to_middle(mses).above(1)


def _leaves(rows: Sequence[Row]) -> tuple[str, Answer]:
    mses = _with(rows)
    return _where(mses), _to_middle(mses).below(1)


def _narrows(rows: Sequence[Row]) -> tuple[str, Answer]:
    without, term = _without(rows), _with(rows)
    apart, near = (_percent(mses, "best") for mses in (without, term))
    fewer = Spread.over(apart[seed] - near[seed] for seed in shared_seeds(apart, near))
    best, lowest = (
        f"from {_mean(without, name)} to {_mean(term, name)}" for name in ("best", "lowest")
    )
    return (
        (
            f"{fewer.text(1)} percentage points nearer; the best end-to-end MSE goes {best}, the"
            f" lowest universal one {lowest}"
        ),
        fewer.above(0),
    )


def _where(mses: _BySeed) -> str:
    best, encoder = (Spread.over(_percent(mses, other).values()) for other in ("best", "encoder"))
    return (
        f"lowest universal {best.text(1, ' %', '+')} from the best end-to-end MSE,"
        f" {encoder.text(1, ' %', '+')} from the encoder's"
    )


def _percent(mses: _BySeed, other: str) -> dict[int, float]:
    """How far the lowest universal MSE lies above another one, by seed, in percent."""
    lowest, base = mses["lowest"], mses[other]
    return {seed: 100 * (lowest[seed] / base[seed] - 1) for seed in shared_seeds(lowest, base)}


def _to_middle(mses: _BySeed) -> Spread:
    """The lowest universal MSE over the middle of the best end-to-end and the encoder's MSE."""
    lowest, best, encoder = (mses[name] for name in ("lowest", "best", "encoder"))
    return Spread.over(
        2 * lowest[seed] / (best[seed] + encoder[seed])
        for seed in shared_seeds(lowest, best)
        if seed in encoder
    )


def _mean(mses: _BySeed, name: str) -> str:
    return f"{sum(mses[name].values()) / len(mses[name]):.4f}"


def _without(rows: Sequence[Row]) -> _BySeed:
    found = urdc_mses(rows)
    if 0 not in found:
        raise QuadrateError(
            "no universal decoders without a Wasserstein term; λp:"
            f" {', '.join(f'{weight:g}' for weight in found)}"
        )
    return found[0]


def _with(rows: Sequence[Row]) -> _BySeed:
    found = urdc_mses(rows)
    if not max(found):
        raise QuadrateError("no universal decoders with a Wasserstein term: each has λp = 0")
    return found[max(found)]


def _checks(published: tuple[str, str, str]) -> tuple[Check, ...]:
    stays = "universal decoders cannot leave their encoder's MSE"
    leaves = "with a Wasserstein term universal decoders can leave their encoder's MSE"
    narrows = "a Wasserstein term brings universal decoders nearer to the best end-to-end MSE"
    middle = "between the best end-to-end MSE and the encoder's"
    return (
        Check(
            Claim(
                "URDC",
                stays,
                published[0],
                f"the lowest universal MSE lies surely above the middle {middle}",
            ),
            _stays,
        ),
        Check(
            Claim(
                "URDC",
                leaves,
                published[1],
                f"the lowest universal MSE lies surely below the middle {middle}",
            ),
            _leaves,
        ),
        Check(
            Claim("URDC", narrows, published[2], "the distance, paired by seed, is surely smaller"),
            _narrows,
        ),
    )


CHECKS: dict[str, tuple[Check, ...]] = {
    "urdc-mnist": _checks(
        (
            "11 % above the best, at the encoder's",
            "as a figure: universal decoders from .047 on, end-to-end from .046 (read by eye)",
            "11 % without it, about 2 % with it (read by eye)",
        )
    ),
    "urdc-mnist-6bit": _checks(("for 4.75 bits only",) * 3),
    "urdc-mnist-rates": (
        Check(
            Claim(
                "URDC",
                "at a fixed rate classification is bought with MSE",
                "at 4.75 bits cross-entropy from .971 to .271 nats for MSE .0469 to .0499 (Fig. 4)",
                BOUGHT,
            ),
            partial(bought_with_mse, "training"),
        ),
    ),
}
