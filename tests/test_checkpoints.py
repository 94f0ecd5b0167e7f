"""Checkpoints under attack.

A training goes on to the result that it was on its way to, or one line says to delete the file.
"""

import dataclasses
import json
import math
import random
import shutil
import time
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor

from quadrate.codecs import TradeoffCodec
from quadrate.config import InvariantConfig, OperatingPoint, Stage, TrainingConfig
from quadrate.core.tensor_file import read_tensors, write_tensors
from quadrate.errors import QuadrateError
from quadrate.networks.family import find_family
from quadrate.objectives import Batch, Term
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training import Assignment, Trainer, loop, train_stage
from quadrate.training import invariant_trainer as invariant_training
from quadrate.training.invariant_trainer import train_invariant

POINT = OperatingPoint((3, 3), lambda_p=0.05)
SETTINGS = TrainingConfig(epochs=3, batch=64, precision="float32")
FORMAT = "quadrate-checkpoint-3"
SOURCE = dihedral_patterns(2, [0.5, 0.5])
SMALL = InvariantConfig(dims=2, steps=20, batch=32, objective="vic", likelihood="bernoulli")
ATTACKS = pytest.mark.parametrize(
    "attacks", [60, pytest.param(1000, marks=pytest.mark.slow)]
)  # most come with a digest that fits


class Stopped(Exception):
    """What an interruption raises."""


def stop(message: dict) -> None:
    if 2 in (message.get("epoch"), message.get("step")):
        raise Stopped


