"""What lossyless published (Dubois et al., 2021).

Its CLIP bottlenecks, and the files that its hub compressor writes.

A bottleneck is a state dict: `scaling` s and `biasing` b, by which features become (z + b)·exp(s),
and CompressAI's entropy bottleneck for these, which rounds about the medians in `quantiles`. A file
is a big-endian 32-bit count, then for each sample a big-endian 32-bit length and a stream of
CompressAI's rANS: a 64-bit state, little-endian 32-bit words, 16-bit frequencies, a symbol a
dimension, and 4-bit pieces for what is in no table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.bottlenecks.factorized import FactorizedBottleneck, MonotoneNetwork
from quadrate.codecs.feature_codec import FeatureCodec
from quadrate.coding.symbols import Words
from quadrate.coding.tables import PRECISION_BITS, TOTAL
from quadrate.core.files import FileSource, data_or_path, exists, read_bytes
from quadrate.core.torch_file import read_saved
from quadrate.errors import QuadrateError

_LAYERS = 5
_LEAST_STATE = 1 << 31  # the state is never below it, and an encoder begins there
_PIECE_BITS = 4
_MOST_PIECES = 8  # that 32 bits have
_BATCH = 4096  # samples decoded side by side
_KINDS = ("sign", "plain")
_LARGEST_BYTES = 2**26  # of a bottleneck's file; the published ones have 136 kB


class PublishedBottleneck:
    """A bottleneck that lossyless published.

    Args:
        state: Its state dict, with CompressAI's names of any version.

    Attributes:
        bottleneck: The same as ours.
        quantiles: (d, 3): the ends of CompressAI's tables, and in the middle the medians, in units
            of the density.

    Raises:
        QuadrateError: If the state dict is not that of such a bottleneck.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        try:
            parts = [state[name] for name in ("scaling", "biasing", "entropy_bottleneck.quantiles")]
            for (
                name,
                tensor,
            ) in state.items():  # before anything is computed: one number can pose as a billion
                if isinstance(tensor, Tensor) and tensor.nbytes > tensor.untyped_storage().nbytes():
                    raise ValueError(
                        f"{name} claims a shape of {tuple(tensor.shape)}, more than it holds"
                    )
            if [tuple(part.shape) for part in parts] != [
                (len(parts[0]),),
                (len(parts[0]),),
                (len(parts[0]), 1, 3),
            ]:
                raise ValueError(
                    f"scaling, biasing and quantiles are {[tuple(part.shape) for part in parts]}"
                )
            if not all(bool(part.isfinite().all()) for part in parts):
                raise ValueError("scaling, biasing or quantiles are not finite")
            scaling, biasing, quantiles = (part.float() for part in parts)
            density = MonotoneNetwork(len(scaling))
            density.load_state_dict(
                {
                    f"{new}.{i}": _either(
                        state, f"entropy_bottleneck._{old}{i}", f"entropy_bottleneck.{new}.{i}"
                    )
                    for old, new in (
                        ("matrix", "matrices"),
                        ("bias", "biases"),
                        ("factor", "factors"),
                    )
                    for i in range(_LAYERS - (new == "factors"))
                }
            )
            self.quantiles = quantiles.reshape(len(scaling), 3)
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise QuadrateError(
                f"this is not the state dict of a factorized bottleneck of lossyless: {reason}"
            ) from None
        self.bottleneck = FactorizedBottleneck(
            density, -biasing, torch.exp(-scaling)
        ).requires_grad_(False)

    @classmethod
    def load(cls, path: Path | str) -> PublishedBottleneck:
        """Reads a file such as `beta5e-02-factorized_rate.pt`; nothing in it is executed.

        Raises:
            QuadrateError: If the file is missing, damaged, or no such bottleneck.
        """
        if not exists(path):
            raise QuadrateError(
                f"no bottleneck at {path}; lossyless publishes them with its release v1.0, as"
                " beta…-factorized_rate.pt"
            )
        try:
            state = read_saved(path, _LARGEST_BYTES)
        except QuadrateError:
            raise
        except Exception as error:  # of many kinds, as a file may hold anything
            raise QuadrateError(
                f"{path} is not a file of PyTorch tensors: {' '.join(str(error).split())[:200]}"
            ) from None
        if not isinstance(state, dict):
            raise QuadrateError(f"{path} holds {type(state).__name__}, not a state dict")
        try:
            return cls(state)
        except QuadrateError as error:
            raise QuadrateError(f"{path}: {error}") from None

    def codec(self) -> FeatureCodec:
        """The same bottleneck as a codec for .quad files.

        Symbols and received features are those of lossyless, tables span what the density does.
        """
        return FeatureCodec.from_bottleneck(self.bottleneck.freeze(medians=self.quantiles[:, 1]))

    def read(self, source: FileSource) -> NDArray[np.float32]:
        """Features (n, d) from a file of the hub compressor, or from its bytes.

        Its labels, if there are any, are in a file of their own, which `numpy.load` reads.

        Raises:
            QuadrateError: If the file is damaged, or was written with another bottleneck.
        """
        symbols = self.read_symbols(source)
        step, medians = self.bottleneck.step.numpy(), self.quantiles[:, 1].numpy()
        return np.asarray((symbols + medians) * step + self.bottleneck.centre.numpy(), np.float32)

    def read_symbols(self, source: FileSource) -> Words:
        """The same as symbols, int64 (n, d)."""
        given = data_or_path(source)
        data = given if isinstance(given, bytes) else read_bytes(given)
        words, starts, ends = _streams(data)
        if not len(starts):
            return np.empty((0, len(self.quantiles)), np.int64)
        for kind in _KINDS:
            cdfs = self._cumulative(kind)
            try:
                _decode(words, starts[:1], ends[:1], cdfs, self._offsets)
            except QuadrateError as error:
                last = error
                continue
            parts = [slice(i, i + _BATCH) for i in range(0, len(starts), _BATCH)]
            return np.concatenate(
                [_decode(words, starts[part], ends[part], cdfs, self._offsets) for part in parts]
            )
        raise QuadrateError(
            f"sample 0: {last}; the file is damaged, or was written with another bottleneck"
        ) from None

    @property
    def _offsets(self) -> NDArray[np.int64]:
        """Each table's first symbol, (d,)."""
        return -torch.ceil(self.quantiles[:, 1] - self.quantiles[:, 0]).clamp(min=0).long().numpy()

    def _cumulative(self, kind: str) -> list[NDArray[np.int64]]:
        """CompressAI's cumulative frequencies for each dimension.

        The last entry is for what is in no table.

        It makes them in float32 whenever it loads a model, and later versions subtract the sigmoids
        without a change of sign, which rounds otherwise: a reader can only try.
        """
        low = -self._offsets
        high = torch.ceil(self.quantiles[:, 2] - self.quantiles[:, 1]).clamp(min=0).long().numpy()
        sizes = low + high + 1
        if sizes.max() > TOTAL // 2:
            raise QuadrateError(
                f"a table of this bottleneck has {sizes.max()} entries; its quantiles are damaged"
            )
        start = self.quantiles[:, 1] - torch.from_numpy(low).float()
        samples = torch.arange(int(sizes.max()))[:, None] + start  # (K, d)
        lower, upper = (self.bottleneck.density.logits(samples + side).T for side in (-0.5, 0.5))  # type: ignore[operator]
        sign = -torch.sign(lower + upper) if kind == "sign" else torch.ones_like(lower)
        masses = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        tails = torch.sigmoid(lower[:, :1]) + torch.sigmoid(-upper[:, -1:])
        return [
            _cumulative(torch.cat([row[:size], tail]).numpy())
            for row, tail, size in zip(masses, tails, sizes.tolist(), strict=True)
        ]


