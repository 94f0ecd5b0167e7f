"""What can be read chunk by chunk: a .quad file, or a folder of shards as one file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.container.layout import Header
from quadrate.coding.container.side import ChunkData
from quadrate.core.files import Closing
from quadrate.errors import QuadrateError


class QuadReader(Closing):
    """Samples in chunks, open for reading; a context manager. Any number of threads may read.

    `open_quad` opens one.

    Attributes:
        header: What holds for all samples.
        samples: How many there are.
        name: The path in errors, or "the data".
        size: How many bytes there are.
        ignored_bytes: How many of them do not count: an append that was interrupted.
    """

    header: Header
    samples: int
    name: str
    size: int
    ignored_bytes: int

    @property
    @abstractmethod
    def chunks(self) -> int:
        """How many chunks there are."""

    @property
    @abstractmethod
    def index(self) -> NDArray[np.int64]:
        """(chunks, 2): the number of each chunk's first sample, and how many samples it has."""

    @property
    @abstractmethod
    def file_id(self) -> bytes:
        """8 bytes that tell these chunks from those of other files.

        They stay the same when chunks are appended to a file that has some.
        """

    @property
    @abstractmethod
    def bytes_read(self) -> int:
        """How many bytes were read so far."""

    @abstractmethod
    def read(self, chunk_number: int, layers: int | None = None, side: bool = True) -> ChunkData:
        """Read a chunk, or the parts of it that are asked for.

        Args:
            chunk_number: From 0.
            layers: How many layers' payloads to read, from the base on; by default all.
            side: Whether to read the side data, where there are some.

        Raises:
            QuadrateError: If there is no such chunk or layer, or it is damaged.
        """

    @abstractmethod
    def verified(self) -> Iterator[range]:
        """Verify chunk by chunk, and yield the numbers of the samples that were checked.

        All is whole when the iterator ends.
        """

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """How many bytes each part takes; the parts make up the whole."""

    def span(self, chunk: int) -> tuple[int, int]:
        """The number of a chunk's first sample, and how many samples it has."""
        first, count = self.index[chunk].tolist()
        return first, count

    def origin(self, chunk: int) -> tuple[int, int]:
        """The seed of a chunk's dither, and the number of its first sample under this seed."""
        return self.header.seed, self.span(chunk)[0]

    def chunks_of(self, start: int, stop: int) -> range:
        """The numbers of the chunks that hold the samples `start` to `stop`, the last not included.

        Raises:
            QuadrateError: If there are no such samples.
        """
        if not 0 <= start <= stop <= self.samples:
            raise QuadrateError(
                f"{self.name} has samples 0 to {self.samples}, the last not included; asked"
                f" for {start} to {stop}"
            )
        if start == stop:
            return range(0)
        return range(self._chunk_of(start), self._chunk_of(stop - 1) + 1)

    def _chunk_of(self, sample: int) -> int:
        return int(np.searchsorted(self.index[:, 0], sample, side="right")) - 1

    def verify(self) -> None:
        """Read and check everything: chunks, file id, and that there are no gaps between blocks.

        Raises:
            QuadrateError: If something is wrong.
        """
        for _ in self.verified():
            pass
