"""Photographs to payloads and back: any size, both layers, every decoder, the codec's own file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from photos_made import ENDS, codec, picture
from quadrate.codecs import BaseCodec, PhotoCodec
from quadrate.codecs.photo_codec import EXPONENTS, MAX_SIDE, UNIT, exponent_of
from quadrate.codecs.photo_quad import psnr
from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.networks.block_transform import BLOCK, BlockTransform
from quadrate.networks.restoration import Restoration

UNIT_PIXELS = UNIT * BLOCK


def mending(seed: int = 0, width: int = 4, depth: int = 3, noise: int = 0) -> Restoration:
    """A decoder that nobody trained, but that does add something."""
    network = Restoration(width, depth, noise)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def with_decoders(**decoders: Restoration) -> PhotoCodec:
    return PhotoCodec(codec().transform, codec().model, decoders)


# --- sizes ---


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 40), (40, 1), (2, 3), (16, 16), (15, 17), (17, 31), (33, 100)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_of_any_size_come_back(size, channels):
    photograph = picture(*size, channels)
    payloads = codec().encode(photograph, 64)
    decoded = codec().decode(payloads, photograph.shape)
    assert decoded.shape == photograph.shape and decoded.dtype == np.uint8
    assert psnr(photograph, decoded) > 22
    base = codec().decode(payloads[:1], photograph.shape)
    assert base.shape == photograph.shape and psnr(photograph, base) > 15


@pytest.mark.parametrize(
    "blocks", [(63, 1), (64, 1), (65, 1), (1, 63), (1, 64), (1, 65), (65, 66), (1, 130)]
)
def test_units_are_coded_by_themselves(blocks):
    """A unit's numbers are those of the part of the photograph that it shows."""
    height, width = blocks[0] * BLOCK - 5, blocks[1] * BLOCK - 3
    photograph = picture(height, width, seed=3)
    payloads = codec().encode(photograph, 200)
    coefficients, exponent = codec().coefficients(payloads, photograph.shape)
    assert coefficients.shape == (*blocks, ENDS[-1]) and exponent == 200
    for top in range(0, height, UNIT_PIXELS):
        for left in range(0, width, UNIT_PIXELS):
            part = photograph[:, top : top + UNIT_PIXELS, left : left + UNIT_PIXELS]
            own, _ = codec().coefficients(codec().encode(part, 200), part.shape)
            rows, columns = top // BLOCK, left // BLOCK
            np.testing.assert_array_equal(coefficients[rows:, columns:][:UNIT, :UNIT], own)


def test_gray_photographs_are_those_whose_colours_are_equal():
    gray = picture(40, 50, 1)
    colours = np.repeat(gray, 3, axis=0)
    payloads = codec().encode(gray, 150)
    assert payloads == codec().encode(colours, 150)
    both = codec().decode(payloads, gray.shape), codec().decode(payloads, colours.shape)
    assert np.abs(both[0][0] - both[1].astype(float).mean(0)).max() <= 1


def test_finer_steps_are_nearer_and_longer():
    photograph = picture(64, 96, seed=4)
    sizes, errors = [], []
    for exponent in (0, 100, 200, 300, 400, 511):
        payloads = codec().encode(photograph, exponent)
        sizes.append(sum(map(len, payloads)))
        errors.append(psnr(photograph, codec().decode(payloads, photograph.shape)))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 6
    assert errors == sorted(errors, reverse=True)
    # 28 of 768 axes cannot show the grain, however fine the step
    assert errors[0] > 30


def test_qualities_are_exponents():
    assert exponent_of(100) == 0 and exponent_of(0) == EXPONENTS - 1 and exponent_of(50) == 256
    found = [exponent_of(quality / 10) for quality in range(1001)]
    assert found == sorted(found, reverse=True) and set(found) == set(range(EXPONENTS))
    for quality in (-0.1, 100.1, float("nan"), float("inf")):
        with pytest.raises(QuadrateError, match="a quality is 0 to 100"):
            exponent_of(quality)


@pytest.mark.parametrize(
    ("photograph", "message"),
    [
        (np.zeros((3, 4, 4), np.float32), "is uint8"),
        (np.zeros((4, 4), np.uint8), "is uint8"),
        (np.zeros((2, 4, 4), np.uint8), "1 or 3 channels"),
        (np.zeros((3, 0, 4), np.uint8), "1 or 3 channels"),
        (np.zeros((4, 4, 3), np.uint8), "1 or 3 channels"),
        (np.broadcast_to(np.uint8(0), (1, 2, MAX_SIDE + 1)), "up to 65536 pixels a side"),
        (np.broadcast_to(np.uint8(0), (3, 8193, 8192)), "up to 67108864 in all"),
    ],
)
def test_what_is_no_photograph_is_refused(photograph, message):
    with pytest.raises(QuadrateError, match=message):
        codec().encode(photograph, 100)


