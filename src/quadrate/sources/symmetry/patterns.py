"""Small patterns of independent colours under a finite group.

Sources whose H[X] and H[M] are known exactly.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.sources.symmetry.group import Population

if TYPE_CHECKING:
    from quadrate.theory.invariance import InvariantEntropies, PermutationGroup

_MOST_VALUES = 2**20  # what `invariants` lists at most


@dataclass(frozen=True, eq=False)
class Patterns(Population):
    """Patterns of independent colours: what all groups that permute positions share.

    Colours are the numbers 0 .. len(pmf) − 1 in any dtype; samples are uint8 (N, *shape).

    Attributes:
        pmf: The probabilities of a position's colours 0, 1, ...
        shape: Of one pattern.

    Raises:
        QuadrateError: If the pmf is none.
    """

    pmf: tuple[float, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if (
            not 2 <= len(self.pmf) <= 256
            or min(self.pmf) < 0
            or not abs(math.fsum(self.pmf) - 1) < 1e-9
        ):
            raise QuadrateError(
                f"the colours' pmf must be 2 to 256 probabilities that sum to 1; got {self.pmf}"
            )

    @property
    def colours(self) -> int:
        """How many colours a position may have."""
        return len(self.pmf)

    @property
    def positions(self) -> int:
        """How many positions a pattern has."""
        return math.prod(self.shape)

    @abstractmethod
    def invariants(self) -> Tensor:
        """All values of M in ascending order, int64 (orbits,).

        `torch.searchsorted` in it makes class numbers of M.

        Raises:
            QuadrateError: If there are too many to list.
        """

    @abstractmethod
    def entropies(self) -> InvariantEntropies:
        """H[X] and H[M(X)] in bits, exactly."""

    def sample(self, count: int, *key: object) -> Tensor:
        """`count` independent patterns, uint8 (count, *shape); see `Population.sample`."""
        numbers = draws.uniform("patterns", *key, shape=(count, *self.shape))
        bounds = torch.tensor(list(itertools.accumulate(self.pmf))[:-1], dtype=torch.float64)
        return torch.bucketize(numbers.double(), bounds, right=True).to(torch.uint8)

    def _rows(self, x: Tensor) -> Tensor:
        """Patterns (N, ...) as (N, positions)."""
        rows = x.flatten(1)
        if rows.shape[1] != self.positions:
            raise QuadrateError(
                f"patterns of shape {self.shape} have {self.positions} positions; got"
                f" {tuple(x.shape)}"
            )
        return rows


@dataclass(frozen=True, eq=False)
class PermutedPatterns(Patterns):
    """Patterns under a small group of permutations of their positions.

    Make them with `cyclic_patterns`, `dihedral_patterns` or any other group.

    A member is the pattern under a uniform element of the group, hence uniform on its orbit. The
    representative is the lexicographically least member, M(x) the number whose digits in base
    len(pmf) it is, int64.

    Attributes:
        permutations: The group, on the positions row by row.

    Raises:
        QuadrateError: If the pmf is none, the shape does not fit the group, or M would not fit into
            63 bits.
    """

    permutations: PermutationGroup

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.permutations.positions != self.positions:
            raise QuadrateError(
                f"the group permutes {self.permutations.positions} positions; a pattern of shape"
                f" {self.shape} has {self.positions}"
            )
        if self.colours**self.positions > 2**63:
            raise QuadrateError(
                f"M(x) must fit into 63 bits: (colours)^(positions) <= 2^63; got {self.positions}"
                f" positions of {self.colours} colours"
            )

    def member(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform member of each pattern's orbit, (N, ...), in the dtype of `x`."""
        elements = torch.randint(
            self.permutations.order, (len(x),), generator=generator, device=generator.device
        ).to(x.device)
        return self._rows(x).gather(1, self._elements.to(x.device)[elements]).reshape(x.shape)

    def representative(self, x: Tensor) -> Tensor:
        """The lexicographically least member of each pattern's orbit, (N, ...), in the dtype of `x`."""
        digits = self.invariant(x)[:, None] // self._places.to(x.device) % self.colours
        return digits.to(x.dtype).reshape(x.shape)

    def invariant(self, x: Tensor) -> Tensor:
        """M(x), int64 (N,)."""
        rows, places = self._rows(x).long(), self._places.to(x.device)
        least = torch.full((len(x),), 2**63 - 1, device=x.device)
        for element in self._elements.to(
            x.device
        ):  # one at a time: all at once would take `order` times the patterns' memory
            least = torch.minimum(least, (rows[:, element] * places).sum(1))
        return least

    def invariants(self) -> Tensor:
        """All values of M in ascending order, int64 (orbits,).

        `torch.searchsorted` in it makes class numbers of M.

        Raises:
            QuadrateError: If there are more than 2^20 patterns.
        """
        patterns = self.colours**self.positions
        if patterns > _MOST_VALUES:
            raise QuadrateError(
                f"orbits are listed for at most {_MOST_VALUES} patterns; there are {patterns}"
            )
        numbers = torch.arange(patterns)[:, None]
        return self.invariant(numbers // self._places % self.colours).unique()

    def entropies(self) -> InvariantEntropies:
        """H[X] and H[M(X)] in bits, exactly."""
        return self.permutations.pattern_entropies(self.pmf)

    @cached_property
    def _elements(self) -> Tensor:
        """(order, positions)."""
        return torch.from_numpy(self.permutations.elements.astype(np.int64))

    @cached_property
    def _places(self) -> Tensor:
        """The value of a digit at each position, (positions,)."""
        return self.colours ** torch.arange(self.positions - 1, -1, -1)


@dataclass(frozen=True, eq=False)
class Multisets(Patterns):
    """Patterns whose order does not matter: all permutations, too many to list.

    Make them with `multisets`.

    The representative is the sorted pattern; M(x), int64, has the counts of the colours but the
    first as digits in base positions + 1.

    Raises:
        QuadrateError: Also if M would not fit into 63 bits.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.positions + 1) ** (self.colours - 1) > 2**63:
            raise QuadrateError(
                "M(x) must fit into 63 bits: (positions + 1)^(colours - 1) <= 2^63; got"
                f" {self.positions} positions of {self.colours} colours"
            )

    def member(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Each pattern in a uniformly random order, (N, ...)."""
        rows = self._rows(x)
        keys = torch.rand(
            rows.shape, generator=generator, device=generator.device, dtype=torch.float64
        ).to(x.device)  # ties at 2^-53
        return rows.gather(1, keys.argsort(dim=1)).reshape(x.shape)

    def representative(self, x: Tensor) -> Tensor:
        """Each pattern sorted, (N, ...)."""
        return self._rows(x).sort(dim=1).values.reshape(x.shape)

    def invariant(self, x: Tensor) -> Tensor:
        """M(x), int64 (N,)."""
        rows = self._rows(x)
        counts = [(rows == colour).sum(1) for colour in range(1, self.colours)]
        return torch.stack(
            [count * (self.positions + 1) ** place for place, count in enumerate(counts)]
        ).sum(0)

    def invariants(self) -> Tensor:
        """All values of M in ascending order, int64 (multisets,).

        `torch.searchsorted` in it makes class numbers of M.

        Raises:
            QuadrateError: If M could have more than 2^20 values.
        """
        base = self.positions + 1
        if base ** (self.colours - 1) > _MOST_VALUES:
            raise QuadrateError(
                f"multisets are listed up to M = {_MOST_VALUES}; here it reaches"
                f" {base ** (self.colours - 1)}"
            )
        numbers = torch.arange(base ** (self.colours - 1))
        counts = numbers[:, None] // base ** torch.arange(self.colours - 1) % base
        return numbers[counts.sum(1) <= self.positions]

    def entropies(self) -> InvariantEntropies:
        """H[X] and H[M(X)] in bits, exactly."""
        from quadrate.theory.invariance import multiset_entropies

        return multiset_entropies(self.pmf, self.positions)


def cyclic_patterns(length: int, pmf: tuple[float, ...] = (0.5, 0.5)) -> PermutedPatterns:
    """Necklaces: rows (N, length) that tasks see up to a cyclic shift.

    Raises:
        QuadrateError: See `PermutedPatterns`.
    """
    from quadrate.theory.invariance import cyclic_shifts

    return PermutedPatterns(pmf, (length,), cyclic_shifts(_at_least_one("length", length)))


def dihedral_patterns(side: int, pmf: tuple[float, ...] = (0.5, 0.5)) -> PermutedPatterns:
    """Square images (N, 1, side, side) that tasks see up to the eight rotations and reflections,
    D4.

    Raises:
        QuadrateError: See `PermutedPatterns`.
    """
    from quadrate.theory.invariance import dihedral_images

    return PermutedPatterns(pmf, (1, side, side), dihedral_images(_at_least_one("side", side)))


def multisets(length: int, pmf: tuple[float, ...] = (0.5, 0.5)) -> Multisets:
    """Rows (N, length) that tasks see up to any permutation.

    Raises:
        QuadrateError: See `Multisets`.
    """
    return Multisets(pmf, (_at_least_one("length", length),))


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise QuadrateError(f"{name} must be at least 1; got {value}")
    return value
