"""Times Quadrate's ways to run training, and the published loop (README.md explains the table)."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from quadrate.codecs import TradeoffCodec
from quadrate.config import OperatingPoint, Stage
from quadrate.core.files import read_json, read_rows, write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import RDPC_JUDGE, RATE_3x3, find_recipe
from quadrate.experiments.runs import machine
from quadrate.networks import find_family
from quadrate.sources import Source, Split, from_arrays, load_source
from quadrate.training import Assignment, Execution, find_judge, train_stage
from quadrate.training.loop import uses_bfloat16
from quadrate.training.processes import available_cores
from stopwatch import timed

CASES = {
    "plain": "rdc-mnist",
    "perception": "rdp-mnist",
}  # without and with a critic: the recipe whose points and settings are taken
EXECUTIONS: dict[str, tuple[Execution, ...]] = {
    "cpu": ("single", "spread", "stacked"),
    "cuda": ("single", "stacked"),
}  # a GPU is not spread over
PUBLISHED = "published loop"


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all measurements have in common.

    Attributes:
        source: The images, on the device.
        classifier: The frozen classifier of the loss, on the device.
        folder: Where the runs may write.
        workers: Processes of the spread execution.
        published_steps: Steps of the published loop to time.
    """

    source: Source
    classifier: nn.Module
    folder: Path
    workers: int
    published_steps: int

    def trainer(
        self, stage: Stage, full_epochs: int, execution: Execution, repeat: int
    ) -> tuple[dict[str, float], str]:
        """Trains a stage afresh; what it took, and a hash of all weights that came out."""
        folder = self.folder / f"{stage.name}-{execution}-{repeat}"
        assignment = Assignment(
            stage, self.source, find_family("compact"), self.classifier, folder, {}
        )
        seconds = timed(lambda: train_stage(assignment, execution, self.workers))
        places = [assignment.place(point) for point in stage.points]
        models = [place / "model.safetensors" for place in places]
        training_cpu = sum(TradeoffCodec.load(model).details["cpu_seconds"] for model in models)
        count, scale = len(models), full_epochs / stage.training.epochs
        sha = hashlib.sha256()
        for model in models:
            for tensor_name, tensor in sorted(safetensors.torch.load_file(model).items()):
                sha.update(tensor_name.encode() + tensor.numpy().tobytes())
        run = {
            "wall_seconds_a_point": seconds.wall / count,
            "cpu_seconds_a_point": seconds.cpu / count,
            "training_cpu_seconds_a_point": training_cpu / count,
            # What is not training (start-up, files) is paid once, however many epochs follow; of
            # the wall time it is not told apart.
            "projected_cpu_seconds_a_point": (seconds.cpu + (scale - 1) * training_cpu) / count,
            "projected_wall_seconds_a_point": scale * seconds.wall / count,
            "validation_mse": statistics.mean(
                read_rows(place / "metrics.jsonl")[-1]["validation_mse"] for place in places
            ),
        }
        return run, sha.hexdigest()

    def published(self, point: OperatingPoint) -> dict[str, float]:
        """Times the published loop on one point.

        It costs the same for all, as it does everything whatever the weights.
        """
        from published_loop import run  # not above, where each worker process would import it too

        return run(self.source, self.classifier, point, self.published_steps)


