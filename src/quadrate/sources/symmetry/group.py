"""Symmetries: random members of a sample's orbit, its representative, its maximal invariant."""

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
    """Transformations that no task of interest distinguishes.

    Samples that they transform into each other form an orbit. The plain objective (VC) encodes and
    decodes one member, VIC encodes a member and decodes the representative, BINCE encodes two
    members. Everything is batched and on the device of the samples. The generator may be on another
    device: draws are made there, and depend on its seed only.
    """

    @abstractmethod
    def sample_orbit(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """An independent random member of each sample's orbit: (N, ...) to (N, ...)."""

    @abstractmethod
    def representative(self, x: Tensor) -> Tensor:
        """The representative of each sample's orbit: (N, ...) to (N, ...)."""

    @abstractmethod
    def invariant(self, x: Tensor) -> Tensor | None:
        """M(x), (N,) or (N, k), equal for two samples exactly if they share an orbit.

        None if x does not determine its orbit (augmented images).
        """


class Population(Group):
    """A known distribution with a symmetry, for any number of samples."""

    @abstractmethod
    def sample(self, count: int, *key: object) -> Tensor:
        """Independent points, (count, ...), on the CPU.

        They depend on the key only, as in `quadrate.core.draws`: training draws fresh points for
        each step by `sample(count, "train", seed, epoch, step)`.
        """

    def splits(self, train: int, validation: int, test: int, seed: int = 0) -> OrbitSplits:
        """Three independent sets of the given sizes, the same for the same seed.

        No set depends on the size of another.
        """
        sizes = {"train": train, "validation": validation, "test": test}
        points = {name: self.sample(size, "split", name, seed) for name, size in sizes.items()}
        return OrbitSplits(**{name: OrbitSet(each, self) for name, each in points.items()})


@dataclass(frozen=True, eq=False)
class OrbitSet:
    """A data set whose samples represent their orbits.

    Attributes:
        points: The samples, (N, ...), N at least 1; images without augmentation.
        group: The symmetry.
        labels: Classes, int64 (N,), or None.

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
        labels, shape = self.labels, self.points.shape[:1]
        if labels is not None and (labels.dtype != torch.int64 or labels.shape != shape):
            raise QuadrateError(
                f"the labels of {len(self)} points must be int64 ({len(self)},); got"
                f" {labels.dtype} {tuple(labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.points)

    def to(self, device: torch.device | str) -> Self:
        """The same set on `device`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **moved)

    def sample_orbit(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """A random member of the orbit of each sample of `indices`, int64 (n,): (n, ...)."""
        return self.group.sample_orbit(self.points[indices], generator)

    def representatives(self, indices: Tensor) -> Tensor:
        """The representative of each sample's orbit, (n, ...)."""
        return self.group.representative(self.points[indices])

    def invariants(self, indices: Tensor) -> Tensor:
        """M of each sample, (n,) or (n, k).

        If x does not determine its orbit, each sample is its own orbit, and M is its index.
        """
        known = self.group.invariant(self.points[indices])
        return indices if known is None else known

    @property
    def invariant_bits(self) -> float:
        """H[M] of a sample drawn uniformly from this set.

        It is log2 N, the data-set identity bound, if no two samples share an orbit.
        """
        everything = torch.arange(len(self), device=self.points.device)
        _, counts = torch.unique(self.invariants(everything), dim=0, return_counts=True)
        return math.log2(len(self)) - float((counts * counts.double().log2()).sum()) / len(self)


@dataclass(frozen=True, eq=False)
class LabelOrbitSet(OrbitSet):
    """A data set where samples of one label are equivalent too.

    M is the label, and an orbit contains the orbits of all samples of that label in this set.

    Attributes:
        prototypes: The representatives, (classes, ...), which all splits must share; see
            `prototypes`.

    Raises:
        QuadrateError: As `OrbitSet`; if there are no labels, or not a prototype of the points'
            shape for each label.
    """

    prototypes: Tensor = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is None:
            raise QuadrateError(
                "samples of one label can only be equivalent if there are labels; got None"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        fit = self.prototypes.shape[1:] == self.points.shape[1:]
        if low < 0 or high >= len(self.prototypes) or not fit:
            raise QuadrateError(
                f"each label needs a prototype of shape {tuple(self.points.shape[1:])}; the labels"
                f" are {low}..{high}, the prototypes {tuple(self.prototypes.shape)}"
            )

    def sample_orbit(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """A random member of the orbit of a random sample with the same label: (n, ...)."""
        return super().sample_orbit(self.partners(indices, generator), generator)

    def partners(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """For each index, a random one with the same label, (n,); it may be the same one."""
        order, starts, counts = self._by_label
        labels, place = self.invariants(indices), generator.device
        # In float64, since a float32 product could round up to the next label's first sample.
        draws = torch.rand(indices.shape, generator=generator, device=place, dtype=torch.float64)
        return order[starts[labels] + (draws.to(indices.device) * counts[labels]).long()]

    def representatives(self, indices: Tensor) -> Tensor:
        """The prototype of each sample's label, (n, ...)."""
        return self.group.representative(self.prototypes[self.invariants(indices)])

    def invariants(self, indices: Tensor) -> Tensor:
        """The label of each sample, (n,)."""
        assert self.labels is not None
        return self.labels[indices]

    @cached_property
    def _by_label(self) -> tuple[Tensor, Tensor, Tensor]:
        """The samples sorted by label, (N,), and each label's start and count, (classes,)."""
        assert self.labels is not None
        counts = self.labels.bincount(minlength=len(self.prototypes))
        return self.labels.argsort(stable=True), counts.cumsum(0) - counts, counts


def prototypes(points: Tensor, labels: Tensor) -> Tensor:
    """For each label 0..K-1 the sample nearest to the mean of its samples, (K, ...).

    Unlike a mean, a sample is not blurred.

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
    """Three disjoint sets of one kind: for fitting, for choices, and for final evaluation only."""

    train: OrbitSet
    validation: OrbitSet
    test: OrbitSet
