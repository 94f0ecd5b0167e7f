"""Chunk headers, trailers and the file id; how to walk over them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from quadrate.coding.container.file import InputFile
from quadrate.coding.container.layout import (
    CHECKSUM,
    CHUNK,
    CHUNK_MARKER,
    DIGEST,
    END_MAGIC,
    ENTRY,
    FOOTER,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_SYMBOLS,
    PART,
    PREAMBLE,
    TRAILER,
    TRAILER_MARKER,
    Header,
    blake2b,
)
from quadrate.errors import QuadrateError

_BEFORE_BODY = 12  # a chunk's marker and file id
Part = tuple[int, int]  # a payload's bytes and its CRC-32


@dataclass(frozen=True)
class ChunkHeader:
    """A chunk's place, its parts (the payload of each layer, then the side data), its checksum."""

    file_id: bytes
    number: int
    first: int
    samples: int
    parts: tuple[Part, ...]
    checksum: bytes

    @property
    def length(self) -> int:
        """Bytes of the whole chunk."""
        return chunk_header_size(len(self.parts) - 1) + sum(size for size, _ in self.parts)


def chunk_header_size(layers: int) -> int:
    """Bytes before a chunk's payloads."""
    return CHUNK.size + (layers + 1) * PART.size + CHECKSUM.size


def check_sizes(header: Header, samples: int, parts: Sequence[Part], where: str) -> None:
    """Raise a QuadrateError if a chunk is larger than the format allows."""
    if samples * header.columns > MAX_CHUNK_SYMBOLS:
        raise QuadrateError(
            f"{where}: {samples} samples of {header.columns} columns; allowed: {MAX_CHUNK_SYMBOLS}"
            " symbols a chunk"
        )
    if sum(size for size, _ in parts[:-1]) > MAX_CHUNK_BYTES:
        raise QuadrateError(
            f"{where}: the payloads have {sum(size for size, _ in parts[:-1])} bytes; allowed:"
            f" {MAX_CHUNK_BYTES} a chunk"
        )


def pack_chunk_body(
    number: int, first: int, samples: int, payloads: Sequence[bytes], where: str
) -> bytes:
    """A chunk header without marker, file id and checksum.

    `payloads` are those of the layers, then the side data.
    """
    start = CHUNK.pack(CHUNK_MARKER, bytes(8), number, first, samples, where=where)[_BEFORE_BODY:]
    return start + b"".join(
        PART.pack(len(payload), zlib.crc32(payload), where=where) for payload in payloads
    )


def pack_chunk_header(file_id: bytes, body: bytes) -> bytes:
    """A whole chunk header."""
    data = CHUNK_MARKER + file_id + body
    return data + blake2b(CHECKSUM.size, data)


def unpack_chunk_header(data: bytes, header: Header, where: str) -> ChunkHeader:
    """A chunk header from its bytes.

    Its number, file id and place in the file are the caller's to check.

    Raises:
        QuadrateError: If it is damaged, or a value is beyond the format's limits.
    """
    if data[:4] != CHUNK_MARKER:
        raise QuadrateError(
            f"{where}: no chunk is here, but {data[:4].hex(' ')}: the file is damaged"
        )
    checksum = data[-CHECKSUM.size :]
    if checksum != blake2b(CHECKSUM.size, data[: -CHECKSUM.size]):
        raise QuadrateError(
            f"{where}: the checksum of the chunk's header differs: the file is damaged"
        )
    _, file_id, number, first, samples = CHUNK.unpack(data, where=where)
    parts = tuple(
        PART.unpack(data, CHUNK.size + i * PART.size, where=where)
        for i in range(len(header.layers) + 1)
    )
    check_sizes(header, samples, parts, where)
    return ChunkHeader(file_id, number, first, samples, parts, checksum)


def check_place(chunk: ChunkHeader, file_id: bytes, number: int, first: int, where: str) -> None:
    """Raise a QuadrateError if a chunk is not the one that must be here."""
    if chunk.file_id != file_id:
        raise QuadrateError(
            f"{where}: it comes from another file ({chunk.file_id.hex()}; this is {file_id.hex()})"
        )
    if (chunk.number, chunk.first) != (number, first):
        raise QuadrateError(
            f"{where}: it is chunk {chunk.number} with samples from {chunk.first}, not from"
            f" {first}: chunks were swapped or lost"
        )


def make_file_id(packed: bytes, *chunk: bytes) -> bytes:
    """The file id: a hash of the header and of chunk 0 (body, payloads, side data), if any."""
    return blake2b(8, packed, *chunk)


