"""Photographs' payloads, .quad files and codec files that are damaged or hostile."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_attack_parts import refused
from photos_made import ENDS, codec, picture
from quadrate.bottlenecks.checkerboard import CheckerboardModel
from quadrate.codecs import BaseCodec, FeatureCodec, PhotoCodec, PhotoFile, Photograph, Rate
from quadrate.codecs.photo_codec import MAX_SIDE
from quadrate.codecs.photo_quad import compress
from quadrate.coding.container import ChunkData, Header, LayerHeader, Writer
from quadrate.errors import QuadrateError
from tensor_files import contents, rewrite

SHAPE = (3, 60, 1040)  # two units


@pytest.fixture(scope="module")
def payloads() -> tuple[bytes, ...]:
    return codec().encode(picture(*SHAPE[1:], seed=11), 230)


def survives(payloads, shape=SHAPE) -> bool:
    """Reads payloads, whatever they are; lets only QuadrateError pass."""
    try:
        coefficients, exponent = codec().coefficients(payloads, shape)
    except QuadrateError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
        return False
    # below 2^20 steps and the offsets, of which none is larger than a step
    assert np.abs(coefficients).max() <= (2.0**20 + 1) * 2.0 ** (exponent / 64)
    decoded = codec().reconstruct(coefficients, exponent, shape)
    assert decoded.shape == tuple(shape)
    return True


# --- payloads ---


@settings(max_examples=60)
@given(st.data())
def test_changed_payloads_are_read_or_refused(payloads, data):
    parts = [bytearray(part) for part in payloads]
    for _ in range(data.draw(st.integers(1, 3))):
        part = parts[data.draw(st.integers(0, 1))]
        place = data.draw(st.integers(0, min(len(part), 40) - 1) | st.integers(0, len(part) - 1))
        action = data.draw(st.sampled_from(["flip", "set", "cut", "insert", "words"]))
        if action == "flip":
            part[place] ^= 1 << data.draw(st.integers(0, 7))
        elif action == "set":
            part[place] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del part[place + 1 :]
        elif action == "insert":
            part[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            part[place:] = b"\xff" * (len(part) - place)
    survives([bytes(part) for part in parts])


@settings(max_examples=60)
@given(
    st.lists(st.binary(max_size=60), min_size=1, max_size=2),
    st.integers(0, 511),
    st.sampled_from([(1, 1, 1), (3, 5, 40), (1, 1030, 3)]),
)
def test_any_bytes_are_read_or_refused(parts, exponent, shape):
    parts[0] = struct.pack("<H", exponent) + parts[0]
    survives(parts, shape)


def test_each_way_of_cutting_a_payload_short_is_noticed_or_harmless(payloads):
    for number in range(2):
        for length in range(0, len(payloads[number]), 7):
            parts = list(payloads)
            parts[number] = parts[number][:length]
            survives(parts)


def test_payloads_of_another_shape_are_read_or_refused(payloads):
    for shape in ((1, 60, 1040), (3, 16, 16), (3, 60, 1041), (3, 1040, 60), (3, 500, 900)):
        survives(payloads, shape)
    assert survives(payloads[::-1]) in (True, False)


def joined(exponent: int, *streams: bytes, lengths=None) -> bytes:
    lengths = [len(stream) for stream in streams[:-1]] if lengths is None else lengths
    return struct.pack(f"<H{len(lengths)}I", exponent, *lengths) + b"".join(streams)


ONE = (3, 5, 5)
TWO = (1, 1, 1040)


@pytest.mark.parametrize(
    ("payloads", "shape", "message"),
    [
        ((b"",), ONE, "begins with its step"),
        ((b"\0",), ONE, "begins with its step"),
        ((joined(512, b"\1"),), ONE, "exponent is 512; allowed: 0 to 511"),
        ((joined(65535, b"\1"),), ONE, "exponent is 65535"),
        ((joined(0, b""),), ONE, "the number of its groups, 1 to 3"),
        ((joined(0, b"\0"),), ONE, "the number of its groups, 1 to 3"),
        ((joined(0, b"\4"),), ONE, "the number of its groups, 1 to 3"),
        ((joined(0, b"\xff"),), ONE, "the number of its groups, 1 to 3"),
        ((joined(0, b"\1\0\0\0"),), ONE, "whole number of 32-bit words"),
        ((joined(0, b"\1" + bytes(400)),), ONE, "goes on after its last symbol"),
        ((joined(0, b"\3"), bytes(400)), ONE, "goes on after its last symbol"),
        ((joined(0, b"\2"), bytes(4)), ONE, "has a rest that is not empty"),
        ((joined(0, b"\1"), bytes(8)), ONE, "has a rest that is not empty"),
        ((joined(0, b"\3"), b"\0"), ONE, "whole number of 32-bit words"),
        ((joined(0, b"\1"),), TWO, "of 2 streams is cut short at 1 bytes"),
        ((joined(0, b"\1", b"\1", lengths=[3]),), TWO, "of 6 bytes reach to 7"),
        ((joined(0, b"\1", b"\1", lengths=[2**32 - 1]),), TWO, "of 6 bytes reach to 4294967299"),
        ((joined(0, b"\1", b"\1"), b"\0\0\0"), TWO, "of 2 streams is cut short at 3 bytes"),
        ((joined(0, b"\1", b"\1", lengths=[2]),), TWO, "whole number|number of its groups"),
    ],
)
def test_forged_payloads_are_refused_with_a_reason(payloads, shape, message):
    with pytest.raises(QuadrateError, match=message):
        codec().coefficients(payloads, shape)


@pytest.mark.parametrize(
    "shape",
    [
        *((2, 5, 5), (3, 0, 5), (3, -1, -5), (3, 5), (3, 5, 5, 1), (0, 0, 0)),
        *((3, 2**13 + 1, 2**13), (1, 1, MAX_SIDE + 1), (3, 2**40, 2**40)),
    ],
)
def test_shapes_of_no_photograph_are_refused(shape):
    with pytest.raises(QuadrateError, match="a photograph has 1 or 3 channels"):
        codec().coefficients([joined(0, b"\1")], shape)


@pytest.mark.parametrize("symbol", [2**31 - 1, -(2**31), 2**20, None])
def test_symbols_of_any_size_overflow_nothing(monkeypatch, symbol):
    """What no encoder writes: escapes as large as they can be."""
    draw = np.random.default_rng(0)

    def huge(self, wanted, indices, rate_weight):
        if symbol is not None:
            return np.full(wanted.shape, symbol)
        return draw.integers(-(2**31), 2**31, wanted.shape)

    with monkeypatch.context() as patch:
        patch.setattr(CheckerboardModel, "choose", huge)
        payloads = codec().encode(picture(40, 40), 511)
    assert survives(payloads, (3, 40, 40))
    streams = payloads[0][2:], payloads[1]
    received = codec().model.decode(streams, 3, 3, 511)
    assert np.abs(received).max() <= 2**24 + 16 and received.shape == (3, 3, ENDS[-1])
    assert np.abs(received).max() > 2**20


def test_a_large_shape_takes_no_memory_before_its_payload_is_there():
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(QuadrateError, match="of 64 streams is cut short"):
            codec().coefficients([joined(0, b"\1")], (3, 1 << 16, 1 << 10))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000 and time.process_time() - started < 1


# --- .quad files ---


def forged(payloads: tuple[bytes, ...], shape: tuple[int, ...], samples: int = 1) -> bytes:
    """A file whose checksums are right."""
    layers = tuple(LayerHeader(identity, 0) for identity in codec().identities)
    target = io.BytesIO()
    shapes = np.array([shape] * samples, np.int64)
    with Writer.create(target, Header((0, 0, 0), 0, layers, ("shapes", "profiles"))) as writer:
        data = ChunkData(samples, payloads, shapes=shapes, profiles=(b"",) * samples)
        writer.write(data)
    return target.getvalue()


@pytest.mark.parametrize(
    ("payloads", "shape", "message"),
    [
        ((b"", b""), (3, 5, 5), "chunk 0: a photograph's payload begins with its step"),
        ((joined(0, b"\1"), b""), (2, 5, 5), "chunk 0: a photograph has 1 or 3 channels"),
        ((joined(0, b"\1"), b""), (1, 1, 2**26), "chunk 0: .* up to 65536 pixels a side"),
        ((joined(0, b"\1"), b""), (3, 2**26, 1), "chunk 0: .* up to 65536 pixels a side"),
        ((joined(0, b"\1"), b"\0" * 400), (3, 5, 5), "chunk 0: .* a rest that is not empty"),
    ],
)
def test_forged_files_of_photographs_are_refused_with_a_reason(payloads, shape, message):
    with PhotoFile(forged(payloads, shape), codec()) as file:
        assert file.side(0).shapes.tolist() == [list(shape)]
        with pytest.raises(QuadrateError, match=message):
            file.photograph(0)


def test_chunks_of_several_photographs_are_refused():
    with pytest.raises(QuadrateError, match="chunks of several photographs"):
        PhotoFile(forged((joined(0, b"\1"), b""), (3, 5, 5), samples=2), codec())


def test_damaged_files_of_photographs_are_read_or_refused():
    target = io.BytesIO()
    photographs = [Photograph(picture(20, 30, seed=seed), str(seed)) for seed in range(2)]
    compress(codec(), photographs, target, Rate(quality=70))
    whole, draw = target.getvalue(), random.Random(0)
    outcomes = []
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 4])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            with PhotoFile(bytes(data), codec()) as file:
                outcomes.append(len(list(file.photographs())))
        except QuadrateError:
            outcomes.append(0)
    assert outcomes.count(0) > 50  # the rest changed a byte to what it was


# --- codec files ---


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("codecs") / "codec"
    codec().save(path)
    return path.read_bytes()


@pytest.fixture
def path(original, tmp_path):
    (tmp_path / "codec").write_bytes(original)
    return tmp_path / "codec"


def test_a_flipped_bit_is_found_and_a_digest_is_needed(path):
    whole, draw = path.read_bytes(), random.Random(1)
    start = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(20):
        damaged = bytearray(whole)
        damaged[draw.randrange(start, len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        refused(PhotoCodec.load, path, "is damaged")
    path.write_bytes(whole)
    rewrite(path, {"digest": None})
    PhotoCodec.load(path)


@pytest.mark.parametrize(
    "metadata",
    [
        *({"widths": text} for text in ("{}", "[]", "3", "null", '"', '{"faithful": 4}')),
        *({"widths": json.dumps({"faithful": w, "plain": 4})} for w in (0, -1, 4.0, True, "4")),
        *({"widths": json.dumps({"faithful": w, "plain": 4})} for w in (5, 1024, 1025, 10**30)),
        {"widths": '{"faithful": 4, "plain": 4, "third": 4}'},
        {"widths": '{"\\u001b]0;pwned": 4, "plain": 4}'},
        {"widths": None},
        *({"rate_weight": text} for text in ("NaN", "-1", "1", "1e999", "x", "", "[0.1]")),
        {"rate_weight": None},
        *(
            {"details": text}
            for text in ("[]", "3", '{"a": 1}', '{"a": "\\u001b[31m"}', '{"\\n": ""}')
        ),
        {"details": None},
        {"kind": "features"},
        {"kind": "\x1b[31m"},
        {"kind": None},
        {"same": '{"decoder.plain/place": "decoder.plain/place"}'},
        {"same": '{"decoder.ghost/place": "model/ends"}'},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_hostile_description_is_one_line_with_the_files_name(path, metadata):
    rewrite(path, metadata)
    refused(PhotoCodec.load, path)


@pytest.mark.parametrize(
    "name", ["decoder.faithful/first.weight", "transform/basis", "model/frequencies", "model/ends"]
)
@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.float64, torch.bool],
)
def test_tensors_of_another_type_are_refused(path, name, dtype):
    given = contents(path)[1][name]
    narrow = given.dtype == torch.uint16  # which converts to few types
    rewrite(path, tensors={name: given.to(torch.int32).to(dtype) if narrow else given.to(dtype)})
    refused(PhotoCodec.load, path)


def test_tensors_of_other_dimensions_are_refused(path):
    whole = path.read_bytes()
    for name, tensor in contents(path)[1].items():
        if name.startswith(("model/mean.", "model/spread.")) and ".1.1." not in name:
            continue  # one network of each role is enough
        for changed in (tensor.flatten()[0].clone(), tensor[None].clone(), None):
            path.write_bytes(whole)
            rewrite(path, tensors={name: changed})
            refused(PhotoCodec.load, path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transform/mean", float("nan")),
        ("transform/basis", float("inf")),
        ("transform/basis", 1e38),
        ("decoder.faithful/first.weight", float("nan")),
        ("model/offsets", 17),
        ("model/offsets", -(2**31)),
        ("model/lows", -(2**31)),
        ("model/lows", 2**31 - 1),
        ("model/base", 0),
        ("model/base", 3),
        ("model/ends", 4),
        ("model/ends", 2**31 - 1),
        ("model/spread.0.0.shifts0", 53),
        ("model/spread.0.0.biases0", -(2**63)),
    ],
)
def test_numbers_out_of_range_are_refused(path, name, value):
    tensor = contents(path)[1][name].clone()
    tensor.view(-1)[0] = value
    rewrite(path, tensors={name: tensor})
    refused(PhotoCodec.load, path)


@pytest.mark.parametrize(
    "name", ["decoder.ghost/place", "model/mean.9.9.weights0", "model/x", "transform/x", "x"]
)
def test_parts_too_many_are_refused(path, name):
    rewrite(path, tensors={name: torch.ones(3, 3)})
    refused(PhotoCodec.load, path)


def test_names_without_tensors_are_found_at_once(path):
    rewrite(path, {"widths": json.dumps({f"decoder {i}": 1024 for i in range(100_000)})})
    start = time.process_time()
    refused(PhotoCodec.load, path, "are of other decoders")
    assert time.process_time() - start < 3


def test_huge_weights_give_some_picture(path):
    tensors = contents(path)[1]
    name = "decoder.faithful/first.weight"
    rewrite(path, tensors={name: torch.full_like(tensors[name], 3e38)})
    own = PhotoCodec.load(path)
    photograph = picture(20, 20)
    assert own.decode(own.encode(photograph, 300), photograph.shape).shape == photograph.shape


def test_no_change_of_a_file_does_worse_than_one_line(path):
    whole, draw = path.read_bytes(), random.Random(2)
    metadata, tensors = contents(path)
    photograph = picture(20, 20)
    payloads = codec().encode(photograph, 200)
    loaded = 0
    for _ in range(30):
        path.write_bytes(whole)
        name = draw.choice([name for name in metadata if name != "format"])
        text = list(metadata[name])
        for _ in range(draw.choice([1, 1, 3])):
            text[draw.randrange(len(text))] = draw.choice('0123456789-[]{}",.eé\x1b\n ')
        part = draw.choice(sorted(tensors))
        changed = tensors[part].clone()
        changed.view(-1)[draw.randrange(changed.numel())] = draw.choice([0, 1, 3, 2**15 - 1])
        rewrite(
            path,
            {name: "".join(text)} if draw.random() < 0.3 else None,
            {part: changed} if draw.random() < 0.7 else None,
        )
        try:
            own = PhotoCodec.load(path)
        except QuadrateError as error:
            assert str(path) in str(error) and str(error).isprintable()
            continue
        loaded += 1
        try:  # what was accepted reads any payload, and writes what it reads
            own.decode(payloads, photograph.shape)
        except QuadrateError:
            pass
        written = own.encode(photograph, 200)
        own.decode(written, photograph.shape)
    assert loaded > 5


def test_load_gives_the_right_kind(path):
    assert type(BaseCodec.load(path)) is PhotoCodec
    refused(FeatureCodec.load, path, "it is a file of PhotoCodec, not FeatureCodec")
