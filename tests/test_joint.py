"""Trees over symbols, and rounding bottlenecks whose symbols are coded given those before."""

from dataclasses import replace

import numpy as np
import pytest

from quadrate.bottlenecks import trees
from quadrate.bottlenecks.joint_tables import JointModel, fit_joint
from quadrate.bottlenecks.rounding import RoundingModel, make_tables
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.errors import QuadrateError


def rounding(columns: int, reach: int = 12) -> RoundingModel:
    shares = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 3.0) ** 2)[None].repeat(columns, axis=0)
    return RoundingModel(np.ones(columns), np.zeros(columns), make_tables([(shares, -reach)]))


def dependent(count: int, seed: int) -> np.ndarray:
    """A second column that is the first or its negative, a third that is the parity of both."""
    rng = np.random.default_rng(seed)
    first = rng.integers(-3, 4, count)
    second = first * rng.choice([-1, 1], count)
    return np.stack([first, second, (first + second) % 2 + 5], axis=1).astype(float)


NOTHING = np.empty((4000, 0), dtype=np.int64)


def test_dependent_symbols_cost_their_joint_entropy():
    model = fit_joint(rounding(3), dependent(20_000, 0))
    symbols = model.quantize(dependent(4000, 1))
    payload = encode_layer(model, symbols, NOTHING)
    # H = log2 7 + 6/7: the sign tells nothing of 0, and the third column nothing at all
    assert 8 * len(payload) / 4000 == pytest.approx(np.log2(7) + 6 / 7, rel=0.015)
    assert model.bits(symbols) / 4000 == pytest.approx(8 * len(payload) / 4000, abs=0.02)
    assert np.array_equal(
        decode_layer(model, payload, np.empty((4000, 0), dtype=np.int64), NOTHING), symbols
    )
    assert np.array_equal(model.dequantize(symbols), symbols)


def test_what_training_never_showed_is_coded_all_the_same():
    model = fit_joint(rounding(3), dependent(500, 0))
    symbols = model.quantize(
        np.array([[40.0, -700.0, 1e6], [0.0, 0.0, 5.0], [-3.0, 2.0, 5.0], [3.0, 3.0, 7.0]])
    )
    nothing = np.empty((4, 0), dtype=np.int64)
    assert np.array_equal(
        decode_layer(model, encode_layer(model, symbols, nothing), nothing, nothing), symbols
    )


def test_one_sample_is_enough_to_fit_to():
    model = fit_joint(rounding(2), np.array([[1.0, -2.0]]))
    assert model.columns == 2 and len(model.nodes) == 2


def test_what_cannot_be_fitted_to_is_refused():
    with pytest.raises(QuadrateError, match="got none"):
        fit_joint(rounding(2), np.empty((0, 2)))
    with pytest.raises(QuadrateError, match="takes 301 symbols; joint tables are for at most 256"):
        fit_joint(rounding(1), np.array([[0.0], [300.0]]))


def test_the_identity_tells_models_apart():
    model = fit_joint(rounding(3), dependent(2000, 0))
    others = [
        fit_joint(rounding(3), dependent(2000, 1)),
        fit_joint(rounding(3, 11), dependent(2000, 0)),
        replace(model, rounding=rounding(3, 10)),
    ]
    assert (
        len({model.identity, model.rounding.identity, *(other.identity for other in others)}) == 5
    )
    assert fit_joint(rounding(3), dependent(2000, 0)).identity == model.identity


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 2), 0, "leads nowhere"),  # a circle
        ((0, 3), 10_000, "leads nowhere"),
        ((0, 0), 2, "leads nowhere, or that a decoder cannot follow"),
    ],
)
def test_damaged_trees_are_refused(place, value, message):
    model = fit_joint(rounding(3), dependent(2000, 0))
    nodes = model.nodes.copy()
    second = int(model.roots[1])
    nodes[(second + place[0], place[1])] = value
    with pytest.raises(QuadrateError, match=message):
        JointModel(model.rounding, model.roots, nodes, model.tables)


def test_leaves_and_roots_must_be_there():
    model = fit_joint(rounding(2), dependent(2000, 0)[:, :2])
    nodes = model.nodes.copy()
    nodes[nodes[:, 0] < 0, 1] = len(model.tables.lows)
    with pytest.raises(QuadrateError, match="a table that is not there"):
        replace(model, nodes=nodes)
    with pytest.raises(QuadrateError, match="a tree for each"):
        replace(model, roots=model.roots[:1])
    with pytest.raises(QuadrateError, match="roots must rise"):
        replace(model, roots=model.roots[::-1].copy())


def test_a_tree_is_grown_where_it_saves_bits_and_nowhere_else():
    rng = np.random.default_rng(0)
    known = rng.integers(0, 8, (5000, 2))
    classes = (known[:, 1] >= 5).astype(np.int64)
    tree = trees.grow(known, classes, 2, 5000)
    assert tree.tolist() == [[1, 4, 1, 2], [-1, 0, 0, 0], [-1, 0, 0, 0]]
    assert len(trees.grow(known, rng.integers(0, 2, 5000), 2, 5000)) <= 5  # noise: hardly a split
    assert np.array_equal(trees.descend(tree, 0, known), 1 + classes)
