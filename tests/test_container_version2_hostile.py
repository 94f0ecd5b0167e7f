"""The .quad reader against hostile files of version 2 whose checksums are right.

Every case ends in a QuadrateError or in a valid answer, soon and in little memory.
"""

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_attacks import survives
from containers import (
    Chunk,
    Forgery,
    content,
    header_bytes,
    labels_bytes,
    names_bytes,
    profiles_bytes,
    shapes_bytes,
)
from quadrate.coding.container import Reader, Writer
from quadrate.errors import QuadrateError

LAYERS = ((b"a" * 16, 0), (b"b" * 16, 0))
BIG = 2**32 - 1


def own_header(shape=(3, 0, 0), kinds=(3,), layers=LAYERS, **changes) -> bytes:
    return header_bytes(shape, 7, layers, kinds, **{"version": 2} | changes)


SHAPES, PROFILES = own_header(), own_header((3, 8, 8), (4,), ((b"a" * 16, 3), (b"b" * 16, 2)))
PHOTOS, ALL = own_header(kinds=(2, 3, 4)), own_header((0, 0, 0, 0), (1, 2, 3, 4))


def with_side(header: bytes, *parts: bytes, samples: int = 1, cut: int = 0) -> Forgery:
    side = zlib.compress(b"".join(parts), 9)
    return Forgery(header, (Chunk(samples, side=side[: len(side) - cut]),))


def with_shapes(*shapes: tuple[int, ...], header: bytes = SHAPES) -> Forgery:
    return with_side(header, shapes_bytes(shapes), samples=len(shapes))


