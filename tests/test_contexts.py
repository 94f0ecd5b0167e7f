"""The context model: what it accepts, and that every symbol can be coded."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contexts_parts import CASES, CELL, arrays, model, quantized
from quadrate.bottlenecks import contexts, trees
from quadrate.bottlenecks.contexts import (
    ContextModel,
    fit_contexts,
    received_positions,
)
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.errors import QuadrateError

many = settings(max_examples=60, deadline=None, derandomize=True)


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
        ({"frequencies": np.uint16(3)}, r"\(T, K\) frequencies"),
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
    counts = contexts._counts(trees.descend(tree, 0, received), 5, positions, cuts, level)
    low, high = received[:, 0] <= 1 << 16, received[:, 0] > 3 << 15
    members = {1: low, 3: ~low & ~high, 4: high}
    borders = [0, *cuts.tolist(), CELL]
    steps = 20_000
    for b, (low, high) in enumerate(itertools.pairwise(borders)):
        if low == high:
            continue
        dithers = (low + (np.arange(steps) + 0.5) / steps * (high - low)) / CELL
        symbols = np.floor(positions[:, None] + dithers).astype(int)
        assert symbols.max() < level
        for node, inside in members.items():
            brute = np.bincount(symbols[inside].ravel(), minlength=level) / steps
            assert counts[node, b] == pytest.approx(brute, abs=len(positions) / steps)
    assert counts.sum(axis=(0, 2)) == pytest.approx(len(positions))


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
