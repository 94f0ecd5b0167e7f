"""Mixtures of binary channels: a linear program by column generation.

Common randomness U selects the channel, and the classifier sees U.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from quadrate.theory.binary.joint import BinaryModel
from quadrate.theory.binary.rates import SLACK, Limits, classifiable, gerber_rates, least_rates
from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.transport import LINEAR_OPTIONS

# A mixture needs no more channels than it has tight constraints, the sum of the weights being one.
COUNT = 4
# Rows of the costs of a channel: I(Y;X̂), P(X̂ != X), −I(S;X̂), P(X̂=1).
RATE, DISTORTION, CLASSIFICATION, OUTPUT = range(4)

# Distance from the dual bound, in nats, at which the search ends, and the largest allowed one.
_GOAL, _LARGEST = 1e-8, 1e-7
_ROUNDS = 60
# Rates that differ by less count as equal.
_SAME = 1e-10
# New channels are on a grid of angles, whose squared sines are dense where the costs bend most.
_ANGLES = np.linspace(0, np.pi / 2, 81)
_COARSE = 5
_MINIMA = 8
_STENCIL = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2, [0.0]), axis=-1).reshape(-1, 3)
_HALVINGS = 26

# The least mean of a cost, and the mixture that has it: weights (4,) and (q, m) of its channels,
# (4, 2).
Mixture = tuple[float, FloatArray, FloatArray]


def shared_rates(model: BinaryModel, limits: Limits) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The least mean rate of a mixture whose means are within limits.

    H(S|X̂,U) takes the place of H(S|X̂).

    Returns:
        The rates in nats (n,), the weights (n, 4) and the channels' (q, m), (n, 4, 2): `inf`, NaN
        and NaN where infeasible.

    Raises:
        ArithmeticError: If a search does not come within 1e-7 nats of its dual bound.
    """
    rates, q, m = least_rates(model, limits)
    weights = np.outer(np.where(np.isinf(rates), np.nan, 1.0), np.eye(COUNT)[0])
    channels = np.repeat(np.stack([q, m], axis=-1)[:, None], COUNT, axis=1)
    # Without the label the rate is convex, and so it is without noise and perception: mixtures do
    # not lower it.
    free = limits._replace(classification=np.full_like(rates, np.inf))
    unlabelled, _, _ = least_rates(model, free)
    bound = np.where(classifiable(model, limits), unlabelled, np.inf)
    if model.noise == 0:
        bound = np.maximum(bound, gerber_rates(model, limits)[0])
        mixed = _relabelled(model, limits)
        better = mixed[0] < rates - _SAME
        rates[better], weights[better], channels[better] = (values[better] for values in mixed)
    search = _Search(model)
    for index in np.flatnonzero((rates > bound + _SAME) & np.isfinite(bound)):
        start = channels[index] if np.isfinite(rates[index]) else np.empty((0, 2))
        point = Limits(*(values[index] for values in limits))
        best = search.best(RATE, np.inf, point, start)
        rates[index], weights[index], channels[index] = best
    return rates, weights, channels


def shared_inverse(model: BinaryModel, goal: int, rate: FloatArray, limits: Limits) -> FloatArray:
    """The least mean of a mixture at a mean rate of at most `rate` nats.

    Args:
        model: The source.
        goal: The cost to minimize, DISTORTION or CLASSIFICATION; its own limit is `inf`.
        rate: The largest mean rates (n,), nats.
        limits: The other limits.

    Returns:
        The least values (n,), `inf` where infeasible.

    Raises:
        ArithmeticError: As `shared_rates`.
    """
    least, _, channels = shared_rates(model, limits)
    values = np.full_like(rate, np.inf)
    search = _Search(model)
    for index in np.flatnonzero(least <= rate + _GOAL):
        point = Limits(*(bounds[index] for bounds in limits))
        most = max(rate[index], least[index])
        values[index], _, _ = search.best(goal, most, point, channels[index])
    return values