HOSTILE: dict[str, tuple[Forgery, str]] = {
    # header
    "version 3": (
        Forgery(own_header(version=3)),
        r"written by a newer version of the format \(3; this reads up to 2\): upgrade quadrate",
    ),
    "own shapes in version 1": (
        Forgery(own_header(version=1)),
        r"version is 1; shape \(3, 0, 0\) with the side fields shapes must have version 2",
    ),
    "profiles in version 1": (
        Forgery(header_bytes(kinds=(4,))),
        r"version is 1; shape \(1, 2, 3\) with the side fields profiles must have version 2",
    ),
    "nothing of version 2": (
        Forgery(header_bytes(version=2, kinds=(1, 2))),
        r"version is 2; shape \(1, 2, 3\) with the side fields labels, names must have version 1",
    ),
    "no shapes field": (
        Forgery(own_header(kinds=(4,))),
        r"a dimension is 0, each sample's own, but shapes are not among .* \(profiles\)",
    ),
    "no side fields": (Forgery(own_header(kinds=())), r"but shapes are not among .* \(none\)"),
    "shapes field without own shapes": (
        Forgery(own_header((3, 8, 8))),
        r"shapes are among the side fields, but no dimension of \(3, 8, 8\) is 0",
    ),
    "columns with own shapes": (
        Forgery(own_header(layers=((b"a" * 16, 0), (b"b" * 16, 1)))),
        "columns is 1 in layer 1; allowed: 0, since a dimension is",
    ),
    "no columns without own shapes": (
        Forgery(own_header((3, 8, 8), (4,))),
        r"columns is 0 in layer 0; allowed: 1 to 2\^16",
    ),
    "great product": (
        Forgery(own_header((2**26, 2**26, 0))),
        r"4503599627370496 values or more; allowed: up to 2\^26",
    ),
    "great size": (Forgery(own_header((BIG, 0))), "dimension is 4294967295; allowed: 0 to"),
    "no such field": (Forgery(own_header(kinds=(3, 5))), "kind is 5; allowed: 1 to 4"),
    "fields in another order": (Forgery(own_header(kinds=(4, 3))), r"\[4, 3\]; they must ascend"),
    "length too long": (Forgery(own_header(length=213)), "header length is 213; allowed: 56 to 21"),
    # shapes
    "no side data": (Forgery(SHAPES, (Chunk(),)), "the zlib stream is cut short"),
    "shapes cut": (
        with_side(SHAPES, shapes_bytes([(3, 1, 1)] * 9), samples=9, cut=1),
        "the zlib stream is cut short",
    ),
    "no shapes": (with_side(SHAPES), "1 shapes of 3 dimensions do not fit into 0 bytes"),
    "few shapes": (
        with_side(SHAPES, shapes_bytes([(3, 1, 1)]), samples=2),
        "2 shapes of 3 dimensions do not fit into 12 bytes",
    ),
    "fewer dimensions": (
        with_side(SHAPES, shapes_bytes([(1, 1)])),
        "1 shapes of 3 dimensions do not fit into 8 bytes",
    ),
    "more dimensions": (
        with_side(SHAPES, shapes_bytes([(3, 1, 1, 1)])),
        "it decompresses to more than the 12 bytes that so many samples can take",
    ),
    "more dimensions beside profiles": (
        with_side(own_header(kinds=(3, 4)), shapes_bytes([(3, 1, 1, 1)]), profiles_bytes([b"x"])),
        "4 bytes are left over after 1 samples",
    ),
    "no size": (with_shapes((3, 0, 1)), r"dimensions of 0 to 3; allowed: 1 to 2\^26"),
    "2^32 size": (with_shapes((3, 1, BIG)), "dimensions of 1 to 4294967295"),
    "size above the limit": (with_shapes((3, 1, 2**26 + 1)), "dimensions of 1 to 67108865"),
    "other than the header's": (
        with_shapes((3, 1, 1), (1, 1, 1)),
        r"shape 1 is \(1, 1, 1\); the header's is \(3, 0, 0\)",
    ),
    "great shape": (
        with_shapes((3, 2**26, 2**26)),
        r"the shapes make 13510798882111488 values, shape 0, .* allowed: 2\^28 a chunk",
    ),
    "great shapes": (
        with_shapes(*[(3, 2**12, 2**12)] * 6),
        r"the shapes make 301989888 values, shape 0, \(3, 4096, 4096\), the most of them",
    ),
    "product of 2^104": (
        with_shapes(*[(2**26,) * 4] * 3, header=own_header((0,) * 4)),
        "the shapes make 60847228810955011271841753858048 values",
    ),
    "2^20 shapes of the greatest size": (
        with_side(SHAPES, shapes_bytes([(3, 2**26, 2**26)]) * 2**20, samples=2**20),
        r"the shapes make \d+ values, shape 0",
    ),
    # profiles
    "no lengths": (with_side(PROFILES, b"\1\0\0"), "the lengths of 1 profiles do not fit into 3"),
    "profile too long": (
        with_side(PROFILES, struct.pack("<II", 2**22 + 1, 0), bytes(2**22 + 1), samples=2),
        "profiles of up to 4194305 bytes, 4194305 in all; allowed: 4194304",
    ),
    "profile beyond": (
        with_side(PROFILES, struct.pack("<I", 2), b"x"),
        "profiles of up to 2 bytes, 2 in all; allowed: 4194304, and what is there",
    ),
    "2^32 profile": (
        with_side(PROFILES, struct.pack("<I", BIG), b"x"),
        "profiles of up to 4294967295 bytes",
    ),
    "2^52 bytes of profiles": (
        with_side(PROFILES, struct.pack("<I", BIG) * 2**20, samples=2**20),
        "profiles of up to 4294967295 bytes, 4503599626321920 in all",
    ),
    "many profiles beyond": (
        with_side(PROFILES, struct.pack("<I", 2**22) * 2**20, samples=2**20),
        "profiles of up to 4194304 bytes, 4398046511104 in all",
    ),
    "profile left over": (
        with_side(PROFILES, struct.pack("<I", 1), b"xy"),
        "1 bytes are left over after 1 samples",
    ),
    "profiles missing": (
        with_side(PHOTOS, names_bytes(["a"]), shapes_bytes([(3, 1, 1)])),
        "the lengths of 1 profiles do not fit into 0 bytes",
    ),
    # bombs
    "small bomb": (
        with_side(SHAPES, bytes(2**20)),
        "it decompresses to more than the 12 bytes that so many samples can take",
    ),
    "bomb": (
        with_side(ALL, bytes(2**26 + 1), samples=2**20),
        "it decompresses to more than the 67108864 bytes that so many samples can take",
    ),
    "bomb of zeros": (with_side(PROFILES, bytes(2**26), samples=2**20), "62914560 bytes are left"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_whose_checksums_are_right_is_an_error_that_says_what_is_wrong(name):
    forgery, message = HOSTILE[name]
    data = forgery.build()
    with pytest.raises(QuadrateError, match=message) as caught:
        content(data)
    assert str(caught.value).startswith("the data")
    survives(data)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("great product", 200_000),
        ("great shape", 200_000),
        ("product of 2^104", 200_000),
        ("2^32 profile", 200_000),
        ("small bomb", 200_000),
        ("2^20 shapes of the greatest size", 2**27),
        ("2^52 bytes of profiles", 2**27),
        ("many profiles beyond", 2**27),
        ("bomb", 3 * 2**26),
        ("bomb of zeros", 3 * 2**26),
    ],
)
def test_a_hostile_file_takes_no_more_memory_and_time_than_the_limits_allow(tmp_path, name, most):
    (tmp_path / "x.quad").write_bytes(HOSTILE[name][0].build())
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(QuadrateError):
            content(tmp_path / "x.quad")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most and time.process_time() - started < 10


