"""What the points of a stage have in common, and what their trainers have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.core import draws
from quadrate.networks.family import Family
from quadrate.objectives import Term
from quadrate.sources.source import Source
from quadrate.training.layers import FrozenLatents, TrainingLayer
from quadrate.training.loop import Clock
from quadrate.training.stack import Stack


@dataclass(frozen=True)
class Task:
    """What the points of a stage have in common: all but weights, seed and what is frozen for them.

    Attributes:
        source: The images; `source.noise_std` is the noise that encoders see.
        family: The networks.
        classifier: The frozen classifier of the cross-entropy term; needed where a point has
            lambda_c > 0.
        config: The settings.
        train_encoder: Whether an encoder is trained (not in the universal mode).
        terms: Your own terms, added to the objective.
        readers: Frozen classifiers that labelled decoders write for.
    """

    source: Source
    family: Family
    classifier: nn.Module | None
    config: TrainingConfig
    train_encoder: bool = True
    terms: tuple[Term, ...] = ()
    readers: tuple[nn.Module, ...] = ()


class PointTrainer:
    """Trains points epoch by epoch; what it draws is a function of (seed, point, stream, epoch).

    Args:
        task: What the points have in common.
        points: Operating points.
        frozen: For each point, what its frozen encoder gives; empty for end-to-end training.

    Attributes:
        layers: What the latents of each layer pass through.
        encoder: What is trained to encode; None on frozen codes.
        steps_per_epoch: Whole batches in the training images.
        total_steps: Steps in all epochs.
        epoch: How many epochs are done.
        clock: The time that training took.
    """

    layers: list[TrainingLayer]
    encoder: Stack | None = None
    clock: Clock

    def __init__(
        self, task: Task, points: Sequence[OperatingPoint], frozen: Sequence[FrozenLatents] = ()
    ) -> None:
        self.task, self.points, self.frozen = task, list(points), list(frozen)
        self.config = task.config
        self.device = task.source.train.images.device
        self.batch = min(task.config.batch, len(task.source.train))
        self.steps_per_epoch = len(task.source.train) // self.batch
        self.total_steps = self.steps_per_epoch * task.config.epochs
        self.epoch = 0

    def order(self, *key: object) -> Tensor:
        """The numbers of the training images in each step of an epoch, (steps, batch)."""
        used = self.steps_per_epoch * self.batch
        order = draws.permutation(*key, n=len(self.task.source.train))
        return order[:used].view(self.steps_per_epoch, self.batch)

    @property
    def noise_columns(self) -> int:
        """How many uniform numbers a sample the layers take."""
        return sum(layer.noise_columns for layer in self.layers)

    def through(
        self, latents: Tensor, noise: Tensor, hard: bool = False
    ) -> list[tuple[Tensor, Tensor | None]]:
        """What decoders read of latents (K, B, ...), and its rate (K, B), layer by layer.

        By the surrogate, or quantized and dequantized as files have it; the noise (K, B,
        noise_columns) lies on [-1/2, 1/2).
        """
        parts = latents.split([layer.dims for layer in self.layers], 2)
        columns = noise.split([layer.noise_columns for layer in self.layers], 2)
        return [
            (layer.hard(part, own), None) if hard else layer.surrogate(part, own)
            for layer, part, own in zip(self.layers, parts, columns, strict=True)
        ]
