"""The dithered quantizer, and the draws that its dither is made of."""

import math

import pytest
import torch
from torch import Tensor

from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.core import draws
from quadrate.errors import QuadrateError

LEVELS = [(2,), (3,), (4,), (8,), (2, 3, 5)]
SAMPLES = 20_000


def received(quantizer: DitheredQuantizer, latent: Tensor, *key: object) -> Tensor:
    noise = draws.uniform("test", *key, shape=tuple(latent.shape)) - 0.5
    return quantizer.dequantize(quantizer.quantize(latent, noise), noise)


def distance_from_uniform(x: Tensor) -> float:
    """The Kolmogorov-Smirnov statistic of numbers in [0, 1] against the uniform law.

    Above 2.5/√n once in a hundred thousand.
    """
    x, n = x.double().sort().values, len(x)
    grid = torch.arange(n, dtype=torch.double) / n
    return float(torch.maximum(x - grid, grid + 1 / n - x).max())


# --- the quantizer ---


@pytest.mark.parametrize("levels", LEVELS)
def test_the_error_is_uniform_on_a_cell_whatever_the_latent(levels):
    """Zhang et al. 2021.

    No overload, the ends of the interval included, so training may add the dither and leave the
    quantizer out.
    """
    quantizer = DitheredQuantizer(levels)
    middles = [
        -1 + (2 * k + 1) / (level - 1) for level in levels for k in range(level - 1)
    ]  # where two cells meet
    for value in (-1.0, -0.999, -0.3, 0.0, 0.123, 0.77, 1.0, *middles):
        latent = torch.full((SAMPLES, len(levels)), value)
        error = (received(quantizer, latent, levels, value) - latent) / quantizer.step + 0.5
        assert -1e-5 < error.min() and error.max() < 1 + 1e-5
        for column in error.T:
            assert distance_from_uniform(column) < 2.5 / math.sqrt(SAMPLES), value


@pytest.mark.parametrize("levels", LEVELS)
def test_adding_the_dither_gives_the_distribution_of_what_is_received(levels):
    quantizer = DitheredQuantizer(levels)
    latent = torch.tanh(
        torch.randn(SAMPLES, len(levels), generator=draws.generator("latent", levels))
    )
    hard = received(quantizer, latent, "hard")
    noise = draws.uniform("test", "added", shape=tuple(latent.shape)) - 0.5
    added, nats = quantizer(latent, noise)
    assert nats is None
    for x, y in zip(hard.T, added.T, strict=True):  # two-sample Kolmogorov-Smirnov
        both = torch.cat([x, y]).sort().values
        gap = torch.searchsorted(x.sort().values, both, right=True) - torch.searchsorted(
            y.sort().values, both, right=True
        )
        assert gap.abs().max() / SAMPLES < 2.5 * math.sqrt(2 / SAMPLES)
    # Independent of the latent: neither the error nor its square goes with it.
    for error in (hard - latent, added - latent):
        for moment in (error, error.square()):
            together = torch.corrcoef(torch.cat([latent, moment], dim=1).T)[
                : len(levels), len(levels) :
            ]
            assert together.abs().max() < 4 / math.sqrt(SAMPLES)


@pytest.mark.parametrize("levels", LEVELS)
def test_symbols_are_in_range_and_all_are_used(levels):
    quantizer = DitheredQuantizer(levels)
    # The smallest and the largest dither there are.
    ends = torch.tensor([[-0.5], [0.5 - 2**-24]]).expand(2, len(levels))
    for value in (-1.0, 1.0):
        symbols = quantizer.quantize(torch.full((2, len(levels)), value), ends)
        assert (
            symbols.dtype == torch.int64
            and (symbols >= 0).all()
            and (symbols <= quantizer.top).all()
        )
        error = quantizer.dequantize(symbols, ends) - value
        assert (error.abs() <= quantizer.step / 2 + 1e-6).all()
    latent = torch.rand(2000, len(levels), generator=draws.generator("all symbols")) * 2 - 1
    symbols = quantizer.quantize(latent, draws.uniform("all", shape=(2000, len(levels))) - 0.5)
    for i, level in enumerate(levels):
        assert symbols[:, i].unique().tolist() == list(range(level))


