"""The dither: its words, and what their grid does to the law of the error."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quadrate.bottlenecks.contexts import DITHER_BITS
from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.coding.symbols import dither_noise
from quadrate.core import draws
from test_codec import make

GRID = 1 << DITHER_BITS
many = settings(max_examples=60, deadline=None, derandomize=True)


# --- the words ---


def philox(key: int, block: int) -> list[int]:
    """Philox4x64-10 (Salmon et al. 2011) in Python's integers.

    The four words of a counter (block, 0, 0, 0) under a key (key, 0).
    """
    mask = (1 << 64) - 1
    x, k = [block, 0, 0, 0], [key, 0]
    for _ in range(10):
        a, b = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
        x = [b >> 64 ^ x[1] ^ k[0], b & mask, a >> 64 ^ x[3] ^ k[1], a & mask]
        k = [k[0] + 0x9E3779B97F4A7C15 & mask, k[1] + 0xBB67AE8584CAA73B & mask]
    return x


def test_the_generator_is_philox_with_the_counter_from_one_on():
    key = draws.key("dither", 0, 0)
    words = [word >> 40 for block in (1, 2, 3) for word in philox(key, block)]
    assert draws.words("dither", 0, 0, count=12).tolist() == words


VECTORS = [  # seed, dimension, key, words by the number of the first
    (
        0,
        0,
        0x7490439BB12554B1,
        {
            0: [3235829, 7791903, 8809695],
            1: [7791903, 8809695, 2493422],
            4095: [11955701, 8371600, 4424157],
            1000002: [10326079, 11795634, 16624358],
        },
    ),
    (
        0,
        1,
        0x59E1F035BF0ABC2D,
        {
            0: [934941, 5317028, 4846280],
            1: [5317028, 4846280, 1116170],
            4095: [164674, 3230754, 14925612],
            1000002: [15311254, 11120373, 6724359],
        },
    ),
    (
        7,
        3,
        0xE5ABDE9CE4519721,
        {
            0: [9233185, 234456, 16612222],
            1: [234456, 16612222, 15065193],
            4095: [8458969, 13274046, 1456614],
            1000002: [5375286, 13675785, 14012768],
        },
    ),
    (
        18446744073709551615,
        0,
        0x9DAA6BFB1D265FD9,
        {
            0: [6087402, 12157986, 13511863],
            1: [12157986, 13511863, 6340316],
            4095: [11975427, 7282731, 8792207],
            1000002: [3438768, 12577670, 1412404],
        },
    ),
]


@pytest.mark.parametrize(("seed", "dimension", "key", "words"), VECTORS)
def test_the_words_are_what_they_were(seed, dimension, key, words):
    assert draws.key("dither", seed, dimension) == key
    codec = make(((3, 4), (3, 3)))
    for first, expected in words.items():
        assert draws.words("dither", seed, dimension, count=3, first=first).tolist() == expected
        assert codec.dither_words(3, seed, first)[:, dimension].tolist() == expected


@many
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 30), st.integers(0, 20))
def test_a_word_depends_on_its_number_alone(seed, first, count, later):
    words = draws.words("dither", seed, 1, count=count + later, first=first)
    assert (
        draws.words("dither", seed, 1, count=count, first=first + later).tolist()
        == words[later:].tolist()
    )
    assert words.min() >= 0 and words.max() < GRID


def test_a_codecs_dither_is_its_words_on_a_cell():
    codec = make(((3, 4), (2, 17, 255)))
    words = codec.dither_words(4000, 5, 70)
    noise = torch.from_numpy(dither_noise(words))
    assert torch.round((noise.double() + 0.5) * GRID).long().tolist() == words.tolist()
    step = 2 / (torch.tensor(codec.levels) - 1)
    received = codec.dequantize(torch.zeros(4000, 5, dtype=torch.int64), 5, 70)
    assert torch.allclose(received, -1 - noise * step, atol=1e-6)


# --- what the grid does ---
# In cells: a latent at p, a word k of N, the symbol z = floor(p + k/N), the received value z + 1/2
# - k/N, the error e = received - p.


@many
@given(st.sampled_from([1, 2, 16, 64]), st.fractions(0, 3, max_denominator=5000))
def test_on_any_grid_the_error_is_uniform_on_points_a_step_apart(steps, position):
    errors = sorted(
        math.floor(position + Fraction(k, steps)) + Fraction(1, 2) - Fraction(k, steps) - position
        for k in range(steps)
    )
    offset = position * steps % 1  # where the latent lies between two points of the grid
    assert errors == [Fraction(1, 2) - (j + offset) / steps for j in reversed(range(steps))]
    mean = sum(errors) / steps
    assert mean == (Fraction(1, 2) - offset) / steps  # at most half a step
    assert sum(e * e for e in errors) / steps - mean**2 == (1 - Fraction(1, steps**2)) / 12
    squared = Fraction(0)  # W2² to the uniform law on a cell, whose quantile function is q - 1/2
    for j, error in enumerate(errors):
        low, high = (Fraction(j + end, steps) - Fraction(1, 2) - error for end in (0, 1))
        squared += (high**3 - low**3) / 3
    assert (
        squared
        == (Fraction(1, 12) + (Fraction(1, 2) - offset) ** 2) / steps**2
        <= Fraction(1, 3 * steps**2)
    )


FINER = 16  # bits of a latent's place between two points of the grid


@pytest.mark.parametrize("position", [1, 0x9E3779B97F, 2 << 40], ids=hex)
def test_on_the_grid_of_the_format_too(position):
    """Whole numbers of 2^-40 cell.

    All 2^24 errors are there, and the offset is all that the latent decides.
    """
    words = np.arange(GRID, dtype=np.int64) << FINER
    bits = DITHER_BITS + FINER
    errors = (position + words >> bits << bits) + (1 << bits - 1) - words - position
    least = (1 << bits - 1) - (GRID - 1 << FINER) - position % (1 << FINER)
    places, remainders = np.divmod(errors - least, 1 << FINER)
    assert not remainders.any() and (np.bincount(places, minlength=GRID) == 1).all()
    assert abs(int(errors.sum())) <= GRID << FINER - 1  # the mean: at most half a step


@pytest.mark.parametrize(("levels", "latent"), [(3, 0.123456), (4, -1.0), (4, 1.0), (17, 0.7)])
def test_the_quantizer_in_float32_stays_within_its_own_rounding_of_that(levels, latent):
    quantizer = DitheredQuantizer((levels,))
    total = squares = 0.0
    counts = torch.zeros(256)
    for words in torch.arange(GRID).split(1 << 20):
        noise = (words.float() / GRID)[:, None] - 0.5
        received = quantizer.dequantize(quantizer.quantize(torch.tensor(latent), noise), noise)
        errors = ((received.double() - float(np.float32(latent))) * (levels - 1) / 2)[:, 0]
        total, squares = total + float(errors.sum()), squares + float((errors**2).sum())
        counts += torch.histc(errors, 256, -0.5, 0.5).float()
    rounding = levels * 2.0**-22
    assert abs(total / GRID) < rounding
    assert abs(squares / GRID - 1 / 12) < rounding
    assert (counts / GRID * 256 - 1).abs().max() < 256 * rounding
