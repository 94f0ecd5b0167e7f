"""Makes the codecs in the package, each with a model card, from an evaluated run of zoo-mnist.

quadrate train zoo-mnist && quadrate evaluate runs/zoo-mnist-…
python tools/zoo.py runs/zoo-mnist-…
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import torch

from quadrate.codecs import Batch, TradeoffCodec, compress
from quadrate.codecs.zoo_index import write_index
from quadrate.core import draws
from quadrate.core.files import write_text
from quadrate.evaluation import conditional_entropy_bits
from quadrate.experiments.runs import Run, machine, read_results, to_csv

ZOO = Path(__file__).parents[1] / "src" / "quadrate" / "codecs" / "zoo"
RESULTS = Path(__file__).parents[1] / "results" / "zoo-mnist"

CARD = """# {name}

{bound:.2f}-bit codes for MNIST (28 × 28, gray): one encoder, and three decoders that read its codes.

    codec = quadrate.Codec.load("{name}")
    data = codec.compress(images)                       # uint8 or float in [0, 1], (N, 1, 28, 28)
    pictures = codec.decompress(data, decoder="realistic")

| decoder | MSE | accuracy, independent judge | accuracy, retrained judge | W1, fresh critic (floor {floor:.2f}) |
| --- | ---: | ---: | ---: | ---: |
{rows}

The independent judge reads {clean:.2f} % of the clean test images. On MNIST's 10,000 test images, in bits an image:

| bound, Σ log2 L | sum of marginal entropies H(Z_i\\|U_i) | joint entropy H(Z\\|U) | .quad file, everything included |
| ---: | ---: | ---: | ---: |
| {bound:.3f} | {marginal:.3f} | {joint:.3f} ± {joint_error:.3f} | {file:.3f} |

* Trained on 55,000 training images of MNIST (Y. LeCun et al.) by `quadrate train zoo-mnist`, seed 0; encoder λ_c = {encoder_weight:g}, decoders
  {weights}; the classifier in the loss is the one published with RDPC.
* Made by `python tools/zoo.py runs/zoo-mnist-…` on {processor}, {date}. Weights are float16; file of {size:.1f} MB.
* For pictures like MNIST's only. The realistic decoder invents detail; the recognizable one writes for the classifier it was trained with, so trust
  the independent judge's column. No fairness or safety claims. License: Apache-2.0, as the package.
"""


def main(folder: Path) -> None:
    """Writes four codecs, their cards, their index, and results/zoo-mnist/files.csv."""
    run = Run.open(folder)
    _, scores = read_results(folder)
    torch.set_num_threads(1)
    table = []
    for encoders, decoders in zip(run.recipe.stages[::2], run.recipe.stages[1::2], strict=True):
        (base,) = encoders.points
        codec = run.universal_codec(decoders.name).to_float16().freeze(run.source)
        bits = round(codec.rate_bound_bits, 2)
        name = f"mnist-{bits:g}bit"
        codec.details = {
            "name": name,
            "recipe": run.recipe.name,
            "source": run.source.name,
            "fingerprint": run.source.fingerprint,
            **machine(),
        }
        codec.save(ZOO / f"{name}.safetensors")
        codec = TradeoffCodec.load(ZOO / f"{name}.safetensors")
        row = {
            "codec": name,
            "rate_bound_bits": codec.rate_bound_bits,
            **_rates(codec, run),
            "model_bytes": (ZOO / f"{name}.safetensors").stat().st_size,
        }
        table.append(row)
        print(row)
        write_text(
            ZOO / f"{name}.md",
            _card(name, codec, row, base, [r for r in scores if r["stage"] == decoders.name]),
        )
    write_index(TradeoffCodec.load)
    write_text(
        RESULTS / "files.csv",
        to_csv([row | {key: machine()[key] for key in ("processor", "date")} for row in table]),
    )


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
    name: str, codec: TradeoffCodec, row: dict[str, Any], base: Any, scores: list[dict[str, Any]]
) -> str:
    lines = []
    for decoder, point in codec.points.items():
        (score,) = [
            r for r in scores if (r["lambda_p"], r["lambda_c"]) == (point.lambda_p, point.lambda_c)
        ]
        numbers = [
            f"{score['distortion_mse']:.4f}",
            *(
                f"{100 * score[f'accuracy_{judge}']:.1f} %"
                for judge in ("independent", "retrained")
            ),
        ]
        lines.append(f"| {decoder} | {' | '.join(numbers)} | {score['w1_fresh']:.2f} |")
    return CARD.format(
        name=name,
        bound=row["rate_bound_bits"],
        rows="\n".join(lines),
        clean=100 * scores[0]["accuracy_independent_clean"],
        floor=scores[0]["w1_fresh_floor"],
        marginal=row["marginal_entropy_bits"],
        joint=row["joint_entropy_bits"],
        joint_error=row["joint_entropy_stderr"],
        file=row["file_bits"],
        encoder_weight=base.lambda_c,
        weights=", ".join(
            f"{decoder} λ_p = {p.lambda_p:g}, λ_c = {p.lambda_c:g}"
            for decoder, p in codec.points.items()
        ),
        size=row["model_bytes"] / 1e6,
        **{key: machine()[key] for key in ("processor", "date")},
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/zoo.py RUN_FOLDER")
    main(Path(sys.argv[1]))
