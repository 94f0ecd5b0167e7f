"""What Quadrate's own decoders promise, before judges that took no part in their training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from quadrate.experiments.claims.claim import Answer, Check, Claim, Spread, all_of
from quadrate.experiments.reports.summary import Row, require

_FLOORS, _KERNEL, _REALISTIC_MSE = 4, 5, 2.0  # floors, percent, times
_LOST, _RECOGNIZABLE_MSE = 0.5, 1.35  # percentage points, times
_JUDGES = ("independent", "stranger.lenet-s2", "stranger.residual-s2")
Decide = Callable[[Sequence[Row]], tuple[str, Answer]]


def _decoders(rows: Sequence[Row], kind: str) -> list[tuple[Row, Row]]:
    """The rows of universal decoders of a kind, each with the faithful decoder of its seed."""
    require(rows, "stage", "seed", "lambda_p", "lambda_c")
    faithful = {
        row["seed"]: row
        for row in rows
        if row["stage"] != "encoder"
        and row.get("decoder", "direct") == "direct"
        and row["lambda_p"] == row["lambda_c"] == 0
    }
    own = [row for row in rows if row.get("decoder") == kind and row["stage"] != "encoder"]
    require(own, "seed")
    return [(row, faithful[row["seed"]]) for row in own]


def _near_the_floor(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "sliced_w2sq", "sliced_w2sq_floor")
    pairs = _decoders(rows, "flow")
    own = Spread.over(row["sliced_w2sq"] / row["sliced_w2sq_floor"] for row, _ in pairs)
    blur = Spread.over(row["sliced_w2sq"] / row["sliced_w2sq_floor"] for _, row in pairs)
    return f"{own.text(1)} times; faithful {blur.text(0)} times", own.below(_FLOORS)


def _same_features(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "kid")
    share = Spread.over(100 * row["kid"] / base["kid"] for row, base in _decoders(rows, "flow"))
    return share.text(1, " %"), share.below(_KERNEL)


def _mse_times(kind: str, most: float, rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "distortion_mse")
    pairs = _decoders(rows, kind)
    times = Spread.over(row["distortion_mse"] / base["distortion_mse"] for row, base in pairs)
    return f"× {times.text(2)}", times.below(most)


def _read_better(points: float, rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, *(f"accuracy_{judge}" for judge in _JUDGES))
    pairs = _decoders(rows, "labelled")
    more = {
        judge: Spread.over(
            100 * (row[f"accuracy_{judge}"] - base[f"accuracy_{judge}"]) for row, base in pairs
        )
        for judge in _JUDGES
    }
    measured = ", ".join(
        f"{judge.removeprefix('stranger.')} {spread.text(1, sign='+')}"
        for judge, spread in more.items()
    )
    return f"{measured} points", all_of(spread.above(points) for spread in more.values())


def _all_that_the_code_tells(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "accuracy_retrained", *(f"accuracy_{judge}" for judge in _JUDGES))
    lost = []
    for row, _ in _decoders(rows, "labelled"):
        told = max(
            other["accuracy_retrained"]
            for other in rows
            if other["seed"] == row["seed"] and other["stage"] != "encoder"
        )
        lost.append(100 * (told - min(row[f"accuracy_{judge}"] for judge in _JUDGES)))
    spread = Spread.over(lost)
    return f"the judge that reads it worst loses {spread.text(2)} points", spread.below(_LOST)


def _check(text: str, before: str, rule: str, decide: Decide) -> Check:
    return Check(Claim("Quadrate", text, before, rule), decide)


def _promises(
    rate: str, floors: str, kernel: str, prices: tuple[str, str], more: float
) -> tuple[Check, ...]:
    """The promises at a rate; what the decoders of version 0.1 had stands for "published"."""
    return (
        _check(
            f"realistic pictures at {rate} are distributed as real ones, to {_FLOORS} times what"
            " samples of real ones differ by",
            f"{floors} times (version 0.1)",
            "sliced W2² over its floor between real images surely lies below"
            f" {_FLOORS}, on the test images",
            _near_the_floor,
        ),
        _check(
            f"a classifier that no one trained against sees realistic pictures at {rate} as real",
            f"{kernel} of faithful pictures' distance (version 0.1)",
            "the kernel distance in the independent judge's features surely is below"
            f" {_KERNEL} % of that of faithful pictures",
            _same_features,
        ),
        _check(
            f"realism at {rate} costs no more than twice the least MSE",
            f"× {prices[0]} for less realism (version 0.1)",
            f"the ratio of MSEs surely lies below {_REALISTIC_MSE:g}",
            partial(_mse_times, "flow", _REALISTIC_MSE),
        ),
        _check(
            f"judges that no one trained for read recognizable pictures at {rate} better than"
            f" faithful ones, by {more:g} points",
            "no better (version 0.1)",
            "the gain of each of three judges, convolutional, LeNet-5 and residual, surely"
            f" is above {more:g} percentage points",
            partial(_read_better, more),
        ),
        _check(
            f"they read in them what the code at {rate} tells",
            "not measured",
            "the worst of the three surely is less than"
            f" {_LOST:g} percentage points below the best judge that was trained on pictures made"
            " of the same codes",
            _all_that_the_code_tells,
        ),
        _check(
            f"recognizable pictures at {rate} stay near the least MSE",
            f"× {prices[1]} (version 0.1)",
            f"the ratio of MSEs surely lies below {_RECOGNIZABLE_MSE:g}",
            partial(_mse_times, "labelled", _RECOGNIZABLE_MSE),
        ),
    )


CHECKS: dict[str, tuple[Check, ...]] = {
    "promises-mnist": _promises("4.75 bits", "27", "a third", ("1.43", "1.01"), 1.0),
    "promises-mnist-10bit": _promises("10 bits", "6", "a third", ("1.35", "1.01"), 0.5),
}
