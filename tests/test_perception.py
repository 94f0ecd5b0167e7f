"""Distances between distributions of images: by hand, on shifts, and on point masses."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from quadrate.evaluation import (
    fresh_critic_w1,
    kid,
    legacy_w1,
    sliced_w2sq,
)
from quadrate.evaluation.certified import certified_w1
from quadrate.evaluation.distortion_scores import distortion_mse, psnr_db
from quadrate.evaluation.perception_scores import (
    crossed_kid,
    crossed_sliced_w2sq,
    frechet,
    random_directions,
)

CRITIC = {
    "steps": 150,
    "batch": 64,
    "learning_rate": 5e-3,
    "penalty": 10.0,
    "widths": (64, 32),
    "seed": 0,
}


# Distortion


def test_distortion_is_per_pixel_with_an_error_over_images():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    reconstructions = torch.tensor([0.1, 0.1, 0.3, 0.3]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    value, stderr = distortion_mse(images, reconstructions, batch=3)
    assert value == pytest.approx(0.05) and stderr == pytest.approx(
        np.std([0.01, 0.01, 0.09, 0.09], ddof=1) / 2
    )
    assert psnr_db(0.01) == pytest.approx(20) and psnr_db(0) == math.inf


# Sliced W2²


def test_sliced_w2sq_of_a_shift_is_the_mean_squared_projection_of_it():
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(200, 12, generator=draw)
    shift = torch.rand(12, generator=draw)
    directions = random_directions(70, 12, draw)
    assert directions.norm(dim=1) == pytest.approx(np.ones(70), abs=1e-6)
    shuffled = (real + shift)[torch.randperm(200, generator=draw)]
    value, _, _ = sliced_w2sq(real, shuffled, directions)
    assert value == pytest.approx((directions @ shift).square().mean().item(), rel=1e-5)


def test_sliced_w2sq_and_its_potentials_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0]])
    fake = torch.tensor([[2.5], [0.5], [4.0]])
    direction = torch.ones(1, 1)
    value, potential_real, potential_fake = sliced_w2sq(
        real, fake, direction
    )  # 0, 1, 3 against .5, 2.5, 4
    assert value == pytest.approx((0.5**2 + 1.5**2 + 1) / 3)
    assert potential_real.tolist() == pytest.approx(
        [3, 1, -4]
    )  # steps of (-.5 - 1.5)·1 and (-1.5 - 1)·2
    assert potential_fake.tolist() == pytest.approx(
        [4 - 11.75 / 3, -11.75 / 3, 7.75 - 11.75 / 3]
    )  # steps of (.5 + 1.5)·2 and (1.5 + 1)·1.5


def test_crossing_holds_pictures_of_one_half_against_reconstructions_of_the_other():
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(20, 4, generator=draw)
    fake = torch.rand(20, 4, generator=draw)
    directions = random_directions(8, 4, draw)
    one = sliced_w2sq(real[:10], fake[10:], directions)[0]
    other = sliced_w2sq(real[10:], fake[:10], directions)[0]
    assert crossed_sliced_w2sq(real, fake, directions).value == pytest.approx((one + other) / 2)
    features = fake.view(2, 2, 5, 4)
    one = kid(real.view(2, 2, 5, 4)[0], features[1])
    other = kid(real.view(2, 2, 5, 4)[1], features[0])
    assert crossed_kid(real, fake, blocks=2).value == pytest.approx(
        ((one + other) / 2).mean().item()
    )


def test_the_standard_error_of_crossed_sliced_w2sq_is_its_spread_over_test_sets():
    draw = torch.Generator().manual_seed(1)
    directions = random_directions(8, 4, draw)
    values, errors = [], []
    for _ in range(150):
        real = torch.randn(200, 4, generator=draw)
        value, stderr = crossed_sliced_w2sq(
            real, 0.5 * real + 0.5 + 0.1 * torch.randn(200, 4, generator=draw), directions
        )
        values.append(value)
        errors.append(stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


# Kernel distance


def test_kid_is_the_unbiased_estimate_by_the_cubic_kernel():
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(2, 5, 3, generator=draw).double()
    fake = torch.randn(2, 5, 3, generator=draw).double()

    def kernel(x, y):
        return float((x @ y / 3 + 1) ** 3)

    for block, value in enumerate(kid(real, fake)):
        x, y = real[block], fake[block]
        within = (
            sum(kernel(s[i], s[j]) for s in (x, y) for i in range(5) for j in range(5) if i != j)
            / 20
        )
        across = sum(kernel(x[i], y[j]) for i in range(5) for j in range(5)) / 25
        assert float(value) == pytest.approx(within - 2 * across)


def test_kid_of_equal_distributions_is_about_zero_with_either_sign_even_when_codes_change_nothing():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(40, 80, 6, generator=draw)
    estimates = [crossed_kid(x, x, blocks=4) for x in features]
    values, errors = np.array([e.value for e in estimates]), np.array([e.stderr for e in estimates])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(40)
    assert 0.2 < (values > 0).mean() < 0.8
    assert errors.mean() == pytest.approx(values.std(), rel=0.4)
    shifted = crossed_kid(features[0], features[1] + 1, blocks=4)
    assert shifted.value > 5 * shifted.stderr


# Fresh critic


def test_fresh_critic_finds_the_distance_of_two_point_masses():
    real, fake = torch.full((32, 1, 4, 4), 0.75), torch.full((32, 1, 4, 4), 0.25)
    gap = fresh_critic_w1((real, fake), (real, fake), **CRITIC)
    assert gap.value == pytest.approx(2.0, rel=0.1)
    assert gap.stderr == pytest.approx(0, abs=1e-6)


def test_fresh_critic_finds_the_shift_of_gaussians_and_nothing_between_equal_ones():
    draw = torch.Generator().manual_seed(0)
    x, y, z, w = 0.1 * torch.randn(4, 2000, 1, 4, 4, generator=draw)
    shifted = fresh_critic_w1((x, y + 0.25), (z, w + 0.25), **CRITIC)
    assert shifted.value == pytest.approx(1.0, rel=0.15)
    floor = fresh_critic_w1((x, y), (z, w), **CRITIC)
    assert abs(floor.value) < 4 * floor.stderr < 0.1


def test_a_critic_steeper_than_one_is_brought_back_by_its_largest_gradient():
    real, fake = torch.full((32, 1, 4, 4), 0.75), torch.full((32, 1, 4, 4), 0.25)
    gap = fresh_critic_w1((real, fake), (real, fake), **CRITIC | {"penalty": 0.3})
    assert gap.gradient_norm > 2
    assert gap.value < 2.05


def test_legacy_w1_is_the_gap_of_the_critic_it_is_given():
    images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    for critic in (lambda x: x.sum((1, 2, 3)), lambda x: x.sum((1, 2, 3))[:, None]):
        assert legacy_w1(critic, images, torch.full((3, 1, 2, 2), 0.25), batch=2) == pytest.approx(
            3
        )


# Certified W1

FAMILY = {"axes_images": 500, "ladder": (0, 1, 2, 4, 8, 100)}


def test_the_certified_bound_is_the_distance_of_two_point_masses():
    real, fake = torch.full((32, 1, 4, 4), 0.75), torch.full((32, 1, 4, 4), 0.25)
    assert certified_w1((real, fake), (real, fake), **FAMILY).value == pytest.approx(2.0, rel=1e-6)
    swapped = certified_w1((fake, real), (fake, real), **FAMILY)
    assert swapped.value == pytest.approx(2.0, rel=1e-6) and swapped.stderr == pytest.approx(
        0, abs=1e-6
    )


def test_the_certified_bound_finds_what_a_blur_takes_away_and_stays_below_w1():
    """Eight of 16 coordinates are lost.

    W1 is at most W2 = √8, and the norm of what is lost has mean 2.74.
    """
    draw = torch.Generator().manual_seed(0)
    x, y, z, w = torch.randn(4, 3000, 16, generator=draw)
    spread = torch.tensor([3.0] * 8 + [1.0] * 8)
    lost = torch.tensor([1.0] * 8 + [0.0] * 8)
    x, y, z, w = ((each * spread).view(-1, 1, 4, 4) for each in (x, y, z, w))
    kept = lost.view(1, 4, 4)
    bound = certified_w1((x, y * kept), (z, w * kept), **FAMILY)
    assert 2.6 < bound.value < math.sqrt(8)
    paired = certified_w1((x, x * kept), (z, z * kept), **FAMILY)
    assert paired.value == pytest.approx(bound.value, abs=0.05) and paired.stderr < bound.stderr


def test_the_certified_bound_never_exceeds_a_known_distance_and_is_nothing_between_equal_ones():
    draw = torch.Generator().manual_seed(1)
    x, y, z, w = 0.3 * torch.randn(4, 2000, 1, 4, 4, generator=draw)
    shifted = certified_w1((x, y + 0.25), (z, w + 0.25), **FAMILY)  # W1 is 1
    assert 0.2 < shifted.value < 1.0
    floor = certified_w1((x, y), (z, w), **FAMILY)
    assert abs(floor.value) < 4 * floor.stderr < 0.1


def test_the_frechet_distance_is_that_of_gaussians():
    draw = np.random.default_rng(0)
    mix = draw.normal(size=(5, 5))
    real, fake = draw.normal(size=(400, 5)) @ mix, draw.normal(size=(300, 5)) * 2 + 1
    one, other = np.cov(real.T), np.cov(fake.T)
    root = np.real(scipy.linalg.sqrtm(one @ other))
    wanted = np.square(real.mean(0) - fake.mean(0)).sum() + np.trace(one + other - 2 * root)
    found = frechet(torch.from_numpy(real), torch.from_numpy(fake))
    assert found == pytest.approx(wanted, rel=1e-9)
    few = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))  # fewer than features
    assert frechet(few, few) == pytest.approx(0, abs=1e-8)
    assert frechet(few, few + 2) == pytest.approx(50 * 4, rel=1e-6)
