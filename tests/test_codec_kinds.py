"""One test for the codecs of every kind, and trade-off codecs with every kind of layer."""

import math
import warnings
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from codecs_made import COMPACT, TINY, make, source_of
from quadrate import Codec, QuadDataset
from quadrate.bottlenecks.by_name import build_bottleneck
from quadrate.cli import main
from quadrate.codecs import (
    Batch,
    FeatureCodec,
    InvariantCodec,
    Layer,
    QuadFile,
    TradeoffCodec,
    append,
)
from quadrate.config import InvariantConfig, OperatingPoint
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.networks.family import FAMILIES, Family
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant

SHAPE = (1, 8, 8)
IMAGES = source_of(seed=3).train.images[:40]
FACTORIZED, HYPERPRIOR = Layer((), 3, "factorized"), Layer((), 3, "hyperprior")


def map_encoder(shape, dims) -> nn.Module:
    return nn.Sequential(nn.Conv2d(shape[0], dims, 4, stride=4), nn.Tanh())


def map_decoder(shape, dims) -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(dims, shape[0], 4, stride=4), nn.Sigmoid())


MAPS = Family("maps", map_encoder, map_decoder, COMPACT.critic)


@pytest.fixture(autouse=True)
def families(monkeypatch):
    monkeypatch.setitem(FAMILIES, "tiny", TINY)
    monkeypatch.setitem(FAMILIES, "maps", MAPS)


def layered(family: Family, *layers: Layer) -> TradeoffCodec:
    """A codec with random networks, frozen; learned layers are so from the start."""
    shape = (2, 2) if family is MAPS else ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dims = [layer.latent_dims for layer in layers]
        networks = {f"encoder.{i}": family.encoder(SHAPE, d) for i, d in enumerate(dims)}
        networks["decoder.faithful"] = family.decoder(SHAPE, sum(dims))
        states = {role: network.state_dict() for role, network in networks.items()}
        models, before = [], ()
        for layer in layers:
            bottleneck = build_bottleneck(
                layer.bottleneck, (layer.latent_dims, *shape), layer.levels
            )
            model = None if layer.levels else bottleneck.freeze(None, before)
            models.append(model)
            columns = model.columns if model else math.prod(shape) * len(layer.levels)
            before += (layer.levels or (0,)) * (columns // max(1, len(layer.levels)))
    point = OperatingPoint(
        layers[0].levels,
        dims=layers[0].dims,
        bottleneck=layers[0].bottleneck,
        lambda_r=0.0 if layers[0].levels else 0.1,
    )
    codec = TradeoffCodec(family, SHAPE, layers, {"faithful": point}, states, models=models)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuadrateWarning)
        return codec.freeze(source_of())


def make_kind(kind: str):
    """A codec and samples for it."""
    if kind == "features":
        draws = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
        return FeatureCodec(rate_bits=12).fit(draws), draws[:40]
    if kind == "invariant":
        source = dihedral_patterns(2, (0.5, 0.5))
        config = InvariantConfig(dims=2, steps=5, batch=64, likelihood="bernoulli", beta=0.05)
        samples = source.sample(500, "fit").float()
        return train_invariant(source, config).codec(samples), samples[:40]
    layers = {
        "dithered": (TINY, Layer((3, 4))),
        "factorized": (TINY, FACTORIZED),
        "hyperprior": (TINY, HYPERPRIOR),
        "refined": (TINY, Layer((3, 4)), Layer((5,))),
        "learned twice": (TINY, FACTORIZED, HYPERPRIOR),
        "learned, dithered": (TINY, FACTORIZED, Layer((3, 4))),
        "dithered, learned": (TINY, Layer((3, 4)), FACTORIZED),
        "dithered maps": (MAPS, Layer((3, 4))),
        "factorized maps": (MAPS, FACTORIZED),
        "refined maps": (MAPS, HYPERPRIOR, Layer((3, 4))),
    }[kind]
    return layered(*layers), IMAGES


