"""Lattices: nearest points, dither uniform over the cell, and a code for every point."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest
from torch.func import functional_call, stack_module_state, vmap

from codecs_made import TINY, source_of
from quadrate.bottlenecks.by_name import build_bottleneck
from quadrate.bottlenecks.contexts import fit_contexts
from quadrate.bottlenecks.frozen import from_arrays
from quadrate.bottlenecks.lattice import (
    D4,
    E8,
    D4Bottleneck,
    E8Bottleneck,
    LatticeModel,
    Z,
    ZBottleneck,
)
from quadrate.codecs import Codec, Layer, TradeoffCodec
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.config import OperatingPoint
from quadrate.core import draws
from quadrate.core.files import read_json
from quadrate.errors import QuadrateError
from quadrate.theory import ScalarGaussian, rate

UNIT = 1 << 25
LATTICES = pytest.mark.parametrize("lattice", [Z, D4, E8], ids=lambda lattice: lattice.name)
KINDS = pytest.mark.parametrize("kind", [ZBottleneck, D4Bottleneck, E8Bottleneck])


def is_point(lattice, doubled):
    """Whether twice a vector is twice a point, by the lattice's definition."""
    if lattice is Z:
        return not (doubled % 2).any()
    if lattice is D4:
        return not (doubled % 2).any() and doubled.sum() % 4 == 0
    return len(set((doubled % 2).tolist())) == 1 and doubled.sum() % 4 == 0


def shortest(lattice):
    """Twice the vectors whose bisectors bound the cell at the origin."""
    if lattice is Z:
        return np.array([[2], [-2]])
    pairs = [
        np.where(
            np.arange(lattice.size) == i, 2 * a, np.where(np.arange(lattice.size) == j, 2 * b, 0)
        )
        for i, j in itertools.combinations(range(lattice.size), 2)
        for a in (1, -1)
        for b in (1, -1)
    ]
    halves = [s for s in itertools.product((1, -1), repeat=8) if np.prod(s) > 0]
    long = [2 * a * np.eye(8, dtype=int)[i] * 2 for i in range(8) for a in (1, -1)]
    return np.array([*pairs, *halves, *long] if lattice is E8 else pairs)


def words_of(lattice, count, seed=0):
    return draws.words("test", seed, count=count * lattice.size).reshape(count, lattice.size)


