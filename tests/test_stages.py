"""Stages: the three ways to run points, interruptions of every kind, and frozen encoders."""

import dataclasses
import math
import multiprocessing
import os
import resource
import signal
import time

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from quadrate.codecs.codec import Codec
from quadrate.config import OperatingPoint, Stage, TrainingConfig
from quadrate.core import draws
from quadrate.core.files import read_rows
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.networks.family import Family, find_family
from quadrate.objectives import Batch, Term
from quadrate.sources import pixels
from quadrate.training import Assignment, stages, train_stage

COMPACT = find_family("compact")
SETTINGS = TrainingConfig(epochs=4, batch=64, anneal=0.5)
PLAIN = OperatingPoint((3, 3))
BALANCED = OperatingPoint((2, 5), 1.0, 0.05, 0.05, 3)
DIVERGING = OperatingPoint((3, 3), lambda_c=0.3)

# --- one's own networks, judge and loss; at the top of a module, so that other processes find them ---


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


def ink(batch: Batch) -> Tensor:
    """As much ink as there should be; it takes its time if told so."""
    time.sleep(float(os.environ.get("QUADRATE_TEST_SLEEP", 0)))
    return (batch.reconstruction - batch.clean).flatten(2).mean(2).square().mean(1)


INK = Term("ink", 0.5, ink)
FIRST = draws.permutation(DIVERGING.seed, DIVERGING.key, "order", 0, n=256)[:4]


def trap(batch: Batch) -> Tensor:
    """Not a number for the first batch of one point, and nothing for all the others."""
    caught = (batch.indices[:, :4] == FIRST).all(1)
    return torch.where(caught, math.nan, 0.0) * batch.reconstruction.flatten(1).mean(1)


TRAP = Term("trap", 1.0, trap)


# --- tools ---


@pytest.fixture
def make(digits, judge, tmp_path):
    """Makes assignments whose files lie in this test's folder."""

    def assignment(
        *points: OperatingPoint,
        folder: str = "run",
        settings: TrainingConfig = SETTINGS,
        name: str = "stage",
        **more,
    ) -> Assignment:
        kinds = {field.name for field in dataclasses.fields(Stage)}
        stage = Stage(
            name,
            points,
            training=settings,
            **{key: value for key, value in more.items() if key in kinds},
        )
        rest = {
            "source": digits,
            "family": COMPACT,
            "classifier": judge.module,
            "details": {"recipe": "test"},
        }
        return Assignment(
            stage,
            folder=tmp_path / folder,
            **{**rest, **{key: value for key, value in more.items() if key not in kinds}},
        )

    return assignment


def load(assignment: Assignment, point: OperatingPoint) -> Codec:
    return Codec.load(assignment.place(point) / "model.safetensors", assignment.family)


def tensors(assignment: Assignment, point: OperatingPoint) -> dict[str, Tensor]:
    return safetensors.torch.load_file(assignment.place(point) / "model.safetensors")


def rows(assignment: Assignment, point: OperatingPoint) -> list[dict[str, float]]:
    return [
        {name: value for name, value in row.items() if name != "cpu_seconds"}
        for row in read_rows(assignment.place(point) / "metrics.jsonl")
    ]


def assert_same(a: Assignment, b: Assignment, *points: OperatingPoint) -> None:
    """Both trained these points to the same bits, by way of the same epochs."""
    for point in points:
        ours, theirs = tensors(a, point), tensors(b, point)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert rows(a, point) == rows(b, point)
        assert [row["epoch"] for row in rows(a, point)] == list(
            range(1, a.stage.training.epochs + 1)
        )


def files(assignment: Assignment, point: OperatingPoint) -> list[str]:
    return sorted(path.name for path in assignment.place(point).glob("*")) + sorted(
        path.name for path in assignment.place(point).glob(".*")
    )


