"""The rate for all tasks that ignore a group's action: exact, for finite groups and sources.

A maximal invariant M(X) tells which orbit X is in, and nothing more. Coding it losslessly serves
every invariant task: all of them together need H[M(X)], and the invariance saves H[X|M(X)] (Dubois
et al. 2021, "Lossy compression for lossless prediction").
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

from quadrate.theory import checks
from quadrate.theory.channels import FloatArray
from quadrate.theory.units import Unit, nats_per

Indices = NDArray[np.intp]

# The most indices in a group's table of elements, and the most partitions of its stabilizers: some
# seconds of work and 100 MB.
_MOST_INDICES = 2_000_000
_MOST_PARTITIONS = 5_000


def invariant_rate(entropy: ArrayLike, delta: ArrayLike = 0.0) -> float | FloatArray:
    """The least rate at which no invariant task loses more than `delta`: max(H[M(X)] − δ, 0).

    By the rate-invariance theorem of Dubois et al. 2021. A task's loss is its excess Bayes risk
    under log-loss, H[S|Z] − H[S|X]; the worst task is M(X) itself.

    Args:
        entropy: H[M(X)], finite and at least 0, in any unit.
        delta: The largest loss of any task, in the same unit.

    Returns:
        The rate in that unit: a float if both are numbers, otherwise an array of their shape.

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
    """The entropy of a source, and the part of it that an invariance saves.

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
    """The entropies of any finite source, from the orbit of each point.

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
    # The saving is a sum of terms >= 0 rather than a difference of entropies.
    saving = float(masses @ entr(shares)) / scale
    return InvariantEntropies(float(entr(points).sum()) / scale, saving)


def multiset_entropies(pmf: ArrayLike, length: int, *, unit: Unit = "bits") -> InvariantEntropies:
    """The entropies of `length` independent letters of one law whose order does not matter.

    M(X) is the multiset, with multinomial counts. H[X|M(X)] = E log(n! / Π N_c!), with E log N! =
    Σ_j log(j) P(N >= j) for each binomial count N; the group itself has n! elements.

    Args:
        pmf: (colours) probabilities of the letters.
        length: How many letters.
        unit: "bits" or "nats".

    Raises:
        ValueError: If pmf is not a distribution, length is not an integer >= 1, or the unit is
            unknown.
    """
    from scipy.stats import binom  # takes longer to import than the rest of the theory

    scale = nats_per(unit)
    colours = checks.distributions("pmf", pmf, (None,))
    positions = checks.count("length", length)
    factors = np.arange(2, positions + 1)  # (n - 1)
    # The part of each factor of n! that is left after division by Π N_c!.
    kept = 1 - binom.sf(factors[:, None] - 1, positions, colours).sum(axis=1)
    source, saving = positions * float(entr(colours).sum()), float(np.log(factors) @ kept)
    return InvariantEntropies(source / scale, saving / scale)


