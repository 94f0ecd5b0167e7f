"""Make the codecs in the package, each with a model card, from runs of promises-….

    quadrate train promises-mnist && quadrate train promises-mnist-10bit
    python tools/zoo.py runs/promises-mnist-… runs/promises-mnist-10bit-…

Writes the codecs, their cards and their index, results/zoo/files.csv (what files cost) and
results/zoo/decoders.csv (what judges see in the pictures of the codecs as they are in the package).
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import torch

from quadrate.codecs import BaseCodec, Batch, TradeoffCodec, compress
from quadrate.codecs.zoo_index import write_index
from quadrate.core import draws
from quadrate.core.files import write_text
from quadrate.evaluation import Protocol, conditional_entropy_bits
from quadrate.evaluation.classification_scores import recognition
from quadrate.evaluation.distortion_scores import distortion_mse
from quadrate.evaluation.protocol import exact_arithmetic
from quadrate.experiments.runs import Run, machine, to_csv
from quadrate.training.judges import Judge, find_judge

ROOT = Path(__file__).parents[1]
ZOO, RESULTS = ROOT / "src" / "quadrate" / "codecs" / "zoo", ROOT / "results" / "zoo"
DECODERS = ("faithful", "realistic", "recognizable")
SEED = 0  # of the codecs that are taken

CARD = """# {name}

{bound:.2f}-bit codes for {source} ({height} × {width}): one encoder, and three decoders that read its codes.

    codec = quadrate.Codec.load("{name}")
    data = codec.compress(images)                       # uint8 or float in [0, 1], (N, {channels}, {height}, {width})
    pictures = codec.decompress(data, decoder="realistic")

| decoder | MSE | {judges} | sliced W2² ÷ floor | kernel distance |
| --- | ---: | {bars} | ---: | ---: |
{rows}

The columns {judges_in_words} are what judges of these architectures read, which no one trained the codec against; of clean test images they
read {clean}. Sliced W2² is the distance of the distribution of pictures to that of real ones, its floor that between
real ones; the kernel distance is taken in the features of {first}. [results](../../../../results/{recipe}) has its scores, and those of other seeds, before weights were rounded.

| bound, Σ log2 L | sum of marginal entropies H(Z_i\\|U_i) | joint entropy H(Z\\|U) | .quad file, everything included |
| ---: | ---: | ---: | ---: |
| {bound:.3f} | {marginal:.3f} | {joint:.3f} ± {joint_error:.3f} | {file:.3f} |

In bits an image. All numbers are of the {tests:,} test images.

* Trained on {trained:,} training images of {source} by `quadrate train {recipe}`, seed {seed}; {weights}.
* Made by `python tools/zoo.py` on {processor}, {date}. Weights are rounded to 8 bits, and stored as float16; file of {size:.1f} MB.
* For pictures like those of {source} only. The realistic decoder invents detail, other detail for each seed of a file. The recognizable one
  decides for a class and draws it: where it errs, its picture shows a wrong class clearly. No fairness or safety claims. License: Apache-2.0, as the package.
"""


def main(*folders: str) -> None:
    """Write a codec a run, their cards, their index, and the tables."""
    torch.set_num_threads(1)
    about = {key: machine()[key] for key in ("processor", "date")}
    files, decoders = [], []
    for folder in folders:
        run = Run.open(folder)
        path = make(run)
        codec = TradeoffCodec.load(path)
        judges = judges_of(run)
        file = {"codec": path.stem, **rates(codec, run), "model_bytes": path.stat().st_size}
        scores = [
            {"codec": path.stem, "decoder": name, **scored(codec, name, run, judges)}
            for name in DECODERS
        ]
        write_text(path.with_suffix(".md"), card(codec, run, judges, file, scores))
        print(file, *scores, sep="\n", flush=True)
        files.append(file | about)
        decoders += [score | about for score in scores]
    write_index(BaseCodec.load)
    write_text(RESULTS / "files.csv", to_csv(files))
    write_text(RESULTS / "decoders.csv", to_csv(decoders))


def make(run: Run) -> Path:
    """Write the codec of a run, and return its file."""
    whole = run.universal_codec("realistic", SEED)
    codec = run.codec("decoders", whole.points["faithful"])
    codec = codec.add_decoder(whole.pack(*DECODERS[1:])).to_float16(bits=8).freeze(run.source)
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
    return path


def judges_of(run: Run) -> dict[str, Judge]:
    """The judges that no one trained the run's codecs against, by their architecture."""
    seeds = {run.recipe.independent_judge: 1} | dict.fromkeys(run.recipe.strangers, 2)
    return {
        name: find_judge(name, run.source, run.root / "judges", seed)
        for name, seed in seeds.items()
    }


