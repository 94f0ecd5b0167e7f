"""Decision trees over integers: which context a symbol is in, given those before it.

Integers throughout, so that machines agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.symbols import Words
from quadrate.coding.tables import Tables, integer_frequencies, stacked

WORTH_BITS = 2.5  # what a split must save over the training samples
PRIOR = 10.0  # weight of a node's parent, in training samples
MAX_DEPTH = 64  # branches from a root to a leaf: what a symbol may cost to decode


def descend(nodes: NDArray[Any], root: int, known: Words) -> Words:
    """Find the leaf that each sample reaches from a root.

    Args:
        nodes: A row for each node: a column, a threshold, and the nodes to go to if the sample's
            value is at most the threshold, and if it is above; a leaf has -1 first.
        root: Where to start.
        known: The samples' values, (n, columns known).

    Returns:
        Numbers of nodes, (n,).
    """
    at = np.full(len(known), root, dtype=np.int64)
    going = np.flatnonzero(nodes[at, 0] >= 0)
    while len(going):
        feature, threshold, left, right = nodes[at[going]].T
        at[going] = np.where(known[going, feature] <= threshold, left, right)
        going = going[nodes[at[going], 0] >= 0]
    return at


def grow(
    bins: Words, classes: Words, count: int, samples: int, shift: int = 0
) -> NDArray[np.int64]:
    """Grow a tree that predicts a class from binned values, as rows for `descend`.

    Its root is node 0, and children come after their parents. It grows level by level on
    histograms: a node is split where that saves the most bits on its samples' classes, if it saves
    enough.

    Args:
        bins: Bins of the known values, from 0, (n, columns known): the borders that splits may
            take.
        classes: The classes to predict, 0 to count - 1, (n,).
        count: How many classes there are.
        samples: How many independent samples there are; n may be a multiple of it.
        shift: A bin is a value without so many of its lowest bits; thresholds are values.
    """
    width = int(bins.max(initial=0)) + 1
    nodes = [[-1, 0, 0, 0]]
    at = np.zeros(len(bins), dtype=np.int64)  # each sample's node
    level_nodes = np.zeros(1 if bins.shape[1] else 0, dtype=np.int64)
    for _ in range(MAX_DEPTH):
        if not len(level_nodes):
            break
        inside = np.flatnonzero(at >= level_nodes[0])
        place = at[inside] - level_nodes[0]
        best = [
            _best_splits(place, bins[inside, f], classes[inside], (len(level_nodes), width, count))
            for f in range(bins.shape[1])
        ]
        feature = np.argmax([saved for saved, _ in best], axis=0)
        saved, border = (np.choose(feature, column) for column in zip(*best, strict=True))
        split = saved * (samples / len(bins)) > WORTH_BITS
        first = len(nodes)
        children = first + 2 * (np.cumsum(split) - 1)
        for node, f, edge, child in zip(
            level_nodes[split], feature[split], border[split], children[split], strict=True
        ):
            nodes[node] = [int(f), int((edge + 1 << shift) - 1), int(child), int(child) + 1]
        nodes += [[-1, 0, 0, 0] for _ in range(2 * int(split.sum()))]
        moving = split[place]
        inside, place = inside[moving], place[moving]
        at[inside] = children[place] + (bins[inside, feature[place]] > border[place])
        level_nodes = np.arange(first, len(nodes))
    return np.array(nodes)


def _best_splits(
    place: Words, bins: Words, classes: Words, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], Words]:
    """Each node's split on one column that saves most: bits saved, the last bin to the left."""
    nodes, width, count = shape
    histogram = np.bincount(
        (place * width + bins) * count + classes, minlength=nodes * width * count
    ).reshape(shape)
    left = np.cumsum(histogram, axis=1, dtype=np.float64)
    whole = left[:, -1:]
    saved = _code_bits(whole) - _code_bits(left) - _code_bits(whole - left)  # (nodes, bins)
    border = np.argmax(saved, axis=1)
    return np.take_along_axis(saved, border[:, None], axis=1)[:, 0], border