def _relabelled(model: BinaryModel, limits: Limits) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`shared_rates` of the best channel for the label, mixed with its relabelled copy.

    The mixture has P(X̂=1) = a; without noise.
    """
    free = limits._replace(distortion=np.full_like(limits.distortion, np.inf))
    rates, q, m = gerber_rates(model, free)
    share = np.divide(1 - q - model.a, 1 - 2 * q, out=np.ones_like(q), where=q != 0.5)
    apart = model.distortion(q, m)
    rates = np.where(share * apart + (1 - share) * (1 - apart) <= limits.distortion, rates, np.inf)
    channel, copy = np.stack([q, m], axis=-1), np.stack([1 - q, model.b - m], axis=-1)
    weights = np.stack([share, 1 - share, 0 * share, 0 * share], axis=-1)
    return rates, weights, np.stack([channel, copy, channel, channel], axis=1)


class _Search:
    """The search for the best mixture of channels (q, m) = (P(X̂=1), P(Y=1, X̂=1)).

    New channels are searched by their two P(Y=1|X̂), one below and one above b = P(Y=1): where a
    priced channel is cheapest in these two coordinates, its second derivatives do not mix them, so
    each can be refined on its own, even close to a constant channel.
    """

    def __init__(self, model: BinaryModel):
        self._model = model
        sides = np.meshgrid(_ANGLES, _ANGLES, [0.0, 1.0], indexing="ij")
        # (g, g, 2, 3): two angles, and whether the letters are exchanged
        self._places = np.stack(sides, axis=-1)
        self._grid = self._costs(self._channels(self._places))  # (4, g, g, 2)

    def best(self, goal: int, rate: float, limits: Limits, start: FloatArray) -> Mixture:
        """The mixture of least mean cost.

        Args:
            goal: Row of the cost.
            rate: The largest mean rate, nats.
            limits: The other limits, of one point; the goal has no limit.
            start: (k, 2) initial channels, added to a coarse grid. H(S|X̂) is concave and the
                distortion linear in the channel, so the four maps are enough to find a mixture if
                there is one, unless the rate is limited; `start` must meet that limit.

        Returns:
            The mixture; if infeasible, its cost is `inf` and the rest NaN.

        Raises:
            ArithmeticError: If the search does not come close to its dual bound.
        """
        coarse = self._channels(self._places[::_COARSE, ::_COARSE]).reshape(-1, 2)
        channels = np.concatenate([coarse, start])
        # The label's information may be tiny compared with its entropy, and would lose its digits
        # in H(S|X̂).
        unseen = self._model.label_entropies[1]
        limits = limits._replace(classification=limits.classification - unseen)
        for _ in range(_ROUNDS):
            solved = _programme(goal, rate, limits, self._costs(channels))
            if solved is None:
                return np.inf, np.full(COUNT, np.nan), np.full((COUNT, 2), np.nan)
            value, weights, prices, constant = solved
            new = self._cheapest(prices)
            gap = constant - float((prices @ self._costs(new)).min(initial=constant))
            if gap <= _GOAL:
                break
            channels = np.concatenate([channels, new])
        if gap > _LARGEST:
            raise ArithmeticError(
                f"the search for a mixture of channels ended {gap:.1e} nats from its dual bound"
            )
        used = np.argsort(weights)[-COUNT:]
        value += unseen if goal == CLASSIFICATION else 0.0
        return value, weights[used] / weights[used].sum(), channels[used]

    def _cheapest(self, prices: FloatArray) -> FloatArray:
        """The channels (k, 2) at the lowest local minima of prices · costs.

        Found on the grid, then refined.
        """
        priced = np.tensordot(prices, self._grid, 1)  # (g, g, 2)
        padded = np.pad(priced, [(1, 1), (1, 1), (0, 0)], constant_values=np.inf)
        windows = np.lib.stride_tricks.sliding_window_view
        around = windows(padded, (3, 3), axis=(0, 1))  # (g, g, 2, 3, 3)
        # The last rows repeat the two constant channels, which the search begins with.
        minima = np.argwhere((priced <= around.min(axis=(-2, -1)))[:-1, :-1])
        lowest = minima[np.argsort(priced[tuple(minima.T)])[:_MINIMA]]
        places, step = self._places[tuple(lowest.T)], _ANGLES[1]  # (k, 3)
        for _ in range(_HALVINGS):
            tried = places[:, None] + step * _STENCIL  # (k, 25, 3)
            tried = np.clip(tried, 0, [np.pi / 2, np.pi / 2, 1])
            cheapest = np.tensordot(prices, self._costs(self._channels(tried)), 1).argmin(axis=1)
            places, step = tried[np.arange(len(tried)), cheapest], step / 2
        return self._channels(places)

    def _channels(self, places: FloatArray) -> FloatArray:
        """The (q, m), (..., 2), of two angles and an exchange, (..., 3)."""
        b = self._model.b
        # Distances of P(Y=1|X̂) from b.
        below, above = b * np.cos(places[..., 0]) ** 2, (1 - b) * np.cos(places[..., 1]) ** 2
        q = below / (below + above)
        m = q * (b + above)
        exchanged = places[..., 2] == 1
        return np.stack([np.where(exchanged, 1 - q, q), np.where(exchanged, b - m, m)], axis=-1)

    def _costs(self, channels: FloatArray) -> FloatArray:
        """The costs (4, ...) of channels (..., 2)."""
        model, q, m = self._model, channels[..., 0], channels[..., 1]
        return np.stack(
            [model.rate(q, m), model.distortion(q, m), -model.label_information(q, m), q]
        )


def _programme(
    goal: int, rate: float, limits: Limits, costs: FloatArray
) -> tuple[float, FloatArray, FloatArray, float] | None:
    """The best mixture of channels with the given costs (4, k), by a linear program.

    Returns:
        Its cost; its weights (k,); prices (4,) of the costs and a constant, such that prices ·
        costs >= constant for all of the channels, and that a channel below would improve the
        mixture. None if infeasible.
    """
    most = np.array([rate, limits.distortion, limits.classification, limits.high])
    limited = np.flatnonzero(np.isfinite(most))
    spans = np.ptp(costs, axis=1)[limited]
    scales = np.where(spans > SLACK, spans, 1.0)
    excess = (costs[limited] - most[limited, None]) / scales[:, None]
    result = linprog(
        costs[goal],
        A_ub=np.concatenate([excess, limits.low - costs[[OUTPUT]]]),
        b_ub=np.zeros(len(limited) + 1),
        A_eq=np.ones((1, costs.shape[1])),
        b_eq=[1.0],
        method="highs-ds",
        options=LINEAR_OPTIONS,
    )
    if result.status == 2:  # infeasible
        return None
    if not result.success:
        raise ArithmeticError(f"the linear program over channels failed: {result.message}")
    *multipliers, lowest = -result.ineqlin.marginals
    multipliers /= scales
    prices = np.zeros(4)
    prices[limited] = multipliers
    prices[goal] += 1
    prices[OUTPUT] -= lowest
    constant = result.eqlin.marginals[0] + multipliers @ most[limited] - lowest * limits.low
    return float(result.fun), result.x, prices, float(constant)
