"""The results as a table: one row an operating point, means and intervals over its seeds.

For the terminal and for Markdown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from quadrate.experiments.reports.summary import (
    Row,
    is_judged,
    is_quick,
    mean_over_seeds,
    quick_note,
    require,
)

if TYPE_CHECKING:
    from rich.table import Table

_WEIGHTS = {"noise_std": "noise", "lambda_d": "λd", "lambda_p": "λp", "lambda_c": "λc"}
_JUDGES = {"training": "train.", "independent": "indep.", "retrained": "retr."}
_PERCEPTION = {
    "w1_fresh": ("W1 fresh", 1),
    "w1_certified": ("W1 cert.", 1),
    "sliced_w2sq": ("sliced W2²\n×10³", 1000),
    "kid": ("KID ×10³", 1000),
}
_DIGITS = 4  # significant ones, of the largest number in a column
_NORMAL_95 = 1.96
_STAGE_WIDTH = 12


@dataclass(frozen=True)
class _Column:
    """A heading in short lines, and a cell a row."""

    heading: str
    cells: list[str]


def results_table(rows: Iterable[Row]) -> Table:
    """The table that the command line prints, for consoles of 100 characters or more.

    Scores beside what clean images score.

    Args:
        rows: Scored points, of any number of seeds.

    Raises:
        QuadrateError: If there are none, or a column is missing.
    """
    from rich import box
    from rich.table import Table

    means = mean_over_seeds(rows)
    stages, *columns = _columns(means)
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
        caption=_caption(means),
        caption_justify="left",
    )
    table.add_column("stage", no_wrap=True)
    for column in columns:
        # Where lines are too long, cells break between words (a number, its ±); no word is ever
        # cut.
        shortest = max(
            len(word) for text in (column.heading, *column.cells) for word in text.split()
        )
        table.add_column(column.heading, justify="right", min_width=shortest)
    cells = list(zip(*(column.cells for column in columns), strict=True))
    for i, stage in enumerate(stages.cells):
        if i and stage != stages.cells[i - 1]:
            table.add_section()
        table.add_row(_broken(stage) if not i or stage != stages.cells[i - 1] else "", *cells[i])
    return table


def markdown_table(rows: Iterable[Row]) -> str:
    """The same table as Markdown, with its caption below.

    Raises:
        QuadrateError: If there are no rows, or a column is missing.
    """
    means = mean_over_seeds(rows)
    columns = _columns(means)
    table = markdown(
        [" ".join(column.heading.split()) for column in columns],
        [column.cells for column in columns],
    )
    return f"{table}\n\n{_caption(means)}"


def markdown(headings: Sequence[str], columns: Sequence[Sequence[str]], words: bool = False) -> str:
    """A Markdown table from its columns.

    Of numbers, so that all but the first are aligned right, or of words.
    """
    lines = [
        [cell.replace("|", "\\|") for cell in line]
        for line in (headings, *zip(*columns, strict=True))
    ]
    rule = ["---"] * len(headings) if words else ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def number(value: float, decimals: int = 4, sign: str = "") -> str:
    """A number for a reader: `–` where there is none, `∞` where there is no limit."""
    if math.isnan(value):
        return "–"
    return f"{value:{sign}.{decimals}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def bits_text(bits: float) -> str:
    """A rate for a reader: `4.75 bits`, `12,544 bits`."""
    return f"{bits:.3g} bits" if bits < 1000 else f"{bits:,.0f} bits"


def _columns(means: Sequence[Row]) -> list[_Column]:
    require(
        means,
        "rate_bound_bits",
        "rate_entropy_bits",
        "distortion_mse",
        "w1_fresh",
        "sliced_w2sq",
        "train_cpu_seconds",
    )
    if is_judged(means):
        require(means, "kid")
    protocol = (
        [_Column("protocol", [str(row.get("protocol", "full")) for row in means])]
        if any(map(is_quick, means))
        else []
    )
    columns = [
        _Column("stage", [str(row["stage"]) for row in means]),
        *protocol,
        _Column("rate\nbits", [f"{row['rate_bound_bits']:.2f}" for row in means]),
        _Column("H(Z|U)\nbits", [f"{row['rate_entropy_bits']:.2f}" for row in means]),
        *(
            _Column(heading, [f"{row[name]:g}" for row in means])
            for name, heading in _WEIGHTS.items()
            if _varies(means, name)
        ),
        _Column("MSE\n×10³", _cells(means, "distortion_mse", 1000)),
    ]
    for judge, heading in _JUDGES.items():
        name = f"accuracy_{judge}"
        if judge != "training" or any(name in row for row in means):
            clean = _range(
                [row.get(f"{name}_clean") for row in means], lambda value: f"{100 * value:.2f}"
            )
            columns.append(
                _Column(f"acc. %\n{heading}\nclean {clean}", _cells(means, name, 100, 2))
            )
    for name, (heading, factor) in _PERCEPTION.items():
        if name in ("w1_certified", "kid") and not any(name in row for row in means):
            continue  # scored before there was this bound, or without a judge
        scale = partial(_scaled, factor=factor, decimals=_decimals(means, name, factor))
        floor = _range([row.get(f"{name}_floor") for row in means], scale)
        columns.append(_Column(f"{heading}\nfloor {floor}", _cells(means, name, factor)))
    return [*columns, _Column("CPU\ns", [f"{row['train_cpu_seconds']:.0f}" for row in means])]


def _broken(stage: str) -> str:
    """A stage's name, in two lines at a hyphen if it is long."""
    head = stage[:_STAGE_WIDTH].rfind("-") + 1
    return f"{stage[:head]}\n{stage[head:]}" if len(stage) > _STAGE_WIDTH and head else stage


