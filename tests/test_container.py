"""The .quad container.

What goes in comes out, the page that describes the format is right, and errors say what is wrong.
"""

import io
import os
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers import (
    CHUNKS,
    TWO,
    Chunk,
    Forgery,
    appended,
    content,
    header_bytes,
    labels_bytes,
    names_bytes,
    same,
    written,
)
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.errors import QuadrateError

# --- round trips

NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029"), max_size=20
)


@st.composite
def files(draw, max_chunks: int = 4) -> tuple[Header, list[ChunkData]]:
    layers = draw(
        st.lists(
            st.builds(LayerHeader, st.binary(min_size=16, max_size=16), st.integers(1, 40)),
            min_size=1,
            max_size=8,
        )
    )
    shape = draw(st.lists(st.integers(1, 80), min_size=1, max_size=4))
    fields = draw(st.sampled_from([(), ("labels",), ("names",), ("labels", "names")]))
    header = Header(tuple(shape), draw(st.integers(0, 2**64 - 1)), tuple(layers), fields)
    bits = draw(st.sampled_from([7, 15, 31, 63]))
    chunks = []
    for _ in range(draw(st.integers(0, max_chunks))):
        samples = draw(st.integers(1, 6))
        labels = (
            draw(st.lists(st.integers(-(2**bits), 2**bits - 1), min_size=samples, max_size=samples))
            if "labels" in fields
            else None
        )
        names = (
            tuple(draw(st.lists(NAMES, min_size=samples, max_size=samples)))
            if "names" in fields
            else None
        )
        payloads = tuple(
            draw(st.lists(st.binary(max_size=30), min_size=len(layers), max_size=len(layers)))
        )
        chunks.append(
            ChunkData(
                samples, payloads, None if labels is None else np.array(labels, np.int64), names
            )
        )
    return header, chunks


@given(files())
def test_what_is_written_is_read(file):
    header, chunks = file
    data = written(header, chunks)
    assert written(header, chunks) == data  # the same input makes the same bytes
    with Reader(data) as reader:
        assert (
            reader.header == header
            and reader.samples == sum(chunk.samples for chunk in chunks)
            and reader.ignored_bytes == 0
        )
        assert reader.index.shape == (len(chunks), 2)
        first = 0
        for number, chunk in enumerate(chunks):
            assert reader.index[number].tolist() == [first, chunk.samples]
            assert same(reader.read(number), chunk)
            for layers in range(len(header.layers) + 1):
                assert same(
                    reader.read(number, layers, side=False),
                    ChunkData(chunk.samples, chunk.payloads[:layers]),
                )
            first += chunk.samples
        reader.verify()


@settings(max_examples=30)
@given(files(), st.data())
def test_appending_gives_all_chunks_and_the_old_file_is_a_prefix(tmp_path_factory, file, data):
    header, chunks = file
    cut = data.draw(st.integers(0, len(chunks)))
    path = tmp_path_factory.mktemp("append") / "x.quad"
    path.write_bytes(old := written(header, chunks[:cut]))
    with Writer.append(path) as writer:
        assert writer.header == header and writer.samples == sum(
            chunk.samples for chunk in chunks[:cut]
        )
    assert path.read_bytes() == old  # nothing was added
    new = appended(path, chunks[cut:])
    assert new.startswith(old)
    assert content(path) == content(written(header, chunks))
    with Reader(path) as reader:
        assert reader.ignored_bytes == 0


def test_samples_are_found_in_their_chunks():
    reader = Reader(written(TWO, CHUNKS))
    expected = {
        (0, 0): [],
        (0, 1): [0],
        (1, 2): [0],
        (1, 3): [0, 1],
        (2, 3): [1],
        (2, 4): [1, 2],
        (3, 6): [2],
        (0, 6): [0, 1, 2],
        (6, 6): [],
        (5, 6): [2],
    }
    for (start, stop), chunks in expected.items():
        assert list(reader.chunks_of(start, stop)) == chunks, (start, stop)
    for start, stop in ((-1, 2), (3, 2), (0, 7), (7, 7)):
        with pytest.raises(
            QuadrateError,
            match=(
                rf"the data has samples 0 to 6, the last not included; asked for {start} to {stop}"
            ),
        ):
            reader.chunks_of(start, stop)
    for number in (-1, 3):
        with pytest.raises(
            QuadrateError, match=f"has chunks 0 to 3, the last not included; asked for {number}"
        ):
            reader.read(number)
    for layers in (-1, 3):
        with pytest.raises(QuadrateError, match=f"has 2 layers; asked for {layers}"):
            reader.read(0, layers)


