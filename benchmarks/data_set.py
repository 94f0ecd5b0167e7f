"""What shuffled reading of a .quad file costs, in units of decoding it once.

MNIST's 55,000 training images, batches of 128, one core.

export QUADRATE_DATA=…                       # a folder with mnist/
OMP_NUM_THREADS=1 python benchmarks/data_set.py   # writes results/data-set.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from quadrate import Codec, QuadDataset
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import machine
from quadrate.sources import load_source
from stopwatch import timed

PLACE = Path(__file__).parent.parent / "results" / "data-set.json"
SMALL = 1 << 16  # bytes of cache: less than one chunk


def main() -> None:
    """Times two passes each way, and writes the table."""
    torch.set_num_threads(1)
    codec = Codec.load("mnist-4.75bit")
    data = codec.compress(load_source("mnist").train.images)
    assert data is not None
    unit = timed(lambda: codec.decompress(data)).cpu
    rows = []
    for way, cache in (("shuffle", None), ("sampler", None), ("sampler", SMALL)):
        dataset = QuadDataset(data, codec, **({} if cache is None else {"cache_bytes": cache}))
        loader = (
            DataLoader(dataset, 128, shuffle=True)
            if way == "shuffle"
            else DataLoader(dataset, 128, sampler=dataset.sampler(seed=0))
        )
        passes = [
            timed(lambda loader=loader: sum(len(batch) for batch in loader)).cpu / unit
            for _ in range(2)
        ]
        rows.append(
            {
                "way": way,
                "cache_bytes": cache or "default",
                "first_pass": round(passes[0], 2),
                "second_pass": round(passes[1], 2),
            }
        )
        print(rows[-1], flush=True)
    result = {
        "command": "python benchmarks/data_set.py",
        "machine": machine(),
        "samples": 55_000,
        "batch": 128,
        "unit": "decompress of all, CPU seconds",
    }
    write_text(
        PLACE,
        json.dumps({**result, "decompress_cpu_seconds": round(unit, 2), "ways": rows}, indent=1)
        + "\n",
    )


if __name__ == "__main__":
    try:
        main()
    except QuadrateError as error:
        sys.exit(f"data_set: {error}")
