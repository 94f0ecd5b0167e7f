"""Fits a checkerboard model to photographs: predictions in closed form, tables by their bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrate.bottlenecks.checkerboard import CheckerboardModel, Place, predict
from quadrate.bottlenecks.integer_network import IntegerNetwork
from quadrate.bottlenecks.surroundings import UNIT_BITS, Surroundings
from quadrate.coding.symbols import Words
from quadrate.coding.tables import PRECISION_BITS, Tables, integer_frequencies, stacked
from quadrate.core import draws
from quadrate.core.progress import Report
from quadrate.photo_config import CheckerboardConfig
from quadrate.training.loop import Descent, one_cycle, run, shares

Maps = NDArray[np.floating]
Sized = tuple[Maps, int]
"""A map (h, w, c) in steps, and log2 of the step in 1/64."""
_UNITS = 1 << UNIT_BITS
_TABLES = 66
_PER_OCTAVE = 5  # tables
_NARROWEST = -20  # of the first table: log2 of its spread in steps, in tables
_WIDEST = 600  # the largest symbol that has an entry of its own
_ROUNDING = 0.4  # plain dead zone of the first round: sizes + this, rounded down
_RIDGE = 1e-3
_COUNTED = 200.0  # observations that a table's shape before counting is worth


class CheckerboardFit:
    """The fit of a checkerboard model, in rounds.

    Args:
        config: The settings.
        maps: Gives maps anew for each round, from its number.
        seed: Of initial weights and batches.
        report: Is told of the progress.
    """

    def __init__(
        self,
        config: CheckerboardConfig,
        maps: Callable[[int], Iterable[Sized]],
        seed: int,
        report: Report,
    ) -> None:
        self.config, self.maps, self.seed, self.report = config, maps, seed, report

    def run(self) -> CheckerboardModel:
        """Fit everything; return the model."""
        means = self._means(self.maps(0))
        lengths, offsets = _laplacian_lengths(), np.zeros((_TABLES, 3), np.int32)
        networks: dict[Place, _Spread] = {}
        model: CheckerboardModel | None = None
        for number in range(self.config.rounds):
            pool = self._pool(self.maps(number + 1), means, model)
            networks = networks or self._networks(pool)
            self._train(number, networks, pool, torch.from_numpy(lengths))
            spreads = {place: network.quantized() for place, network in networks.items()}
            for _ in range(2):  # the second time with symbols chosen under tables of their kind
                model = self._model(means, spreads, lengths, offsets)
                lengths, offsets = self._count(model, self.maps(number + 1), lengths)
        return self._model(means, spreads, lengths, offsets)

    # --- predictions ---

    def _means(self, maps: Iterable[Sized]) -> dict[Place, IntegerNetwork]:
        """Least squares on maps that are rounded without contexts, in 1/16 of a step."""
        sums: dict[Place, tuple[Any, Any]] = {}
        for wanted, exponent in maps:
            known = Surroundings(len(wanted), wanted.shape[1], self.config.ends, exponent)
            rounded = np.sign(wanted) * np.floor(np.abs(wanted) + _ROUNDING)
            known.received[:] = (rounded * _UNITS).astype(np.int32)
            size = 2.0 ** (exponent / 64)  # errors count in pixels' units
            for place, sites in known.passes(self.config.predicted):
                guess, inputs = known.prediction(*place, sites)
                if not inputs.size:
                    continue
                own = wanted.reshape(-1, wanted.shape[2])[sites, known.channels(place[0])]
                a = inputs.astype(np.float64) * size
                b = (own * _UNITS - guess) * size
                before = sums.get(place, (0.0, 0.0))
                sums[place] = before[0] + a.T @ a, before[1] + a.T @ b
        found = {}
        for place, (products, targets) in sums.items():
            scale = _RIDGE * np.trace(products) / len(products)
            weights = np.linalg.solve(products + scale * np.eye(len(products)), targets)
            found[place] = IntegerNetwork.quantized([(weights.T, np.zeros(weights.shape[1]))])
        return found

    # --- spreads ---

    def _pool(
        self,
        maps: Iterable[Sized],
        means: Mapping[Place, IntegerNetwork],
        model: CheckerboardModel | None,
    ) -> dict[Place, tuple[Tensor, Tensor]]:
        """What each network is told, int16 (n, k), and the sizes of symbols, int16 (n, c)."""
        parts: dict[Place, list[tuple[NDArray[np.int16], NDArray[np.int16]]]] = {}
        for wanted, exponent in maps:
            for known, place, sites, _, symbols, _ in self._coded(wanted, exponent, means, model):
                given = known.spread(*place, sites)
                magnitudes = np.minimum(np.abs(symbols), _WIDEST).astype(np.int16)
                parts.setdefault(place, []).append((given.astype(np.int16), magnitudes))
        pool = {}
        for place, own in parts.items():
            inputs, sizes = (np.concatenate(each) for each in zip(*own, strict=True))
            pool[place] = torch.from_numpy(inputs), torch.from_numpy(sizes)
        return pool

    def _coded(
        self,
        wanted: Maps,
        exponent: int,
        means: Mapping[Place, IntegerNetwork],
        model: CheckerboardModel | None,
    ) -> Iterator[tuple[Surroundings, Place, NDArray[np.intp], Maps, Words, Words]]:
        """Code a map place by place.

        Yields:
            What is known, the place, its sites, what predictions left over, symbols, and their
            tables: all 0 before there is a model.
        """
        known = Surroundings(len(wanted), wanted.shape[1], self.config.ends, exponent)
        rows = wanted.reshape(-1, wanted.shape[2])
        for place, sites in known.passes(len(self.config.ends)):
            own = rows[sites, known.channels(place[0])]
            if model is None:
                predicted = predict(means, known, place, sites)
                rest = own - predicted.astype(np.float32) / _UNITS
                symbols = (np.sign(rest) * np.floor(np.abs(rest) + _ROUNDING)).astype(np.int64)
                indices = np.zeros_like(symbols)
            else:
                predicted, indices = model.context(known, place, sites)
                rest = own - predicted.astype(np.float32) / _UNITS
                symbols = model.choose(rest, indices, self.config.rate_weight)
            yield known, place, sites, rest, symbols, indices
            known.put(place[0], sites, (symbols << UNIT_BITS) + predicted)

    def _networks(self, pool: Mapping[Place, tuple[Tensor, Tensor]]) -> dict[Place, _Spread]:
        networks = {}
        for (group, number), (inputs, sizes) in pool.items():
            build = partial(_Spread, inputs, self.config.hidden[group], sizes.shape[1])
            networks[group, number] = draws.build_with_seed(
                build, draws.key(self.seed, "spread", group, number)
            )
        return networks

    def _train(
        self,
        number: int,
        networks: Mapping[Place, _Spread],
        pool: Mapping[Place, tuple[Tensor, Tensor]],
        lengths: Tensor,
    ) -> None:
        """Adam on the bits of all symbols of sites drawn at random."""
        parameters = [p for network in networks.values() for p in network.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.config.learning_rate)
        steps = self.config.steps
        largest = max(len(inputs) for inputs, _ in pool.values())
        blocks = sum(len(inputs) for (group, _), (inputs, _) in pool.items() if not group)
        descent = Descent(
            optimizer, shares(optimizer, lambda step: one_cycle(step / steps, 0.05)), parameters
        )

        def advance(step: int) -> None:
            generator = draws.generator(self.seed, "sites", number, step)
            bits = torch.zeros(())
            for place, (inputs, sizes) in pool.items():
                # Passes get sites in proportion to how many they have.
                count = max(1, round(self.config.batch * len(inputs) / largest))
                rows = torch.randint(len(inputs), (count,), generator=generator)
                spread = networks[place](inputs[rows].float())  # (count, c)
                own = _interpolated(lengths, spread, sizes[rows].long())
                bits = bits + own.sum() / self.config.batch
            descent.step(step, bits)
            if step % 50 == 49:
                message = {"stage": "contexts", "point": f"round {number + 1}"}
                bits_per_block = float(bits.detach()) * largest / blocks
                counted = {"step": step + 1, "steps": steps, "bits_per_block": bits_per_block}
                self.report(message | counted)

        run(advance, steps)

    # --- tables ---

    def _count(
        self, model: CheckerboardModel, maps: Iterable[Sized], lengths: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Count symbols under the model's tables, and where numbers lie that became ±1, ±2, …."""
        counts = np.zeros((_TABLES, _WIDEST + 1))
        away, seen = np.zeros((_TABLES, 4)), np.zeros((_TABLES, 4))
        for wanted, exponent in maps:
            coded = self._coded(wanted, exponent, model.means, model)
            for _, _, _, rest, symbols, indices in coded:
                sizes = np.minimum(np.abs(symbols), _WIDEST).ravel()
                cells = indices.ravel() * counts.shape[1] + sizes
                counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
                cells = indices.ravel() * 4 + np.minimum(sizes, 3)
                gap = (np.abs(symbols) - np.abs(rest)).ravel()
                away += np.bincount(cells, gap, 4 * _TABLES).reshape(away.shape)
                seen += np.bincount(cells, minlength=4 * _TABLES).reshape(seen.shape)
        before = 2.0**-lengths
        before[:, 1:] *= 2  # lengths are those of one sign
        counts += _COUNTED * before / before.sum(axis=1, keepdims=True)
        shares_ = np.maximum(counts / counts.sum(axis=1, keepdims=True), 2.0**-24)
        found = -np.log2(shares_)
        found[:, 1:] += 1
        offsets = np.rint(_UNITS * away / (seen + _COUNTED)).clip(-_UNITS, _UNITS)
        return found.astype(np.float32), offsets[:, 1:].astype(np.int32)

    def _model(
        self,
        means: Mapping[Place, IntegerNetwork],
        spreads: Mapping[Place, IntegerNetwork],
        lengths: NDArray[np.float32],
        offsets: NDArray[np.int32],
    ) -> CheckerboardModel:
        ends = np.array(self.config.ends, np.int32)
        return CheckerboardModel(ends, means, spreads, _tables(lengths), offsets)


