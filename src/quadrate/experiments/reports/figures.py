"""Figures of trade-offs: what varies among the rows of a run decides which one is drawn."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from quadrate.config import OperatingPoint
from quadrate.core.table import bits_text
from quadrate.evaluation.intervals import pareto_set
from quadrate.experiments.reports.grids import mosaic
from quadrate.experiments.reports.panels import (
    COLOURS,
    Panel,
    Series,
    draw_figure,
    draw_series,
    legend_below,
    name_axes,
    new_figure,
    save_figure,
    stretch_accuracy,
)
from quadrate.experiments.reports.published_points import published_figure
from quadrate.experiments.reports.summary import (
    POINT,
    Row,
    by_point,
    is_judged,
    quick_note,
    require,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 6  # images in the demo's figure, large enough to see
_PUBLISHED_MSE = {
    "rdc-mnist": "RDPC 9a",
    "rdpc-mnist": "RDPC 10a",
    "large-rate-mnist": "RDPC inset-a",
}  # accuracies by the judge that ours are trained with
_PUBLISHED_W1 = {
    "rpc-mnist": "RDPC 9b",
    "rdpc-mnist": "RDPC 11a",
    "rdpc-svhn": "RDPC 11b",
    "large-rate-mnist": "RDPC inset-b",
}

Runs = Sequence[tuple[str, Sequence[Row]]]


def plot_run(recipe_name: str, rows: Sequence[Row], path: Path) -> None:
    """Draw the trade-off that a run varies; see `plot_runs`."""
    plot_runs([(recipe_name, rows)], path)


def plot_runs(runs: Runs, path: Path) -> None:
    """Draw the trade-off that runs vary, overlaid.

    There is a curve for each run and stage (and rate, or noise level). What varies decides:

    * several noise levels: accuracy and cross-entropy against perception;
    * a refined stage: distortion and perception against rate;
    * λp alone, or no images with labels: perception against distortion;
    * λc alone, one stage: accuracy against distortion;
    * λc, several stages: accuracy and cross-entropy against distortion, one column of panels a λp;
    * λp and λc, one stage without a distortion term: accuracy against perception, points without
      curves;
    * λp and λc, one stage: accuracy against distortion and against perception, one curve a λp;
    * anything else: accuracy and perception against distortion, points without curves.

    Where a recipe has published points of MSE and accuracy, these lie under ours, with their front.
    Published W1 is by each run's own critic and does not compare with ours, so it has a panel to
    itself.

    Args:
        runs: Pairs of a recipe's name and its scored points; equal names are numbered.
        path: The picture; its suffix names the format.

    Raises:
        QuadrateError: If there are no rows, a column is missing, or the file cannot be written.
    """
    for _, own in runs or [("", [])]:
        require(own, *POINT, "seed", "rate_bound_bits")
    names = [name for name, _ in runs]
    runs = [
        (f"{name} ({i})" if names.count(name) > 1 else name, own)
        for i, (name, own) in enumerate(runs, 1)
    ]
    grid = _panels(runs, [row for _, own in runs for row in own])
    figure, axes = draw_figure(grid)
    for panel, axis in (
        (panel, axis)
        for panels, row in zip(grid, axes, strict=True)
        for panel, axis in zip(panels, row, strict=True)
    ):
        if (panel.x, panel.y) == ("distortion_mse", "accuracy_training") and (
            published := _published(runs, _PUBLISHED_MSE)
        ):
            _draw_published(axis, panel.series, published)
        if "accuracy" in panel.y:
            stretch_accuracy(axis)
    legend_below(figure)
    if note := quick_note(row for _, own in runs for row in own):
        figure.suptitle(note, fontsize=9, y=1.02)
    save_figure(figure, path)


def demo_figure(
    sweep_rows: Sequence[Row],
    decoder_rows: Sequence[Row],
    originals: Tensor,
    reconstructions: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Draw the demo: the curve of the sweep, and the universal decoders.

    The decoders are points on the curve, and rows of reconstructions of the same codes.

    Args:
        sweep_rows: Scored points of the end-to-end sweep.
        decoder_rows: Scored points of the universal stage, each labelled by its purpose.
        originals: Images, float (N, C, H, W) in [0, 1].
        reconstructions: Of the same codes, by the decoders' names; each of the shape of
            `originals`.
        path: The picture; its suffix names the format.

    Raises:
        QuadrateError: If there are no rows, a column is missing, shapes differ, or the file cannot
            be written.
    """
    judge = _judge([*sweep_rows, *decoder_rows])
    figure, [[curve, pictures]] = new_figure(1, 2, width=5.4, height=4.2)
    x, y = "distortion_mse", f"accuracy_{judge}"
    draw_series(
        curve, Series("end-to-end, one encoder a point", _ordered(by_point(sweep_rows))), x, y
    )
    for i, group in enumerate(by_point(decoder_rows), 1):
        weights = {name: group[0][name] for name in ("lambda_d", "lambda_p", "lambda_c")}
        purpose = OperatingPoint(**weights, decoder=group[0].get("decoder", "direct")).purpose
        require(group, "w1_fresh")
        w1 = sum(row["w1_fresh"] for row in group) / len(group)
        draw_series(
            curve, Series(f"one encoder, {purpose} decoder (W1 {w1:.2f})", [group], i), x, y
        )
    name_axes(curve, x, y)
    stretch_accuracy(curve)
    curve.legend(loc="best", frameon=False, fontsize=8)
    grid = mosaic([images[:_SHOWN] for images in (originals, *reconstructions.values())])
    pictures.imshow(grid, interpolation="nearest")
    pictures.set_title("the same codes, decoded by purpose", fontsize=10)
    pictures.grid(False)
    height = grid.shape[0] / (1 + len(reconstructions))
    pictures.set_yticks(
        [(i + 0.5) * height for i in range(1 + len(reconstructions))],
        [name.capitalize() for name in ("original", *reconstructions)],
    )
    pictures.set_xticks([])
    pictures.tick_params(length=0)
    pictures.spines[:].set_visible(False)
    save_figure(figure, path)


