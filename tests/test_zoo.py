"""The codecs in the package, and files of this version that later ones must read."""

import os
from pathlib import Path

import numpy as np
import pytest

import quadrate
from quadrate import QuadrateError
from quadrate.codecs import QuadFile, zoo
from quadrate.coding.streams import encode_layer
from quadrate.core import draws
from quadrate.evaluation import conditional_entropy_bits
from quadrate.sources import load_source

NAMES = ["mnist-10bit", "mnist-4.75bit", "mnist-6bit", "mnist-8bit"]
HAS_MNIST = Path(os.environ.get("QUADRATE_DATA", "/none"), "mnist").is_dir()
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def mnist():
    return load_source("mnist")


def test_the_zoo_is_what_it_is_said_to_be():
    assert list(zoo()) == NAMES
    for name, path in zoo().items():
        codec = quadrate.Codec.load(name)
        assert path.stat().st_size <= 5_000_000 and path.with_suffix(".md").exists()
        assert list(codec.decoders) == ["faithful", "realistic", "recognizable"]
        assert f"mnist-{round(codec.rate_bound_bits, 2):g}bit" == name == codec.details["name"]
    with pytest.raises(
        QuadrateError,
        match=(
            r"no codec at mnist-7bit; .* mnist-10bit, mnist-4.75bit, mnist-6bit, mnist-8bit come"
            r" with the package"
        ),
    ):
        quadrate.Codec.load("mnist-7bit")


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_first_version_are_read_to_the_bit(name):
    codec = quadrate.Codec.load(name)
    symbols = np.load(GOLDEN / f"{name}.npy").astype(np.int64)  # (300, d)
    with QuadFile(GOLDEN / f"{name}.quad", codec) as file:
        file.reader.verify()
        assert (
            file.samples == 300
            and file.reader.index[:, 1].tolist() == [90, 90, 20, 90, 10]
            and file.reader.header.seed == 2**63 + 5
        )
        assert np.array_equal(np.concatenate([file.symbols(k) for k in range(5)]), symbols)
        sides = [file.side(k) for k in range(5)]
        assert np.array_equal(np.concatenate([side.labels for side in sides]), np.arange(300) % 10)
        assert [n for side in sides for n in side.names] == [f"image {i}" for i in range(300)]
        for k, (first, count) in enumerate(
            file.reader.index.tolist()
        ):  # and what is coded again is the same to the byte
            dither = codec.dither_words(count, 2**63 + 5, first)
            assert (
                encode_layer(codec.models[0], symbols[first : first + count], dither)
                == file.reader.read(k).payloads[0]
            )
    pictures = codec.decompress(GOLDEN / f"{name}.quad", samples=slice(95, 105))
    assert np.array_equal(pictures, codec.decompress(GOLDEN / f"{name}.quad")[95:105])


@pytest.mark.real
@pytest.mark.skipif(not HAS_MNIST, reason="needs MNIST under QUADRATE_DATA")
@pytest.mark.parametrize("name", NAMES)
def test_mnists_test_images_cost_about_the_joint_entropy(name, mnist):
    codec = quadrate.Codec.load(name)
    data = codec.compress(mnist.test.images)
    latents = codec.source_latents(mnist, mnist.test.images, draws.generator("test"))
    joint = conditional_entropy_bits(latents, latents, codec.levels).bits
    assert len(data) <= 1.01 * len(latents) * joint / 8 + 400
    assert (
        len(data) < len(latents) * codec.rate_bound_bits / 8
    )  # everything included, less than the bound


@pytest.mark.real
@pytest.mark.skipif(not HAS_MNIST, reason="needs MNIST under QUADRATE_DATA")
def test_blends_have_the_distortion_that_theory_gives_them(mnist):
    """D(α) = mmse + (1-α)²(D_b - mmse) if one decoder is nearly the MMSE decoder."""
    codec = quadrate.Codec.load("mnist-6bit")
    images = mnist.test.images
    symbols = codec.encode(images)

    def mse(decoder):
        return float(((codec.decode(symbols, decoder=decoder) - images / 255) ** 2).mean())

    mmse, other = mse("faithful"), mse("realistic")
    for weight in (0.25, 0.5, 0.75):
        assert mse({"faithful": weight, "realistic": 1 - weight}) == pytest.approx(
            mmse + (1 - weight) ** 2 * (other - mmse), rel=0.01
        )
