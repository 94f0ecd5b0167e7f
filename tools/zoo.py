"""Make the codecs in the package, each with a model card, from evaluated runs of promises-….

quadrate train promises-mnist && quadrate evaluate runs/promises-mnist-…
python tools/zoo.py runs/promises-mnist-… runs/promises-mnist-10bit-…
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import torch

from quadrate.codecs import Batch, TradeoffCodec, compress
from quadrate.codecs.zoo_index import write_index
from quadrate.config import OperatingPoint
from quadrate.core import draws
from quadrate.core.files import write_text
from quadrate.evaluation import conditional_entropy_bits
from quadrate.experiments.runs import Run, machine, read_results, to_csv

ZOO = Path(__file__).parents[1] / "src" / "quadrate" / "codecs" / "zoo"
RESULTS = Path(__file__).parents[1] / "results" / "zoo"
DECODERS = ("faithful", "realistic", "recognizable")

CARD = """# {name}

{bound:.2f}-bit codes for {source} ({height} × {width}): one encoder, and three decoders that read its codes.

    codec = quadrate.Codec.load("{name}")
    data = codec.compress(images)                       # uint8 or float in [0, 1], (N, {channels}, {height}, {width})
    pictures = codec.decompress(data, decoder="realistic")

| decoder | MSE | {judges} | sliced W2², times its floor | kernel distance |
| --- | ---: | {bars} | ---: | ---: |
{rows}

Columns of names are what judges of these architectures read, which no one trained the codec against; on clean test images they read {clean}.
Sliced W2² is the distance of the distribution of pictures to that of real ones, over what it is between real ones; the kernel distance is that
of the features of the first judge. Scores are those of this codec's seed before its weights were rounded; `results/{recipe}` has three seeds.

| bound, Σ log2 L | sum of marginal entropies H(Z_i\\|U_i) | joint entropy H(Z\\|U) | .quad file, everything included |
| ---: | ---: | ---: | ---: |
| {bound:.3f} | {marginal:.3f} | {joint:.3f} ± {joint_error:.3f} | {file:.3f} |

In bits an image, on the {tests:,} test images.

* Trained on {trained:,} training images of {source} by `quadrate train {recipe}`, seed 0; {weights}.
* Made by `python tools/zoo.py` on {processor}, {date}. Weights are rounded to 8 bits, and stored as float16; file of {size:.1f} MB.
* For pictures like those of {source} only. The realistic decoder invents detail, another for each seed of a file. The recognizable one decides for a class
  and draws it: where it errs, the picture shows a clear wrong one. No fairness or safety claims. License: Apache-2.0, as the package.
