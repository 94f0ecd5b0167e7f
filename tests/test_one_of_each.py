"""One of each, as docs/extending.md promises: a package adds a thing by one file and one line.

A loss term with its own weight, a bottleneck, a network family, a kind of decoder, a data set, a
score, a recipe and a verb; trained, scored, reported, exported and used for files through the
command line.
"""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    "term": '''
"""A loss term: the difference in mean brightness."""
from quadrate.objectives import register_term

def brightness(batch):
    difference = batch.reconstruction.mean((2, 3, 4)) - batch.clean.mean((2, 3, 4))  # (K, B)
    return difference.square().mean(1)  # (K,)

register_term("brightness", brightness)
''',
    "bottleneck": '''
"""A bottleneck: the factorized one, with monotone networks for densities."""
import torch
from quadrate.bottlenecks.by_name import register_bottleneck
from quadrate.bottlenecks.factorized import FactorizedBottleneck, MonotoneNetwork

def monotone(shape):
    (dims,) = shape
    return FactorizedBottleneck(MonotoneNetwork(dims), torch.zeros(dims), torch.ones(dims))

register_bottleneck("monotone", monotone)
''',
    "family": '''
"""A network family: linear networks."""
import math
from torch import nn
from quadrate.networks import Family, register_family

def encoder(shape, dim):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), dim), nn.BatchNorm1d(dim))

def decoder(shape, dim):
    return nn.Sequential(nn.Linear(dim, math.prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape))

def critic(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 1), nn.Flatten(0))

register_family(Family("linear", encoder, decoder, critic))
''',
    "decoder": '''
"""A kind of decoder: the family's, with twice the contrast."""
from torch import nn
from quadrate.networks import DecoderKind, register_decoder

class Contrast(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, latents):
        return (2 * self.network(latents) - 0.5).clamp(0, 1)

def contrast(family, shape, dim, classes):
    return Contrast(family.decoder(shape, dim))

register_decoder(DecoderKind("contrast", contrast))
''',
    "data": '''
"""A data set: a bright bar in one of eight places, which is the class."""
import numpy as np
from quadrate.sources import from_arrays, register_source

def bars():
    labels = np.arange(1200) % 8
    images = np.random.default_rng(0).integers(0, 60, (1200, 1, 8, 8)).astype(np.uint8)
    images[np.arange(1200), 0, :, labels] += 190
    return from_arrays("bars", (images[:900], labels[:900]), (images[900:], labels[900:]))

register_source("bars", bars)
''',
    "score": '''
"""A score: the largest error of a pixel."""
from quadrate.evaluation.score import Score, register_score

def largest_error(originals, reconstructions):
    return float((originals / 255 - reconstructions).abs().max())

register_score(
    Score("largest_error", "max. error", axis="largest error of a pixel", measure=largest_error)
)
''',
    "recipe": '''
"""A recipe that uses them all."""
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig, WeightedTerm
from quadrate.experiments.recipes import register_recipe

def bars_monotone():
    point = OperatingPoint((), lambda_r=1e-4, dims=3, bottleneck="monotone", decoder="contrast")
    training = TrainingConfig(epochs=4, batch=64)
    terms = (WeightedTerm("brightness", 0.1),)
    stages = (Stage("end-to-end", (point,), training=training),)
    return Recipe("bars-monotone", "bars", "bars", stages, "linear", "conv", "dense", terms)

register_recipe(bars_monotone)
''',
    "verb": '''
"""A verb."""
from quadrate.cli.verbs import register_verb

def count(source: str, /, times: int = 1) -> None:
    """Count the training images of a source.

    Args:
        source: The source.
        times: A factor.
    """
    from quadrate.sources import load_source

    print(times * len(load_source(source).train), "images")

register_verb(count)
''',
}
MAKE = """
import sys
import quadrate.evaluation, quadrate.training.judges
from quadrate.cli import main
from evaluation_parts import QUICK

for module in ("protocol", "references"):
    setattr(sys.modules[f"quadrate.evaluation.{module}"], "Protocol", lambda: QUICK)
quadrate.training.judges._LEAST_STEPS = 30

if __name__ == "__main__":
    own = ["--module", "mine"]
    main([*own, "train", "bars-monotone", "--workers", "1"])
    (run,) = map(str, __import__("pathlib").Path("runs").glob("bars-monotone-*"))
    main([*own, "evaluate", run, "--workers", "1"])
    main([*own, "report", run, "-o", "report.html"])
    main([*own, "export", run, "-o", "bars.safetensors"])
    try:
        main([*own, "export", run])  # lists the codecs
    except SystemExit:
        pass
    main([*own, "compress", "bars:test", "--codec", "bars.safetensors", "-o", "bars.quad"])
    main([*own, "decompress", "bars.quad", "--codec", "bars.safetensors", "-o", "bars.npy"])
    main([*own, "count", "bars", "--times", "2"])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, str]:
    """A folder with the package and all that was made with it, and what was printed."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine").mkdir()
    for name, text in FILES.items():  # one file …
        (folder / "mine" / f"{name}.py").write_text(text, encoding="utf-8")
    lines = "".join(f"from mine import {name}\n" for name in FILES)  # … and one line
    (folder / "mine" / "__init__.py").write_text(lines, encoding="utf-8")
    (folder / "make.py").write_text(MAKE, encoding="utf-8")
    places = (ROOT / "src", ROOT / "tests", folder)
    environment = {"PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "make.py"],
        cwd=folder,
        env={**os.environ, **environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_recipe_is_trained_and_scored_with_all_of_them(made):
    (run,) = (made[0] / "runs").glob("bars-monotone-*")
    recipe = json.loads((run / "config.json").read_text())["recipe"]
    assert (recipe["source"], recipe["family"]) == ("bars", "linear")
    (metrics,) = run.glob("end-to-end/*/metrics.jsonl")
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert last["brightness"] >= 0 and last["rate_nats"] > 0, "the term and the learned rate"
    (row,) = csv.DictReader((run / "results.csv").read_text().splitlines())
    assert 0 < float(row["largest_error"]) <= 1 and row["decoder"] == "contrast"


def test_the_report_has_the_score(made):
    page = (made[0] / "report.html").read_text(encoding="utf-8")
    assert "bars-monotone" in page and "largest error of a pixel" in page


def test_files_are_written_and_read_with_the_codec(made):
    images = np.load(made[0] / "bars.npy")
    assert images.shape == (300, 1, 8, 8)
    assert (made[0] / "bars.quad").stat().st_size < images.nbytes / 10


def test_the_list_of_codecs_says_that_the_rate_is_learned(made):
    listed = [line.split()[:3] for line in made[1].splitlines() if line.startswith("end-to-end ")]
    assert ["end-to-end", "monotone-3_r0.0001_d1_p0_c0_contrast_s0", "learned"] in listed


def test_the_verb_is_called(made):
    assert "\n1650 images\n" in made[1]


def test_the_page_names_the_files_in_which_the_lines_stand():
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    places = re.findall(r"in `(\w+)` of `([\w/.]+)`", page)
    assert len(places) == 10
    for name, path in places:
        assert f"\n{name}: " in (ROOT / "src" / "quadrate" / path).read_text(encoding="utf-8")