def test_labels_take_the_fewest_bytes_that_hold_them():
    header = Header((1,), 0, TWO.layers, ("labels",))
    for low, high, width in (
        (-128, 127, 1),
        (0, 128, 2),
        (-129, 0, 2),
        (-(2**31), 2**31 - 1, 4),
        (0, 2**31, 8),
        (-(2**63), 2**63 - 1, 8),
    ):
        labels = np.array([low, high] * 500, np.int64)
        data = written(header, [ChunkData(1000, (b"", b""), labels)])
        assert Reader(data).read(0).labels.dtype == np.int64 and np.array_equal(
            Reader(data).read(0).labels, labels
        )
        plain = header_bytes((1,), 0, kinds=(1,))
        side = zlib.compress(labels_bytes(labels, width), 9)
        assert data == Forgery(plain, (Chunk(1000, (b"", b""), side),)).build()


# --- errors


def test_what_is_no_quad_file_is_told_as_such(tmp_path):
    data = written(TWO, CHUNKS)
    for start, message in (
        (b"", "x.quad is empty; a .quad file has a header and a trailer at least"),
        (
            b"\x89PNG\r\n\x1a\n" + bytes(100),
            (
                "x.quad is not a .quad file: it begins with 89 50 4e 47 0d 0a 1a 0a, not with 89 51"
                " 55 41 44 0d 0a 1a"
            ),
        ),
        (b"PK", "x.quad is not a .quad file: it begins with 50 4b, not with"),
        (data.replace(b"\r\n", b"\n"), "x.quad was changed by a transfer as text"),
        (
            data[:8] + b"\3\0" + data[10:],
            (
                r"x.quad was written by a newer version of the format \(3; this reads up to 2\):"
                r" upgrade quadrate"
            ),
        ),
        (data[:8] + b"\3\0", "written by a newer version"),
        (data[:20] + b"x" + data[21:], "x.quad: header: its checksum differs, so it is damaged"),
        (
            header_bytes(flags=4),
            "flags are 0400, which this version of quadrate does not know: upgrade quadrate",
        ),
    ):
        (tmp_path / "x.quad").write_bytes(start)
        with pytest.raises(QuadrateError, match=message) as caught:
            Reader(tmp_path / "x.quad")
        assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_told_as_such_and_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("none", "no such file: .*none"),
        ("folder", "it is not a regular file"),
        ("pipe", "it is not a regular file"),
    ):
        for use in (Reader, lambda path: Writer.append(path).__enter__()):
            with pytest.raises(QuadrateError, match=message):
                use(tmp_path / name)