def points_of(recipe: str, count: int) -> tuple[OperatingPoint, ...]:
    """Points of a first stage at 4.75 bits that weigh more than distortion, with further seeds."""
    chosen = [
        p
        for p in find_recipe(recipe).stages[0].points
        if p.levels == RATE_3x3 and p.seed == 0 and (p.lambda_p or p.lambda_c)
    ]
    return tuple(
        dataclasses.replace(chosen[i % len(chosen)], seed=i // len(chosen)) for i in range(count)
    )


def measure_case(bench: Bench, case: str, options: argparse.Namespace) -> dict[str, Any]:
    """All executions and the published loop in turn, as often as asked, in rotated order."""
    settings = dataclasses.replace(
        find_recipe(CASES[case]).stages[0].training, precision=options.precision
    )
    stage = Stage(
        case,
        points_of(CASES[case], options.points),
        training=dataclasses.replace(settings, epochs=options.epochs),
    )
    device = bench.source.train.images.device
    kinds: list[Execution | None] = [*EXECUTIONS[device.type], None]  # None is the published loop
    runs: dict[str, list[dict[str, float]]] = {kind or PUBLISHED: [] for kind in kinds}
    weights: dict[str, set[str]] = {"single": set(), "spread": set(), "stacked": set()}
    for repeat in range(options.repeats):
        for kind in kinds[repeat % len(kinds) :] + kinds[: repeat % len(kinds)]:
            print(
                f"{case}, {repeat + 1} of {options.repeats}: {kind or PUBLISHED} ...",
                file=sys.stderr,
                flush=True,
            )
            if kind is None:
                runs[PUBLISHED].append(bench.published(stage.points[0]))
            else:
                run, digest = bench.trainer(stage, settings.epochs, kind, repeat)
                runs[kind].append(run)
                weights[kind].add(digest)
    return {
        "recipe": CASES[case],
        "points": [point.key for point in stage.points],
        "epochs": options.epochs,
        "full_epochs": settings.epochs,
        "batch": settings.batch,
        "precision": ("bfloat16" if uses_bfloat16(settings.precision, device) else "float32"),
        "spread_equals_single": (
            len(weights["single"] | weights["spread"]) == 1 if weights["spread"] else None
        ),
        "runs": runs,
    }


def summarize(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a case and execution.

    Medians over the repeats, and by what factor the published loop costs more (median, least,
    most).
    """
    clock = "cpu" if result["device"] == "cpu" else "wall"
    rows = []
    for case, measured in result["cases"].items():
        published = [
            run[f"projected_{clock}_seconds_a_point"] for run in measured["runs"][PUBLISHED]
        ]
        for kind, runs in measured["runs"].items():
            row: dict[str, Any] = {"case": case, "execution": kind}
            for column in (
                "wall_seconds_a_point",
                "cpu_seconds_a_point",
                "training_cpu_seconds_a_point",
                f"projected_{clock}_seconds_a_point",
            ):
                row[column] = (
                    statistics.median(run[column] for run in runs) if column in runs[0] else None
                )
            ratios = [
                theirs / run[f"projected_{clock}_seconds_a_point"]
                for theirs, run in zip(published, runs, strict=True)
            ]
            row |= {
                "published_ratio": statistics.median(ratios),
                "least_ratio": min(ratios),
                "most_ratio": max(ratios),
            }
            rows.append(row)
    return rows


def table(result: dict[str, Any]) -> str:
    """The summary as Markdown."""
    clock = "cpu" if result["device"] == "cpu" else "wall"
    whole = f"whole training, {clock.replace('cpu', 'CPU')} s a point"
    heads = [
        "case",
        "execution",
        "wall s a point",
        "CPU s a point",
        "of these training",
        whole,
        "published ÷ this",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    for row in result["summary"]:
        case, published = result["cases"][row["case"]], row["execution"] == PUBLISHED
        measured = [row[f"{column}_seconds_a_point"] for column in ("wall", "cpu", "training_cpu")]
        cells = [
            row["case"],
            row["execution"],
            *("–" if value is None else f"{value:.1f}" for value in measured),
        ]
        cells.append(
            f"{row[f'projected_{clock}_seconds_a_point']:,.0f}"
            + " (projected)" * (published or case["epochs"] < case["full_epochs"])
        )
        cells.append(
            "1"
            if published
            else (
                f"{row['published_ratio']:.1f} ({row['least_ratio']:.1f} to"
                f" {row['most_ratio']:.1f})"
            )
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    bits = {
        True: "spread and single gave the same weights bit for bit",
        False: "SPREAD AND SINGLE GAVE DIFFERENT WEIGHTS",
        None: "nothing was spread",
    }
    for name, case in result["cases"].items():
        rows = [
            row
            for row in result["summary"]
            if row["case"] == name and row["execution"] != PUBLISHED
        ]
        quickest = min(rows, key=lambda row: row["wall_seconds_a_point"])["execution"]
        settings = (
            f"{len(case['points'])} points, {case['epochs']} of {case['full_epochs']} epochs, batch"
            f" {case['batch']}, {case['precision']}"
        )
        lines.append(
            f"- {name}: {settings}; quickest is {quickest}; {bits[case['spread_equals_single']]}."
        )
    where, source = result["machine"], result["source"]
    sizes = " + ".join(f"{source[split]:,}" for split in ("train", "validation", "test"))
    lines.append(
        f"- {source['name']} ({sizes} images), {result['repeats']} repeats, {result['workers']}"
        f" workers; {where['processor']},"
    )
    lines.append(
        f"  {where.get('gpu', 'no GPU')}, torch {where['torch']}, {where['date']}, load"
        f" {where['load_average_before']} before; `{result['command']}`."
    )
    return "\n".join(lines)


def find_source(name: str, images: int | None) -> Source:
    """MNIST, or scikit-learn's digits enlarged to its shape.

    Every split is cut by one factor, so that about `images` are left to train on.
    """
    try:
        source = load_source(name)
    except QuadrateError as error:
        print(f"{error}\nGoing on with digits.", file=sys.stderr)
        source = load_source("digits")
    share = min(1.0, images / len(source.train)) if images else 1.0

    def cut(split: Split) -> tuple[Tensor, Tensor]:
        count = max(1, round(share * len(split)))
        pictures = split.images[:count]
        if source.name == "digits":  # 8×8 to 24×24, and a rim of two pixels
            pictures = nn.functional.pad(
                pictures.repeat_interleave(3, 2).repeat_interleave(3, 3), (2, 2, 2, 2)
            )
        return pictures, split.labels[:count]

    return from_arrays(
        source.name, cut(source.train), cut(source.test), cut(source.validation), source.classes
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it goes into the results' file."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise QuadrateError(
            "--device cuda: this machine (or this build of torch) has no GPU; use --device cpu"
        )
    where = machine() | {
        "system": platform.platform(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    if options.device == "cuda":
        where["gpu"] = torch.cuda.get_device_name()
    source = find_source(options.data, options.images).to(options.device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            judge = find_judge(RDPC_JUDGE, source, folder)
        except QuadrateError:  # its file is not here: one of the same architecture costs the same
            judge = find_judge("paper", source, folder)
        bench = Bench(source, judge.module, folder, options.workers, options.published_steps)
        cases = {case: measure_case(bench, case, options) for case in CASES}
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": where,
        "device": options.device,
        "workers": options.workers,
        "repeats": options.repeats,
        "source": {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "train": len(source.train),
            "validation": len(source.validation),
            "test": len(source.test),
        },
        "classifier": judge.name,
        "cases": cases,
    }
    return result | {"summary": summarize(result)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=tuple(EXECUTIONS), default="cpu")
    parser.add_argument(
        "--data",
        choices=("mnist", "digits"),
        default="mnist",
        help="digits, enlarged to 28x28, stand in where MNIST cannot be had",
    )
    parser.add_argument("--points", type=int, default=4, help="operating points a case")
    parser.add_argument(
        "--epochs",
        type=int,
        default=2,
        help=(
            "epochs that Quadrate trains each point; the recipe's number leaves nothing to project"
        ),
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="Quadrate's; the published loop is in float32",
    )
    parser.add_argument(
        "--published-steps",
        type=int,
        default=60,
        help="steps of the published loop that are timed; even",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--workers", type=int, default=available_cores(), help="processes of the spread execution"
    )
    parser.add_argument(
        "--images",
        type=int,
        help="train on about so many images, and cut the other splits alike; for a quick try",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder for execution-cpu.json or execution-cuda.json",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="measure nothing; print the table of a results' file",
    )
    options = parser.parse_args()
    try:
        if options.table:
            print(table(read_json(options.table)))
            return
        result = measure(options)
        path = options.results / f"execution-{options.device}.json"
        write_text(path, json.dumps(result, indent=1) + "\n")
    except QuadrateError as error:
        sys.exit(f"error: {error}")
    print(f"{table(result)}\n\nwritten to {path}")
    if any(case["spread_equals_single"] is False for case in result["cases"].values()):
        sys.exit("error: spread and single gave different weights")


if __name__ == "__main__":
    main()
