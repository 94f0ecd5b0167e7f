"""uRDP (Zhang et al. 2021).

One encoder for all of distortion and perception, its price, and refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quadrate.experiments.claims.claim import Answer, Check, Claim, Spread, all_of
from quadrate.experiments.claims.comparisons import perception_price, refinement, universal_penalty
from quadrate.experiments.reports.summary import Row, require

_LITTLE = 10  # percent: URDC reports 11 % as a limit of universal codecs
_CURVE = "as a curve without numbers"
_INTERVAL = f"the whole interval lies below {_LITTLE} %"


def _penalty(score: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    more = Spread.of(universal_penalty(rows), f"{score}_ratio").percent()
    return more.text(1, " %"), more.below(_LITTLE)


def _price(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "w1_fresh_floor")
    price = perception_price(rows)
    mse, w1 = (Spread.of(price, f"{score}_ratio") for score in ("distortion_mse", "w1_fresh"))
    floor = max(row["w1_fresh_floor"] for row in rows)
    weights = f"from λp = {price['lambda_p_low']:g} to {price['lambda_p_high']:g}"
    measured = (
        f"MSE × {mse.text(2)} {weights}, for W1 × {w1.text(2)}; perfect realism (W1 {floor:.2f}) is"
        " not reached"
    )
    return measured, mse.below(2)


def _refined_below_first(rows: Sequence[Row]) -> tuple[str, Answer]:
    found = refinement(rows)[0]
    less = Spread.of(found, "refined_to_first_mse").percent()
    rates = f"{found['first_bits']:.2f} to {found['refined_bits']:.2f} bits"
    return (
        (
            f"{less.text(1, ' %', '+')} MSE from {rates} at λp = {found['lambda_p']:g}; the base"
            f" alone has {found['first_mse']:.4f}"
        ),
        less.below(0),
    )


def _refined_near_single(score: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    more = {
        found["lambda_p"]: Spread.of(found, f"refined_to_single_{score}").percent()
        for found in refinement(rows)
    }
    measured = ", ".join(
        f"{spread.text(1, ' %')} more at λp = {weight:g}" for weight, spread in more.items()
    )
    return measured, all_of(spread.below(_LITTLE) for spread in more.values())


_NEAR = "a refined code comes near one stage of the whole rate, in"


def _universal(rate: str, in_mse: str, in_w1: str, price: str) -> tuple[Check, ...]:
    """The checks of Fig. 4, from what was published."""
    factor = "the whole interval of the factor, from the smallest λp to the largest, lies below 2"
    return (
        Check(
            Claim("uRDP", f"universal penalty in MSE at {rate} is small", in_mse, _INTERVAL),
            partial(_penalty, "distortion_mse"),
        ),
        Check(
            Claim(
                "uRDP", f"universal penalty in perception (W1) at {rate} is small", in_w1, _INTERVAL
            ),
            partial(_penalty, "w1_fresh"),
        ),
        Check(
            Claim(
                "uRDP",
                "realism, as far as it is reached, costs at most 3 dB, a factor of 2 in MSE, at"
                f" {rate}",
                price,
                factor,
            ),
            _price,
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
        partial(_refined_near_single, "mse"),
    ),
    Check(
        Claim("uRDP", f"{_NEAR} W1", _CURVE, f"{_INTERVAL}, for each λp"),
        partial(_refined_near_single, "w1"),
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
