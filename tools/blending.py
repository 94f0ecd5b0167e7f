"""Two decoders and their blends against decoders trained for the points between (uRDP, Fig. 4a).

All stand on the encoder of rdp-mnist.

    quadrate train rdp-mnist && quadrate evaluate runs/rdp-mnist-…
    python tools/blending.py runs/rdp-mnist-…

Writes results/blending/results.csv and results/blending/blending.png. A blend with weight α on the
MMSE decoder has the distortion D(α) = mmse + (1-α)²(D_b - mmse), D_b that of the other decoder;
`predicted_mse` is that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from quadrate.codecs import TradeoffCodec
from quadrate.core.files import write_text
from quadrate.evaluation import evaluate
from quadrate.experiments.reports.panels import COLOURS, new_figure, save_figure
from quadrate.experiments.runs import Run, machine, read_results, to_csv
from quadrate.training.judges import find_judge
from quadrate.training.processes import one_thread

OUT = Path(__file__).parents[1] / "results" / "blending"
WEIGHTS = (0.25, 0.5, 0.75)  # of the faithful decoder
COLUMNS = (
    "distortion_mse",
    "w1_fresh",
    "w1_fresh_floor",
    "sliced_w2sq",
    "sliced_w2sq_floor",
    "kid",
    "accuracy_independent",
)


def main(folder: Path) -> None:
    """Scores the blends and draws them."""
    run = Run.open(folder)
    stage = run.recipe.stage("universal")
    _, scores = read_results(folder)
    trained = [row for row in scores if row["stage"] == stage.name]
    rows: list[dict[str, Any]] = [
        {"kind": "trained", **{k: row[k] for k in ("lambda_p", "seed", *COLUMNS)}}
        for row in trained
    ]
    with one_thread():
        judges = {
            "training": None,
            "independent": find_judge(
                run.recipe.independent_judge, run.source, run.root / "judges", seed=1
            ),
        }
        for seed in sorted({point.seed for point in stage.points}):
            points = sorted(
                (point for point in stage.points if point.seed == seed),
                key=lambda point: point.lambda_p,
            )
            codec = run.codec(stage.name, points[0]).add_decoder(run.codec(stage.name, points[-1]))
            ends = [
                next(
                    row for row in trained if row["seed"] == seed and row["lambda_p"] == p.lambda_p
                )
                for p in (points[0], points[-1])
            ]
            for weight in WEIGHTS:
                blend = dict(zip(codec.decoders, (weight, 1 - weight), strict=True))
                score = evaluate(
                    _reconstruct(codec, blend), run.source, judges, cache_dir=run.root / "floors"
                )
                mmse, other = (row["distortion_mse"] for row in ends)
                predicted = mmse + (1 - weight) ** 2 * (other - mmse)
                rows.append(
                    {
                        "kind": "blend",
                        "weight": weight,
                        "seed": seed,
                        **{k: score[k] for k in COLUMNS},
                        "predicted_mse": predicted,
                    }
                )
                print(rows[-1], flush=True)
    rows = [
        {**row, "recipe": run.recipe.name, **{k: machine()[k] for k in ("processor", "date")}}
        for row in rows
    ]
    keys = list(dict.fromkeys(key for row in reversed(rows) for key in row))
    write_text(
        OUT / "results.csv", to_csv([{key: row.get(key, "") for key in keys} for row in rows])
    )
    draw(rows, OUT / "blending.png")


def _reconstruct(codec: TradeoffCodec, blend: dict[str, float]) -> Any:
    def reconstruct(images: Tensor, seed: int) -> Tensor:
        return codec.round_trip(images, seed, blend)

    return reconstruct


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Perception against MSE, means over seeds.

    Trained decoders, and blends of the two at the ends.
    """
    figure, (axes,) = new_figure(1, 2)
    trained = _curve([row for row in rows if row["kind"] == "trained"], "lambda_p")
    ends = [trained[0], trained[-1]]
    blends = _curve([row for row in rows if row["kind"] == "blend"], "weight")[::-1]
    for axis, column, title in zip(
        axes, ("w1_fresh", "sliced_w2sq"), ("W1, fresh critic", "sliced squared W2"), strict=True
    ):
        for curve, label, colour, style in (
            (trained, "decoders trained for each point", COLOURS[0], "o-"),
            ([ends[0], *blends, ends[1]], "blends of two decoders", COLOURS[1], "s--"),
        ):
            axis.plot(
                [row["distortion_mse"] for row in curve],
                [row[column] for row in curve],
                style,
                color=colour,
                label=label,
            )
        axis.set_xlabel("MSE")
        axis.set_ylabel(title)
        axis.legend(frameon=False)
    save_figure(figure, path)


def _curve(rows: Sequence[dict[str, Any]], by: str) -> list[dict[str, float]]:
    groups = sorted({row[by] for row in rows})
    return [
        {
            column: float(np.mean([row[column] for row in rows if row[by] == group]))
            for column in COLUMNS
        }
        for group in groups
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/blending.py RUN_FOLDER")
    main(Path(sys.argv[1]))
