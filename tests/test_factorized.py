"""The learned bottleneck.

Densities that are densities, a rate that is the code's length, freezing by bisection.
"""

import numpy as np
import pytest
import torch
from torch import nn

from quadrate.bottlenecks.factorized import (
    FactorizedBottleneck,
    LogisticMixture,
    MonotoneNetwork,
)
from quadrate.codecs import FeatureCodec
from quadrate.errors import QuadrateError
from quadrate.training.bottleneck_fits import fit_factorized


def spoilt(density: nn.Module, seed: int = 0) -> nn.Module:
    """A density away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return density


DENSITIES = [LogisticMixture, MonotoneNetwork]


@pytest.mark.parametrize("kind", DENSITIES)
def test_a_density_is_one(kind):
    density = spoilt(kind(5)).double()
    x = torch.linspace(-300, 300, 4001, dtype=torch.float64)[:, None].expand(-1, 5)
    with torch.no_grad():
        cdf, masses = density.cdf(x), density.mass(x[:-1], x[1:])
    assert (cdf.diff(dim=0) >= 0).all() and (masses >= 0).all()
    assert (cdf[0] < 1e-3).all() and (cdf[-1] > 1 - 1e-3).all()
    np.testing.assert_allclose(masses, cdf.diff(dim=0), atol=1e-12)
    np.testing.assert_allclose(masses.sum(0), 1, atol=2e-3)


@pytest.mark.parametrize("kind", DENSITIES)
def test_masses_in_the_far_tails_keep_their_digits(kind):
    density = kind(1)
    x = torch.tensor([[-14.0], [14.0]])
    with torch.no_grad():
        single = density.mass(x - 0.5, x + 0.5)
        double = density.double().mass(x.double() - 0.5, x.double() + 0.5)
    assert 0 < float(double.min()) < 1e-6  # where a difference of float32 CDFs is 0 on the right
    np.testing.assert_allclose(single, double, rtol=1e-3)


@pytest.mark.parametrize("kind", DENSITIES)
def test_gradients_reach_everything(kind):
    bottleneck = FactorizedBottleneck(spoilt(kind(3)), torch.zeros(3), torch.ones(3))
    latent = torch.randn(50, 3, requires_grad=True)
    received, rate_nats = bottleneck(latent, torch.rand(50, 3) - 0.5)
    (received.square().sum() + rate_nats.sum()).backward()
    for name, parameter in [("latent", latent), *bottleneck.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_median_is_where_half_the_mass_lies():
    bottleneck = FactorizedBottleneck(
        spoilt(LogisticMixture(6)), torch.arange(6.0), torch.full((6,), 100.0)
    )
    for probability in (1e-6, 0.5, 1 - 1e-6):
        found = bottleneck._quantiles(probability)
        with torch.no_grad():
            np.testing.assert_allclose(
                bottleneck.density.double().cdf(found[None])[0], probability, rtol=1e-6
            )


@pytest.mark.parametrize("kind", DENSITIES)
def test_frozen_tables_code_at_the_rate_that_the_model_says(kind):
    bottleneck = FactorizedBottleneck(
        spoilt(kind(4), 1),
        torch.tensor([0.0, 5, -5, 1]),
        torch.tensor([1.0, 2, 3, 4]),
        torch.tensor([-1.0, 0, -2, -1]),
    )
    model = bottleneck.freeze()
    draw = np.random.default_rng(0)
    symbols = np.stack(
        [
            table_draw(row, low, size, draw)
            for row, low, size in zip(
                model.tables.frequencies, model.tables.lows, model.tables.sizes, strict=True
            )
        ],
        1,
    )
    received = model.dequantize(symbols)
    latents, none = torch.from_numpy(received).float(), torch.zeros(received.shape)
    with torch.no_grad():
        assert (bottleneck.quantize(latents, none).numpy() == symbols).all()
        again, rate_nats = bottleneck(bottleneck.dequantize(torch.from_numpy(symbols), none), none)
    np.testing.assert_allclose(again, received, atol=1e-3)
    assert model.bits(symbols) == pytest.approx(float(rate_nats.sum()) / np.log(2), rel=3e-3)
    np.testing.assert_allclose(model.steps, bottleneck.step.detach(), rtol=1e-6)


def table_draw(frequencies, low, size, draw):
    shares = frequencies[: size - 1] / frequencies[: size - 1].sum(dtype=float)
    return low + draw.choice(size - 1, 3000, p=shares)


def test_a_model_too_fine_for_tables_says_so():
    with pytest.raises(QuadrateError, match="train with a larger beta"):
        FactorizedBottleneck(
            LogisticMixture(1), torch.zeros(1), torch.ones(1), torch.full((1,), -12.0)
        ).freeze()


# --- training ---


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.randn(4000, 3, generator=torch.Generator().manual_seed(5)) * torch.tensor(
        [0.2, 1.0, 7.0]
    ) + torch.tensor([0.0, -4.0, 30.0])


@pytest.mark.parametrize("density", ["logistics", "network"])
def test_training_reaches_the_rate_of_a_uniform_quantizer_of_gaussians(features, density):
    beta = 0.01
    codec = FeatureCodec.from_bottleneck(
        fit_factorized(features, beta, density=density, epochs=6).freeze()
    )
    symbols = codec.encode(features)
    bits = codec.model_.bits(symbols.numpy()) / len(features)
    error = (codec.reconstruct(codec.dequantize(symbols)) - features).square().mean(0)
    sigma = features.std(0).numpy()
    ideal = np.log2(sigma * np.sqrt(2 * np.pi * np.e)) - np.log2(
        codec.model_.steps
    )  # h - log2 step
    fine = codec.model_.steps < sigma
    assert fine.sum() >= 2
    assert bits == pytest.approx(ideal[fine].sum() + max(0.0, ideal[~fine].sum()), abs=0.25)
    np.testing.assert_allclose(error[fine], codec.model_.steps[fine] ** 2 / 12, rtol=0.1)
    np.testing.assert_allclose(
        codec.model_.steps[fine], np.sqrt(6 * beta), rtol=0.25
    )  # where a nat costs dD/dR = step^2/6


def test_training_is_a_function_of_the_seed_and_beta_may_rise(features):
    part = features[:512]
    runs = [
        fit_factorized(part, 0.1, epochs=1, seed=seed, annealing=annealing)
        for seed, annealing in ((0, 0.0), (0, 0.0), (1, 0.0), (0, 0.5))
    ]
    steps = [run.step for run in runs]
    assert (
        torch.equal(steps[0], steps[1])
        and not torch.equal(steps[0], steps[2])
        and not torch.equal(steps[0], steps[3])
    )
    assert (steps[3] < steps[0])[
        1:
    ].all()  # while beta was small, steps shrank; the first dimension has less variance than a cell
    state = torch.random.get_rng_state()
    fit_factorized(part[:128], 0.1, density="network", epochs=1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_cannot_be_trained_on(features):
    for wrong in (features[:0], features[0], torch.full((3, 2), torch.nan)):
        with pytest.raises(QuadrateError, match="trained on finite features"):
            fit_factorized(wrong, 1.0)
    for beta in (0.0, -1.0, float("nan")):
        with pytest.raises(QuadrateError, match="must be positive"):
            fit_factorized(features, beta)