def test_a_latent_outside_the_interval_still_gives_a_symbol():
    quantizer = DitheredQuantizer((3, 4))
    assert quantizer.quantize(
        torch.tensor([[-9.0, -9.0], [9.0, 9.0]]), torch.zeros(2, 2)
    ).tolist() == [[0, 0], [2, 3]]


def test_centres_are_the_published_ones_and_the_dither_is_a_whole_cell():
    quantizer = DitheredQuantizer((3, 5))
    symbols = torch.tensor([[0, 0], [1, 1], [2, 2], [2, 4]])
    centres = quantizer.dequantize(symbols, torch.zeros(4, 2))
    assert centres.tolist() == [[-1.0, -1.0], [0.0, -0.5], [1.0, 0.0], [1.0, 1.0]]
    noise = torch.tensor([[-0.5, -0.5], [0.0, 0.0], [0.5, 0.5]])
    assert quantizer(torch.zeros(3, 2), noise)[0].tolist() == [[-0.5, -0.25], [0, 0], [0.5, 0.25]]
    assert torch.equal(quantizer.quantize(centres, torch.zeros(4, 2)), symbols)


def test_the_gradient_of_adding_the_dither_is_the_identity():
    quantizer = DitheredQuantizer((3, 4))
    latent = torch.linspace(-1, 1, 20).view(10, 2).requires_grad_()
    weights = torch.arange(20.0).view(10, 2)
    (quantizer(latent, torch.rand(10, 2) - 0.5)[0] * weights).sum().backward()
    assert torch.equal(latent.grad, weights)


def soft_value(x: Tensor, level: int, sharpness: float) -> Tensor:
    """The published soft quantizer, Σ c·softmax(-σ|x - c|), in double precision."""
    centres = torch.linspace(-1, 1, level, dtype=torch.double)
    return (torch.softmax(-sharpness * (x[:, None] - centres).abs(), dim=1) * centres).sum(1)


@pytest.mark.parametrize(("level", "sharpness"), [(3, 1.0), (4, 1.0), (8, 0.25)])
def test_the_papers_surrogate_is_hard_forward_and_soft_backward(level, sharpness):
    quantizer = DitheredQuantizer((level,))
    latent = (torch.arange(61) / 30 - 1).clamp(
        -1, 1
    ) * 0.9999  # off the centres, where the derivative jumps
    noise = draws.uniform("soft", level, shape=(61,)) - 0.5
    x = (latent + noise * quantizer.step).double()
    latent = latent[:, None].requires_grad_()
    output = quantizer.soft(latent, noise[:, None], sharpness)
    hard = quantizer.dequantize(quantizer.quantize(latent, noise[:, None]), noise[:, None])
    torch.testing.assert_close(output, hard, rtol=0, atol=1e-6)

    output.sum().backward()
    h = 1e-6
    by_differences = (soft_value(x + h, level, sharpness) - soft_value(x - h, level, sharpness)) / (
        2 * h
    )
    torch.testing.assert_close(latent.grad[:, 0].double(), by_differences, rtol=1e-4, atol=1e-5)

    centres = torch.linspace(-1, 1, level, dtype=torch.double)
    p = torch.softmax(-sharpness * (x[:, None] - centres).abs(), dim=1)
    sign = (x[:, None] - centres).sign()
    covariance = (p * centres * sign).sum(1) - (p * centres).sum(1) * (p * sign).sum(1)
    torch.testing.assert_close(
        latent.grad[:, 0].double(), -sharpness * covariance, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("level", "sharpness", "lowest", "highest"),
    [(3, 1.0, 0.28, 0.63), (4, 1.0, 0.26, 0.56), (8, 0.25, 0.035, 0.137)],
)
def test_the_papers_surrogate_has_the_gradients_measured_on_their_code(
    level, sharpness, lowest, highest
):
    latent = torch.linspace(-1, 1, 2001)[:, None].requires_grad_()
    DitheredQuantizer((level,)).soft(latent, torch.zeros(2001, 1), sharpness).sum().backward()
    assert [float(latent.grad.min()), float(latent.grad.max())] == pytest.approx(
        [lowest, highest], rel=0.02
    )


