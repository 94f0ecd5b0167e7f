"""Passes over a folder of shards for PyTorch: shuffled, by several workers, gone on with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.codecs.codec import Codec
from quadrate.codecs.photo_codec import PhotoCodec
from quadrate.codecs.photo_dataset import PhotoDataset
from quadrate.codecs.quad_dataset import ChunkSampler, QuadDataset
from quadrate.coding.container.manifest import Manifest, shard_name
from quadrate.core import draws
from quadrate.core.files import data_or_path
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

_SHARDS = 1 << 32  # more than a folder has: seeds of shards of different data sets differ


class ShardDataset(torch.utils.data.IterableDataset[Any]):
    """The samples of a folder of shards, one pass after another, for a `ShardLoader`.

    Shards come in another order each pass, and in a shard chunks and then samples are shuffled, as
    `QuadDataset.sampler` does it. Of W workers, worker w takes every W-th shard from the w-th on.
    So the order is a function of seed, pass, W and w, and one shard a worker is in memory at a
    time.

    Args:
        folder: The folder of shards.
        codec: The codec that reads it.
        batch_size: How many samples come together, as a tensor (n, …), or a pair with the labels
            (n,) where samples have labels; the last batch of a shard may be smaller. None gives
            samples one by one.
        shuffle: Whether to shuffle, rather than read everything in its order.
        seed: What the order depends on.
        **options: Those of `QuadDataset`, or of `PhotoDataset` if the codec is one of photographs:
            what samples are, how they are decoded, and how many bytes to keep.

    Attributes:
        epoch: The number of the pass, from 0. `ShardLoader` counts it; of another loader, set it
            before each pass.
        skip: How many batches to leave out at the start of the pass, of all workers together.

    Raises:
        QuadrateError: If the folder is not one of shards, or not this codec's, or an option is not
            allowed.
    """

    def __init__(
        self,
        folder: str | Place,
        codec: Codec | PhotoCodec,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise QuadrateError(f"a batch has at least one sample; got batch_size {batch_size}")
        place = data_or_path(folder)
        if isinstance(place, bytes):
            raise QuadrateError("a folder of shards is given by its path; got bytes")
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.epoch = self.skip = 0
        self._folder, self._codec, self._options = place, codec, options
        self._samples = [shard.samples for shard in Manifest.read(place).shards]
        self._open(0)  # what is wrong shows at once

    def __len__(self) -> int:
        """How many batches a pass has, or samples if there are no batches."""
        return sum(map(self._batches, self._samples))

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        role, skip = self._roles(workers)[worker]
        for shard in self._order()[role::workers]:
            batches = self._batches(self._samples[shard])
            if skip < batches:
                yield from self._shard(shard, skip)
            skip = max(0, skip - batches)

    def _order(self) -> list[int]:
        """The shards in the order of this pass."""
        count = len(self._samples)
        if not self.shuffle:
            return list(range(count))
        order: list[int] = draws.permutation("shards", self.seed, self.epoch, n=count).tolist()
        return order

    def _batches(self, samples: int) -> int:
        return math.ceil(samples / (self.batch_size or 1))

    def _roles(self, workers: int) -> list[tuple[int, int]]:
        """Which worker's shards each worker takes, and how many batches of theirs it leaves out.

        A loader takes a batch of each worker in turn, of those that have some left, and begins with
        the first. So where batches are left out, the first takes the part of the one whose turn it
        is.
        """
        order = self._order()
        counts = [self._batches(self._samples[shard]) for shard in order]
        left = [sum(counts[w::workers]) for w in range(workers)]
        taken, skip, turn = [0] * workers, self.skip, 0
        while skip and (active := [w for w in range(workers) if left[w]]):
            rounds = min(skip // len(active), min(left[w] for w in active))
            for place, w in enumerate(active):
                count = rounds or int(place < skip)
                taken[w] += count
                left[w] -= count
            if not rounds:
                turn = active[skip]
            skip -= rounds * len(active) or skip
        return [(w % workers, taken[w % workers]) for w in range(turn, turn + workers)]

    def _open(self, shard: int) -> QuadDataset | PhotoDataset:
        path = self._folder / shard_name(shard)
        if isinstance(self._codec, PhotoCodec):
            opened: QuadDataset | PhotoDataset = PhotoDataset(path, self._codec, **self._options)
        else:
            opened = QuadDataset(path, self._codec, **self._options)
        if len(opened) != self._samples[shard]:
            raise QuadrateError(f"{path} has {len(opened)} samples; the manifest lists others")
        return opened

    def _shard(self, shard: int, skip: int) -> Iterator[Any]:
        """The batches of a shard, from one on."""
        opened = self._open(shard)
        numbers = self._numbers(shard, opened)
        if self.batch_size is None:
            for number in numbers[skip:].tolist():
                yield opened[number]
            return
        for start in range(skip * self.batch_size, len(numbers), self.batch_size):
            yield opened.batch(numbers[start : start + self.batch_size].tolist())

    def _numbers(self, shard: int, opened: QuadDataset | PhotoDataset) -> NDArray[np.int64]:
        """The samples of a shard in the order of this pass."""
        count = len(opened)
        if not self.shuffle or not count:
            return np.arange(count)
        seed = self.seed * _SHARDS + shard
        sampler = (
            opened.sampler(seed)
            if isinstance(opened, QuadDataset)
            else ChunkSampler([1] * count, seed, count)
        )
        sampler.epoch = self.epoch
        return np.fromiter(sampler, np.int64, count)


class ShardLoader(torch.utils.data.DataLoader[Any]):
    """A loader of a `ShardDataset` that counts passes and can go on within one.

        loader = ShardLoader(dataset, num_workers=2)
        for images, labels in loader: ...
        torch.save(loader.state_dict(), "loader.pt")

    Args:
        dataset: What to load; it says how large batches are.
        **options: Those of `torch.utils.data.DataLoader`, such as `num_workers`.

    Raises:
        QuadrateError: If options say what the data set says, or that workers persist, which would
            not learn of the next pass.
    """

    dataset: ShardDataset

    def __init__(self, dataset: ShardDataset, **options: Any) -> None:
        for name in ("batch_size", "shuffle", "sampler", "batch_sampler", "persistent_workers"):
            if options.get(name):
                raise QuadrateError(
                    f"a ShardLoader takes no {name}"
                    + (f"; the data set does: ShardDataset(…, {name}=)" if "_size" in name else "")
                )
        if options.get("in_order") is False:
            raise QuadrateError("a ShardLoader keeps batches in order; leave in_order out")
        super().__init__(dataset, batch_size=None, **options)
        self._given = 0  # batches of this pass

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # DataLoader's has a name
        self._given = self.dataset.skip
        for batch in super().__iter__():
            self._given += 1
            yield batch
        self.dataset.epoch += 1
        self.dataset.skip = self._given = 0

    def state_dict(self) -> dict[str, int | bool | None]:
        """Where the loader stands: what was given, and what decides the order."""
        return self._question() | {"epoch": self.dataset.epoch, "given": self._given}

    def load_state_dict(self, state: dict[str, int | bool | None]) -> None:
        """Go on where `state_dict` was taken: the next batch is the one that was to come then.

        Raises:
            QuadrateError: If the order would be another one.
        """
        question = self._question()
        if state.keys() != question.keys() | {"epoch", "given"}:
            raise QuadrateError(f"a loader's state has other entries than {', '.join(state)}")
        for name, value in question.items():
            if state[name] != value:
                raise QuadrateError(
                    f"the state is of a loader with {name} {state[name]}; this one has {value}"
                )
        self.dataset.epoch = int(state["epoch"] or 0)
        self.dataset.skip = self._given = int(state["given"] or 0)

    def _question(self) -> dict[str, int | bool | None]:
        return {
            "seed": self.dataset.seed,
            "shuffle": self.dataset.shuffle,
            "batch_size": self.dataset.batch_size,
            "batches": len(self.dataset),
            "num_workers": max(1, self.num_workers),
        }