class PermutationGroup:
    """A finite group that permutes the n positions of a pattern: beads of a necklace, or pixels.

    Element g sends the pattern x to x[elements[g]].

    Args:
        generators: (k, n) permutations of 0..n-1; the group consists of all their products.

    Attributes:
        elements: (order, n) all permutations, the identity first; not writeable.

    Raises:
        ValueError: If a generator is not a permutation, or the table of elements would hold more
            than 2 million indices.
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
        """The number of elements."""
        return len(self.elements)

    @property
    def positions(self) -> int:
        """The length n of the patterns."""
        return self.elements.shape[1]

    def orbit_count(self, colours: int) -> int:
        """The exact number of orbits of the colours^n patterns.

        It is the mean number of patterns that an element fixes (Burnside's lemma).

        Raises:
            ValueError: If colours is not an integer >= 1.
        """
        base = checks.count("colours", colours)
        frequencies = enumerate(np.bincount(_block_counts(self._cycles)))
        return sum(int(count) * base**cycles for cycles, count in frequencies) // self.order

    def act(self, element: ArrayLike, patterns: ArrayLike) -> NDArray[Any]:
        """Apply elements to patterns.

        Args:
            element: (...) indices into `elements`.
            patterns: (..., n); the leading shapes broadcast.

        Returns:
            (..., n) the patterns x[elements[element]].

        Raises:
            ValueError: If the patterns' length is not n, or an index is out of range.
        """
        checked = self._patterns(patterns)
        indices = np.asarray(element)
        if indices.dtype.kind not in "iu" or (indices < 0).any() or (indices >= self.order).any():
            raise ValueError(
                f"element must hold integers from 0 to {self.order - 1}; got {element!r}"
            )
        shape = np.broadcast_shapes(indices.shape, checked.shape[:-1])
        permutations = self.elements[np.broadcast_to(indices, shape)]
        copies = np.broadcast_to(checked, (*shape, self.positions))
        return np.take_along_axis(copies, permutations, axis=-1)

    def canonical(self, patterns: ArrayLike) -> NDArray[Any]:
        """The lexicographically least member of each pattern's orbit, a maximal invariant.

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
            ours, theirs = (np.take_along_axis(each, first, axis=-1) for each in (image, least))
            least = np.where(ours < theirs, image, least)
        return least

    def pattern_entropies(self, pmf: ArrayLike, *, unit: Unit = "bits") -> InvariantEntropies:
        """The exact entropies of a pattern of independent colours of one law, of any length.

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
        powers = colours ** np.maximum(lengths, 1)[:, None]
        with np.errstate(divide="ignore"):
            agree = np.log(np.sum(powers, axis=1))  # log P(all of so many colours are the same)
        sizes = np.array([np.bincount(labels, minlength=self.positions) for labels in partitions])
        constant = np.sum(agree[sizes], axis=1)  # log P(each block of one colour)
        # Σ shares = log|G|, so this is log|G| − E log|Stab(X)| without the loss of digits when
        # nearly all patterns are constant.
        saving = max(float(shares @ -np.expm1(constant)), 0.0)
        source = self.positions * float(entr(colours).sum())
        return InvariantEntropies(source / scale, saving / scale)

    @cached_property
    def _cycles(self) -> Indices:
        """(order, n) the partition of the positions into each element's cycles."""
        return _blocks(self.elements)

    @cached_property
    def _stabilizers(self) -> tuple[Indices, FloatArray]:
        """The lattice of stabilizers, for any colours.

        Returns:
            (k, n) the partitions into orbits of the stabilizers, finest first; (k) their shares:
            log|Stab| of a stabilizer is the sum of the shares of all partitions that refine its.
        """
        cycles, frequencies = np.unique(self._cycles, axis=0, return_counts=True)
        partitions = _joins(cycles)
        pairs = zip(cycles, frequencies, strict=True)
        counts = {labels.tobytes(): int(frequency) for labels, frequency in pairs}
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
    """(order, n) all products of the (k, n) generators, the identity first, shorter ones first."""
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
    """(k, n) the finest partitions with i and link[..., i] in one block, for all links.

    Links are (k, n) or (n); a block's label is its least position.
    """
    shape = np.broadcast_shapes(*(link.shape for link in links))
    nodes = np.arange(math.prod(shape)).reshape(shape)
    starts = nodes[..., :1]  # the first node of each row
    rows = np.concatenate([nodes.ravel()] * len(links))
    columns = np.concatenate([(starts + link).ravel() for link in links])
    edges = np.ones(rows.size, dtype=np.int8), (rows, columns)
    graph = coo_array(edges, shape=(nodes.size, nodes.size))
    _, components = connected_components(graph, directed=False)
    _, least = np.unique(components, return_index=True)
    return np.asarray(least[components].reshape(shape) - starts)


def _block_counts(partitions: Indices) -> Indices:
    return np.count_nonzero(partitions == np.arange(partitions.shape[-1]), axis=-1)


def _joins(partitions: Indices) -> Indices:
    """(k, n) all joins of the given partitions, finest first, with the one of single blocks."""
    found = {np.arange(partitions.shape[1]).tobytes(): np.arange(partitions.shape[1])}
    for labels in partitions[np.argsort(-_block_counts(partitions), kind="stable")]:
        # The joins found so far are closed: a partition among them adds nothing.
        if labels.tobytes() not in found:
            joined = _blocks(np.stack(list(found.values())), labels)
            found.update((join.tobytes(), join) for join in joined)
            if len(found) > _MOST_PARTITIONS:
                raise ValueError(
                    f"generators must give a group with at most {_MOST_PARTITIONS} partitions into"
                    " orbits of its stabilizers"
                )
    joins = np.stack(list(found.values()))
    return joins[np.argsort(-_block_counts(joins), kind="stable")]