def _caption(means: Sequence[Row]) -> str:
    """What the columns leave out.

    Weights that never change, what ± means, where the scores come from.
    """
    fixed = [
        f"{heading} {means[0][name]:g}"
        for name, heading in _WEIGHTS.items()
        if not _varies(means, name)
    ]
    seeds = _range([row["seeds"] for row in means], lambda value: f"{value:g}")
    sentences = [
        quick_note(means),
        f"{', '.join(fixed)} throughout." if fixed else "",
        (
            "One seed a point; ± is the half-width of the 95 % interval over test images, where the"
            " score has one."
            if seeds == "1"
            else f"{seeds} seeds a point: means ± the half-width of the 95 % t-interval over them."
        ),
        "Rate: the bound Σ log2 L.",
        (
            "Accuracies by the judge in the loss, an independent one, and one retrained on"
            " reconstructions."
        ),
        (
            "W1 (in Euclidean norms of an image) from below, by a fresh critic and, where measured,"
            " certified."
        ),
        "KID in the independent judge's features; floor: real against real.",
        "CPU: training.",
    ]
    return " ".join(filter(None, sentences))


def _varies(means: Sequence[Row], name: str) -> bool:
    return len({row[name] for row in means}) > 1


def _cells(
    means: Sequence[Row], name: str, factor: float = 1, decimals: int | None = None
) -> list[str]:
    """Value and ± of one score, equally rounded down the column."""
    decimals = _decimals(means, name, factor) if decimals is None else decimals
    cells = []
    for row in means:
        value, half = row.get(name), _half_interval(row, name)
        cell = "–" if value is None else number(factor * value, decimals)
        cells.append(
            cell
            if half is None or math.isnan(half)
            else f"{cell} ±{number(factor * half, decimals)}"
        )
    return cells


def _scaled(value: float, factor: float, decimals: int) -> str:
    return number(factor * value, decimals)


def _half_interval(row: Row, name: str) -> float | None:
    """Half of the 95 % interval over seeds.

    Of one seed, over test images, if the score has a standard error.
    """
    if f"{name}_high" in row:
        return float(row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return _NORMAL_95 * row[f"{name}_stderr"] if f"{name}_stderr" in row else None


def _decimals(means: Sequence[Row], name: str, factor: float) -> int:
    largest = max(
        (abs(factor * row[name]) for row in means if math.isfinite(row.get(name, math.nan))),
        default=0.0,
    )
    return min(max(_DIGITS - 1 - math.floor(math.log10(largest)), 0), 7) if largest else _DIGITS


def _range(values: Iterable[Any], text: Callable[[float], str]) -> str:
    """The one value that all have, or the lowest and the highest, as text."""
    present = sorted(value for value in values if value is not None)
    if not present:
        return "–"
    return "–".join(dict.fromkeys((text(present[0]), text(present[-1]))))
