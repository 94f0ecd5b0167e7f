"""The .quad reader against hostile files whose checksums are right.

Every case ends in a QuadrateError or in a valid answer, soon and in little memory.
"""

import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from container_attacks import survives
from containers import (
    Chunk,
    Forgery,
    content,
    header_bytes,
    labels_bytes,
    names_bytes,
)
from quadrate.coding.container import Reader, Writer
from quadrate.errors import QuadrateError

# --- damage with checksums that are right

RIGHT = Forgery(chunks=(Chunk(2), Chunk(3, (b"a", b"b")), Chunk(1)))


LABELS, NAMES, BOTH = header_bytes(kinds=(1,)), header_bytes(kinds=(2,)), header_bytes(kinds=(1, 2))


def with_chunk(**changes) -> Forgery:
    """The right file with another chunk in its middle."""
    return RIGHT.but(
        chunks=(
            RIGHT.chunks[0],
            Chunk(**{"samples": 3, "payloads": (b"a", b"b")} | changes),
            RIGHT.chunks[2],
        )
    )


def with_side(
    header: bytes, raw: bytes, samples: int = 1, cut: int = 0, tail: bytes = b""
) -> Forgery:
    side = zlib.compress(raw)
    return Forgery(header, (Chunk(samples, side=side[: len(side) - cut] + tail),))


BIG = 2**32 - 1


