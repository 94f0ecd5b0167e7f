"""What sender and receiver know around a site of a map when they code it: integers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.symbols import Words

Integers = NDArray[np.int32]
UNIT_BITS = 4  # received numbers are whole sixteenths of a step
_LOW = 12  # channels whose differences between sites predict other channels
_MARGIN = 2  # how far neighbours are
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_STRAIGHT = ((-1, 0), (0, -1), (0, 1), (1, 0))
_AROUND = (*_DIAGONAL, *_STRAIGHT)
# The first group's passes but for the very first: which neighbours are known, and how far away.
_FIRST_PASSES = ((_DIAGONAL, 2), (_STRAIGHT, 2), (_DIAGONAL, 1), (_STRAIGHT, 1))
_MOST_LOG = (1 << 16) - 1
# 16 log2(1 + |number|) of received numbers, to the nearest; frozen by the test of golden files.
_LOGS = np.rint(16 * np.log2(1 + np.arange(_MOST_LOG + 1) / (1 << UNIT_BITS))).astype(np.int32)


def sites_of_passes(group: int, height: int, width: int) -> list[NDArray[np.intp]]:
    """Return the sites of each pass over a map of h·w sites, as numbers of its rows.

    The first group is coded in five passes, each with sites half-way between those before it, so
    that most sites are predicted from both sides; the others in two passes, the fields of one
    colour of a checkerboard at a time (He et al. 2021).
    """
    i, j = np.mgrid[:height, :width]
    even = (i + j) % 2 == 0
    if group:
        parts = [even, ~even]
    else:
        coarse, odd = (i % 2 == 0) & (j % 2 == 0), (i % 2 == 1) & (j % 2 == 1)
        corner, middle = (i % 4 == 0) & (j % 4 == 0), (i % 4 == 2) & (j % 4 == 2)
        parts = [corner, middle, coarse & ~corner & ~middle, odd, ~even]
    return [np.flatnonzero(part) for part in parts]


def channels_of(ends: Sequence[int], group: int) -> slice:
    """Return which channels a group has, given where the groups end."""
    return slice(ends[group - 1] if group else 0, ends[group])


def logs(numbers: Words | Integers) -> Integers:
    """Return 16 log2(1 + |number| / 16) to the nearest integer; numbers are in 1/16 of a step."""
    return _LOGS[np.minimum(np.abs(numbers), _MOST_LOG)]


class Surroundings:
    """A map while it is coded: what is known already, and what networks are told of it.

    Channels are coded in groups, each in passes over the sites. Edges repeat the last sites.

    Args:
        height: Rows of sites.
        width: Sites a row.
        ends: Where the groups of channels end, rising; the last is the number of channels.
        exponent: log2 of the step in 1/64.

    Attributes:
        received: (h, w, c), in 1/16 of a step; 0 where nothing is known yet.
    """

    def __init__(self, height: int, width: int, ends: Sequence[int], exponent: int) -> None:
        self.received = np.zeros((height, width, ends[-1]), np.int32)
        self._ends, self._exponent = ends, exponent
        self._logs = np.zeros_like(self.received)  # of what is received
        self._sums = np.zeros_like(self.received)  # of logs, over the eight sites around each
        self._contrast = np.zeros((height * width, 0), np.int32)
        self._shifted: dict[tuple[int, int], Integers] = {}  # the lowest channels, at neighbours

    def channels(self, group: int) -> slice:
        """Return which channels a group has."""
        return channels_of(self._ends, group)

    def passes(self, groups: int) -> Iterator[tuple[tuple[int, int], NDArray[np.intp]]]:
        """Begin the first groups one after another, and yield their passes that have sites.

        Yields:
            The numbers of the group and of its pass, and the sites. What is received there is put
            before the next one is asked for.
        """
        height, width = self.received.shape[:2]
        for group in range(groups):
            self.begin(group)
            for number, sites in enumerate(sites_of_passes(group, height, width)):
                if len(sites):
                    yield (group, number), sites

    def begin(self, group: int) -> None:
        """Take note of all channels of the groups before."""
        if not group:
            return
        done = self.channels(group - 1)
        self._logs[..., done] = logs(self.received[..., done])
        self._sums[..., done] = _summed(self._logs[..., done], _AROUND)
        low = self.received[..., : min(done.stop, _LOW)]
        if low.shape[2] != self._contrast.shape[1]:
            self._shifted = {by: _rows(_moved(low, *by) - low) for by in _AROUND}
            self._contrast = sum(map(logs, self._shifted.values()), np.zeros((), np.int32))

    def put(self, group: int, sites: NDArray[np.intp], numbers: Words) -> None:
        """Put what was received at sites (n,) of a group, (n, channels of the group)."""
        _rows(self.received)[sites, self.channels(group)] = numbers

    def prediction(
        self, group: int, number: int, sites: NDArray[np.intp]
    ) -> tuple[Integers, Integers]:
        """Return what predicts numbers of a pass: a first guess (n, channels), and inputs (n, k).

        A linear network of the inputs is added to the guess. There are no inputs in the first pass
        of all.
        """
        channels = self.channels(group)
        own = self.received[..., channels]
        if not group:
            values, known = self._neighbours(number, sites)  # (4, n, c), (4, n, 1)
            if not number:
                return np.zeros((len(sites), own.shape[2]), np.int32), values.reshape(len(sites), 0)
            guess = values.sum(0) // np.maximum(known.sum(0), 1)
            differences = (values - guess) * known  # (4, n, c)
            return guess, differences.transpose(1, 0, 2).reshape(len(sites), -1)
        low = min(channels.start, _LOW)
        parts = [_rows(self.received)[sites, :low]]
        parts += [shifted[sites] for shifted in self._shifted.values()]
        if number:
            parts += [_rows(_moved(own, *by, edges=False))[sites] for by in _STRAIGHT]
        return np.zeros((len(sites), own.shape[2]), np.int32), np.concatenate(parts, axis=1)

    def spread(self, group: int, number: int, sites: NDArray[np.intp]) -> Integers:
        """Return the inputs of the network that tells how far numbers spread, (n, k)."""
        channels = self.channels(group)
        parts = [np.full((len(sites), 1), self._exponent, np.int32)]
        if not group:
            if number:
                guess, differences = self.prediction(group, number, sites)
                parts.append(logs(differences))
            return np.concatenate(parts, axis=1)
        before = slice(0, channels.start)
        parts += [_rows(self._logs)[sites, before], _rows(self._sums)[sites, before]]
        parts.append(self._contrast[sites])
        if number:
            own = logs(self.received[..., channels])
            parts.append(_rows(_summed(own, _STRAIGHT))[sites])
        return np.concatenate(parts, axis=1)

    def _neighbours(self, number: int, sites: NDArray[np.intp]) -> tuple[Integers, Integers]:
        """The first group at the four known neighbours of sites, 0 beyond the edge; and which are.

        Returns:
            (4, n, c), and 0 or 1, (4, n, 1); empty in the first pass.
        """
        own = self.received[..., self.channels(0)]
        if not number:
            return np.zeros((0, len(sites), own.shape[2]), np.int32), np.zeros((0,), np.int32)
        directions, far = _FIRST_PASSES[number - 1]
        steps = [(di * far, dj * far) for di, dj in directions]
        there = np.ones((*own.shape[:2], 1), np.int32)
        values = [_rows(_moved(own, *by, edges=False))[sites] for by in steps]
        known = [_rows(_moved(there, *by, edges=False))[sites] for by in steps]
        return np.stack(values), np.stack(known)


def _rows(maps: Integers) -> Integers:
    """Maps (h, w, c) as rows (h·w, c)."""
    return maps.reshape(-1, maps.shape[2])


def _summed(maps: Integers, places: Sequence[tuple[int, int]]) -> Integers:
    """The sum of what stands at several places around each site of maps (h, w, c)."""
    total = np.zeros_like(maps)
    for by in places:
        total += _moved(maps, *by)
    return total


def _moved(maps: Integers, down: int, right: int, edges: bool = True) -> Integers:
    """What stands at another place of maps (h, w, c); beyond the edge the last sites, or 0."""
    margins = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    padded = np.pad(maps, margins, mode="edge" if edges else "constant")
    height, width = maps.shape[:2]
    top, left = _MARGIN + down, _MARGIN + right
    return padded[top : top + height, left : left + width]
