"""The knob: blends of the faithful and the realistic decoder, in tenths, against what is best.

Against decoders that were trained for points between, and against the distortion-perception law.

    quadrate train promises-mnist && quadrate evaluate runs/promises-mnist-…
    python tools/blending.py runs/promises-mnist-…

Writes results/blending/results.csv and results/blending/blending.png. A blend α·faithful + (1-α)·
realistic of a perfectly realistic decoder that is an optimal transport of the faithful one has the
distortion D_min + (1-α)²·(D_b - D_min), in the column `predicted_mse`, and the squared distance to
real images α²·W2² (Freirich, Michaeli and Meir 2021; Yan, Wen, Liu 2021). So on the law's curve the
distortion is D_min + (D_b - D_min)·(1 - √(P/P_faithful))², with sliced squared W2 for P; `law_mse`
is that at the P of a row.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quadrate.core.files import write_text
from quadrate.evaluation import Protocol
from quadrate.evaluation.distortion_scores import distortion_mse
from quadrate.experiments.reports.panels import COLOURS, new_figure, save_figure
from quadrate.experiments.runs import Run, machine, read_results, to_csv
from quadrate.training.processes import one_thread

OUT = Path(__file__).parents[1] / "results" / "blending"
TENTHS = [i / 10 for i in range(11)]  # weights of the faithful decoder
Rows = list[dict[str, Any]]


def main(folder: Path) -> None:
    """Scores the blends, prints the largest gaps, and draws the curves."""
    run = Run.open(folder)
    _, scores = read_results(folder)
    direct = [
        row
        for row in scores
        if row["stage"] != "encoder"
        and row.get("decoder", "direct") == "direct"
        and row["lambda_c"] == 0
    ]
    with one_thread():
        rows = [row for seed in seeds(run) for row in knob(run, seed, direct)]
    about = {key: machine()[key] for key in ("processor", "date")}
    write_text(
        OUT / "results.csv", to_csv([row | {"recipe": run.recipe.name} | about for row in rows])
    )
    for name, gap in gaps(rows).items():
        print(f"{name}: {100 * gap:+.1f} % MSE")
    draw(rows, OUT / "blending.png")


def seeds(run: Run) -> list[int]:
    """Of the run's realistic decoders."""
    return sorted(point.seed for point in run.recipe.stage("realistic").points)


def knob(run: Run, seed: int, direct: Sequence[dict[str, Any]]) -> Rows:
    """The rows of one seed: blends in tenths, and the decoders that were trained."""
    (realistic,) = [p for p in run.recipe.stage("realistic").points if p.seed == seed]
    stage = run.recipe.stage("realistic")
    codec = run.codec(stage.base_stage, stage.base_of(realistic))
    codec.add_decoder(run.codec("realistic", realistic))
    test, protocol = Protocol().test_sample(run.source), Protocol()
    symbols = codec.encode(test.images, seed)
    ends = [codec.decode(symbols, seed, decoder=name) for name in codec.decoders]
    floor = next(row["sliced_w2sq_floor"] for row in direct)
    rows: Rows = []
    for weight in TENTHS:
        blend = weight * ends[0] + (1 - weight) * ends[1]
        rows.append(
            {
                "kind": "blend",
                "weight": weight,
                "lambda_p": "",
                "seed": seed,
                "distortion_mse": distortion_mse(test.images, blend, protocol.batch).value,
                "sliced_w2sq": protocol.sliced_w2sq(test.images, blend).value,
            }
        )
    rows += [
        {"kind": "trained", "weight": ""}
        | {key: row[key] for key in ("lambda_p", "seed", "distortion_mse", "sliced_w2sq")}
        for row in direct
        if row["seed"] == seed
    ]
    realistic_mse, least, blur = (
        *(rows[i]["distortion_mse"] for i in (0, 10)),
        rows[10]["sliced_w2sq"],
    )
    for row in rows:
        alpha = row["weight"]
        share = max(0.0, 1 - (row["sliced_w2sq"] / blur) ** 0.5)
        row["sliced_w2sq_floor"] = floor
        row["predicted_mse"] = (
            "" if alpha == "" else least + (1 - alpha) ** 2 * (realistic_mse - least)
        )
        row["law_mse"] = least + share**2 * (realistic_mse - least)
    return rows


def gaps(rows: Rows) -> dict[str, float]:
    """The largest relative gaps in MSE, means over seeds.

    Of blends above trained decoders at equal sliced W2² (negative: blends are better everywhere),
    above the law, and to what the law predicts for a weight.
    """
    blends, trained = curve(rows, "blend", "weight"), curve(rows, "trained", "lambda_p")
    ordered = sorted(blends, key=lambda row: row["sliced_w2sq"])
    roots = [row["sliced_w2sq"] ** 0.5 for row in ordered]
    mses = [row["distortion_mse"] for row in ordered]
    against = [
        float(np.interp(row["sliced_w2sq"] ** 0.5, roots, mses)) / row["distortion_mse"] - 1
        for row in trained
        if row["lambda_p"] > 0
    ]
    return {
        "blends above decoders trained for a point, at most": max(against),
        "blends above the law, at most": max(r["distortion_mse"] / r["law_mse"] for r in blends)
        - 1,
        "blends from the predicted MSE, at most": max(
            abs(r["distortion_mse"] / r["predicted_mse"] - 1) for r in blends
        ),
    }


def curve(rows: Rows, kind: str, by: str) -> list[dict[str, float]]:
    """Means over seeds of the rows of a kind, in the order of a column."""
    own = [row for row in rows if row["kind"] == kind]
    return [
        {
            name: float(np.mean([row[name] for row in own if row[by] == value]))
            for name in own[0]
            if isinstance(own[0][name], float | int)
        }
        for value in sorted({row[by] for row in own})
    ]


def draw(rows: Rows, path: Path) -> None:
    """Sliced W2² against MSE: blends, the law, and trained decoders."""
    figure, (axes,) = new_figure(1, 1)
    (axis,) = axes
    blends, trained = curve(rows, "blend", "weight"), curve(rows, "trained", "lambda_p")
    for points, x, label, style, colour in (
        (trained, "distortion_mse", "decoders trained for a point (critic)", "o", COLOURS[0]),
        (blends, "distortion_mse", "blends of faithful and realistic, in tenths", "s-", COLOURS[1]),
        (blends, "law_mse", "D(P) = D_min + (W2 - √P)²", "--", COLOURS[2]),
    ):
        axis.plot(
            [p[x] for p in points],
            [p["sliced_w2sq"] for p in points],
            style,
            label=label,
            color=colour,
        )
    axis.axhline(rows[0]["sliced_w2sq_floor"], color="gray", lw=0.8, label="real against real")
    axis.set_yscale("log")
    axis.set_xlabel("MSE")
    axis.set_ylabel("sliced squared W2")
    axis.legend(frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/blending.py RUN_FOLDER")
    main(Path(sys.argv[1]))
