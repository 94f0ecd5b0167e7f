"""Version 2 of the .quad container: samples of their own shapes, and ICC profiles.

What goes in comes out, and version 1 stays what it was.
"""

import io
import itertools
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers import ROOT, TWO, appended, content, everything, labels_bytes, same, written
from quadrate.codecs.quad_file import check_fit
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.errors import QuadrateError

KINDS = ("labels", "names", "shapes", "profiles")
A16, B16 = b"a" * 16, b"b" * 16
OWN = (LayerHeader(A16, 0), LayerHeader(B16, 0))
PHOTOS = Header((0, 0, 0), 7, OWN, ("names", "shapes", "profiles"))
CHUNKS = [
    ChunkData(
        2,
        (b"base", b"rest"),
        names=("a.png", "b/é.jpg"),
        shapes=np.array([(3, 512, 768), (1, 1, 1)]),
        profiles=(b"profile", b""),
    ),
    ChunkData(
        1, (b"", b""), names=("",), shapes=np.array([(4, 4000, 6000)]), profiles=(bytes(2**22),)
    ),
    ChunkData(
        2, (b"x", b"y"), names=("c", "d"), shapes=np.array([(3, 17, 31)] * 2), profiles=(b"i", b"j")
    ),
]


def header_of(fields: tuple[str, ...], shape: tuple[int, ...] = (2, 3)) -> Header:
    """A header with these fields, whose last dimension is each sample's own if there are shapes."""
    own = "shapes" in fields
    return Header((*shape[:-1], 0) if own else shape, 5, OWN if own else TWO.layers, fields)


def chunk_of(fields: tuple[str, ...], samples: int) -> ChunkData:
    numbers = range(samples)
    return ChunkData(
        samples,
        (b"base", b"rest"),
        np.arange(samples) if "labels" in fields else None,
        tuple(f"n{i}" for i in numbers) if "names" in fields else None,
        np.array([(2, 1 + i) for i in numbers]) if "shapes" in fields else None,
        tuple(b"p" * i for i in numbers) if "profiles" in fields else None,
    )


# --- round trips


@pytest.mark.parametrize(
    "fields",
    [each for count in range(5) for each in itertools.combinations(KINDS, count)],
    ids=lambda fields: "-".join(fields) or "none",
)
def test_every_combination_of_fields_comes_back_in_the_least_version_that_holds_it(
    tmp_path, fields
):
    header, chunks = header_of(fields), [chunk_of(fields, samples) for samples in (3, 1, 2)]
    data = written(header, chunks)
    version = 2 if "shapes" in fields or "profiles" in fields else 1
    assert header.version == version == int.from_bytes(data[8:10], "little")
    with Reader(data) as reader:
        reader.verify()
        assert reader.header == header and reader.samples == 6
        for number, chunk in enumerate(chunks):
            assert same(reader.read(number), chunk)
            alone = reader.read(number, 1, side=False)
            assert same(alone, ChunkData(chunk.samples, (b"base",)))
        assert reader.sizes()["total"] == len(data)
    path = tmp_path / "x.quad"
    path.write_bytes(written(header, chunks[:1]))
    appended(path, chunks[1:])
    assert content(path) == content(data)


def test_photographs_come_back_and_their_files_grow(tmp_path):
    path = tmp_path / "x.quad"
    path.write_bytes(old := written(PHOTOS, CHUNKS[:1]))
    assert appended(path, CHUNKS[1:]).startswith(old)
    with Reader(path) as reader:
        reader.verify()
        assert everything(reader) == content(written(PHOTOS, CHUNKS)) and reader.ignored_bytes == 0
        read = reader.read(1)
        assert read.shapes.dtype == np.int64 and read.shapes.tolist() == [[4, 4000, 6000]]
        assert read.profiles == (bytes(2**22),)
        sizes = reader.sizes()
        assert sizes["payloads"] == [5, 5] and sizes["side_data"] > 0
        parts = [value for name, value in sizes.items() if name not in ("payloads", "total")]
        assert sum(parts) + 10 == sizes["total"] == path.stat().st_size


