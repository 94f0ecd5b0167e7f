"""How near files of lattice-quantized Gaussian vectors come to R(D) and to R(D, P = 0).

    OMP_NUM_THREADS=1 python benchmarks/lattice.py   # writes results/lattice.json, prints the table
    python benchmarks/lattice.py --table results/lattice.json

Vectors of independent unit normals, d = 8, are quantized by Z (the dithered scalar quantizer), D4
and E8 with the same entropy coding, and written to .quad files, header and all. Two receivers read
what is received, y = x + error. The faithful one gives a·y with the least squared error, whose rate
is held against R(D). The realistic one scales y to unit variance, whose rate is held against
R(D, P = 0); its squared W2 distance from the source is measured, coordinates pooled. A gap is bits
on disk a dimension less the theory's bits at the measured distortion. The densities are learned at
a fixed step, on samples of their own.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri

from quadrate.bottlenecks.lattice import (
    D4Bottleneck,
    E8Bottleneck,
    LatticeBottleneck,
    LatticeModel,
    ZBottleneck,
)
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.core import draws
from quadrate.core.files import read_json, write_text
from quadrate.experiments.runs import machine
from quadrate.theory import ScalarGaussian, rate

PLACE = Path(__file__).parent.parent / "results" / "lattice.json"
LATTICES = {"Z": ZBottleneck, "D4": D4Bottleneck, "E8": E8Bottleneck}
RATES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # bits a dimension, about
DIMS, CHUNK, STEPS = 8, 1 << 14, 300
SOURCE = ScalarGaussian(variance=1.0)


def fit(kind: type[LatticeBottleneck], bits: float, seed: int) -> LatticeModel:
    """Fit the densities at the step for a rate.

    The rate is about ½ log2(1 + 1/noise) and what the shape of the cell loses.
    """
    loss = 0.5 * math.log2(2 * math.pi * math.e * kind.lattice.second_moment)
    noise = 1 / (2 ** (2 * max(bits - loss, bits / 3)) - 1)  # its variance
    bottleneck = kind.of_dims(DIMS)
    with torch.no_grad():
        bottleneck.log_step.fill_(math.log(math.sqrt(12 * noise) / kind.lattice.width))
    optimizer = torch.optim.Adam(bottleneck.density.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = draws.generator("lattice benchmark", seed)
    for _ in range(STEPS):
        latents = torch.randn(1024, DIMS, generator=generator)
        _, nats = bottleneck(latents, torch.rand(1024, DIMS, generator=generator) - 0.5)
        optimizer.zero_grad()
        nats.mean().backward()
        optimizer.step()
        schedule.step()
    return bottleneck.freeze()


def measure(model: LatticeModel, samples: np.ndarray, seed: int) -> dict[str, float]:
    """Write samples to a file, read it, and give its bits a dimension and both gaps."""
    received = np.empty_like(samples)
    dither = draws.words("dither", seed, count=len(samples) * model.columns)
    dither = dither.reshape(len(samples), -1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.quad"
        header = Header((DIMS,), seed, (LayerHeader(model.identity, model.columns),))
        with Writer.create(path, header) as writer:
            for start in range(0, len(samples), CHUNK):
                own = dither[start : start + CHUNK]
                symbols = model.quantize(samples[start : start + CHUNK], own)
                writer.write(ChunkData(len(own), (encode_layer(model, symbols, own),)))
        bits = 8 * path.stat().st_size / samples.size
        with Reader(path) as reader:
            for i, (start, count) in enumerate(reader.index.tolist()):
                own = dither[start : start + count]
                (payload,) = reader.read(i).payloads
                symbols = decode_layer(model, payload, np.empty((count, 0), np.int64), own)
                received[start : start + count] = model.dequantize(symbols, own)
    power = np.square(received).mean()
    faithful = np.square(samples - (samples * received).mean() / power * received).mean()
    scaled = received / math.sqrt(power)
    realistic = np.square(samples - scaled).mean()
    levels = (np.arange(scaled.size) + 0.5) / scaled.size
    return {
        "bits": bits,
        "mse": faithful,
        "gap": bits - float(rate(SOURCE, distortion=faithful)),
        "mse_realistic": realistic,
        "gap_realistic": bits - float(rate(SOURCE, distortion=realistic, perception=0.0)),
        "w2_realistic": np.square(np.sort(scaled.ravel()) - ndtri(levels)).mean(),
    }


def table(result: dict[str, Any]) -> str:
    """Means over the seeds, and the largest deviation from them."""
    lines = [
        "| lattice | bits on disk | MSE | bits above R(D) | MSE, realistic | bits above R(D, P=0)"
        " | W2² left |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        runs = row["seeds"]
        mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        spread = {name: max(abs(run[name] - mean[name]) for run in runs) for name in mean}
        gaps = [f"{mean[k]:.3f} ± {spread[k]:.3f}" for k in ("gap", "gap_realistic")]
        lines.append(
            f"| {row['lattice']} | {mean['bits']:.3f} | {mean['mse']:.4f} | {gaps[0]} |"
            f" {mean['mse_realistic']:.4f} | {gaps[1]} | {mean['w2_realistic']:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, or print a table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--table", type=Path, help="print this file's table and measure nothing")
    parser.add_argument("--samples", type=int, default=1 << 16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=PLACE)
    args = parser.parse_args()
    if args.table:
        print(table(read_json(args.table)))
        return
    torch.set_num_threads(1)
    rows = []
    for bits in RATES:
        for name, kind in LATTICES.items():
            seeds = [
                {
                    "seed": seed,
                    **measure(
                        fit(kind, bits, seed),
                        np.random.default_rng(seed).normal(size=(args.samples, DIMS)),
                        seed,
                    ),
                }
                for seed in range(args.seeds)
            ]
            rows.append({"lattice": name, "rate": bits, "seeds": seeds})
            print(rows[-1], flush=True)
    result = {
        "command": "python benchmarks/lattice.py",
        "machine": machine(),
        "samples": args.samples,
        "dims": DIMS,
        "rows": rows,
    }
    write_text(args.results, json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
