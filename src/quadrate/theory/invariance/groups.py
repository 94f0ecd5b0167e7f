"""Invariance: the rate that every task needs when tasks ignore a group's action, exactly, for
finite groups and finite sources.

M(X) is a maximal invariant: it tells which orbit X is in, and nothing else. Coding it losslessly
serves every invariant task, so H[M(X)] is the price of all of them and H[X|M(X)] what the
invariance saves (Dubois et al. 2021, "Lossy compression for lossless prediction").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import entr
from scipy.stats import binom

from quadrate.theory import checks
from quadrate.theory.channels import FloatArray
from quadrate.theory.units import Unit, nats_per

Indices = NDArray[np.intp]

# Most indices a group's table of elements may hold, and most partitions its stabilizers may have:
# seconds of work, some 100 MB.
_MOST_INDICES = 2_000_000
_MOST_PARTITIONS = 5_000


def invariant_rate(entropy: ArrayLike, delta: ArrayLike = 0.0) -> float | FloatArray:
    """The least rate at which no invariant task loses more than `delta`.

    Max(H[M(X)] − δ, 0) (Dubois et al. 2021, rate-invariance theorem).

    A task's loss is its excess Bayes risk under log-loss, H[S|Z] − H[S|X]; the worst task is M(X)
    itself.

    Args:
        entropy: H[M(X)], finite and at least 0, in any unit.
        delta: The largest loss of any task, in the same unit.

    Returns:
        The rate in that unit: a float if both are numbers, else an array of their broadcast shape.

    Raises:
        ValueError: If the entropy is negative or not finite, delta is negative or NaN, or the
            shapes do not broadcast.
    """
    if (checks.array("entropy", entropy) < 0).any():
        raise ValueError(f"entropy must be >= 0, the entropy of a discrete M(X); got {entropy!r}")
    entropies, deltas = checks.broadcast(entropy=entropy, delta=delta)
    return checks.plain(np.maximum(entropies - deltas, 0))


@dataclass(frozen=True)
class InvariantEntropies:
    """What a source costs, and what its invariance saves of it.

    Attributes:
        source: H[X].
        saving: H[X|M(X)].
    """

    source: float
    saving: float

    @property
    def invariant(self) -> float:
        """H[M(X)] = H[X] − H[X|M(X)]."""
        return max(self.source - self.saving, 0.0)


def equal_orbits(count: int, size: int, *, unit: Unit = "bits") -> InvariantEntropies:
    """The entropies of a uniform source whose points lie in `count` orbits of `size` points each.

    The saving is log(size).

    Raises:
        ValueError: If a number is not an integer >= 1, or the unit is unknown.
    """
    scale = nats_per(unit)
    saving = math.log(checks.count("size", size)) / scale
    return InvariantEntropies(math.log(checks.count("count", count)) / scale + saving, saving)


def orbit_entropies(
    pmf: ArrayLike, orbits: ArrayLike, *, unit: Unit = "bits"
) -> InvariantEntropies:
    """The entropies of any finite source from the orbit that each of its points lies in.

    Args:
        pmf: (n) probabilities of the points.
        orbits: (n) labels, equal where points are equivalent: the values of any maximal invariant.
        unit: "bits" or "nats".

    Raises:
        ValueError: If pmf is not a distribution, the lengths differ, or the unit is unknown.
    """
    scale = nats_per(unit)
    points = checks.distributions("pmf", pmf, (None,))
    labels = np.asarray(orbits)
    if labels.shape != points.shape:
        raise ValueError(
            f"orbits must hold a label for each of the {points.size} points; got shape"
            f" {labels.shape}"
        )
    _, members = np.unique(labels, return_inverse=True)
    masses = np.bincount(members, weights=points)[members]
    shares = np.divide(points, masses, out=np.zeros_like(points), where=masses > 0)  # p(x|M)
    # The saving is summed from its own terms, each >= 0, rather than taken as a difference of
    # entropies.
    return InvariantEntropies(
        float(entr(points).sum()) / scale, float(masses @ entr(shares)) / scale
    )


def multiset_entropies(pmf: ArrayLike, length: int, *, unit: Unit = "bits") -> InvariantEntropies:
    """The entropies of `length` i.i.d.

    Letters whose order does not matter: M(X) is the multiset, its counts multinomial.

    H[X|M(X)] = E log(n! / Π N_c!), with E log N! = Σ_j log(j) P(N >= j) for each binomial count N;
    the group itself has n! elements.

    Args:
        pmf: (colours) probabilities of the letters.
        length: How many letters.
        unit: "bits" or "nats".

    Raises:
        ValueError: If pmf is not a distribution, length is not an integer >= 1, or the unit is
            unknown.
    """
    scale = nats_per(unit)
    colours = checks.distributions("pmf", pmf, (None,))
    positions = checks.count("length", length)
    factors = np.arange(2, positions + 1)  # (n - 1)
    kept = 1 - binom.sf(factors[:, None] - 1, positions, colours).sum(
        axis=1
    )  # of each factor of n!, after division by Π N_c!
    return InvariantEntropies(
        positions * float(entr(colours).sum()) / scale, float(np.log(factors) @ kept) / scale
    )


class PermutationGroup:
    """A finite group that permutes the n positions of a pattern.

    A necklace's beads, an image's pixels.

    Element g sends the pattern x to x[elements[g]].

    Args:
        generators: (k, n) permutations of 0..n-1, of which the group is all products.

    Attributes:
        elements: (order, n) all permutations, the identity first; not writeable.

    Raises:
        ValueError: If a generator is no permutation, or the table of elements would hold more than
            2 million indices.
    """

    elements: Indices

    def __init__(self, generators: ArrayLike) -> None:
        steps = checks.array("generators", generators, (2,))
        if (np.sort(steps, axis=1) != np.arange(steps.shape[1])).any():
            raise ValueError(
                f"generators must be permutations of 0..n-1, one a row; got {generators!r}"
            )
        self.elements = _closure(steps.astype(np.intp))
        self.elements.flags.writeable = False

    @property
    def order(self) -> int:
        """How many elements the group has."""
        return len(self.elements)

    @property
    def positions(self) -> int:
        """The length n of the patterns."""
        return self.elements.shape[1]

    def orbit_count(self, colours: int) -> int:
        """How many orbits the colours^n patterns fall into, exactly.

        The mean number of patterns that an element fixes (Burnside's lemma).

        Raises:
            ValueError: If colours is not an integer >= 1.
        """
        base = checks.count("colours", colours)
        frequencies = np.bincount(_block_counts(self._cycles))
        return (
            sum(int(frequency) * base**cycles for cycles, frequency in enumerate(frequencies))
            // self.order
        )

    def act(self, element: ArrayLike, patterns: ArrayLike) -> NDArray[Any]:
        """What elements do to patterns.

        Args:
            element: (...) indices into `elements`; drawn uniformly, they augment.
            patterns: (..., n); the leading shapes broadcast.

        Returns:
            (..., n) the patterns x[elements[element]].

        Raises:
            ValueError: If the patterns' length is not n, or an index is none.
        """
        checked = self._patterns(patterns)
        indices = np.asarray(element)
        if indices.dtype.kind not in "iu" or (indices < 0).any() or (indices >= self.order).any():
            raise ValueError(
                f"element must hold integers from 0 to {self.order - 1}; got {element!r}"
            )
        shape = np.broadcast_shapes(indices.shape, checked.shape[:-1])
        permutations = self.elements[np.broadcast_to(indices, shape)]
        return np.take_along_axis(
            np.broadcast_to(checked, (*shape, self.positions)), permutations, axis=-1
        )

    def canonical(self, patterns: ArrayLike) -> NDArray[Any]:
        """The lexicographically least member of each pattern's orbit.

        A representative, and a maximal invariant.

        Args:
            patterns: (..., n), without NaN.

        Returns:
            (..., n) the representatives.

        Raises:
            ValueError: If the patterns' length is not n.
        """
        checked = self._patterns(patterns)
        least = checked.copy()
        for permutation in self.elements[1:]:
            image = checked[..., permutation]
            first = np.argmax(image != least, axis=-1, keepdims=True)
            smaller = np.take_along_axis(image, first, axis=-1) < np.take_along_axis(
                least, first, axis=-1
            )
            least = np.where(smaller, image, least)
        return least

    def pattern_entropies(self, pmf: ArrayLike, *, unit: Unit = "bits") -> InvariantEntropies:
        """The entropies of a pattern of i.i.d.

        Colours, exact also where the patterns are too many to enumerate.

        An orbit's members are equally likely, so H[X|M(X)] = E log|orbit(X)| = log|G| − E
        log|Stab(X)|. Möbius inversion on the lattice of stabilizers writes log|Stab(X)| as a sum
        over the partitions of the positions on whose blocks X is constant: events of known
        probability.

        Args:
            pmf: (colours) probabilities of a position's colour.
            unit: "bits" or "nats".

        Raises:
            ValueError: If pmf is not a distribution, the unit is unknown, or there are more than
                5000 partitions.
        """
        scale = nats_per(unit)
        colours = checks.distributions("pmf", pmf, (None,))
        partitions, shares = self._stabilizers
        lengths = np.arange(self.positions + 1)
        with np.errstate(divide="ignore"):
            agree = np.log(
                np.sum(colours ** np.maximum(lengths, 1)[:, None], axis=1)
            )  # log P(as many i.i.d. colours are one and the same)
        sizes = np.array([np.bincount(labels, minlength=self.positions) for labels in partitions])
        constant = np.sum(agree[sizes], axis=1)  # log P(each block of one colour)
        # Σ shares = log|G|, so this is log|G| − E log|Stab(X)| without the loss of digits when
        # nearly all patterns are constant.
        saving = float(shares @ -np.expm1(constant))
        return InvariantEntropies(
            self.positions * float(entr(colours).sum()) / scale, max(saving, 0.0) / scale
        )

    @cached_property
    def _cycles(self) -> Indices:
        """(order, n) the partition of the positions into each element's cycles."""
        return _blocks(self.elements)

    @cached_property
    def _stabilizers(self) -> tuple[Indices, FloatArray]:
        """What the lattice of stabilizers is, whatever the colours.

        Returns:
            (k, n) the partitions into orbits of the stabilizers, finest first; (k) their shares:
            log|Stab| of one sums those of all that refine it.
        """
        cycles, frequencies = np.unique(self._cycles, axis=0, return_counts=True)
        partitions = _joins(cycles)
        counts = {
            labels.tobytes(): int(frequency)
            for labels, frequency in zip(cycles, frequencies, strict=True)
        }
        stabilizers = np.zeros(len(partitions), dtype=np.intp)
        shares, refined = np.zeros(len(partitions)), np.zeros(len(partitions))
        for index, labels in enumerate(partitions):
            coarser = np.all(partitions[:, labels] == partitions, axis=1)
            stabilizers[coarser] += counts.get(labels.tobytes(), 0)
            shares[index] = math.log(stabilizers[index]) - refined[index]
            refined[coarser] += shares[index]
        return partitions, shares

    def _patterns(self, patterns: ArrayLike) -> NDArray[Any]:
        checked = np.asarray(patterns)
        if checked.ndim == 0 or checked.shape[-1] != self.positions:
            raise ValueError(
                f"patterns must have {self.positions} positions along the last axis; got shape"
                f" {checked.shape}"
            )
        return checked


def cyclic_shifts(length: int) -> PermutationGroup:
    """The rotations of a necklace of `length` beads.

    Raises:
        ValueError: If length is not an integer >= 1, or too large for a table of all elements.
    """
    return PermutationGroup(np.roll(np.arange(checks.count("length", length)), -1)[None])


def image_rotations(side: int) -> PermutationGroup:
    """The rotations of a square image by multiples of 90 degrees, its pixels flattened row by row.

    Raises:
        ValueError: If side is not an integer >= 1, or too large for a table of all elements.
    """
    return PermutationGroup(np.rot90(_pixels(side)).reshape(1, -1))


def dihedral_images(side: int) -> PermutationGroup:
    """The eight rotations and reflections of a square image (D4), its pixels flattened row by row.

    Raises:
        ValueError: If side is not an integer >= 1, or too large for a table of all elements.
    """
    pixels = _pixels(side)
    return PermutationGroup(np.stack([np.rot90(pixels), np.fliplr(pixels)]).reshape(2, -1))


def _pixels(side: int) -> Indices:
    checked = checks.count("side", side)
    return np.arange(checked**2).reshape(checked, checked)


def _closure(generators: Indices) -> Indices:
    """(order, n) all products of the (k, n) generators, the identity first, then by length of the product."""
    positions = generators.shape[1]
    found = [np.arange(positions)]
    seen = {found[0].tobytes()}
    for element in found:  # grows as it is read
        for product in element[generators]:
            if product.tobytes() not in seen:
                seen.add(product.tobytes())
                found.append(product)
                if len(found) * positions > _MOST_INDICES:
                    raise ValueError(
                        f"generators must give a group with at most {_MOST_INDICES // positions}"
                        f" elements on {positions} positions"
                    )
    return np.stack(found)


def _blocks(*links: Indices) -> Indices:
    """(k, n) the finest partitions with i and link[..., i] in one block, for all links (k, n) or (n); a block's label is its least position."""
    shape = np.broadcast_shapes(*(link.shape for link in links))
    nodes = np.arange(math.prod(shape)).reshape(shape)
    starts = nodes[..., :1]  # the first node of each row
    rows = np.concatenate([nodes.ravel()] * len(links))
    columns = np.concatenate([(starts + link).ravel() for link in links])
    graph = coo_array(
        (np.ones(rows.size, dtype=np.int8), (rows, columns)), shape=(nodes.size, nodes.size)
    )
    _, components = connected_components(graph, directed=False)
    _, least = np.unique(components, return_index=True)
    return np.asarray(least[components].reshape(shape) - starts)


def _block_counts(partitions: Indices) -> Indices:
    return np.count_nonzero(partitions == np.arange(partitions.shape[-1]), axis=-1)


def _joins(partitions: Indices) -> Indices:
    """(k, n) all joins of the given partitions, the empty one (all blocks single) among them, finest first."""
    found = {np.arange(partitions.shape[1]).tobytes(): np.arange(partitions.shape[1])}
    for labels in partitions[np.argsort(-_block_counts(partitions), kind="stable")]:
        # The joins found so far are closed, so that one which is there adds nothing.
        if labels.tobytes() not in found:
            found.update(
                (join.tobytes(), join) for join in _blocks(np.stack(list(found.values())), labels)
            )
            if len(found) > _MOST_PARTITIONS:
                raise ValueError(
                    f"generators must give a group with at most {_MOST_PARTITIONS} partitions into"
                    " orbits of its stabilizers"
                )
    joins = np.stack(list(found.values()))
    return joins[np.argsort(-_block_counts(joins), kind="stable")]