class Interrupt:
    """A report that stops the training after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, message: dict) -> None:
        if message["epoch"] == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture
def checkpoints(monkeypatch):
    """After each epoch instead of every few seconds."""
    monkeypatch.setattr(stages, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)


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


# --- interruptions ---


@pytest.mark.parametrize("execution", ["single", "stacked"])
def test_an_interrupted_training_goes_on_bit_for_bit(make, checkpoints, execution):
    points = (BALANCED, dataclasses.replace(BALANCED, lambda_p=0.01, seed=4))
    whole, broken = make(*points, folder="whole"), make(*points, folder="broken")
    train_stage(whole, execution)
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            train_stage(broken, execution, report=Interrupt(epoch))
        assert "checkpoint.safetensors" in files(
            broken, BALANCED
        ) and "model.safetensors" not in files(broken, BALANCED)
    reported: list[int] = []
    train_stage(broken, execution, report=lambda message: reported.append(message["epoch"]))
    assert reported[0] == 3  # from the checkpoint of epoch 2, and not from the start
    assert_same(whole, broken, *points)
    assert files(broken, BALANCED) == ["metrics.jsonl", "model.safetensors"]


def test_no_epoch_is_told_twice_if_the_training_dies_between_its_two_files(make, checkpoints):
    whole, broken = make(PLAIN, folder="whole"), make(PLAIN, folder="broken")
    train_stage(whole, "single")
    with pytest.raises(KeyboardInterrupt):
        train_stage(broken, "single", report=Interrupt(3))
    with (broken.place(PLAIN) / "metrics.jsonl").open(
        "a"
    ) as file:  # the metrics of epoch 3 were written, its checkpoint was not
        file.write('{"epoch": 3, "mse": 9.0}\n')
    train_stage(broken, "single")
    assert_same(whole, broken, PLAIN)


def test_a_killed_worker_is_one_line_and_the_same_command_goes_on(make, monkeypatch):
    points = (PLAIN, BALANCED, OperatingPoint((4,)))
    whole = make(*points, folder="whole", terms=(INK,))
    broken = make(*points, folder="broken", terms=(INK,))
    train_stage(whole, "single")

    def kill(message: dict) -> None:
        if message["epoch"] == 1:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with (
        monkeypatch.context() as slowly,
        pytest.raises(
            QuadrateError, match="a worker process was killed .*the same command resumes"
        ),
    ):
        slowly.setenv("QUADRATE_TEST_SLEEP", "0.2")
        train_stage(broken, "spread", workers=2, report=kill)
    assert not multiprocessing.active_children()
    train_stage(broken, "single")
    assert_same(whole, broken, *points)


def test_a_full_disk_is_one_line_and_nothing_is_lost(make, checkpoints):
    whole, broken = make(PLAIN, folder="whole"), make(PLAIN, folder="broken")
    train_stage(whole, "single")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(message: dict) -> None:
        if message["epoch"] == 2:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (10_000, hard)
            )  # metrics have room, checkpoints have none

    try:
        with pytest.raises(
            QuadrateError,
            match=r"cannot write .*checkpoint.safetensors: .*make room or choose another folder",
        ) as caught:
            train_stage(broken, "single", report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert files(broken, PLAIN) == ["checkpoint.safetensors", "metrics.jsonl"]
    reported: list[int] = []
    train_stage(broken, "single", report=lambda message: reported.append(message["epoch"]))
    assert reported == [2, 3, 4]
    assert_same(whole, broken, PLAIN)


@pytest.mark.parametrize(
    "content", [b"", b"half a checkpoint", safetensors.torch.save({"a": torch.zeros(1)})]
)
def test_a_damaged_checkpoint_is_one_line(make, content):
    assignment = make(PLAIN)
    path = assignment.place(PLAIN) / "checkpoint.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for execution in ("single", "stacked"):
        with pytest.raises(
            QuadrateError,
            match=(
                r"checkpoint .*checkpoint.safetensors is damaged .*; delete it to train the point"
                r" from the start"
            ),
        ):
            train_stage(assignment, execution)


# --- frozen encoders ---


def test_universal_decoders_share_the_frozen_encoder_of_the_base_of_their_seed(make, digits):
    bases = tuple(
        OperatingPoint((3, 3), lambda_p=0.05, lambda_c=0.05, seed=seed) for seed in (0, 1)
    )
    end_to_end = make(*bases, name="end-to-end")
    train_stage(end_to_end, "single")
    points = (
        PLAIN,
        OperatingPoint((3, 3), lambda_p=0.1),
        OperatingPoint((3, 3), lambda_c=0.1),
        OperatingPoint((3, 3), seed=1),
    )
    universal = make(
        *points, name="universal", mode="universal", base=bases[0], base_stage="end-to-end"
    )
    train_stage(universal, "single")
    for point in points:
        base, trained = load(end_to_end, bases[point.seed]), load(universal, point)
        ours, theirs = tensors(universal, point), tensors(end_to_end, bases[point.seed])
        encoder = {name for name in theirs if name.startswith("encoder.0/")}
        assert encoder == {name for name in ours if name.startswith("encoder.")}
        assert all(
            torch.equal(ours[name], theirs[name]) for name in encoder
        )  # the statistics of its batch norms included
        assert (
            trained.encoder_hash == base.encoder_hash
            and trained.point == point
            and (trained.critic is not None) == (point.lambda_p > 0)
        )
        assert not torch.equal(
            ours[f"decoder.{point.purpose}/0.weight"],
            theirs[f"decoder.{base.point.purpose}/0.weight"],
        )
        images = digits.test.images
        assert torch.equal(trained.encode(images), base.encode(images))
    first, second, third, fourth = (load(universal, point) for point in points)
    assert list(first.add_decoder(second).add_decoder(third).decoders) == [
        "faithful",
        "realistic",
        "recognizable",
    ]
    with pytest.raises(QuadrateError, match="was trained on another encoder"):
        first.add_decoder(fourth, "fourth")

    frozen = stages._freeze(load(end_to_end, bases[0]), digits, 0)
    assert torch.equal(
        frozen.train, load(end_to_end, bases[0]).latents(pixels(digits.train.images))
    )
    assert torch.equal(
        frozen.validation, load(end_to_end, bases[0]).latents(pixels(digits.validation.images))
    )
    critic = load(end_to_end, bases[0]).critic.state_dict()
    assert all(torch.equal(frozen.critic[name], critic[name]) for name in critic)
    assert frozen.levels == (3, 3)


def test_universal_training_is_spread_and_resumed_like_any_other(make, checkpoints):
    base = make(BALANCED, name="base")
    train_stage(base, "single")
    points = (
        dataclasses.replace(BALANCED, lambda_p=0.0),
        dataclasses.replace(BALANCED, lambda_p=0.02),
    )
    how = {"mode": "universal", "base": BALANCED, "base_stage": "base"}
    whole = make(*points, name="whole", **how)
    train_stage(whole, "single")
    broken = make(*points, name="broken", **how)
    with pytest.raises(KeyboardInterrupt):
        train_stage(broken, "single", report=Interrupt(3))
    train_stage(broken, "single")
    assert_same(whole, broken, *points)
    stacked = make(points[0], dataclasses.replace(points[0], lambda_c=0.0), name="stacked", **how)
    train_stage(stacked, "stacked")
    assert load(stacked, points[0]).encoder_hash == load(base, BALANCED).encoder_hash


def test_a_refinement_leaves_the_base_decodable_alone(make, digits):
    first = make(PLAIN, name="first")
    train_stage(first, "single")
    point = OperatingPoint((4, 2, 3), lambda_p=0.02)
    second = make(point, name="second", mode="refinement", base=PLAIN, base_stage="first")
    train_stage(second, "single")
    base, refined = load(first, PLAIN), load(second, point)
    assert refined.stages == [(3, 3), (4, 2, 3)] and refined.rate_bound_bits == pytest.approx(
        base.rate_bound_bits + point.rate_bound_bits
    )
    ours, theirs = tensors(second, point), tensors(first, PLAIN)
    assert all(
        torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("encoder.0/")
    )
    assert ours[f"decoder.{point.purpose}/0.weight"].shape[1] == 5
    symbols = refined.encode(digits.test.images, seed=7)
    assert torch.equal(symbols[:, :2], base.encode(digits.test.images, seed=7))
    assert torch.equal(
        base.decode(symbols[:, :2], seed=7), base.reconstruct(digits.test.images, seed=7)
    )


def test_a_frozen_encoder_sees_the_noise_of_the_stage(make, digits):
    base = make(PLAIN, name="base", noise_std=0.5)
    train_stage(base, "single")
    codec = load(base, PLAIN)
    without = make(PLAIN, name="without")
    train_stage(without, "single")
    assert (
        rows(base, PLAIN)[0]["mse"] > rows(without, PLAIN)[0]["mse"]
    )  # so did the encoder while it was trained
    clean = stages._freeze(codec, digits, 0)
    noisy = stages._freeze(codec, dataclasses.replace(digits, noise_std=0.5), 0)
    assert not torch.allclose(clean.train, noisy.train, atol=1e-3)
    assert torch.equal(
        noisy.train, stages._freeze(codec, dataclasses.replace(digits, noise_std=0.5), 0).train
    )


def test_a_base_that_is_not_trained_is_named(make):
    universal = make(
        PLAIN,
        name="universal",
        mode="universal",
        base=OperatingPoint((3, 3), lambda_p=0.1),
        base_stage="end-to-end",
    )
    with pytest.raises(
        QuadrateError,
        match=(
            "stage 'universal' builds on 2x3_d1_p0.1_c0_s0 of stage 'end-to-end', which is not"
            " trained"
        ),
    ):
        train_stage(universal, "single")
