"""Dithered quantization by a lattice whose cells are rounder than a cube (Zamir & Feder 1996).

Latents are quantized in blocks. With a dither that is uniform over the lattice's cell and shared
by sender and receiver, the error is uniform over that cell and independent of the latents. Of cells
of equal volume the rounder one has the smaller mean squared error: the normalized second moments
are 1/12 (Z), 0.0766 (D4) and 0.0717 (E8).
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.bottlenecks.factorized import FactorizedBottleneck
from quadrate.bottlenecks.rounding import make_tables
from quadrate.coding.symbols import Words, layer_bits
from quadrate.coding.tables import MAX_ENTRIES, Tables
from quadrate.errors import QuadrateError

_HALF = 1 << 24  # words of dither are below this; coordinates are whole numbers of 2^-25
_SHIFT = 25
_UNIT = 1 << _SHIFT
_BINS = 32  # of the fraction of a coordinate's dither
_POINTS = 4  # of a bin, over which the density is averaged
_ONE = 1 << 20  # fixed point of sums and probabilities
_TAIL = 1e-9  # mass beyond either end of what tables are made from
_LEAST_MASS = 1e-9  # of an interval, so that no value has an infinite rate
_KINDS = {"steps": "f8", "offsets": "f8", "sums": "i4", "parities": "i4"}  # of a frozen model
_FAR = 2.0**30  # units; latents farther away cannot be coded
# Probabilities of a bit are put into bins of equal width in sqrt(p), which cost all the same.
_ROOTS = np.arange(65, dtype=np.int64)
_EDGES = np.concatenate([8 * _ROOTS**2, 65536 - 8 * _ROOTS[-2::-1] ** 2])  # (129,), from 0 to 2^16
_ODDS = len(_EDGES) - 1


@dataclass(frozen=True)
class Lattice:
    """The integers, a checkerboard lattice D_n, or E8 as D8 together with D8 + (1/2, …, 1/2).

    Blocks of integers are in units of 2^-25. Nearest points as in Conway & Sloane (1982), "Fast
    quantizing and decoding algorithms for lattice quantizers and codes".

    Attributes:
        name: For messages.
        size: Coordinates of a block, n.
        even: Whether the coordinates of a point have an even sum (without the halves).
        halves: Whether the lattice has a second coset, moved by 1/2 in every coordinate.
        second_moment: The cell's mean squared error a coordinate, at volume 1.
    """

    name: str
    size: int
    even: bool
    halves: bool
    second_moment: float

    @property
    def volume(self) -> float:
        """The volume of a cell."""
        return (1 + self.even) / (1 + self.halves)

    @property
    def width(self) -> float:
        """The interval that has the variance of the error in a coordinate."""
        return math.sqrt(12 * self.second_moment) * self.volume ** (1 / self.size)

    @property
    def bits(self) -> int:
        """Bits among a block's symbols: the coset, and the parities that are free."""
        return self.halves + self.size - self.even

    def columns(self, dims: int) -> int:
        """The number of symbols for so many dimensions.

        Raises:
            QuadrateError: If they do not make whole blocks.
        """
        if dims < 1 or dims % self.size:
            raise QuadrateError(
                f"lattice {self.name} quantizes {self.size} dimensions at a time: give a multiple"
                f" of {self.size} dimensions, not {dims}"
            )
        return dims // self.size * (self.bits + self.size)

    @cached_property
    def _basis(self) -> Tensor:
        """Twice a basis of the lattice, a vector a row, int64 (n, n)."""
        basis = 2 * (torch.eye(self.size) - torch.diag(torch.ones(self.size - 1), -1))
        basis[0, 0] *= 1 + self.even
        if self.halves:
            basis[-1] = 1
        return basis.long()

    def _round(self, x: Tensor) -> Tensor:
        """The nearest point of Z^n or D_n: round, and mend an odd sum where that costs least."""
        point = (x + _HALF) >> _SHIFT  # (..., n)
        if not self.even:
            return point
        error = x - (point << _SHIFT)  # (..., n)
        index = torch.arange(self.size, device=x.device)
        rank = error.abs() * self.size - index  # (..., n), without ties
        worst = (rank == rank.amax(-1, keepdim=True)) * (1 - 2 * (error < 0).long())  # (..., n)
        return point + (point.sum(-1, keepdim=True) & 1) * worst

    def nearest(self, x: Tensor) -> Tensor:
        """Blocks, int64 (..., n), to twice the nearest points in whole units, int64 (..., n)."""
        point = 2 * self._round(x)  # (..., n)
        if not self.halves:
            return point
        moved = 2 * self._round(x - _HALF) + 1  # (..., n)
        far, other = ((x - p * _HALF).square().sum(-1, keepdim=True) for p in (point, moved))
        return torch.where(other < far, moved, point)

    def dither(self, words: Tensor) -> Tensor:
        """Words of 24 bits, int64 (..., n), to points uniform over the cell at the origin.

        The words choose a point of the parallelepiped that a basis spans, which is brought into
        the cell by taking off the nearest point of the lattice.
        """
        basis = self._basis.to(words.device)
        point = (words[..., None] * basis).sum(-2)  # (..., n)
        return point - self.nearest(point) * _HALF

    def quantize(self, latents: Tensor, words: Tensor) -> Tensor:
        """Latents in units, float64 (m, d), and words, int64 (m, d), to symbols.

        The symbols of a block are the coset of its point (where there are two), the parities of
        the coordinates (without the last one, where the sum is even), and the halved coordinates:
        every combination of them is a point of the lattice.

        Raises:
            QuadrateError: If a latent is not finite, or is too far from 0.
        """
        if not bool((latents.abs() < _FAR).all()):  # false for NaN, too
            raise QuadrateError(
                "a latent is not finite, or is 2^30 steps or more from its offset: such numbers"
                " cannot be coded"
            )
        blocks = (latents * _UNIT).round().long().unflatten(-1, (-1, self.size))  # (m, B, n)
        dither = self.dither(words.unflatten(-1, (-1, self.size)))  # (m, B, n)
        point = self.nearest(blocks + dither)  # (m, B, n)
        coset = point[..., :1] & 1  # (m, B, 1)
        whole = (point - coset) // 2 - (dither - coset * _HALF >> _SHIFT)  # (m, B, n)
        parities = whole[..., : self.size - self.even] & 1  # (m, B, n or n - 1)
        parts = [parities, whole >> 1]
        return torch.cat([coset, *parts] if self.halves else parts, -1).flatten(-2)

    def dequantize(self, symbols: Tensor, words: Tensor) -> Tensor:
        """The same symbols and words to points less dither, in units, float64 (m, d)."""
        blocks = symbols.unflatten(-1, (-1, self.bits + self.size))  # (m, B, bits + n)
        dither = self.dither(words.unflatten(-1, (-1, self.size)))  # (m, B, n)
        if self.halves:
            dither = dither - (blocks[..., :1] & 1) * _HALF
        parities = blocks[..., int(self.halves) : self.bits] & 1  # (m, B, n or n - 1)
        if self.even:
            total = parities.sum(-1, keepdim=True) + (dither >> _SHIFT).sum(-1, True)
            parities = torch.cat([parities, total & 1], -1)  # (m, B, n)
        whole = 2 * blocks[..., self.bits :] + parities  # (m, B, n)
        return ((whole * _UNIT - (dither & _UNIT - 1)).double() / _UNIT).flatten(-2)


