"""Codecs that are frozen, halved, packed, layered and blended, and the .quad files they read."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from codecs_made import COMPACT, make, source_of
from quad_parts import symbols_of, write
from quadrate.bottlenecks.contexts import ContextModel
from quadrate.codecs import Batch, Decoders, Layer, QuadFile, TradeoffCodec, quad
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.networks.family import Family
from quadrate.sources import from_arrays

SHAPE = (1, 8, 8)


# --- codecs and their files ---


def test_tables_survive_the_file(codec, images, tmp_path):
    codec.save(tmp_path / "c")
    again = TradeoffCodec.load(tmp_path / "c")
    assert (
        again.identities == codec.identities
        and again.encoder_hash == codec.encoder_hash
        and list(again.decoders) == list(codec.decoders)
    )
    data = again.compress(images, seed=2)
    assert data == codec.compress(images, seed=2)
    np.testing.assert_array_equal(
        again.decompress(data, "realistic"), codec.decompress(data, "realistic")
    )


def test_freezing_is_deterministic_and_freezing_for_other_images_is_another_stream(images):
    first, second = make(), make()
    assert first.identities == second.identities
    before = first.compress(images)
    second.freeze(source_of(seed=5))
    assert first.identities != second.identities
    with pytest.raises(QuadrateError, match="another codec"):
        second.decompress(before)


def test_half_a_codec_is_half_the_size_and_the_same_codec(codec, images, tmp_path):
    half = codec.to_float16()
    assert not half.models and half.encoder_hash != codec.encoder_hash
    half.freeze(source_of())
    codec.save(tmp_path / "whole")
    half.save(tmp_path / "half")
    assert (tmp_path / "half").stat().st_size < 0.56 * (tmp_path / "whole").stat().st_size
    again = TradeoffCodec.load(tmp_path / "half")
    assert again.identities == half.identities and again.encoder_hash == half.encoder_hash
    data = half.compress(images)
    assert again.compress(images) == data
    np.testing.assert_array_equal(again.decompress(data), half.decompress(data))
    assert (
        again.to_float16().freeze(source_of()).identities == half.identities
    )  # rounding again changes nothing
    assert (
        np.abs(
            half.decompress(data).astype(int) - codec.decompress(codec.compress(images)).astype(int)
        ).mean()
        < 20
    )


def test_decoder_packs_open_files_that_were_written_before(codec, images, tmp_path):
    early = make(decoders=("faithful",))
    data = early.compress(images)
    assert early.encoder_hash == codec.encoder_hash and early.identities == codec.identities
    codec.pack("realistic").save(tmp_path / "pack")
    pack = Decoders.load(tmp_path / "pack")
    assert pack.encoder_hash == codec.encoder_hash and list(pack.points) == ["realistic"]
    assert (tmp_path / "pack").stat().st_size < 2e6
    assert early.add_decoder(pack, "sharp") is early
    np.testing.assert_array_equal(
        early.decompress(data, "sharp"), codec.decompress(data, "realistic")
    )
    with pytest.raises(QuadrateError, match="there is a decoder 'sharp' already"):
        early.add_decoder(pack, "sharp")
    with pytest.raises(
        QuadrateError,
        match=f"decoder 'realistic' was trained on another encoder \\({codec.encoder_hash[:12]}",
    ):
        make(seed=3).add_decoder(pack)
    with pytest.raises(QuadrateError, match="one name, 'x', for 2 decoders: faithful, realistic"):
        make().add_decoder(codec, "x")
    with pytest.raises(QuadrateError, match="no decoder 'none'"):
        codec.pack("none")
    assert list(codec.pack().points) == ["faithful", "realistic"]


def test_files_that_are_no_packs(codec, tmp_path):
    with pytest.raises(QuadrateError, match="no decoder pack at"):
        Decoders.load(tmp_path / "none")
    codec.save(tmp_path / "c")
    with pytest.raises(QuadrateError, match="not a decoder pack of Quadrate's"):
        Decoders.load(tmp_path / "c")
    codec.pack().save(tmp_path / "p")
    with pytest.raises(QuadrateError, match="not a Quadrate codec"):
        TradeoffCodec.load(tmp_path / "p")
    whole = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(whole[:-5])
    with pytest.raises(QuadrateError, match="not a whole safetensors file"):
        Decoders.load(tmp_path / "p")


def test_a_decoder_of_another_family_does_not_come_in_halves(codec):
    early = make()
    pack = codec.pack("realistic")
    broken = type(pack)(
        pack.encoder_hash, pack.points, {"realistic": {"0.weight": torch.zeros(2, 2)}}
    )
    with pytest.raises(
        QuadrateError, match="the codec's decoder.realistic is not that of family 'compact'"
    ):
        early.add_decoder(broken)
    assert list(early.decoders) == list(early.points) == ["faithful"] and set(early.states) == {
        "encoder.0",
        "decoder.faithful",
    }


# --- layers ---


@pytest.fixture(scope="module")
def layered() -> tuple[TradeoffCodec, TradeoffCodec]:
    """A codec of two layers, and that of its base."""
    refined = make(levels=((3, 4), (3, 3, 2)), freeze=False)
    states = {
        "encoder.0": refined.states["encoder.0"],
        "decoder.faithful": make().states["decoder.faithful"],
    }
    base = TradeoffCodec(
        COMPACT, SHAPE, [Layer((3, 4))], {"faithful": OperatingPoint((3, 4))}, states
    ).freeze(source_of())
    return base, refined.freeze(source_of(), base=base)


def test_the_base_codec_reads_the_base_layer_and_fewer_bytes(layered, images):
    base, refined = layered
    assert refined.identities[0] == base.identities[0] and len(refined.identities) == 2
    data = write(refined, images, seed=4, chunk=50)
    np.testing.assert_array_equal(symbols_of(data, refined), refined.encode(images, seed=4).numpy())
    np.testing.assert_array_equal(symbols_of(data, base), base.encode(images, seed=4).numpy())
    np.testing.assert_allclose(
        base.decompress(data, dtype="float32"), base.round_trip(images, 4).numpy(), atol=1e-6
    )
    read = []
    for codec in (base, refined):
        with QuadFile(data, codec) as file:
            list(file.pieces())
            read.append(file.reader.bytes_read)
            refinement = sum(len(file.reader.read(chunk).payloads[1]) for chunk in range(2))
    assert read[1] - read[0] == refinement > 0


def test_layers_that_do_not_fit(layered, images, tmp_path):
    base, refined = layered
    of_base = base.compress(images, to=tmp_path / "base.quad")
    with pytest.raises(
        QuadrateError,
        match="holds 1 of this codec's 2 layers; read it with the codec of the base alone",
    ):
        refined.decompress(tmp_path / "base.quad")
    refined.compress(images, to=tmp_path / "both.quad")
    with pytest.raises(
        QuadrateError,
        match="has 2 layers, this codec writes 1; append with the codec of all layers",
    ):
        quad.append(base, [Batch(images)], tmp_path / "both.quad")
    other = make(levels=((3, 4), (3, 3, 2)), seed=0).freeze(source_of(seed=7), base=base)
    with pytest.raises(QuadrateError, match="its layer 1 is"):
        other.decompress(tmp_path / "both.quad")
    assert of_base is None


def test_a_base_must_be_a_frozen_codec_of_the_same_first_encoders(layered):
    base, refined = layered
    for wrong in (
        make(seed=5),
        make(freeze=False),
        make(levels=((3, 4), (3, 3, 2), (2,))),
        make(levels=((4, 3),)),
    ):
        with pytest.raises(
            QuadrateError, match="the base must be a frozen codec with this one's first encoders"
        ):
            refined.freeze(source_of(), base=wrong)


def test_the_second_layer_is_coded_given_the_first(layered):
    _, refined = layered
    images = source_of(count=2000).train.images
    count = len(images)
    symbols, dither = refined.encode(images).numpy(), refined.dither_words(count, 0)
    model = refined.models[1]
    given = sum(
        model.tables.bits(symbols[:, i], model.indices(i, symbols, dither)) for i in range(2, 5)
    )
    unknown = symbols.copy()
    unknown[:, :2] = np.random.default_rng(0).permutation(symbols[:, :2])
    blind = sum(
        model.tables.bits(symbols[:, i], model.indices(i, unknown, dither)) for i in range(2, 5)
    )
    assert isinstance(model, ContextModel) and given < 0.9 * blind


# --- blends ---


def test_a_blend_is_the_weighted_mean_of_pictures(codec, images):
    data = codec.compress(images)
    faithful, realistic = (
        codec.decompress(data, name, dtype="float32") for name in ("faithful", "realistic")
    )
    for weight in (0.0, 0.3, 0.5, 1.0):
        blended = codec.decompress(
            data, {"faithful": weight, "realistic": 1 - weight}, dtype="float32"
        )
        np.testing.assert_allclose(blended, weight * faithful + (1 - weight) * realistic, atol=1e-6)
    np.testing.assert_array_equal(
        codec.decompress(data, {"realistic": 1.0}), codec.decompress(data, "realistic")
    )
    np.testing.assert_array_equal(
        codec.decompress(data, {"realistic": 1 + 5e-7}, dtype="float32"), realistic
    )


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"faithful": 0.5, "realistic": 0.6}, "sum to 1"),
        ({"faithful": 0.5}, "sum to 1"),
        ({"faithful": -0.5, "realistic": 1.5}, "not negative"),
        ({"faithful": math.nan, "realistic": 1.0}, "sum to 1"),
        ({"faithful": math.inf, "realistic": -math.inf}, "not negative"),
        ({"faithful": 0.5, "sharp": 0.5}, "no decoder 'sharp'"),
        ({"faithful": "much", "realistic": 1.0}, "weights of a blend"),
        ({}, "sum to 1"),
        (("faithful", "realistic"), "decoder"),
        (3, "decoder"),
    ],
    ids=str,
)
def test_blends_that_are_none(codec, images, blend, message):
    data = codec.compress(images[:2])
    with pytest.raises(QuadrateError, match=message):
        codec.decompress(data, blend)


class Curve(nn.Module):
    """A decoder of one number: a value for each bin of what is received."""

    def __init__(self, shape, dim) -> None:
        super().__init__()
        self.register_buffer("edges", torch.zeros(499))
        self.register_buffer("values", torch.zeros(500))

    def forward(self, received):
        return self.values[torch.bucketize(received[:, 0].contiguous(), self.edges)].reshape(
            -1, 1, 1, 1
        )


def clipped_line(shape, dim) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.Hardtanh())


def test_blends_of_a_gaussian_source_trace_the_curve_that_theory_gives():
    """With faithful E[X|Y] and realistic its optimal transport to the source.

    D = mmse + (1-a)^2 (D_b - mmse) and P = a^2 W2^2, Freirich et al.
    """
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(400_000, generator=generator, dtype=torch.float64)
    pictures = (
        (0.5 + numbers / 12).clamp(0, 1).float().reshape(-1, 1, 1, 1)
    )  # a picture is one number; none is clipped
    train, test = pictures.split(200_000)
    family = Family("line", clipped_line, Curve, COMPACT.critic)
    states = {
        "encoder.0": {"1.weight": torch.tensor([[12 / 3.5]]), "1.bias": torch.tensor([-6 / 3.5])}
    }  # 3.5 standard deviations to [-1, 1]
    points = {name: OperatingPoint((3,)) for name in ("faithful", "realistic")}
    states |= {f"decoder.{name}": Curve(None, 1).state_dict() for name in points}
    untrained = TradeoffCodec(family, (1, 1, 1), [Layer((3,))], points, states)

    received = untrained.dequantize(untrained.encode(train), 0)[:, 0]
    order = received.argsort()
    edges = received[order][400::400][:499]
    means = train.flatten()[order].reshape(500, 400).mean(dim=1)  # E[X | Y in the bin]
    target = train.flatten().sort().values.reshape(500, 400).mean(dim=1)  # the source's quantiles
    transported = target[means.argsort().argsort()]
    for name, values in (("faithful", means), ("realistic", transported)):
        states[f"decoder.{name}"] = {"edges": edges, "values": values}
    images = (train * 255).round().to(torch.uint8)[:1000]
    source = from_arrays(
        "line", (images, np.zeros(1000, int)), (images, np.zeros(1000, int)), classes=1
    )
    codec = TradeoffCodec(family, (1, 1, 1), [Layer((3,))], points, states).freeze(source)

    data = codec.compress(test, seed=1)
    x = 12 * test.flatten().numpy().astype(np.float64)

    def measured(weight: float) -> tuple[float, float]:
        y = 12 * codec.decompress(
            data, {"faithful": weight, "realistic": 1 - weight}, dtype="float32"
        ).ravel().astype(np.float64)
        return float(np.mean((x - y) ** 2)), float(np.mean((np.sort(x) - np.sort(y)) ** 2))

    (mmse, squared_w2), (transport_mse, floor) = measured(1.0), measured(0.0)
    assert 0.4 < mmse < 0.6 and squared_w2 == pytest.approx(
        (1 - math.sqrt(1 - mmse)) ** 2, rel=0.2
    )  # nearly Gaussian, so nearly this
    assert transport_mse == pytest.approx(mmse + squared_w2, rel=0.01) and floor < 0.02 * squared_w2
    for weight in (0.2, 0.4, 0.6, 0.8):
        distortion, perception = measured(weight)
        assert distortion == pytest.approx(
            mmse + (1 - weight) ** 2 * (transport_mse - mmse), rel=0.005
        )
        assert perception == pytest.approx(weight**2 * squared_w2, abs=0.02 * squared_w2)
