import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import Tensor

from quadrate.bottlenecks import counted_entropy
from quadrate.bottlenecks.counted_entropy import EntropyEstimate
from quadrate.errors import QuadrateError
from quadrate.evaluation.conditional_entropy import (
    MAX_MODEL_DIMS,
    _learned,
    _SymbolModel,
    conditional_entropy_bits,
)

HELD_OUT = torch.zeros(2, 1)  # where only the counts matter


def normal_quantiles(samples: int) -> Tensor:
    """Latents of an encoder that puts tanh of a standard normal out, without sampling noise.

    (N, 1).
    """
    return torch.tanh(torch.special.ndtri((torch.arange(samples) + 0.5) / samples))[:, None]


def uniform_quantiles(samples: int) -> Tensor:
    return ((torch.arange(samples) + 0.5) / samples * 2 - 1)[:, None]


def channel_information_bits(cdf: np.ufunc, levels: int) -> float:
    """I(f; f + e) = h(f + e) - log2(step) by numerical integration, e uniform on a cell.

    What H(Z|U) must be, by another road.
    """
    step = 2 / (levels - 1)
    y = np.linspace(-1 - step / 2, 1 + step / 2, 200_001)
    with np.errstate(divide="ignore"):
        density = (cdf(np.clip(y + step / 2, -1, 1)) - cdf(np.clip(y - step / 2, -1, 1))) / step
    integrand = -np.where(density > 0, density * np.log2(np.maximum(density, 1e-300)), 0)
    return float(np.trapezoid(integrand, y) - math.log2(step))


def correlated_latents(samples: int, dims: int, seed: int, correlation: float = 0.9) -> Tensor:
    normal = torch.randn(samples, dims, generator=torch.Generator().manual_seed(seed))
    for i in range(1, dims):
        normal[:, i] = correlation * normal[:, i - 1] + math.sqrt(1 - correlation**2) * normal[:, i]
    return torch.tanh(normal)


def lattice_latents(samples: int, levels: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [
            torch.randint(count, (samples,), generator=generator) * (2 / (count - 1)) - 1
            for count in levels
        ],
        dim=1,
    ).clamp(-1, 1)


# --- counting


@pytest.mark.parametrize(("levels", "expected_bits"), [(3, 1.4226), (4, 1.8731), (8, 2.9193)])
def test_tanh_normal_latents_match_the_theory(levels: int, expected_bits: float) -> None:
    estimate = conditional_entropy_bits(normal_quantiles(20_000), HELD_OUT, (levels,))
    exact = channel_information_bits(lambda t: ndtr(np.arctanh(t)), levels)
    assert exact == pytest.approx(expected_bits, abs=1e-4)
    assert estimate.method == "miller-madow"
    assert not estimate.is_upper_bound
    assert estimate.bits == pytest.approx(exact, abs=3e-3)
    assert 0 < estimate.stderr < 2e-3
    assert abs(estimate.bits - exact) < 5 * estimate.stderr


def test_the_dither_lowers_the_entropy_of_the_code() -> None:
    latents = normal_quantiles(20_000)
    undithered = torch.bincount(torch.round(latents[:, 0] + 1).long()) / len(latents)
    undithered_bits = -(undithered * undithered.log2()).sum().item()
    assert undithered_bits == pytest.approx(1.563, abs=1e-3)
    assert conditional_entropy_bits(latents, HELD_OUT, (3,)).bits < undithered_bits - 0.1


@pytest.mark.parametrize("levels", [2, 5, 16])
def test_uniform_latents_match_the_theory(levels: int) -> None:
    exact = channel_information_bits(lambda t: (t + 1) / 2, levels)
    assert conditional_entropy_bits(
        uniform_quantiles(20_000), HELD_OUT, (levels,)
    ).bits == pytest.approx(exact, abs=3e-3)


def test_latents_on_the_lattice_keep_their_discrete_entropy() -> None:
    symbols = torch.tensor([0] * 4000 + [1] * 2000 + [2] * 1000 + [3] * 1000)  # 1.75 bits
    latents = (symbols * (2 / 3) - 1).clamp(-1, 1)[:, None]
    estimate = conditional_entropy_bits(latents, HELD_OUT, (4,))
    assert estimate.bits == pytest.approx(
        1.75 + 3 / (2 * 8000 * math.log(2)), abs=1e-9
    )  # the correction for 4 occupied cells
    assert estimate.stderr == pytest.approx(0, abs=1e-9)