def _either(state: dict[str, Tensor], *names: str) -> Tensor:
    for name in names:
        if name in state:
            return state[name]
    raise KeyError(names[0])


def _cumulative(masses: NDArray[np.float32]) -> NDArray[np.int64]:
    """Masses (K,) to cumulative frequencies (K + 1,) out of 2^16, as CompressAI makes them.

    Rounded, scaled, and taken from the rarest for zeros.
    """
    rounded = np.floor(masses.astype(np.float64) * TOTAL + 0.5).astype(np.int64)
    if not rounded.sum() > 0:
        raise QuadrateError("a table of this bottleneck has no mass; its quantiles are damaged")
    cumulative = np.concatenate([[0], np.cumsum(rounded * TOTAL // rounded.sum())])
    cumulative[-1] = TOTAL
    for i in range(len(masses)):
        if cumulative[i] == cumulative[i + 1]:
            frequencies = np.diff(cumulative)
            donor = int(np.argmin(np.where(frequencies > 1, frequencies, TOTAL + 1)))
            if donor < i:
                cumulative[donor + 1 : i + 1] -= 1
            else:
                cumulative[i + 1 : donor + 1] += 1
    return cumulative


def _streams(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """A file's 32-bit words, and where each sample's stream begins and ends among them."""
    if len(data) < 4 or len(data) % 4:
        raise QuadrateError(
            "a file of the hub compressor is a whole number of 32-bit words; this one has"
            f" {len(data)} bytes"
        )
    lengths = np.frombuffer(data, ">u4")
    count, place = int(lengths[0]), 1
    if count > (len(lengths) - 1) // 3:
        raise QuadrateError(
            f"the file announces {count} samples, for which its {len(data)} bytes are too few"
        )
    borders = np.empty((count, 2), np.int64)
    for i in range(count):
        size = int(lengths[place]) if place < len(lengths) else 0
        end = place + 1 + size // 4
        if size % 4 or size < 8 or end > len(lengths):
            raise QuadrateError(
                f"sample {i} at byte {4 * place}: its length of {size} bytes is none, or reaches"
                " beyond the file"
            )
        borders[i] = place + 1, end
        place = end
    if place != len(lengths):
        raise QuadrateError(
            f"the file goes on for {4 * (len(lengths) - place)} bytes after its {count} samples"
        )
    return np.frombuffer(data, "<u4").astype(np.int64), borders[:, 0], borders[:, 1]


class _States:
    """The rANS decoders of many samples, in step."""

    def __init__(
        self, words: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> None:
        self._words, self._places, self._ends = words.astype(np.uint64), starts + 2, ends
        self.states = self._words[starts] | self._words[starts + 1] << np.uint64(32)

    def refill(self, which: NDArray[np.int64]) -> None:
        """Takes a word where a state is below its least value."""
        low = which[self.states[which] < _LEAST_STATE]
        if (self._places[low] >= self._ends[low]).any():
            raise QuadrateError("a stream ends before its last symbol")
        self.states[low] = self.states[low] << np.uint64(32) | self._words[self._places[low]]
        self._places[low] += 1

    def piece(self, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next 4 bits."""
        bits = (self.states[which] & np.uint64((1 << _PIECE_BITS) - 1)).astype(np.int64)
        self.states[which] >>= np.uint64(_PIECE_BITS)
        self.refill(which)
        return bits

    def finish(self) -> None:
        """Checks that all streams end as they began."""
        if (self.states != _LEAST_STATE).any() or (self._places != self._ends).any():
            raise QuadrateError("a stream does not end where its symbols do")


def _decode(
    words: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    cdfs: list[NDArray[np.int64]],
    offsets: NDArray[np.int64],
) -> Words:
    """The symbols (n, d) of n streams."""
    streams = _States(words, starts, ends)
    everyone = np.arange(len(starts))
    symbols = np.empty((len(cdfs), len(starts)), np.int64)
    for own, cdf, offset in zip(symbols, cdfs, offsets.tolist(), strict=True):
        points = streams.states & np.uint64(TOTAL - 1)
        entries = np.searchsorted(cdf, points.astype(np.int64), side="right") - 1
        frequencies = np.diff(cdf).astype(np.uint64)[entries]
        begins = cdf[entries].astype(np.uint64)
        streams.states = (
            frequencies * (streams.states >> np.uint64(PRECISION_BITS)) + points - begins
        )
        streams.refill(everyone)
        last = len(cdf) - 2
        escaped = np.flatnonzero(entries == last)
        if len(escaped):
            entries[escaped] = _escaped(streams, escaped, last)
        own[:] = entries + offset
    streams.finish()
    return symbols.T


def _escaped(streams: _States, which: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """Entries that are in no table: how many pieces follow, then the pieces, the lowest first."""
    counts = streams.piece(which)
    if (counts > _MOST_PIECES).any():
        raise QuadrateError("an escaped symbol has more than 32 bits")
    folded = np.zeros(len(which), np.int64)
    for i in range(int(counts.max(initial=0))):
        more = counts > i
        folded[more] |= streams.piece(which[more]) << _PIECE_BITS * i
    return np.where(folded & 1, -(folded >> 1) - 1, (folded >> 1) + last)