@pytest.mark.parametrize("name", ["great product", "no shapes field", "columns with own shapes"])
def test_what_the_header_says_is_checked_when_a_file_is_opened(name):
    with pytest.raises(QuadrateError, match=HOSTILE[name][1]):
        Reader(HOSTILE[name][0].build())


@pytest.mark.parametrize("number", range(4))
def test_any_field_cut_short_anywhere_is_an_error(number):
    """A side field that ends early is never made up for by what follows."""
    parts = [
        labels_bytes([1, 2]),
        names_bytes(["ab", "c"]),
        shapes_bytes([(3, 2, 1)] * 2),
        profiles_bytes([b"icc", b"i"]),
    ]
    header = own_header(kinds=(1, 2, 3, 4))
    assert survives(with_side(header, *parts, samples=2).build())
    for length in range(len(parts[number])):
        short = [part[:length] if i == number else part for i, part in enumerate(parts)]
        assert not survives(with_side(header, *short, samples=2).build())


HEADERS = [SHAPES, PROFILES, PHOTOS, ALL, own_header((0,), (1, 3)), own_header(version=1)]
SIZE = st.sampled_from([0, 1, 2, 3, 3, 2**13, 2**26, 2**26 + 1, 2**31, BIG])


@st.composite
def side_data(draw: Callable) -> bytes:
    """Any of the fields, right or wrong, in any order, and sometimes not quite a zlib stream."""
    shapes = st.lists(st.lists(SIZE, min_size=1, max_size=4), max_size=3).map(shapes_bytes)
    profiles = st.lists(st.binary(max_size=4), max_size=3).map(profiles_bytes)
    lengths = st.lists(SIZE, max_size=3).map(lambda sizes: shapes_bytes([sizes]))
    part = st.one_of(
        shapes,
        profiles,
        lengths,
        st.binary(max_size=5),
        st.lists(st.text(max_size=2), max_size=3).map(names_bytes),
        st.lists(st.integers(-9, 9), max_size=3).map(labels_bytes),
    )
    data = zlib.compress(b"".join(draw(st.lists(part, max_size=4))))
    return data[: len(data) - draw(st.sampled_from([0, 0, 0, 0, 1, 4]))]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(HEADERS), st.lists(st.tuples(st.integers(1, 3), side_data()), max_size=3))
def test_any_side_data_with_right_checksums_survives(tmp_path_factory, header, chunks):
    data = Forgery(header, tuple(Chunk(samples, side=side) for samples, side in chunks)).build()
    survives(data)
    path = tmp_path_factory.getbasetemp() / "forged2.quad"
    path.write_bytes(data)
    try:
        with Writer.append(path) as writer:
            assert writer.samples == Reader(data).samples
    except QuadrateError:
        assert header is HEADERS[-1]
    assert path.read_bytes() == data


RIGHT = [
    with_side(PHOTOS, names_bytes(["é"]), shapes_bytes([(3, 2, 1)]), profiles_bytes([b"icc"])),
    with_side(ALL, labels_bytes([1]), names_bytes([""]), shapes_bytes([(9,) * 4]), bytes(4)),
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(RIGHT), st.data())
def test_raw_side_data_with_changed_bytes_and_right_checksums_survives(forgery, data):
    raw = bytearray(zlib.decompress(forgery.chunks[0].side))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    survives(with_side(forgery.header, bytes(raw)).build())
