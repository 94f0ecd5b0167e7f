"""Codecs that have collapsed are warned of where they are trained, scored and frozen.

Healthy ones never.
"""

import csv
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from codecs_made import TINY, source_of
from evaluation_parts import QUICK
from quadrate.bottlenecks.collapse import has_collapsed
from quadrate.bottlenecks.counted_entropy import counted_entropy
from quadrate.codecs.layer import Layer
from quadrate.codecs.tradeoff_codec import TradeoffCodec
from quadrate.config import InvariantConfig, OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.errors import QuadrateWarning
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.experiments.runs import Run
from quadrate.networks import Family

ROOT = Path(__file__).parents[1]
POINTS = (OperatingPoint((4, 4)), OperatingPoint((4, 4), seed=1))


class Dead(nn.Module):
    """An encoder that says nothing, and learns nothing either."""

    def __init__(self, shape, dim) -> None:
        super().__init__()
        self.dim, self.unused = dim, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return torch.tanh(0.001 * x.flatten(1)[:, : self.dim] + 0.0 * self.unused)


DEAD = Family("dead", Dead, TINY.decoder, TINY.critic)
RECIPE = Recipe(
    "dead",
    "a test",
    "digits",
    (Stage("end-to-end", POINTS, training=TrainingConfig(epochs=6, batch=64)),),
    independent_judge="dense",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)
    for module in ("scores", "references"):
        monkeypatch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)


def entropy_bits(latents: torch.Tensor, levels: tuple[int, ...]) -> float:
    return counted_entropy(latents, latents, levels, dithers=32).bits


def said(caught) -> list[str]:
    return sorted(str(doubt.message) for doubt in caught)


@pytest.mark.parametrize("workers", [1, 2])
def test_training_and_evaluation_warn_of_each_point(tmp_path, workers):
    run = Run(RECIPE, tmp_path, family=DEAD)
    with pytest.warns(QuadrateWarning) as caught:  # from worker processes, too
        run.train(workers=workers)
    assert len(caught) == 2
    for point, text in zip(POINTS, said(caught), strict=True):
        assert re.match(
            rf"{point.key} of stage 'end-to-end' has collapsed: its symbols carry .* of 4 bits, .*"
            r" a smaller learning rate, more epochs",
            text,
        )
    if workers == 1:
        with pytest.warns(QuadrateWarning) as caught:
            run.evaluate(1)
        assert len(caught) == 2 and all(
            "seed=" in text and "has collapsed" in text for text in said(caught)
        )


def test_freezing_warns_and_names_the_layer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoders = {
            "encoder.0": TINY.encoder((1, 8, 8), 2),
            "encoder.1": TINY.encoder((1, 8, 8), 2),
            "decoder.faithful": TINY.decoder((1, 8, 8), 4),
        }
    with torch.no_grad():
        encoders["encoder.0"][1].weight.mul_(30)
        encoders["encoder.0"][1].bias.copy_(
            -(encoders["encoder.0"][1].weight @ (source_of().train.images / 255).flatten(1).mean(0))
        )
        encoders["encoder.1"][1].weight.zero_()
    codec = TradeoffCodec(
        TINY,
        (1, 8, 8),
        (Layer((4, 4)), Layer((4, 4))),
        {"faithful": POINTS[0]},
        {role: module.state_dict() for role, module in encoders.items()},
    )
    with pytest.warns(
        QuadrateWarning,
        match=r"^layer 1 of the codec has collapsed: its symbols carry .* of 4 bits",
    ) as caught:
        codec.freeze(source_of())
    assert len(caught) == 1 and caught[0].filename == __file__


def test_codes_whose_dimensions_say_the_same_are_counted_once():
    one = torch.rand(5000, 1) * 2 - 1
    assert entropy_bits(one.expand(-1, 5).contiguous(), (4,) * 5) < 0.7 * 5 * entropy_bits(
        one, (4,)
    )
    assert not has_collapsed(entropy_bits(torch.rand(5000, 5) * 2 - 1, (4,) * 5), 10)
    assert has_collapsed(
        entropy_bits(torch.full((64, 20), 0.1), (8,) * 20), 60
    )  # few samples, long codes
    assert not has_collapsed(entropy_bits(torch.rand(64, 20) * 2 - 1, (8,) * 20), 60)


def test_no_committed_codec_has_collapsed_and_those_that_did_are_found():
    shares = []
    for path in (ROOT / "results").glob("*/results.csv"):
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            if row.get("rate_entropy_bits"):
                entropy, bound = float(row["rate_entropy_bits"]), float(row["rate_bound_bits"])
                assert not has_collapsed(entropy, bound), (path, row)
                shares.append(entropy / bound)
    assert len(shares) >= 300 and 0.4 < min(shares)
    assert has_collapsed(1e-5, 18) and has_collapsed(1.3, 10)


def test_a_healthy_run_is_silent(tmp_path, digits):
    stage = Stage(
        "end-to-end", (OperatingPoint((4, 4)),), training=TrainingConfig(epochs=15, batch=32)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run(replace(RECIPE, name="alive", stages=(stage,)), tmp_path, source=digits).train(
            workers=1
        )


def test_invariant_codecs_that_keep_nothing_are_warned_of_in_training_and_scoring(
    tmp_path, monkeypatch
):
    for place in (
        "quadrate.experiments.runs.invariant_kind._FIT_SAMPLES",
        "quadrate.evaluation.invariant_scores.TEST_SAMPLES",
    ):
        monkeypatch.setattr(place, 4096)
    point = InvariantConfig("vic", 1e6, dims=1, steps=120, batch=64, anneal=0.0)
    run = Run(InvariantRecipe("nothing", "a test", "patterns", (point,)), tmp_path)
    found = "has collapsed: all samples get the same symbols, .* a smaller beta"
    text = f"^the codec {re.escape(point.key)} {found}"
    with pytest.warns(QuadrateWarning, match=text):
        run.train(workers=1)
    with pytest.warns(QuadrateWarning, match=text):
        run.evaluate(1)
