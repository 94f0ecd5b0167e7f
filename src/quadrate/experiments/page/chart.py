"""The numbers of a chart.

Curves of means over seeds with intervals, single seeds, floors, and published points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from quadrate.core.table import bits_text
from quadrate.evaluation.score import SCORES, is_quick
from quadrate.experiments.page.page_data import (
    ReportedRun,
    ScoredPoint,
    varied,
    weights_text,
)
from quadrate.experiments.reports.published_points import published_points
from quadrate.experiments.reports.summary import (
    Row,
    interval,
    is_judged,
    point_of,
)

_TAGS = (
    "run",
    "rate",
    "noise",
    "stage",
    "weight",
)  # what tells curves apart, in the order of its claim to the colours
_TOGETHER = ("distortion_mse", "accuracy_independent")
_JUDGED = {"accuracy": "accuracy_training", "cross_entropy_nats": "cross_entropy_training_nats"}
_Group = list[ScoredPoint]  # the seeds of one point


def chart(runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """Everything that `page.js` draws of runs on one source.

    Returns:
        `scores`, labels by column, those that every point has; `x` and `y`, the columns to begin
        with; `tags`, what tells curves apart; `intervals`, whether bars are drawn at first (in a
        chart of several runs they would hide it); `curves`; `references`, floors and clean scores,
        and those that make sense `against` some columns only; of a single run `published`, points
        to lay underneath. The interval of one seed is null.
    """
    names = _numbered([run.name for run in runs])
    curves = [curve for run, name in zip(runs, names, strict=True) for curve in _curves(run, name)]
    rows = [row for run in runs for row in run.rows]
    scores = {
        score.name: score.title
        for score in SCORES.values()
        if all(score.name in row for row in rows)
    }
    tags = _telling_tags(curves) or ["stage"]
    for curve in curves:
        curve["label"] = ", ".join(curve["tags"][tag] for tag in tags if curve["tags"][tag])
        for point in curve["points"]:
            point["mean"] = {
                name: _interval([seed["scores"][name] for seed in point["seeds"]])
                for name in scores
            }
    alone = len(runs) == 1
    x, y = _first_axes(rows) if alone or not is_judged(rows) else _TOGETHER
    return {
        "scores": scores,
        "x": x if x in scores else next(iter(scores)),
        "y": y if y in scores else list(scores)[-1],
        "tags": tags,
        "intervals": alone,
        "curves": curves,
        "references": _references(rows) + (_realism_bounds(runs[0]) if alone else []),
        "published": _published(runs[0].name) if alone else [],
    }


def by_curve(run: ReportedRun) -> Iterator[tuple[list[_Group], bool]]:
    """The points of each stage, rate and noise level as curves along their weights.

    Each point is a list of its seeds; the second value says whether the points are joined. If λp
    and λc form a grid, there is a curve along λc for each λp. Weights that are neither a grid nor a
    path stay single points.
    """
    groups: dict[tuple[Any, ...], _Group] = {}
    for point in run.points:
        groups.setdefault(point_of(point.row), []).append(point)
    parts: dict[tuple[Any, ...], list[_Group]] = {}
    for group in groups.values():
        row = group[0].row
        parts.setdefault(
            (*(row[name] for name in ("stage", "levels", "noise_std")), is_quick(row)), []
        ).append(group)
    for part in parts.values():
        part.sort(key=lambda group: (group[0].row["lambda_c"], group[0].row["lambda_p"]))
        perception, classification = (
            {group[0].row[name] for group in part} for name in ("lambda_p", "lambda_c")
        )
        if (
            len(part) == len(perception) * len(classification)
            and min(len(perception), len(classification)) > 1
        ):
            for weight in sorted(perception):
                yield [group for group in part if group[0].row["lambda_p"] == weight], True
        else:
            yield part, len(part) <= max(len(perception), len(classification))


def _curves(run: ReportedRun, name: str) -> list[dict[str, Any]]:
    curves = []
    for points, joined in by_curve(run):
        row = points[0][0].row
        rows = [group[0].row for group in points]
        tags = {
            "run": name,
            "rate": bits_text(row["rate_bound_bits"]),
            "noise": f"noise σ = {row['noise_std']:g}" if row["noise_std"] else "",
            "stage": f"{row['stage']}{', quick scores' if is_quick(row) else ''}",
            "weight": "several λp" if varied(rows, "lambda_p") else f"λp {row['lambda_p']:g}",
        }
        curves.append(
            {
                "tags": tags,
                "joined": joined and len(points) > 1,
                "points": [_point(group) for group in points],
            }
        )
    return curves


def _point(group: _Group) -> dict[str, Any]:
    row = group[0].row
    seeds = [
        {
            "id": point.identifier,
            "seed": point.row["seed"],
            "scores": {name: point.row[name] for name in SCORES if name in point.row},
        }
        for point in group
    ]
    return {
        "label": weights_text(row),
        "stage": f"{row['stage']}, {bits_text(row['rate_bound_bits'])}",
        "seeds": seeds,
    }


def _interval(values: Sequence[float]) -> list[float | None]:
    found = interval("score", [float(value) for value in values])
    return [value if math.isfinite(value) else None for value in found.values()]


def _telling_tags(curves: Sequence[dict[str, Any]]) -> list[str]:
    """The tags that tell curves apart, without those that follow from the others."""
    telling: list[str] = []
    for tag in _TAGS:
        known = {tuple(curve["tags"][name] for name in telling) for curve in curves}
        if len(
            {(*(curve["tags"][name] for name in telling), curve["tags"][tag]) for curve in curves}
        ) > len(known):
            telling.append(tag)
    return telling


def _first_axes(rows: Sequence[Row]) -> tuple[str, str]:
    """The axes that show what the rows vary, as in `quadrate.experiments.reports.figures`."""
    judge = "training" if all("accuracy_training" in row for row in rows) else "independent"
    if varied(rows, "noise_std") and is_judged(rows):
        return "w1_fresh", f"accuracy_{judge}"
    if {"first", "refined"} <= {row["stage"] for row in rows}:
        return "rate_bound_bits", "distortion_mse"
    return "distortion_mse", f"accuracy_{judge}" if varied(rows, "lambda_c") else "w1_fresh"


def _references(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What real images score: the floors of perception, and each judge on clean images."""
    return [
        {"score": score.name, "label": score.floor_label, "value": value}
        for score in SCORES.values()
        if score.floor
        for value in dict.fromkeys(
            float(f"{row[score.floor]:.6g}") for row in rows if score.floor in row
        )
    ]