Z = Lattice("Z", 1, even=False, halves=False, second_moment=1 / 12)
D4 = Lattice("D4", 4, even=True, halves=False, second_moment=13 / (120 * math.sqrt(2)))
E8 = Lattice("E8", 8, even=True, halves=True, second_moment=929 / 12960)


class LatticeBottleneck(FactorizedBottleneck):
    """Quantizes blocks of dimensions by a lattice at learned steps, priced by learned densities.

    In training the latents get a dither that is uniform over the lattice's cell. The rate is that
    of what is received, -ln(density · volume of the cell). A frozen model needs a little less, for
    it shares out all probability among the points of the lattice that a dither leaves possible.

    Arguments as of `FactorizedBottleneck`.

    Raises:
        QuadrateError: If the number of dimensions is not a multiple of the lattice's.
    """

    lattice: ClassVar[Lattice]
    surrogate_is_exact = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lattice.columns(len(self.centre))

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Add the dither: latents and noise (..., n, d) to what is received, and nats (..., n)."""
        lattice = self.lattice
        if noise is not None:
            blocks = _words(noise, self.centre).unflatten(-1, (-1, lattice.size))  # (..., n, B, n')
            dither = lattice.dither(blocks).flatten(-2) / _UNIT  # (..., n, d)
            latent = latent + dither.to(latent.dtype) * self.step  # (..., n, d)
        x, half = (latent - self.centre) / self.scale, torch.exp(self.log_step) * lattice.width / 2
        nats = -torch.log(self.density.mass(x - half, x + half).clamp(min=_LEAST_MASS))
        return latent, (nats + math.log(12 * lattice.second_moment) / 2).sum(-1)  # (..., n)

    @torch.no_grad()
    def quantize(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Quantize latents (n, d) with the noise as shared dither, to symbols (n, columns)."""
        units = (latents.double() - self.centre) / self.step.double()  # (n, d)
        return self.lattice.quantize(units, _words(noise, self.centre))

    @torch.no_grad()
    def dequantize(self, symbols: Tensor, noise: Tensor) -> Tensor:
        """Symbols (n, columns) and the same noise to what is received, (n, d)."""
        units = self.lattice.dequantize(symbols, _words(noise, self.centre))  # (n, d)
        return (units * self.step.double() + self.centre).to(self.centre.dtype)

    @torch.no_grad()
    def freeze(  # type: ignore[override]
        self, latents: object = None, before: Sequence[int] = ()
    ) -> LatticeModel:
        """Compute integer tables from the densities; latents are not needed.

        Args:
            latents: Not needed.
            before: The levels of the columns of the layers before.

        Raises:
            QuadrateError: If a table would be too long.
        """
        density, cell = copy.deepcopy(self.density).double(), torch.exp(self.log_step.double())
        low = int(torch.floor((self._quantiles(_TAIL) / cell).min())) // 2 - 1
        high = int(torch.ceil((self._quantiles(1 - _TAIL) / cell).max())) // 2 + 2
        if not high - low < MAX_ENTRIES:
            raise QuadrateError(
                f"the learned tables would span {high - low} symbols; they hold {MAX_ENTRIES}:"
                " train with a larger lambda_r"
            )
        whole = torch.arange(2 * low, 2 * high, dtype=torch.float64)[:, None, None]  # (K, 1, 1)
        half, points = cell * self.lattice.width / 2, (torch.arange(_POINTS) + 0.5) / _POINTS
        shares = []
        for b in range(_BINS):
            y = (whole - (b + points.double()[:, None]) / _BINS) * cell  # (K, points, d)
            shares.append(density.mass(y - half, y + half).mean(1))  # (K, d)
        masses = torch.stack(shares).permute(2, 0, 1).unflatten(-1, (-1, 2)).mT  # (d, bins, 2, K/2)
        masses = masses / self.lattice.width + 1e-15
        sums = masses.sum((-2, -1))  # (d, bins)
        parities = (masses[:, :, 0] - masses[:, :, 1]).sum(-1) / sums  # (d, bins)
        middles = (_EDGES[:-1] + _EDGES[1:]) / 2**17
        return LatticeModel(
            self.lattice,
            self.step.double().numpy(),
            self.centre.double().numpy(),
            (sums * _ONE).round().clamp(1, 4 * _ONE).int().numpy(),
            (parities * _ONE).round().clamp(1 - _ONE, _ONE - 1).int().numpy(),
            make_tables(
                [(np.stack([1 - middles, middles], 1), 0), (masses.flatten(0, 2).numpy(), low)]
            ),
            len(before),
        )