@pytest.mark.parametrize("exponent", [-1, EXPONENTS])
def test_steps_out_of_range_are_refused(exponent):
    with pytest.raises(QuadrateError, match="exponents are 0 to 511"):
        codec().encode(picture(4, 4), exponent)


# --- decoders ---


def test_strips_are_the_whole_picture():
    """Decoders look 24 pixels far; strips have 32 more on each side."""
    network = mending()
    photograph = picture(3 * 256 + 40, 37, seed=5)
    own = with_decoders(mending=network)
    payloads = own.encode(photograph, 250)
    coefficients, exponent = own.coefficients(payloads, photograph.shape)
    pixels = torch.from_numpy(own.transform.inverse(coefficients))[None]
    with torch.no_grad():
        whole = network(pixels, torch.tensor([2.0 ** (exponent / 64)]))[0]
    assert (whole - pixels[0]).abs().max() > 20
    whole = whole[:, : photograph.shape[1], :37].round().clamp(0, 255).numpy()
    assert np.abs(own.decode(payloads, photograph.shape) - whole).max() <= 1


def test_noise_is_that_of_the_whole_picture_and_of_its_key():
    network = mending(depth=5, noise=3)  # looks 32 pixels far
    photograph = picture(2 * 256 + 40, 37, seed=5)
    own = with_decoders(plain=mending(), noisy=network)
    payloads = own.encode(photograph, 250)
    coefficients, exponent = own.coefficients(payloads, photograph.shape)
    pixels = torch.from_numpy(own.transform.inverse(coefficients))[None]
    rows = [
        draws.normal("noise", 7, 2, row, shape=(3, 4, 12)) for row in range(len(coefficients))
    ]  # a draw for each row of blocks, as docs/format.md has it
    noise = torch.cat(rows, 1)[None]
    with torch.no_grad():
        whole = network(pixels, torch.tensor([2.0 ** (exponent / 64)]), noise)[0]
    whole = whole[:, : photograph.shape[1], :37].round().clamp(0, 255).numpy()
    found = own.decode(payloads, photograph.shape, "noisy", noise=(7, 2))
    assert np.abs(found - whole).max() <= 1
    other = own.decode(payloads, photograph.shape, "noisy", noise=(7, 3))
    assert np.abs(found.astype(int) - other).max() > 10


def test_an_untrained_decoder_adds_nothing():
    photograph = picture(50, 60, seed=6)
    payloads = codec().encode(photograph, 250)
    coefficients, _ = codec().coefficients(payloads, photograph.shape)
    pixels = codec().transform.inverse(coefficients)[:, :50, :60]
    np.testing.assert_array_equal(
        codec().decode(payloads, photograph.shape), np.rint(pixels).clip(0, 255)
    )


def test_blends_lie_between_their_decoders():
    own = with_decoders(plain=Restoration(4), mending=mending())
    photograph = picture(30, 40, seed=7)
    payloads = own.encode(photograph, 250)
    one, other = (own.decode(payloads, photograph.shape, name) for name in own.decoders)
    half = own.decode(payloads, photograph.shape, {"plain": 0.5, "mending": 0.5})
    assert (one != other).any()
    inside = (one > 0) & (one < 255) & (other > 0) & (other < 255)
    middle = (one.astype(float) + other) / 2
    assert np.abs(half - middle)[inside].max() <= 1
    np.testing.assert_array_equal(own.decode(payloads, photograph.shape), one)
    np.testing.assert_array_equal(own.decode(payloads, photograph.shape, {"mending": 1.0}), other)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [("other", "no decoder 'other'"), ({"faithful": 0.5}, "sum to 1"), (3, "a decoder is a name")],
)
def test_decoders_that_are_not_there_are_refused_before_the_work(decoder, message):
    with pytest.raises(QuadrateError, match=message):
        codec().decode((b"", b""), (3, 4, 4), decoder)


def test_parts_that_do_not_fit_are_refused():
    transform, model = codec().transform, codec().model
    fewer = BlockTransform(transform.mean, transform.basis[:, :-1])
    plain = {"plain": Restoration(4)}
    with pytest.raises(QuadrateError, match="gives 27 channels, the bottleneck codes 28"):
        PhotoCodec(fewer, model, plain)
    with pytest.raises(QuadrateError, match="at least one decoder"):
        PhotoCodec(transform, model, {})
    with pytest.raises(QuadrateError, match="the name of a decoder"):
        PhotoCodec(transform, model, {"a\nb": Restoration(4)})
    for weight in (-0.1, 1, float("nan")):
        with pytest.raises(QuadrateError, match="rate_weight is at least 0 and below 1"):
            PhotoCodec(transform, model, plain, weight)


