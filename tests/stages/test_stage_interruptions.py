"""Training that is interrupted or killed goes on bit for bit, or says so in one line."""

import dataclasses
import multiprocessing
import os
import resource
import signal

import pytest
import safetensors.torch
import torch

from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.training import train_stage
from stage_parts import INK, Interrupt, assert_same, files

PLAIN = OperatingPoint((3, 3))


BALANCED = OperatingPoint((2, 5), 1.0, 0.05, 0.05, 3)


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
