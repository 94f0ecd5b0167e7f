"""Rounding to a grid: the best symbol, tables that cover the bulk, identities.

And the linear transform before it.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quadrate.bottlenecks.klt import LinearTransform, mean_and_covariance, principal_axes
from quadrate.bottlenecks.rounding import (
    ESCAPE_BITS,
    RATE_WEIGHT,
    RoundingModel,
    best_borders,
    make_tables,
)
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.coding.tables import TOTAL
from quadrate.errors import QuadrateError


def gaussian_model(
    sigmas=(0.3, 1.0, 4.0), steps=(0.5, 2.0, 0.25), offsets=(0.1, -3.0, 100.0), rate_weight=0.0
) -> RoundingModel:
    numbers = np.arange(-60, 61)
    shares = np.exp(-(numbers**2) / (2 * np.array(sigmas)[:, None] ** 2))
    return RoundingModel(
        np.array(steps), np.array(offsets), make_tables([(shares, -60)]), rate_weight
    )


def no_dither(count):
    return np.empty((count, 0), np.int64)


# --- symbols ---


def test_without_a_rate_weight_symbols_are_rounded():
    model = gaussian_model()
    values = np.random.default_rng(0).normal(size=(500, 3)) * [0.5, 3, 2] + model.offsets
    symbols = model.quantize(values)
    np.testing.assert_array_equal(symbols, np.rint((values - model.offsets) / model.steps))
    assert (np.abs(model.dequantize(symbols) - values) <= model.steps / 2 + 1e-12).all()
    np.testing.assert_array_equal(model.quantize(model.dequantize(symbols)), symbols)


def every_cost(model, column, values):
    """Costs (n, K + rounded) of entries and of an escape, in squared steps, and their values."""
    size = int(model.tables.sizes[column])
    entries = np.arange(size - 1) + model.tables.lows[column]
    bits = 16 - np.log2(model.tables.frequencies[column, :size].astype(float))
    scaled = (values - model.offsets[column]) / model.steps[column]
    inside = (scaled[:, None] - entries) ** 2 + model.rate_weight * bits[:-1]
    nearest = np.rint(scaled)
    escape = (scaled - nearest) ** 2 + model.rate_weight * (bits[-1] + 32)
    escape[(nearest >= entries[0]) & (nearest <= entries[-1])] = np.inf
    return np.concatenate([inside, escape[:, None]], axis=1), np.concatenate(
        [np.broadcast_to(entries, inside.shape), nearest[:, None]], axis=1
    )


@pytest.mark.parametrize("rate_weight", [0.01, RATE_WEIGHT, 1.0, 5.0])
def test_the_weighed_symbol_costs_least_of_all(rate_weight):
    model = gaussian_model(rate_weight=rate_weight)
    values = (
        np.random.default_rng(1).normal(size=(800, 3)) * [2, 8, 30] + model.offsets
    )  # far beyond the tables, too
    symbols = model.quantize(values)
    escapes = 0
    for column in range(3):
        costs, meant = every_cost(model, column, values[:, column])
        chosen = np.where(meant == symbols[:, [column]], costs, np.inf).min(axis=1)
        np.testing.assert_allclose(chosen, costs.min(axis=1), rtol=1e-9, atol=1e-9)
        escapes += int(
            (meant[:, -1] == symbols[:, column]).sum()
            - (meant[:, :-1] == symbols[:, [column]]).any(axis=1).sum()
        )
    assert (symbols != gaussian_model().quantize(values)).any()


@settings(max_examples=80)
@given(
    st.lists(st.floats(0, 16), min_size=2, max_size=12), st.floats(0, 8), st.integers(0, 2**32 - 1)
)
def test_borders_separate_the_cheapest_symbols(bits, rate_weight, seed):
    bits = np.array(bits)
    points = np.random.default_rng(seed).uniform(-3, len(bits) + 2, 200)
    borders = best_borders(bits[None], rate_weight)[0]
    assert (np.diff(borders) >= 0).all()
    chosen = np.searchsorted(borders, points, side="right")
    costs = (points[:, None] - np.arange(len(bits))) ** 2 + rate_weight * bits
    np.testing.assert_allclose(
        costs[np.arange(200), chosen], costs.min(axis=1), rtol=1e-9, atol=1e-9
    )


def test_weighing_saves_more_than_it_costs():
    draw = np.random.default_rng(2).normal(size=(20_000, 1)) * 1.2
    plain = gaussian_model((1.2,), (1.0,), (0.0,))
    weighed = gaussian_model((1.2,), (1.0,), (0.0,), RATE_WEIGHT)
    costs = []
    for model in (plain, weighed):
        symbols = model.quantize(draw)
        costs.append(
            ((model.dequantize(symbols) - draw) ** 2).mean()
            + RATE_WEIGHT * model.bits(symbols) / len(draw)
        )
    assert costs[1] < costs[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_cannot_be_coded_are_named(value):
    with pytest.raises(QuadrateError, match=r"not finite, or 2\^31 steps or more"):
        gaussian_model().quantize(np.array([[0.0, value, 0.0]]))


# --- streams ---


@pytest.mark.parametrize("rate_weight", [0.0, RATE_WEIGHT])
def test_symbols_survive_a_stream_whatever_they_are(rate_weight):
    model = gaussian_model(rate_weight=rate_weight)
    values = np.random.default_rng(3).normal(size=(400, 3)) * [0.2, 3, 2] + model.offsets
    values[7] = [1e6, -1e6, 5e8]
    symbols = model.quantize(values)
    payload = encode_layer(model, symbols, no_dither(400))
    np.testing.assert_array_equal(
        decode_layer(model, payload, np.empty((400, 0), np.int64), no_dither(400)), symbols
    )
    assert model.bits(symbols) <= 8 * len(payload) <= model.bits(symbols) + 96


def test_the_identity_is_that_of_what_a_receiver_needs():
    model = gaussian_model()
    others = [
        gaussian_model(steps=(0.5, 2.0, 0.26)),
        gaussian_model(offsets=(0.1, -3.0, 100.1)),
        gaussian_model(sigmas=(0.3, 1.0, 4.1)),
    ]
    assert len({model.identity, *(other.identity for other in others)}) == 4
    assert (
        gaussian_model(rate_weight=1.0).identity == model.identity == gaussian_model().identity
        and len(model.identity) == 16
    )


def test_arrays_and_back():
    model = gaussian_model(rate_weight=0.1)
    again = RoundingModel.from_arrays(model.arrays())
    assert again.identity == model.identity and again.rate_weight == 0.1
    for name in model.arrays():
        with pytest.raises(QuadrateError, match="not those of a rounding bottleneck"):
            RoundingModel.from_arrays(
                {key: array for key, array in model.arrays().items() if key != name}
            )
    with pytest.raises(QuadrateError, match="not those of a rounding bottleneck"):
        RoundingModel.from_arrays(model.arrays() | {"lows": np.array([0.5, 0, 0])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": np.array([1.0, 0.0, 1.0])}, "steps must be positive"),
        ({"steps": np.array([1.0, np.nan, 1.0])}, "steps must be positive"),
        ({"offsets": np.array([1.0, np.inf, 1.0])}, "finite"),
        ({"offsets": np.zeros(2)}, "3 columns need"),
        ({"rate_weight": np.array([-1.0])}, "rate weight is -1.0"),
        ({"rate_weight": np.array([np.nan])}, "rate weight is nan"),
    ],
)
def test_parts_that_do_not_fit(change, message):
    with pytest.raises(QuadrateError, match=message):
        RoundingModel.from_arrays(gaussian_model().arrays() | change)


# --- tables ---


def test_tables_end_where_an_entry_costs_more_than_escapes_do():
    numbers = np.arange(-50, 51)
    shares = np.exp(-(numbers**2) / (2 * np.array([[1.0], [5.0]]) ** 2))
    tables = make_tables([(shares[:1], -50), (shares[1:], -50)])
    for row, low, size, own in zip(
        tables.frequencies,
        tables.lows,
        tables.sizes,
        shares / shares.sum(1, keepdims=True),
        strict=True,
    ):
        inside = own[low + 50 : low + 50 + size - 1]
        assert 0 < 1 - inside.sum() < 1e-5 and row[size - 1] == 1
        np.testing.assert_allclose(row[: size - 1] / TOTAL, inside, atol=1.5e-5 * size)
    assert tables.sizes[0] < 14 < 40 < tables.sizes[1]
    far = np.zeros((1, 2001))
    far[0, [0, 1000, 1001, 2000]] = [
        1e-5,
        0.6,
        0.4,
        0.2,
    ]  # one outlier that is rare, and one that is not
    tables = make_tables([(far, 0)])
    assert tables.lows[0] == 1000 and tables.sizes[0] == 1002
    assert (
        1000 * np.log2(np.e) / TOTAL > ESCAPE_BITS * 1e-5
    )  # which is what the one saves, and costs


def test_a_single_symbol_makes_a_table():
    tables = make_tables([(np.array([[0.0, 1.0, 0.0]]), 4)])
    assert tables.lows.tolist() == [5] and tables.frequencies.tolist() == [[TOTAL - 1, 1]]


def test_tables_that_would_be_too_long():
    with pytest.raises(QuadrateError, match="a column takes 20000 symbols"):
        make_tables([(np.ones((1, 20_000)), 0)])


# --- the transform ---


def test_moments_in_blocks_are_those_of_the_whole_even_far_from_zero():
    features = (
        np.random.default_rng(4).normal(size=(9000, 5))
        @ np.random.default_rng(5).normal(size=(5, 5))
        + 1e6
    )
    mean, covariance = mean_and_covariance(features)
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.T, bias=True), rtol=1e-4, atol=1e-4)


def test_axes_are_orthonormal_and_diagonalize():
    factor = np.random.default_rng(6).normal(size=(8, 8))
    variances, axes = principal_axes(factor @ factor.T)
    assert (np.diff(variances) <= 0).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-6)
    np.testing.assert_allclose(axes.T @ factor @ factor.T @ axes, np.diag(variances), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_kept_is_received_as_its_mean(dtype):
    draw = np.random.default_rng(7)
    features, mean = draw.normal(size=(10, 4)).astype(dtype), np.array([1.0, 2, 3, 4])
    some = LinearTransform(mean, np.array([1, 3], np.int32))
    received = some.inverse(some.forward(features))
    assert received.dtype == dtype
    np.testing.assert_allclose(received[:, [1, 3]], features[:, [1, 3]], atol=1e-5)
    np.testing.assert_allclose(received[:, [0, 2]], np.broadcast_to([1.0, 3.0], (10, 2)))
    axes = principal_axes(np.cov(features.T))[1]
    for count in (2, 4):
        klt = LinearTransform(
            mean, np.arange(count, dtype=np.int32), np.ascontiguousarray(axes[:, :count])
        )
        part = axes[:, :count] @ axes[:, :count].T
        np.testing.assert_allclose(
            klt.inverse(klt.forward(features)), (features - mean) @ part + mean, atol=1e-5
        )
    whole = LinearTransform.identity(4)
    np.testing.assert_array_equal(whole.inverse(whole.forward(features)), features)


def test_transforms_that_are_none():
    mean, axes = np.zeros(3), np.eye(3, dtype=np.float32)
    for kept in ([], [0, 0], [1, 0], [-1], [3], [0, 1, 2, 3]):
        with pytest.raises(QuadrateError, match="kept coefficients"):
            LinearTransform(mean, np.array(kept, np.int32))
    for parts in (
        (np.array([np.nan, 0, 0]), np.array([0], np.int32)),
        (mean, np.array([0], np.int32), axes),
        (mean, np.array([0], np.int32), np.full((3, 1), np.nan, np.float32)),
    ):
        with pytest.raises(QuadrateError, match="finite"):
            LinearTransform(*parts)
    arrays = LinearTransform(mean, np.array([0, 2], np.int32), axes[:, [0, 2]]).arrays()
    assert (
        LinearTransform.from_arrays(arrays).digest()
        == LinearTransform(mean, np.array([0, 2], np.int32), axes[:, [0, 2]]).digest()
    )
    assert (
        LinearTransform.from_arrays(arrays).digest()
        != LinearTransform(mean, np.array([0, 2], np.int32)).digest()
    )
    with pytest.raises(QuadrateError, match="not those of a linear transform"):
        LinearTransform.from_arrays({"mean": mean})
