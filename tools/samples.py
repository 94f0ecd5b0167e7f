"""Writes one picture of a run: some test images, and below them what chosen codecs make of them.

python tools/samples.py RUN STAGE/POINT... -o results/NAME/samples.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from quadrate.experiments.page.page_data import open_run
from quadrate.experiments.page.page_images import samples
from quadrate.experiments.reports.grids import save_grid
from quadrate.sources import pixels


def main() -> None:
    """Reads the samples.png that the evaluation wrote beside each point's scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "points", nargs="+", help="folders of points inside the run, from top to bottom"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    shape = open_run(arguments.run).shape
    found = [samples(arguments.run / point, shape) for point in arguments.points]
    for point, pictures in zip(arguments.points, found, strict=True):
        if pictures is None:
            parser.error(
                f"{arguments.run / point} holds no samples.png; name points as STAGE/POINT, of"
                " which `quadrate evaluate` wrote some"
            )
    rows = [found[0][0], *(reconstructions for _, reconstructions in found)]  # type: ignore[index,misc]
    save_grid(
        arguments.output, [pixels(torch.from_numpy(row.copy()).permute(0, 3, 1, 2)) for row in rows]
    )


if __name__ == "__main__":
    main()
