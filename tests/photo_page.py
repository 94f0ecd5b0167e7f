"""A second reader of photographs' payloads: docs/format.md in plain loops and Python's integers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from quadrate.coding.entropy_coder import Decoder
from quadrate.coding.tables import Tables

DIAGONAL = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
STRAIGHT = [(-1, 0), (0, -1), (0, 1), (1, 0)]
MOST = 1 << 24


def log(number: int) -> int:
    """16 log2(1 + |number| / 16) to the nearest, for up to 2^16 - 1."""
    return round(16 * math.log2(1 + min(abs(number), 65535) / 16))


def pass_of(group: int, i: int, j: int) -> int:
    if group:
        return (i + j) % 2
    if i % 2 == 0 and j % 2 == 0:
        return {(0, 0): 0, (2, 2): 1}.get((i % 4, j % 4), 2)
    return 3 if i % 2 and j % 2 else 4


class Site:
    """What networks are told of a site when a group is coded there.

    Args:
        known: The numbers received so far, as nested lists (h, w, c).
        ends: Where the groups end.
        exponent: That of the step.
        group: Which group.
        i: Row.
        j: Column.
    """

    def __init__(
        self, known: list, ends: Sequence[int], exponent: int, group: int, i: int, j: int
    ) -> None:
        self.known, self.exponent, self.group = known, exponent, group
        self.height, self.width = len(known), len(known[0])
        self.i, self.j, self.number = i, j, pass_of(group, i, j)
        self.start, self.stop = (0, *ends)[group : group + 2]

    def at(self, di: int, dj: int) -> list[int]:
        i, j = self.i + di, self.j + dj
        return self.known[min(max(i, 0), self.height - 1)][min(max(j, 0), self.width - 1)]

    def inside(self, di: int, dj: int) -> bool:
        return 0 <= self.i + di < self.height and 0 <= self.j + dj < self.width

    def own(self, di: int, dj: int) -> list[int]:
        zeros = [0] * (self.stop - self.start)
        return self.at(di, dj)[self.start : self.stop] if self.inside(di, dj) else zeros

    def first_group(self) -> tuple[list[int], list[int]]:
        steps = [
            [],
            [(2 * di, 2 * dj) for di, dj in DIAGONAL],
            [(2 * di, 2 * dj) for di, dj in STRAIGHT],
            DIAGONAL,
            STRAIGHT,
        ][self.number]
        inside = [step for step in steps if self.inside(*step)]
        guess = [
            sum(self.own(*step)[c] for step in inside) // max(len(inside), 1)
            for c in range(self.stop)
        ]
        inputs = [
            self.own(*step)[c] - guess[c] if step in inside else 0
            for step in steps
            for c in range(self.stop)
        ]
        return guess, inputs

    def prediction(self) -> tuple[list[int], list[int]]:
        """The guess, and the inputs of `mean`."""
        if not self.group:
            return self.first_group()
        low = min(self.start, 12)
        here = self.at(0, 0)[:low]
        inputs = list(here)
        for step in DIAGONAL + STRAIGHT:
            inputs += [there - own for there, own in zip(self.at(*step)[:low], here, strict=True)]
        for step in STRAIGHT if self.number else []:
            inputs += self.own(*step)
        return [0] * (self.stop - self.start), inputs

    def spread(self) -> list[int]:
        """The inputs of `spread`."""
        inputs = [self.exponent]
        if not self.group:
            return inputs + [log(number) for number in self.first_group()[1]]
        before, low = range(self.start), range(min(self.start, 12))
        around = [self.at(*step) for step in DIAGONAL + STRAIGHT]
        here = self.at(0, 0)
        inputs += [log(here[c]) for c in before]
        inputs += [sum(log(there[c]) for there in around) for c in before]
        inputs += [sum(log(there[c] - here[c]) for there in around) for c in low]
        if self.number:
            straight = [self.at(*step) for step in STRAIGHT]
            inputs += [
                sum(log(there[c]) for there in straight) for c in range(self.start, self.stop)
            ]
        return inputs


def network(arrays: Mapping[str, np.ndarray], name: str, inputs: list[int]) -> list[int]:
    """An integer network by its name."""
    h = [max(-(1 << 15), min(number, 1 << 15)) << 12 for number in inputs]
    layer = 0
    while f"{name}.weights{layer}" in arrays:
        weights, biases, shifts = (
            arrays[f"{name}.{part}{layer}"].tolist() for part in ("weights", "biases", "shifts")
        )
        if layer:
            h = [max(0, min(number, (1 << 28) - 1)) for number in h]
        h = [
            sum(w * number for w, number in zip(row, h, strict=True)) + bias >> shift
            for row, bias, shift in zip(weights, biases, shifts, strict=True)
        ]
        layer += 1
    assert layer
    return h


def read_unit(
    arrays: Mapping[str, np.ndarray], streams: list[bytes], height: int, width: int, exponent: int
) -> np.ndarray:
    """A unit's received numbers, (h, w, c), from its base stream, or from both."""
    ends, (base,) = arrays["model/ends"].tolist(), arrays["model/base"].tolist()
    offsets = arrays["model/offsets"].tolist()
    tables = Tables(arrays["model/frequencies"], arrays["model/lows"], escape=True)
    known = [[[0] * ends[-1] for _ in range(width)] for _ in range(height)]
    received = np.zeros((height, width, ends[-1]), np.int64)
    groups = streams[0][0] if len(streams) == 2 else min(streams[0][0], base)
    decoders = [Decoder(tables, streams[0][1:]), *(Decoder(tables, part) for part in streams[1:])]
    for group in range(groups):
        channels = range((0, *ends)[group], ends[group])
        for number in range(2 if group else 5):
            places = [
                (i, j)
                for i in range(height)
                for j in range(width)
                if pass_of(group, i, j) == number
            ]
            predicted, chosen = [], []
            for i, j in places:
                site = Site(known, ends, exponent, group, i, j)
                means, inputs = site.prediction()
                if f"model/mean.{group}.{number}.weights0" in arrays:
                    given = network(arrays, f"model/mean.{group}.{number}", inputs)
                    means = [m + (x + 2048 >> 12) for m, x in zip(means, given, strict=True)]
                given = network(arrays, f"model/spread.{group}.{number}", site.spread())
                predicted += means
                chosen += [max(0, min(x >> 12, len(offsets) - 1)) for x in given]
            if not places:
                continue
            symbols = decoders[group >= base].read(np.array(chosen)).tolist()
            parts = zip(symbols, predicted, chosen, strict=True)
            for (i, j), k in ((place, k) for place in places for k in channels):
                z, m, t = next(parts)
                r = known[i][j][k] = max(-MOST, min(16 * z + m, MOST))
                offset = offsets[t][min(abs(z), 3) - 1] if z else 0
                received[i, j, k] = r - offset if z > 0 else r + offset
    for decoder in decoders:
        decoder.finish()
    return received


def read_photograph(
    arrays: Mapping[str, np.ndarray], payloads: Sequence[bytes], shape: Sequence[int]
) -> tuple[np.ndarray, int]:
    """The received numbers of a photograph, (⌈H/16⌉, ⌈W/16⌉, c), and the exponent."""
    rows, columns = -(-shape[1] // 16), -(-shape[2] // 16)
    exponent = int.from_bytes(payloads[0][:2], "little")
    corners = [(i, j) for i in range(0, rows, 64) for j in range(0, columns, 64)]
    layers = []
    for payload in (payloads[0][2:], *payloads[1:]):
        start = 4 * (len(corners) - 1)
        lengths = np.frombuffer(payload[:start], "<u4").tolist()
        edges = [start, *(start + np.cumsum(lengths, dtype=int)).tolist(), len(payload)]
        layers.append([payload[a:b] for a, b in pairwise(edges)])
    found = np.zeros((rows, columns, int(arrays["model/ends"][-1])), np.int64)
    for (i, j), *streams in zip(corners, *layers, strict=True):
        size = min(64, rows - i), min(64, columns - j)
        found[i : i + 64, j : j + 64] = read_unit(arrays, streams, *size, exponent)
    return found, exponent
