"""Stages: the three ways to run points give the same codecs."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from quadrate.config import OperatingPoint
from quadrate.core import draws
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.networks.family import Family
from quadrate.objectives import Batch, Term
from quadrate.training import train_stage
from stage_parts import COMPACT, INK, SETTINGS, Interrupt, assert_same, files, load, rows, tensors

PLAIN = OperatingPoint((3, 3))


BALANCED = OperatingPoint((2, 5), 1.0, 0.05, 0.05, 3)


DIVERGING = OperatingPoint((3, 3), lambda_c=0.3)


# --- your own networks, judge and loss, in a module, so that other processes find them ---


class OwnDecoder(nn.Sequential):
    """One hidden layer."""

    def __init__(self, shape, dim):
        super().__init__(
            nn.Linear(dim, 50),
            nn.BatchNorm1d(50),
            nn.ReLU(),
            nn.Linear(50, 64),
            nn.Sigmoid(),
            nn.Unflatten(1, shape),
        )


OWN_FAMILY = Family("own", COMPACT.encoder, OwnDecoder, COMPACT.critic)


class OwnJudge(nn.Module):
    """Knows ten colours."""

    def __init__(self):
        super().__init__()
        self.colours = nn.Parameter(torch.linspace(0, 1, 10))

    def forward(self, x: Tensor) -> Tensor:
        return -(x.flatten(1).mean(1, keepdim=True) - self.colours).square()


FIRST = draws.permutation(DIVERGING.seed, DIVERGING.key, "order", 0, n=256)[:4]


def trap(batch: Batch) -> Tensor:
    """Not a number for the first batch of one point, and nothing for all the others."""
    caught = (batch.indices[:, :4] == FIRST).all(1)
    return torch.where(caught, math.nan, 0.0) * batch.reconstruction.flatten(1).mean(1)


TRAP = Term("trap", 1.0, trap)


# --- what a stage leaves behind ---


def test_a_point_leaves_its_model_and_its_metrics(make):
    assignment, reports = make(BALANCED, noise_std=0.25), []
    train_stage(assignment, "single", report=reports.append)
    assert files(assignment, BALANCED) == ["metrics.jsonl", "model.safetensors"]
    assert [(r["stage"], r["point"], r["epoch"], r["epochs"]) for r in reports] == [
        ("stage", BALANCED.key, epoch, 4) for epoch in (1, 2, 3, 4)
    ]
    columns = {
        "mse",
        "wasserstein",
        "cross_entropy_nats",
        "critic_gap",
        "validation_mse",
        "validation_cross_entropy_nats",
        "validation_accuracy",
    }
    assert all(set(row) == columns | {"epoch"} for row in rows(assignment, BALANCED))
    codec = load(assignment, BALANCED)
    assert codec.point == BALANCED and codec.levels == (2, 5) and codec.critic is not None
    details = codec.details
    assert (
        details["recipe"] == "test"
        and details["stage"] == "stage"
        and details["noise_std"] == 0.25
        and details["stacked_with"] == 0
    )
    assert 0 < details["cpu_seconds"] and 0 < details["wall_seconds"]


def test_what_is_trained_is_not_trained_again(make):
    assignment = make(PLAIN)
    train_stage(assignment, "single")
    path = assignment.place(PLAIN) / "model.safetensors"
    before = path.stat().st_mtime_ns
    for execution in ("single", "spread", "stacked"):
        train_stage(assignment, execution, report=Interrupt(1))
    assert path.stat().st_mtime_ns == before


def test_only_what_is_used_is_kept(make):
    assignment = make(PLAIN, OperatingPoint((3, 3), lambda_c=0.1))
    train_stage(assignment, "single")
    for point in assignment.stage.points:
        assert {name.split("/")[0] for name in tensors(assignment, point)} == {
            "encoder.0",
            f"decoder.{point.purpose}",
        }


# --- single, spread, stacked ---


def test_spread_equals_single_bit_for_bit_also_with_ones_own_things_and_a_point_that_fails(make):
    points = (PLAIN, DIVERGING, BALANCED)
    own = {"family": OWN_FAMILY, "classifier": OwnJudge(), "terms": (INK, TRAP)}
    single, spread = make(*points, folder="single", **own), make(*points, folder="spread", **own)
    reports: list[dict] = []
    for assignment, execution in ((single, "single"), (spread, "spread")):
        with pytest.raises(
            QuadrateError,
            match=(
                r"training of 2x3_d1_p0_c0.3_s0 diverged in epoch .*\(1 of 3 failed; the others are"
                r" done\)"
            ),
        ) as caught:
            train_stage(assignment, execution, workers=2, report=reports.append)
        assert "\n" not in str(caught.value)
        assert not (assignment.place(DIVERGING) / "model.safetensors").exists()
    assert_same(single, spread, PLAIN, BALANCED)
    assert all("ink" in row for row in rows(spread, PLAIN))
    assert sorted((r["point"], r["epoch"]) for r in reports) == sorted(
        2 * [(point.key, epoch) for point in (PLAIN, BALANCED) for epoch in (1, 2, 3, 4)]
    )


def test_stacked_trains_every_point_in_groups_of_one_shape(make):
    points = (
        PLAIN,
        OperatingPoint((3, 3), lambda_c=0.05),
        BALANCED,
        dataclasses.replace(BALANCED, seed=4),
        OperatingPoint((4,)),
    )
    settings = dataclasses.replace(SETTINGS, precision="float32")
    stacked = make(*points, folder="stacked", settings=settings)
    single = make(*points, folder="single", settings=settings)
    train_stage(stacked, "stacked")
    train_stage(single, "single")
    assert [load(stacked, point).details["stacked_with"] for point in points] == [1, 1, 1, 1, 0]
    for point in points:
        first, alone = rows(stacked, point)[0], rows(single, point)[0]
        assert len(rows(stacked, point)) == 4 and first["mse"] == pytest.approx(
            alone["mse"], rel=0.02
        )
        assert load(stacked, point).point == point
    assert_same(stacked, single, points[-1])  # a group of one is single


@pytest.mark.parametrize("execution", ["single", "stacked"])
def test_a_point_that_diverges_is_named_and_the_others_are_finished(make, execution):
    """Also those that are stacked with it."""
    good = OperatingPoint((3, 3), lambda_c=0.01)
    assignment = make(good, DIVERGING, PLAIN, terms=(TRAP,))
    for _ in range(2):  # and again, when the command is repeated
        with pytest.raises(
            QuadrateError,
            match=(
                r"training of 2x3_d1_p0_c0.3_s0 diverged in epoch .*a smaller learning rate would"
                r" be right"
            ),
        ) as caught:
            train_stage(assignment, execution)
        assert "\n" not in str(caught.value)
        assert not (assignment.place(DIVERGING) / "model.safetensors").exists()
        for point in (good, PLAIN):
            assert [row["epoch"] for row in rows(assignment, point)] == [1, 2, 3, 4]
            assert load(assignment, point).point == point


def test_what_other_processes_cannot_find_is_trained_here(make):
    local = Family(
        "local", lambda shape, dim: COMPACT.encoder(shape, dim), COMPACT.decoder, COMPACT.critic
    )
    here = make(PLAIN, BALANCED, folder="here", family=local)
    single = make(PLAIN, BALANCED, folder="single", family=local)
    with pytest.warns(
        QuadrateWarning,
        match="all work is done in this process.*define it at the top level of a module",
    ):
        train_stage(here, "spread", workers=2)
    train_stage(single, "single")
    assert_same(here, single, PLAIN, BALANCED)
    train_stage(
        make(PLAIN, folder="one", family=local), "spread", workers=2
    )  # one point needs no other process