class ZBottleneck(LatticeBottleneck):
    """The integers, a dimension at a time: the scalar quantizer to compare with."""

    lattice = Z


class D4Bottleneck(LatticeBottleneck):
    """The lattice D4, four dimensions at a time."""

    lattice = D4


class E8Bottleneck(LatticeBottleneck):
    """The lattice E8, eight dimensions at a time."""

    lattice = E8


def _words(noise: Tensor, like: Tensor) -> Tensor:
    """Noise on [-1/2, 1/2) to as many words of 24 bits as there are dimensions."""
    uniform = noise[..., : len(like)].double() + 0.5  # (..., d)
    return (uniform * _HALF).long().clamp(0, _HALF - 1)


@dataclass(frozen=True, eq=False)
class LatticeModel:
    """A frozen lattice bottleneck: integer tables that give the lattice's points their code.

    Given the dither, a point's probability is proportional to the product of the densities of its
    coordinates. So the coset has the odds of the two sums over all points, a parity those of what
    the parities still to come make of it, and a halved coordinate depends on its dither and parity
    alone. All of this is computed in integers.

    Attributes:
        lattice: The lattice.
        steps: (d,) positive; a receiver reads (point - dither) · step + offset.
        offsets: (d,)
        sums: (d, bins) int32, the density summed over all integers less a dither, in 2^-20.
        parities: (d, bins) int32, P(even) - P(odd) of these integers, in 2^-20.
        tables: First those of bits, by their probability; then those of halved coordinates, by
            dimension, bin of the dither's fraction, and parity.
        first: The layer's first column.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    lattice: Lattice
    steps: NDArray[np.float64]
    offsets: NDArray[np.float64]
    sums: NDArray[np.int32]
    parities: NDArray[np.int32]
    tables: Tables
    first: int = 0
    name = "lattice"

    def __post_init__(self) -> None:
        dims = len(self.sums)
        self.lattice.columns(dims)
        shapes = [getattr(self, name).shape for name in _KINDS]
        if (
            shapes != [(dims,), (dims,), (dims, _BINS), (dims, _BINS)]
            or len(self.tables.lows) != _ODDS + 2 * dims * _BINS
            or not self.tables.escape
        ):
            raise QuadrateError(
                f"a lattice bottleneck of {dims} dimensions needs a step, an offset, {_BINS} sums"
                f" and parities a dimension, and {_ODDS + 2 * dims * _BINS} tables with an escape"
            )
        if not ((self.steps > 0) & np.isfinite(self.steps) & np.isfinite(self.offsets)).all():
            raise QuadrateError("steps must be positive, steps and offsets finite")
        if not (
            (self.sums > 0) & (self.sums <= 4 * _ONE) & (abs(self.parities.astype(np.int64)) < _ONE)
        ).all():
            raise QuadrateError("a lattice bottleneck's sums or parities are out of their range")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's latents, (d,)."""
        return self.steps.shape

    @property
    def dither_columns(self) -> int:
        """As many as symbols; the first d of them are used."""
        return self.columns

    @property
    def columns(self) -> int:
        """Symbols a sample."""
        return self.lattice.columns(len(self.steps))

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever a stream would be read otherwise."""
        sha = hashlib.sha256(
            repr((self.name, self.lattice.size, self.first)).encode() + self.tables.digest
        )
        for name, kind in _KINDS.items():
            sha.update(np.ascontiguousarray(getattr(self, name), f"<{kind}").tobytes())
        return sha.digest()[:16]

    def quantize(self, latents: NDArray[Any], dither: Words) -> Words:
        """Quantize latents (n, d) with a dither (n, columns) to symbols, int64 (n, columns).

        Raises:
            QuadrateError: If a latent is not finite, or too far away to be coded.
        """
        units = torch.from_numpy((np.asarray(latents, np.float64) - self.offsets) / self.steps)
        return self.lattice.quantize(units, torch.from_numpy(dither[:, : len(self.steps)])).numpy()

    def dequantize(self, symbols: Words, dither: Words) -> NDArray[np.float64]:
        """Symbols (n, columns) and the same dither, to what a receiver reads, (n, d)."""
        words = torch.from_numpy(dither[:, : len(self.steps)])
        units = self.lattice.dequantize(torch.from_numpy(symbols), words)
        return np.asarray(units.numpy() * self.steps + self.offsets)

    def bits(self, symbols: Words, dither: Words) -> float:
        """The ideal code length in bits; arguments as of `encode_layer`."""
        return layer_bits(self, symbols, dither)

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,)."""
        lattice = self.lattice
        block, place = divmod(column - self.first, lattice.bits + lattice.size)
        own = symbols[:, column - place :]
        dims = np.arange(block * lattice.size, (block + 1) * lattice.size)
        shift = lattice.dither(torch.from_numpy(dither[:, self.first + dims])).numpy()  # (n, size)
        if lattice.halves and not place:
            return self._coset_odds(dims, shift)
        if lattice.halves:
            shift = shift - (own[:, :1] & 1) * _HALF
        bins = (shift & _UNIT - 1) // (_UNIT // _BINS)  # (n, size)
        which = place - (lattice.bits if place >= lattice.bits else lattice.halves)
        parities = own[:, int(lattice.halves) : lattice.halves + which] & 1  # (n, which)
        odd = ((shift >> _SHIFT).sum(1) + parities.sum(1)) & 1  # (n,) of what is to come
        if place >= lattice.bits:
            at = lattice.halves + which
            parity = own[:, at] & 1 if at < lattice.bits else odd
            return _ODDS + (dims[which] * _BINS + bins[:, which]) * 2 + parity
        even = self.parities[dims, bins].astype(np.int64)  # (n, size)
        rest = (1 - 2 * odd) * _product(even[:, which + 1 :]) if lattice.even else 0
        one = (_ONE - even[:, which]) * (_ONE - rest)
        return _odds(one, (_ONE + even[:, which]) * (_ONE + rest))

    def _coset_odds(self, dims: Words, shift: Words) -> Words:
        """The table of the coset: both sums over all points, brought to a sum of 2^20 each time."""
        moved = np.stack([shift, shift - _HALF])  # (2, n, size)
        bins = (moved & _UNIT - 1) // (_UNIT // _BINS)
        sign = 1 - 2 * ((moved >> _SHIFT).sum(-1) & 1)  # (2, n)
        last = _ONE + sign * _product(self.parities[dims, bins].astype(np.int64))
        odds = np.full(last.shape, _ONE // 2)
        for factor in (*np.moveaxis(self.sums[dims, bins].astype(np.int64), -1, 0), last):
            odds = odds * factor
            odds = np.maximum((odds << 20) // odds.sum(0), 1)
        return _odds(odds[1], odds[0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything needed to build it again, for a codec's file."""
        size = np.array([self.lattice.size], np.int32)
        own = {"lattice": size} | {name: getattr(self, name) for name in _KINDS}
        return own | {"frequencies": self.tables.frequencies, "lows": self.tables.lows}

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[Any]], first: int = 0, levels: object = ()
    ) -> LatticeModel:
        """The inverse of `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a lattice bottleneck.
        """
        kinds = _KINDS | {"frequencies": "u2", "lows": "i4", "lattice": "i4"}
        try:
            steps, offsets, sums, parities, frequencies, lows, size = (
                np.asarray(arrays[name]).astype(kind, casting="safe")
                for name, kind in kinds.items()
            )
            lattice = {lattice.size: lattice for lattice in (Z, D4, E8)}[int(size[0])]
            tables = Tables(frequencies, lows, escape=True)
            return cls(lattice, steps, offsets, sums, parities, tables, first)
        except (KeyError, TypeError, IndexError) as error:
            raise QuadrateError(
                f"the tables are not those of a lattice bottleneck: {error}"
            ) from None


def _product(factors: Words) -> Words:
    """The product of factors in 2^-20, each of a magnitude below 1: (..., m) to (...)."""
    product = np.full(factors.shape[:-1], _ONE - 1)
    for factor in np.moveaxis(factors, -1, 0):
        product = product * factor >> 20
    return product


def _odds(one: Words, zero: Words) -> Words:
    """The table of a bit, by the odds of 1 to 0, positive and at most 2^42 each."""
    return np.searchsorted(_EDGES[1:-1], (one << 16) // (one + zero), side="right")
