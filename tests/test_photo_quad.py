""".quad files of photographs: rates as they were asked for, and everything that goes with one."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from photos_made import codec, picture
from quadrate.codecs import PhotoCodec, PhotoFile, Photograph, Rate
from quadrate.codecs.photo_quad import append, compress, psnr
from quadrate.coding.container import Reader
from quadrate.errors import QuadrateError
from quadrate.networks.restoration import Restoration


def packed(photographs: list[Photograph], rate: Rate, **others) -> bytes:
    target = io.BytesIO()
    assert compress(codec(), photographs, target, rate, **others) == len(photographs)
    return target.getvalue()


def payload_sizes(data: bytes) -> list[int]:
    with Reader(data) as reader:
        return [sum(map(len, reader.read(i).payloads)) for i in range(reader.samples)]


MANY = [
    Photograph(picture(20, 30, seed=1), "a.png", 7, b"icc profile"),
    Photograph(picture(1, 1, 1, seed=2), "é", -1),
    Photograph(picture(50, 17, 1, seed=3), "", 300),
]


# --- what is in a file ---


def test_noise_comes_from_the_seed_of_the_file_and_the_number_of_the_photograph():
    network = Restoration(4, depth=2, noise=2)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    noisy = PhotoCodec(codec().transform, codec().model, {"noisy": network})
    same = [Photograph(picture(30, 30, seed=1))] * 2
    one, other = (packed(same, Rate(quality=40), seed=seed) for seed in (3, 4))

    def decoded(data: bytes, number: int) -> np.ndarray:
        with PhotoFile(data, noisy) as file:
            return file.photograph(number).pixels

    np.testing.assert_array_equal(decoded(one, 0), decoded(one, 0))
    assert (decoded(one, 0) != decoded(one, 1)).any()
    assert (decoded(one, 0) != decoded(other, 0)).any()


def test_photographs_come_back_with_what_goes_with_them():
    data = packed(MANY, Rate(quality=80))
    with PhotoFile(data, codec()) as file:
        assert len(file) == 3
        for number, (given, found) in enumerate(zip(MANY, file.photographs(), strict=True)):
            assert (found.name, found.label, found.profile) == (
                given.name,
                given.label,
                given.profile,
            )
            payloads = codec().encode(given.pixels, 102)
            np.testing.assert_array_equal(
                found.pixels, codec().decode(payloads, given.pixels.shape)
            )
            side = file.side(number)
            assert side.shapes.tolist() == [list(given.pixels.shape)] and side.payloads == ()
        backwards = [one.name for one in file.photographs(slice(None, None, -1))]
        assert backwards == ["", "é", "a.png"]


def test_nothing_but_pixels_is_fine_too():
    data = packed([Photograph(one.pixels) for one in MANY], Rate(quality=50))
    with PhotoFile(data, codec()) as file:
        assert [(one.name, one.label, one.profile) for one in file.photographs()] == [
            (None, None, b"")
        ] * 3
    assert len(PhotoFile(packed([], Rate(quality=50)), codec())) == 0


def test_the_base_alone_is_read_from_a_small_part_of_the_file(tmp_path):
    path = tmp_path / "x.quad"
    path.write_bytes(packed(MANY, Rate(quality=100)))
    with PhotoFile(path, codec(), layers=1) as base, PhotoFile(path, codec()) as whole:
        blurred, sharp = base.photograph(0).pixels, whole.photograph(0).pixels
        assert base.reader.bytes_read < whole.reader.bytes_read
        assert psnr(MANY[0].pixels, blurred) < psnr(MANY[0].pixels, sharp)
    for layers in (0, 3):
        with pytest.raises(QuadrateError):
            PhotoFile(path, codec(), layers=layers)


def test_appending_is_compressing_together(tmp_path):
    path = tmp_path / "x.quad"
    compress(codec(), MANY[:1], path, Rate(quality=80))
    assert append(codec(), MANY[1:], path, Rate(quality=80)) == 2
    with PhotoFile(path, codec()) as file, PhotoFile(packed(MANY, Rate(quality=80)), codec()) as at:
        for one, other in zip(file.photographs(), at.photographs(), strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)
    before = path.read_bytes()

    def broken():
        yield MANY[0]
        yield Photograph(picture(8, 8), "no label")

    for bad in (broken(), [Photograph(np.zeros((2, 4, 4), np.uint8), "x", 1)]):
        with pytest.raises(QuadrateError):
            append(codec(), bad, path, Rate(quality=80))
        assert path.read_bytes() == before


def test_a_file_that_failed_is_not_there(tmp_path):
    for second in (Photograph(picture(8, 8)), Photograph(np.zeros((3, 4), np.uint8), "b", 1)):
        with pytest.raises(QuadrateError):
            compress(codec(), [MANY[0], second], tmp_path / "x.quad", Rate(quality=80))
        assert list(tmp_path.iterdir()) == []


def test_another_codecs_file_is_refused(tmp_path):
    data = packed(MANY, Rate(quality=80))
    transform = codec().transform
    moved = type(transform)(transform.mean + np.float32(1), transform.basis)
    other = PhotoCodec(moved, codec().model, {"x": Restoration(4)})
    with pytest.raises(QuadrateError, match="was written by another codec"):
        PhotoFile(data, other)
    (tmp_path / "x.quad").write_bytes(data)
    with pytest.raises(QuadrateError, match="was written by another codec"):
        append(other, MANY, tmp_path / "x.quad", Rate(quality=80))


@pytest.mark.parametrize("number", [-1, 3])
def test_a_photograph_that_is_not_there_is_an_error(number):
    with PhotoFile(packed(MANY, Rate(quality=80)), codec()) as file:
        with pytest.raises(QuadrateError, match="asked for"):
            file.photograph(number)
        with pytest.raises(QuadrateError, match="no decoder 'x'"):
            next(file.photographs(decoder="x"))


# --- rates ---


@pytest.mark.parametrize("given", [{}, {"quality": 50, "size": 1000}, {"psnr": 30, "size": 9}])
def test_exactly_one_rate_is_given(given):
    with pytest.raises(QuadrateError, match="give one of quality, bits_per_pixel, size and psnr"):
        Rate(**given)


@pytest.mark.parametrize("name", ["quality", "bits_per_pixel", "size", "psnr"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 0])
def test_rates_out_of_range_are_refused(name, value):
    if name == "quality" and value == 0:
        assert Rate(quality=0).quality == 0
        return
    with pytest.raises(QuadrateError, match=f"{name} is |a quality is"):
        Rate(**{name: value})


WIDE = Photograph(picture(128, 160, seed=4), "wide.png")  # 2,031 bytes with the finest step


@pytest.mark.parametrize("size", [800, 1200, 2000, 10**9])
@pytest.mark.parametrize("profile", [0, 100, 1 << 20])
def test_a_file_of_one_photograph_is_not_larger_than_asked(size, profile):
    """Not even with a profile that cannot be made shorter, a long name and a label."""
    noise = np.random.default_rng(0).bytes(profile)
    photograph = Photograph(WIDE.pixels, "é" * 60, 2**40, noise)
    size += profile + profile // 1000
    data = packed([photograph], Rate(size=size))
    assert len(data) <= size
    if size < 10**8:
        assert len(data) > size - 450 - profile // 400


@pytest.mark.parametrize("bits", [0.15, 0.3, 0.6, 100])
def test_payloads_are_not_larger_than_the_bits_a_pixel(bits):
    (size,) = payload_sizes(packed([WIDE], Rate(bits_per_pixel=bits)))
    assert size <= bits * 128 * 160 / 8
    assert size > 0.9 * bits * 128 * 160 / 8 or bits == 100


def test_more_psnr_takes_more_bytes_and_is_reached():
    before = 0
    for least in (33.5, 35, 37, 38):
        data = packed([WIDE], Rate(psnr=least))
        with PhotoFile(data, codec()) as file:
            assert psnr(WIDE.pixels, file.photograph(0).pixels) >= least
        (size,) = payload_sizes(data)
        assert size > before
        before = size
    payloads = Rate(psnr=37).encode(codec(), WIDE)
    (exponent,) = np.frombuffer(payloads[0][:2], "<u2").tolist()
    coarser = codec().encode(WIDE.pixels, exponent + 8)
    assert psnr(WIDE.pixels, codec().decode(coarser, WIDE.pixels.shape)) < 37


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (Rate(size=330), r"wide.png does not fit into 330 bytes: with the coarsest step it takes"),
        (Rate(size=1), "does not fit into 1 bytes"),
        (Rate(bits_per_pixel=1e-6), "does not fit into 1e-06 bits a pixel"),
        (Rate(psnr=90), r"wide.png does not reach 90 dB: with the finest step it reaches \d\d\.\d"),
    ],
)
def test_rates_that_cannot_be_had_are_refused(rate, message):
    with pytest.raises(QuadrateError, match=message):
        rate.encode(codec(), WIDE)


def test_the_least_size_that_an_error_names_can_be_had():
    with pytest.raises(QuadrateError) as caught:
        Rate(size=1).encode(codec(), WIDE)
    least = int(str(caught.value).split()[-2])
    assert len(packed([WIDE], Rate(size=least))) <= least


def test_a_flat_photograph_reaches_any_psnr_or_says_what_it_reaches():
    flat = Photograph(np.full((3, 8, 8), 255, np.uint8))
    assert psnr(flat.pixels, flat.pixels) == float("inf")
    (exponent,) = np.frombuffer(Rate(psnr=20).encode(codec(), flat)[0][:2], "<u2").tolist()
    assert exponent > 0
