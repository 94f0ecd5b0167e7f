"""Tries an installed wheel in an empty folder: `make wheel` runs it; pytest does not collect it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import quadrate
from quadrate.codecs.zoo_index import zoo

COMMANDS = (
    "demo --help",
    "recipes",
    "theory rate gaussian --distortion .25",
    "compress images.npy --codec {codec} -o images.quad",
    "inspect images.quad",
    "verify images.quad",
    "decompress images.quad -o pictures",
)


def main() -> None:
    """Run the commands, and look for the data that the package must hold."""
    package = Path(quadrate.__file__).parent
    assert Path(__file__).parents[1] / "src" not in package.parents, "this is the checkout"
    for name in ("py.typed", "experiments/reports/published.csv", "experiments/page/template.html"):
        assert (package / name).exists(), f"{name} is missing"
    codecs = list(zoo())
    assert codecs, "the zoo is missing"
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", np.zeros((20, 1, 28, 28), np.uint8))
        program = Path(sys.executable).parent / ("quadrate.exe" if os.name == "nt" else "quadrate")
        for command in COMMANDS:
            words = command.format(codec=codecs[0]).split()
            print("quadrate", *words, flush=True)
            subprocess.run([program, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        assert len(list(Path(folder).glob("pictures/*.png"))) == 20


main()
