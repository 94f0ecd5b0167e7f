"""Curves over seeds on axes with names and units, for every figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quadrate.core.files import write_atomically
from quadrate.errors import QuadrateError
from quadrate.evaluation.score import SCORES
from quadrate.experiments.reports.summary import Row, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ for colour-blind eyes as well, and a marker each, for prints
# without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")

_PUBLISHED = {
    "published_w1": "published W1 (each run's own critic): not comparable",
    "published_accuracy": "published accuracy",
}
_STYLE: Any = {
    "figure.dpi": 160,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


# Accuracies of interest crowd below 1, so their axis is stretched there; the shift keeps 1 on it.
_ACCURACY_TICKS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)
_ACCURACY_SHIFT = 1.005


@dataclass(frozen=True)
class Series:
    """A curve: its label, the seeds of each point in drawing order, and its style.

    Colour, line and marker are numbers in the lists above.
    """

    label: str
    points: Sequence[Sequence[Row]]
    colour: int = 0
    line: int = 0
    marker: int | None = None
    joined: bool = True


@dataclass(frozen=True)
class Panel:
    """A pair of axes: the columns on x and y, and what is drawn."""

    x: str
    y: str
    series: Sequence[Series]
    title: str = ""


def draw_figure(grid: Sequence[Sequence[Panel]]) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels in rows and columns; `legend_below` explains it when everything is drawn.

    Raises:
        QuadrateError: If rows lack a column that a panel shows.
    """
    figure, axes = new_figure(len(grid), len(grid[0]))
    for i, panels in enumerate(grid):
        for j, panel in enumerate(panels):
            draw_panel(axes[i][j], panel)
    return figure, axes


def new_figure(
    rows: int, columns: int, width: float = 5.2, height: float = 3.9
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure in the house style with its axes, `width` by `height` inches each.

    Without pyplot, so that nothing global changes.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, height * rows + 0.3), layout="constrained")
        grid = figure.add_gridspec(rows, columns)
        axes = [[figure.add_subplot(grid[i, j]) for j in range(columns)] for i in range(rows)]
    return figure, axes


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw curves through the means over seeds, and the real-against-real floors."""
    for series in panel.series:
        draw_series(axes, series, panel.x, panel.y)
    rows = [row for series in panel.series for group in series.points for row in group]
    for name, line in ((panel.x, axes.axvline), (panel.y, axes.axhline)):
        floors = [row[f"{name}_floor"] for row in rows if f"{name}_floor" in row]
        if floors:
            line(
                math.fsum(floors) / len(floors),
                color="#777777",
                linestyle=":",
                linewidth=1,
                label="floor: real against real",
                zorder=1,
            )
    name_axes(axes, panel.x, panel.y)
    if panel.title:
        axes.set_title(panel.title)


def draw_series(axes: Axes, series: Series, x: str, y: str) -> None:
    """Draw one curve, with bars from the lowest to the highest seed.

    An interval from two or three seeds would hide the picture; the table has it.
    """
    require([row for group in series.points for row in group], x, y)
    (mean_x, reach_x), (mean_y, reach_y) = (
        _means_and_reaches(series.points, name) for name in (x, y)
    )
    axes.errorbar(
        mean_x,
        mean_y,
        xerr=reach_x,
        yerr=reach_y,
        label=series.label,
        color=COLOURS[series.colour % len(COLOURS)],
        marker=MARKERS[(series.colour if series.marker is None else series.marker) % len(MARKERS)],
        linestyle=LINES[series.line % len(LINES)] if series.joined else "none",
        linewidth=1.5,
        elinewidth=0.9,
        markersize=5,
        markerfacecolor="white" if series.line else None,
        zorder=3,
    )


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Name the axes by their columns, with units."""
    for name, label in ((x, axes.set_xlabel), (y, axes.set_ylabel)):
        label(SCORES[name].title if name in SCORES else _PUBLISHED.get(name, name))


def stretch_accuracy(axes: Axes) -> None:
    """Put a y axis of accuracies on the logarithm of the error, if it spans enough to gain by it.

    Call it when everything is drawn.
    """
    low, high = axes.get_ylim()
    if sum(low <= tick <= high for tick in _ACCURACY_TICKS) >= 3:
        axes.set_yscale(
            "function",
            functions=(
                lambda a: -np.log(np.maximum(_ACCURACY_SHIFT - a, 1e-9)),
                lambda y: _ACCURACY_SHIFT - np.exp(-y),
            ),
        )
        axes.autoscale(axis="y")  # margins for this scale
        low, high = axes.get_ylim()
        ticks = [tick for tick in _ACCURACY_TICKS if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def legend_below(figure: Figure) -> None:
    """One legend for all axes below them, each label once.

    Curves first, then what they are held against.
    """
    entries = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    labels = sorted(entries, key=lambda label: not hasattr(entries[label], "has_yerr"))
    columns = min(len(labels), 3 if len(labels) in (5, 6) else 4)
    figure.legend(
        [entries[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, PNG if there is no suffix.

    Raises:
        QuadrateError: If the format is unknown, or the file cannot be written.
    """
    kind, known = path.suffix.lstrip(".").lower() or "png", figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise QuadrateError(
            f"cannot draw {path}: no picture format {kind!r}; a name may end in"
            f" .{', .'.join(sorted(known))}"
        )
    write_atomically(
        path, lambda temporary: figure.savefig(temporary, format=kind, dpi=_STYLE["figure.dpi"])
    )


def _means_and_reaches(
    points: Sequence[Sequence[Row]], name: str
) -> tuple[list[float], tuple[list[float], list[float]]]:
    """Means over seeds, and how far below and above them the seeds lie."""
    values = [[float(row[name]) for row in group] for group in points]
    means = [math.fsum(group) / len(group) for group in values]
    # Rounding may put a mean of equal numbers a hair outside them.
    below = [max(mean - min(group), 0.0) for mean, group in zip(means, values, strict=True)]
    above = [max(max(group) - mean, 0.0) for mean, group in zip(means, values, strict=True)]
    return means, (below, above)
