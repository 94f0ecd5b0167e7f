"""Points to train, networks and losses of your own, and what training leaves in files."""

import os
import time

import safetensors.torch
import torch
from torch import Tensor, nn

from quadrate.codecs import TradeoffCodec
from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.core.files import read_rows
from quadrate.networks.family import Family, find_family
from quadrate.objectives import Batch, Term
from quadrate.training import Assignment

COMPACT = find_family("compact")


SETTINGS = TrainingConfig(epochs=4, batch=64, anneal=0.5)


def ink(batch: Batch) -> Tensor:
    """As much ink as there should be; it takes its time if told so."""
    time.sleep(float(os.environ.get("QUADRATE_TEST_SLEEP", 0)))
    return (batch.reconstruction - batch.clean).flatten(2).mean(2).square().mean(1)


INK = Term("ink", 0.5, ink)


def load(assignment: Assignment, point: OperatingPoint) -> TradeoffCodec:
    return TradeoffCodec.load(
        assignment.place(point) / "model.safetensors", family=assignment.family
    )


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


def maps_encoder(shape: tuple[int, int, int], dims: int) -> nn.Module:
    """Images (N, 1, 8, 8) to maps (N, dims, 4, 4)."""
    return nn.Sequential(nn.Conv2d(shape[0], 16, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(16, dims, 1))


def maps_decoder(shape: tuple[int, int, int], dims: int) -> nn.Module:
    """Maps (N, dims, 4, 4) to images (N, 1, 8, 8)."""
    layers = (nn.Conv2d(dims, 16, 3, 1, 1), nn.LeakyReLU(), nn.ConvTranspose2d(16, shape[0], 2, 2))
    return nn.Sequential(*layers, nn.Sigmoid())


MAPS = Family("maps", maps_encoder, maps_decoder, COMPACT.critic)
