"""Small codecs of MNIST: lattices, scalars at a learned rate, fixed levels, by bits on disk.

    export QUADRATE_DATA=…                               # a folder with mnist/
    OMP_NUM_THREADS=1 python benchmarks/lattice_mnist.py  # writes results/lattice-mnist.json
    python benchmarks/lattice_mnist.py --table results/lattice-mnist.json

The trade-off trainer trains each codec for the MSE alone, with λr·R where the rate is learned, on
the first 10,000 training images. Bits are those of the .quad file of the 10,000 test images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quadrate.bottlenecks.by_name import build_bottleneck
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.core import draws
from quadrate.core.files import read_json, write_text
from quadrate.experiments.runs import machine
from quadrate.networks.family import find_family
from quadrate.sources import load_source
from quadrate.sources.source import Source, Split, pixels
from quadrate.training import Task, Trainer

PLACE = Path(__file__).parent.parent / "results" / "lattice-mnist.json"
IMAGES = 10_000
FIXED = ((3, 3, 3), (4, 4, 4), (4, 4, 4, 4), (4, 4, 4, 4, 4))
LEARNED = (("factorized", 4), ("lattice-z", 4), ("lattice-d4", 4), ("lattice-e8", 8))
LAMBDAS_R = (0.0045, 0.003)


def points(seed: int) -> tuple[OperatingPoint, ...]:
    """What is trained with a seed."""
    return (
        *(OperatingPoint(levels, seed=seed) for levels in FIXED),
        *(
            OperatingPoint((), seed=seed, lambda_r=weight, dims=dims, bottleneck=name)
            for weight in LAMBDAS_R
            for name, dims in LEARNED
        ),
    )


def measure(point: OperatingPoint, source: Source, training: TrainingConfig) -> tuple[float, float]:
    """Train a codec, write and read the test images; give bits on disk a sample, and MSE."""
    family, shape = find_family("compact"), source.shape
    trainer = Trainer(Task(source, family, None, training), [point]).prepare()
    for _ in range(training.epochs):
        trainer.train_epoch()
    encoder, decoder = (
        build(shape, point.latent_dims) for build in (family.encoder, family.decoder)
    )
    for role, network in (("encoder", encoder), ("decoder", decoder)):
        network.load_state_dict(trainer.networks(0)[role])
        network.eval()
    images = pixels(source.test.images)
    with torch.no_grad():
        latents, own = (encoder(pixels(s.images)).numpy() for s in (source.test, source.train))
    quantizer = build_bottleneck(point.bottleneck, (point.latent_dims,), point.levels)
    model = trainer.freeze(0, ()) or quantizer.freeze(own)
    words = draws.words("dither", point.seed, count=len(images) * model.dither_columns)
    dither = words.reshape(len(images), -1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.quad"
        header = Header(shape, point.seed, (LayerHeader(model.identity, model.columns),))
        payload = encode_layer(model, model.quantize(latents, dither), dither)
        with Writer.create(path, header) as writer:
            writer.write(ChunkData(len(images), (payload,)))
        with Reader(path) as reader:
            (payload,) = reader.read(0).payloads
        bits = 8 * path.stat().st_size / len(images)
    symbols = decode_layer(model, payload, np.empty((len(images), 0), np.int64), dither)
    with torch.no_grad():
        received = torch.from_numpy(model.dequantize(symbols, dither)).float()
        return bits, float((decoder(received) - images).square().mean())


def table(rows: list[dict[str, Any]]) -> str:
    """A line a codec, the seeds side by side."""
    lines = ["| bottleneck | λr | bits on disk | test MSE |", "|---|---:|---:|---:|"]
    for name in dict.fromkeys(row["codec"] for row in rows):
        own = [row for row in rows if row["codec"] == name]
        bits = ", ".join(f"{row['bits']:.2f}" for row in own)
        mse = ", ".join(f"{row['mse']:.4f}" for row in own)
        lines.append(f"| {name} | {own[0]['lambda_r'] or ''} | {bits} | {mse} |")
    return "\n".join(lines)


def main() -> None:
    """Train and measure, or print a table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--table", type=Path, help="print this file's table and measure nothing")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--results", type=Path, default=PLACE)
    args = parser.parse_args()
    if args.table:
        print(table(read_json(args.table)["rows"]))
        return
    torch.set_num_threads(1)
    source = load_source("mnist")
    train = Split(source.train.images[:IMAGES], source.train.labels[:IMAGES])
    source = replace(source, train=train)
    rows: list[dict[str, Any]] = []
    for point in (point for seed in range(args.seeds) for point in points(seed)):
        bits, mse = measure(point, source, TrainingConfig(epochs=args.epochs))
        rows.append(
            {
                "codec": "dithered " + "x".join(map(str, point.levels)) if point.levels
                else f"{point.bottleneck}, d = {point.dims}, λr = {point.lambda_r}",
                "seed": point.seed,
                "lambda_r": point.lambda_r,
                "bits": bits,
                "mse": mse,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
        result = {
            "command": "python benchmarks/lattice_mnist.py",
            "machine": machine(),
            "images": IMAGES,
            "epochs": args.epochs,
            "rows": rows,
        }
        write_text(args.results, json.dumps(result, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
