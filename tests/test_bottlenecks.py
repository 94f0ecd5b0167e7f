"""Every bottleneck of the registry through the same protocol: trained, frozen, written, read."""

import math

import numpy as np
import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from quadrate.bottlenecks.by_name import BOTTLENECKS, build_bottleneck, register_bottleneck
from quadrate.bottlenecks.frozen import from_arrays
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.coding.symbols import dither_noise
from quadrate.core import registry
from quadrate.errors import QuadrateError

COUNT, LEVELS = 400, (3, 4, 2, 5, 3, 3, 8, 2)
NAMES = sorted(BOTTLENECKS.built_in)
CODED = [name for name in NAMES if name != "unit-gaussian"]
SHAPES = [(8,), (8, 2, 3)]
pytestmark = pytest.mark.parametrize("shape", SHAPES, ids=str)


def build(name: str, shape: tuple[int, ...]):
    """A bottleneck with steps that are fine beside its density, as a trained one has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build_bottleneck(name, shape, LEVELS if name == "dithered" else ())
    for parameter, tensor in made.named_parameters():
        if parameter.endswith("log_step"):
            tensor.data.fill_(-2.0)
    return made.requires_grad_(False)


def draw(made, count: int = COUNT, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, *made.latent_shape, generator=generator)
    return latents if made.has_learned_rate else torch.tanh(latents)


def noise_for(made, *counts: int) -> torch.Tensor:
    return torch.rand(*counts, made.noise_columns, generator=torch.Generator().manual_seed(1)) - 0.5


def freeze(made, before: tuple[int, ...] = ()):
    latents = draw(made, 2000, seed=2).flatten(1).numpy()
    known = np.random.default_rng(0).uniform(-1, 1, (2000, len(before)))
    return made.freeze(np.hstack([known, latents]).astype(np.float32), before)


def words(columns: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 1 << 24, (count, columns))


@pytest.mark.parametrize("name", NAMES)
def test_the_surrogate_keeps_shapes_and_passes_gradients(name, shape):
    made = build(name, shape)
    assert made.shape == shape and made.latent_shape[1:] == shape[1:]
    latents, noise = draw(made).requires_grad_(), noise_for(made, COUNT)
    received, nats = made(latents, noise)
    assert received.shape == (COUNT, *shape)
    assert (nats is not None) == made.has_learned_rate
    if nats is not None:
        assert nats.shape == (COUNT,) and torch.isfinite(nats).all()
        received = received + nats.view(-1, *[1] * len(shape))
    received.square().sum().backward()
    assert torch.isfinite(latents.grad).all() and (latents.grad != 0).float().mean() > 0.99
    stacked, rates = made(latents.detach().unflatten(0, (4, -1)), noise.unflatten(0, (4, -1)))
    torch.testing.assert_close(stacked.flatten(0, 1), made(latents.detach(), noise)[0])
    assert rates is None or rates.shape == (4, COUNT // 4)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # log_ndtr of the hyperprior
@pytest.mark.parametrize("name", NAMES)
def test_several_models_run_side_by_side(name, shape):
    models = [build(name, shape) for _ in range(2)]
    for parameter in models[1].parameters():
        parameter.data.add_(0.1)
    state = stack_module_state(models)
    latents, noise = draw(models[0], 2 * 8).unflatten(0, (2, 8)), noise_for(models[0], 2, 8)

    def run(own, latents, noise):
        received, nats = functional_call(models[0], own, (latents, noise))
        return received if nats is None else received + nats.view(-1, *[1] * len(shape))

    together = vmap(run)(state, latents, noise)
    for model, own, result in zip(models, zip(latents, noise, strict=True), together, strict=True):
        received, nats = model(*own)
        alone = received if nats is None else received + nats.view(-1, *[1] * len(shape))
        torch.testing.assert_close(result, alone)


@pytest.mark.parametrize("name", CODED)
def test_what_is_received_is_what_training_had_in_distribution(name, shape):
    made = build(name, shape)
    frozen, latents = freeze(made), draw(made)
    dither = words(frozen.dither_columns)
    symbols = frozen.quantize(latents.numpy(), dither)
    assert symbols.shape == (COUNT, frozen.columns) and symbols.dtype == np.int64
    received = frozen.dequantize(symbols, dither)
    assert received.shape == (COUNT, *shape) == (COUNT, *frozen.shape)
    surrogate, nats = made(latents, noise_for(made, COUNT))
    errors, expected = np.square(received - latents.numpy()), (surrogate - latents).square()
    assert errors.mean() == pytest.approx(float(expected.mean()), rel=0.06)
    bits = frozen.bits(symbols, dither) / COUNT
    if made.has_learned_rate:
        assert bits * math.log(2) == pytest.approx(float(nats.mean()), rel=0.02)
    elif name == "dithered":
        assert bits < np.log2(LEVELS).sum() * math.prod(shape[1:])


@pytest.mark.parametrize("name", CODED)
def test_in_floating_point_it_quantizes_as_it_does_frozen(name, shape):
    made = build(name, shape)
    frozen, latents = freeze(made), draw(made)
    dither = words(frozen.dither_columns)
    noise = torch.from_numpy(dither_noise(dither)) if dither.size else noise_for(made, COUNT)
    symbols = made.quantize(latents, noise)
    assert symbols.dtype == torch.int64
    same = symbols.numpy() == frozen.quantize(latents.numpy(), dither)
    received = made.dequantize(symbols, noise).numpy()
    gap = np.abs(received - frozen.dequantize(symbols.numpy(), dither))
    if name == "dithered":  # the same float32 arithmetic
        assert same.all() and not gap.any()
    assert same.mean() > 0.995 and gap.max() < 0.01


@pytest.mark.parametrize("before", [(), (3, 0, 4)], ids=["first layer", "second layer"])
@pytest.mark.parametrize("name", CODED)
def test_streams_and_arrays_give_everything_back(name, shape, before):
    made = build(name, shape)
    frozen = freeze(made, before)
    assert frozen.first == len(before)
    dither = words(len(before) + frozen.columns)
    own_dither = dither[:, frozen.first :][:, : frozen.dither_columns]
    own = frozen.quantize(draw(made).numpy(), own_dither)
    known = np.random.default_rng(4).integers(0, 3, (COUNT, len(before)))
    symbols = np.hstack([known, own])
    payload = encode_layer(frozen, symbols, dither)
    assert 8 * len(payload) == pytest.approx(frozen.bits(symbols, dither), rel=0.01, abs=96)
    np.testing.assert_array_equal(decode_layer(frozen, payload, known, dither), symbols)

    levels = (*before, *LEVELS) if name == "dithered" else ()
    # Files of versions 0.1 and 0.2 have only these, and do not say which.
    old = frozen.name in ("dithered", "rounding", "joint", "hyperprior")
    for stored in (frozen.name, None) if old else (frozen.name,):
        again = from_arrays(frozen.arrays(), stored, len(before), levels)
        assert type(again) is type(frozen) and again.identity == frozen.identity
        assert again.shape == shape and again.first == len(before)
        np.testing.assert_array_equal(decode_layer(again, payload, known, dither), symbols)
        np.testing.assert_array_equal(again.quantize(draw(made).numpy(), own_dither), own)


def test_a_bottleneck_of_your_own_brings_what_reads_its_files(shape):
    class Own(RoundingModel):
        name = "own"

    class Trained(torch.nn.Module):
        has_learned_rate, surrogate_is_exact = True, False

        def __init__(self, wanted):
            super().__init__()
            self.shape = wanted

        def freeze(self, latents=None, before=()):
            model = build("factorized", (8,)).freeze()
            return Own(model.steps, model.offsets, model.tables)

    contents = registry.contents()
    try:
        register_bottleneck("own", Trained, Own.from_arrays)
        with pytest.raises(QuadrateError, match="there is a bottleneck 'own' already"):
            register_bottleneck("own", Trained)
        frozen = build_bottleneck("own", shape).freeze()
        again = from_arrays(frozen.arrays(), frozen.name)
        assert type(again) is Own and again.identity == frozen.identity
        with pytest.raises(QuadrateError, match="'own' learns its rate: give dims instead"):
            build_bottleneck("own", shape, LEVELS)
    finally:
        registry.restore(contents)
    with pytest.raises(QuadrateError, match="unknown frozen bottleneck 'own'"):
        from_arrays(frozen.arrays(), "own")


def test_levels_and_shapes_must_fit(shape):
    with pytest.raises(QuadrateError, match="'factorized' learns its rate: give dims instead"):
        build_bottleneck("factorized", shape, LEVELS)
    with pytest.raises(QuadrateError, match="need 8 levels"):
        build_bottleneck("dithered", shape, (3, 3))
    with pytest.raises(QuadrateError, match=r"at least 2 levels in each; got levels=\(\)"):
        build_bottleneck("dithered", shape)
    with pytest.raises(QuadrateError, match="unknown bottleneck 'none'"):
        build_bottleneck("none", shape)
    with pytest.raises(QuadrateError, match="has no code"):
        build_bottleneck("unit-gaussian", (8,)).freeze()