def test_the_correction_undoes_the_bias_of_small_samples() -> None:
    latents = lattice_latents(1000, (5, 5, 8), seed=1)  # 5 samples a cell
    plug_in = torch.unique(latents, dim=0, return_counts=True)[1] / len(latents)
    plug_in_bits = -(plug_in * plug_in.log2()).sum().item()
    bound_bits = math.log2(200)
    bits = conditional_entropy_bits(latents, latents, (5, 5, 8)).bits
    assert plug_in_bits < bound_bits - 0.1
    assert bound_bits - 0.03 < bits <= bound_bits


def test_the_estimate_never_exceeds_the_bound() -> None:
    latents = torch.tensor([-1.0, 0.0, 1.0]).repeat(20)[
        :, None
    ]  # exactly uniform: the correction alone would exceed log2 3
    assert conditional_entropy_bits(latents, HELD_OUT, (3,)).bits == math.log2(3)


def test_independent_dimensions_add() -> None:
    first, second = normal_quantiles(50_000), uniform_quantiles(50_000)
    shuffled = second[torch.randperm(50_000, generator=torch.Generator().manual_seed(0))]
    joint = conditional_entropy_bits(
        torch.cat([first, shuffled], 1), torch.zeros(2, 2), (3, 6)
    ).bits
    parts = (
        conditional_entropy_bits(first, HELD_OUT, (3,)).bits
        + conditional_entropy_bits(second, HELD_OUT, (6,)).bits
    )
    assert joint == pytest.approx(parts, abs=3e-3)


def test_each_dimension_has_its_own_dither() -> None:
    # Two levels: each dither cuts [-1, 1] at a uniform place. Which of the 2 (3) pieces a uniform
    # latent is in costs 1/2 (5/6) nats on average.
    latents = uniform_quantiles(20_000)
    once = conditional_entropy_bits(latents, HELD_OUT, (2,))
    twice = conditional_entropy_bits(latents.expand(-1, 2), torch.zeros(2, 2), (2, 2))
    assert once.bits * math.log(2) == pytest.approx(1 / 2, abs=3e-3)
    assert twice.bits * math.log(2) == pytest.approx(5 / 6, abs=2e-2)
    assert abs(twice.bits * math.log(2) - 5 / 6) < 4 * twice.stderr


def test_a_constant_code_costs_nothing() -> None:
    assert conditional_entropy_bits(
        -torch.ones(100, 2), -torch.ones(2, 2), (4, 4)
    ).bits == pytest.approx(0, abs=1e-9)


def test_the_standard_error_is_that_of_the_dithers() -> None:
    latents = correlated_latents(4000, 2, seed=0)
    estimates = [
        conditional_entropy_bits(latents, latents, (3, 3), seed=seed) for seed in range(20)
    ]
    spread = float(np.std([e.bits for e in estimates], ddof=1))
    assert np.mean([e.stderr for e in estimates]) == pytest.approx(spread, rel=0.6)


def test_a_dither_at_the_end_of_the_cell_stays_in_the_alphabet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    almost_one = float(np.nextafter(np.float32(1), np.float32(0)))  # 3 + this rounds to 4
    monkeypatch.setattr(
        counted_entropy,
        "_stratified_dithers",
        lambda dithers, dims, rng: torch.full((dithers, dims), almost_one),
    )
    assert conditional_entropy_bits(torch.ones(100, 2), torch.ones(2, 2), (4, 4)).bits == 0


# --- learning


def test_the_model_starts_from_uniform_symbols_of_each_dimension() -> None:
    model = _SymbolModel((3, 7), np.random.default_rng(0), torch.device("cpu"))
    with torch.no_grad():
        bits = model.bits(
            correlated_latents(50, 2, seed=0),
            torch.rand(50, 2, generator=torch.Generator().manual_seed(0)),
        )
    assert torch.allclose(bits, torch.full((50,), math.log2(21)))


def test_the_model_generalizes_from_few_latents() -> None:
    train = correlated_latents(300, 4, seed=1, correlation=0)
    held_out = correlated_latents(4000, 4, seed=2, correlation=0)
    estimate = conditional_entropy_bits(train, held_out, (8,) * 4, steps=200)
    assert (
        4 * 2.9193 < estimate.bits < 4 * 2.9193 + 0.15
    )  # a model that learns the 300 by heart is worse than the bound, 12


