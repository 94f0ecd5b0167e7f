"""A rounding bottleneck in closed form, from moments and order statistics, without gradients.

Reverse water-filling: at one slope dD/dR all coefficients are rounded at one step, and one is not
coded at all where its variance is below what coding it would cost, D + λR. So a single number, the
step, is searched for, on sorted columns, where error and code length of any quantizer are
differences of a few prefix sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.bottlenecks.klt import LinearTransform, mean_and_covariance, principal_axes
from quadrate.bottlenecks.rounding import (
    ESCAPE_BITS,
    RATE_WEIGHT,
    Reals,
    RoundingModel,
    best_borders,
    make_tables,
)
from quadrate.errors import QuadrateError

# Samples that steps and tables are fitted to; more would save a table of 30 entries less than 0.001
# bits a symbol.
ROWS = 1 << 14
_THIN = 4  # one in so many of their order statistics is used in the search
_BLOCK = 64  # columns at a time, with symbols of one range: neighbours spread alike after a KLT
_FEWEST = 8  # samples that axes and coordinates are compared on
# Samples that the Gaussian counts for; the last is the Gaussian itself.
_PRIORS = (1.0, 8.0, 64.0, 512.0, 4096.0, 1e9)
_SWEEPS = 3  # of borders, given code lengths, given borders
_REACH = 5.0  # standard deviations that tables hold at least
_LIMIT = 8000  # symbols on either side of the median; the few values beyond escape
_TOLERANCE = 2e-4  # of the target
# Of the largest deviation; beyond them squares in float32 overflow or underflow.
_USUAL_SIZES = (2.0**-20, 2.0**40)


def fit_closed_form(
    features: NDArray[np.floating],
    *,
    mse: float | None = None,
    rate_bits: float | None = None,
    relative_mse: float | None = None,
    klt: bool | None = None,
    optimize_rate: bool = True,
) -> tuple[LinearTransform, RoundingModel]:
    """Fit transform, steps and tables to features of any size that float64 holds.

    Features of an unusual size are scaled inside by a power of two.

    Args:
        features: Training features (n, D), finite.
        mse: The target as a mean squared error, a mean over samples and coordinates; or
        rate_bits: the target as a rate, in bits a sample; or
        relative_mse: the target as a share of the features' mean variance.
        klt: Whether to code the principal axes rather than the coordinates; None takes what does
            better on a quarter of the features, fitted to the others. Axes pay where coordinates
            depend on each other, and cost where few of many are not zero, as behind a ReLU.
        optimize_rate: Whether to choose each symbol with regard to its bits, too (exact, since
            coefficients are coded independently).

    Raises:
        QuadrateError: If not one positive target is given, it is too fine for tables, or the
            features are not finite.
    """
    if not np.isfinite(features).all():
        raise QuadrateError("features must be finite; some are not")
    scale = _scale(features)
    if scale != 1:
        features = np.asarray(features / scale, features.dtype)
        mse = None if mse is None else mse / scale / scale
    if relative_mse is not None and mse is None and rate_bits is None:
        spread = float(features.var(axis=0, dtype=np.float64).mean())
        # The error of rounding numbers and means, which is not worth bits.
        noise = float(8 * np.finfo(features.dtype).eps * np.abs(features).max()) ** 2
        mse = max(relative_mse * spread, noise) or 1.0  # any error where all features are zero
    target = _Target(mse, rate_bits, RATE_WEIGHT if optimize_rate else 0.0)
    transform, model = _fit(features, target, _axes_pay(features, target) if klt is None else klt)
    return (transform, model) if scale == 1 else (transform.scaled(scale), model.scaled(scale))


def _scale(features: NDArray[np.floating]) -> float:
    """The power of two that brings features of an unusual size to about 1; 1 for all others."""
    low, high = features.min(axis=0).astype(np.float64), features.max(axis=0).astype(np.float64)
    # Halves, since a difference may be beyond float64; 0 if all are constant.
    size = float((high / 2 - low / 2).max()) or float(np.abs(high).max())
    usual = size == 0 or _USUAL_SIZES[0] <= size <= _USUAL_SIZES[1]
    return 1.0 if usual else 2.0 ** math.floor(math.log2(size))


@dataclass(frozen=True)
class _Target:
    """An error or a rate, and how much the rate weighs in the choice of symbols.

    Raises:
        QuadrateError: If not one positive target is given.
    """

    mse: float | None
    rate_bits: float | None
    weight: float

    def __post_init__(self) -> None:
        target = self.rate_bits if self.mse is None else self.mse
        if target is None or (self.mse is not None and self.rate_bits is not None):
            raise QuadrateError("give one target: mse, or rate_bits")
        if not 0 < target < math.inf:
            name = "rate_bits" if self.mse is None else "mse"
            raise QuadrateError(f"the target is {target}; {name} must be positive and finite")

    def step(self, columns: _Columns) -> float:
        """The step that reaches it."""
        if self.mse is None:
            return columns.step_for(rate_bits=self.rate_bits)
        return columns.step_for(mse=self.mse * len(columns.variances))


def _fit(
    features: NDArray[np.floating], target: _Target, klt: bool
) -> tuple[LinearTransform, RoundingModel]:
    chosen = _some_rows(features)
    if klt:
        mean, covariance = mean_and_covariance(features)
        variances, axes = principal_axes(covariance)
    else:
        mean, axes = features.mean(axis=0, dtype=np.float64), None
        variances = chosen.var(axis=0, dtype=np.float64)
    whole = LinearTransform(mean, np.arange(features.shape[1], dtype=np.int32), axes)
    columns = _Columns(whole.forward(chosen), variances, target.weight)
    step = target.step(columns)
    kept = columns.totals(step)[2]
    kept[np.argmax(variances)] |= not kept.any()  # a file has one column at least
    own_axes = None if axes is None else np.ascontiguousarray(axes[:, kept])
    transform = LinearTransform(mean, np.flatnonzero(kept).astype(np.int32), own_axes)
    return transform, columns.model(step, kept)


def _axes_pay(features: NDArray[np.floating], target: _Target) -> bool:
    """Whether a codec of principal axes does better than one of coordinates.

    Both are fitted to three samples of four and tried on the fourth.
    """
    if len(features) < _FEWEST:
        return True
    fourth = np.arange(len(features)) % 4 == 3
    fitted, held_out = features[~fourth], _some_rows(features[fourth])
    tried = []
    for klt in (True, False):
        try:
            transform, model = _fit(fitted, target, klt)
        except QuadrateError:  # too fine a target for these tables
            return not klt
        symbols = model.quantize(transform.forward(held_out))
        received = transform.inverse(model.dequantize(symbols).astype(np.float64))
        error = float(np.square(received - held_out).sum())
        tried.append((float(model.steps[0]), error, model.bits(symbols)))
    (step, error, bits), (other_step, other_error, other_bits) = tried
    # At the slope dD/dR that both were made for.
    return error - other_error < RATE_WEIGHT * step * other_step * (other_bits - bits)


def _some_rows(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """At most `ROWS` samples, in order."""
    if len(features) <= ROWS:
        return features
    order = np.random.Generator(np.random.Philox(0)).permutation(len(features))
    return np.asarray(features[np.sort(order[:ROWS])])


@dataclass(frozen=True, eq=False)
class _Cells:
    """The values that fall to each symbol, from `first` on, for each column of a block."""

    first: int
    counts: Tensor  # (D, K)
    shares: Tensor  # (D, K) of a Gaussian
    sums: Tensor  # (D, K)
    squares: Tensor  # (D, K)

    def lengths(self, prior: Tensor | float, left_out: int = 0) -> Tensor:
        """Bits of each symbol, (D, K), counted from the samples and a Gaussian.

        Args:
            prior: The number of samples that the Gaussian counts for, (D, 1).
            left_out: How many of its own samples each symbol leaves out.
        """
        weights = self.counts - left_out + prior * self.shares  # (D, K)
        total = self.counts.sum(1, keepdim=True) - left_out + prior  # (D, 1)
        return -torch.log2(weights.clamp(min=1e-12) / total)

    def prior(self) -> Tensor:
        """The number of samples that the Gaussian counts for with which those left out cost least.

        One for each column, (D, 1).
        """
        lengths = (self.lengths(prior, left_out=1) for prior in _PRIORS)
        costs = torch.stack([(self.counts * length).sum(1) for length in lengths])  # (priors, D)
        return torch.tensor(_PRIORS, dtype=torch.float64)[costs.argmin(0)][:, None]


class _Block:
    """Some columns, sorted, with prefix sums, so that any scalar quantizer's effect is quick."""

    def __init__(self, coefficients: NDArray[np.float32], variances: Reals, weight: float) -> None:
        columns = coefficients.T.copy(order="C")  # (D, n)
        columns.sort(axis=1)
        # Grids are aligned with the median, on which the spike of a sparse feature lies, and near
        # which a symmetric law is the most probable.
        self.offsets = columns[:, columns.shape[1] // 2].astype(np.float64)
        self.all = torch.from_numpy(columns - self.offsets[:, None].astype(np.float32))
        many = columns.shape[1] >= 1024 * _THIN
        self.thin = self.all[:, _THIN // 2 :: _THIN].contiguous() if many else self.all
        zero = torch.zeros(len(columns), 1, dtype=torch.float64)
        self.sums = torch.cat([zero, self.thin.cumsum(1, dtype=torch.float64)], 1)  # (D, n + 1)
        self.squares = torch.cat([zero, self.thin.double().square().cumsum(1)], 1)
        self.variances, self.weight = variances, weight
        # The centre of the Gaussian: coefficients are centred.
        self.centre = torch.from_numpy(-self.offsets)[:, None]
        self.sigma = torch.from_numpy(np.sqrt(variances)).clamp(min=1e-30)[:, None]
        reach = self.centre.abs() + _REACH * self.sigma
        self.low = min(float(self.all[:, 0].min()), -float(reach.max()))
        self.high = max(float(self.all[:, -1].max()), float(reach.max()))
        odd = self.all.shape[1] // 1000  # samples that may escape at either end
        self.bulk = max(-float(self.all[:, odd].min()), float(self.all[:, -1 - odd].max()))

    def design(self, step: float) -> tuple[_Cells, Tensor, _Cells]:
        """Design the tables at a step.

        Returns:
            The cells that tables are made of, their borders (D, K - 1), and the cells that a sender
            with these tables makes.
        """
        first = max(math.floor(self.low / step) - 1, -_LIMIT)
        last = min(math.ceil(self.high / step) + 1, _LIMIT)
        symbols = torch.arange(first, last + 1, dtype=torch.float64)  # (K,)
        borders = (symbols[1:] - 0.5).mul(step).repeat(len(self.thin), 1)
        before = after = self.cells(first, borders)
        if not self.weight:
            return before, borders, after
        prior = after.prior()
        for _ in range(_SWEEPS):
            before, old = after, borders
            best = best_borders(before.lengths(prior).numpy(), self.weight)  # (D, K - 1)
            borders = (torch.from_numpy(best.copy()) + first) * step
            after = self.cells(first, borders)
        return before, old, after

    def cells(self, first: int, borders: Tensor) -> _Cells:
        """The cells between borders (D, K - 1)."""
        places = torch.searchsorted(self.thin, borders.float())  # (D, K - 1)
        counts = _between(places.double(), float(self.thin.shape[1]))
        gaussian = _between(torch.special.ndtr((borders - self.centre) / self.sigma), 1.0)
        sums, squares = (
            _between(prefix.gather(1, places), prefix[:, -1:])
            for prefix in (self.sums, self.squares)
        )
        return _Cells(first, counts, gaussian, sums, squares)

    def costs(self, step: float) -> tuple[Reals, Reals, NDArray[np.bool_]]:
        """Squared error and bits a sample of each column, (D,), and whether it is worth coding.

        Each sample is coded by tables of the others, as held-out ones will be.
        """
        tables, _, cells = self.design(step)
        points = torch.arange(cells.counts.shape[1]).add(cells.first) * step
        count = self.thin.shape[1]
        errors = cells.squares - 2 * points * cells.sums + points.square() * cells.counts
        bits = cells.counts * tables.lengths(tables.prior(), left_out=1)
        for end in (0, -1):  # nothing falls there but what is beyond all tables
            errors[:, end] = step**2 / 12 * cells.counts[:, end]
            bits[:, end] += ESCAPE_BITS * cells.counts[:, end]
        errors, bits = errors.sum(1) / count, bits.sum(1) / count
        # The variance of the very same samples.
        spread = self.squares[:, -1] / count - (self.sums[:, -1] / count) ** 2
        pays = errors + RATE_WEIGHT * step**2 * bits < spread
        return errors.numpy(), bits.numpy(), pays.numpy()

    def shares(self, step: float) -> tuple[Reals, int]:
        """The shares that tables are made of, (D, K), and the first symbol."""
        cells, borders, _ = self.design(step)
        places = torch.searchsorted(self.all, borders.float())  # (D, K - 1)
        whole = replace(cells, counts=_between(places.double(), float(self.all.shape[1])))
        return torch.exp2(-whole.lengths(whole.prior())).numpy(), cells.first


def _between(sums: Tensor, total: Tensor | float) -> Tensor:
    """Cumulative sums at borders (D, K - 1), and in total, to sums between borders (D, K)."""
    zero = torch.zeros_like(sums[:, :1])
    return torch.diff(sums, dim=1, prepend=zero, append=zero + total)


class _Columns:
    """All columns, in blocks."""

    def __init__(self, coefficients: NDArray[np.float32], variances: Reals, weight: float) -> None:
        parts = [slice(i, i + _BLOCK) for i in range(0, len(variances), _BLOCK)]
        self.variances, self.weight = variances, weight
        self.blocks = [_Block(coefficients[:, part], variances[part], weight) for part in parts]

    def totals(self, step: float) -> tuple[float, float, NDArray[np.bool_]]:
        """Squared error and bits a sample of all columns, and which columns are worth coding."""
        errors, bits, kept = (
            np.concatenate(parts)
            for parts in zip(*(block.costs(step) for block in self.blocks), strict=True)
        )
        return float(np.where(kept, errors, self.variances).sum()), float(bits[kept].sum()), kept

    def step_for(self, *, mse: float | None = None, rate_bits: float | None = None) -> float:
        """The step for a squared error or a rate, a sample."""
        total = float(self.variances.sum())
        sigma = math.sqrt(total / len(self.variances)) or 1.0
        if mse is not None:
            if mse >= total:  # nothing is worth coding
                return 16 * sigma * math.sqrt(len(self.variances))
            start = math.sqrt(12 * mse / len(self.variances))
            return self._solve(
                lambda step: math.log(mse / max(self.totals(step)[0], 1e-300)), start, -2.0
            )
        rate = rate_bits or 0.0
        start = 4 * sigma * 2.0 ** -(rate / len(self.variances))
        slope = -len(self.variances) / rate / math.log(2)
        return self._solve(lambda step: self.totals(step)[1] / rate - 1, start, slope)

    def _solve(self, excess: Callable[[float], float], start: float, slope: float) -> float:
        """The step where `excess`, a function that falls with the step, is zero.

        Secants in the logarithm of the step, within a bracket.
        """
        least = math.log(max(1e-300, *(block.bulk / _LIMIT for block in self.blocks)))
        low, high = -math.inf, math.inf
        x, before = max(math.log(max(start, 1e-300)), least), (math.nan, math.nan)
        for _ in range(40):
            value = excess(math.exp(x))
            low, high = (x, high) if value > 0 else (low, x)
            if abs(value) < _TOLERANCE or high - low < 1e-4:
                break
            secant = (value - before[1]) / (x - before[0])
            slope = secant if secant < 0 else slope
            before = (x, value)
            x += min(2.0, max(-2.0, -value / slope))
            x = max(least, x if low < x < high else (low + high) / 2)
            if x == high:
                raise QuadrateError(
                    "so fine a target needs more than 12 bits a coefficient; ask for a larger mse,"
                    " or fewer rate_bits"
                )
        return math.exp(x)

    def model(self, step: float, kept: NDArray[np.bool_]) -> RoundingModel:
        """The frozen bottleneck of some of the columns."""
        parts = []
        for i, block in enumerate(self.blocks):
            inside = kept[i * _BLOCK : (i + 1) * _BLOCK]
            if inside.any():
                shares, first = block.shares(step)
                parts.append((shares[inside], first))
        offsets = np.concatenate([block.offsets for block in self.blocks])[kept]
        return RoundingModel(np.full(len(offsets), step), offsets, make_tables(parts), self.weight)
