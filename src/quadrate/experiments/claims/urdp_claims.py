"""uRDP (Zhang et al. 2021).

One encoder for all of distortion and perception, its price, and refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quadrate.experiments.claims.claim import Answer, Check, Claim, Spread, all_of
from quadrate.experiments.claims.comparisons import (
    AT_FLOOR,
    perfect_realism,
    refinement,
    universal_penalty,
)
from quadrate.experiments.claims.perception import on_better_w1
from quadrate.experiments.reports.summary import Row

_LITTLE = 10  # percent: URDC reports 11 % as a limit of universal codecs
_CURVE = "as a curve without numbers"
_INTERVAL = f"the whole interval lies below {_LITTLE} %"
_REACHED: dict[Answer, str] = {
    "yes": "reached",
    "no": "not reached",
    "undecided": "perhaps reached",
}


def _penalty(score: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    more = Spread.of(universal_penalty(rows, score), "ratio").percent()
    return more.text(1, " %"), more.below(_LITTLE)


def _perfect(rows: Sequence[Row]) -> tuple[str, Answer]:
    found = perfect_realism(rows)
    mse, share, w1 = (Spread.of(found, name) for name in ("distortion_mse_ratio", "w1_ratio", "w1"))
    reached = Spread.of(found, "w1_above").below(0)
    # The weights of a flow say nothing.
    kind = "flow" if found.get("decoder") == "flow" else f"λp = {found['lambda_p']:g}"
    measured = (
        f"{_REACHED[reached]}: the most realistic codec ({found['stage']}, {kind}) has W1"
        f" {w1.text(2)}, real images {found['w1_floor']:.3f}; it has {share.text(2)} times the W1"
        f" of the codec of least MSE, for {mse.text(2)} times its MSE"
    )
    return measured, all_of((reached, mse.below(2)))


def _refined_below_first(rows: Sequence[Row]) -> tuple[str, Answer]:
    found = refinement(rows, "distortion_mse")[0]
    less = Spread.of(found, "refined_to_first").percent()
    rates = f"{found['first_bits']:.2f} to {found['refined_bits']:.2f} bits"
    return (
        (
            f"{less.text(1, ' %', '+')} MSE from {rates} at λp = {found['lambda_p']:g}; the base"
            f" alone has {found['first']:.4f}"
        ),
        less.below(0),
    )


def _refined_near_single(score: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    more = {
        found["lambda_p"]: Spread.of(found, "refined_to_single").percent()
        for found in refinement(rows, score)
    }
    measured = ", ".join(
        f"{spread.text(1, ' %')} more at λp = {weight:g}" for weight, spread in more.items()
    )
    return measured, all_of(spread.below(_LITTLE) for spread in more.values())


_NEAR = "a refined code comes near one stage of the whole rate, in"


def _universal(rate: str, in_mse: str, in_w1: str, price: str) -> tuple[Check, ...]:
    """The checks of Fig. 4, from what was published."""
    rule = (
        "the most realistic codec of any stage surely exceeds the floor of W1 by less than"
        f" {100 * AT_FLOOR:g} % of what the codec of least MSE does, and surely has less than twice"
        " its MSE; W1 is bounded from below only, so realism is reached as far as the bounds see"
    )
    return (
        Check(
            Claim("uRDP", f"universal penalty in MSE at {rate} is small", in_mse, _INTERVAL),
            partial(_penalty, "distortion_mse"),
        ),
        Check(
            Claim(
                "uRDP", f"universal penalty in perception (W1) at {rate} is small", in_w1, _INTERVAL
            ),
            on_better_w1(partial(_penalty, "w1")),
        ),
        Check(
            Claim(
                "uRDP",
                f"perfect realism is reached at twice the least MSE (3 dB) or less, at {rate}",
                price,
                rule,
            ),
            on_better_w1(_perfect),
        ),
    )


_REFINED = (
    Check(
        Claim(
            "uRDP",
            "a second stage refines a base that still decodes alone",
            _CURVE,
            "the refined MSE lies surely below the base's",
        ),
        _refined_below_first,
    ),
    Check(
        Claim("uRDP", f"{_NEAR} MSE", _CURVE, f"{_INTERVAL}, for each λp"),
        partial(_refined_near_single, "distortion_mse"),
    ),
    Check(
        Claim("uRDP", f"{_NEAR} W1", _CURVE, f"{_INTERVAL}, for each λp"),
        on_better_w1(partial(_refined_near_single, "w1")),
    ),
)

CHECKS: dict[str, tuple[Check, ...]] = {
    "rdp-mnist": _universal(
        "4.75 bits",
        "about 2 to 3 %",
        "about equal, by each run's own critic",
        "× 1.6 at the strongest weight, at most × 2 in theory",
    ),
    "rdp-svhn": _universal("30 bits", _CURVE, _CURVE, "at most × 2 in theory"),
    "refine-mnist": _REFINED,
    "refine-svhn": _REFINED,
}