class _Spread(nn.Module):
    """A network that tells tables from what is known around a site.

    Inputs are integers of very different sizes; they are divided by their typical ones, so that one
    learning rate fits all.
    """

    def __init__(self, inputs: Tensor, hidden: int, outputs: int) -> None:
        super().__init__()
        self.typical = inputs.float().square().mean(0).sqrt().clamp(min=1.0)
        self.first = nn.Linear(inputs.shape[1], hidden)
        self.last = nn.Linear(hidden, outputs)
        nn.init.constant_(self.last.bias, -_NARROWEST)  # a spread of one step

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(inputs / self.typical)))

    def quantized(self) -> IntegerNetwork:
        """The integer network that takes the inputs as they are."""
        layers = [
            (self.first.weight.double() / self.typical.double(), self.first.bias.double()),
            (self.last.weight.double(), self.last.bias.double()),
        ]
        return IntegerNetwork.quantized(
            [(weight.detach().numpy(), bias.detach().numpy()) for weight, bias in layers]
        )


def _interpolated(lengths: Tensor, spread: Tensor, sizes: Tensor) -> Tensor:
    """The bits of sizes (n, c) between the tables below and above each spread, (n, c).

    Coding takes the table below spread + 1/2.
    """
    place = spread.clamp(0.5, len(lengths) - 1.5) - 0.5
    below = place.detach().floor().long()
    part = place - below
    flat = lengths.flatten()
    start = below * lengths.shape[1] + sizes
    outside = (spread - place - 0.5).abs()  # keeps spreads from leaving the tables for good
    return flat[start] * (1 - part) + flat[start + lengths.shape[1]] * part + 0.1 * outside