def _realism_bounds(run: ReportedRun) -> list[dict[str, Any]]:
    """Twice the MSE of the faithful decoder, if an encoder has several decoders.

    Perfect realism from the same codes takes no more than twice the least possible MSE (Freirich et
    al. 2021; docs/theory.md), which is at most the MSE of the decoder trained for MSE alone.
    """
    stages = run.recipe.stages if run.recipe else ()
    universal = {stage.name for stage in stages if stage.mode == "universal"}
    bounds = []
    for points, _ in by_curve(run):
        row = points[0][0].row
        faithful = [
            group for group in points if group[0].row["lambda_p"] == group[0].row["lambda_c"] == 0
        ]
        if (
            row["stage"] in universal
            and faithful
            and varied([group[0].row for group in points], "lambda_p")
        ):
            mses = [point.row["distortion_mse"] for point in faithful[0]]
            label = (
                f"twice the MSE of the faithful decoder ({row['stage']},"
                f" {bits_text(row['rate_bound_bits'])})"
            )
            bounds.append(
                {
                    "score": "distortion_mse",
                    "against": [name for name in SCORES if SCORES[name].floor == f"{name}_floor"],
                    "label": label,
                    "value": 2 * math.fsum(mses) / len(mses),
                }
            )
    return bounds


def _published(recipe_name: str) -> list[dict[str, Any]]:
    """Published points by figure and kind, for axes of MSE and a classifier's scores.

    Published W1 is by each run's own critic and compares with nothing.
    """
    sets: dict[tuple[str, str], list[list[Any]]] = {}
    for point in published_points(recipe_name):
        rate = bits_text(point["rate_bits"]) if math.isfinite(point["rate_bits"]) else ""
        # RDPC's classifier for MNIST is the judge that the recipes train with.
        own = point["figure"].startswith("RDPC") and recipe_name.endswith("mnist")
        theirs = ", by the judge in the loss" if own else ", by their classifier"
        for name, score in _JUDGED.items():
            if math.isfinite(point["mse"]) and math.isfinite(point[name]):
                label = f"published, {point['kind']} ({point['figure']}{theirs})"
                sets.setdefault((score, label), []).append([point["mse"], point[name], rate])
    return [
        {"x": "distortion_mse", "y": score, "label": label, "points": points}
        for (score, label), points in sets.items()
    ]


def _numbered(names: list[str]) -> list[str]:
    return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]