@LATTICES
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_point_is_nearer_than_the_nearest(lattice, data):
    x = data.draw(arrays(np.int64, lattice.size, elements=st.integers(-(2**40), 2**40)))
    near = lattice.nearest(torch.from_numpy(x)).numpy()
    assert is_point(lattice, near)
    error = x - near * (UNIT // 2)
    # A point lies in the cell at the origin if no neighbour of the origin is nearer.
    steps = shortest(lattice) * (UNIT // 2)
    assert all(is_point(lattice, step) for step in shortest(lattice))
    assert (np.square(error - steps).sum(1) >= np.square(error).sum()).all()


@pytest.mark.parametrize("lattice", [Z, D4], ids=lambda lattice: lattice.name)
def test_the_nearest_of_all_points_about(lattice):
    span = np.array(list(itertools.product(range(-3, 4), repeat=lattice.size)))
    points = span[[is_point(lattice, 2 * p) for p in span]]
    x = np.random.default_rng(0).uniform(-1.5, 1.5, (300, lattice.size))
    near = lattice.nearest(torch.from_numpy(np.rint(x * UNIT).astype(np.int64))).numpy() / 2
    least = np.square(x[:, None] - points).sum(-1).min(1)
    np.testing.assert_allclose(np.square(x - near).sum(1), least, atol=1e-6)


@LATTICES
def test_ties_go_the_same_way_whatever_the_cell(lattice):
    rng = np.random.default_rng(1)
    x = rng.integers(-2, 3, (500, lattice.size)) * (UNIT // 2)  # deep holes and borders
    moved = 2 * lattice.nearest(torch.from_numpy(words_of(lattice, 500) * 99))  # points
    near = lattice.nearest(torch.from_numpy(x))
    assert torch.equal(lattice.nearest(torch.from_numpy(x) + moved * (UNIT // 2)), near + moved)


@LATTICES
def test_the_dither_is_uniform_over_the_cell(lattice):
    dither = lattice.dither(torch.from_numpy(words_of(lattice, 200_000)))
    assert not lattice.nearest(dither).any()
    u = dither.double().numpy() / UNIT
    normalized = np.square(u).mean() / lattice.volume ** (2 / lattice.size)
    assert normalized == pytest.approx(lattice.second_moment, rel=3e-3)
    np.testing.assert_allclose(u.mean(0), 0, atol=4e-3)
    covariance = np.cov(u.T).reshape(lattice.size, -1)
    np.testing.assert_allclose(
        covariance, np.eye(lattice.size) * covariance.mean() * len(covariance), atol=2e-3
    )
    # A cell falls into copies of half its size; as many samples lie in the one at the middle.
    inner = ~lattice.nearest(2 * dither).any(-1).numpy()
    assert inner.mean() == pytest.approx(2.0**-lattice.size, rel=0.15)


def test_second_moments_are_the_published_ones():
    moments = [round(lattice.second_moment, 4) for lattice in (Z, D4, E8)]
    assert moments == [0.0833, 0.0766, 0.0717]  # Conway & Sloane 1982


@LATTICES
@pytest.mark.parametrize("place", [0.0, 0.3, 5.125, -1000.5])
def test_the_error_does_not_depend_on_the_latent(lattice, place):
    words = torch.from_numpy(words_of(lattice, 20_000, 3))
    x = torch.full(words.shape, place, dtype=torch.float64) * torch.arange(1, lattice.size + 1)
    error = lattice.dequantize(lattice.quantize(x, words), words) - x
    assert not lattice.nearest((error * UNIT).round().long()[:100]).any()  # inside the cell
    expected = -lattice.dither(torch.from_numpy(words_of(lattice, 20_000, 4))).double() / UNIT
    for mine, dither in zip(error.T.numpy(), expected.T.numpy(), strict=True):
        assert kstest(mine, dither).pvalue > 1e-5
    mean = float(expected.square().mean())
    assert float(error.square().mean()) == pytest.approx(mean, rel=0.02)


# --- what it brings ---


def test_gaussian_vectors_come_nearer_to_their_rate_distortion_function():
    samples, gaps = np.random.default_rng(0).normal(size=(10_000, 8)), []
    for kind in (ZBottleneck, D4Bottleneck, E8Bottleneck):
        bottleneck = kind.of_dims(8)
        with torch.no_grad():
            bottleneck.log_step.fill_(np.log(0.8 / kind.lattice.width))  # of one error for all
        model = bottleneck.freeze()
        dither = draws.words("gaussian", count=10_000 * model.columns).reshape(10_000, -1)
        symbols = model.quantize(samples, dither)
        bits = 8 * len(encode_layer(model, symbols, dither)) / samples.size
        received = model.dequantize(symbols, dither)
        scale = (samples * received).mean() / np.square(received).mean()
        mse = np.square(samples - scale * received).mean()
        gaps.append(bits - float(rate(ScalarGaussian(), distortion=mse)))
    assert gaps[0] - gaps[1] == pytest.approx(
        0.061, abs=0.01
    )  # bits: ½ log2 of the ratio of moments
    assert gaps[0] - gaps[2] == pytest.approx(0.109, abs=0.01)


def test_the_measured_files_say_the_same():
    rows = read_json(Path(__file__).parent.parent / "results" / "lattice.json")["rows"]
    gaps = {
        (row["rate"], row["lattice"], name): np.mean([run[name] for run in row["seeds"]])
        for row in rows
        for name in ("gap", "gap_realistic")
    }
    for rate_bits in {row["rate"] for row in rows}:
        for name in ("gap", "gap_realistic"):
            of_z, of_d4, of_e8 = (gaps[rate_bits, lattice, name] for lattice in ("Z", "D4", "E8"))
            assert of_z - of_d4 > 0.04 and of_d4 - of_e8 > 0.035


# --- codes ---


def bottleneck_of(kind, dims=8, log_step=0.0, seed=0):
    bottleneck = kind.of_dims(dims)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        bottleneck.density.places.add_(torch.randn(dims, 4, generator=generator) * 0.3)
        bottleneck.log_step.copy_(log_step + torch.randn(dims, generator=generator) * 0.2)
        bottleneck.centre.copy_(torch.randn(dims, generator=generator))
    return bottleneck


def sample(model, count, seed=0):
    latents = np.random.default_rng(seed).normal(size=(count, *model.shape)) + model.offsets
    dither = draws.words("dither", seed, count=count * model.columns).reshape(count, -1)
    return latents, dither


@KINDS
@pytest.mark.parametrize("log_step", [-3.0, 0.0, 1.0])
def test_bytes_there_and_back(kind, log_step):
    model = bottleneck_of(kind, log_step=log_step).freeze()
    latents, dither = sample(model, 500)
    symbols = model.quantize(latents, dither)
    assert symbols.shape == (500, model.columns) == (500, model.dither_columns)
    payload = encode_layer(model, symbols, dither)
    again = decode_layer(model, payload, np.empty((500, 0), np.int64), dither)
    np.testing.assert_array_equal(again, symbols)
    assert 8 * len(payload) == pytest.approx(model.bits(symbols, dither), rel=2e-3, abs=64)
    received = model.dequantize(again, dither)
    cells = (received - latents) / model.steps
    assert np.abs(cells).max() <= 1 and np.abs(cells).max() > 0.4


@KINDS
def test_latents_beyond_the_tables_escape(kind):
    model = bottleneck_of(kind).freeze()
    latents, dither = sample(model, 20)
    latents = latents * 1e5
    symbols = model.quantize(latents, dither)
    payload = encode_layer(model, symbols, dither)
    again = decode_layer(model, payload, np.empty((20, 0), np.int64), dither)
    assert np.abs(model.dequantize(again, dither) - latents).max() <= model.steps.max()
    for far in (np.nan, np.inf, 1e300):
        with pytest.raises(QuadrateError, match="not finite, or is 2\\^30 steps"):
            model.quantize(np.full_like(latents, far), dither)


@KINDS
@pytest.mark.parametrize("log_step", [0.0, 1.2])
def test_code_lengths_are_those_of_the_point_given_the_dither(kind, log_step):
    """Held against the density at the point, over its sum over all points by brute force."""
    bottleneck, count = bottleneck_of(kind, 8, log_step), 200
    model, lattice = bottleneck.freeze(), bottleneck.lattice
    latents, dither = sample(model, count)
    symbols = model.quantize(latents, dither)
    u = lattice.dither(torch.from_numpy(dither[:, :8].reshape(count, -1, lattice.size)))
    u = u.reshape(count, 8).double().numpy() / UNIT

    def log_density(y):
        """Of received units, (…, 8)."""
        units = torch.from_numpy(y * model.steps + model.offsets).float()
        x, half = units - bottleneck.centre, bottleneck.step * lattice.width / 2
        with torch.no_grad():
            return np.log(bottleneck.density.mass(x - half, x + half).double().numpy() + 1e-15)

    received = (model.dequantize(symbols, dither) - model.offsets) / model.steps
    own = log_density(received).sum(1)
    whole = np.arange(-15, 16)
    total = np.zeros((count, 8 // lattice.size))
    for coset in (0, 0.5) if lattice.halves else (0,):
        y = whole[:, None, None] + coset - u  # (K, n, 8)
        masses = np.exp(log_density(y)).reshape(len(whole), count, -1, lattice.size)
        signs = 1.0 - 2 * (whole % 2)[:, None, None, None]
        every, signed = masses.sum(0).prod(-1), (signs * masses).sum(0).prod(-1)
        total += (every + signed) / 2 if lattice.even else every
    true = (np.log(total).sum(1) - own) / np.log(2)
    assert model.bits(symbols, dither) / count / 8 == pytest.approx(true.mean() / 8, abs=0.01)
    nats = bottleneck(torch.from_numpy(model.dequantize(symbols, dither)).float())[1]
    assert true.mean() < float(nats.detach().mean()) / np.log(2) + 0.3  # what training counts


@KINDS
def test_training_gives_what_a_receiver_gets(kind):
    bottleneck = bottleneck_of(kind)
    latents = torch.randn(3000, 8)
    noise = torch.rand(3000, bottleneck.noise_columns) - 0.5
    surrogate, nats = bottleneck(latents, noise)
    received = bottleneck.dequantize(bottleneck.quantize(latents, noise), noise)
    assert surrogate.shape == received.shape and nats.shape == (3000,)
    for one, other in zip((surrogate - latents).T, (received - latents).T, strict=True):
        assert kstest(one.detach().numpy(), other.numpy()).pvalue > 1e-4
    mean = float(bottleneck(received, None)[1].detach().mean())
    assert mean == pytest.approx(float(nats.detach().mean()), rel=0.02)
    stacked, more = bottleneck(latents.view(3, 1000, 8), noise.view(3, 1000, -1))
    assert torch.equal(stacked.view(3000, 8), surrogate) and torch.equal(more.view(3000), nats)


@KINDS
def test_stacked_models_are_those_alone(kind):
    modules = [bottleneck_of(kind, seed=seed) for seed in (0, 1)]
    latents, noise = torch.randn(2, 50, 8), torch.rand(2, 50, 8) - 0.5
    state = stack_module_state(modules)
    shell = kind.of_dims(8)
    received, nats = vmap(lambda s, x, u: functional_call(shell, s, (x, u)))(state, latents, noise)
    for i, module in enumerate(modules):
        alone = module(latents[i], noise[i])
        torch.testing.assert_close((received[i], nats[i]), alone)


@KINDS
def test_frozen_and_trained_quantize_alike(kind):
    bottleneck = bottleneck_of(kind)
    model = bottleneck.freeze()
    latents, dither = sample(model, 300)
    noise = torch.from_numpy(dither / 2.0**24 - 0.5)
    symbols = bottleneck.quantize(torch.from_numpy(latents), noise)
    np.testing.assert_array_equal(symbols, model.quantize(latents, dither))
    np.testing.assert_allclose(
        bottleneck.dequantize(symbols, noise), model.dequantize(symbols.numpy(), dither), atol=1e-5
    )


@KINDS
def test_gradients_reach_everything(kind):
    bottleneck = bottleneck_of(kind)
    latents = torch.randn(50, 8, requires_grad=True)
    received, nats = bottleneck(latents, torch.rand(50, 8) - 0.5)
    (received.square().sum() + nats.sum()).backward()
    for name, parameter in [("latents", latents), *bottleneck.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@KINDS
def test_a_second_layer_has_columns_of_its_own(kind):
    alone, second = bottleneck_of(kind).freeze(), bottleneck_of(kind).freeze(before=(3, 3, 0))
    latents, dither = sample(alone, 50)
    symbols = alone.quantize(latents, dither)
    known = np.ones((50, 3), np.int64)
    whole, dithers = (np.concatenate([known, part], 1) for part in (symbols, dither))
    payload = encode_layer(second, whole, dithers)
    assert payload == encode_layer(alone, symbols, dither)
    np.testing.assert_array_equal(decode_layer(second, payload, known, dithers), whole)
    assert second.identity != alone.identity


@KINDS
def test_the_same_model_has_the_same_bytes(kind):
    one, other = bottleneck_of(kind).freeze(), bottleneck_of(kind).freeze()
    again = from_arrays(one.arrays(), "lattice")
    latents, dither = sample(one, 100)
    symbols = one.quantize(latents, dither)
    assert one.identity == other.identity == again.identity
    assert encode_layer(one, symbols, dither) == encode_layer(again, symbols, dither)
    assert one.identity != bottleneck_of(kind, seed=1).freeze().identity


@KINDS
def test_any_symbols_are_a_point(kind):
    """What a damaged stream gives stays harmless, whatever its integers."""
    model = bottleneck_of(kind).freeze()
    symbols = np.random.default_rng(0).integers(-(2**31), 2**31, (50, model.columns))
    _, dither = sample(model, 50)
    assert np.isfinite(model.dequantize(symbols, dither)).all()
    for column in range(model.columns):
        indices = model.indices(column, symbols, dither)
        assert ((indices >= 0) & (indices < len(model.tables.lows))).all()


ATTACKS = {
    "lattice": [np.array([3], np.int32), np.array([], np.int32), np.array([4.0])],
    "steps": [np.zeros(8), np.full(8, np.nan), np.ones(7), np.ones((8, 1))],
    "offsets": [np.full(8, np.inf), np.zeros(9)],
    "sums": [np.full((8, 32), bad, np.int32) for bad in (0, -5, 2**31 - 1)],
    "parities": [np.full((8, 32), bad, np.int32) for bad in (1 << 20, -(2**31))],
    "frequencies": [np.full((639, 2), 1 << 15, np.uint16), np.zeros((5, 5), np.uint16)],
    "lows": [np.zeros(3, np.int32), np.zeros(640)],
}


@pytest.mark.parametrize("name,bad", [(name, bad) for name in ATTACKS for bad in ATTACKS[name]])
def test_damaged_arrays_are_refused(name, bad):
    good = bottleneck_of(E8Bottleneck).freeze().arrays()
    with pytest.raises(QuadrateError):
        LatticeModel.from_arrays(good | {name: bad})
    with pytest.raises(QuadrateError, match=f"not those of a lattice bottleneck: '{name}'"):
        LatticeModel.from_arrays({key: good[key] for key in good if key != name})


def test_dimensions_are_whole_blocks():
    message = "lattice E8 quantizes 8 dimensions at a time: give a multiple of 8 dimensions, not 12"
    with pytest.raises(QuadrateError, match=message):
        build_bottleneck("lattice-e8", (12,))
    with pytest.raises(QuadrateError, match="a multiple of 4 dimensions, not 6"):
        build_bottleneck("lattice-d4", (6,))
    arrays = bottleneck_of(E8Bottleneck, 8).freeze().arrays()
    assert build_bottleneck("lattice-d4", (12,)).freeze().columns == 21
    for count in (0, 7, 16):
        with pytest.raises(QuadrateError):
            LatticeModel.from_arrays(arrays | {"sums": np.ones((count, 32), np.int32)})


def test_too_fine_a_step_says_so():
    with pytest.raises(QuadrateError, match="train with a larger lambda_r"):
        bottleneck_of(D4Bottleneck, 4, log_step=-12.0).freeze()


def test_maps_share_a_lattice_among_their_sites():
    bottleneck = build_bottleneck("lattice-d4", (4, 2, 3))
    model = bottleneck.freeze()
    latents = np.random.default_rng(0).normal(size=(20, 4, 2, 3))
    dither = draws.words("maps", count=20 * model.dither_columns).reshape(20, -1)
    symbols = model.quantize(latents, dither)
    payload = encode_layer(model, symbols, dither)
    again = decode_layer(model, payload, np.empty((20, 0), np.int64), dither)
    np.testing.assert_array_equal(again, symbols)
    assert np.abs(model.dequantize(again, dither) - latents).max() < 1.01


# --- codecs ---


def codec_of(kind, name, base):
    """A trade-off codec with a lattice, alone or on a dithered layer."""
    layers = [Layer((3, 3)), Layer((), 8, name)][not base :]
    bottleneck = kind.of_dims(8)
    with torch.no_grad():
        bottleneck.log_step.fill_(-1.5)
    models = [*base, bottleneck.freeze(before=(3, 3) if base else ())]
    shape = source_of().shape
    encoders = [TINY.encoder(shape, layer.latent_dims) for layer in layers]
    states = {f"encoder.{i}": encoder.state_dict() for i, encoder in enumerate(encoders)}
    decoder = TINY.decoder(shape, sum(layer.latent_dims for layer in layers))
    point = OperatingPoint((), lambda_r=0.01, dims=8, bottleneck=name)
    states["decoder.faithful"] = decoder.state_dict()
    return TradeoffCodec(TINY, shape, layers, {"faithful": point}, states, models=models)


@pytest.mark.parametrize("name,kind", [("lattice-d4", D4Bottleneck), ("lattice-e8", E8Bottleneck)])
@pytest.mark.parametrize("refined", [False, True], ids=["alone", "refinement"])
def test_codecs_with_lattices_are_saved_and_code(name, kind, refined, tmp_path):
    base = [fit_contexts(np.zeros((100, 2), np.float32), (3, 3), 0)] if refined else []
    codec = codec_of(kind, name, base)
    codec.save(tmp_path / "lattice.safetensors")
    again = Codec.load(tmp_path / "lattice.safetensors", family=TINY)
    images = source_of(seed=1).train.images
    data = codec.compress(images, seed=5)
    assert again.identities == codec.identities and again.compress(images, seed=5) == data
    np.testing.assert_array_equal(again.decompress(data), codec.decompress(data))
    received = codec.dequantize(codec.encode(images, 5), 5)[:, -8:]
    latents = codec.encoders[-1](images.float() / 255)
    assert (received - latents).abs().max() < np.exp(-1.5) * 1.01
