"""Small patterns of independent colours under a finite group, with exact H[X] and H[M]."""

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

_MOST_VALUES = 2**20  # that `invariants` lists


@dataclass(frozen=True, eq=False)
class Patterns(Population):
    """Patterns of independent colours under a group of permutations of the positions.

    Colours are the numbers 0 .. len(pmf) − 1 in any dtype; samples are uint8 (N, *shape).

    Attributes:
        pmf: The probabilities of a position's colours 0, 1, ...
        shape: The shape of one pattern.

    Raises:
        QuadrateError: If the pmf is not a distribution.
    """

    pmf: tuple[float, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        distribution = len(self.pmf) > 0 and min(self.pmf) >= 0
        if not (2 <= len(self.pmf) <= 256 and distribution and abs(math.fsum(self.pmf) - 1) < 1e-9):
            raise QuadrateError(
                f"the colours' pmf must be 2 to 256 probabilities that sum to 1; got {self.pmf}"
            )

    @property
    def colours(self) -> int:
        """The number of colours."""
        return len(self.pmf)

    @property
    def positions(self) -> int:
        """The number of positions of a pattern."""
        return math.prod(self.shape)

    @abstractmethod
    def invariants(self) -> Tensor:
        """All values of M in ascending order, int64 (orbits,); `searchsorted` numbers them.

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
    """Patterns under a small group of permutations, such as `cyclic_patterns` makes.

    A random member is the pattern under a uniform element of the group, hence uniform on its orbit.
    The representative is the lexicographically least member; it gives the digits of M(x) in base
    len(pmf), int64.

    Attributes:
        permutations: The group, on the positions row by row.

    Raises:
        QuadrateError: If the pmf is not a distribution, the shape does not fit the group, or M
            would not fit into 63 bits.
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

    def sample_orbit(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform member of each pattern's orbit, (N, ...), in the dtype of `x`."""
        order, place = self.permutations.order, generator.device
        elements = torch.randint(order, (len(x),), generator=generator, device=place).to(x.device)
        return self._rows(x).gather(1, self._elements.to(x.device)[elements]).reshape(x.shape)

    def representative(self, x: Tensor) -> Tensor:
        """The lexicographically least member of each orbit, (N, ...), in the dtype of `x`."""
        digits = self.invariant(x)[:, None] // self._places.to(x.device) % self.colours
        return digits.to(x.dtype).reshape(x.shape)

    def invariant(self, x: Tensor) -> Tensor:
        """M(x), int64 (N,)."""
        rows, places = self._rows(x).long(), self._places.to(x.device)
        least = torch.full((len(x),), 2**63 - 1, device=x.device)
        # One element at a time: all at once would take `order` times the patterns' memory.
        for element in self._elements.to(x.device):
            least = torch.minimum(least, (rows[:, element] * places).sum(1))
        return least

    def invariants(self) -> Tensor:
        """All values of M in ascending order, int64 (orbits,).

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
    """Patterns whose order does not matter, as `multisets` makes: under all permutations.

    The representative is the sorted pattern; M(x), int64, has the counts of all colours except the
    first as digits in base positions + 1.

    Raises:
        QuadrateError: As `Patterns`; if M would not fit into 63 bits.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.positions + 1) ** (self.colours - 1) > 2**63:
            raise QuadrateError(
                "M(x) must fit into 63 bits: (positions + 1)^(colours - 1) <= 2^63; got"
                f" {self.positions} positions of {self.colours} colours"
            )

    def sample_orbit(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Each pattern in a uniformly random order, (N, ...)."""
        rows, place = self._rows(x), generator.device
        # In float64, so that ties have a probability of 2^-53.
        keys = torch.rand(rows.shape, generator=generator, device=place, dtype=torch.float64)
        return rows.gather(1, keys.to(x.device).argsort(dim=1)).reshape(x.shape)

    def representative(self, x: Tensor) -> Tensor:
        """Each pattern sorted, (N, ...)."""
        return self._rows(x).sort(dim=1).values.reshape(x.shape)

    def invariant(self, x: Tensor) -> Tensor:
        """M(x), int64 (N,)."""
        rows = self._rows(x)
        counts = [(rows == colour).sum(1) for colour in range(1, self.colours)]
        digits = [count * (self.positions + 1) ** place for place, count in enumerate(counts)]
        return torch.stack(digits).sum(0)

    def invariants(self) -> Tensor:
        """All values of M in ascending order, int64 (multisets,).

        Raises:
            QuadrateError: If M could have more than 2^20 values.
        """
        base = self.positions + 1
        values = base ** (self.colours - 1)
        if values > _MOST_VALUES:
            raise QuadrateError(
                f"multisets are listed up to M = {_MOST_VALUES}; here it reaches {values}"
            )
        numbers = torch.arange(values)
        counts = numbers[:, None] // base ** torch.arange(self.colours - 1) % base
        return numbers[counts.sum(1) <= self.positions]

    def entropies(self) -> InvariantEntropies:
        """H[X] and H[M(X)] in bits, exactly."""
        from quadrate.theory.invariance import multiset_entropies

        return multiset_entropies(self.pmf, self.positions)


def cyclic_patterns(length: int, pmf: tuple[float, ...] = (0.5, 0.5)) -> PermutedPatterns:
    """Necklaces: rows (N, length) under cyclic shifts.

    Raises:
        QuadrateError: See `PermutedPatterns`.
    """
    from quadrate.theory.invariance import cyclic_shifts

    return PermutedPatterns(pmf, (length,), cyclic_shifts(_at_least_one("length", length)))


def dihedral_patterns(side: int, pmf: tuple[float, ...] = (0.5, 0.5)) -> PermutedPatterns:
    """Square images (N, 1, side, side) under the eight rotations and reflections, D4.

    Raises:
        QuadrateError: See `PermutedPatterns`.
    """
    from quadrate.theory.invariance import dihedral_images

    return PermutedPatterns(pmf, (1, side, side), dihedral_images(_at_least_one("side", side)))


def multisets(length: int, pmf: tuple[float, ...] = (0.5, 0.5)) -> Multisets:
    """Rows (N, length) under all permutations.

    Raises:
        QuadrateError: See `Multisets`.
    """
    return Multisets(pmf, (_at_least_one("length", length),))


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise QuadrateError(f"{name} must be at least 1; got {value}")
    return value
