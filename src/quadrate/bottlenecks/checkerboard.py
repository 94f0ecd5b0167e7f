"""A frozen bottleneck of maps of any size: groups of channels, each coded in passes over sites."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks.frozen import read_arrays
from quadrate.bottlenecks.integer_network import FRACTION_BITS, IntegerNetwork
from quadrate.bottlenecks.surroundings import (
    UNIT_BITS,
    Integers,
    Surroundings,
    channels_of,
    sites_of_passes,
)
from quadrate.coding.entropy_coder import Decoder, Encoder
from quadrate.coding.symbols import Words
from quadrate.coding.tables import Tables
from quadrate.errors import QuadrateError

MAX_CHANNELS = 1 << 12
MAX_GROUPS = 255  # a stream begins with their number
_UNITS = 1 << UNIT_BITS  # a step
_MOST = 1 << 24  # received, in these units
_KINDS = {"frequencies": "u2", "lows": "i4", "ends": "i4", "offsets": "i4", "base": "i4"}
_NETWORK_PART = re.compile(r"(mean|spread)\.([0-9]{1,3})\.([0-9])\.(\w+)", re.ASCII)
Place = tuple[int, int]
"""The number of a group and of its pass."""
# Takes the group's indices of tables and its means, (n, c), and gives symbols (n, c).
_Coder = Callable[[Place, NDArray[np.intp], Words, Words], Words]
_Witness = Callable[[Place, NDArray[np.intp], Words], None]  # takes symbols (n, c)


@dataclass(frozen=True, eq=False)
class CheckerboardModel:
    """Maps of any size to bytes and back, by integers alone.

    Groups of channels (Minnen and Singh 2020) are coded in passes over the sites, in the manner of
    a checkerboard (He et al. 2021). At each pass a linear network predicts numbers from what is
    known around them, another network tells how far they spread, which chooses a table for each,
    and the difference from the prediction is rounded and coded. Both networks are integer, so a
    file decodes to the same numbers on any machine.

    Numbers are in steps; the step is the sender's choice. Its logarithm is an input of the
    networks, so one model serves all rates.

    Attributes:
        ends: (G,) int32, where the groups of channels end, rising.
        means: The networks that predict; where there is none, the prediction is 0 or, in the first
            group, the mean of the neighbours.
        spreads: The networks that choose tables, one for each group and pass.
        tables: One for each spread, the narrowest first, with an entry for 0 and an escape.
        offsets: (T, 3) int32, by how much received symbols of ±1, ±2 and beyond are nearer to the
            prediction than they say, in 1/16 of a step, for each table.
        base: How many groups the first of the two streams has, which is read without the second.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    ends: NDArray[np.int32]
    means: Mapping[Place, IntegerNetwork]
    spreads: Mapping[Place, IntegerNetwork]
    tables: Tables
    offsets: NDArray[np.int32]
    base: int = 2
    name = "checkerboard"

    def __post_init__(self) -> None:
        ends, lows = self.ends, self.tables.lows.astype(np.int64)
        if ends.ndim != 1 or not len(ends) or ends[0] < 1 or (ends[1:] <= ends[:-1]).any():
            raise QuadrateError("groups of channels end at rising numbers from 1 on")
        if len(ends) > MAX_GROUPS or ends[-1] > MAX_CHANNELS:
            raise QuadrateError(
                f"maps have up to {MAX_CHANNELS} channels in {MAX_GROUPS} groups; got {ends[-1]} in"
                f" {len(ends)}"
            )
        if not 1 <= self.base < len(ends):
            raise QuadrateError(f"the base has 1 to {len(ends) - 1} groups; got {self.base}")
        if not self.tables.escape or self.offsets.shape != (len(lows), 3):
            raise QuadrateError("tables need an escape, and three offsets each")
        if ((lows > 0) | (lows + self.tables.sizes < 2)).any():
            raise QuadrateError("each table has an entry for 0")
        if ((self.offsets < -_UNITS) | (self.offsets > _UNITS)).any():
            raise QuadrateError("offsets are at most a step")
        self._check_networks()

    def _check_networks(self) -> None:
        """Raise a QuadrateError unless there are the networks that there must be."""
        places = set()
        probe = Surroundings(4, 4, self.ends.tolist(), 0)  # has sites in each pass
        for group, size in enumerate(np.diff(self.ends, prepend=0).tolist()):
            probe.begin(group)
            for number, sites in enumerate(sites_of_passes(group, 4, 4)):
                place, one = (group, number), sites[:1]
                places.add(place)
                wanted = probe.spread(group, number, one).shape[1], size
                _check_network(self.spreads.get(place), wanted, f"spreads {place}")
                if place in self.means:
                    wanted = probe.prediction(group, number, one)[1].shape[1], size
                    _check_network(self.means[place], wanted, f"means {place}")
        if other := sorted({*self.means, *self.spreads} - places):
            raise QuadrateError(f"there is a network for {other[0]}, which is no group and pass")

    @property
    def channels(self) -> int:
        """The number of channels, c."""
        return int(self.ends[-1])

    def _channels(self, place: Place) -> slice:
        return channels_of(self.ends.tolist(), place[0])

    def encode(
        self, maps: NDArray[np.float32], exponent: int, rate_weight: float
    ) -> tuple[bytes, bytes]:
        """Quantize and write a map.

        Each symbol is the cheapest of a few (`choose`); what it does to later contexts is not
        looked at.

        Args:
            maps: (h, w, c), in steps.
            exponent: log2 of the step in 1/64, which is the sender's to tell.
            rate_weight: The worth of a bit, in squared steps.

        Returns:
            The base, which begins with a byte, the number of groups that are not zero; and the
            rest, which is empty if there is none.

        Raises:
            QuadrateError: If a number is too large to be coded, or not finite.
        """
        encoders = Encoder(self.tables), Encoder(self.tables)
        groups = self._groups(maps)
        rows = maps.reshape(-1, self.channels)

        def code(place: Place, sites: NDArray[np.intp], indices: Words, means: Words) -> Words:
            wanted = rows[sites, self._channels(place)] - means.astype(np.float32) / _UNITS
            symbols = self.choose(wanted, indices, rate_weight)
            encoders[place[0] >= self.base].write(symbols.ravel(), indices.ravel())
            return symbols

        self._visit(maps.shape[0], maps.shape[1], exponent, groups, code)
        base, rest = (encoder.bytes() for encoder in encoders)
        return bytes([groups]) + base, rest

    def decode(self, streams: Sequence[bytes], height: int, width: int, exponent: int) -> Integers:
        """Read what `encode` wrote.

        Args:
            streams: The base, and the rest or not.
            height: h.
            width: w.
            exponent: That of the step.

        Returns:
            The map as it is received, (h, w, c), in 1/16 of a step; channels that are not read are
            0.

        Raises:
            QuadrateError: If a stream is damaged.
        """
        return self._read(streams, height, width, exponent, lambda place, sites, symbols: None)

    def symbols(self, streams: Sequence[bytes], height: int, width: int, exponent: int) -> Words:
        """Read the symbols alone, int64 (h, w, c); arguments and errors as of `decode`."""
        found = np.zeros((height * width, self.channels), np.int64)

        def keep(place: Place, sites: NDArray[np.intp], symbols: Words) -> None:
            found[sites, self._channels(place)] = symbols

        self._read(streams, height, width, exponent, keep)
        return found.reshape(height, width, -1)

    def _read(
        self, streams: Sequence[bytes], height: int, width: int, exponent: int, see: _Witness
    ) -> Integers:
        """Return what `decode` does, and show the symbols of each pass to a witness."""
        base, most = streams[0], len(self.ends)
        if not base or not 1 <= base[0] <= most:
            raise QuadrateError(f"a map's stream begins with the number of its groups, 1 to {most}")
        if base[0] <= self.base and any(streams[1:]):  # which a decoder of no symbol may not notice
            raise QuadrateError(
                "a map whose groups are all in the base has a rest that is not empty"
            )
        streams = [base[1:], *streams[1:]]
        decoders = [Decoder(self.tables, stream) for stream in streams]
        groups = base[0] if len(streams) == 2 else min(base[0], self.base)

        def code(place: Place, sites: NDArray[np.intp], indices: Words, means: Words) -> Words:
            decoder = decoders[place[0] >= self.base]
            symbols = decoder.read(indices.ravel()).reshape(indices.shape)
            see(place, sites, symbols)
            return symbols

        received = self._visit(height, width, exponent, groups, code)
        for decoder in decoders:
            decoder.finish()
        return received

    def _visit(self, height: int, width: int, exponent: int, groups: int, code: _Coder) -> Integers:
        """Visit the passes in their order; return what is received.

        Contexts see symbols without their offsets, as these are for the eye alone.
        """
        known = Surroundings(height, width, self.ends.tolist(), exponent)
        received = np.zeros((height * width, self.channels), np.int32)
        for place, sites in known.passes(groups):
            means, indices = self.context(known, place, sites)
            symbols = code(place, sites, indices, means)
            # A damaged stream may hold any symbols.
            numbers = np.clip((symbols << UNIT_BITS) + means, -_MOST, _MOST)
            known.put(place[0], sites, numbers)
            offsets = self._all_offsets[indices, np.minimum(np.abs(symbols), 3)]
            received[sites, known.channels(place[0])] = numbers - np.sign(symbols) * offsets
        return received.reshape(height, width, -1)

    def context(
        self, known: Surroundings, place: Place, sites: NDArray[np.intp]
    ) -> tuple[Words, Words]:
        """Return the predictions, in 1/16 of a step, and the tables at sites, int64 (n, c) each."""
        means = predict(self.means, known, place, sites)
        spread = self.spreads[place](known.spread(*place, sites)) >> FRACTION_BITS
        return means, np.clip(spread, 0, len(self.tables.lows) - 1)

    def choose(self, wanted: NDArray[np.floating], indices: Words, rate_weight: float) -> Words:
        """Return symbols of the least squared error + rate weight · bits.

        Candidates are the nearest integer, the next one towards 0, and 0 itself. The bits of ±k are
        their mean.

        Args:
            wanted: Numbers, in steps from their predictions.
            indices: Their tables.
            rate_weight: The worth of a bit, in squared steps.

        Raises:
            QuadrateError: If a number is too large to be coded.
        """
        sizes, bits = np.abs(wanted), self._bits
        if sizes.max(initial=0) > _MOST >> UNIT_BITS + 1:
            raise QuadrateError("a number is too many steps to be coded; take a larger step")
        best = np.zeros(wanted.shape, np.int64)
        least = sizes**2 + rate_weight * bits[indices, 0]
        upper = np.floor(sizes + 0.5).astype(np.int64)
        rows = np.nonzero(upper)
        sizes, indices, upper, least = (part[rows] for part in (sizes, indices, upper, least))
        chosen = np.zeros_like(upper)
        for size in (upper, np.maximum(upper - 1, 0)):
            away = sizes - size + self._offsets_float[indices, np.minimum(size, 3)]
            cost = away**2 + rate_weight * bits[indices, np.minimum(size, bits.shape[1] - 1)]
            better = cost < least
            chosen, least = np.where(better, size, chosen), np.where(better, cost, least)
        best[rows] = chosen
        return np.where(wanted < 0, -best, best)

    def _groups(self, maps: NDArray[np.float32]) -> int:
        """How many groups there are up to the last one that holds more than half a step."""
        largest = np.abs(maps).max(axis=(0, 1), initial=0.0)
        if not np.isfinite(largest).all():
            raise QuadrateError("maps hold numbers that are not finite")
        active = np.flatnonzero(largest > 0.5)
        return int(np.searchsorted(self.ends, active[-1], side="right")) + 1 if len(active) else 1

    @cached_property
    def _bits(self) -> NDArray[np.float32]:
        """The bits of a size under each table, the mean over its signs, (T, K).

        The last size is beyond all tables, and stands for all that are.
        """
        reach = int(max(self.tables.sizes.max(), 4))
        count = len(self.tables.lows)
        rows = np.repeat(np.arange(count), reach)
        sizes = np.tile(np.arange(reach), count)
        bits = self.tables.lengths(sizes, rows) + self.tables.lengths(-sizes, rows)
        return (bits / 2).reshape(count, reach).astype(np.float32)

    @cached_property
    def _all_offsets(self) -> Words:
        """Offsets of the sizes 0 to 3, (T, 4)."""
        return np.pad(self.offsets.astype(np.int64), ((0, 0), (1, 0)))

    @cached_property
    def _offsets_float(self) -> NDArray[np.float32]:
        return (self._all_offsets / _UNITS).astype(np.float32)

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same bytes would give other numbers."""
        sha = hashlib.sha256(b"checkerboard")
        for name, array in sorted(self.arrays().items()):
            sha.update(f"{name} {array.shape} {array.dtype.str}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.digest()[:16]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for a codec's file."""
        found: dict[str, NDArray[Any]] = {
            "frequencies": self.tables.frequencies,
            "lows": self.tables.lows,
            "ends": self.ends,
            "offsets": self.offsets,
            "base": np.array([self.base], np.int32),
        }
        for role, networks in (("mean", self.means), ("spread", self.spreads)):
            for (group, number), network in networks.items():
                parts = network.arrays().items()
                found |= {f"{role}.{group}.{number}.{name}": array for name, array in parts}
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CheckerboardModel:
        """Build a model again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of such a model.
        """
        frequencies, lows, ends, offsets, base = read_arrays(arrays, _KINDS, "a checkerboard model")
        if base.shape != (1,):
            raise QuadrateError("a checkerboard model has one number of base groups")
        parts: dict[str, dict[Place, dict[str, NDArray[Any]]]] = {"mean": {}, "spread": {}}
        for name in sorted(set(arrays) - set(_KINDS)):
            if not (found := _NETWORK_PART.fullmatch(name)):
                raise QuadrateError(f"a checkerboard model has no array {name[:100]!r}")
            place = int(found[2]), int(found[3])
            parts[found[1]].setdefault(place, {})[found[4]] = arrays[name]
        means, spreads = (
            {place: IntegerNetwork.from_arrays(own) for place, own in networks.items()}
            for networks in parts.values()
        )
        tables = Tables(frequencies, lows, escape=True)
        model = cls(ends, means, spreads, tables, offsets, int(base[0]))
        if other := sorted(set(arrays) - set(model.arrays())):
            raise QuadrateError(f"a checkerboard model has no array {other[0][:100]!r}")
        return model


def predict(
    means: Mapping[Place, IntegerNetwork],
    known: Surroundings,
    place: Place,
    sites: NDArray[np.intp],
) -> Words:
    """Return the predictions at sites, int64 (n, c), in 1/16 of a step.

    Without a network they are 0, and nothing is gathered for them; but in the first group they are
    the mean of the neighbours.
    """
    group, network = place[0], means.get(place)
    if group and network is None:
        channels = known.channels(group)
        return np.zeros((len(sites), channels.stop - channels.start), np.int64)
    guess, inputs = known.prediction(*place, sites)
    predicted = guess.astype(np.int64)
    if network is not None:
        predicted += network(inputs) + (1 << FRACTION_BITS - 1) >> FRACTION_BITS
    return predicted


def _check_network(network: IntegerNetwork | None, wanted: tuple[int, int], where: str) -> None:
    if network is None or (network.inputs, network.outputs) != wanted:
        given = "none" if network is None else f"{network.inputs} to {network.outputs}"
        raise QuadrateError(
            f"{where} needs a network of {wanted[0]} to {wanted[1]} numbers; got {given}"
        )
