"""What a symmetry is to a codec.

Random members of a sample's orbit, the orbit's representative, and the maximal invariant M(x).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from quadrate.errors import QuadrateError


class Group(ABC):
    """Transformations that no task of interest sees.

    Samples that they turn into each other form an orbit.

    The plain objective (VC) encodes and decodes one member, VIC encodes a member and decodes the
    representative, BINCE encodes two members. Everything is batched and stays on the device of the
    samples. The generator may live on another device: draws are made there, so that its seed alone
    decides them.
    """

    @abstractmethod
    def member(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """An independent random member of each sample's orbit: (N, ...) to (N, ...)."""

    @abstractmethod
    def representative(self, x: Tensor) -> Tensor:
        """The one point that stands for each sample's orbit: (N, ...) to (N, ...)."""

    @abstractmethod
    def invariant(self, x: Tensor) -> Tensor | None:
        """M(x), (N,) or (N, k), equal for two samples exactly if they share an orbit.

        None where x does not tell (augmented images).
        """


class Population(Group):
    """A known distribution with a symmetry, which is drawn from at will."""

    @abstractmethod
    def sample(self, count: int, *key: object) -> Tensor:
        """Independent points, (count, ...), on the CPU.

        A function of the key alone, as in `quadrate.core.draws`.

        Fresh points for each step of training: `sample(count, "train", seed, epoch, step)`.
        """

    def splits(self, train: int, validation: int, test: int, seed: int = 0) -> OrbitSplits:
        """Three independent sets of the given sizes, the same for the same seed.

        None depends on the size of another.
        """
        sizes = {"train": train, "validation": validation, "test": test}
        return OrbitSplits(
            **{
                name: OrbitSet(self.sample(size, "split", name, seed), self)
                for name, size in sizes.items()
            }
        )


@dataclass(frozen=True, eq=False)
class OrbitSet:
    """A data set whose samples stand for their orbits.

    Attributes:
        points: The samples as they are, (N, ...), N at least 1; images un-augmented.
        group: What tasks do not see.
        labels: Classes, int64 (N,), if there are any.

    Raises:
        QuadrateError: If the set is empty, or labels do not match the points.
    """

    points: Tensor
    group: Group
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.points.ndim == 0 or len(self.points) == 0:
            raise QuadrateError(
                "a set of orbits needs at least one point, along the first axis; got shape"
                f" {tuple(self.points.shape)}"
            )
        if self.labels is not None and (
            self.labels.dtype != torch.int64 or self.labels.shape != self.points.shape[:1]
        ):
            raise QuadrateError(
                f"the labels of {len(self)} points must be int64 ({len(self)},); got"
                f" {self.labels.dtype} {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.points)

    def to(self, device: torch.device | str) -> Self:
        """The same set on `device`."""
        tensors = {
            field.name: value
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
        return dataclasses.replace(self, **moved)

    def members(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """An independent random member of the orbit of each sample that `indices`, int64 (n,), names: (n, ...)."""
        return self.group.member(self.points[indices], generator)

    def representatives(self, indices: Tensor) -> Tensor:
        """The representative of each sample's orbit, (n, ...)."""
        return self.group.representative(self.points[indices])

    def invariants(self, indices: Tensor) -> Tensor:
        """M of each sample, (n,) or (n, k).

        Where x does not tell it, the sample's index, since each sample is then an orbit of its own.
        """
        known = self.group.invariant(self.points[indices])
        return indices if known is None else known

    @property
    def invariant_bits(self) -> float:
        """H[M] of a sample drawn uniformly from this set.

        Log2 N, the data-set identity bound, if no two samples share an orbit.
        """
        _, counts = torch.unique(
            self.invariants(torch.arange(len(self), device=self.points.device)),
            dim=0,
            return_counts=True,
        )
        return math.log2(len(self)) - float((counts * counts.double().log2()).sum()) / len(self)


@dataclass(frozen=True, eq=False)
class LabelOrbitSet(OrbitSet):
    """A data set where samples of one label are equivalent as well.

    M is the label, and a member is one of any sample of that label in this set.

    Attributes:
        prototypes: The representatives, (classes, ...); all splits must share them. See
            `prototypes`.

    Raises:
        QuadrateError: Also if there are no labels, or not a prototype of the points' shape for
            each.
    """

    prototypes: Tensor = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is None:
            raise QuadrateError(
                "samples of one label can be equivalent only where there are labels; got none"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if (
            low < 0
            or high >= len(self.prototypes)
            or self.prototypes.shape[1:] != self.points.shape[1:]
        ):
            raise QuadrateError(
                f"each label needs a prototype of shape {tuple(self.points.shape[1:])}; the labels"
                f" are {low}..{high}, the prototypes {tuple(self.prototypes.shape)}"
            )

    def members(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """A random member of the orbit of a random sample with the same label as each that `indices` names: (n, ...)."""
        return super().members(self.partners(indices, generator), generator)

    def partners(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """A sample uniform among those with the same label as each that `indices` names, (n,).

        It may be the same one.
        """
        order, starts, counts = self._by_label
        labels = self.invariants(indices)
        # In float64, since a float32 product could round up to the next label's first sample.
        draws = torch.rand(
            indices.shape, generator=generator, device=generator.device, dtype=torch.float64
        ).to(indices.device)
        return order[starts[labels] + (draws * counts[labels]).long()]

    def representatives(self, indices: Tensor) -> Tensor:
        """The prototype of each sample's label, (n, ...)."""
        return self.group.representative(self.prototypes[self.invariants(indices)])

    def invariants(self, indices: Tensor) -> Tensor:
        """The label of each sample, (n,)."""
        assert self.labels is not None
        return self.labels[indices]

    @cached_property
    def _by_label(self) -> tuple[Tensor, Tensor, Tensor]:
        """The samples in the order of their labels, (N,), and where each label starts and how many it has, (classes,)."""
        assert self.labels is not None
        counts = self.labels.bincount(minlength=len(self.prototypes))
        return self.labels.argsort(stable=True), counts.cumsum(0) - counts, counts


def prototypes(points: Tensor, labels: Tensor) -> Tensor:
    """For each label 0..K-1 the sample nearest to the mean of its samples, (K, ...).

    A real one, so that a decoder has no blur to learn.

    Args:
        points: (N, ...).
        labels: int64 (N,).

    Raises:
        QuadrateError: If a label below the largest has no sample.
    """
    chosen = []
    for label in range(int(labels.max()) + 1):
        own = points[labels == label]
        if len(own) == 0:
            raise QuadrateError(
                f"each label from 0 to {int(labels.max())} needs a sample to be its prototype;"
                f" label {label} has none"
            )
        flat = own.flatten(1).float()
        chosen.append(own[(flat - flat.mean(0)).square().sum(1).argmin()])
    return torch.stack(chosen)


@dataclass(frozen=True, eq=False)
class OrbitSplits:
    """Three disjoint sets of one kind: to fit to, to choose on, and only for final evaluation."""

    train: OrbitSet
    validation: OrbitSet
    test: OrbitSet