def test_the_standard_error_of_the_learned_bound_is_that_of_the_held_out_latents() -> None:
    train, held_out = correlated_latents(2000, 2, seed=1), correlated_latents(4800, 2, seed=2)
    estimates = [
        _learned(train, part, (4, 4), 20, np.random.default_rng(0)) for part in held_out.split(300)
    ]
    spread = float(np.std([e.bits for e in estimates], ddof=1))
    assert np.mean([e.stderr for e in estimates]) == pytest.approx(spread, rel=0.6)


def test_long_codes_do_not_saturate_at_the_sample_count() -> None:
    levels = (8,) * 10
    estimate = conditional_entropy_bits(
        lattice_latents(2000, levels, seed=1),
        lattice_latents(2000, levels, seed=2),
        levels,
        steps=200,
    )
    assert estimate.method == "autoregressive-upper-bound"
    assert estimate.is_upper_bound
    assert 29.8 < estimate.bits <= 30


def test_few_samples_a_cell_are_not_counted() -> None:
    levels = (8, 8, 8)  # small enough to count, but 1000 samples of 9 bits would count to 8.7
    estimate = conditional_entropy_bits(
        lattice_latents(1000, levels, seed=1),
        lattice_latents(1000, levels, seed=2),
        levels,
        steps=200,
    )
    assert estimate.is_upper_bound
    assert 8.95 < estimate.bits <= 9


def test_the_learned_bound_is_close_to_the_count_and_finds_dependence() -> None:
    levels = (3, 5, 4)
    train, held_out = correlated_latents(20_000, 3, seed=1), correlated_latents(20_000, 3, seed=2)
    counted = conditional_entropy_bits(held_out, held_out, levels)
    learned = _learned(train, held_out, levels, 600, np.random.default_rng(0))
    marginal_bits = sum(
        conditional_entropy_bits(held_out[:, i : i + 1], HELD_OUT, levels[i : i + 1]).bits
        for i in range(3)
    )
    assert counted.method == "miller-madow"
    assert counted.bits - 2 * learned.stderr < learned.bits < counted.bits + 0.08
    assert learned.bits < marginal_bits - 1


def test_the_learned_bound_uses_the_dither() -> None:
    latents = normal_quantiles(4000)
    estimate = _learned(latents, latents, (3,), 400, np.random.default_rng(0))
    assert 1.41 < estimate.bits < 1.45  # 1.423 given the dither, 1.58 if the model ignored it


def test_very_large_alphabets_do_not_overflow() -> None:
    levels = (100,) * 12  # 100^12 is beyond 64 bits
    train = torch.zeros(100, 12)
    estimate = conditional_entropy_bits(train, train, levels, steps=40)
    assert estimate.is_upper_bound
    assert (
        0 < estimate.bits < 12 * math.log2(100) / 2
    )  # constant latents: the code costs nothing, and the model is on its way there


def test_a_model_that_fails_to_generalize_falls_back_to_the_bound() -> None:
    train = -torch.ones(500, 8)
    estimate = conditional_entropy_bits(train, -train, (8,) * 8, steps=50)
    assert estimate.bits == 24


# --- both


def test_the_bound_of_long_codes_is_the_sum_of_its_dimensions() -> None:
    dims = MAX_MODEL_DIMS + 2
    latents = torch.tanh(torch.randn(24_000, dims, generator=torch.Generator().manual_seed(5)) / 2)
    estimate = conditional_entropy_bits(latents[:20_000], latents[20_000:], (4,) * dims)
    one = conditional_entropy_bits(latents[:20_000, :1], latents[20_000:, :1], (4,))
    assert estimate.method == "marginal-upper-bound" and estimate.is_upper_bound
    assert estimate.bits / dims == pytest.approx(one.bits, abs=0.01)
    assert 0 < estimate.stderr < 0.002 * estimate.bits


