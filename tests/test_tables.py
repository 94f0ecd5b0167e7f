"""Integer tables: what frequencies are, and what is none."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quadrate.coding.tables import MAX_ENTRIES, TOTAL, Tables, integer_frequencies
from quadrate.errors import QuadrateError

rows = st.integers(2, 40).flatmap(
    lambda k: st.lists(
        st.one_of(st.floats(0, 1e300), st.floats(0, 1), st.just(0.0)), min_size=k, max_size=k
    )
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows.filter(any))
@example([1e308, 1.0])
@example([5e-324, 0.0, 5e-324])
def test_integer_frequencies_follow_the_weights_and_leave_no_symbol_out(weights):
    frequencies = integer_frequencies([weights])[0].astype(np.int64)
    assert frequencies.sum() == TOTAL and frequencies.min() >= 1
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    shares = np.array(scaled) / math.fsum(scaled) * (TOTAL - len(weights))
    error = frequencies - 1 - shares
    assert (np.abs(error) < 1 + 1e-6).all()
    up, down = error > 1e-6, error < -1e-6  # the largest remainders were rounded up
    if up.any() and down.any():
        assert (shares % 1)[up].min() >= (shares % 1)[down].max() - 1e-6


def test_integer_frequencies_by_hand():
    assert integer_frequencies([[1, 1, 1]]).tolist() == [
        [21846, 21845, 21845]
    ]  # the earlier entry first in a tie
    assert integer_frequencies([[1, 1, 1, 1, 1]]).tolist() == [[13108, 13107, 13107, 13107, 13107]]
    assert integer_frequencies([[0, 1], [1, 0]]).tolist() == [[1, 65535], [65535, 1]]
    assert integer_frequencies([[2, 1], [1, 3]]).tolist() == [
        [43690, 21846],
        [16385, 49151],
    ]  # 1 each, then 65534 in proportion
    assert integer_frequencies(np.ones((1, MAX_ENTRIES))).tolist() == [[4] * MAX_ENTRIES]
    assert integer_frequencies([[1, 1]]).dtype == np.uint16


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], "got an array of shape"),
        ([[1.0]], "2 to 16384 entries"),
        (np.ones((1, MAX_ENTRIES + 1)), "2 to 16384 entries"),
        ([[0.0, 0.0]], "not all zero"),
        ([[1.0, 1.0], [0.0, 0.0]], "not all zero"),
        ([[1.0, -1e-9]], "not negative"),
        ([[1.0, math.nan]], "must be finite"),
        ([[1.0, math.inf]], "must be finite"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(QuadrateError, match=message):
        integer_frequencies(weights)


@pytest.mark.filterwarnings("ignore:overflow")
def test_weights_whose_sum_is_too_large_are_refused():
    with pytest.raises(QuadrateError, match="must be finite, as their sum"):
        integer_frequencies([[1e308, 1e308]])


@pytest.mark.parametrize(
    ("frequencies", "lows", "message"),
    [
        (
            [[1, 65535], [32768, 32767]],
            [0, 0],
            "table 1 does not hold frequencies >= 1 that sum to 65536",
        ),
        ([[32768, 0, 32768]], [0], "table 0 does not"),  # a hole
        ([[0, 1, 65535]], [0], "table 0 does not"),
        ([[0, 0]], [0], "table 0 does not"),
        ([[1, 65535], [65535, 0]], [0, 0], "table 1 does not"),
        ([[65535, 65535, 2]], [0], "table 0 does not"),  # right modulo 2^16
        ([[1, 65535]], [0, 0], r"\(T, K\) frequencies with \(T,\) lows"),
        ([1, 65535], [0], r"\(T, K\) frequencies"),
        ([[65535]], [0], "1 to 1048576 tables of 2 to 16384 entries"),
        (np.zeros((0, 2)), [], "1 to 1048576 tables"),
        (np.ones((1, MAX_ENTRIES + 1)), [0], "2 to 16384 entries"),
    ],
)
def test_tables_that_are_none_are_refused(frequencies, lows, message):
    with pytest.raises(QuadrateError, match=message):
        Tables(np.array(frequencies, dtype=np.uint16), np.array(lows, dtype=np.int32))


def test_a_tables_digest_is_that_of_everything_that_decides_the_stream():
    def digest(frequencies=((1, 65535, 0), (2, 65000, 534)), lows=(0, -1), escape=False):
        return Tables(
            np.array(frequencies, dtype=np.uint16), np.array(lows, dtype=np.int32), escape
        ).digest

    others = [
        digest(escape=True),
        digest(lows=(0, 1)),
        digest(frequencies=((1, 65535, 0), (2, 65001, 533))),
        digest(frequencies=((1, 65535), (1, 65535))),
    ]
    assert digest() == digest() and len({digest(), *others}) == 5


def test_bits_by_hand():
    tables = Tables(
        np.array([[32768, 16384, 16384], [1, 65535, 0]], dtype=np.uint16),
        np.array([5, 0], dtype=np.int32),
    )
    escaping = Tables(tables.frequencies, tables.lows, escape=True)
    symbols, indices = np.array([5, 6, 7, 0]), np.array([0, 0, 0, 1])
    assert tables.bits(symbols, indices) == 1 + 2 + 2 + 16
    assert escaping.bits(symbols, indices) == 1 + 2 + (2 + 32) + 16
    assert escaping.bits(np.array([-9, 1]), np.array([0, 1])) == pytest.approx(
        2 + 32 + 32, abs=1e-4
    )
    assert tables.sizes.tolist() == [3, 2]
