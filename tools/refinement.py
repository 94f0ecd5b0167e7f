"""A refinement file.

What its base costs and reads, and what both layers do, for the codecs of refine-mnist (uRDP, Fig.
6a).

    quadrate train refine-mnist
    python tools/refinement.py runs/refine-mnist-…

Writes results/refine-mnist/files.csv.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import torch

from quadrate.codecs import Batch, QuadFile, compress, decompress
from quadrate.coding.container import Reader
from quadrate.core.files import write_text
from quadrate.experiments.runs import Run, machine, to_csv

OUT = Path(__file__).parents[1] / "results" / "refine-mnist" / "files.csv"


def main(folder: Path) -> None:
    """One row a refined codec."""
    run = Run.open(folder)
    torch.set_num_threads(1)
    images = run.source.test.images
    clean = images.numpy() / 255.0
    rows = []
    for point in run.recipe.stage("refined").points:
        first = run.recipe.stage("refined").base_of(point)
        assert first is not None
        base = run.codec("first", first).to_float16().freeze(run.source)
        refined = run.codec("refined", point).to_float16().freeze(run.source, base)
        file = io.BytesIO()
        compress(refined, [Batch(images)], file)
        data = file.getvalue()
        alone = io.BytesIO()
        compress(base, [Batch(images)], alone)
        with Reader(data) as reader:
            payloads = [
                sum(len(reader.read(k).payloads[layer]) for k in range(len(reader.index)))
                for layer in range(2)
            ]
        with QuadFile(data, base) as opened:
            for k in range(len(opened.reader.index)):
                opened.symbols(k)
            read = opened.reader.bytes_read
        rows.append(
            {
                "lambda_p": point.lambda_p,
                "seed": point.seed,
                "file_bits": 8 * len(data) / len(images),
                "base_payload_bits": 8 * payloads[0] / len(images),
                "refinement_payload_bits": 8 * payloads[1] / len(images),
                "read_bits_base_alone": 8 * read / len(images),
                "base_file_bits": 8 * len(alone.getvalue()) / len(images),
                "mse_base": float(((decompress(base, data, dtype="float32") - clean) ** 2).mean()),
                "mse_refined": float(
                    ((decompress(refined, data, dtype="float32") - clean) ** 2).mean()
                ),
                **{key: machine()[key] for key in ("processor", "date")},
            }
        )
        print(rows[-1], flush=True)
    write_text(OUT, to_csv(rows))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/refinement.py RUN_FOLDER")
    main(Path(sys.argv[1]))
