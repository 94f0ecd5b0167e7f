"""Reading .quad files: any chunk, any of its layers, without the rest."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.container.blocks import (
    ChunkHeader,
    Contents,
    Walk,
    check_place,
    check_sizes,
    chunk_header_size,
    make_file_id,
    pack_trailer,
    read_header,
    unpack_chunk_header,
)
from quadrate.coding.container.file import InputFile
from quadrate.coding.container.layout import (
    DIGEST,
    END_MAGIC,
    ENTRY,
    FOOTER,
    MAX_CHUNK_SAMPLES,
    TRAILER,
    Header,
)
from quadrate.coding.container.quad_reader import QuadReader
from quadrate.coding.container.side import ChunkData, unpack_side
from quadrate.core.files import FileSource
from quadrate.errors import QuadrateError

_LOOKS = 5  # at a file that changes while it is opened
_ENTRY = np.dtype([("offset", "<u8"), ("samples", "<u4"), ("checksum", "V8")])


class Reader(QuadReader):
    """A .quad file, open for reading; a context manager. Any number of threads may read from one.

    Args:
        source: The file's path, or its bytes.

    Attributes:
        header: The file's header.
        samples: How many there are.
        name: The file's name in errors: its path, or "the data".
        size: How many bytes it has.
        ignored_bytes: How many bytes after the last whole trailer do not count: an append that was
            interrupted.

    Raises:
        QuadrateError: If it cannot be read, is not a .quad file, is damaged or unfinished, or is of
            a newer version.
    """

    def __init__(self, source: FileSource) -> None:
        self._file = InputFile(source)
        try:
            self._contents = read_contents(self._file)
        except BaseException:
            self._file.close()
            raise
        self.header, self.samples = self._contents.header, self._contents.samples
        self.name, self.size = self._file.name, self._file.size
        self.ignored_bytes = self._file.size - self._contents.end
        entries = np.frombuffer(self._contents.entries, _ENTRY)
        counts = entries["samples"].astype(np.int64)
        self._index: NDArray[np.int64] = np.stack([np.cumsum(counts) - counts, counts], axis=1)
        self._offsets, self._checksums = entries["offset"], entries["checksum"]

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return len(self._index)

    @property
    def index(self) -> NDArray[np.int64]:
        """(chunks, 2): the number of each chunk's first sample, and how many samples it has."""
        return self._index

    @property
    def file_id(self) -> bytes:
        """8 bytes that tell this file's chunks from those of other files.

        They stay the same when chunks are appended to a file that has some.
        """
        return self._contents.file_id

    @property
    def bytes_read(self) -> int:
        """How many bytes were read so far."""
        return self._file.bytes_read

    def read(self, chunk_number: int, layers: int | None = None, side: bool = True) -> ChunkData:
        """Read a chunk, or the parts of it that are asked for.

        Args:
            chunk_number: From 0.
            layers: How many layers' payloads to read, from the base on; by default all.
            side: Whether to read the side data, where the file has some.

        Raises:
            QuadrateError: If the file has no such chunk or layer, or is damaged there.
        """
        layers = len(self.header.layers) if layers is None else layers
        if not 0 <= chunk_number < len(self.index):
            raise QuadrateError(
                f"{self._file.name} has chunks 0 to {len(self.index)}, the last not included; asked"
                f" for {chunk_number}"
            )
        if not 0 <= layers <= len(self.header.layers):
            raise QuadrateError(
                f"{self._file.name} has {len(self.header.layers)} layers; asked for {layers}"
            )
        where = self._where(chunk_number)
        chunk = self._chunk_header(chunk_number, where)
        payloads = tuple(self._part(chunk_number, chunk, i, where) for i in range(layers))
        if not side:
            return ChunkData(chunk.samples, payloads)
        data = self._part(chunk_number, chunk, -1, where)
        fields = unpack_side(self.header, chunk.samples, data, where)
        return ChunkData(chunk.samples, payloads, **fields)

    def verified(self) -> Iterator[range]:
        """Verify chunk by chunk, and yield the numbers of the samples that were checked.

        The file is whole when the iterator ends.
        """
        contents = self._contents
        for number, (first, count) in enumerate(self.index.tolist()):
            self.read(number)
            yield range(first, first + count)
        self._walk()
        if len(self.index):
            chunk = self._chunk_header(0, self._where(0))
            offset = int(self._offsets[0])
            size = chunk_header_size(len(self.header.layers))
            body = self._file.read(offset + 12, size - 20)
            payloads = (self._part(0, chunk, i, self._where(0)) for i in range(len(chunk.parts)))
            if contents.file_id != make_file_id(contents.packed, body, *payloads):
                raise QuadrateError(
                    f"{self._file.name}: its file id is not that of its header and first chunk: the"
                    " file was put together from others"
                )

    def sizes(self) -> dict[str, Any]:
        """How many bytes each part takes; the parts make up the whole file.

        Reads every chunk's header and every trailer, but no payload.

        Returns:
            Under "payloads" a number for each layer; a number each under "header", "chunk_headers",
            "side_data", "trailers" (appending leaves the old ones behind), "ignored" (an append
            that did not end), and "total".

        Raises:
            QuadrateError: If the chunks and trailers do not stand one after another as the index
                says.
        """
        parts = [0] * (len(self.header.layers) + 1)
        for number in range(len(self.index)):
            chunk = self._chunk_header(number, self._where(number))
            parts = [total + size for total, (size, _) in zip(parts, chunk.parts, strict=True)]
        self._walk()
        end = self._contents.end
        packed = len(self._contents.packed)
        heads = len(self.index) * chunk_header_size(len(self.header.layers))
        return {
            "header": packed,
            "chunk_headers": heads,
            "payloads": parts[:-1],
            "side_data": parts[-1],
            "trailers": end - packed - heads - sum(parts),
            "ignored": self.ignored_bytes,
            "total": end + self.ignored_bytes,
        }

    def _walk(self) -> None:
        """Raise a QuadrateError unless the blocks follow each other without gaps, as indexed."""
        contents = self._contents
        if Walk(self._file, self.header, contents.packed, contents.end).whole != contents:
            raise QuadrateError(
                f"{self._file.name}: its index does not list the chunks as they stand: the file is"
                " damaged"
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _where(self, number: int) -> str:
        return f"{self._file.name}: chunk {number} at byte {self._offsets[number]}"

    def _chunk_header(self, number: int, where: str) -> ChunkHeader:
        offset, size = int(self._offsets[number]), chunk_header_size(len(self.header.layers))
        chunk = unpack_chunk_header(self._file.read(offset, size), self.header, where)
        check_place(chunk, self._contents.file_id, number, int(self.index[number, 0]), where)
        if chunk.samples != self.index[number, 1]:
            raise QuadrateError(
                f"{where}: it has {chunk.samples} samples; the index lists {self.index[number, 1]}"
            )
        if chunk.checksum != self._checksums[number].tobytes():
            raise QuadrateError(
                f"{where}: it is not the chunk that was written there: its checksum is another in"
                " the index"
            )
        last = number + 1 == len(self.index)
        end = self._contents.trailer_start if last else int(self._offsets[number + 1])
        if offset + chunk.length > end:
            raise QuadrateError(
                f"{where}: its {chunk.length} bytes reach beyond byte {end}, where the next block"
                " begins: the file is damaged"
            )
        return chunk

    def _part(self, number: int, chunk: ChunkHeader, part: int, where: str) -> bytes:
        """A layer's payload, or the side data at -1."""
        part %= len(chunk.parts)
        start = int(self._offsets[number]) + chunk_header_size(len(self.header.layers))
        offset = start + sum(size for size, _ in chunk.parts[:part])
        size, crc = chunk.parts[part]
        data = self._file.read(offset, size)
        if zlib.crc32(data) != crc:
            what = "side data" if part == len(self.header.layers) else f"payload of layer {part}"
            raise QuadrateError(f"{where}: the checksum of its {what} differs: the file is damaged")
        return data


def read_contents(file: InputFile) -> Contents:
    """Read a file's last whole trailer; if the file ends in it, without reading the chunks.

    Raises:
        QuadrateError: If there is no whole trailer, or the file is damaged, not a .quad file, or of
            a newer version.
    """
    for _ in range(_LOOKS):
        try:
            return _contents_now(file)
        except QuadrateError:  # an append may just have cut off the rest of an earlier one
            if not file.changed_size():
                raise
    return _contents_now(file)


def _contents_now(file: InputFile) -> Contents:
    header, packed = read_header(file)
    least = len(packed) + TRAILER.size + DIGEST.size + FOOTER.size
    ending = len(END_MAGIC)
    if file.size >= least and file.read(file.size - ending, ending) == END_MAGIC:
        return _last_trailer(file, header, packed)
    walk = Walk(file, header, packed, file.size)
    if walk.whole is None:
        raise QuadrateError(
            f"{file.name} was not finished, or is cut short: it has {walk.chunks} whole chunks, and"
            " no trailer; write it again"
        )
    return walk.whole


def _last_trailer(file: InputFile, header: Header, packed: bytes) -> Contents:
    """The contents of a file that ends in a footer."""
    where = f"{file.name}: trailer"
    length, _ = FOOTER.unpack(file.read(file.size - FOOTER.size, FOOTER.size), where=where)
    start = file.size - length
    if start < len(packed):
        raise QuadrateError(
            f"{where}: trailer length is {length}, more than the file has after its header"
        )
    data = file.read(start, length)
    _, file_id, chunks, samples = TRAILER.unpack(data, where=where)
    entries = data[TRAILER.size : -DIGEST.size - FOOTER.size]
    if len(entries) != chunks * ENTRY.size:
        raise QuadrateError(
            f"{where}: its index has {len(entries)} bytes; {chunks} chunks make"
            f" {chunks * ENTRY.size}"
        )
    if data != pack_trailer(packed, file_id, samples, entries):
        raise QuadrateError(f"{where}: the file's digest differs: header or trailer are damaged")
    _check_index(header, entries, samples, (len(packed), start), where)
    if not chunks and file_id != make_file_id(packed):
        raise QuadrateError(
            f"{where}: the file id is not that of the header: the trailer comes from another file"
        )
    return Contents(header, packed, file_id, samples, entries, file.size)


def _check_index(
    header: Header, entries: bytes, samples: int, room: tuple[int, int], where: str
) -> None:
    """Raise a QuadrateError unless chunks lie in order in the room and add up to the samples."""
    table = np.frombuffer(entries, _ENTRY)
    counts, offsets = table["samples"].astype(np.int64), table["offset"]
    if counts.sum() != samples:
        raise QuadrateError(f"{where}: samples is {samples}; the index lists {counts.sum()}")
    if not len(table):
        return
    if counts.min() < 1 or counts.max() > MAX_CHUNK_SAMPLES:
        raise QuadrateError(
            f"{where}: the index lists chunks of {counts.min()} to {counts.max()} samples; allowed:"
            f" 1 to {MAX_CHUNK_SAMPLES}"
        )
    check_sizes(header, int(counts.max()), [], where)
    if offsets.max() > room[1]:  # first, since the differences of larger numbers may overflow
        raise QuadrateError(
            f"{where}: the index has a chunk at byte {offsets.max()}; the trailer begins at"
            f" {room[1]}"
        )
    steps = np.diff(np.append(offsets.astype(np.int64), room[1]))
    if offsets[0] < room[0] or steps.min() < chunk_header_size(len(header.layers)):
        raise QuadrateError(
            f"{where}: the chunks in the index lie before the end of the header, or on one another"
        )
