"""The knob: blends of the faithful and the realistic decoder, against what is best.

Held against decoders that critics trained for points between, and against the law of distortion
and perception, on the same codes.

    quadrate train promises-mnist && quadrate train promises-mnist-10bit
    python tools/blending.py runs/promises-mnist-… runs/promises-mnist-10bit-…

Writes results/blending: results.csv, gaps.csv and blending.png, of all that is trained. If the
faithful decoder is E[X|Z] and the realistic one its optimal transport to real images, α·faithful +
(1-α)·realistic has the distortion D_min + (1-α)²·(D_b - D_min), the column `predicted_mse`, at the
squared distance P = α²·W2² to real images, and no decoder has less (Freirich, Michaeli and Meir
2021; Yan, Wen and Liu 2021): D(P) = D_min + (W2 - √P)²₊, where W2² = D_b - D_min. `law_mse` is D(P)
at the P of a row, with sliced squared W2 for P, in units of that of the faithful decoder: D_min +
(D_b - D_min)·(1 - √(P/P_faithful))².
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quadrate.config import OperatingPoint
from quadrate.core.files import write_text
from quadrate.evaluation import Protocol, mean_interval
from quadrate.evaluation.distortion_scores import distortion_mse
from quadrate.experiments.reports.panels import COLOURS, legend_below, new_figure, save_figure
from quadrate.experiments.runs import Run, machine, to_csv

OUT = Path(__file__).parents[1] / "results" / "blending"
WEIGHTS = [tenths / 10 for tenths in range(11)]  # of the faithful decoder
Rows = list[dict[str, Any]]


def main(*folders: str) -> None:
    """Score blends and decoders of runs, report the largest gaps, and draw the curves."""
    torch.set_num_threads(1)
    runs = [Run.open(folder) for folder in folders]
    rows = [row for run in runs for point in trained(run, "realistic") for row in knob(run, point)]
    found = [
        {"recipe": run.recipe.name, **gap}
        for run in runs
        for gap in gaps([row for row in rows if row["recipe"] == run.recipe.name])
    ]
    about = {key: machine()[key] for key in ("processor", "date")}
    write_text(OUT / "results.csv", to_csv([row | about for row in rows]))
    write_text(OUT / "gaps.csv", to_csv(found))
    for gap in found:
        print(gap)
    draw(rows, OUT / "blending.png")


def trained(run: Run, stage: str) -> list[OperatingPoint]:
    """The points of a stage that are trained already."""
    points = run.recipe.stage(stage).points
    return [point for point in points if (run.place(stage, point) / "model.safetensors").exists()]


def knob(run: Run, realistic: OperatingPoint) -> Rows:
    """The rows of one seed: blends in tenths, then each decoder that a critic trained."""
    seed, codec = realistic.seed, run.codec("realistic", realistic)
    direct = {
        point.key if point.lambda_p else "faithful": point
        for point in trained(run, "decoders")
        if point.seed == seed
    }
    for name, point in direct.items():
        codec.add_decoder(run.codec("decoders", point), name)
    protocol = Protocol()
    images = protocol.test_sample(run.source).images
    symbols = codec.encode(images, seed)

    def decoded(name: str) -> Tensor:
        return codec.decode(symbols, seed, decoder=name)

    def scores(pictures: Tensor) -> dict[str, float]:
        return {
            "distortion_mse": distortion_mse(images, pictures, protocol.batch).value,
            "sliced_w2sq": protocol.sliced_w2sq(images, pictures).value,
        }

    faithful, real = decoded("faithful"), decoded("realistic")
    blends = [scores(weight * faithful + (1 - weight) * real) for weight in WEIGHTS]
    rows: Rows = [
        {"kind": "blend", "weight": weight, "lambda_p": "", **blend}
        for weight, blend in zip(WEIGHTS, blends, strict=True)
    ]
    rows += [
        {"kind": "trained", "weight": "", "lambda_p": point.lambda_p, **scores(decoded(name))}
        for name, point in direct.items()
        if point.lambda_p
    ]
    most, least, blur = (
        blends[0]["distortion_mse"],
        blends[-1]["distortion_mse"],
        blends[-1]["sliced_w2sq"],
    )
    for row in rows:
        share = max(0.0, 1 - (row["sliced_w2sq"] / blur) ** 0.5)
        row["law_mse"] = least + share**2 * (most - least)
        row["predicted_mse"] = (
            least + (1 - row["weight"]) ** 2 * (most - least) if row["kind"] == "blend" else ""
        )
    return [{"recipe": run.recipe.name, "seed": seed, **row} for row in rows]


def above_trained(rows: Rows) -> float:
    """The most that blends lie above a trained decoder at its sliced W2²; negative: below all.

    Between tenths the curve of blends is interpolated on the axis of √P, on which it is convex, so
    that blends are better than that by at most a quarter of a percent.
    """
    blends = sorted(_of(rows, "blend"), key=lambda row: row["sliced_w2sq"])
    roots = [row["sliced_w2sq"] ** 0.5 for row in blends]
    mses = [row["distortion_mse"] for row in blends]
    return max(
        float(np.interp(row["sliced_w2sq"] ** 0.5, roots, mses)) / row["distortion_mse"] - 1
        for row in _of(rows, "trained")
    )


def above_law(rows: Rows) -> float:
    """The most that blends lie above D(P)."""
    return max(row["distortion_mse"] / row["law_mse"] - 1 for row in _of(rows, "blend"))


def from_prediction(rows: Rows) -> float:
    """The most that the MSE of blends differs from what their weights predict."""
    return max(abs(row["distortion_mse"] / row["predicted_mse"] - 1) for row in _of(rows, "blend"))


GAPS: dict[str, Callable[[Rows], float]] = {
    "blends above trained decoders": above_trained,
    "blends above D(P)": above_law,
    "blends from their predicted MSE": from_prediction,
}


def gaps(rows: Rows) -> Rows:
    """The largest gaps of a run in percent of MSE: means over seeds, and 95 % intervals."""
    own = sorted({row["seed"] for row in rows})
    found = []
    for name, gap in GAPS.items():
        values = [100 * gap([row for row in rows if row["seed"] == seed]) for seed in own]
        ends = zip(("percent_mse", "low", "high"), mean_interval(values), strict=True)
        found.append({"largest gap of": name, **dict(ends), "seeds": len(own)})
    return found


def _of(rows: Rows, kind: str) -> Rows:
    return [row for row in rows if row["kind"] == kind]


def _curve(rows: Sequence[dict[str, Any]], by: str, x: str) -> tuple[list[float], list[float]]:
    """Means over seeds of a column and of sliced W2², in the order of another column."""
    groups = [[row for row in rows if row[by] == value] for value in sorted({r[by] for r in rows})]
    return (
        [float(np.mean([row[x] for row in group])) for group in groups],
        [float(np.mean([row["sliced_w2sq"] for row in group])) for group in groups],
    )


def draw(rows: Rows, path: Path) -> None:
    """Draw √(sliced W2²) against MSE, a panel a run: blends, the law, and trained decoders."""
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    figure, (axes,) = new_figure(1, len(recipes))
    for axis, recipe in zip(axes, recipes, strict=True):
        own = [row for row in rows if row["recipe"] == recipe]
        for kind, by, x, label, style, colour in (
            ("trained", "lambda_p", "distortion_mse", "a critic's decoders", "o", COLOURS[0]),
            ("blend", "weight", "distortion_mse", "blends, in tenths", "s-", COLOURS[1]),
            ("blend", "weight", "law_mse", "D(P) = D_min + (W2 - √P)²", "--", COLOURS[2]),
        ):
            mses, squares = _curve(_of(own, kind), by, x)
            axis.plot(mses, np.sqrt(squares), style, label=label, color=colour)
        axis.set_title(recipe)
        axis.set_xlabel("MSE")
        axis.set_ylabel("sliced W2")
    legend_below(figure)
    save_figure(figure, path)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python tools/blending.py RUN_FOLDER...")
    main(*sys.argv[1:])
