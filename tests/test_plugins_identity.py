"""Registered things count in the name of a run's folder, as passed ones do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from quadrate.config import (
    OperatingPoint,
    Recipe,
    Stage,
    TrainingConfig,
    WeightedTerm,
    from_json,
    to_json,
)
from quadrate.core import registry
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import Run
from quadrate.networks import (
    DecoderKind,
    Family,
    register_classifier,
    register_decoder,
    register_family,
)
from quadrate.networks.classifiers import DenseClassifier
from quadrate.networks.family import FAMILIES
from quadrate.objectives import Term, register_term
from quadrate.sources import from_arrays, register_source
from quadrate.training.judges import Judge, save_judge

STAGE = Stage("base", (OperatingPoint((3, 3)),), training=TrainingConfig(epochs=1))
RECIPE = Recipe("mine", "a test", "digits", (STAGE,), judge="judge.safetensors")


@pytest.fixture(autouse=True)
def _a_judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _save_judge(DenseClassifier((1, 8, 8), 10), "dense")


def _save_judge(module, architecture):
    of = {
        "architecture": architecture,
        "shape": "1x8x8",
        "classes": "10",
        "source": "digits",
        "fingerprint": "",
        "seed": "0",
        "epochs": "0",
    }
    save_judge(Judge("j", module, 0.1, 2.3, of), "judge.safetensors")


def folder(recipe=RECIPE, register=lambda: None, **more):
    """The name of a run's folder, where something is registered for this run alone."""
    before = registry.contents()
    try:
        register()
        return Run(recipe, **more).folder.name
    finally:
        registry.restore(before)


def faint(batch):
    return batch.reconstruction.flatten(2).mean((1, 2))


def strong(batch):
    return 2 * batch.reconstruction.flatten(2).mean((1, 2))


def test_registered_terms_count_by_weight_and_code():
    recipe = replace(RECIPE, terms=(WeightedTerm("edges", 0.1),))
    one = folder(recipe, lambda: register_term("edges", faint))
    assert one == folder(recipe, lambda: register_term("edges", faint))
    others = [
        folder(recipe, lambda: register_term("edges", strong)),
        folder(recipe, lambda: register_term("edges", faint, ramp=True)),
        folder(recipe, lambda: register_term("edges", faint, version="2")),
        folder(
            replace(RECIPE, terms=(WeightedTerm("edges", 0.2),)),
            lambda: register_term("edges", faint),
        ),
        folder(RECIPE, terms=(Term("edges", 0.1, faint),)),
        folder(RECIPE),
    ]
    assert len({one, *others}) == 7
    with pytest.raises(QuadrateError, match="the loss term 'edges' is given twice"):
        folder(recipe, lambda: register_term("edges", faint), terms=(Term("edges", 0.1, faint),))


def test_a_recipe_without_terms_reads_as_before_there_were_any():
    assert "terms" not in to_json(RECIPE) and from_json(Recipe, to_json(RECIPE)) == RECIPE
    recipe = replace(RECIPE, terms=(WeightedTerm("edges", np.float32(0.5)),))
    assert from_json(Recipe, to_json(recipe)) == recipe
    for weight in (-1, float("nan"), True, "1"):
        with pytest.raises(QuadrateError, match="weight"):
            WeightedTerm("edges", weight)
    for name in ("", "a\x1b[31m", 3):
        with pytest.raises(QuadrateError, match="the name of a loss term"):
            WeightedTerm(name, 0.1)


def shallow(shape, dim):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, dim), nn.Tanh())


def bounded(shape, dim):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, dim), nn.Hardtanh())


def test_registered_families_count_by_their_code():
    recipe, known = replace(RECIPE, family="linear"), FAMILIES["compact"]
    one, other = (
        lambda encoder=encoder: register_family(
            Family("linear", encoder, known.decoder, known.critic)
        )
        for encoder in (shallow, bounded)
    )
    names = [folder(recipe, register) for register in (one, one, other)]
    assert names[0] == names[1] != names[2]


def clipped(family, shape, dim, classes):
    return nn.Sequential(family.decoder(shape, dim), nn.Hardtanh(0.0, 1.0))


def doubled(family, shape, dim, classes):
    return nn.Sequential(family.decoder(shape, dim), nn.Hardtanh(0.0, 2.0))


def test_registered_kinds_of_decoders_count_by_their_code():
    point = OperatingPoint((3, 3), decoder="bounded")
    recipe = replace(RECIPE, stages=(replace(STAGE, points=(point,)),))
    one, other = (
        lambda build=build: register_decoder(DecoderKind("bounded", build))
        for build in (clipped, doubled)
    )
    names = [folder(recipe, register) for register in (one, one, other)]
    assert names[0] == names[1] != names[2]


def soft(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes), nn.Softplus())


def hard(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes), nn.ReLU())


def test_registered_judges_of_pytorchs_classes_count_by_what_they_are_made_of():
    names = []
    for build in (soft, soft, hard):

        def register(build=build):
            register_classifier("mine", build)
            module = build((1, 8, 8), 10)
            with torch.no_grad():
                module[1].weight.fill_(0.1)
                module[1].bias.fill_(0.2)
            _save_judge(module, "mine")

        names.append(folder(RECIPE, register))
    assert names[0] == names[1] != names[2]


def test_registered_sources_count_by_what_they_hold():
    def register(level):
        images, labels = np.full((60, 1, 8, 8), level, np.uint8), np.arange(60) % 10
        source = from_arrays("bars", train=(images, labels), test=(images, labels))
        register_source("bars", lambda: replace(source, fingerprint="a" * 64))

    names = [
        folder(replace(RECIPE, source="bars"), lambda level=level: register(level))
        for level in (1, 1, 2)
    ]
    assert names[0] == names[1] != names[2]
