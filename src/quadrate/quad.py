"""Files: images or features to a .quad file and back, by a frozen codec; docs/format.md is the format's norm."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.batches import Batch, Blend, checked, joined, of_images, tensor_of
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.coding.container.layout import MAX_CHUNK_SAMPLES
from quadrate.coding.streams import SymbolModel, Words, decode_layer, encode_layer
from quadrate.errors import QuadrateError
from quadrate.familiarity import Watch

CHUNK_SAMPLES = 1 << 14  # fewer cost bytes (a chunk takes about 80 of its own), more cost time when one sample is wanted
CHUNK_PIXELS = 1 << 24  # so that large images make small chunks: what is in memory at a time
CHUNK_FEATURES = 1 << 21  # of features every number is a symbol, and the symbols of larger chunks leave the cache
Item = Literal["pixels", "features", "latents", "labels"]


class SampleCodec(Protocol):
    """What files need of a codec.

    Attributes:
        shape: A sample's: (C, H, W) of images, (D,) of features.
        identities: What identifies each layer's stream, 16 bytes.
        models: Each layer's frozen bottleneck.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def identities(self) -> tuple[bytes, ...]: ...  # noqa: D102
    @property
    def models(self) -> Sequence[SymbolModel]: ...  # noqa: D102

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises a QuadrateError unless a shape (n, …) is that of samples of this codec."""

    def encode(self, samples: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """Samples numbered from `first` on to symbols, int64 (n, d)."""
        ...

    def dither_words(self, count: int, seed: int, first: int = 0) -> Words:
        """Their dithers, (n, d), or (n, 0) if there are none."""
        ...

    def received(self, symbols: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """What decoders read, float (n, d)."""
        ...

    def decode_received(self, received: Tensor, decoder: Blend = None) -> Tensor:
        """What a decoder makes of it: samples, float (n, …)."""
        ...

    def weighted(self, decoder: Blend) -> Sequence[object]:
        """Raises a QuadrateError unless there is such a decoder."""
        ...


def compress(
    codec: SampleCodec, batches: Iterable[Batch], target: Path | BinaryIO, seed: int = 0, chunk: int | None = None, strict: bool = False
) -> int:
    """Writes a .quad file in one pass and in constant memory; under its name it appears only when it is whole.

    Warns (`QuadrateWarning`) if more than 1 % of the samples are unlike those that the codec was made for (`quadrate.familiarity`).

    Args:
        codec: A frozen codec.
        batches: Samples of the codec's shape, in batches of any size; all of them with labels or names, or none.
        target: Where to write.
        seed: Seed of the dither, 0 to 2^64 - 1; it stands in the file.
        chunk: Samples a chunk: what must be read to decode one of them; by default 16384, or fewer large ones.
        strict: Whether to refuse where it would warn: a file of the target's name then stays as it was.

    Returns:
        How many samples were written.

    Raises:
        QuadrateError: If the codec is not frozen, samples do not fit it, the file cannot be written, or it is strict about the samples.
    """
    layers = tuple(LayerHeader(identity, model.columns) for identity, model in zip(codec.identities, codec.models, strict=True))
    chunks = _rechunked(codec, batches, chunk)
    first = next(chunks, None)
    fields = tuple(name for name in ("labels", "names") if getattr(first, name, None) is not None)
    header = Header(codec.shape, seed, layers, fields)
    seed = int(seed)  # which the header has checked: True and 1 are one seed, but would not print the same
    watch = Watch(codec, strict)
    with Writer.create(target, header) as writer:
        if first is not None:
            writer.write(_encoded(codec, first, seed, 0, watch))
        for batch in chunks:
            writer.write(_encoded(codec, batch, seed, writer.samples, watch))
        watch.conclude()
        return writer.samples


def append(codec: SampleCodec, batches: Iterable[Batch], path: Path, chunk: int | None = None, strict: bool = False) -> int:
    """Adds samples to a .quad file that this codec wrote; if that fails half-way, the file is as before. Otherwise as `compress`."""
    watch = Watch(codec, strict)
    with Writer.append(path) as writer:
        _check_fit(codec, writer.header, str(path))
        if len(codec.models) != len(writer.header.layers):
            raise QuadrateError(
                f"{path} has {len(writer.header.layers)} layers, this codec writes {len(codec.models)}; append with the codec of all layers"
            )
        before = writer.samples
        for batch in _rechunked(codec, batches, chunk):
            writer.write(_encoded(codec, batch, writer.header.seed, writer.samples, watch))
        watch.conclude()
        return writer.samples - before


class QuadFile:
    """A .quad file with the codec that reads it; a context manager.

    A codec of the first layers alone reads the base of a file with refinements, and nothing more of the file than it needs.

    Args:
        source: The file's path, or its bytes.
        codec: The codec that wrote it, or one with the same encoders.

    Raises:
        QuadrateError: If the file cannot be read or is damaged, or was written by another codec.
    """

    def __init__(self, source: Path | str | bytes, codec: SampleCodec) -> None:
        self.codec, self.reader = codec, Reader(Path(source) if isinstance(source, str) else source)
        try:
            _check_fit(codec, self.reader.header, "the file" if isinstance(source, bytes) else str(source))
        except BaseException:
            self.close()
            raise

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self.reader.samples

    def symbols(self, chunk: int) -> Words:
        """A chunk's symbols, int64 (n, d).

        Raises:
            QuadrateError: If the chunk is damaged.
        """
        first, count = self.reader.index[chunk].tolist()
        payloads = self.reader.read(chunk, layers=len(self.codec.models), side=False).payloads
        dither = self.codec.dither_words(count, self.reader.header.seed, first)
        symbols = np.empty((count, 0), dtype=np.int64)
        for layer, (model, payload) in enumerate(zip(self.codec.models, payloads, strict=True)):
            try:
                symbols = decode_layer(model, payload, symbols, dither)
            except QuadrateError as error:
                raise QuadrateError(f"chunk {chunk}, layer {layer}: {error}") from None
        return symbols

    def received(self, chunk: int) -> Tensor:
        """What decoders read of a chunk, float (n, d); errors as `symbols`."""
        return self.codec.received(torch.from_numpy(self.symbols(chunk)), self.reader.header.seed, int(self.reader.index[chunk, 0]))

    def side(self, chunk: int) -> ChunkData:
        """A chunk's labels and names, without its symbols.

        Raises:
            QuadrateError: If the chunk is damaged.
        """
        return self.reader.read(chunk, layers=0)

    @property
    def latent_dims(self) -> int:
        """How many numbers a sample `received` gives, d."""
        columns = sum(model.columns for model in self.codec.models)
        return int(self.codec.received(torch.empty((0, columns), dtype=torch.int64)).shape[1])

    def received_pieces(self, samples: slice = slice(None)) -> Iterator[Tensor]:
        """What decoders read of a slice of the samples, float (n, d), chunk by chunk; errors as `symbols`."""
        for chunk, inside in self._chunks(samples):
            yield self.received(chunk)[torch.from_numpy(inside)].cpu()

    def _chunks(self, samples: slice) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """The chunks that hold a slice of the samples, in its order, and which of theirs it takes."""
        wanted = range(*samples.indices(self.samples))
        if not wanted:
            return
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        chunks = self.reader.chunks_of(low, high)
        for chunk in chunks if wanted.step > 0 else reversed(chunks):
            inside = _within(wanted, *self.reader.index[chunk].tolist())
            if len(inside):
                yield chunk, inside

    def pieces(self, samples: slice = slice(None), decoder: Blend = None) -> Iterator[Batch]:
        """A slice of the samples, images as float32 in [0, 1], batch by batch, with their labels and names.

        Raises:
            QuadrateError: If there is no such decoder, or a chunk is damaged.
        """
        self.codec.weighted(decoder)  # no sample asked for is no reason to let a wrong name pass
        for chunk, inside in self._chunks(samples):
            received, side = self.received(chunk), self.side(chunk)
            size = _chunk_samples(self.codec)  # a file may have chunks of more images than there is memory for
            for part in (inside[start : start + size] for start in range(0, len(inside), size)):
                images = self.codec.decode_received(received[torch.from_numpy(part)], decoder).cpu()
                labels = None if side.labels is None else side.labels[part]
                yield Batch(images, labels, None if side.names is None else [side.names[i] for i in part])

    def close(self) -> None:
        """Closes the file."""
        self.reader.close()

    def __enter__(self) -> QuadFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def decompress(
    codec: SampleCodec, source: Path | str | bytes, decoder: Blend = None, samples: slice = slice(None), dtype: str = "uint8"
) -> NDArray[Any]:
    """Reads the samples of a .quad file, all in memory; `QuadFile.pieces` reads them chunk by chunk.

    Args:
        codec: The codec that wrote the file, or one with the same encoders.
        source: The file's path, or its bytes.
        decoder: A decoder's name, or the weights of several by name, which sum to one; by default the codec's first.
        samples: Which samples; only their chunks are read.
        dtype: "uint8", or a floating point type, whose numbers lie in [0, 1]; of features, a floating point type.

    Returns:
        Images (n, C, H, W), or features (n, D).

    Raises:
        QuadrateError: If the file is damaged or another codec's, or the decoder or the type is unknown.
    """
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype("V")
    if kind.kind != "f" and not of_images(codec.shape):
        raise QuadrateError(f"features come as a floating point type such as float32; got dtype {dtype!r}")
    if kind != np.uint8 and kind.kind != "f":
        raise QuadrateError(f"images come as uint8 or a floating point type such as float32; got dtype {dtype!r}")
    with QuadFile(source, codec) as file:
        images = np.empty((len(range(*samples.indices(file.samples))), *codec.shape), kind)
        done = 0
        for batch in file.pieces(samples, decoder):
            images[done : done + len(batch)] = (as_bytes(batch.images) if kind == np.uint8 else batch.images).numpy()
            done += len(batch)
    return images


def as_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] to the nearest uint8."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


class QuadDataset(torch.utils.data.Dataset[Any]):
    """The samples of a .quad file by number, for a PyTorch `DataLoader`.

    Args:
        source: The file.
        codec: The codec that reads it.
        item: What the codec's samples are, "pixels", uint8 (C, H, W), or "features", float (D,), which is the default; or "latents", float (d,); each
            with its label where the file has labels. Or "labels" alone.
        decoder: Which decoder makes the pixels.

    Raises:
        QuadrateError: If the file is not this codec's, there is no such decoder, or there are no labels where they are asked for.
    """

    def __init__(self, source: Path | str | bytes, codec: SampleCodec, item: Item | None = None, decoder: Blend = None) -> None:
        allowed: tuple[Item, ...] = ("pixels" if of_images(codec.shape) else "features", "latents", "labels")
        item = item or allowed[0]
        if item not in allowed:
            raise QuadrateError(f"an item is {', '.join(allowed)}; got {item!r}")
        codec.weighted(decoder)
        self._source, self._codec, self._item, self._decoder = source, codec, item, decoder
        self._open()
        self._labelled = "labels" in self._file.reader.header.fields
        if item == "labels" and not self._labelled:
            raise QuadrateError("this file holds no labels")

    def _open(self) -> None:
        self._file = QuadFile(self._source, self._codec)
        # Neighbours share a chunk, so the last one is kept; a shuffled loader decodes a chunk a sample.
        self._chunk, self._content = -1, torch.empty(0)
        self._labels: Any = None

    def __len__(self) -> int:
        return self._file.samples

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")  # what ends a for loop
        index %= len(self)
        (chunk,) = self._file.reader.chunks_of(index, index + 1)
        if chunk != self._chunk:
            self._load(chunk)
        place = index - int(self._file.reader.index[chunk, 0])
        if self._item == "labels":
            return int(self._labels[place])
        content = self._content[place]
        if self._item in ("pixels", "features"):
            content = self._codec.decode_received(content[None], self._decoder)[0].cpu()
            content = as_bytes(content) if self._item == "pixels" else content
        return (content, int(self._labels[place])) if self._labelled else content

    def _load(self, chunk: int) -> None:
        self._content = torch.empty(0) if self._item == "labels" else self._file.received(chunk)
        self._labels = self._file.side(chunk).labels
        self._chunk = chunk

    def __getstate__(self) -> dict[str, Any]:  # a worker process opens the file for itself
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._open()

    def __del__(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()


def _check_fit(codec: SampleCodec, header: Header, name: str) -> None:
    """Raises a QuadrateError that says what is needed, unless the codec reads the layers from the base on."""
    ours, theirs = codec.identities, tuple(layer.identity for layer in header.layers)
    if ours[: len(theirs)] != theirs[: len(ours)]:
        number = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        needed, given = theirs[number].hex(), ours[number].hex()
        raise QuadrateError(
            f"{name} was written by another codec: its layer {number} is {needed}, this codec's is {given}; use the codec that wrote it"
        )
    if len(theirs) < len(ours):
        raise QuadrateError(f"{name} holds {len(theirs)} of this codec's {len(ours)} layers; read it with the codec of the base alone")
    if tuple(header.shape) != tuple(codec.shape):
        raise QuadrateError(f"{name} holds samples of shape {tuple(header.shape)}; this codec's are {tuple(codec.shape)}")


def _chunk_samples(codec: SampleCodec) -> int:
    """The default number of samples a chunk."""
    return max(1, min(CHUNK_SAMPLES, (CHUNK_PIXELS if of_images(codec.shape) else CHUNK_FEATURES) // math.prod(codec.shape)))


def _rechunked(codec: SampleCodec, batches: Iterable[Batch], size: int | None) -> Iterator[Batch]:
    """The same samples, checked, in batches of `size`, the last one smaller."""
    size = _chunk_samples(codec) if size is None else size
    if not 1 <= size <= MAX_CHUNK_SAMPLES:
        raise QuadrateError(f"a chunk holds 1 to {MAX_CHUNK_SAMPLES} samples; got {size}")
    waiting: list[Batch] = []
    count = 0  # of the samples that wait; less than two chunks of them
    for batch in (checked(batch, codec.shape) for batch in batches):
        codec.check_shape(batch.images.shape)
        for start in range(0, len(batch), size):
            waiting.append(batch[start : start + size])
            count += len(waiting[-1])
            if count >= size:
                whole, count = joined(waiting, codec.shape), count - size
                yield whole[:size]
                waiting = [whole[size:]] if count else []
    if waiting:
        yield joined(waiting, codec.shape)


def _encoded(codec: SampleCodec, batch: Batch, seed: int, first: int, watch: Watch) -> ChunkData:
    """A chunk of samples numbered from `first` on."""
    samples = tensor_of(batch.images, codec.shape)
    symbols = codec.encode(samples, seed, first).cpu().numpy()
    watch.see(samples, symbols, seed, first)
    dither = codec.dither_words(len(symbols), seed, first)
    payloads = tuple(encode_layer(model, symbols, dither) for model in codec.models)
    return ChunkData(len(symbols), payloads, batch.labels, None if batch.names is None else tuple(batch.names))


def _within(wanted: range, first: int, count: int) -> NDArray[np.int64]:
    """Which of the wanted samples a chunk holds, counted from its first, in the order wanted."""
    rising = wanted if wanted.step > 0 else wanted[::-1]
    inside = np.array(rising[bisect_left(rising, first) : bisect_left(rising, first + count)], dtype=np.int64) - first
    return inside if wanted.step > 0 else inside[::-1].copy()
