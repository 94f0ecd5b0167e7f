"""The unit-Gaussian bottleneck: its rate, its samples, and that it is no code."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from quadrate.bottlenecks.unit_gaussian import UnitGaussianBottleneck
from quadrate.errors import QuadrateError


def latents(count: int, dims: int) -> torch.Tensor:
    return 2 * torch.randn(count, 2 * dims, generator=torch.Generator().manual_seed(0))


def test_the_rate_is_the_divergence():
    latent = latents(100, 4)
    _, nats = UnitGaussianBottleneck(4)(latent, torch.zeros(100, 4))
    mean, raw = latent.chunk(2, dim=1)
    torch.testing.assert_close(
        nats,
        kl_divergence(Normal(mean, F.softplus(raw) + 1e-5), Normal(torch.zeros(4), 1.0)).sum(1),
    )


def test_the_prior_itself_costs_nothing_and_vanishing_deviations_stay_finite():
    unit = math.log(math.expm1(1 - 1e-5))
    _, nats = UnitGaussianBottleneck(2)(
        torch.tensor([[0.0, 0, unit, unit], [0.0, 0, -300, -300]]), torch.zeros(2, 2)
    )
    assert float(nats[0]) == pytest.approx(0, abs=1e-6)
    assert float(nats[1]) == pytest.approx(2 * (-math.log(1e-5) - 0.5), rel=1e-4)


def test_what_is_received_is_a_sample():
    bottleneck = UnitGaussianBottleneck(3)
    latent = latents(1, 3).expand(40_000, -1)
    noise = (
        torch.rand(40_000, bottleneck.noise_columns, generator=torch.Generator().manual_seed(1))
        - 0.5
    )
    received, _ = bottleneck(latent, noise)
    mean, std = latent[0, :3], F.softplus(latent[0, 3:])
    scaled = (received - mean) / std
    assert (
        (scaled.mean(0).abs() < 0.02).all()
        and ((scaled.std(0) - 1).abs() < 0.02).all()
        and (scaled.pow(4).mean(0) - 3).abs().max() < 0.2
    )
    torch.testing.assert_close(bottleneck(latent, 0 * noise)[0], latent[:, :3])
    ends, _ = bottleneck(latent[:2], torch.tensor([[-0.5] * 3, [0.5] * 3]))
    assert torch.isfinite(ends).all() and (ends[0] < mean).all() and (ends[1] > mean).all()


def test_gradients_reach_means_and_deviations():
    latent = latents(20, 3).requires_grad_()
    received, nats = UnitGaussianBottleneck(3)(
        latent, torch.rand(20, 3, generator=torch.Generator().manual_seed(2)) - 0.5
    )
    (received.sum() + nats.sum()).backward()
    assert torch.isfinite(latent.grad).all() and (latent.grad.abs().sum(0) > 0).all()


def test_it_is_no_code_and_says_what_is():
    with pytest.raises(
        QuadrateError, match="has no code: .* train a factorized or a hyperprior bottleneck"
    ):
        UnitGaussianBottleneck(3).freeze()
    with pytest.raises(QuadrateError, match=r"takes means and deviations, \(n, 6\); got \(5, 3\)"):
        UnitGaussianBottleneck(3)(torch.zeros(5, 3), torch.zeros(5, 3))