def test_the_standard_error_of_the_bound_of_long_codes_is_that_of_its_dithers_too() -> None:
    """Two values, and levels between which the dither decides.

    What a dimension costs depends on the dither, from 0 to 1 bit, .4 in the mean.
    """
    dims = 200
    latents = 0.4 * (
        2.0 * torch.randint(0, 2, (3000, dims), generator=torch.Generator().manual_seed(7)) - 1
    )
    estimates = [
        conditional_entropy_bits(latents[:2500], latents[2500:], (2,) * dims, seed=seed)
        for seed in range(12)
    ]
    errors = np.array([estimate.bits for estimate in estimates]) - 0.4 * dims
    assert abs(errors.mean()) < 1.0 and errors.std() < 2.0
    assert np.mean([estimate.stderr for estimate in estimates]) == pytest.approx(
        errors.std(), rel=0.6
    )


def test_the_bound_of_long_codes_does_not_fall_below_the_truth_however_few_the_samples() -> None:
    """Uniform latents on fine levels.

    Frequencies of 60 samples would give 6 bits a dimension, and the truth is close to the 10 of the
    bound.
    """
    dims, levels = MAX_MODEL_DIMS + 1, 1024
    latents = 2 * torch.rand(80, dims, generator=torch.Generator().manual_seed(6)) - 1
    assert (
        9.9 * dims
        < conditional_entropy_bits(latents[:60], latents[60:], (levels,) * dims).bits
        <= 10 * dims
    )


def test_the_bound_of_long_codes_uses_the_dither_and_each_dimensions_levels() -> None:
    """A constant between two levels.

    Which one is sent the dither decides, so nothing is left to code, whatever the levels.
    """
    dims = MAX_MODEL_DIMS + 1
    constant = torch.full((2000, dims), 0.1)
    levels = tuple(3 + i % 5 for i in range(dims))
    assert conditional_entropy_bits(constant[:1800], constant[1800:], levels).bits < 0.01 * dims


@pytest.mark.parametrize("levels", [(3, 3), (8,) * 5, (4,) * 130])
def test_results_depend_on_the_arguments_only(levels: tuple[int, ...]) -> None:
    latents = correlated_latents(500, len(levels), seed=0)

    def estimate(seed: int) -> EntropyEstimate:
        return conditional_entropy_bits(latents, latents, levels, seed=seed, steps=5)

    state = torch.get_rng_state()
    first = estimate(0)
    torch.rand(3)
    np.random.default_rng(1).random()
    assert estimate(0) == first
    assert estimate(1) != first
    with torch.inference_mode():
        assert estimate(0) == first
    with torch.no_grad():
        assert estimate(0) == first
    torch.set_rng_state(state)
    estimate(2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("train", "held_out", "levels", "dithers", "message"),
    [
        (
            torch.zeros(9),
            torch.zeros(9, 1),
            (3,),
            256,
            r"training latents have shape \(9,\); levels \(3,\) ask for \(samples, 1\)",
        ),
        (
            torch.zeros(9, 2),
            torch.zeros(9, 3),
            (3, 3),
            256,
            r"held-out latents have shape \(9, 3\); levels \(3, 3\) ask for \(samples, 2\)",
        ),
        (torch.zeros(0, 1), torch.zeros(9, 1), (3,), 256, "at least 2 training latents, got 0"),
        (torch.zeros(9, 1), torch.zeros(0, 1), (3,), 256, "at least 2 held-out latents, got 0"),
        (
            torch.full((9, 1), 1.01),
            torch.zeros(9, 1),
            (3,),
            256,
            r"training latents leave \[-1, 1\]",
        ),
        (
            torch.zeros(9, 1),
            torch.full((9, 1), math.nan),
            (3,),
            256,
            r"held-out latents leave \[-1, 1\] or are not finite",
        ),
        (torch.zeros(9, 2), torch.zeros(9, 2), (3, 1), 256, "at least 2 levels"),
        (torch.zeros(9, 0), torch.zeros(9, 0), (), 256, "at least 2 levels"),
        (
            torch.zeros(9, 1),
            torch.zeros(9, 1),
            (3,),
            8,
            "dithers must be a multiple of 8 and at least 16, got 8",
        ),
        (
            torch.zeros(9, 1),
            torch.zeros(9, 1),
            (3,),
            100,
            "dithers must be a multiple of 8 and at least 16, got 100",
        ),
    ],
)
def test_wrong_arguments_give_one_clear_line(
    train: Tensor, held_out: Tensor, levels: tuple[int, ...], dithers: int, message: str
) -> None:
    with pytest.raises(QuadrateError, match=message) as failure:
        conditional_entropy_bits(train, held_out, levels, dithers=dithers)
    assert "\n" not in str(failure.value)
