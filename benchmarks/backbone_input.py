"""How to show EfficientNet-Lite0 small images.

Side, resize and precision, by how well a linear receiver reads CIFAR-10's validation images.

    export QUADRATE_DATA=…  # a folder with cifar-10/
    OMP_NUM_THREADS=1 python benchmarks/backbone_input.py  # writes results/cifar-features/input.csv

The test images are not touched. Receivers are fitted to 1,000 training images; seconds are
processor seconds on one core.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import torch

from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.evaluation.receivers import accuracy_interval, train_receiver
from quadrate.experiments.runs import to_csv
from quadrate.networks.backbones import load_backbone
from quadrate.sources import Split, load_source

PLACE = Path(__file__).parent.parent / "results" / "cifar-features" / "input.csv"
TRAIN, VALIDATION = 1_000, 2_000


def measure(train: Split, validation: Split) -> list[dict[str, Any]]:
    """A row for each way to show images."""
    rows = []
    for side, resize, bfloat16 in itertools.product(
        (128, 160, 224), ("bilinear", "bicubic"), (False, True)
    ):
        backbone = load_backbone("efficientnet-lite0", side=side, resize=resize)
        start = time.process_time()
        labelled = [
            (backbone.features(part.images, bfloat16=bfloat16).numpy(), part.labels.numpy())
            for part in (train, validation)
        ]
        seconds = time.process_time() - start
        accuracy = accuracy_interval(train_receiver("linear", *labelled).correct(*labelled[1]))
        rows.append(
            {
                "side": side,
                "resize": resize,
                "precision": "bfloat16" if bfloat16 else "float32",
                "train_images": len(train),
            }
            | {
                "validation_accuracy": accuracy.estimate,
                "accuracy_low": accuracy.low,
                "accuracy_high": accuracy.high,
            }
            | {"images_a_second_of_one_core": (len(train) + len(validation)) / seconds}
        )
        print(to_csv(rows[-1:]).split("\n", 1)[1], end="", flush=True)
    return rows


def main() -> None:
    """Measures all ways and writes the table."""
    torch.set_num_threads(1)
    source = load_source("cifar-10")
    parts = ((source.train, TRAIN), (source.validation, VALIDATION))
    write_text(
        PLACE,
        to_csv(
            measure(*(Split(split.images[:count], split.labels[:count]) for split, count in parts))
        ),
    )


if __name__ == "__main__":
    try:
        main()
    except QuadrateError as error:
        sys.exit(f"backbone_input: {error}")
