"""What symbols cost under the tables that are fitted to latents."""

from __future__ import annotations

import numpy as np
import pytest

from contexts_parts import CASES, CELL, quantized, random_clusters
from quadrate.bottlenecks.contexts import (
    ContextModel,
    fit_contexts,
)
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.errors import QuadrateError


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