"""


def main(*folders: str) -> None:
    """Write a codec a run, their cards, their index, and results/zoo/files.csv."""
    torch.set_num_threads(1)
    table = [_make(Run.open(folder)) for folder in folders]
    write_index(TradeoffCodec.load)
    about = {key: machine()[key] for key in ("processor", "date")}
    write_text(RESULTS / "files.csv", to_csv([row | about for row in table]))


def _make(run: Run) -> dict[str, Any]:
    """Write the codec of a run, and its card; return its row of files.csv."""
    points = _points(run)
    first, *others = (run.codec(stage, point) for stage, point in points.values())
    for name, other in zip(list(points)[1:], others, strict=True):
        first.add_decoder(other, name)
    codec = first.to_float16(bits=8).freeze(run.source)
    name = f"{run.source.name}-{round(codec.rate_bound_bits, 2):g}bit"
    codec.details = {
        "name": name,
        "recipe": run.recipe.name,
        "source": run.source.name,
        "fingerprint": run.source.fingerprint,
        **machine(),
    }
    path = ZOO / f"{name}.safetensors"
    codec.save(path)
    codec = TradeoffCodec.load(path)
    row = {
        "codec": name,
        "rate_bound_bits": codec.rate_bound_bits,
        **_rates(codec, run),
        "model_bytes": path.stat().st_size,
    }
    print(row)
    write_text(path.with_suffix(".md"), _card(name, run, points, row))
    return row


def _points(run: Run) -> dict[str, tuple[str, OperatingPoint]]:
    """The stage and the point of seed 0 of each decoder, by its name."""
    kinds = {"direct": "faithful", "flow": "realistic", "labelled": "recognizable"}
    found = {
        kinds[point.decoder]: (stage.name, point)
        for stage in run.recipe.stages
        if stage.mode == "universal"
        for point in stage.points
        if point.seed == 0 and (point.decoder != "direct" or point.purpose == "faithful")
    }
    return {name: found[name] for name in DECODERS}


def _rates(codec: TradeoffCodec, run: Run) -> dict[str, Any]:
    """Bits an image on the test set: entropies of the symbols, and the file."""
    test = run.source.test
    latents = codec.source_latents(run.source, test.images, draws.generator("zoo"))
    joint = conditional_entropy_bits(latents, latents, codec.levels)
    marginals = [
        conditional_entropy_bits(
            latents[:, i : i + 1], latents[:, i : i + 1], codec.levels[i : i + 1]
        ).bits
        for i in range(len(codec.levels))
    ]
    file = io.BytesIO()
    compress(codec, [Batch(test.images)], file)
    return {
        "marginal_entropy_bits": sum(marginals),
        "joint_entropy_bits": joint.bits,
        "joint_entropy_stderr": joint.stderr,
        "joint_entropy_method": joint.method,
        "file_bytes": len(file.getvalue()),
        "file_bits": 8 * len(file.getvalue()) / len(test.images),
    }


def _card(
    name: str, run: Run, points: dict[str, tuple[str, OperatingPoint]], row: dict[str, Any]
) -> str:
    """The text of a codec's card."""
    _, scores = read_results(run.folder)
    judges = [
        f"accuracy_{role}"
        for role in ("independent", *(f"stranger.{s}-s2" for s in run.recipe.strangers))
    ]
    names = [run.recipe.independent_judge, *run.recipe.strangers]
    lines = []
    for decoder, (stage, point) in points.items():
        (score,) = [
            r
            for r in scores
            if (r["stage"], r["lambda_p"], r["lambda_c"], r["seed"])
            == (stage, point.lambda_p, point.lambda_c, 0)
        ]
        cells = [
            f"{score['distortion_mse']:.4f}",
            *(f"{100 * score[judge]:.1f} %" for judge in judges),
            f"{score['sliced_w2sq'] / score['sliced_w2sq_floor']:.1f}",
            f"{score['kid']:.4f}",
        ]
        lines.append(f"| {decoder} | {' | '.join(cells)} |")
    clean = (
        f"{each} {100 * score[f'{j}_clean']:.1f} %" for each, j in zip(names, judges, strict=True)
    )
    (base,) = [point for point in run.recipe.stages[0].points if point.seed == 0]
    weights = [f"encoder λ_c = {base.lambda_c:g} ({base.decoder} decoder)"] + [
        f"{decoder} {point.decoder}, λ_p = {point.lambda_p:g}, λ_c = {point.lambda_c:g}"
        for decoder, (_, point) in points.items()
    ]
    channels, height, width = run.source.shape
    return CARD.format(
        name=name,
        recipe=run.recipe.name,
        source=run.source.name,
        channels=channels,
        height=height,
        width=width,
        judges=" | ".join(names),
        bars=" | ".join("---:" for _ in names),
        bound=row["rate_bound_bits"],
        rows="\n".join(lines),
        clean=", ".join(clean),
        marginal=row["marginal_entropy_bits"],
        joint=row["joint_entropy_bits"],
        joint_error=row["joint_entropy_stderr"],
        file=row["file_bits"],
        tests=len(run.source.test),
        trained=len(run.source.train),
        weights="; ".join(weights),
        size=row["model_bytes"] / 1e6,
        **{key: machine()[key] for key in ("processor", "date")},
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python tools/zoo.py RUN_FOLDER...")
    main(*sys.argv[1:])