def pack_trailer(packed: bytes, file_id: bytes, samples: int, entries: bytes) -> bytes:
    """A whole trailer with its footer; `packed` is the header, `entries` the index."""
    chunks, where = len(entries) // ENTRY.size, "trailer"
    data = TRAILER.pack(TRAILER_MARKER, file_id, chunks, samples, where=where) + entries
    digest = blake2b(DIGEST.size, packed, data[4:])
    length = len(data) + DIGEST.size + FOOTER.size
    return data + digest + FOOTER.pack(length, END_MAGIC, where=where)


@dataclass(frozen=True)
class Contents:
    """The contents of a file according to its last whole trailer.

    Args:
        header: The header.
        packed: Its bytes.
        file_id: The file id, 8 bytes.
        samples: In all chunks.
        entries: The index as it stands in the trailer.
        end: The end of the trailer; bytes after it do not count.
    """

    header: Header
    packed: bytes
    file_id: bytes
    samples: int
    entries: bytes
    end: int

    @property
    def trailer_start(self) -> int:
        """Where the trailer begins."""
        return self.end - TRAILER.size - len(self.entries) - DIGEST.size - FOOTER.size


def read_header(file: InputFile) -> tuple[Header, bytes]:
    """A file's header, and its bytes.

    Raises:
        QuadrateError: If there is no header that this version can read.
    """
    length = Header.length(file.read(0, min(PREAMBLE.size, file.size)), file.name)
    if length > file.size:
        raise QuadrateError(
            f"{file.name} ends within its header, after {file.size} bytes: it was not finished, or"
            " is cut short"
        )
    packed = file.read(0, length)
    return Header.unpack(packed, file.name), packed


class Walk:
    """Goes over the blocks of a file, from its header to `stop`, by their sizes, not by an index.

    Attributes:
        whole: What the last whole trailer says, or None.
        chunks: How many whole chunks there are, counting those after the last trailer.

    Raises:
        QuadrateError: If the bytes after the last whole trailer are not the beginning of an append.
    """

    def __init__(self, file: InputFile, header: Header, packed: bytes, stop: int) -> None:
        self._file, self._header, self._packed, self._stop = file, header, packed, stop
        self._entries = bytearray()
        self._samples, self._file_id = 0, make_file_id(packed)
        self._position = len(packed)
        self.whole: Contents | None = None
        while self._position < stop:
            try:
                ended = not self._step()
            except QuadrateError as error:
                if self.whole is None:
                    raise
                kept = (
                    f"the first {self.whole.samples} samples, up to byte {self.whole.end}, are"
                    " whole: cut the file there to keep them"
                )
                raise QuadrateError(f"{error}; {kept}") from None
            if ended:
                break

    @property
    def chunks(self) -> int:
        """How many whole chunks there are, counting those after the last trailer."""
        return len(self._entries) // ENTRY.size

    def _step(self) -> bool:
        """Passes a block; false if the end of the file cuts it short."""
        marker = self._peek(4)
        new_chunks = self.whole is None or len(self._entries) > len(self.whole.entries)
        if TRAILER_MARKER.startswith(marker) and new_chunks:  # a trailer always adds chunks
            return self._pass_trailer()
        return self._pass_chunk()

    def _peek(self, count: int) -> bytes:
        return self._file.read(self._position, min(count, self._stop - self._position))

    def _pass_trailer(self) -> bool:
        expected = pack_trailer(self._packed, self._file_id, self._samples, bytes(self._entries))
        found = self._peek(len(expected))
        if not expected.startswith(found):
            raise QuadrateError(
                f"{self._file.name}: the trailer at byte {self._position} does not fit the"
                f" {self.chunks} chunks before it: the file is damaged"
            )
        if found != expected:
            return False
        self._position += len(expected)
        counted = (self._file_id, self._samples, bytes(self._entries), self._position)
        self.whole = Contents(self._header, self._packed, *counted)
        return True

    def _pass_chunk(self) -> bool:
        where = f"{self._file.name}: chunk {self.chunks} at byte {self._position}"
        size = chunk_header_size(len(self._header.layers))
        data = self._peek(size)
        if not self._entries:
            self._file_id = data[4:12]
        if len(data) < size:
            start = CHUNK.pack(
                CHUNK_MARKER, self._file_id.ljust(8), self.chunks, self._samples, 1, where=where
            )[:-4]
            if not data.startswith(start[: len(data)]):
                raise QuadrateError(
                    f"{where}: {data[: len(start)].hex(' ')} is not the beginning of the chunk that"
                    " must be here: the file is damaged"
                )
            return False
        chunk = unpack_chunk_header(data, self._header, where)
        check_place(chunk, self._file_id, self.chunks, self._samples, where)
        if chunk.length > self._stop - self._position:
            return False
        self._entries += ENTRY.pack(self._position, chunk.samples, chunk.checksum, where=where)
        self._position += chunk.length
        self._samples += chunk.samples
        return True
