"""How fast a `ShardLoader` reads a folder of shards, beside the decoder's own throughput.

MNIST's 55,000 training images in 16 shards, batches of 256. A worker is one process of one thread,
so two of them want two idle cores.

export QUADRATE_DATA=…                            # a folder with mnist/
OMP_NUM_THREADS=1 python benchmarks/shard_loader.py    # writes results/shard-loader.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

from quadrate import Codec
from quadrate.cli import main as quadrate
from quadrate.codecs import ShardDataset, ShardLoader
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import machine

PLACE = Path(__file__).parent / "results" / "shard-loader.json"
CODEC, SAMPLES, SHARDS, BATCH, PASSES = "mnist-4.75bit", 55_000, 16, 256, 3


def main() -> None:
    """Times passes of the decoder and of loaders in turn, and writes the best of each."""
    torch.set_num_threads(1)
    codec = Codec.load(CODEC)
    with TemporaryDirectory() as folder:
        shards = f"{folder}/shards"
        words = ["mnist:train", "-o", shards, "--codec", CODEC, "--shards", str(SHARDS)]
        quadrate(["compress", *words, "--labels", "--quiet"])
        latents = codec.decompress_latents(shards)

        def decoder() -> int:
            with torch.no_grad():
                parts = latents.split(BATCH)
                return sum(
                    len(codec.reconstruct(part, seed=0, numbers=range(len(part)))) for part in parts
                )

        def loader(item: str, workers: int) -> int:
            dataset = ShardDataset(shards, codec, BATCH, item=item)
            return sum(len(labels) for _, labels in ShardLoader(dataset, num_workers=workers))

        ways = {
            "decoder alone, 1 thread": decoder,
            "pixels, no worker": lambda: loader("pixels", 0),
            "pixels, 2 workers": lambda: loader("pixels", 2),
            "latents, no worker": lambda: loader("latents", 0),
            "latents, 2 workers": lambda: loader("latents", 2),
        }
        best = dict.fromkeys(ways, 0.0)
        for _ in range(PASSES):
            for name, run in ways.items():
                start = perf_counter()
                if run() != SAMPLES:
                    raise QuadrateError(f"{name}: not every sample came")
                best[name] = max(best[name], SAMPLES / (perf_counter() - start))
                print(f"{name}: {best[name]:,.0f} samples a second", flush=True)
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/shard_loader.py",
        "machine": machine(),
        "samples": SAMPLES,
        "shards": SHARDS,
        "batch": BATCH,
        "samples_per_second": {name: round(value) for name, value in best.items()},
        "pixels_2_workers_against_decoder": round(
            best["pixels, 2 workers"] / best["decoder alone, 1 thread"], 2
        ),
    }
    write_text(PLACE, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except QuadrateError as error:
        sys.exit(f"shard_loader: {error}")