KINDS = (
    "features", "invariant", "dithered", "factorized", "hyperprior", "refined", "learned twice",
    "learned, dithered", "dithered, learned", "dithered maps", "factorized maps", "refined maps",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::quadrate.QuadrateWarning")
def test_codecs_of_every_kind_do_the_same_things(kind, tmp_path, capsys):
    codec, samples = make_kind(kind)
    path, quad = tmp_path / "codec", tmp_path / "a.quad"
    codec.save(path)
    again = Codec.load(path, device="cpu")
    assert type(again) is type(codec) and again.identities == codec.identities
    assert torch.device(again.device) == torch.device("cpu")
    # compress, append
    codec.compress(samples[:30], to=quad, seed=7, labels=range(30), chunk=20)
    assert append(again, [Batch(samples[30:], range(30, 40))], quad) == 10
    symbols = codec.encode(samples, seed=7)
    latents = codec.dequantize(symbols, seed=7)
    assert torch.equal(again.decompress_latents(quad), latents)
    assert torch.equal(
        again.decompress_latents(quad, slice(33, 20, -3)), latents[list(range(33, 20, -3))]
    )
    assert torch.equal(codec.encode(samples[5:9], seed=7, first=5), symbols[5:9])
    # decompress
    (name,) = codec.decoders
    expected = codec.reconstruct(latents)
    assert torch.equal(codec.round_trip(samples, 7), expected)
    for dtype in ("float32", "float64"):
        found = again.decompress(quad, name, dtype=dtype)
        assert found.dtype == dtype and found.shape == (40, *codec.shape)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    default = again.decompress(quad, {name: 1.0}, slice(3, 5))
    assert default.dtype == ("float32" if kind == "features" else "uint8")
    for wrong, message in (
        ("other", f"no decoder 'other'; this codec has {name}"),
        ({"other": 1.0}, f"no decoder 'other'; this codec has {name}"),
        ({name: 0.5}, "the weights of a blend are not negative and sum to 1"),
        (3, "a decoder is a name, or weights by name"),
    ):
        for use in (codec.check_decoder, lambda wrong: again.decompress(quad, wrong)):
            with pytest.raises(QuadrateError, match=message):
                use(wrong)
    with pytest.raises(QuadrateError, match=r"this codec reads symbols \(n, "):
        codec.dequantize(symbols[:, :0])
    if codec.rate_bound_bits is not None:
        for wrong in (-1, 10):
            with pytest.raises(QuadrateError, match=r"this codec reads symbols \(n, .*\) below"):
                codec.dequantize(torch.full_like(symbols, wrong))
    with pytest.raises(QuadrateError, match="unknown device 'abacus'"):
        Codec.load(path, device="abacus")
    # a data set, and the command line
    items = QuadDataset(quad, again, "latents")
    assert torch.equal(items[33][0], latents[33]) and items[33][1] == 33
    decoded, _ = QuadDataset(quad, again)[33]
    assert tuple(decoded.shape) == codec.shape
    with QuadFile(quad, again) as file:
        assert file.latent_shape == tuple(latents.shape[1:])
    for verb in ("inspect", "verify"):
        main([verb, str(quad), "--codec", str(path)])
        assert str(path) in capsys.readouterr().out
    main(
        ["decompress", str(quad), "-o", str(tmp_path / "x.npy"), "--codec", str(path), "--latents"]
    )
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), latents.numpy())


def test_a_layer_that_learns_its_rate_comes_frozen_and_a_rate_bound_needs_levels():
    codec = layered(TINY, FACTORIZED)
    assert codec.rate_bound_bits is None and codec.latents(IMAGES).shape == (40, 3)
    with pytest.raises(
        QuadrateError, match="'factorized' learns its rate: a codec needs it frozen"
    ):
        TradeoffCodec(TINY, SHAPE, [FACTORIZED], codec.points, codec.states)
    with pytest.raises(QuadrateError, match="tables of layer 0 are not for"):
        TradeoffCodec(
            TINY, SHAPE, [Layer((3, 4, 5))], codec.points, codec.states, models=codec.models
        )
    assert layered(MAPS, Layer((3, 4))).rate_bound_bits == pytest.approx(4 * (math.log2(3) + 2))
    half = codec.to_float16()
    assert half.models[0].identity == codec.models[0].identity
    assert layered(MAPS, HYPERPRIOR).latents(IMAGES).shape == (40, 3, 2, 2)


def test_decoders_belong_to_the_steps_of_a_learned_bottleneck():
    codec = layered(TINY, FACTORIZED)
    (model,) = codec.models
    other = TradeoffCodec(
        TINY, SHAPE, codec.layers, codec.points, codec.states, models=[model.scaled(2.0)]
    )
    assert other.encoder_hash != codec.encoder_hash
    with pytest.raises(QuadrateError, match="was trained on another encoder"):
        other.add_decoder(codec, "x")


def test_a_file_of_another_kind_is_refused_by_name(tmp_path):
    make(TINY).save(tmp_path / "codec")
    for kind in (FeatureCodec, InvariantCodec):
        with pytest.raises(QuadrateError, match=f"TradeoffCodec, not {kind.__name__}"):
            kind.load(tmp_path / "codec")


def test_matrices_of_few_bits_pack_well_and_say_nearly_the_same(tmp_path):
    codec = make(COMPACT)
    sizes = []
    for bits in (0, 8):
        few = codec.to_float16(bits)
        for role, state in few.states.items():
            for name, tensor in state.items():
                own = codec.states[role][name]
                step = float(own.abs().max()) / 127 if own.ndim >= 2 and bits else 2**-11
                assert (tensor - own).abs().max() <= step  # half of the power of two above
                if own.ndim >= 2 and bits:
                    values = tensor.unique()
                    assert (values / values.abs()[values != 0].min()).frac().abs().max() == 0
                    assert len(values) <= 255
        few.save(tmp_path / f"{bits}")
        sizes.append(len(zlib.compress((tmp_path / f"{bits}").read_bytes(), 9)))
    assert sizes[1] < 0.75 * sizes[0]
    for bits in (1, 12, -3):
        with pytest.raises(QuadrateError, match="bits must be 0, or 2 to 11"):
            codec.to_float16(bits)
