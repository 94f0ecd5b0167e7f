"""Writing .quad files in one pass, and appending to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from quadrate.coding.container.blocks import (
    Part,
    check_sizes,
    make_file_id,
    pack_chunk_body,
    pack_chunk_header,
    pack_trailer,
)
from quadrate.coding.container.file import InputFile, OutputFile, file_to_grow, grown_file, new_file
from quadrate.coding.container.layout import CHECKSUM, CHUNK, ENTRY, Header
from quadrate.coding.container.reader import read_contents
from quadrate.coding.container.side import ChunkData, pack_side
from quadrate.core.remote import Url, place_of
from quadrate.errors import QuadrateError


class Writer:
    """A .quad file that is being written: `with Writer.create(...) as writer:`, or `Writer.append`.

    Chunks go out at once.

    Attributes:
        header: The file's header.
        samples: How many samples there are so far.
    """

    def __init__(
        self,
        output: OutputFile,
        header: Header,
        packed: bytes,
        samples: int = 0,
        entries: bytes = b"",
        file_id: bytes = b"",
    ) -> None:
        self.header, self.samples = header, samples
        self._output, self._packed, self._entries = output, packed, bytearray(entries)
        self._file_id = file_id or make_file_id(packed)

    @classmethod
    @contextmanager
    def create(
        cls, target: str | os.PathLike[str] | Url | BinaryIO, header: Header
    ) -> Iterator[Writer]:
        """Write a new file, finished when the `with` block ends without an exception.

        Args:
            target: A path or URL, which gets the file when it is whole and not before (a symbolic
                link is followed); or an open binary file, which is written to at once (after an
                exception it is not finished, and readers say so).
            header: The file's header.

        Raises:
            QuadrateError: If it cannot be written.
        """
        packed = header.pack()
        with (
            new_file(place_of(target))
            if isinstance(target, str | os.PathLike | Url)
            else _given_file(target)
        ) as output:
            output.write(packed)
            writer = cls(output, header, packed)
            yield writer
            writer._write_trailer()

    @classmethod
    @contextmanager
    def append(cls, path: str | os.PathLike[str] | Url) -> Iterator[Writer]:
        """Append chunks to a file, in place.

        They count when the `with` block ends without an exception; otherwise the file is as before.
        The caller checks the writer's `header`. The file is locked: another append waits for
        `lock.WAIT_SECONDS`, and is then refused.

        Raises:
            QuadrateError: If there is no such file, it is damaged, it cannot be written, or another
                program is writing to it.
        """
        path = place_of(path)
        if isinstance(path, Url):
            raise QuadrateError(
                f"cannot append to {path}: files behind URLs do not grow; write shards (--shards),"
                " to which shards are added"
            )
        with file_to_grow(path) as locked:
            with InputFile(path) as file:
                contents = read_contents(file)
            with grown_file(locked, str(path), contents.end) as output:
                counted = (contents.samples, contents.entries, contents.file_id)
                writer = cls(output, contents.header, contents.packed, *counted)
                yield writer
                if len(writer._entries) > len(contents.entries):
                    # A trailer must not reach the disk before its chunks.
                    output.flush(to_disk=True)
                    writer._write_trailer()

    def write(self, chunk: ChunkData) -> None:
        """Write a chunk.

        Raises:
            QuadrateError: If it does not fit the header or the format's limits, or cannot be
                written.
        """
        number = len(self._entries) // ENTRY.size
        where = f"{self._output.name}: chunk {number}"
        if len(chunk.payloads) != len(self.header.layers):
            raise QuadrateError(
                f"{where}: there are {len(chunk.payloads)} payloads; the header announces"
                f" {len(self.header.layers)} layers"
            )
        CHUNK.fields[-1].check(chunk.samples, where)
        sizes: list[Part] = [(len(payload), 0) for payload in (*chunk.payloads, b"")]
        check_sizes(self.header, chunk.samples, sizes, where)
        side = pack_side(self.header, chunk, where)
        body = pack_chunk_body(number, self.samples, chunk.samples, (*chunk.payloads, side), where)
        if number == 0:
            self._file_id = make_file_id(self._packed, body, *chunk.payloads, side)
        head = pack_chunk_header(self._file_id, body)
        checksum = head[-CHECKSUM.size :]
        entry = ENTRY.pack(self._output.position, chunk.samples, checksum, where=where)
        self._output.write(head, *chunk.payloads, side)
        self._entries += entry
        self.samples += chunk.samples

    def _write_trailer(self) -> None:
        entries = bytes(self._entries)
        self._output.write(pack_trailer(self._packed, self._file_id, self.samples, entries))


@contextmanager
def _given_file(file: BinaryIO) -> Iterator[OutputFile]:
    output = OutputFile(file, str(getattr(file, "name", "the output")))
    yield output
    output.flush(to_disk=False)
