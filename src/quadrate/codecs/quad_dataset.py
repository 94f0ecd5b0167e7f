"""The samples of a .quad file for a PyTorch `DataLoader`, and an order to shuffle them."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.codecs.batches import Blend, of_images
from quadrate.codecs.file_dataset import FileDataset
from quadrate.codecs.quad_file import QuadFile, as_bytes, chunk_samples
from quadrate.core import draws
from quadrate.core.files import FileSource, data_or_path
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs.symbol_codec import SymbolCodec

CACHE_BYTES = 1 << 28  # 340,000 decoded MNIST images
_LABEL_BYTES = 8
Item = Literal["pixels", "features", "latents", "labels"]
# Contents (n, …) and labels (n,), or (0,) without labels.
Rows: TypeAlias = tuple[Tensor, Tensor]


class QuadDataset(FileDataset):
    """The samples of a .quad file by number, for a PyTorch `DataLoader`.

    Any number of threads may read from one.

    Decoded samples are kept, up to `cache_bytes`; the least recently used are dropped first, and
    each worker process of a loader keeps its own. If all samples fit into the cache, they are
    decoded once, a chunk at a time. Otherwise only latents are kept, and each sample is decoded
    when it is asked for; `sampler` then gives an order that reads each chunk once.

    Args:
        source: The path of the file or of a folder of shards, or a file's bytes.
        codec: The codec that reads it; that of the first layers reads the base of a layered file.
        item: What the codec's samples are, "pixels", uint8 (C, H, W), or "features", float (D,),
            which is the default; or "latents", float (d,); each with its label where the file has
            labels. Or "labels" alone.
        decoder: A decoder's name, or weights by name; by default the codec's first.
        cache_bytes: How many bytes of decoded samples to keep, at most; what was last read is kept
            in any case.

    Raises:
        QuadrateError: If the file is not this codec's, there is no such decoder, there are no
            labels where they are asked for, or the cache has a negative size.
    """

    def __init__(
        self,
        source: FileSource,
        codec: SymbolCodec,
        item: Item | None = None,
        decoder: Blend = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        allowed: tuple[Item, ...] = (
            "pixels" if of_images(codec.shape) else "features",
            "latents",
            "labels",
        )
        item = item or allowed[0]
        if item not in allowed:
            raise QuadrateError(f"an item is {', '.join(allowed)}; got {item!r}")
        codec.check_decoder(decoder)
        if not cache_bytes >= 0:
            raise QuadrateError(f"a cache takes 0 bytes or more; got {cache_bytes}")
        self._source: bytes | Place = data_or_path(source)
        self._codec = codec
        self._item = item
        self._decoder = decoder
        self._cache_bytes = cache_bytes
        self._open()
        self._labelled = "labels" in self._file.reader.header.fields
        if item == "labels" and not self._labelled:
            raise QuadrateError("this file holds no labels")

    def _open(self) -> None:
        self._file, self._cache = QuadFile(self._source, self._codec), _Cache(self._cache_bytes)
        size, width = math.prod(self._codec.shape), self._file.latent_dtype.itemsize
        kept = {
            "pixels": size,
            "features": width * size,
            "latents": width * math.prod(self._file.latent_shape),
            "labels": 0,
        }[self._item] + _LABEL_BYTES
        self._fits = len(self) * kept <= self._cache_bytes  # all samples, once they are decoded

    def __len__(self) -> int:
        return self._file.samples

    def __repr__(self) -> str:
        content = "labels"
        if self._item != "labels":
            content = f"{self._item} {self._item_shape}{' with labels' * self._labelled}"
        return (
            f"QuadDataset({self._file.name!r}: {len(self)} samples in"
            f" {self._file.reader.chunks} chunks; {content})"
        )

    def __getitem__(self, number: int) -> Any:
        return self._items([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Read a batch that a loader asks for at once, so that its samples are decoded together."""
        if type(self).__getitem__ is not QuadDataset.__getitem__:  # a subclass changes samples
            return [self[number] for number in numbers]
        return self._items(numbers)

    def batch(self, numbers: Sequence[int]) -> Any:
        """Read some samples together; as `FileDataset.batch`, but without one tensor a sample."""
        contents, labels = self._numbered(numbers)
        if self._item == "labels":
            return labels
        return (contents, labels) if self._labelled else contents

    def _numbered(self, numbers: Sequence[int]) -> Rows:
        """Samples by their numbers."""
        wanted = np.array([self._checked(number) for number in numbers], np.int64)
        starts = self._file.reader.index[:, 0]
        chunks = np.searchsorted(starts, wanted, side="right") - 1
        return _grouped(
            chunks, lambda chunk, places: self._rows(chunk, wanted[places] - starts[chunk])
        )

    def _items(self, numbers: Sequence[int]) -> list[Any]:
        if not len(numbers):
            return []
        contents, labels = self._numbered(numbers)
        if self._item == "labels":
            return labels.tolist()
        return list(zip(contents, labels.tolist(), strict=True)) if self._labelled else [*contents]

    @property
    def _item_shape(self) -> tuple[int, ...]:
        return {"latents": self._file.latent_shape, "labels": ()}.get(
            self._item, tuple(self._codec.shape)
        )

    @property
    def _decodes(self) -> bool:
        """Whether items are decoded."""
        return self._item in ("pixels", "features")

    def _rows(self, chunk: int, rows: NDArray[np.int64]) -> Rows:
        """Copy some of a chunk's items, by their place in it."""
        if not (self._decodes and self._fits):
            contents, labels = _picked(self._latents(chunk), rows)
            if self._decodes:
                contents = self._decoded(chunk, contents, rows.tolist())
            return contents, labels
        size = chunk_samples(self._codec)
        return _grouped(
            rows // size,
            lambda number, places: _picked(self._piece(chunk, number), rows[places] % size),
        )

    def _latents(self, chunk: int) -> Rows:
        """The latents of a chunk, and its labels."""

        def read() -> Rows:
            contents = torch.empty(0) if self._item == "labels" else self._file.latents(chunk)
            return contents, (
                torch.from_numpy(self._file.side(chunk).labels)
                if self._labelled
                else torch.empty(0, dtype=torch.int64)
            )

        return self._cache.get((chunk, None), read)

    def _piece(self, chunk: int, number: int) -> Rows:
        """Decode a piece of a chunk of the size that `QuadFile.pieces` takes: same bits."""

        def decode() -> Rows:
            latents, labels = self._latents(chunk)
            size = chunk_samples(self._codec)
            part = slice(number * size, (number + 1) * size)
            places = range(*part.indices(len(latents)))
            return self._decoded(chunk, latents[part], places), labels[part]

        return self._cache.get((chunk, number), decode)

    def _decoded(self, chunk: int, latents: Tensor, places: Sequence[int]) -> Tensor:
        samples = self._file.reconstruct(chunk, latents, places, self._decoder)
        return as_bytes(samples) if self._item == "pixels" else samples

    def sampler(self, seed: int = 0, window: int | None = None) -> ChunkSampler:
        """An order for a `DataLoader` that shuffles and yet reads each chunk once.

        `DataLoader(dataset, batch_size, sampler=dataset.sampler())`.

        Args:
            seed: What the order depends on.
            window: How many chunks are shuffled together; by default all if all samples fit into
                the cache, else as many as fill half of it, since a batch may reach into the next
                window.

        Raises:
            QuadrateError: If the window is less than 1.
        """
        counts = self._file.reader.index[:, 1]
        if window is None:
            kept = _LABEL_BYTES
            if self._item != "labels":
                kept += math.prod(self._file.latent_shape) * self._file.latent_dtype.itemsize
            largest = int(counts.max(initial=1)) * kept
            window = max(1, len(counts) if self._fits else self._cache_bytes // (2 * largest))
        return ChunkSampler(counts.tolist(), seed, window)


class ChunkSampler(torch.utils.data.Sampler[int]):
    """All samples of a chunked file once, in an order that is random and yet local.

    Chunks are shuffled, then samples within some chunks at a time.

    Every pass has another order, which depends on the seed and the number of the pass alone.

    Args:
        counts: How many samples each chunk has.
        seed: What the order depends on.
        window: How many chunks are shuffled together: what a reader should keep.

    Attributes:
        epoch: The number of the next pass, from 0; set it to go on where an earlier program
            stopped.

    Raises:
        QuadrateError: If the window is less than 1.
    """

    def __init__(self, counts: Sequence[int], seed: int = 0, window: int = 1) -> None:
        if window < 1:
            raise QuadrateError(f"a window has at least one chunk; got {window}")
        self._counts = np.asarray(counts, np.int64)
        self._seed = seed
        self._window = window
        self.epoch = 0

    def __len__(self) -> int:
        return int(self._counts.sum())

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        starts = np.cumsum(self._counts) - self._counts
        order = draws.permutation("chunks", self._seed, epoch, n=len(self._counts)).numpy()
        for first in range(0, len(order), self._window):
            chunks = order[first : first + self._window]
            samples = np.concatenate(
                [np.arange(starts[chunk], starts[chunk] + self._counts[chunk]) for chunk in chunks]
            )
            places = draws.permutation("samples", self._seed, epoch, first, n=len(samples))
            yield from samples[places.numpy()].tolist()


class _Cache:
    """Values that were used last, up to a number of bytes; the newest in any case.

    Threads and forked processes may use it.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._clear()

    def _clear(self) -> None:
        self._process, self._lock = os.getpid(), RLock()
        self._values: OrderedDict[Any, Rows] = OrderedDict()
        self._bytes = 0

    def get(self, key: object, make: Callable[[], Rows]) -> Rows:
        """The value of a key, made if it is not there.

        Other threads wait for it, so that nothing is decoded twice.
        """
        if self._process != os.getpid():  # a fork, where nobody may give the lock back
            self._clear()
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            self._values[key] = value = make()
            self._bytes += _size(value)
            while self._bytes > self._most and len(self._values) > 1:
                self._bytes -= _size(self._values.popitem(last=False)[1])
            return value


def _picked(rows: Rows, places: NDArray[np.int64]) -> Rows:
    """Copies of some rows; what is not there stays away."""
    wanted = torch.from_numpy(places)
    contents, labels = (part[wanted] if len(part) else part for part in rows)
    return contents, labels


def _grouped(groups: NDArray[np.int64], take: Callable[[int, NDArray[np.int64]], Rows]) -> Rows:
    """Rows in the order of their groups (n,), which are taken group by group.

    Args:
        groups: The group of each row.
        take: Gives the rows of a group at some places of n.
    """
    numbers = np.unique(groups).tolist()
    places = [np.flatnonzero(groups == number) for number in numbers]
    parts = [take(number, some) for number, some in zip(numbers, places, strict=True)]
    if len(parts) == 1:
        return parts[0]
    empty = torch.empty(0), torch.empty(0, dtype=torch.int64)
    together = [torch.cat(each) for each in zip(*parts or [empty], strict=True)]
    order = np.argsort(np.concatenate(places)) if parts else groups
    return _picked((together[0], together[1]), order)


def _size(value: Rows) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in value)
