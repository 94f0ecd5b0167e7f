"""The results of a run as a table.

One row for each point, with its settings and scores: means and intervals over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from quadrate.core.table import Column, Table, number
from quadrate.evaluation.score import SCORES, Score
from quadrate.experiments.reports.summary import (
    KINDS,
    SETTINGS,
    Row,
    is_judged,
    kind_of,
    mean_over_seeds,
    quick_note,
    require,
)

_NEEDED = ("rate_bound_bits", "rate_entropy_bits", "distortion_mse", "w1_fresh", "sliced_w2sq")
_ALSO = {"bits_per_pixel": ("psnr_db",)}  # scores of a kind that other kinds' tables leave out
_DIGITS = 4  # significant ones, of the largest number in a column
_NORMAL_95 = 1.96


def results_table(rows: Iterable[Row]) -> Table:
    """The scores of points of any kind, next to what real images score.

    Settings that are the same in all rows stand in the caption.

    Args:
        rows: Scored points, of any number of seeds.

    Raises:
        QuadrateError: If there are no rows, or a column is missing.
    """
    means = mean_over_seeds(rows)
    kind = kind_of(means)
    if not kind:
        require(means, *_NEEDED, "train_cpu_seconds", *(["kid"] if is_judged(means) else []))
    names = [
        name
        for name in SETTINGS
        if name != "levels" and any(row.get(name) is not None for row in means)
    ]
    fixed = [name for name in names[1:] if not _varies(means, name)]
    settings = [
        Column(
            SETTINGS[name],
            [_setting(row.get(name, "full" if name == "protocol" else None)) for row in means],
            words=any(isinstance(row.get(name), str) for row in means),
        )
        for name in names
        if name not in fixed
    ]
    if _varies(means, "seeds"):
        settings.append(Column("seeds", [str(row["seeds"]) for row in means]))
    scores = [
        _column(score, means)
        for score in SCORES.values()
        if (score.is_main or score.name in _ALSO.get(kind, ()))
        and score.name not in SETTINGS
        and any(row.get(score.name) is not None for row in means)
    ]
    has_intervals = any("±" in cell for column in scores for cell in column.cells)
    seeds = _range([row["seeds"] for row in means], lambda value: f"{value:g}")
    sentences = [
        quick_note(means),
        ", ".join(f"{SETTINGS[name]} {_setting(means[0][name])}" for name in fixed)
        + (" throughout." if fixed else ""),
        _spread(seeds) if has_intervals or not kind else "",
        KINDS.get(kind, _TRADE_OFFS),
        _STRANGERS if any("accuracy_stranger_worst" in row for row in means) else "",
    ]
    return Table([*settings, *scores], " ".join(filter(None, sentences)), sections=not kind)


def _spread(seeds: str) -> str:
    if seeds != "1":
        return f"{seeds} seeds a point: means ± the half-width of the 95 % t-interval over them."
    return (
        "One seed a point; ± is the half-width of the 95 % interval over test images, where the"
        " score has one."
    )


def _column(score: Score, means: Sequence[Row]) -> Column:
    decimals = _decimals(score, means) if score.decimals is None else score.decimals
    heading = score.heading
    if score.floor:
        floors = [row[score.floor] for row in means if score.floor in row]
        word = "floor" if score.floor.endswith("_floor") else "clean"
        heading += (
            f"\n{word} {_range(floors, lambda value: number(score.factor * value, decimals))}"
        )
    return Column(heading, [_cell(score, row, decimals) for row in means])


def _cell(score: Score, row: Row, decimals: int) -> str:
    """The value, and ± half of its 95 % interval if that does not round to 0."""
    value = row.get(score.name)
    if value is None:
        return "–"
    half = number(score.factor * _half_interval(row, score.name), decimals)
    text = number(score.factor * value, decimals)
    return text if half in ("–", number(0, decimals)) else f"{text} ±{half}"


def _half_interval(row: Row, name: str) -> float:
    """Half of the interval over seeds; of one seed over test images; NaN if there is neither."""
    if f"{name}_high" in row:
        return float(row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return _NORMAL_95 * float(row.get(f"{name}_stderr", math.nan))


def _setting(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:g}"


def _varies(means: Sequence[Row], name: str) -> bool:
    return len({row.get(name) for row in means}) > 1


def _decimals(score: Score, means: Sequence[Row]) -> int:
    values = [abs(score.factor * row.get(score.name, math.nan)) for row in means]
    largest = max(filter(math.isfinite, values), default=0.0)
    return min(max(_DIGITS - 1 - math.floor(math.log10(largest)), 0), 7) if largest else _DIGITS


def _range(values: Iterable[float], text: Callable[[float], str]) -> str:
    """The one value that all have, or the lowest and the highest, as text."""
    present = sorted(values)
    if not present:
        return "–"
    return "–".join(dict.fromkeys((text(present[0]), text(present[-1]))))


_TRADE_OFFS = (
    "Rate: the bound Σ log2 L. Accuracies by the judge in the loss, an independent one, and one"
    " retrained on reconstructions. W1 (in Euclidean norms of an image) from below, by a fresh"
    " critic and, where measured, certified. KID in the independent judge's features; floor: real"
    " against real. CPU: training."
)
_STRANGERS = (
    "Strangers: judges trained on clean images that were never in the loss; the one that reads a"
    " point worst, and the mean of them."
)