def scored(codec: TradeoffCodec, name: str, run: Run, judges: dict[str, Judge]) -> dict[str, Any]:
    """What a decoder makes of the test images, by the measures of the protocol."""
    protocol = Protocol()
    test = protocol.test_sample(run.source)
    with exact_arithmetic(torch.device("cpu")):
        pictures = codec.decode(codec.encode(test.images, SEED), SEED, decoder=name)
        read = {
            f"accuracy_{judge}": recognition(found.module, pictures, test.labels).accuracy
            for judge, found in judges.items()
        }
        return {
            "distortion_mse": distortion_mse(test.images, pictures).value,
            **read,
            "sliced_w2sq": protocol.sliced_w2sq(test.images, pictures).value,
            "sliced_w2sq_floor": protocol.sliced_w2sq(test.images, test.images).value,
            "kid": protocol.kid(next(iter(judges.values())), test.images, pictures).value,
        }


def rates(codec: TradeoffCodec, run: Run) -> dict[str, Any]:
    """Bits an image on the test set: the bound, entropies of the symbols, and the file."""
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
        "rate_bound_bits": codec.rate_bound_bits,
        "marginal_entropy_bits": sum(marginals),
        "joint_entropy_bits": joint.bits,
        "joint_entropy_stderr": joint.stderr,
        "joint_entropy_method": joint.method,
        "file_bytes": len(file.getvalue()),
        "file_bits": 8 * len(file.getvalue()) / len(test.images),
    }


def card(
    codec: TradeoffCodec,
    run: Run,
    judges: dict[str, Judge],
    file: dict[str, Any],
    scores: list[dict[str, Any]],
) -> str:
    """The text of a codec's card."""
    lines = []
    for score in scores:
        cells = [
            score["decoder"],
            f"{score['distortion_mse']:.4f}",
            *(f"{100 * score[f'accuracy_{judge}']:.1f} %" for judge in judges),
            f"{score['sliced_w2sq'] / score['sliced_w2sq_floor']:.1f}",
            f"{score['kid']:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    (base,) = [point for point in run.recipe.stages[0].points if point.seed == SEED]
    weights = [f"encoder λ_c = {base.lambda_c:g}, trained with a {base.decoder} decoder"] + [
        f"{name}: {point.decoder}, λ_p = {point.lambda_p:g}, λ_c = {point.lambda_c:g}"
        for name, point in codec.points.items()
    ]
    channels, height, width = run.source.shape
    names = list(judges)
    return CARD.format(
        name=file["codec"],
        recipe=run.recipe.name,
        seed=SEED,
        source=run.source.name,
        channels=channels,
        height=height,
        width=width,
        judges=" | ".join(names),
        judges_in_words=f"{', '.join(names[:-1])} and {names[-1]}",
        first=names[0],
        bars=" | ".join("---:" for _ in names),
        bound=file["rate_bound_bits"],
        rows="\n".join(lines),
        clean=", ".join(f"{100 * judge.accuracy:.1f} %" for judge in judges.values()),
        marginal=file["marginal_entropy_bits"],
        joint=file["joint_entropy_bits"],
        joint_error=file["joint_entropy_stderr"],
        file=file["file_bits"],
        tests=len(run.source.test),
        trained=len(run.source.train),
        weights="; ".join(weights),
        size=file["model_bytes"] / 1e6,
        **{key: machine()[key] for key in ("processor", "date")},
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python tools/zoo.py RUN_FOLDER...")
    main(*sys.argv[1:])