def _panels(runs: Runs, rows: Sequence[Row]) -> list[list[Panel]]:
    judge = _judge(rows)
    accuracy = f"accuracy_{judge}"
    cross_entropy = f"cross_entropy_{judge}_nats"
    mse = "distortion_mse"
    if _varied(rows, "noise_std") and is_judged(rows):
        series = _series(runs)
        return [
            [Panel(x, y, series) for x in ("w1_fresh", "sliced_w2sq")]
            for y in (accuracy, cross_entropy)
        ]
    if {"first", "refined"} <= {row["stage"] for row in rows}:
        series = _refinement_series(runs)
        return [[Panel("rate_bound_bits", y, series) for y in (mse, "w1_fresh")]]
    if _varies_alone(rows, "lambda_p") or not is_judged(rows):
        series = _series(runs, joined=_varies_alone(rows, "lambda_p"))
        return [[Panel(mse, y, series) for y in ("w1_fresh", "sliced_w2sq")]]
    if _varies_alone(rows, "lambda_c"):
        if len({row["stage"] for row in rows}) == 1:
            others = ("independent",) if judge == "training" else ()
            return [[Panel(mse, f"accuracy_{name}", _series(runs)) for name in (judge, *others)]]
        return _by_lambda_p(runs, rows, (accuracy, cross_entropy))
    if len({row["stage"] for row in rows}) == 1 and _varied(rows, "lambda_p"):
        return _grid(runs, rows, judge)
    series = _series(runs, joined=False)
    return [[Panel(mse, y, series) for y in (accuracy, "w1_fresh")]]


