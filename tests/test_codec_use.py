"""Codecs of all kinds in the hands of callers.

Buffers, paths, types, threads, one sample or many.
"""

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import quadrate
from codecs_made import make, source_of
from quadrate import Codec, QuadrateError
from quadrate.codecs import Decoders, FeatureCodec, InvariantCodec, TradeoffCodec
from quadrate.config import InvariantConfig
from quadrate.networks.family import FAMILIES, Family
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant

PATTERNS = dihedral_patterns(2, (0.5, 0.5))


def invariant(**changes) -> InvariantCodec:
    config = InvariantConfig(
        **{"dims": 2, "steps": 5, "batch": 64, "likelihood": "bernoulli", "beta": 0.05} | changes
    )
    return train_invariant(PATTERNS, config).codec(PATTERNS.sample(500, "fit").float())


def features(count=400) -> np.ndarray:
    draws = np.random.default_rng(0).normal(size=(count, 16))
    return (draws @ np.random.default_rng(1).normal(size=(16, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def kinds():
    """Codecs, and samples for them."""
    return {
        "images": (make(decoders=("faithful", "realistic")), source_of(seed=3).train.images),
        "features": (FeatureCodec(rate_bits=24, klt=True).fit(features()), features()),
        "invariant": (invariant(), PATTERNS.sample(300, "x").float()),
    }


KINDS = ("images", "features", "invariant")


class Place(os.PathLike):
    """A path of somebody's own."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_comes_as_a_buffer_or_a_path_of_any_kind(kinds, kind, tmp_path):
    codec, samples = kinds[kind]
    data = codec.compress(samples[:10])
    expected = codec.decompress(data)
    for to in (tmp_path / "a", str(tmp_path / "b"), Place(tmp_path / "c")):
        assert codec.compress(samples[:10], to=to) is None and Path(to).read_bytes() == data
    sources = (
        bytearray(data),
        memoryview(data),
        memoryview(data[::-1])[::-1],
        np.frombuffer(data, np.uint8),
    )
    for source in (*sources, tmp_path / "a", str(tmp_path / "a"), Place(tmp_path / "a")):
        np.testing.assert_array_equal(codec.decompress(source), expected)
        if kind == "invariant":
            assert codec.decompress_latents(source).shape == (10, 2)
    with pytest.raises(QuadrateError, match="a file is given by its path or its bytes; got list"):
        codec.decompress([1, 2])


def test_a_seed_may_be_a_number_of_numpys(kinds):
    codec, images = kinds["images"]
    assert codec.compress(images[:5], seed=np.uint64(2**63)) == codec.compress(
        images[:5], seed=2**63
    )
    assert codec.compress(images[:5], seed=np.int8(7)) == codec.compress(images[:5], seed=7)
    assert torch.equal(codec.encode(images[:5], seed=np.int64(7)), codec.encode(images[:5], seed=7))


def test_images_beyond_their_range_are_not_encoded(kinds):
    codec, images = kinds["images"]
    outside = (
        images.float(),
        images.float() / 255 - 0.01,
        torch.full((1, 1, 8, 8), torch.nan),
        images.int(),
        images.numpy().astype(np.float64),
    )
    for wrong in outside:
        for use in (codec.encode, codec.round_trip, codec.compress):
            with pytest.raises(
                QuadrateError, match=r"images are uint8, or floating point in \[0, 1\]"
            ):
                use(wrong)
    assert torch.equal(codec.encode(images.double() / 255), codec.encode(images)) and torch.equal(
        codec.encode(images.numpy()), codec.encode(images)
    )
    with pytest.raises(QuadrateError, match=r"images are uint8"):
        kinds["invariant"][0].encode(torch.full((1, 1, 2, 2), 3.0))


def test_gray_images_may_come_without_their_channel(kinds):
    codec, images = kinds["images"]
    for gray in (images[:, 0], images[:, 0].numpy(), images[:, 0] / 255):
        assert codec.compress(gray) == codec.compress(images)
    assert codec.compress(images[:, 0], labels=np.arange(len(images))) == codec.compress(
        images, labels=np.arange(len(images))
    )
    patterns, samples = kinds["invariant"]
    assert patterns.compress(samples[:, 0]) == patterns.compress(samples)
    with pytest.raises(
        QuadrateError, match=r"images come as \(N, C, H, W\); got shape \(3, 8, 8\)"
    ):
        make(shape=(3, 8, 8)).compress(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(
        QuadrateError, match=r"takes images of shape \(1, 8, 8\) \(C, H, W\); got \(1, 8, 9\)"
    ):
        codec.compress(torch.zeros(4, 8, 9, dtype=torch.uint8))


# --- one sample, and many ---


@pytest.mark.parametrize("family", ["compact", "paper"])
def test_a_sample_comes_out_the_same_in_any_company(family):
    codec = make(
        FAMILIES[family],
        (1, 28, 28) if family == "paper" else (1, 8, 8),
        decoders=("faithful", "realistic"),
        freeze=False,
    )
    images = source_of(codec.shape, count=100, seed=1).train.images
    symbols, latents = codec.encode(images), codec.latents(images / 255)
    decoders = (
        ("faithful",)
        if family == "paper"
        else ("faithful", "realistic", {"faithful": 0.25, "realistic": 0.75})
    )
    for decoder in decoders:
        together = codec.decode(symbols, decoder=decoder)
        for part in (
            slice(0, 1),
            slice(7, 8),
            slice(99, 100),
            slice(3, 20),
            slice(31, 33),
            slice(1, 100),
        ):
            assert torch.equal(
                codec.decode(symbols[part], decoder=decoder, first=part.start), together[part]
            )
            assert torch.equal(codec.latents(images[part] / 255), latents[part])


def test_samples_of_a_file_are_the_same_one_by_one(kinds):
    for codec, samples in (kinds["images"], kinds["invariant"]):
        data = codec.compress(samples)
        together = codec.decompress(data, dtype="float32")
        for i in (0, 1, 100, len(samples) - 1):
            np.testing.assert_array_equal(
                codec.decompress(data, samples=slice(i, i + 1), dtype="float32")[0], together[i]
            )


def test_features_in_principal_axes_agree_to_a_few_units_in_the_last_place(kinds):
    """A sum of products of float32 in another order; docs/format.md says so."""
    codec, samples = kinds["features"]
    data = codec.compress(samples)
    together = codec.decompress(data)
    alone = np.concatenate([codec.decompress(data, samples=slice(i, i + 1)) for i in range(50)])
    assert np.abs(alone - together[:50]).max() <= 2.0**-20 * np.abs(together).max()
    coordinates = FeatureCodec(rate_bits=24, klt=False).fit(samples)
    data = coordinates.compress(samples)
    np.testing.assert_array_equal(
        coordinates.decompress(data, samples=slice(7, 8)), coordinates.decompress(data)[7:8]
    )


# --- threads, generators, types ---


def in_threads(work, count=8):
    """What each of several threads gets, all begun at once."""
    barrier = threading.Barrier(count)

    def wait_and_work(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_work, range(count)))


@pytest.mark.parametrize("kind", (*KINDS, "hyperprior"))
def test_one_codec_serves_several_threads(kinds, kind):
    if kind == "hyperprior":
        codec, samples = invariant(dims=12, bottleneck="hyperprior"), kinds["invariant"][1]
    else:
        codec, samples = kinds[kind]
    parts = [samples[10 * i : 10 * i + 10 + i] for i in range(8)]
    files = [codec.compress(part) for part in parts]
    decoded = [codec.decompress(file) for file in files]
    fresh = (
        TradeoffCodec(
            codec.family, codec.shape, codec.layers, codec.points, codec.states, models=codec.models
        )
        if kind == "images"
        else codec
    )

    def work(number):
        return [
            (fresh.compress(parts[i]), fresh.decompress(files[i]))
            for i in np.roll(np.arange(8), number)
        ]

    for number, results in enumerate(in_threads(work)):
        for i, (file, samples_again) in zip(np.roll(np.arange(8), number), results, strict=True):
            assert file == files[i]
            np.testing.assert_array_equal(samples_again, decoded[i])


class Drawing(nn.Module):
    """Draws in every way there is, and needs memory for what it keeps."""

    def __init__(self, shape, dim) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), dim), nn.Tanh())
        self.scale = nn.Parameter(
            torch.randn(dim)
            + torch.rand(dim)
            + torch.normal(0.0, 1.0, (dim,))
            + torch.randperm(dim)
        )
        self.register_buffer("fixed", torch.linspace(0, 1, dim), persistent=False)
        self.numbers = self.fixed.numpy() if self.fixed.device.type == "cpu" else None

    def forward(self, x):
        return (
            self.body(x) * self.scale.sigmoid() * self.fixed.new_tensor(self.numbers).clamp(0.5, 1)
        )


def test_loading_never_moves_the_global_generator(kinds, tmp_path):
    own = Family("own", Drawing, FAMILIES["compact"].decoder, FAMILIES["compact"].critic)
    codec = make(own)
    codec.save(tmp_path / "own")
    codec.pack().save(tmp_path / "pack")
    kinds["invariant"][0].save(tmp_path / "invariant")
    expected = codec.compress(kinds["images"][1])
    before = torch.get_rng_state()

    def work(number):
        for _ in range(3):
            loaded = Codec.load(tmp_path / "own", family=own)
            loaded.add_decoder(Decoders.load(tmp_path / "pack"), "again")
            InvariantCodec.load(tmp_path / "invariant")
        return loaded.compress(kinds["images"][1])

    assert in_threads(work) == [expected] * 8
    assert torch.equal(torch.get_rng_state(), before)


def test_pytorchs_default_type_changes_nothing(kinds, tmp_path):
    for kind, (codec, samples) in kinds.items():
        path, data = tmp_path / kind, codec.compress(samples)
        codec.save(path)
        expected = codec.decompress(data)
        torch.set_default_dtype(torch.float64)
        try:
            loaded = type(codec).load(path)
            assert loaded.compress(samples) == data
            again = loaded.decompress(data)
            latents = loaded.decompress_latents(data) if kind == "invariant" else None
        finally:
            torch.set_default_dtype(torch.float32)
        assert again.dtype == expected.dtype and (latents is None or latents.dtype == torch.float32)
        np.testing.assert_array_equal(again, expected)


# --- words ---


def test_codecs_say_what_they_are(kinds):
    text = repr(kinds["images"][0])
    assert (
        text == "TradeoffCodec('compact', shape=(1, 8, 8), layers=[(3, 4)],"
        " decoders=['faithful', 'realistic'],"
        " frozen)"
    )
    assert "not frozen yet" in repr(make(freeze=False))
    assert (
        repr(kinds["invariant"][0])
        == "InvariantCodec('vic', shape=(1, 2, 2), dims=2, decoders=['representative'])"
    )
    pack = kinds["images"][0].pack()
    assert "tensor" not in repr(pack) and pack.encoder_hash in repr(pack)


def test_what_is_imported_late_is_listed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dir(quadrate) == sorted(quadrate.__all__)
        assert {"Codec", "QuadDataset", "QuadrateError", "__version__"} <= set(dir(quadrate))