def _code_bits(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bits that classes with these counts (…, classes) cost under their own shares."""
    totals = counts.sum(axis=-1)
    return np.asarray(
        totals * np.log2(np.maximum(totals, 1))
        - (counts * np.log2(np.maximum(counts, 1))).sum(axis=-1)
    )


def shares(
    tree: NDArray[np.int64], counts: NDArray[np.float64], repeats: int = 1
) -> NDArray[np.float64]:
    """Each leaf's shares of the symbols, with the parent's shares as a prior, from the root on.

    Args:
        tree: Rows for `descend`.
        counts: Of symbols at the leaves, (nodes, ..., symbols); filled in for inner nodes.
        repeats: How often each sample is counted.

    Returns:
        (leaves, ..., symbols), in the order of the nodes.
    """
    inner = tree[:, 0] >= 0
    for node in np.flatnonzero(inner)[::-1]:
        counts[node] = counts[tree[node, 2]] + counts[tree[node, 3]]
    counts = counts / repeats
    drawn = np.empty_like(counts)
    drawn[0] = (counts[0] + 1 / counts.shape[-1]) / (counts[0].sum(axis=-1, keepdims=True) + 1)
    for node in np.flatnonzero(inner):
        for child in tree[node, 2:]:
            total = counts[child].sum(axis=-1, keepdims=True)
            drawn[child] = (counts[child] + PRIOR * drawn[node]) / (total + PRIOR)
    return drawn[~inner]


class Forest:
    """Trees that stand one after another, with tables for their leaves."""

    def __init__(self) -> None:
        self._roots: list[int] = []
        self._nodes: list[NDArray[np.int64]] = []
        self._tables: list[tuple[NDArray[np.uint16], int]] = []
        self._end = self._leaves = 0

    def add(self, tree: NDArray[np.int64], weights: NDArray[np.float64], low: int = 0) -> None:
        """Add a tree; weights are (leaves, ..., symbols), a table each, from symbol `low` on."""
        leaf = tree[:, 0] < 0
        tree[leaf, 1] = self._leaves + np.arange(leaf.sum())
        tree[~leaf, 2:] += self._end
        self._roots.append(self._end)
        self._nodes.append(tree)
        self._tables.append((integer_frequencies(weights.reshape(-1, weights.shape[-1])), low))
        self._end, self._leaves = self._end + len(tree), self._leaves + int(leaf.sum())

    def finish(self, escape: bool = False) -> tuple[NDArray[np.int32], NDArray[np.int32], Tables]:
        """The roots (trees,), the nodes (nodes, 4), and the tables of all leaves."""
        parts = [part for part, _ in self._tables]
        lows = np.repeat([low for _, low in self._tables], [len(part) for part in parts])
        tables = Tables(stacked(parts), lows.astype(np.int32), escape)
        nodes = np.concatenate(self._nodes).astype(np.int32)
        return np.array(self._roots, np.int32), nodes, tables


def faults(nodes: NDArray[Any], roots: NDArray[Any], first: int, leaves: int) -> str:
    """Describe what is wrong with trees that stand one after another; "" if nothing is.

    Then each sample reaches a leaf, and soon.

    Args:
        nodes: (nodes, 4) rows for `descend`, leaves with their numbers as thresholds.
        roots: The first node of each tree, (trees,): tree i knows the columns before `first + i`.
        first: The column of the first tree.
        leaves: How many leaf numbers there are.
    """
    if nodes.ndim != 2 or nodes.shape[1] != 4 or roots.ndim != 1 or not len(nodes):
        return f"trees are (nodes, 4) with (trees,) roots; got {nodes.shape} and {roots.shape}"
    borders = np.append(roots, len(nodes))
    if borders[0] != 0 or (np.diff(borders) < 1).any():
        return "the trees' roots must rise from 0 to below the number of nodes"
    numbers = np.arange(len(nodes))
    own = np.searchsorted(roots, numbers, side="right") - 1  # each node's tree
    leaf = nodes[:, 0] < 0
    inner, parents = nodes[~leaf], numbers[~leaf, None]
    if ((inner[:, 2:] <= parents) | (inner[:, 2:] >= borders[own[parents] + 1])).any() or (
        inner[:, 0] >= first + own[~leaf]
    ).any():
        return "a tree has a branch that leads nowhere, or that a decoder cannot follow"
    if ((nodes[leaf, 1] < 0) | (nodes[leaf, 1] >= leaves)).any():
        return "a tree ends in a table that is not there"
    level = roots
    for _ in range(MAX_DEPTH):
        level = np.unique(nodes[level[nodes[level, 0] >= 0], 2:])
    return f"a tree is more than {MAX_DEPTH} branches deep" if (nodes[level, 0] >= 0).any() else ""