# --- files ---


def test_a_codecs_file_gives_the_same_codec(tmp_path):
    own = PhotoCodec(
        codec().transform,
        codec().model,
        {"plain": Restoration(4), "mending": mending(width=7), "noisy": mending(depth=2, noise=5)},
        rate_weight=0.07,
    )
    own.details["data"] = "250 photographs"
    own.save(tmp_path / "codec")
    again = BaseCodec.load(tmp_path / "codec")
    assert type(again) is PhotoCodec and again.rate_weight == 0.07
    assert again.details == {"data": "250 photographs"}
    assert again.identities == own.identities and list(again.decoders) == list(own.decoders)
    photograph = picture(40, 30)
    payloads = own.encode(photograph, 123)
    assert again.encode(photograph, 123) == payloads
    for name in own.decoders:
        np.testing.assert_array_equal(
            again.decode(payloads, photograph.shape, name),
            own.decode(payloads, photograph.shape, name),
        )


def test_streams_know_their_transform_but_not_what_the_sender_is_free_to_choose():
    transform, model = codec().transform, codec().model
    base, rest = codec().identities
    assert base != rest and len(base) == len(rest) == 16
    other = PhotoCodec(transform, model, {"x": mending()}, rate_weight=0.5)
    assert other.identities == (base, rest)
    for mean, basis in (
        (transform.mean + np.float32(1), transform.basis),
        (transform.mean, -transform.basis),
    ):
        moved = PhotoCodec(BlockTransform(mean, basis), model, {"x": Restoration(4)})
        assert not {*moved.identities} & {base, rest}


# --- the same everywhere ---

ELSEWHERE = """
import hashlib, json, sys
import numpy as np
import torch
from photos_made import picture
from quadrate.codecs import PhotoCodec

codec = PhotoCodec.load(sys.argv[1])
photograph = picture(90, 1100, seed=8)
payloads = codec.encode(photograph, 180)
given = [bytes.fromhex(text) for text in json.load(open(sys.argv[2]))]
read, _ = codec.coefficients(given, photograph.shape)
print(json.dumps([[p.hex() for p in payloads], hashlib.sha256(read.tobytes()).hexdigest(),
                  torch.get_num_threads()]))
"""


@pytest.mark.parametrize(
    ("threads", "environment"),
    [
        (2, {}),
        (1, {"OPENBLAS_CORETYPE": "Prescott", "ATEN_CPU_CAPABILITY": "default"}),
    ],
    ids=["threads", "an old processor"],
)
def test_processes_read_the_same_numbers_and_write_the_same_bytes(tmp_path, threads, environment):
    codec().save(tmp_path / "codec")
    photograph = picture(90, 1100, seed=8)
    payloads = [payload.hex() for payload in codec().encode(photograph, 180)]
    read, _ = codec().coefficients([bytes.fromhex(p) for p in payloads], photograph.shape)
    (tmp_path / "payloads").write_text(json.dumps(payloads))
    paths = [str(Path(__file__).parent), *sys.path]
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, tmp_path / "codec", tmp_path / "payloads"],
        env={**os.environ, **counts, **environment, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs, digest, count = json.loads(done.stdout)

    assert count == threads
    assert digest == hashlib.sha256(read.tobytes()).hexdigest()
    if not environment:  # another processor's sums may round an encoder's number another way
        assert theirs == payloads


def test_how_a_photograph_lies_in_memory_changes_nothing():
    photograph = picture(60, 70, seed=9)
    expected = codec().encode(photograph, 100)
    channels_last = np.ascontiguousarray(photograph.transpose(1, 2, 0)).transpose(2, 0, 1)
    strided = np.zeros((6, 120, 140), np.uint8)[::2, ::2, ::2]
    strided[:] = photograph
    backwards = photograph[:, ::-1].copy()[:, ::-1]
    for other in (channels_last, strided, backwards):
        assert codec().encode(other, 100) == expected


def test_memory_for_a_large_photograph_is_bounded():
    """Bytes of numpy, apart from photograph and coefficients; a unit has 2^20 pixels."""
    photograph = np.broadcast_to(picture(16, 2048), (3, 16, 2048)).repeat(64, axis=1)
    tracemalloc.start()
    try:
        payloads = codec().encode(photograph, 300)
        encoding = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        coefficients, _ = codec().coefficients(payloads, photograph.shape)
        reading = tracemalloc.get_traced_memory()[1] - coefficients.nbytes
    finally:
        tracemalloc.stop()
    assert encoding < 60e6 and reading < 30e6