@pytest.fixture(autouse=True)
def checkpoints(monkeypatch):
    """After each epoch and step instead of every few seconds."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)


@pytest.fixture
def interrupted(digits, tmp_path) -> Assignment:
    """A stage whose point has a checkpoint of its first epoch."""
    assignment = Assignment(
        Stage("stage", (POINT,), training=SETTINGS),
        digits,
        find_family("compact"),
        None,
        tmp_path / "run",
        {},
    )
    with pytest.raises(Stopped):
        train_stage(assignment, "single", report=stop)
    return assignment


def checkpoint_of(assignment: Assignment):
    return assignment.place(POINT) / "checkpoint.safetensors"


def resume(assignment: Assignment) -> dict[str, Tensor]:
    train_stage(assignment, "single")
    codec = TradeoffCodec.load(assignment.place(POINT) / "model.safetensors")
    return {
        f"{role}/{name}": tensor
        for role, state in codec.states.items()
        for name, tensor in state.items()
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Damages of tensors; each takes them by name, and the name of one.
DAMAGES: list[Callable[[dict[str, Tensor], str, random.Random], object]] = [
    lambda state, name, draw: state.pop(name),
    lambda state, name, draw: state.update({f"{name}x": state[name]}),
    lambda state, name, draw: state.update({draw.choice(sorted(state)): state.pop(name)}),
    lambda state, name, draw: (
        state.update({name: torch.tensor(0.5)})
        if state[name].shape
        else state.update({name: torch.zeros(2)})
    ),
    lambda state, name, draw: (
        state.update({name: state[name].flatten()[:1].clone()})
        if state[name].numel() > 1
        else state.pop(name)
    ),
    lambda state, name, draw: state.update({name: state[name].unsqueeze(0)}),
    lambda state, name, draw: state.update({name: state[name].to(torch.int8)}),
    lambda state, name, draw: state.update(
        {name: state[name].double() if state[name].dtype != torch.float64 else state[name].float()}
    ),
    lambda state, name, draw: state.update(
        {name: torch.full(state[name].shape, draw.choice([math.nan, math.inf]))}
    ),
    lambda state, name, draw: [state.pop(each) for each in list(state) if "optimizer." in each],
    lambda state, name, draw: [state.pop(each) for each in list(state) if each.endswith(".step")],
    lambda state, name, draw: state.update(
        {counter(state): torch.tensor(draw.choice([-1, 0, 3, 20, 100, 2**40]))}
    ),
    lambda state, name, draw: state.update({counter(state): torch.tensor([1, 1])}),
    lambda state, name, draw: state.update({counter(state): torch.tensor(1.0)}),
    lambda state, name, draw: state.update(
        {n: torch.tensor(draw.choice([-1.0, 0.5, 7e7])) for n in state if n.endswith(".step")}
    ),
    lambda state, name, draw: state.update({"seconds": -1 - state["seconds"].abs()}),
    lambda state, name, draw: state.update(
        {n: -1 - t for n, t in state.items() if n.endswith("exp_avg_sq")}
    ),
]


def counter(state: dict[str, Tensor]) -> str:
    return "epoch" if "epoch" in state else "at"


def damage(whole: bytes, path, draw: random.Random) -> None:
    """Writes a damaged checkpoint.

    Bytes that are changed, or tensors that are, with a digest that fits or none.
    """
    kind = draw.random()
    if kind < 0.25:
        broken = bytearray(whole)
        for _ in range(draw.choice([1, 1, 4])):
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        path.write_bytes(
            bytes(broken) if draw.random() < 0.7 else whole[: draw.randrange(len(whole))]
        )
        return
    path.write_bytes(whole)
    texts, state = read_tensors(path, "", [FORMAT])
    draw.choice(DAMAGES)(state, draw.choice(sorted(state)), draw)
    if kind < 0.85:
        try:
            write_tensors(path, state, texts)  # whatever it is, under a digest of its own
        except QuadrateError:
            path.write_bytes(b"")
    else:
        safetensors.torch.save_file(
            {name: tensor.contiguous().clone() for name, tensor in state.items()}, path, texts
        )


@ATTACKS
def test_no_damage_of_a_checkpoint_trains_on_to_another_result(interrupted, attacks):
    path = checkpoint_of(interrupted)
    whole, rows = path.read_bytes(), (path.parent / "metrics.jsonl").read_bytes()
    result = resume(interrupted)
    draw, refused = random.Random(12), 0
    for _ in range(attacks):
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        (path.parent / "metrics.jsonl").write_bytes(rows)
        damage(whole, path, draw)
        try:
            assert same(resume(interrupted), result)  # a damage may hit what does not matter
        except QuadrateError as error:
            refused += 1
            assert str(path) in str(error) and "delete it" in str(error) and "\n" not in str(error)
    assert refused > 0.95 * attacks


def weights(trained) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": tensor
        for name in ("encoder", "head", "bottleneck")
        for key, tensor in getattr(trained, name).state_dict().items()
    }


@ATTACKS
def test_no_damage_of_an_invariant_checkpoint_trains_on_to_another_result(tmp_path, attacks):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stopped):
        train_invariant(SOURCE, SMALL, stop, path)
    whole, result = path.read_bytes(), weights(train_invariant(SOURCE, SMALL, None, path))
    draw, refused = random.Random(12), 0
    for _ in range(attacks):
        damage(whole, path, draw)
        try:
            assert same(weights(train_invariant(SOURCE, SMALL, None, path)), result)
        except QuadrateError as error:
            refused += 1
            assert str(path) in str(error) and "delete it" in str(error) and "\n" not in str(error)
    assert refused > 0.95 * attacks


METRICS: dict[str, Callable[[list[str]], list[str] | None]] = {
    "missing": lambda lines: None,
    "empty": lambda lines: [],
    "changed": lambda lines: [lines[0].replace('"epoch": 1', '"epoch": 7')],
    "another number": lambda lines: [json.dumps(json.loads(lines[0]) | {"mse": 1.0}) + "\n"],
    "no JSON": lambda lines: ["{\n"],
    "no object": lambda lines: ["[1]\n"],
}


@pytest.mark.parametrize("change", METRICS)
def test_metrics_that_do_not_go_with_the_checkpoint_are_told(interrupted, change):
    path = checkpoint_of(interrupted).parent / "metrics.jsonl"
    lines = METRICS[change](path.read_text().splitlines(keepends=True)[:1])
    path.unlink() if lines is None else path.write_text("".join(lines))
    with pytest.raises(
        QuadrateError,
        match=(
            "checkpoint .* is damaged .*metrics.jsonl.*; delete it to train the point from the"
            " start"
        ),
    ):
        resume(interrupted)


def bright(batch: Batch) -> Tensor:
    return batch.reconstruction.mean((2, 3, 4)).mean(1)


def test_a_checkpoint_of_another_training_is_not_gone_on_with(interrupted, digits, judge):
    other_source = dataclasses.replace(digits, fingerprint="0" * 64)
    for change in (
        {
            "stage": Stage(
                "stage", (POINT,), training=dataclasses.replace(SETTINGS, learning_rate=1e-3)
            )
        },
        {"stage": Stage("stage", (POINT,), training=SETTINGS, noise_std=0.1)},
        {"source": other_source},
        {"terms": (Term("bright", 0.1, bright),)},
        {"classifier": judge.module},
    ):
        with pytest.raises(
            QuadrateError, match="checkpoint .* is of another configuration; delete it"
        ):
            train_stage(dataclasses.replace(interrupted, **change), "single")


def test_a_checkpoint_of_version_0_1_is_one_line(interrupted):
    path = checkpoint_of(interrupted)
    _, state = read_tensors(path, "", [FORMAT])
    safetensors.torch.save_file(state, path)
    with pytest.raises(
        QuadrateError,
        match=(
            "not a checkpoint of this version of Quadrate.*; delete it to train the point from the"
            " start"
        ),
    ):
        resume(interrupted)


def test_an_invariant_checkpoint_of_other_data_is_not_gone_on_with(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stopped):
        train_invariant(SOURCE, SMALL, stop, path)
    with pytest.raises(QuadrateError, match="of another configuration; delete it"):
        train_invariant(dihedral_patterns(2, [0.25, 0.75]), SMALL, None, path)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "bince"},
        {"bottleneck": "hyperprior"},
        {"bottleneck": "unit-gaussian"},
        {"schedule": "staggered", "beta": 0.5},
    ],
    ids=str,
)
def test_every_kind_of_invariant_training_goes_on_from_its_checkpoint(
    tmp_path, monkeypatch, settings
):
    monkeypatch.setattr(
        invariant_training._Training, "_staggered", lambda training: training.bottleneck
    )
    config, path = dataclasses.replace(SMALL, **settings), tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stopped):
        train_invariant(SOURCE, config, stop, path)
    resumed = train_invariant(SOURCE, config, None, path)
    assert same(weights(resumed), weights(train_invariant(SOURCE, config, None)))


# --- times ---


def test_times_add_up_over_interruptions(digits, tmp_path, monkeypatch):
    """Each session takes at least as long as its epochs."""
    assignment = Assignment(
        Stage("stage", (POINT,), training=SETTINGS),
        digits,
        find_family("compact"),
        None,
        tmp_path,
        {},
    )
    original = Trainer.train_epoch

    def train_epoch(trainer):
        with monkeypatch.context() as patch:
            validate = trainer.validate
            patch.setattr(trainer, "validate", lambda: time.sleep(0.4) or validate())
            return original(trainer)

    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    for epoch in (2, 3):

        def stop_at(message: dict, epoch: int = epoch) -> None:
            if message["epoch"] == epoch:
                raise Stopped

        with pytest.raises(Stopped):
            train_stage(assignment, "single", report=stop_at)
    train_stage(assignment, "single")
    details = TradeoffCodec.load(assignment.place(POINT) / "model.safetensors").details
    assert details["wall_seconds"] >= 3 * 0.4 and details["cpu_seconds"] > 0


def test_times_of_invariant_trainings_add_up_over_interruptions(tmp_path):
    path = tmp_path / "checkpoint.safetensors"

    for step in (6, 12):

        def slow_stop(message: dict, step: int = step) -> None:
            time.sleep(0.1)
            if message["step"] == step:
                raise Stopped

        with pytest.raises(Stopped):
            train_invariant(SOURCE, SMALL, slow_stop, path)
        assert int(read_tensors(path, "", [FORMAT])[1]["at"]) == step - 1
    trained = train_invariant(SOURCE, SMALL, None, path)
    assert trained.wall_seconds > 1.0 and trained.cpu_seconds > 0
