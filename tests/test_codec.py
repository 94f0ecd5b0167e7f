"""A codec: images to symbols and back, its decoders, and its file."""

import json
import random
import struct

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from quadrate.codecs import Layer, TradeoffCodec
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.networks.family import FAMILIES, Family, find_family
from quadrate.sources import pixels
from tensor_files import rewrite

SHAPE = (1, 8, 8)
FAMILY = find_family("compact")


def weights(module: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    """The state of a network whose batch norms have seen something."""
    with torch.no_grad():
        module.train()(*inputs)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def make(levels=((3, 4),), seed=0, point=None, decoder_seed=None, critic=False) -> TradeoffCodec:
    """A codec that nobody trained."""
    dim = sum(map(len, levels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images = torch.rand(64, *SHAPE)
        states = {
            f"encoder.{i}": weights(FAMILY.encoder(SHAPE, len(stage)), images)
            for i, stage in enumerate(levels)
        }
        torch.manual_seed(seed if decoder_seed is None else decoder_seed)
        point = point or OperatingPoint(levels[-1])
        states[f"decoder.{point.purpose}"] = weights(
            FAMILY.decoder(SHAPE, dim), torch.rand(64, dim)
        )
        if critic:
            states["critic"] = weights(FAMILY.critic(SHAPE), images)
    return TradeoffCodec(
        FAMILY,
        SHAPE,
        [Layer(stage) for stage in levels],
        {point.purpose: point},
        states,
        {"recipe": "none"},
    )


@pytest.fixture
def images(digits) -> Tensor:
    return digits.test.images


# --- coding ---


def test_images_go_to_symbols_and_back(images):
    codec = make()
    symbols = codec.encode(images, seed=3)
    assert symbols.shape == (64, 2) and symbols.dtype == torch.int64
    assert (symbols >= 0).all() and (symbols < torch.tensor([3, 4])).all()
    decoded = codec.decode(symbols, seed=3)
    assert (
        decoded.shape == (64, *SHAPE)
        and decoded.dtype == torch.float32
        and decoded.min() >= 0
        and decoded.max() <= 1
    )
    assert torch.equal(codec.round_trip(images, seed=3), decoded)
    assert torch.equal(
        codec.encode(pixels(images), seed=3), symbols
    )  # bytes and floats are the same images
    assert codec.rate_bound_bits == pytest.approx(1.5849625 + 2)


def test_the_decoder_reads_the_latent_up_to_half_a_cell(images):
    codec = make()
    latents = codec.latents(pixels(images))
    received = codec.dequantize(codec.encode(images, seed=3), seed=3)
    steps = 2 / (torch.tensor(codec.levels) - 1)
    assert ((received - latents).abs() <= steps / 2 + 1e-5).all()
    assert not torch.equal(
        codec.decode(codec.encode(images, 3), 4), codec.round_trip(images, 3)
    )  # another seed is another dither


def test_the_dither_of_a_sample_depends_on_seed_sample_and_dimension_only():
    codec, refined = make(), make(levels=((3, 4), (3, 3, 3)))
    words, dither = codec.dither_words(10, 5), refined.dither_words(2000, 0)
    assert np.array_equal(codec.dither_words(100, 5)[:10], words)
    assert np.array_equal(refined.dither_words(10, 5)[:, :2], words)
    assert not np.array_equal(words, codec.dither_words(10, 6))
    assert dither.min() >= 0 and dither.max() < 1 << 24
    assert abs(np.corrcoef(dither.T) - np.eye(5)).max() < 0.1


def test_the_first_symbols_of_a_refined_codec_are_those_of_its_base(images):
    refined = make(levels=((3, 4), (3, 3, 3)), point=OperatingPoint((3, 3, 3)))
    states = {
        "encoder.0": refined.states["encoder.0"],
        "decoder.faithful": make().states["decoder.faithful"],
    }
    base = TradeoffCodec(
        FAMILY, SHAPE, [Layer((3, 4))], {"faithful": OperatingPoint((3, 4))}, states
    )
    symbols = refined.encode(images, seed=3)
    assert symbols.shape == (64, 5) and refined.levels == (3, 4, 3, 3, 3)
    assert torch.equal(symbols[:, :2], base.encode(images, seed=3))
    assert torch.equal(base.decode(symbols[:, :2], seed=3), base.round_trip(images, seed=3))


def test_networks_are_frozen_and_in_evaluation_mode(images):
    codec = make(critic=True)
    for network in (*codec.encoders, *codec.decoders.values(), codec.critic):
        assert not any(module.training for module in network.modules()) and not any(
            p.requires_grad for p in network.parameters()
        )
    assert torch.allclose(
        codec.latents(pixels(images))[:1], codec.latents(pixels(images[:1])), atol=1e-6
    )
    before = codec.encoder_hash
    assert not codec.round_trip(images).requires_grad and codec.encoder_hash == before


def test_nothing_is_a_fine_number_of_images():
    codec = make()
    assert codec.round_trip(torch.zeros(0, *SHAPE, dtype=torch.uint8)).shape == (0, *SHAPE)


@pytest.mark.parametrize("shape", [(5, 1, 8, 7), (5, 3, 8, 8), (1, 8, 7), (64,)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(
        QuadrateError,
        match=r"takes images of shape \(1, 8, 8\) \(C, H, W\); got \(|come as \(N, C, H, W\)",
    ):
        make().encode(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("symbols", [[[0, 1, 2]], [[0]], [0, 1], [[3, 0]], [[0, 4]], [[-1, 0]]])
def test_symbols_of_another_codec_are_refused(symbols):
    with pytest.raises(QuadrateError, match=r"reads symbols \(n, 2\)"):
        make().decode(torch.tensor(symbols))


# --- decoders ---


def test_decoders_go_by_their_purpose_or_a_name(images):
    codec = make(decoder_seed=1, point=OperatingPoint((3, 4)))
    realistic = make(decoder_seed=2, point=OperatingPoint((3, 4), lambda_p=1.0))
    other = make(decoder_seed=3, point=OperatingPoint((3, 4), lambda_p=2.0))
    alone = [c.round_trip(images) for c in (codec, realistic, other)]
    assert codec.add_decoder(realistic).add_decoder(other, "more realistic") is codec
    assert list(codec.decoders) == ["faithful", "realistic", "more realistic"]
    symbols = codec.encode(images)
    for name, image in zip(codec.decoders, alone, strict=True):
        assert torch.equal(codec.decode(symbols, decoder=name), image)
    assert torch.equal(codec.decode(symbols), alone[0])
    with pytest.raises(
        QuadrateError,
        match="no decoder 'sharp'; this codec has faithful, realistic, more realistic",
    ):
        codec.decode(symbols, decoder="sharp")
    with pytest.raises(
        QuadrateError, match="there is a decoder 'realistic' already; give another name"
    ):
        codec.add_decoder(other)


def test_a_decoder_for_another_encoder_is_refused():
    codec = make()
    statistics = make().states
    statistics["encoder.0"]["2.running_mean"] += 1e-3  # one batch norm that went on learning
    drifted = TradeoffCodec(
        FAMILY, SHAPE, [Layer((3, 4))], {"faithful": OperatingPoint((3, 4))}, statistics
    )
    for other in (make(seed=1), make(levels=((4, 3),)), drifted):
        with pytest.raises(
            QuadrateError,
            match=(
                rf"decoder 'x' was trained on another encoder \({other.encoder_hash[:12]}, here"
                rf" {codec.encoder_hash[:12]}\)"
            ),
        ):
            codec.add_decoder(other, "x")
    codec.add_decoder(make(decoder_seed=9), "x")


# --- files ---


def test_a_file_gives_the_same_codec(tmp_path, images):
    codec = make(levels=((3, 4), (2,)), point=OperatingPoint((2,), 1.0, 0.5, 0.25, 7), critic=True)
    path = tmp_path / "deep" / "model.safetensors"
    codec.save(path)
    before = torch.get_rng_state()
    again = TradeoffCodec.load(path)
    assert torch.equal(before, torch.get_rng_state())
    assert (again.family, again.shape, again.layers, again.point, again.details) == (
        FAMILY,
        SHAPE,
        (Layer((3, 4)), Layer((2,))),
        codec.point,
        {"recipe": "none"},
    )
    assert again.encoder_hash == codec.encoder_hash and list(again.decoders) == ["balanced"]
    assert torch.equal(again.encode(images), codec.encode(images)) and torch.equal(
        again.round_trip(images), codec.round_trip(images)
    )
    assert torch.equal(again.critic(pixels(images)), codec.critic(pixels(images)))
    make().save(path)
    assert TradeoffCodec.load(path).critic is None


def test_a_family_of_ones_own_is_named_in_the_file_and_given_to_read_it(tmp_path, images):
    own = Family("mine", FAMILY.encoder, FAMILY.decoder, FAMILY.critic)
    TradeoffCodec(
        own, SHAPE, [Layer((3, 4))], {"faithful": OperatingPoint((3, 4))}, make().states
    ).save(tmp_path / "m")
    with pytest.raises(
        QuadrateError, match="m: unknown network family 'mine'; known: compact, paper"
    ):
        TradeoffCodec.load(tmp_path / "m")
    assert torch.equal(
        TradeoffCodec.load(tmp_path / "m", family=own).round_trip(images), make().round_trip(images)
    )


def narrow(shape: tuple[int, int, int], dim: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, dim), nn.Tanh())


@pytest.mark.parametrize(
    "family",
    [FAMILIES["paper"], Family("narrow", narrow, FAMILY.decoder, FAMILY.critic)],
    ids=["paper", "narrow"],
)
def test_a_family_that_does_not_fit_is_one_line(tmp_path, family):
    make().save(tmp_path / "m")
    with pytest.raises(
        QuadrateError, match="encoder.0 is not that of family|published encoder"
    ) as caught:
        TradeoffCodec.load(tmp_path / "m", family=family)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"shape": None},
        {"shape": "["},
        {"shape": "[1, 8]"},
        {"shape": "8"},
        {"shape": "[1, 8, 9]"},
        {"shape": "[1, -8, 8]"},
        {"shape": "[3, 100000, 100000]"},  # would take 60 TB
        {"shape": "[1, 1e999, 8]"},
        {"levels": "[[3, 4], [3]]"},
        {"levels": "[]"},
        {"levels": '["ab"]'},
        {"levels": "[[1, 4]]"},
        {"levels": f"[[{10**30}, 4]]"},
        {"levels": json.dumps([[3] * 300_000])},
        {"family": None},
        {"family": "nobody's"},
        {"points": "{}}"},
        {"points": "{}"},
        {"points": "[]"},
        {"points": '{"faithful": {"levels": [0]}}'},
        {"details": "[3]"},
        {"details": "[" * 100_000},
    ],
    ids=lambda metadata: str(metadata)[:40],
)
def test_a_damaged_description_is_one_line_with_the_files_name(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    make().save(path)
    rewrite(path, metadata)
    with pytest.raises(QuadrateError) as caught:
        TradeoffCodec.load(path)
    assert (
        str(caught.value).startswith(f"{path}: ")
        and "\n" not in str(caught.value)
        and len(str(caught.value)) < 600
    )


@pytest.mark.parametrize(
    "tensors",
    [
        {"decoder.faithful/0.weight": None},
        {"decoder.faithful/0.weight": torch.zeros(2, 2)},
        {"decoder.faithful/more": torch.zeros(1)},
    ],
)
def test_tensors_that_are_no_networks_are_one_line(tmp_path, tensors):
    make().save(tmp_path / "m")
    rewrite(tmp_path / "m", tensors=tensors)
    with pytest.raises(
        QuadrateError,
        match="the codec's decoder.faithful is not that of family 'compact' for images of 1x8x8",
    ) as caught:
        TradeoffCodec.load(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_codecs_are_told_apart(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(QuadrateError, match="no codec at .*; `quadrate train RECIPE` makes one"):
        TradeoffCodec.load(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(QuadrateError, match="is a safetensors file, but not a Quadrate codec"):
        TradeoffCodec.load(path)
    with pytest.raises(QuadrateError, match="cannot read .*: Is a directory"):
        TradeoffCodec.load(tmp_path)
    make().save(path)
    whole = path.read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            QuadrateError, match="model.safetensors is not a whole safetensors file"
        ):
            TradeoffCodec.load(path)


def test_no_damage_to_the_header_does_worse_than_one_line(tmp_path):
    path, draw = tmp_path / "model.safetensors", random.Random(0)
    make().save(path)
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 1, 3])):
            damaged[draw.randrange(8 + size)] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            TradeoffCodec.load(path)
        except QuadrateError as error:
            assert "\n" not in str(error)