def test_a_file_that_shrinks_while_it_is_read_is_told_as_such(tmp_path):
    path = tmp_path / "x.quad"
    path.write_bytes(data := written(TWO, CHUNKS))
    with Reader(path) as reader:
        os.truncate(path, len(data) // 3)
        with pytest.raises(QuadrateError, match="became shorter while it was read"):
            reader.read(2)


def test_a_file_is_read_where_there_is_no_pread(tmp_path, monkeypatch):
    (tmp_path / "x.quad").write_bytes(written(TWO, CHUNKS))
    expected = content(tmp_path / "x.quad")
    monkeypatch.delattr(os, "pread", raising=False)
    assert content(tmp_path / "x.quad") == expected


A16 = b"a" * 16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Header((), 0, TWO.layers), "header: dimensions is 0; allowed: 1 to 4"),
        (lambda: Header((1,) * 5, 0, TWO.layers), "header: dimensions is 5; allowed: 1 to 4"),
        (
            lambda: Header((1, 0), 0, TWO.layers),
            r"header: a dimension is 0, each sample's own, but shapes are not among the side",
        ),
        (lambda: Header((1.5,), 0, TWO.layers), "header: dimension is 1.5; it must be an integer"),
        (
            lambda: Header((2**20, 2**7), 0, TWO.layers),
            r"has 134217728 values; allowed: up to 2\^26",
        ),
        (
            lambda: Header((1,), -1, TWO.layers),
            r"header: dither seed is -1; allowed: 0 to 2\^64 - 1",
        ),
        (lambda: Header((1,), 2**64, TWO.layers), "header: dither seed is 18446744073709551616"),
        (lambda: Header((1,), 0, ()), "header: layers is 0; allowed: 1 to 8"),
        (lambda: Header((1,), 0, TWO.layers * 5), "header: layers is 10; allowed: 1 to 8"),
        (
            lambda: Header((1,), 0, (LayerHeader(b"short", 1),)),
            "header: identity is b'short'; it must be 16 bytes",
        ),
        (lambda: Header((1,), 0, (LayerHeader(A16, 0),)), "header: columns is 0"),
        (
            lambda: Header((1,), 0, (LayerHeader(A16, 2**15), LayerHeader(A16, 2**15 + 1))),
            r"have 65537 columns; allowed: up to 2\^16",
        ),
        (
            lambda: Header((1,), 0, TWO.layers, ("names", "labels")),
            "are 'names', 'labels'; allowed: 'labels', 'names', 'shapes', 'profiles', in this",
        ),
        (
            lambda: Header((1,), 0, TWO.layers, ("labels", "labels")),
            "side fields are 'labels', 'labels'",
        ),
        (lambda: Header((1,), 0, TWO.layers, ("colours",)), "side fields are 'colours'"),
    ],
)
def test_a_header_beyond_the_format_is_refused(make, message):
    with pytest.raises(QuadrateError, match=message):
        make()


def test_headers_at_the_limits_come_back():
    for header in (
        Header((2**26,), 2**64 - 1, (LayerHeader(A16, 2**16),)),
        Header((2**13, 2**13, 1, 1), 0, (LayerHeader(A16, 2**13),) * 8, ("labels", "names")),
    ):
        assert Reader(written(header, [])).header == header
    assert {len(Header((1,), 0, (LayerHeader(A16, 1),)).pack()), len(header.pack())} == {56, 210}


@pytest.mark.parametrize(
    ("fields", "chunk", "message"),
    [
        ((), ChunkData(0, (b"", b"")), r"chunk 0: samples is 0; allowed: 1 to 2\^20"),
        (("labels",), ChunkData(0, (b"", b""), np.array([], int)), "chunk 0: samples is 0"),
        ((), ChunkData(2**20 + 1, (b"", b"")), "chunk 0: samples is 1048577"),
        (
            (),
            ChunkData(1, (b"", b"", b"")),
            "chunk 0: there are 3 payloads; the header announces 2 layers",
        ),
        (
            (),
            ChunkData(1, (b"", b""), np.array([1])),
            "chunk 0: labels are given; the file's side fields are none",
        ),
        (
            ("labels",),
            ChunkData(1, (b"", b"")),
            "chunk 0: labels are missing; the file's side fields are labels",
        ),
        (
            ("labels",),
            ChunkData(2, (b"", b""), np.array([1])),
            r"labels are int64 \(1,\); they must be integers \(2,\)",
        ),
        (
            ("labels",),
            ChunkData(1, (b"", b""), np.array([1.0])),
            r"labels are float64 \(1,\); they must be integers \(1,\)",
        ),
        (
            ("labels",),
            ChunkData(1, (b"", b""), np.array([2**63], np.uint64)),
            "labels reach 9223372036854775808, which is beyond int64",
        ),
        (("names",), ChunkData(1, (b"", b""), None, ("a", "b")), "there are 2 names for 1 samples"),
        (
            ("names",),
            ChunkData(2, (b"", b""), None, ("a", "b\nc")),
            r"name 1, 'b\\nc', has a line break or another control character",
        ),
        (
            ("names",),
            ChunkData(1, (b"", b""), None, ("\x1b[2J",)),
            "name 0, .* has a line break or another control character",
        ),
        (
            ("names",),
            ChunkData(1, (b"", b""), None, ("\udc80",)),
            r"name 0, '\\udc80', is no valid Unicode",
        ),
        (
            ("names",),
            ChunkData(1, (b"", b""), None, ("é" * 2049,)),
            "name 0 takes 4098 bytes; allowed: 4096",
        ),
        (
            ("names",),
            ChunkData(16_400, (b"", b""), None, ("x" * 4096,) * 16_400),
            r"the side data \(names\) take 67207200 bytes; allowed: 67108864",
        ),
    ],
)
def test_a_chunk_that_does_not_fit_the_header_or_the_format_is_refused_and_nothing_is_written(
    fields, chunk, message
):
    file = io.BytesIO()
    with (
        pytest.raises(QuadrateError, match=message),
        Writer.create(file, Header((1,), 0, TWO.layers, fields)) as writer,
    ):
        before = file.getvalue()
        writer.write(chunk)
    assert file.getvalue() == before


