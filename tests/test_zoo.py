"""The codecs in the package, and files of this version that later ones must read."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

import quadrate
from quadrate import QuadrateError
from quadrate.bottlenecks.frozen import from_arrays
from quadrate.codecs import PhotoCodec, PhotoFile, Photograph, QuadFile, Rate, zoo
from quadrate.codecs.photo_quad import compress, psnr
from quadrate.coding.container import Reader
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.core import draws
from quadrate.evaluation import conditional_entropy_bits
from quadrate.evaluation.classical import code_images
from quadrate.sources import load_source

NAMES = ["mnist-10bit", "mnist-4.75bit"]
PHOTO = "photo"
OLDER = ["mnist-10bit", "mnist-4.75bit", "mnist-6bit", "mnist-8bit"]  # of version 0.1
HAS_MNIST = Path(os.environ.get("QUADRATE_DATA", "/none"), "mnist").is_dir()
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def mnist():
    return load_source("mnist")


def test_the_zoo_is_what_it_is_said_to_be():
    assert list(zoo()) == [*NAMES, PHOTO]
    for name in NAMES:
        path = zoo()[name]
        codec = quadrate.Codec.load(name)
        assert path.stat().st_size <= 5_000_000 and path.with_suffix(".md").exists()
        assert list(codec.decoders) == ["faithful", "realistic", "recognizable"]
        assert f"mnist-{round(codec.rate_bound_bits, 2):g}bit" == name == codec.details["name"]
    with pytest.raises(
        QuadrateError,
        match=(
            r"no codec at mnist-7bit; .* mnist-10bit, mnist-4.75bit, photo come with the package"
        ),
    ):
        quadrate.Codec.load("mnist-7bit")


def test_the_codec_of_photographs_is_what_it_is_said_to_be():
    codec, path = PhotoCodec.load(PHOTO), zoo()[PHOTO]
    assert path.stat().st_size <= 6_000_000 and path.with_suffix(".md").exists()
    assert list(codec.decoders) == ["faithful", "realistic"] and codec.details["name"] == PHOTO
    with pytest.raises(QuadrateError, match="it is a file of PhotoCodec, not Codec"):
        quadrate.Codec.load(PHOTO)


@pytest.mark.parametrize("name", ["china", "flower"])
def test_the_realistic_decoder_gives_back_texture_at_a_small_price(name):
    photograph = load_sample_image(f"{name}.jpg").transpose(2, 0, 1)  # (3, 427, 640)
    codec = PhotoCodec.load(PHOTO)
    payloads = codec.encode(photograph, 420)
    faithful, realistic = (codec.decode(payloads, photograph.shape, own) for own in codec.decoders)

    def detail(pixels) -> float:
        return float(np.abs(np.diff(pixels.astype(float))).mean())

    assert 0 < psnr(photograph, faithful) - psnr(photograph, realistic) < 1
    assert detail(faithful) < detail(realistic) < 1.1 * detail(photograph)


@pytest.mark.parametrize(
    ("name", "other", "quality"), [("flower", "webp", 50), ("china", "jpeg", 60)]
)
def test_the_codec_of_photographs_is_nearer_to_them_at_equal_bytes(name, other, quality):
    photograph = load_sample_image(f"{name}.jpg").transpose(2, 0, 1)  # (3, 427, 640)
    codec = PhotoCodec.load(PHOTO)
    coded = code_images(torch.from_numpy(photograph.copy())[None], other, quality)
    file = io.BytesIO()
    compress(codec, [Photograph(photograph)], file, Rate(size=int(coded.file_bytes[0])))
    assert len(file.getvalue()) <= coded.file_bytes[0]
    with PhotoFile(file.getvalue(), codec) as opened:
        ours = psnr(photograph, opened.photograph(0).pixels)
    assert ours > psnr(photograph, coded.images[0].numpy())


@pytest.mark.parametrize("name", OLDER)
def test_streams_of_the_first_version_are_read_to_the_bit(name):
    """By the tables of the codecs of then; those that come with the package now are others."""
    folder = GOLDEN / "zoo-0.1"
    arrays = dict(np.load(folder / f"{name}.npz"))
    levels, identity = arrays.pop("levels"), arrays.pop("identity").tobytes()
    model = from_arrays(arrays, "dithered", 0, tuple(levels.tolist()))
    symbols = np.load(folder / f"{name}.npy").astype(np.int64)  # (300, d)
    read = []
    with Reader(folder / f"{name}.quad") as file:
        file.verify()
        assert file.header.seed == 2**63 + 5 and file.header.layers[0].identity == identity
        assert model.identity == identity and file.index[:, 1].tolist() == [90, 90, 20, 90, 10]
        for number, (first, count) in enumerate(file.index.tolist()):
            chunk = file.read(number)
            dither = np.stack(
                [
                    draws.words("dither", file.header.seed, i, count=count, first=first)
                    for i in range(len(levels))
                ],
                axis=1,
            )
            own = decode_layer(model, chunk.payloads[0], np.empty((count, 0), np.int64), dither)
            # What is coded again is the same to the byte.
            assert encode_layer(model, own, dither) == chunk.payloads[0]
            assert chunk.labels.tolist() == [n % 10 for n in range(first, first + count)]
            assert chunk.names == tuple(f"image {n}" for n in range(first, first + count))
            read.append(own)
    assert np.array_equal(np.concatenate(read), symbols)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_codecs_in_the_package_are_read_to_the_bit(name):
    codec = quadrate.Codec.load(name)
    with QuadFile(GOLDEN / "zoo-0.2" / f"{name}.quad", codec) as file:
        symbols = np.concatenate([file.symbols(k) for k in range(len(file.reader.index))])
    assert np.array_equal(symbols, np.load(GOLDEN / "zoo-0.2" / f"{name}.npy"))
    part = slice(95, 105)
    for decoder in codec.decoders:  # of the noise, too, a part is that of the whole
        whole = codec.decompress(GOLDEN / "zoo-0.2" / f"{name}.quad", decoder, slice(60, 120))
        assert np.array_equal(
            codec.decompress(GOLDEN / "zoo-0.2" / f"{name}.quad", decoder, part), whole[35:45]
        )


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
    codec = quadrate.Codec.load("mnist-10bit")
    images = mnist.test.images[:2000]
    symbols = codec.encode(images)

    def mse(decoder):
        return float(((codec.decode(symbols, decoder=decoder) - images / 255) ** 2).mean())

    mmse, other = mse("faithful"), mse("realistic")
    for weight in (0.25, 0.5, 0.75):
        assert mse({"faithful": weight, "realistic": 1 - weight}) == pytest.approx(
            mmse + (1 - weight) ** 2 * (other - mmse), rel=0.01
        )
