"""Writes one picture of a run: some test images, and below them what chosen codecs make of them.

python tools/samples.py RUN STAGE/POINT... -o results/NAME/samples.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from quadrate.reports.grids import cut_mosaic, save_grid
from quadrate.reports.page.data import open_run
from quadrate.sources import pixels


def main() -> None:
    """Reads the samples.png that the evaluation wrote beside each point's scores."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("points", nargs="+", help="folders of points inside the run, from top to bottom")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    shape = open_run(arguments.run).shape
    rows: list[np.ndarray] = []
    for point in arguments.points:
        with Image.open(arguments.run / point / "samples.png") as image:
            originals, reconstructions = cut_mosaic(np.asarray(image.convert("RGB")), *shape[1:])
        rows = [*(rows or [originals]), reconstructions]
    save_grid(arguments.output, [pixels(torch.from_numpy(row.copy()).permute(0, 3, 1, 2)) for row in rows])


if __name__ == "__main__":
    main()