@st.composite
def own_chunks(draw) -> tuple[Header, list[ChunkData]]:
    dimensions = draw(st.integers(1, 4))
    free = draw(st.lists(st.booleans(), min_size=dimensions, max_size=dimensions).filter(any))
    shape = tuple(0 if own else draw(st.integers(1, 9)) for own in free)
    fields = tuple(name for name in KINDS if name == "shapes" or draw(st.booleans()))
    chunks = []
    for _ in range(draw(st.integers(0, 3))):
        samples = draw(st.integers(1, 5))
        chunk = chunk_of(fields, samples)
        rows = [[size or draw(st.integers(1, 70)) for size in shape] for _ in range(samples)]
        kind = draw(st.sampled_from(["u1", "i8", ">i4"]))
        chunks.append(
            ChunkData(
                samples,
                chunk.payloads,
                chunk.labels,
                chunk.names,
                np.array(rows, kind),
                chunk.profiles,
            )
        )
    return Header(shape, draw(st.integers(0, 2**64 - 1)), OWN, fields), chunks


@given(own_chunks())
def test_own_shapes_of_any_dimensions_come_back(file):
    header, chunks = file
    data = written(header, chunks)
    with Reader(data) as reader:
        reader.verify()
        assert reader.header == header and len(reader.index) == len(chunks)
        assert all(same(reader.read(number), chunk) for number, chunk in enumerate(chunks))


@settings(max_examples=30, deadline=None)
@given(own_chunks())
def test_the_old_file_counts_wherever_an_append_is_interrupted(tmp_path_factory, file):
    header, chunks = file
    path = tmp_path_factory.mktemp("own") / "x.quad"
    path.write_bytes(old := written(header, chunks[:1]))
    new = appended(path, chunks[1:])
    for length in range(len(old), len(new), 7):
        with Reader(new[:length]) as reader:
            reader.verify()
            assert reader.ignored_bytes == length - len(old)
            assert everything(reader) == content(old)


GOLDEN = ROOT / "tests" / "golden"
OLD = sorted(path for path in GOLDEN.rglob("*.quad") if path.parent.name != "photographs")


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_files_from_before_there_was_a_version_2_are_read_and_written_as_ever(path):
    with Reader(path) as reader:
        reader.verify()
        chunks = [reader.read(number) for number in range(len(reader.index))]
        assert reader.header.version == 1
        assert all(chunk.shapes is chunk.profiles is None for chunk in chunks)
        again = written(reader.header, chunks)
        assert content(again) == everything(reader)
        whole = path.read_bytes()
        assert whole.startswith(reader.header.pack())
        sides = [zlib.compress(labels_bytes(chunk.labels), 9) for chunk in chunks]
        if all(side in whole for side in sides):  # else another zlib, or names, or an append
            assert again == whole


def test_old_files_are_there():
    assert len(OLD) >= 10


# --- limits and errors


def test_headers_at_the_limits_come_back():
    for header in (
        Header((0,), 2**64 - 1, (LayerHeader(A16, 0),), ("shapes",)),
        Header((2**26, 0, 0, 0), 0, (LayerHeader(A16, 0),) * 8, KINDS),
        Header((2**26,), 0, (LayerHeader(A16, 2**16),), ("profiles",)),
    ):
        assert header.version == 2 and Reader(written(header, [])).header == header
    assert len(Header((0, 0, 0, 0), 0, (LayerHeader(A16, 0),) * 8, KINDS).pack()) == 212


