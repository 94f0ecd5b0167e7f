"""RDPC (Wang et al. 2025).

Distortion, perception and classification against each other at fixed rates, and with a noisy
source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from quadrate.evaluation.score import JUDGES
from quadrate.experiments.claims.claim import Answer, Check, Claim, Spread, all_of
from quadrate.experiments.claims.comparisons import SAME_RATE_BITS, along_published_front
from quadrate.experiments.claims.perception import on_better_w1
from quadrate.experiments.claims.tradeoffs import (
    accuracy_against_perception,
    accuracy_price,
    by_rate,
    noise_trade_off,
)
from quadrate.experiments.reports.published_points import published_figure
from quadrate.experiments.reports.summary import POINT, Row, mean_over_seeds, require

_HARDLY = 2  # percentage points of accuracy
_LARGE_RATE_MSE = 0.0086  # the lowest of the insets
_VISIBLE = (
    0.5  # percentage points of accuracy; the published points of one rate scatter by a whole one
)


def bought_with_mse(judge: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    """MSE and accuracy from the smallest λc/λd to the largest at each rate, paired by seed.

    Yes if both rise surely at every rate.
    """
    require(rows, f"accuracy_{judge}")
    measured, answers = [], []
    for bits, own in by_rate(rows):
        low, high = (choose(map(_ratio, own)) for choose in (min, max))
        base, top = (
            {row["seed"]: row for row in own if _ratio(row) == ratio} for ratio in (low, high)
        )
        pairs = [(base[seed], top[seed]) for seed in sorted(base.keys() & top.keys())]
        mse = Spread.over(100 * (b["distortion_mse"] / a["distortion_mse"] - 1) for a, b in pairs)
        accuracy = Spread.over(
            100 * (b[f"accuracy_{judge}"] - a[f"accuracy_{judge}"]) for a, b in pairs
        )
        measured.append(
            f"{bits:g} bits: MSE {mse.text(1, ' %', '+')} for {accuracy.text(1, ' points', '+')} of"
            " accuracy"
        )
        answers.append(all_of((mse.above(0), accuracy.above(0))))
    return "; ".join(measured), all_of(answers)


def _front(rows: Sequence[Row]) -> tuple[str, Answer]:
    reached = [
        point for point in along_published_front(rows) if math.isfinite(point["percent_lower"])
    ]
    if not reached:
        return "no published accuracy is reached by all seeds", "undecided"
    least = min(reached, key=lambda point: point["percent_lower"])
    lower = Spread.of(least, "percent_lower")
    most = max(point["percent_lower"] for point in reached)
    measured = (
        f"{len(reached)} points of the published front are reached by all seeds; there MSE is lower"
        f" by {lower.mean:.1f} to {most:.1f} %, least at {least['rate_bits']:g} bits and accuracy"
        f" {least['accuracy']:.4f}: {lower.text(1, ' %')}"
    )
    return measured, all_of(Spread.of(point, "percent_lower").above(0) for point in reached)


def _highest_accuracy(rows: Sequence[Row]) -> tuple[str, Answer]:
    measured, answers = [], []
    for bits, own in by_rate(rows):
        published = [
            point["accuracy"]
            for point in published_figure("RDPC 9a")
            if abs(point["rate_bits"] - bits) < SAME_RATE_BITS
        ]
        if published:
            best = _best(own)
            accuracy = Spread.over(100 * row["accuracy_training"] for row in best)
            measured.append(
                f"{bits:g} bits: {accuracy.text(2, ' %')} (published {100 * max(published):.2f})"
            )
            answers.append(accuracy.above(100 * max(published)))
    return (
        (
            f"{'; '.join(measured)}; our λc/λd goes up to {max(map(_ratio, rows)):.3f}, the"
            " published to .043"
        ),
        all_of(answers),
    )


def _above_clean(judge: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    name = f"accuracy_{judge}"
    require(rows, name, f"{name}_clean")
    spreads = {
        bits: Spread.over(100 * (row[name] - row[f"{name}_clean"]) for row in _best(own))
        for bits, own in by_rate(rows)
    }
    clean = 100 * max(row[f"{name}_clean"] for row in rows)
    measured = "; ".join(
        f"{bits:g} bits: {spread.text(2, '', '+')}" for bits, spread in spreads.items()
    )
    return f"percentage points from its {clean:.2f} % on clean images, at {measured}", all_of(
        spread.above(0) for spread in spreads.values()
    )


def _best(rows: Sequence[Row]) -> list[Row]:
    """The seeds of the weight with the highest mean accuracy of the judge in the loss."""
    best = max(mean_over_seeds(rows), key=lambda row: row["accuracy_training"])
    return [row for row in rows if all(row[name] == best[name] for name in POINT)]


def _ratio(row: Row) -> float:
    """λc over λd: only their ratio counts."""
    return float(row["lambda_c"] / row["lambda_d"])


def _no_price_in_perception(judge: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    changes = {
        found["rate_bits"]: Spread.of(found, "change")
        for found in accuracy_against_perception(rows, judge)
    }
    measured = "; ".join(
        f"{bits:g} bits: {change.text(2, ' points', '+')}" for bits, change in changes.items()
    )
    return f"accuracy from the best W1 to the worst, regressed: {measured}", all_of(
        change.below(_VISIBLE) for change in changes.values()
    )


def _price(given: str, paid: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "accuracy_training", "accuracy_independent")
    names = {"distortion_mse": ("MSE", 4), "w1": ("W1", 2)}
    measured: list[str] = []
    answers: list[Answer] = []
    for found in accuracy_price(rows, given, paid):
        if math.isnan(found["given"]):
            measured.append(f"{found['rate_bits']:g} bits: no {names[given][0]} that all λc reach")
            answers.append("undecided")
            continue
        cost, gain = Spread.of(found, "paid_percent"), Spread.of(found, "accuracy_training_points")
        other = Spread.of(found, "accuracy_independent_points").text(1, "", "+")
        measured.append(
            f"{found['rate_bits']:g} bits at {names[given][0]}"
            f" {found['given']:.{names[given][1]}f}: {names[paid][0]} {cost.text(1, ' %', '+')} for"
            f" {gain.text(1, ' points', '+')} of accuracy (independent judge {other})"
        )
        answers.append(all_of((cost.above(0), gain.above(0))))
    return "; ".join(measured), all_of(answers)


def _hardly_depends(rows: Sequence[Row]) -> tuple[str, Answer]:
    """Accuracy, MSE and W1 from the smallest λc to the largest, paired by λp and seed."""
    require(rows, "accuracy_training", "accuracy_independent")
    low, high = (choose(row["lambda_c"] for row in rows) for choose in (min, max))
    base, top = (
        {(row["seed"], row["lambda_p"]): row for row in rows if row["lambda_c"] == c}
        for c in (low, high)
    )
    by_seed: dict[int, list[tuple[Row, Row]]] = {}
    for key in sorted(base.keys() & top.keys()):
        by_seed.setdefault(key[0], []).append((base[key], top[key]))

    def gain(column: str) -> Spread:
        return Spread.over(
            100 * sum(b[column] - a[column] for a, b in pairs) / len(pairs)
            for pairs in by_seed.values()
        )

    def more(column: str) -> Spread:
        return Spread.over(
            100 * (sum(b[column] / a[column] for a, b in pairs) / len(pairs) - 1)
            for pairs in by_seed.values()
        )

    accuracy = gain("accuracy_training")
    paid = f"MSE {more('distortion_mse').text(1, ' %', '+')}, W1 {more('w1').text(1, ' %', '+')}"
    other = gain("accuracy_independent").text(2, "", "+")
    return (
        f"{accuracy.text(2, ' points', '+')} of accuracy (independent judge {other}) for {paid}",
        accuracy.below(_HARDLY),
    )


def _lower_where_the_rate_does_not_bind(rows: Sequence[Row]) -> tuple[str, Answer]:
    least = min(mean_over_seeds(rows), key=lambda row: row["distortion_mse"])
    mse = Spread.over(
        row["distortion_mse"] for row in rows if all(row[name] == least[name] for name in POINT)
    )
    return f"{mse.text(4)} at λp = {least['lambda_p']:g}, λc = {least['lambda_c']:g}", mse.below(
        _LARGE_RATE_MSE
    )


def _noise(judge: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    found = noise_trade_off(rows, judge)
    prices = ", ".join(f"× {entry['price']:.2f} at σ = {entry['noise_std']:g}" for entry in found)
    slopes = [Spread.of(entry, "slope") for entry in found]
    measured = (
        f"{slopes[-1].text(2)} nats a unit of W1 at σ = {found[-1]['noise_std']:g},"
        f" {slopes[0].text(2)} at {found[0]['noise_std']:g}"
    )
    brought = all_of((slopes[-1].below(0), "no" if slopes[0].below(0) == "yes" else "yes"))
    return f"{measured}; the codec best at classification has {prices} of the best W1", brought


_NO_JUDGE = "without such a judge"
_NAMES = {
    "training": "the classifier in the loss",
    "independent": "an independent judge",
    "retrained": "a judge retrained on reconstructions",
}
_ABOVE = "accuracy lies surely above that judge's on clean images, at every rate"
_SLOPE = (
    f"from the lowest W1 to the highest, regressed accuracy surely rises by less than {_VISIBLE}"
    " points, at every rate"
)
BOUGHT = "from the smallest λc to the largest both rise surely, at every rate"


def _prices(given_perception: str, given_distortion: str) -> tuple[Check, ...]:
    """The checks of Figs. 10 and 11, from what was published."""
    in_mse, in_w1 = (
        f"at a given {given} accuracy is bought with {paid}"
        for given, paid in (("perception", "MSE"), ("distortion", "perception"))
    )
    return (
        Check(
            Claim("RDPC", in_mse, given_perception, BOUGHT),
            on_better_w1(partial(_price, "w1", "distortion_mse")),
        ),
        Check(
            Claim("RDPC", in_w1, given_distortion, BOUGHT),
            on_better_w1(partial(_price, "distortion_mse", "w1")),
        ),
    )


CHECKS: dict[str, tuple[Check, ...]] = {
    "rdc-mnist": (
        Check(
            Claim(
                "RDPC",
                "at a fixed rate accuracy is bought with MSE",
                "at 4.75 bits from 79.8 to 97.8 % for MSE .0460 to .0532 (Fig. 9a)",
                BOUGHT,
            ),
            partial(bought_with_mse, "training"),
        ),
        Check(
            Claim(
                "RDPC",
                "our MSE is below the published front where we reach its accuracy",
                "fronts at four rates (Fig. 9a)",
                "at each of these points our MSE is surely lower",
                of_published_data=True,
            ),
            _front,
        ),
        Check(
            Claim(
                "RDPC",
                "we reach the highest published accuracy",
                "up to 97.76, 98.27, 98.19 and 98.23 % in single runs",
                "our best weight's accuracy is surely higher, at every rate",
                of_published_data=True,
            ),
            _highest_accuracy,
        ),
        *(
            Check(
                Claim(
                    "RDPC",
                    "reconstructions are recognised better than clean images, says"
                    f" {_NAMES[judge]}",
                    published,
                    _ABOVE,
                ),
                partial(_above_clean, judge),
            )
            for judge, published in zip(
                JUDGES,
                ("97.76 to 98.27 % against its 97.65 % on clean images", _NO_JUDGE, _NO_JUDGE),
                strict=True,
            )
        ),
    ),
    "rdc-svhn": tuple(
        Check(
            Claim(
                "RDPC",
                f"at a fixed rate accuracy is bought with MSE, says {_NAMES[judge]}",
                had,
                BOUGHT,
            ),
            partial(bought_with_mse, judge),
        )
        for judge, had in zip(
            JUDGES,
            ("at 30 bits and W1 3.5 from 45.3 to 77.1 % (SVHN, Fig. 10b)", _NO_JUDGE, _NO_JUDGE),
            strict=True,
        )
    ),
    "rpc-mnist": tuple(
        Check(
            Claim(
                "RDPC",
                f"no trade-off of classification against perception, says {_NAMES[judge]}",
                published,
                _SLOPE,
            ),
            on_better_w1(partial(_no_price_in_perception, judge)),
        )
        for judge, published in zip(
            JUDGES, ("none is visible (Fig. 9b)", _NO_JUDGE, _NO_JUDGE), strict=True
        )
    ),
    "rdpc-mnist": _prices(
        "at 4.75 bits and W1 1.6 from 60.9 to 90.6 % for MSE .0697 to .0749 (Fig. 10a)",
        "at 4.75 bits and MSE .070 from 60.9 to 89.8 % for W1 1.30 to 2.23 (Fig. 11a)",
    ),
    "large-rate-mnist": (
        Check(
            Claim(
                "RDPC",
                "where the rate does not bind accuracy hardly depends on λc",
                "at 12,544 bits from 97.2 to 98.1 % over all weights (insets), where 4.75 bits span"
                " 18 points (Fig. 9a)",
                f"from the smallest λc to the largest accuracy surely rises by less than {_HARDLY}"
                " points",
            ),
            on_better_w1(_hardly_depends),
        ),
        Check(
            Claim(
                "RDPC",
                "where the rate does not bind our MSE is below the published",
                f"{_LARGE_RATE_MSE} to .0124 at 12,544 bits",
                f"our lowest MSE is surely below {_LARGE_RATE_MSE}",
                of_published_data=True,
            ),
            _lower_where_the_rate_does_not_bind,
        ),
    ),
    "rdpc-svhn": _prices(
        "at 30 bits and W1 3.5 from 45.3 to 77.1 % for MSE .0082 to .0097 (Fig. 10b)",
        "at 30 bits and MSE .0085 from 41.7 to 58.4 % for W1 2.00 to 3.80 (Fig. 11b)",
    ),
    "restore-mnist": tuple(
        Check(
            Claim(
                "RDPC",
                "noise in the source makes classification trade against perception, says"
                f" {_NAMES[judge]}",
                published,
                "cross-entropy regressed on W1 falls surely at the largest σ, and not at the"
                " smallest",
            ),
            on_better_w1(partial(_noise, judge)),
        )
        for judge, published in zip(
            JUDGES,
            ("in theory and as an effect of source noise", _NO_JUDGE, _NO_JUDGE),
            strict=True,
        )
    ),
}