def test_symbols_and_payloads_of_a_chunk_have_their_limits():
    wide = Header((1,), 0, (LayerHeader(A16, 2**15), LayerHeader(A16, 2**15)))
    written(wide, [ChunkData(2**8, (b"", b""))])
    with pytest.raises(
        QuadrateError,
        match="chunk 0: 257 samples of 65536 columns; allowed: 16777216 symbols a chunk",
    ):
        written(wide, [ChunkData(2**8 + 1, (b"", b""))])
    half = bytes(2**26)
    with pytest.raises(
        QuadrateError,
        match="chunk 0: the payloads have 134217729 bytes; allowed: 134217728 a chunk",
    ):
        written(wide, [ChunkData(1, (half, half + b"x"))])


@pytest.mark.parametrize("change", ["labels", "seed", "payload", "samples"])
def test_files_that_differ_in_their_first_chunk_or_header_have_different_ids(change):
    def file_id(seed=0, label=0, payload=b"x", samples=1) -> bytes:
        header = Header((1,), seed, TWO.layers, ("labels",))
        data = written(header, [ChunkData(samples, (payload, b""), np.array([label] * samples))])
        return data[len(header.pack()) + 4 :][:8]

    changed = {
        "labels": file_id(label=1),
        "seed": file_id(seed=1),
        "payload": file_id(payload=b"y"),
        "samples": file_id(samples=2),
    }
    assert changed[change] != file_id()


@pytest.mark.parametrize(
    "names",
    [
        ("",),
        ("a",),
        ("", "é", "", "犬x", ""),
        ("ab", "", "\U0001f600"),
        ("", "", ""),
        ("x", "é" * 2000),
    ],
)
def test_names_of_any_script_and_length_come_back(names):
    data = written(
        Header((2,), 0, TWO.layers, ("names",)), [ChunkData(len(names), (b"", b""), names=names)]
    )
    assert Reader(data).read(0).names == names


def test_very_many_names_in_few_bytes_take_no_more_than_seconds():
    names = ("é",) * (1 << 18)
    data = written(
        Header((2,), 0, TWO.layers, ("names",)), [ChunkData(len(names), (b"", b""), names=names)]
    )
    started = time.monotonic()
    assert (
        len(data) < 5000 and Reader(data).read(0).names == names and time.monotonic() - started < 5
    )


def test_a_character_that_two_names_share_is_refused():
    raw = names_bytes([b"a\xc3", b"\xa9b"])
    with pytest.raises(QuadrateError, match="name 0 is no valid UTF-8"):
        Reader(
            Forgery(header_bytes(kinds=(2,)), (Chunk(samples=2, side=zlib.compress(raw)),)).build()
        ).read(0)