HOSTILE: dict[str, tuple[Forgery, str]] = {
    # header
    "version 0": (Forgery(header_bytes(version=0)), "version is 0; allowed: 1 to 2"),
    "length too long": (
        Forgery(header_bytes(length=BIG)),
        "header length is 4294967295; allowed: 56 to 212",
    ),
    "length too short": (Forgery(header_bytes(length=0)), "header length is 0; allowed: 56 to 212"),
    "zero": (Forgery(header_bytes(zero=1)), "zero is 1; allowed: 0"),
    "no dimensions": (Forgery(header_bytes(shape=())), "dimensions is 0; allowed: 1 to 4"),
    "many dimensions": (Forgery(header_bytes(shape=(1,) * 5)), "dimensions is 5"),
    "no layers": (
        Forgery(header_bytes(shape=(1, 1, 1, 1), layers=(), kinds=(1,) * 8)),
        "layers is 0; allowed: 1 to 8",
    ),
    "many layers": (
        Forgery(header_bytes(layers=((b"a" * 16, 1),) * 9, length=210)),
        "checksum differs",
    ),
    "many layers by count": (Forgery(header_bytes(counts=(3, 255, 0))), "layers is 255"),
    "other counts": (
        Forgery(header_bytes(counts=(4, 2, 0))),
        "header length is 84; its counts of dimensions, layers and side fields make 88",
    ),
    "five side fields": (
        Forgery(header_bytes(kinds=(1, 2, 3, 4, 4))),
        "side fields is 5; allowed: 0 to 4",
    ),
    "many side fields": (
        Forgery(header_bytes(kinds=(1, 2, 2))),
        r"kinds of side fields are \[1, 2, 2\]; they must ascend",
    ),
    "no size": (
        Forgery(header_bytes(shape=(0,))),
        r"version is 1; shape \(0,\) .* must have version 2",
    ),
    "great size": (Forgery(header_bytes(shape=(BIG,))), "dimension is 4294967295"),
    "great product": (Forgery(header_bytes(shape=(2**26,) * 4)), r"allowed: up to 2\^26"),
    "no columns": (Forgery(header_bytes(layers=((b"a" * 16, 0),))), "columns is 0"),
    "many columns": (Forgery(header_bytes(layers=((b"a" * 16, BIG),))), "columns is 4294967295"),
    "many columns in all": (
        Forgery(header_bytes(layers=((b"a" * 16, 2**16),) * 2)),
        "the layers have 131072 columns",
    ),
    "no such field": (Forgery(header_bytes(kinds=(5,))), "kind is 5; allowed: 1 to 4"),
    "fields in another order": (
        Forgery(header_bytes(kinds=(2, 1))),
        r"kinds of side fields are \[2, 1\]; they must ascend",
    ),
    "a field twice": (
        Forgery(header_bytes(kinds=(1, 1))),
        r"kinds of side fields are \[1, 1\]; they must ascend",
    ),
    # trailer
    "trailer marker": (RIGHT.but(trailer_marker=b"CHNK"), "trailer: marker is b'CHNK'"),
    "more chunks": (RIGHT.but(count=4), "its index has 60 bytes; 4 chunks make 80"),
    "2^32 chunks": (RIGHT.but(count=BIG), r"chunks is 4294967295; allowed: 0 to 2\^20"),
    "no chunks": (RIGHT.but(count=0), "its index has 60 bytes; 0 chunks make 0"),
    "more samples": (RIGHT.but(samples=2**40), "samples is 1099511627776; the index lists 6"),
    "2^64 samples": (RIGHT.but(samples=2**64 - 1), "samples is 18446744073709551615; allowed"),
    "trailer too long": (
        RIGHT.but(trailer_length=20_971_572),
        "trailer length is 20971572, more than the file has after its header",
    ),
    "2^32 trailer": (
        RIGHT.but(trailer_length=BIG),
        "trailer length is 4294967295; allowed: 52 to 20971572",
    ),
    "trailer too short": (RIGHT.but(trailer_length=52), "trailer: marker"),
    "trailer of another file": (RIGHT.but(trailer_id=b"otherone"), "it comes from another file"),
    "empty file's id": (Forgery(file_id=b"otherone"), "the file id is not that of the header"),
    "id not of chunk 0": (
        RIGHT.but(file_id=b"otherone"),
        "its file id is not that of its header and first chunk",
    ),
    "a gap": (RIGHT.but(between=b"gap"), "chunk 3 at byte 294: no chunk is here, but 67 61 70 54"),
    "half a chunk in the gap": (
        RIGHT.but(between=b"CHNK"),
        "chunk 3 at byte 294: the checksum of the chunk's header differs",
    ),
    # index
    "offset 0": (
        with_chunk(offset=0),
        "the chunks in the index lie before the end of the header, or on one another",
    ),
    "offset 0 of the first": (
        RIGHT.but(chunks=(Chunk(2, offset=0), *RIGHT.chunks[1:])),
        "the chunks in the index lie before the end of the header",
    ),
    "offset of the next": (
        with_chunk(offset=200),
        "lie before the end of the header, or on one another",
    ),
    "offset beyond": (
        with_chunk(offset=10**6),
        "the index has a chunk at byte 1000000; the trailer begins at",
    ),
    "offset 2^64": (
        with_chunk(offset=2**64 - 1),
        "the index has a chunk at byte 18446744073709551615",
    ),
    "offset 2^63": (with_chunk(offset=2**63), "the index has a chunk at byte 9223372036854775808"),
    "no samples listed": (with_chunk(index_samples=0), "samples is 6; the index lists 3"),
    "no samples in the index": (
        with_chunk(index_samples=0).but(samples=3),
        "the index lists chunks of 0 to 2 samples",
    ),
    "2^32 samples in the index": (
        with_chunk(index_samples=BIG).but(samples=BIG + 3),
        "the index lists chunks of 1 to 4294967295 samples",
    ),
    "other samples in the index": (
        with_chunk(index_samples=4).but(samples=7),
        "chunk 1 at byte 158: it has 3 samples; the index lists 4",
    ),
    "other samples in the index for the last": (
        RIGHT.but(chunks=(*RIGHT.chunks[:2], Chunk(1, index_samples=2)), samples=7),
        "chunk 2 at byte 220: it has 1 samples; the index lists 2",
    ),
    "other checksum in the index": (
        with_chunk(index_checksum=b"x" * 8),
        "its checksum is another in the index",
    ),
    # chunks
    "chunk marker": (with_chunk(marker=b"CHUN"), "no chunk is here, but 43 48 55 4e"),
    "chunk id": (with_chunk(file_id=b"otherone"), "it comes from another file"),
    "number": (with_chunk(number=2), "it is chunk 2 with samples from 2, not from 2"),
    "2^32 number": (with_chunk(number=BIG), "number is 4294967295"),
    "first sample": (
        with_chunk(first=0),
        "it is chunk 1 with samples from 0, not from 2: chunks were swapped or lost",
    ),
    "2^64 first sample": (with_chunk(first=2**64 - 1), "first sample is 18446744073709551615"),
    "no samples": (with_chunk(samples=0, index_samples=1).but(samples=4), "samples is 0"),
    "2^32 samples": (
        with_chunk(samples=BIG, index_samples=3).but(samples=6),
        "samples is 4294967295",
    ),
    "many symbols": (
        Forgery(header_bytes(layers=((b"a" * 16, 2**16),)), (Chunk(2**20, (b"x",)),)),
        "1048576 samples of 65536 columns; allowed: 16777216 symbols a chunk",
    ),
    "2^32 payload": (with_chunk(sizes=(BIG, 1, 0)), "bytes is 4294967295; allowed: 0 to 2\\^27"),
    "long payload": (with_chunk(sizes=(2**27, 0, 0)), "its 134217788 bytes reach beyond byte"),
    "long payloads": (
        with_chunk(sizes=(2**27, 1, 0)),
        "the payloads have 134217729 bytes; allowed: 134217728",
    ),
    "payload into the next": (with_chunk(sizes=(1, 2, 0)), "its 63 bytes reach beyond byte"),
    "short payload": (
        with_chunk(sizes=(0, 1, 0)),
        "the checksum of its payload of layer 0 differs",
    ),
    "long side data": (with_chunk(sizes=(1, 1, 2**27)), "reach beyond byte"),
    # side data
    "side data not announced": (
        Forgery(chunks=(Chunk(side=b"xyz"),)),
        "side data: there are 3 bytes, but the header announces none",
    ),
    "no side data": (Forgery(LABELS, (Chunk(),)), "side data: the zlib stream is cut short"),
    "no zlib": (Forgery(LABELS, (Chunk(side=b"xyzxyz"),)), "side data: no valid zlib stream"),
    "zlib cut": (
        with_side(LABELS, labels_bytes([1] * 100), 100, cut=1),
        "the zlib stream is cut short",
    ),
    "zlib and more": (
        with_side(LABELS, labels_bytes([1]), tail=b"more"),
        "the zlib stream ends 4 bytes early",
    ),
    "bomb": (
        with_side(BOTH, bytes(2**26 + 1), 2**20),
        "it decompresses to more than the 67108864 bytes that so many samples can take",
    ),
    "small bomb": (
        with_side(LABELS, bytes(2**20)),
        "it decompresses to more than the 9 bytes that so many samples can take",
    ),
    "width 0": (
        with_side(LABELS, b"\0"),
        "1 labels of 0 bytes do not fit into 1 bytes; widths are 1, 2, 4, 8",
    ),
    "width 3": (with_side(LABELS, b"\3abc"), "1 labels of 3 bytes"),
    "width 255": (with_side(LABELS, b"\xff" + bytes(8)), "1 labels of 255 bytes"),
    "no width": (with_side(LABELS, b""), "1 labels of 0 bytes do not fit into 0 bytes"),
    "few labels": (
        with_side(LABELS, labels_bytes([1, 2], 4), 3),
        "3 labels of 4 bytes do not fit into 9 bytes",
    ),
    "many labels": (
        with_side(LABELS, labels_bytes([1, 2])),
        "1 bytes are left over after 1 samples",
    ),
    "few lengths": (with_side(NAMES, b"\1"), "the lengths of 1 names do not fit into 1 bytes"),
    "name too long": (
        with_side(NAMES, names_bytes(["x" * 4097, ""]), 2),
        "names of up to 4097 bytes",
    ),
    "names beyond": (with_side(NAMES, b"\2\0x"), "names of up to 2 bytes, 2 in all"),
    "name left over": (with_side(NAMES, b"\1\0xy"), "1 bytes are left over after 1 samples"),
    "no UTF-8": (with_side(NAMES, names_bytes([b"ok", b"\xff"]), 2), "name 1 is no valid UTF-8"),
    "a surrogate": (with_side(NAMES, names_bytes([b"\xed\xb2\x80"])), "name 0 is no valid UTF-8"),
    "a character in two names": (
        with_side(NAMES, names_bytes([b"\xc3", b"\xa9"]), 2),
        "name 0 is no valid UTF-8",
    ),
    "a line break": (with_side(NAMES, names_bytes(["a\nb"])), r"name 0, 'a\\nb', has a line break"),
    "an escape": (
        with_side(NAMES, names_bytes(["\x1b[2J"])),
        "has a line break or another control character",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_whose_checksums_are_right_is_an_error_that_says_what_is_wrong(name):
    forgery, message = HOSTILE[name]
    with pytest.raises(QuadrateError, match=message) as caught:
        content(forgery.build())
    assert str(caught.value).startswith("the data: ")
    survives(forgery.build())


@pytest.mark.parametrize(
    "name",
    [
        "bomb",
        "small bomb",
        "2^32 chunks",
        "2^32 trailer",
        "long payload",
        "2^32 payload",
        "great product",
    ],
)
def test_a_hostile_file_takes_no_more_memory_than_the_limits_allow(tmp_path, name):
    (tmp_path / "x.quad").write_bytes(HOSTILE[name][0].build())
    tracemalloc.start()
    try:
        with pytest.raises(QuadrateError):
            content(tmp_path / "x.quad")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (3 * 2**26 if name == "bomb" else 200_000)


@pytest.mark.parametrize(
    "name",
    [
        "many symbols",
        "offset 0 of the first",
        "offset beyond",
        "2^32 samples in the index",
        "great product",
    ],
)
def test_what_header_and_index_say_is_checked_when_a_file_is_opened(name):
    with pytest.raises(QuadrateError, match=HOSTILE[name][1]):
        Reader(HOSTILE[name][0].build())


def test_a_walk_over_many_blocks_ends_soon():
    header = header_bytes(layers=((b"a" * 16, 1),))
    data = Forgery(header, (Chunk(1, (b"",)),) * 20_000).build()
    started = time.process_time()
    with pytest.raises(QuadrateError, match="it has 20000 whole chunks, and no trailer"):
        Reader(data[:-1])
    Reader(data).verify()
    trailer = Forgery(header).build()[len(header) :]
    with pytest.raises(
        QuadrateError, match="no chunk|must begin with"
    ):  # a trailer that adds nothing is none
        Reader(header + trailer * 100_000 + b"x")
    assert time.process_time() - started < 10


FIELD = st.sampled_from([None, None, 0, 1, 2, 3, 60, 2**20, 2**20 + 1, 2**27, 2**31, 2**32 - 1])


SIDES = [
    b"",
    b"x",
    zlib.compress(b""),
    zlib.compress(labels_bytes([1])),
    zlib.compress(names_bytes(["a"])),
    zlib.compress(labels_bytes([1]) + names_bytes([""])),
]


HEADERS = [
    header_bytes(),
    LABELS,
    NAMES,
    BOTH,
    header_bytes(layers=((b"a" * 16, 2**15), (b"b" * 16, 1))),
]


@st.composite
def forgeries(draw: Callable) -> Forgery:
    chunks = []
    for _ in range(draw(st.integers(0, 3))):
        sizes = draw(st.none() | st.tuples(*[st.sampled_from([0, 1, 2, 60, 2**27, 2**32 - 1])] * 3))
        payloads = draw(st.tuples(st.binary(max_size=3), st.binary(max_size=3)))
        samples = draw(st.sampled_from([1, 1, 1, 2, 0, 2**20, 2**32 - 1]))
        fields = {name: draw(FIELD) for name in ("number", "first", "offset", "index_samples")}
        chunks.append(Chunk(samples, payloads, draw(st.sampled_from(SIDES)), sizes=sizes, **fields))
    numbers = {name: draw(FIELD) for name in ("count", "samples", "trailer_length")}
    return Forgery(draw(st.sampled_from(HEADERS)), tuple(chunks), **numbers)


@settings(max_examples=500)
@given(forgeries(), st.integers(0, 60))
@example(RIGHT, 0)
@example(RIGHT, 1)
def test_any_fields_with_right_checksums_survive_with_their_end_and_without(
    tmp_path_factory, forgery, cut
):
    data = forgery.build()
    data = data[: len(data) - cut]
    valid = survives(data)
    assert valid or forgery is not RIGHT or cut
    path = tmp_path_factory.getbasetemp() / "forged.quad"
    path.write_bytes(data)
    try:
        with Writer.append(path) as writer:
            assert writer.samples == Reader(data).samples
    except QuadrateError:
        assert not valid or len(data) == 0
    assert path.read_bytes() == data