def _grid(runs: Runs, rows: Sequence[Row], judge: str) -> list[list[Panel]]:
    """Panels of a stage in which λp and λc both vary."""
    mse, w1 = "distortion_mse", "w1_fresh"
    accuracies = [f"accuracy_{name}" for name in dict.fromkeys((judge, "independent"))]
    figure = _published(runs, _PUBLISHED_W1)
    if not any(row["lambda_d"] for row in rows):
        series = _series(runs, joined=False)
        return [
            [Panel(w1, accuracy, series) for accuracy in accuracies]
            + ([_published_w1(figure, series)] if figure else [])
        ]
    series = _series(runs, curve_a_perception=True)
    panels = [[Panel(x, accuracy, series) for x in (mse, w1)] for accuracy in accuracies]
    return (
        [*panels[:1], [panels[1][1], _published_w1(figure, series)]]
        if figure and len(panels) > 1
        else panels
    )


def _published_w1(figure: str, ours: Sequence[Series]) -> Panel:
    """A published figure's points on axes of their own.

    A rate that we have too takes its colour.
    """
    colours = {round(series.points[0][0]["rate_bound_bits"], 1): series.colour for series in ours}
    groups: dict[float, list[list[Row]]] = {}
    for point in published_figure(figure):
        rate = 0.0 if math.isnan(point["rate_bits"]) else point["rate_bits"]
        groups.setdefault(rate, []).append(
            [{"published_w1": point["w1"], "published_accuracy": point["accuracy"]}]
        )
    free = iter(range(len(colours), len(colours) + len(groups)))
    series = []
    for rate, points in sorted(groups.items()):
        colour = colours[round(rate, 1)] if round(rate, 1) in colours else next(free)
        series.append(
            Series(
                f"published, {bits_text(rate)}" if rate else "published, rate unknown",
                points,
                colour,
                1,
                joined=False,
            )
        )
    return Panel(
        "published_w1",
        "published_accuracy",
        series,
        f"published ({figure.replace(' ', ', Fig. ')})",
    )


def _by_lambda_p(runs: Runs, rows: Sequence[Row], scores: Sequence[str]) -> list[list[Panel]]:
    """A row of panels a score, a column a λp.

    The end that all stages of a column share (`-wasserstein`) is left out of their labels.
    """
    columns = []
    for weight in sorted({row["lambda_p"] for row in rows}):
        series = _series(
            [(name, [row for row in own if row["lambda_p"] == weight]) for name, own in runs]
        )
        title = f"λp = {weight:g}" + (", with" if weight else ", without") + " the Wasserstein term"
        columns.append(
            [
                Panel("distortion_mse", score, series, title if i == 0 else "")
                for i, score in enumerate(scores)
            ]
        )
    return [list(panels) for panels in zip(*columns, strict=True)]


def _series(runs: Runs, joined: bool = True, curve_a_perception: bool = False) -> list[Series]:
    """A curve for each run, stage (or λp), rate and noise level.

    Its label says what of these differs between curves.
    """
    groups: dict[tuple[str, ...], list[list[Row]]] = {}
    rows = [row for _, own in runs for row in own]
    noisy = bool(_varied(rows, "noise_std"))
    rates = bool(_varied(rows, "levels"))
    end = _common_end({row["stage"] for row in rows})
    for name, own in runs:
        for point in by_point(own) if own else []:
            row = point[0]
            kind = (
                f"noise σ = {row['noise_std']:g}" if noisy else str(row["stage"]).removesuffix(end)
            )
            kind = f"λp = {row['lambda_p']:g}" if curve_a_perception else kind
            rate = bits_text(row["rate_bound_bits"]) if rates else ""
            groups.setdefault((name, kind, rate), []).append(point)
    differing = [i for i in range(3) if len({key[i] for key in groups}) > 1] or [1]
    joined = joined and not _varied(rows, "lambda_d")
    if curve_a_perception:  # colours for rates, lines and markers for λp
        kinds, bits = (list(dict.fromkeys(key[i] for key in groups)) for i in (1, 2))
        return [
            Series(
                ", ".join(key[i] for i in differing),
                _ordered(points),
                bits.index(key[2]),
                kinds.index(key[1]),
                kinds.index(key[1]),
                joined,
            )
            for key, points in groups.items()
        ]
    what = list(dict.fromkeys(key[1:] for key in groups))
    names = [name for name, _ in runs]
    return [
        Series(
            ", ".join(key[i] for i in differing),
            _ordered(points),
            what.index(key[1:]),
            names.index(key[0]),
            joined=joined,
        )
        for key, points in groups.items()
    ]