@pytest.mark.parametrize("levels", [(), (1,), (3, 0)])
def test_a_quantizer_needs_two_levels_in_each_of_some_dimensions(levels):
    with pytest.raises(
        QuadrateError, match=r"at least one dimension and at least 2 levels in each; got levels=\("
    ):
        DitheredQuantizer(levels)


# --- the draws ---


def test_the_same_key_gives_the_same_numbers_and_any_other_gives_others():
    keys = [
        (0, "a", "dither", 1),
        (0, "a", "dither", 2),
        (0, "a", "order", 1),
        (0, "b", "dither", 1),
        (1, "a", "dither", 1),
        (0, "a", "dither", 11),
    ]
    for draw in (
        lambda key: draws.uniform(*key, shape=(50,)),
        lambda key: draws.permutation(*key, n=50),
        lambda key: torch.randn(50, generator=draws.generator(*key)),
    ):
        numbers = [draw(key) for key in keys]
        assert all(torch.equal(draw(key), x) for key, x in zip(keys, numbers, strict=True))
        assert not any(
            torch.equal(numbers[i], numbers[j]) for i in range(len(keys)) for j in range(i)
        )
    assert draws.key(1, 23) != draws.key(12, 3)  # parts do not run together


def test_draws_neither_read_nor_move_the_global_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    x = (
        draws.uniform("k", shape=(5,)),
        draws.permutation("k", n=5),
        torch.rand(5, generator=draws.generator("k")),
    )
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    y = (
        draws.uniform("k", shape=(5,)),
        draws.permutation("k", n=5),
        torch.rand(5, generator=draws.generator("k")),
    )
    assert all(torch.equal(a, b) for a, b in zip(x, y, strict=True))


def test_uniform_numbers_are_uniform_float32_below_1():
    x = draws.uniform("many", shape=(100, 1000))
    assert x.shape == (100, 1000) and x.dtype == torch.float32 and x.min() >= 0 and x.max() < 1
    assert distance_from_uniform(x.flatten()) < 2.5 / math.sqrt(100_000)
    neighbours = torch.corrcoef(torch.stack([x.flatten()[1:], x.flatten()[:-1]]))[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(100_000)
    assert torch.equal(
        draws.uniform("many", shape=(7,)), x.flatten()[:7]
    )  # a counter generator: more numbers, the same first ones


def test_a_permutation_is_one_and_each_place_is_equally_likely():
    assert draws.permutation("p", n=1000).sort().values.tolist() == list(range(1000))
    firsts = torch.stack([draws.permutation("p", i, n=5) for i in range(2000)])
    for place in range(5):
        counts = torch.bincount(firsts[:, place], minlength=5).double()
        assert (
            float(((counts - 400) ** 2 / 400).sum()) < 18.5
        )  # chi-squared, 4 degrees of freedom, once in a thousand


def test_the_numbers_are_those_that_results_were_published_with():
    """A change here changes every result, and breaks streams that were written with a dither."""
    assert draws.key(7, "3x3_d1_p0_c0_s7", "dither", 0) == 8438604974353381913
    assert draws.uniform(7, "point", "dither", 0, shape=(4,)).tolist() == [
        0.05093097686767578,
        0.8868577480316162,
        0.25180715322494507,
        0.3554094433784485,
    ]
    assert draws.permutation(7, "point", "order", 0, n=8).tolist() == [2, 3, 7, 6, 1, 5, 4, 0]
    assert (
        draws.generator(7, "point", "noise", 0).initial_seed()
        == draws.key(7, "point", "noise", 0) >> 1
    )