def _laplacian_lengths() -> NDArray[np.float32]:
    """Bits of the sizes 0, 1, … of one sign, after dead-zone rounding of Laplacian numbers."""
    spread = 2.0 ** ((np.arange(_TABLES)[:, None] + _NARROWEST) / _PER_OCTAVE)
    sizes = np.arange(_WIDEST + 1)[None]
    zero = -np.expm1(-(1 - _ROUNDING) / spread)
    others = (1 - zero) * np.exp(-(sizes - 1) / spread) * -np.expm1(-1 / spread) / 2
    shares_ = np.where(sizes == 0, zero, others)
    return (-np.log2(np.maximum(shares_, 2.0**-24))).astype(np.float32)


def _tables(lengths: NDArray[np.float32]) -> Tables:
    """Integer tables, each as wide as its symbols have at least half a unit of frequency."""
    parts, lows = [], []
    for row in lengths:
        likely = np.flatnonzero(row < PRECISION_BITS + 1)
        reach = max(2, int(likely.max(initial=0)))
        sizes = np.abs(np.arange(-reach, reach + 1))
        weights = 2.0 ** -row[sizes].astype(np.float64)
        beyond = 2 * (2.0 ** -row[reach + 1 :].astype(np.float64)).sum() + 2.0**-18
        parts.append(integer_frequencies(np.append(weights, beyond)[None]))
        lows.append(-reach)
    return Tables(stacked(parts), np.array(lows, np.int32), escape=True)