def _refinement_series(runs: Runs) -> list[Series]:
    """For each λp a line of the first and the refined stage, and a point of the single stage."""
    series = []
    for number, (name, own) in enumerate(runs):
        prefix = f"{name}: " if len(runs) > 1 else ""
        points = {
            stage: [point for point in by_point(own) if point[0]["stage"] == stage]
            for stage in ("first", "refined", "single")
        }
        for i, point in enumerate(points["refined"]):
            weight = point[0]["lambda_p"]
            series.append(
                Series(
                    f"{prefix}first stage, then refined with λp {weight:g}",
                    [*points["first"][:1], point],
                    i,
                    number,
                    marker=0,
                )
            )
            alone = [other for other in points["single"] if other[0]["lambda_p"] == weight]
            if alone:
                series.append(
                    Series(
                        f"{prefix}single stage, λp {weight:g}",
                        alone,
                        i,
                        number,
                        marker=6,
                        joined=False,
                    )
                )
    return series


def _published(runs: Runs, figures: Mapping[str, str]) -> str:
    """The published figure of one of the runs; empty if no run has one."""
    return next(
        (figures[name] for label, _ in runs if (name := label.split(" (")[0]) in figures), ""
    )


def _draw_published(axes: Axes, curves: Sequence[Series], figure: str) -> None:
    """The published points of each curve's rate in the curve's colour, and their Pareto front."""
    for bits, colour in sorted(
        {(series.points[0][0]["rate_bound_bits"], series.colour) for series in curves}
    ):
        points = [
            (point["mse"], point["accuracy"])
            for point in published_figure(figure)
            if abs(point["rate_bits"] - bits) < 0.05
        ]
        if points:
            style: dict[str, Any] = {"color": COLOURS[colour % len(COLOURS)], "zorder": 2}
            axes.plot(
                *zip(*points, strict=True),
                linestyle="none",
                marker="x",
                markersize=3.5,
                markeredgewidth=0.7,
                alpha=0.6,
                **style,
            )
            axes.plot(*zip(*pareto_set(points), strict=True), linestyle="--", linewidth=1, **style)
    axes.plot(
        [],
        [],
        linestyle="none",
        marker="x",
        markersize=3.5,
        markeredgewidth=0.7,
        color="#555555",
        label=f"published points ({figure.replace(' ', ', Fig. ')})",
    )
    axes.plot([], [], linestyle="--", linewidth=1, color="#555555", label="their Pareto front")


def _judge(rows: Sequence[Row]) -> str:
    """The judge whose scores are drawn: the one in the loss, if all points have it."""
    return "training" if rows and all("accuracy_training" in row for row in rows) else "independent"


def _ordered(points: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
    """Points along their curve: by rising λc, then λp."""
    return sorted(points, key=lambda point: (point[0]["lambda_c"], point[0]["lambda_p"]))


def _varied(rows: Sequence[Row], name: str) -> set[Any]:
    """The values of a column, if there is more than one."""
    values = {row[name] for row in rows}
    return values if len(values) > 1 else set()


def _varies_alone(rows: Sequence[Row], name: str) -> bool:
    """Whether a weight varies within some stage, and the other one within no stage."""
    other = {"lambda_p": "lambda_c", "lambda_c": "lambda_p"}[name]
    stages = [
        [row for row in rows if row["stage"] == stage] for stage in {row["stage"] for row in rows}
    ]
    return any(_varied(own, name) for own in stages) and not any(
        _varied(own, other) for own in stages
    )


def _common_end(stages: set[str]) -> str:
    """The common end of the names of several stages, from a hyphen on."""
    end = os.path.commonprefix([stage[::-1] for stage in stages])[::-1] if len(stages) > 1 else ""
    return end[end.index("-") :] if "-" in end else ""