@pytest.mark.parametrize(
    ("shape", "columns", "fields", "message"),
    [
        ((3, 0, 0), 0, ("names",), r"own, but shapes are not among the side fields \(names\)"),
        ((3, 8, 8), 1, ("shapes",), r"but no dimension of \(3, 8, 8\) is 0"),
        ((3, 0, 0), 1, ("shapes",), "columns is 1 in layer 0; allowed: 0, since a dimension is"),
        ((3, 8, 8), 0, ("profiles",), r"columns is 0 in layer 0; allowed: 1 to 2\^16"),
        ((3, -1, 0), 0, ("shapes",), r"dimension is -1; allowed: 0 to 2\^26"),
        ((2**20, 2**7, 0), 0, ("shapes",), r"134217728 values or more; allowed: up to 2\^26"),
        ((0, 0), 0, ("shapes", "names"), "'labels', 'names', 'shapes', 'profiles', in this order"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(shape, columns, fields, message):
    with pytest.raises(QuadrateError, match=message):
        Header(shape, 0, (LayerHeader(A16, columns),), fields)


BOTH = ("shapes", "profiles")


def photo(shapes, profiles=None) -> ChunkData:
    return ChunkData(
        len(shapes),
        (b"", b""),
        shapes=np.array(shapes),
        profiles=(b"",) * len(shapes) if profiles is None else profiles,
    )


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (ChunkData(1, (b"", b""), profiles=(b"",)), "shapes are missing; .* shapes, profiles"),
        (ChunkData(1, (b"", b""), shapes=np.array([(3, 1, 1)])), "profiles are missing"),
        (photo([(3, 1)]), r"shapes are int64 \(1, 2\); they must be integers \(1, 3\)"),
        (photo([(3.0, 1, 1)]), r"shapes are float64 \(1, 3\); they must be integers"),
        (photo([(3, 0, 1)]), r"dimensions of 0 to 3; allowed: 1 to 2\^26"),
        (photo([(3, -1, 1)]), "dimensions of -1 to 3"),
        (photo([(3, 2**26 + 1, 1)]), "dimensions of 1 to 67108865"),
        (photo(np.array([(3, 2**64 - 1, 1)], np.uint64)), "dimensions of 1 to 184467440737095516"),
        (
            photo([(3, 8, 8), (4, 8, 8)]),
            r"shape 1 is \(4, 8, 8\); the header's is \(3, 0, 0\), where 0 is each sample's own",
        ),
        (
            photo([(3, 1, 1), (3, 2**26, 2)]),
            r"make 402653187 values, shape 1, \(3, 67108864, 2\), the most of them; allowed: 2\^28",
        ),
        (photo([(3, 2**26, 2**26)] * 3), r"the shapes make \d+ values, shape 0"),
        (photo([(3, 2**22, 8)] * 3), "the shapes make 301989888 values"),
        (photo([(3, 1, 1)], (b"", b"")), "there are 2 profiles for 1 samples"),
        (photo([(3, 1, 1)], ("text",)), "profile 0 is of type str; it must be bytes"),
        (
            photo([(3, 1, 1)], (bytes(2**22 + 1),)),
            "profile 0 takes 4194305 bytes; allowed: 4194304",
        ),
        (
            photo([(3, 1, 1)] * 16, (bytes(2**22),) * 16),
            r"the side data \(shapes, profiles\) take 67109120 bytes; allowed: 67108864",
        ),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused_and_nothing_is_written(chunk, message):
    file = io.BytesIO()
    header = Header((3, 0, 0), 0, OWN, BOTH)
    with (
        pytest.raises(QuadrateError, match=f"chunk 0: .*{message}"),
        Writer.create(file, header) as writer,
    ):
        before = file.getvalue()
        writer.write(chunk)
    assert file.getvalue() == before


def test_shapes_and_profiles_at_the_limits_come_back():
    header = Header((0, 0, 0), 0, OWN, BOTH)
    for chunk in (
        photo([(4, 2**26, 1)]),
        photo([(1, 1, 2**26)] * 4),
        photo([(1, 1, 1)] * 2, (b"x" * 2**22, bytes(2**22))),
    ):
        assert same(Reader(written(header, [chunk])).read(0), chunk)


def test_very_many_samples_of_their_own_shapes_take_bounded_memory():
    """A chunk of few bytes may hold 2^20 shapes and profiles."""
    header = Header((0, 0, 0, 0), 0, OWN, BOTH)
    chunk = photo([(1, 1, 1, 2**8)] * 2**20)
    data = written(header, [chunk])
    del chunk
    assert len(data) < 50_000
    tracemalloc.start()
    try:
        Reader(data).read(0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**27


class OneShape:
    """As much of a codec as a file's header is held against."""

    identities = (A16, B16)
    shape = (3, 8, 8)


def test_a_codec_of_one_shape_says_that_it_does_not_read_own_shapes():
    with pytest.raises(
        QuadrateError,
        match=(
            r"x.quad holds samples of shape \(0, 0, 0\), where 0 is each sample's own; this codec's"
            r" are \(3, 8, 8\)"
        ),
    ):
        check_fit(OneShape(), PHOTOS, "x.quad")
    check_fit(OneShape(), Header((3, 8, 8), 0, TWO.layers, ("profiles",)), "x.quad")
