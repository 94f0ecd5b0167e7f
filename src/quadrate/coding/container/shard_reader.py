"""Reading a folder of shards as one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.container.manifest import MANIFEST, Manifest, shard_name
from quadrate.coding.container.quad_reader import QuadReader
from quadrate.coding.container.reader import Reader
from quadrate.coding.container.side import ChunkData
from quadrate.core.files import FileSource, data_or_path, digest_of, exists, is_folder, size_of
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

_MOST_OPEN = 64  # systems allow some hundred open files


def open_quad(source: FileSource) -> QuadReader:
    """Open a .quad file, or a folder of shards as one file.

    Args:
        source: The path of a file or of a folder with a manifest, or a file's bytes.

    Raises:
        QuadrateError: If it cannot be read, is damaged or unfinished, or is of a newer version.
    """
    given = data_or_path(source)
    if not isinstance(given, bytes) and is_folder(given):
        return ShardReader(given)
    return Reader(given)


class ShardReader(QuadReader):
    """A folder of shards, read as one file. Any number of threads may read from one.

    A shard is opened when something of it is wanted, and must then be the one that the manifest
    lists, by its header and its counts; `verified` compares its digest too.

    Args:
        folder: Its path.

    Attributes:
        header: What holds for all samples; the seed is that of the first shard.
        samples: How many there are.
        name: The folder's path, for errors.
        size: How many bytes shards and manifest have.
        ignored_bytes: 0: shards are never appended to.
        manifest: What it holds.

    Raises:
        QuadrateError: If it has no manifest, or the manifest is damaged.
    """

    def __init__(self, folder: Place) -> None:
        path = folder / MANIFEST
        if not exists(path):
            raise QuadrateError(
                f"{folder} has no {MANIFEST}: it is not a folder of shards, or was not finished;"
                " the command that began it finishes it"
            )
        self.manifest = Manifest.read(folder)
        self.header, self.name, self.ignored_bytes = self.manifest.header, str(folder), 0
        self._folder, self._manifest_bytes = folder, size_of(path)
        self.size = self._manifest_bytes + sum(shard.bytes for shard in self.manifest.shards)
        self._sample_ends, self._chunk_ends = self.manifest.sample_ends, self.manifest.chunk_ends
        self.samples = int(self._sample_ends[-1])
        self._idle: dict[int, Reader] = {}
        self._closed, self._closed_bytes = False, 0

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return int(self._chunk_ends[-1])

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """(chunks, 2): the number of each chunk's first sample, and how many samples it has."""
        counts = []
        for number in range(len(self.manifest.shards)):
            with self._shard(number) as reader:
                counts.append(reader.index[:, 1])
        all_counts = np.concatenate(counts)
        return np.stack([np.cumsum(all_counts) - all_counts, all_counts], axis=1)

    @property
    def file_id(self) -> bytes:
        """8 bytes that tell these shards from others; appending shards does not change them."""
        return bytes.fromhex(self.manifest.shards[0].sha256)[:8]

    @property
    def bytes_read(self) -> int:
        """How many bytes of shards were read so far."""
        return self._closed_bytes + sum(reader.bytes_read for reader in self._idle.values())

    def span(self, chunk: int) -> tuple[int, int]:
        """The number of a chunk's first sample, and how many samples it has."""
        number, local = self._place(chunk)
        with self._shard(number) as reader:
            first, count = reader.span(local)
        return self._first_sample(number) + first, count

    def origin(self, chunk: int) -> tuple[int, int]:
        """The seed of a chunk's dither, that of its shard, and its first sample's number there."""
        number, local = self._place(chunk)
        with self._shard(number) as reader:
            return reader.origin(local)

    def read(self, chunk_number: int, layers: int | None = None, side: bool = True) -> ChunkData:
        """Read a chunk, as `Reader.read` does."""
        number, local = self._place(chunk_number)
        with self._shard(number) as reader:
            return reader.read(local, layers, side)

    def verified(self) -> Iterator[range]:
        """Verify chunk by chunk, and each shard's digest; yield the numbers of checked samples."""
        for number, shard in enumerate(self.manifest.shards):
            first = self._first_sample(number)
            with self._shard(number) as reader:
                for part in reader.verified():
                    yield range(first + part.start, first + part.stop)
            if digest_of(path := self._folder / shard_name(number)) != shard.sha256:
                raise QuadrateError(f"{path}: its SHA-256 is another in {MANIFEST}: it was changed")

    def sizes(self) -> dict[str, Any]:
        """How many bytes each part takes, as `Reader.sizes` does, and the "manifest"."""
        total: dict[str, Any] = {}
        for number in range(len(self.manifest.shards)):
            with self._shard(number) as reader:
                sizes = reader.sizes()
            payloads = zip(total.get("payloads", sizes["payloads"]), sizes["payloads"], strict=True)
            summed = [a + b for a, b in payloads] if total else sizes["payloads"]
            total = {name: total.get(name, 0) + sizes[name] for name in sizes if name != "payloads"}
            total["payloads"] = summed
        total["manifest"] = self._manifest_bytes
        total["total"] += self._manifest_bytes
        return total

    def close(self) -> None:
        """Close all shards."""
        self._closed = True
        while self._idle:
            self._close(self._idle.popitem()[1])

    def _chunk_of(self, sample: int) -> int:
        number = int(np.searchsorted(self._sample_ends, sample, side="right"))
        with self._shard(number) as reader:
            local = reader.chunks_of(*(sample - self._first_sample(number) + i for i in (0, 1)))
        return self._first_chunk(number) + local.start

    def _place(self, chunk: int) -> tuple[int, int]:
        """The number of a chunk's shard, and its own number there."""
        if not 0 <= chunk < self.chunks:
            raise QuadrateError(
                f"{self.name} has chunks 0 to {self.chunks}, the last not included; asked for"
                f" {chunk}"
            )
        number = int(np.searchsorted(self._chunk_ends, chunk, side="right"))
        return number, chunk - self._first_chunk(number)

    def _first_sample(self, number: int) -> int:
        return int(self._sample_ends[number]) - self.manifest.shards[number].samples

    def _first_chunk(self, number: int) -> int:
        return int(self._chunk_ends[number]) - self.manifest.shards[number].chunks

    @contextmanager
    def _shard(self, number: int) -> Iterator[Reader]:
        """An open shard, which no other thread has at the same time.

        Without a lock, which a fork could leave locked: methods of a dictionary are atomic.
        """
        reader = self._idle.pop(number, None) or self._opened(number)
        try:
            yield reader
        finally:
            if len(self._idle) >= _MOST_OPEN:
                self._close(self._idle.popitem()[1])
            if self._closed or self._idle.setdefault(number, reader) is not reader:
                self._close(reader)

    def _opened(self, number: int) -> Reader:
        """Open a shard, and check that it is the one in the manifest."""
        if self._closed:
            raise QuadrateError(f"{self.name} is closed; open it again")
        path, shard = self._folder / shard_name(number), self.manifest.shards[number]
        reader = Reader(path)
        if (
            reader.header != self.manifest.header_of(number)
            or (reader.samples, reader.chunks) != (shard.samples, shard.chunks)
            or reader.size != shard.bytes
        ):
            reader.close()
            raise QuadrateError(
                f"{path} is not the shard that {MANIFEST} lists: it was changed, or comes from"
                " another folder"
            )
        return reader

    def _close(self, reader: Reader) -> None:
        self._closed_bytes += reader.bytes_read
        reader.close()
