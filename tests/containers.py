"""Files of the .quad format, made from docs/format.md rather than by the code under test."""

import hashlib
import io
import re
import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer

ROOT = Path(__file__).parent.parent
TWO = Header((1, 2, 3), 7, (LayerHeader(b"a" * 16, 3), LayerHeader(b"b" * 16, 2)))
CHUNKS = [
    ChunkData(2, (b"base", b"")),
    ChunkData(1, (b"", b"")),
    ChunkData(3, (b"more", b"refined")),
]


def blake2b(width: int, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=width).digest()


def header_bytes(
    shape=(1, 2, 3),
    seed=7,
    layers=((b"a" * 16, 3), (b"b" * 16, 2)),
    kinds=(),
    magic=b"\x89QUAD\r\n\x1a",
    version=1,
    flags=0,
    length=None,
    counts=None,
    zero=0,
) -> bytes:
    body = b"".join(struct.pack("<I", size) for size in shape)
    body += b"".join(
        struct.pack("<16sI", identity, columns) for identity, columns in layers
    ) + bytes(kinds)
    counts = counts or (len(shape), len(layers), len(kinds))
    length = 32 + len(body) if length is None else length
    data = struct.pack("<8sHHIQ4B", magic, version, flags, length, seed, *counts, zero) + body
    return data + struct.pack("<I", zlib.crc32(data))


def labels_bytes(labels, width=1) -> bytes:
    return bytes([width]) + b"".join(
        int(label).to_bytes(width, "little", signed=True) for label in labels
    )


def names_bytes(names) -> bytes:
    encoded = [name if isinstance(name, bytes) else name.encode() for name in names]
    return b"".join(struct.pack("<H", len(name)) for name in encoded) + b"".join(encoded)


def shapes_bytes(shapes) -> bytes:
    return b"".join(struct.pack("<I", size) for shape in shapes for size in shape)


def profiles_bytes(profiles) -> bytes:
    return b"".join(struct.pack("<I", len(profile)) for profile in profiles) + b"".join(profiles)


@dataclass
class Chunk:
    """A chunk's fields; None is what is right."""

    samples: int = 1
    payloads: tuple[bytes, ...] = (b"base", b"refinement")
    side: bytes = b""
    number: int | None = None
    first: int | None = None
    file_id: bytes | None = None
    marker: bytes = b"CHNK"
    sizes: tuple[int, ...] | None = None
    offset: int | None = None  # as the index has it
    index_samples: int | None = None
    index_checksum: bytes | None = None


@dataclass
class Forgery:
    """A file's fields; None is what is right.

    All checksums are made for what is written, be it right or wrong.
    """

    header: bytes = field(default_factory=header_bytes)
    chunks: tuple[Chunk, ...] = ()
    file_id: bytes | None = None
    trailer_id: bytes | None = None
    count: int | None = None
    samples: int | None = None
    trailer_length: int | None = None
    trailer_marker: bytes = b"TRLR"
    between: bytes = b""  # before the trailer

    def build(self) -> bytes:
        data, entries, first, file_id = self.header, b"", 0, self.file_id or blake2b(8, self.header)
        for number, chunk in enumerate(self.chunks):
            parts = (*chunk.payloads, chunk.side)
            sizes = chunk.sizes or tuple(map(len, parts))
            body = struct.pack(
                "<IQI",
                *(
                    right if value is None else value
                    for value, right in ((chunk.number, number), (chunk.first, first))
                ),
                chunk.samples,
            )
            body += b"".join(
                struct.pack("<II", size, zlib.crc32(part))
                for size, part in zip(sizes, parts, strict=True)
            )
            if number == 0 and self.file_id is None:
                file_id = blake2b(8, self.header + body + b"".join(parts))
            head = chunk.marker + (chunk.file_id or file_id) + body
            checksum = blake2b(8, head)
            offset = len(data) if chunk.offset is None else chunk.offset
            listed = chunk.samples if chunk.index_samples is None else chunk.index_samples
            entries += struct.pack("<QI8s", offset, listed, chunk.index_checksum or checksum)
            data += head + checksum + b"".join(parts)
            first += chunk.samples
        return data + self.between + self.trailer(entries, first, file_id)

    def trailer(self, entries: bytes, samples: int, file_id: bytes) -> bytes:
        count = len(entries) // 20 if self.count is None else self.count
        body = (
            (self.trailer_id or file_id)
            + struct.pack("<IQ", count, samples if self.samples is None else self.samples)
            + entries
        )
        length = len(body) + 32 if self.trailer_length is None else self.trailer_length
        return (
            self.trailer_marker
            + body
            + blake2b(16, self.header + body)
            + struct.pack("<I", length)
            + b"QUADEND\n"
        )

    def but(self, **changes) -> "Forgery":
        return replace(self, **changes)


def vector(version: int = 1) -> bytes:
    """The test vector of a version in docs/format.md."""
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    section = page.split("\n## Test vector of version ")[version]
    return bytes.fromhex("".join(re.findall(r"^[0-9a-f]{4}  ([0-9a-f ]+)$", section, re.MULTILINE)))


def same(a: ChunkData, b: ChunkData) -> bool:
    return plain(a) == plain(b)


def plain(chunk: ChunkData) -> tuple:
    """A chunk in a form that can be compared."""
    arrays = (
        None if array is None else np.asarray(array).tolist()
        for array in (chunk.labels, chunk.shapes)
    )
    return chunk.samples, chunk.payloads, chunk.names, chunk.profiles, *arrays


def everything(reader: Reader) -> tuple:
    """All that a reader gives away, in a form that can be compared."""
    content = [plain(reader.read(number)) for number in range(len(reader.index))]
    return reader.header, reader.samples, reader.index.tolist(), content


def written(header: Header, chunks) -> bytes:
    file = io.BytesIO()
    with Writer.create(file, header) as writer:
        for chunk in chunks:
            writer.write(chunk)
    return file.getvalue()


def appended(path: Path, chunks) -> bytes:
    with Writer.append(path) as writer:
        for chunk in chunks:
            writer.write(chunk)
    return path.read_bytes()


def content(source: Path | bytes) -> tuple:
    """All that a file gives away, once it is verified."""
    with Reader(source) as reader:
        reader.verify()
        return everything(reader)
