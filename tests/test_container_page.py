"""The page that describes the container: its tables match the code, its vector can be read."""

import re
import zlib

import numpy as np
import pytest

from containers import (
    CHUNKS,
    ROOT,
    TWO,
    Chunk,
    Forgery,
    header_bytes,
    labels_bytes,
    names_bytes,
    profiles_bytes,
    same,
    shapes_bytes,
    vector,
    written,
)
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, layout

# --- the page


def table(section: str) -> list[list[str]]:
    text = (
        (ROOT / "docs" / "format.md")
        .read_text(encoding="utf-8")
        .split(f"\n## {section}\n")[1]
        .split("\n## ")[0]
    )
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ][2:]


@pytest.mark.parametrize(
    ("section", "records"),
    [
        (
            "Header",
            (layout.PREAMBLE, layout.DIMENSION, layout.LAYER, layout.SIDE_FIELD, layout.CRC),
        ),
        ("Chunk", (layout.CHUNK, layout.PART, layout.CHECKSUM)),
        ("Trailer", (layout.TRAILER, layout.ENTRY, layout.DIGEST, layout.FOOTER)),
    ],
)
def test_the_pages_tables_are_the_fields(section, records):
    fields = [field for record in records for field in record.fields]
    rows = table(section)
    assert [row[1:4] for row in rows] == [
        [str(field.width), field.name, field.allowed] for field in fields
    ]
    offset = 0
    for row, field in zip(rows, records[0].fields, strict=False):
        assert row[0] == str(offset)
        offset += field.width
    assert rows[len(records[0].fields)][0].startswith(str(offset))


def test_the_pages_limits_are_the_constants():
    numbers = [
        [eval(number.replace("^", "**")) for number in re.findall(r"2\^\d+", row[1])]
        for row in table("Limits")
    ]
    assert numbers == [
        [layout.MAX_CHUNKS * layout.MAX_CHUNK_SAMPLES],
        [layout.MAX_CHUNKS, layout.MAX_CHUNK_SAMPLES],
        [layout.MAX_SAMPLE_SIZE],
        [layout.MAX_SAMPLE_SIZE],
        [layout.MAX_CHUNK_VALUES, layout.MAX_CHUNK_VALUES],
        [layout.MAX_COLUMNS],
        [layout.MAX_CHUNK_SYMBOLS],
        [layout.MAX_CHUNK_BYTES],
        [layout.MAX_SIDE_BYTES],
        [layout.MAX_NAME_BYTES],
        [layout.MAX_PROFILE_BYTES],
    ]


VECTOR_HEADER = Header(
    (2,),
    0x0123456789ABCDEF,
    (LayerHeader(bytes(range(16)), 2), LayerHeader(bytes(range(16, 32)), 3)),
    ("labels", "names"),
)


VECTOR_CHUNKS = [
    ChunkData(2, (b"base", b""), np.array([7, -1]), ("a", "é")),
    ChunkData(1, (b"B", b"refine"), np.array([300]), ("",)),
]


OWN_HEADER = Header(
    (1, 0, 0),
    0x0123456789ABCDEF,
    (LayerHeader(bytes(range(16)), 0),),
    ("names", "shapes", "profiles"),
)


OWN_CHUNKS = [
    ChunkData(
        2,
        (b"two",),
        names=("a", "é"),
        shapes=np.array([(1, 2, 3), (1, 17, 31)]),
        profiles=(b"icc", b""),
    ),
    ChunkData(1, (b"one",), names=("b",), shapes=np.array([(1, 1, 70_000)]), profiles=(b"",)),
]


@pytest.mark.parametrize(
    ("version", "header", "chunks"),
    [(1, VECTOR_HEADER, VECTOR_CHUNKS), (2, OWN_HEADER, OWN_CHUNKS)],
)
def test_the_pages_vectors_are_read(version, header, chunks):
    data = vector(version)
    reader = Reader(data)
    reader.verify()
    assert int.from_bytes(data[8:10], "little") == reader.header.version == version
    assert reader.header == header and reader.samples == 3
    assert all(same(reader.read(number), chunk) for number, chunk in enumerate(chunks))


def test_the_pages_vector_is_written_and_so_are_files_made_from_the_page():
    """If another zlib compresses the side data differently, the second half still holds."""
    side = [
        zlib.compress(labels_bytes([7, -1]) + names_bytes(["a", "é"]), 9),
        zlib.compress(labels_bytes([300], 2) + names_bytes([""]), 9),
    ]
    layers = ((bytes(range(16)), 2), (bytes(range(16, 32)), 3))
    forged = Forgery(
        header_bytes((2,), 0x0123456789ABCDEF, layers, (1, 2)),
        (Chunk(2, (b"base", b""), side[0]), Chunk(1, (b"B", b"refine"), side[1])),
    )
    assert written(VECTOR_HEADER, VECTOR_CHUNKS) == forged.build()
    if all(piece in vector() for piece in side):
        assert forged.build() == vector()
    chunks = tuple(Chunk(chunk.samples, chunk.payloads) for chunk in CHUNKS)
    assert written(TWO, CHUNKS) == Forgery(chunks=chunks).build()
    assert written(TWO, []) == Forgery().build()


def test_the_pages_vector_of_version_2_is_written():
    """If another zlib compresses the side data differently, the first half still holds."""
    side = [
        zlib.compress(
            names_bytes(["a", "é"])
            + shapes_bytes([(1, 2, 3), (1, 17, 31)])
            + profiles_bytes([b"icc", b""]),
            9,
        ),
        zlib.compress(
            names_bytes(["b"]) + shapes_bytes([(1, 1, 70_000)]) + profiles_bytes([b""]), 9
        ),
    ]
    header = header_bytes(
        (1, 0, 0), 0x0123456789ABCDEF, ((bytes(range(16)), 0),), (2, 3, 4), version=2
    )
    forged = Forgery(header, (Chunk(2, (b"two",), side[0]), Chunk(1, (b"one",), side[1])))
    assert written(OWN_HEADER, OWN_CHUNKS) == forged.build()
    if all(piece in vector(2) for piece in side):
        assert forged.build() == vector(2)
