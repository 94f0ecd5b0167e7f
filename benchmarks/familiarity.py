"""Which images the codecs of MNIST take for unlike it: the share outside of each set.

export QUADRATE_DATA=…                       # a folder with mnist/ and photographs/
OMP_NUM_THREADS=1 python benchmarks/familiarity.py   # writes results/familiarity.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from quadrate import Codec
from quadrate.codecs import zoo
from quadrate.codecs.watch import measure
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import machine
from quadrate.sources import load_source

PLACE = Path(__file__).parent.parent / "results" / "familiarity.json"


def photographs(scaled: bool) -> NDArray[np.uint8]:
    """Photographs as 28x28 gray: scaled as a whole, or four crops of each."""
    images = []
    for path in sorted(
        (Path(os.environ["QUADRATE_DATA"]) / "photographs" / "train").rglob("*.webp")
    ):
        with Image.open(path, formats=["WEBP"]) as picture:
            gray = picture.convert("L")
        if scaled:
            images.append(np.asarray(gray.resize((28, 28))))
        else:
            draw = np.random.default_rng(len(images))
            corners = [
                (int(draw.integers(gray.width - 28)), int(draw.integers(gray.height - 28)))
                for _ in range(4)
            ]
            images += [np.asarray(gray.crop((x, y, x + 28, y + 28))) for x, y in corners]
    return np.stack(images)[:, None]


def main() -> None:
    """Measures every codec on every set, and writes the table."""
    torch.set_num_threads(1)
    digits = load_source("mnist").test.images
    sets = {
        "mnist test": digits,
        "photographs, scaled": torch.from_numpy(photographs(scaled=True)),
        "photographs, cropped": torch.from_numpy(photographs(scaled=False)),
        "noise": torch.randint(
            0, 256, (1000, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        ),
        "negatives": 255 - digits[:1000],
        "black": torch.zeros(10, 1, 28, 28, dtype=torch.uint8),
        "moved by 4 pixels": torch.roll(digits, (4, 4), (2, 3)),
    }
    rows = []
    for name in filter(lambda name: name.startswith("mnist-"), zoo()):
        codec = Codec.load(name)
        assert codec.familiarity is not None
        shares = {}
        for which, images in sets.items():
            measures = measure(codec, images, codec.encode(images).numpy())
            shares[which] = round(100 * codec.familiarity.share_outside(measures), 2)
        rows.append({"codec": name, **shares})
        print(rows[-1], flush=True)
    counts = {which: len(images) for which, images in sets.items()}
    result = {
        "command": "python benchmarks/familiarity.py",
        "machine": machine(),
        "unit": "percent outside",
        "images": counts,
        "rows": rows,
    }
    write_text(PLACE, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except QuadrateError as error:
        sys.exit(f"familiarity: {error}")
