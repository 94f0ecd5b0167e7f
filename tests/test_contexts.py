"""The context model: what it accepts, and what symbols cost under the tables that are fitted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quadrate.bottlenecks import contexts
from quadrate.bottlenecks.contexts import (
    DITHER_BITS,
    ContextModel,
    fit_contexts,
    received_positions,
)
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.errors import QuadrateError

CELL = 1 << DITHER_BITS
many = settings(max_examples=60, deadline=None, derandomize=True)


def arrays(**changes: object) -> dict[str, np.ndarray]:
    """Those of a model of levels (3, 2).

    A leaf for the first dimension, a split on it for the second, two bins of the dither.
    """
    parts = {
        "cuts": np.array([[CELL // 2], [CELL // 4]], dtype=np.int32),
        "roots": np.array([0, 1], dtype=np.int32),
        "nodes": np.array(
            [[-1, 0, 0, 0], [0, 1 << 16, 2, 3], [-1, 1, 0, 0], [-1, 2, 0, 0]], dtype=np.int32
        ),
        "frequencies": np.array(
            [
                [40000, 25000, 536],
                [1, 2, 65533],
                *([k, 65536 - k, 0] for k in (100, 1, 30000, 65535)),
            ],
            dtype=np.uint16,
        ),
    }
    return parts | changes


def model(**changes: object) -> ContextModel:
    return ContextModel.from_arrays(arrays(**changes), 0, (3, 2))


def edited(name: str, place: tuple[int, ...], value: int) -> dict[str, np.ndarray]:
    array = arrays()[name].copy()
    array[place] = value
    return {name: array}


# --- the model ---


def test_the_tables_index_is_that_of_leaf_and_bin():
    half, quarter = CELL // 2, CELL // 4
    symbols = np.array([[0, 0], [0, 0], [2, 0], [1, 0], [0, 0], [0, 0]])
    dither = np.array(
        [
            [0, quarter - 1],
            [half - 1, quarter],
            [half, quarter],
            [CELL - 1, 0],
            [0, 0],
            [255, CELL - 1],
        ]
    )
    assert model().indices(0, symbols, dither).tolist() == [0, 0, 1, 1, 0, 0]
    # received 65536, 32769, 163840, 65537 (dither cut to 16 bits), 65536, 65536; the split is at
    # 65536 and takes it to the left
    assert model().indices(1, symbols, dither).tolist() == [2, 3, 5, 4, 2, 3]


def reference_index(
    parts: dict[str, np.ndarray], column: int, symbols: list[int], dither: list[int]
) -> int:
    """docs/format.md, "Which table", in Python's integers; for a first layer."""
    cuts = parts["cuts"][column].tolist()
    received = [(z + 1) * 65536 - u // 256 for z, u in zip(symbols, dither, strict=True)]
    d, t, left, right = parts["nodes"][parts["roots"][column]].tolist()
    while d >= 0:
        assert d < column
        d, t, left, right = parts["nodes"][left if received[d] <= t else right].tolist()
    return t * (len(cuts) + 1) + sum(cut <= dither[column] for cut in cuts)


def test_the_tables_index_is_the_one_that_the_format_describes():
    case = CASES["clusters"]
    fitted = fit_contexts(case.draw(500, seed=1), case.levels)
    dither = np.random.default_rng(0).integers(0, CELL, (300, 3))
    for column in range(3):  # on the cuts and thresholds themselves, too
        dither[:15, column] = fitted.cuts[column]
    symbols = quantized(case.draw(300, seed=2), case.levels, dither)
    for column in range(3):
        expected = [
            reference_index(fitted.arrays(), column, z, u)
            for z, u in zip(symbols.tolist(), dither.tolist(), strict=True)
        ]
        assert fitted.indices(column, symbols, dither).tolist() == expected
        assert len(set(expected)) > 10


def test_arrays_go_back_and_forth():
    again = ContextModel.from_arrays(model().arrays(), 0, (3, 2))
    assert again.identity == model().identity and again.columns == 2
    for name, array in arrays().items():
        assert (
            np.array_equal(again.arrays()[name], array)
            and again.arrays()[name].dtype == array.dtype
        )


def test_every_number_is_part_of_the_identity():
    swapped = arrays()["frequencies"][[0, 1, 2, 4, 3, 5]]
    others = [
        model(**edited("cuts", (1, 0), CELL // 4 + 1)),
        model(**edited("cuts", (0, 0), CELL // 2 - 1)),
        model(**edited("nodes", (1, 1), (1 << 16) + 1)),
        model(**edited("nodes", (2, 1), 2)),
        model(roots=np.array([0, 2], dtype=np.int32), nodes=arrays()["nodes"][[0, 0, 2, 3]]),
        model(frequencies=swapped),
        ContextModel.from_arrays(arrays(), 0, (4, 2)),
        ContextModel.from_arrays(arrays(), 0, (3, 3)),
        ContextModel.from_arrays(arrays(), 1, (3, 3, 2)),
        ContextModel.from_arrays(arrays(), 1, (2, 3, 2)),
    ]
    identities = {one.identity for one in (model(), *others)}
    assert len(identities) == 1 + len(others) and {len(identity) for identity in identities} == {16}
    assert model().identity == model().identity
    leaves = np.array([[-1, 0, 0, 0], [-1, 1, 0, 0], [-1, 2, 0, 0]], dtype=np.int32)
    assert (
        len(
            {
                model(roots=np.array([0, root], dtype=np.int32), nodes=leaves).identity
                for root in (1, 2)
            }
        )
        == 2
    )


NOWHERE = "that leads nowhere, or that a decoder cannot follow"
TABLE = "a table that is not there|tables a leaf"
SHAPE = "needs cuts, roots and nodes"
SYMBOLS = "more symbols"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (edited("nodes", (1, 2), 1), NOWHERE),  # a loop
        (edited("nodes", (1, 3), 0), NOWHERE),  # back into another tree
        (edited("nodes", (1, 3), 4), NOWHERE),
        (edited("nodes", (1, 2), -1), NOWHERE),
        (edited("nodes", (1, 2), 2**31 - 1), NOWHERE),
        (edited("nodes", (1, 0), 1), NOWHERE),  # asks for the very dimension that is to be read
        (edited("nodes", (1, 0), 2), NOWHERE),
        (edited("nodes", (0,), (0, 0, 2, 3)), NOWHERE),  # the first dimension has none before it
        (edited("nodes", (3, 1), 3), TABLE),
        (edited("nodes", (0, 1), -1), TABLE),
        ({"frequencies": arrays()["frequencies"][:5]}, TABLE),
        ({"frequencies": arrays()["frequencies"][:1]}, TABLE),
        ({"cuts": np.zeros((2, 6), dtype=np.int32)}, TABLE),  # seven bins for six tables
        (edited("roots", (1,), 4), "roots must rise|trees are"),
        (edited("roots", (1,), -1), "roots must rise|trees are"),
        (edited("roots", (1,), 0), "roots must rise|trees are"),
        (edited("roots", (0,), 1), "roots must rise|trees are"),
        ({"cuts": np.array([[5, 4], [0, 0]], dtype=np.int32)}, "cuts must rise"),
        ({"cuts": np.array([[2**31 - 1, -(2**31)], [0, 0]], dtype=np.int32)}, "cuts must rise"),
        ({"cuts": np.zeros((3, 1), dtype=np.int32)}, SHAPE),
        ({"cuts": np.zeros(2, dtype=np.int32)}, SHAPE),
        ({"cuts": np.zeros((2, 1, 1), dtype=np.int32)}, SHAPE),
        ({"roots": np.array([0], dtype=np.int32)}, SHAPE),
        ({"roots": np.array([[0], [1]], dtype=np.int32)}, SHAPE),
        ({"nodes": np.zeros((4, 3), dtype=np.int32)}, SHAPE),
        ({"nodes": np.zeros(4, dtype=np.int32)}, SHAPE),
        ({"nodes": np.zeros((0, 4), dtype=np.int32)}, "roots must rise|trees are"),
        ({"roots": np.int32(0)}, "a context model|not those of a dithered quantizer"),
        ({"cuts": np.int32(0)}, "a context model|not those of a dithered quantizer"),
        (edited("frequencies", (3,), (1, 1, 65534)), SYMBOLS),  # three for the dimension of two
        (edited("frequencies", (0,), (40000, 25000, 535)), "table 0 does not hold"),
        ({"frequencies": np.uint16(3)}, "not those of a dithered quantizer"),
        ({"frequencies": np.zeros(6, dtype=np.uint16)}, r"\(T, K\) frequencies"),
        (
            {"frequencies": arrays()["frequencies"].astype(np.int64)},
            "not those of a dithered quantizer",
        ),
        ({"cuts": arrays()["cuts"].astype(np.float32)}, "not those of a dithered quantizer"),
        ({"nodes": arrays()["nodes"].astype(np.int64)}, "not those of a dithered quantizer"),
    ],
    ids=lambda value: str(value)[:60].replace("\n", ""),
)
def test_arrays_that_are_no_context_model_are_refused(changes, message):
    with pytest.raises(QuadrateError, match=message) as caught:
        model(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cuts", "roots", "nodes", "frequencies"])
def test_a_missing_array_is_named(name):
    parts = {other: array for other, array in arrays().items() if other != name}
    with pytest.raises(QuadrateError, match=f"not those of a dithered quantizer: '{name}'"):
        ContextModel.from_arrays(parts, 0, (3, 2))


@pytest.mark.parametrize(
    ("levels", "first"), [((3, 2), 1), ((3, 2), -1), ((3, 2, 2), 0), ((3, 2), 2), ((3, 2), 3)]
)
def test_levels_that_do_not_fit_are_refused(levels, first):
    with pytest.raises(QuadrateError, match=SHAPE):
        ContextModel.from_arrays(arrays(), first, levels)


@pytest.mark.parametrize(
    "tables", [{"lows": np.array([0] * 5 + [1], dtype=np.int32)}, {"escape": True}]
)
def test_tables_of_another_kind_are_refused(tables):
    with pytest.raises(QuadrateError, match=SYMBOLS):
        replace(model(), tables=replace(model().tables, **tables))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_is_accepted_codes_every_symbol(data):
    """Numbers changed at random: refused, or the symbols come back."""
    parts = {name: array.copy() for name, array in arrays().items()}
    for _ in range(data.draw(st.integers(1, 3))):
        array = parts[data.draw(st.sampled_from(["cuts", "roots", "nodes"]))]
        place = data.draw(st.integers(0, array.size - 1))
        array.flat[place] = data.draw(
            st.one_of(st.integers(-1, 4), st.integers(-(2**31), 2**31 - 1))
        )
    try:
        changed = ContextModel.from_arrays(parts, 0, (3, 2))
    except QuadrateError:
        return
    draw = np.random.default_rng(0)
    dither = draw.integers(0, CELL, (50, 2))
    symbols = draw.integers(0, 2, (50, 2))
    try:
        payload = encode_layer(changed, symbols, dither)
    except QuadrateError as error:
        assert "is not in its table" in str(error)
        return
    assert (
        decode_layer(changed, payload, np.zeros((50, 0), dtype=np.int64), dither).tolist()
        == symbols.tolist()
    )


# --- received positions ---


def test_received_positions_by_hand():
    symbols = np.array([[0, 1], [0, 4], [2, 0]])
    dither = np.array([[0, 256], [CELL - 1, 255], [CELL // 2, 511]])
    assert received_positions(symbols, dither).tolist() == [
        [65536, 131071],
        [1, 327680],
        [3 * 65536 - 32768, 65535],
    ]


@many
@given(st.integers(2, 300), st.floats(0, 1), st.integers(0, CELL - 1))
def test_a_latent_lies_in_the_cell_below_its_received_position(levels, share, word):
    position = share * (levels - 1)
    symbol = min(int(np.floor(position + word / CELL)), levels - 1)
    received = int(received_positions(np.array([[symbol]]), np.array([[word]]))[0, 0])
    assert 1 <= received <= levels << 16
    assert position - 2.0**-16 <= received / (1 << 16) <= position + 1 + 2.0**-16 + 1e-9


# --- counting ---


@pytest.mark.parametrize("level", [2, 3, 6])
def test_counts_are_averages_over_the_dithers_of_a_bin(level):
    draw = np.random.default_rng(level)
    positions = np.concatenate(
        [draw.uniform(0, level - 1, 40), [0, level - 1, 0.5, 1e-9, level - 1 - 1e-9]]
    )
    received = draw.integers(1, 2 << 16, (len(positions), 1))
    cuts = np.sort(draw.integers(0, CELL, 5)).astype(np.int32)
    cuts[2] = cuts[1]  # a bin that no dither falls into
    tree = np.array(
        [[0, 1 << 16, 1, 2], [-1, 0, 0, 0], [0, 3 << 15, 3, 4], [-1, 0, 0, 0], [-1, 0, 0, 0]]
    )
    counts = contexts._counts(tree, received, positions, cuts, level)
    members = [received[:, 0] > 0, received[:, 0] <= 1 << 16, received[:, 0] > 1 << 16]
    members += [members[2] & (received[:, 0] <= 3 << 15), received[:, 0] > 3 << 15]
    borders = [0, *cuts.tolist(), CELL]
    steps = 20_000
    for b, (low, high) in enumerate(itertools.pairwise(borders)):
        if low == high:
            continue
        dithers = (low + (np.arange(steps) + 0.5) / steps * (high - low)) / CELL
        symbols = np.floor(positions[:, None] + dithers).astype(int)
        assert symbols.max() < level
        for node, inside in enumerate(members):
            brute = np.bincount(symbols[inside].ravel(), minlength=level) / steps
            assert counts[node, b] == pytest.approx(brute, abs=len(positions) / steps)
    assert counts[0].sum(axis=1) == pytest.approx(len(positions))


def test_bins_share_out_the_latents():
    draw = np.random.default_rng(0)
    positions = np.where(
        draw.random(50_000) < 0.5, draw.uniform(0.2, 0.25, 50_000), draw.uniform(1.6, 1.9, 50_000)
    )
    changes = (1 - positions % 1) * CELL
    cuts = contexts._dither_cuts(positions)
    counts = np.histogram(changes, np.concatenate([[0], cuts, [CELL]]))[0]
    assert counts == pytest.approx(
        np.full(len(cuts) + 1, len(positions) / (len(cuts) + 1)), rel=1e-3
    )


# --- what symbols cost ---


@dataclass(frozen=True)
class Clusters:
    """Latents of a known law.

    Clusters, in each of which dimensions are apart and uniform on intervals; cut off at ±1, which
    makes atoms.

    Attributes:
        weights: (c,).
        low: (c, d).
        high: (c, d).
        levels: (d,).
    """

    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    levels: tuple[int, ...]

    def draw(self, count: int, seed: int) -> np.ndarray:
        draw = np.random.default_rng(seed)
        cluster = draw.choice(len(self.weights), count, p=self.weights)
        return np.clip(draw.uniform(self.low[cluster], self.high[cluster]), -1, 1).astype(
            np.float32
        )

    def law(self, dither: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All vectors of symbols, (s, d), and their probabilities under each dither, in cells, (u, d): (u, s), from the cumulative distributions."""
        vectors = np.array(list(itertools.product(*map(range, self.levels))))
        joint = self.weights[:, None, None]
        for i, level in enumerate(self.levels):
            edges = (
                np.arange(level + 1) - dither[:, i, None]
            )  # symbol k if the latent is within [k, k + 1) less dither
            value = edges * 2 / (level - 1) - 1
            below = (value[None] - self.low[:, None, None, i]) / (self.high - self.low)[
                :, None, None, i
            ]
            below = np.where(
                value > 1, 1, np.where(value <= -1, 0, np.clip(below, 0, 1))
            )  # (c, u, level + 1)
            joint = joint * np.diff(below)[:, :, vectors[:, i]]
        return vectors, joint.sum(axis=0)


def entropy_bits(law: np.ndarray) -> float:
    """The mean over dithers, (u, s)."""
    return float(-(law * np.log2(law, where=law > 0, out=np.zeros_like(law))).sum(axis=1).mean())


def merged(vectors: np.ndarray, law: np.ndarray, columns: slice | int) -> np.ndarray:
    """The law of some columns alone."""
    kept = vectors[:, [columns] if isinstance(columns, int) else columns]
    groups = np.unique(kept, axis=0, return_inverse=True)[1].ravel()
    return np.stack([law[:, groups == g].sum(axis=1) for g in range(groups.max() + 1)], axis=1)


def words(count: int, dimensions: int) -> np.ndarray:
    """Dithers that fill the unit cube evenly, (count, d)."""
    steps = np.array(
        [
            0.8566748838545029,
            0.733891856627126,
            0.6287067210378087,
            0.5385972572236101,
            0.4614027427763899,
        ]
    )[:dimensions]
    return ((np.arange(1, count + 1)[:, None] * steps + 0.31) % 1 * CELL).astype(np.int64)


def cost_bits(
    model: ContextModel, vectors: np.ndarray, law: np.ndarray, dither: np.ndarray
) -> float:
    """What a sample costs under the model's tables in the mean over the law itself: no sampling."""
    symbols = np.tile(vectors, (len(dither), 1))
    repeated = np.repeat(dither, len(vectors), axis=0)
    bits = np.zeros(len(symbols))
    for i in range(model.first, len(model.levels)):
        frequencies = model.tables.frequencies[model.indices(i, symbols, repeated), symbols[:, i]]
        bits += 16 - np.log2(frequencies.astype(float))
    return float((bits.reshape(law.shape) * law).sum(axis=1).mean())


def quantized(latents: np.ndarray, levels: tuple[int, ...], dither: np.ndarray) -> np.ndarray:
    positions = (latents.astype(np.float64) + 1) / 2 * (np.array(levels) - 1)
    return np.floor(positions + dither / CELL).astype(np.int64)


def random_clusters(
    count: int, levels: tuple[int, ...], seed: int, spread: float = 0.25
) -> Clusters:
    draw = np.random.default_rng(seed)
    middle = draw.uniform(-1.1, 1.1, (count, len(levels)))
    half = draw.uniform(0.02, spread, middle.shape)
    return Clusters(draw.dirichlet(np.full(count, 3)), middle - half, middle + half, levels)


CASES = {
    "clusters": random_clusters(10, (3, 4, 5), 1),
    "two levels": random_clusters(6, (2, 2, 2, 2), 2),
    "atoms": Clusters(
        np.array([0.3, 0.3, 0.4]),
        np.array([[-3, 1, -1.0], [1, -3, -0.5], [-0.4, -0.4, -3]]),
        np.array([[-1, 3, 3.0], [3, -1, 0.5], [0.4, 0.4, 9]]),
        (3, 3, 4),
    ),
    "independent": Clusters(
        np.ones(1), np.array([[-1.3, -0.7, -1]]), np.array([[0.4, 0.9, 1.5]]), (3, 5, 4)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_symbols_cost_their_joint_entropy(name):
    case = CASES[name]
    fitted = fit_contexts(case.draw(10_000, seed=1), case.levels)
    dither = words(2000, len(case.levels))
    vectors, law = case.law(dither / CELL)
    assert law.sum(axis=1) == pytest.approx(np.ones(len(law)))
    joint = entropy_bits(law)
    marginals = sum(entropy_bits(merged(vectors, law, i)) for i in range(len(case.levels)))
    cost = cost_bits(fitted, vectors, law, dither)
    assert joint <= cost <= 1.01 * joint + 0.025
    if name == "independent":
        assert joint == pytest.approx(marginals)
        assert len(fitted.nodes) < 80  # what is not worth its table is left together
    else:
        assert cost < marginals - 0.85 * (marginals - joint) and marginals > joint + 0.3

    fresh = case.draw(20_000, seed=2)
    own = np.random.default_rng(3).integers(0, CELL, fresh.shape)
    symbols = quantized(fresh, case.levels, own)
    payload = encode_layer(fitted, symbols, own)
    assert 8 * len(payload) / len(fresh) == pytest.approx(
        cost, abs=0.03
    )  # 2.5 standard errors of a sample's bits
    assert (
        decode_layer(fitted, payload, np.zeros((len(fresh), 0), dtype=np.int64), own).tolist()
        == symbols.tolist()
    )


def test_a_refinement_costs_what_it_adds():
    case = random_clusters(8, (3, 3, 4, 2), 5)
    latents, dither = case.draw(10_000, seed=1), words(2000, 4)
    vectors, law = case.law(dither / CELL)
    base, whole = entropy_bits(merged(vectors, law, slice(0, 2))), entropy_bits(law)
    alone = entropy_bits(merged(vectors, law, slice(2, 4)))
    refinement = fit_contexts(latents, case.levels, first=2)
    assert (refinement.columns, refinement.first, len(refinement.roots)) == (2, 2, 2)
    cost = cost_bits(refinement, vectors, law, dither)
    assert whole - base <= cost <= whole - base + 0.01 * whole + 0.025 < alone - 0.3
    together = cost_bits(fit_contexts(latents[:, :2], (3, 3)), vectors, law, dither) + cost
    assert together == pytest.approx(
        cost_bits(fit_contexts(latents, case.levels), vectors, law, dither), abs=0.01
    )

    symbols = quantized(latents, case.levels, words(10_000, 4))
    payload = encode_layer(refinement, symbols, words(10_000, 4))
    assert (
        decode_layer(refinement, payload, symbols[:, :2], words(10_000, 4)).tolist()
        == symbols.tolist()
    )


@pytest.mark.parametrize("levels", [(3, 4), (2, 2), (2, 300)])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_few_latents_make_tables_that_code_everything(count, levels):
    """What was never seen costs more, but not without end.

    What was seen costs less than the bound.
    """
    latents = np.clip(np.random.default_rng(count).normal(size=(count, 2)), -1, 1).astype(
        np.float32
    )
    fitted = fit_contexts(latents, levels)
    draw = np.random.default_rng(1)
    symbols, dither = draw.integers(0, levels, (1000, 2)), draw.integers(0, CELL, (1000, 2))
    payload = encode_layer(fitted, symbols, dither)
    assert (
        decode_layer(fitted, payload, np.zeros((1000, 0), dtype=np.int64), dither).tolist()
        == symbols.tolist()
    )
    assert 8 * len(payload) / 1000 < 32
    seen = np.tile(latents, (1000 // count, 1))
    own = dither[: len(seen)]
    bits = 8 * len(encode_layer(fitted, quantized(seen, levels, own), own)) / len(seen)
    assert bits < np.log2(levels).sum()


def test_few_latents_are_not_believed():
    case = CASES["independent"]
    dither = words(500, 3)
    vectors, law = case.law(dither / CELL)
    costs = [
        cost_bits(fit_contexts(case.draw(10, seed), case.levels), vectors, law, dither)
        for seed in range(5)
    ]
    assert np.mean(costs) < np.log2(case.levels).sum() + 0.5


def test_latents_that_never_vary_cost_nothing():
    latents = np.tile(
        np.array([[-1.0, 0.0, 1.0]], dtype=np.float32), (1000, 1)
    )  # at the centres of their cells, and at both ends
    fitted = fit_contexts(latents, (3, 3, 2))
    dither = words(1000, 3)
    symbols = quantized(latents, (3, 3, 2), dither)
    assert (symbols == [0, 1, 1]).all()
    assert 8 * len(encode_layer(fitted, symbols, dither)) / 1000 < 0.05


def test_the_same_latents_and_seed_make_the_same_model():
    case = CASES["clusters"]
    latents = case.draw(500, seed=1)
    first, again, other = (fit_contexts(latents, case.levels, seed=seed) for seed in (0, 0, 1))
    assert first.identity == again.identity != other.identity


@pytest.mark.parametrize(
    "latents",
    [
        np.zeros((0, 2)),
        np.zeros((5, 3)),
        np.zeros(2),
        np.full((5, 2), 1.001),
        np.full((5, 2), np.nan),
        np.full((5, 2), -np.inf),
    ],
    ids=str,
)
def test_latents_that_do_not_fit_are_refused(latents):
    with pytest.raises(
        QuadrateError, match=r"tables are fitted to latents \(n, 2\) in \[-1, 1\]; got"
    ):
        fit_contexts(latents.astype(np.float32), (3, 4))
