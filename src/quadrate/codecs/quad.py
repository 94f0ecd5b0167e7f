"""Files: images or features to a .quad file and back, by a frozen codec.

Docs/format.md is the format's norm.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quadrate.codecs.batches import Batch, Blend, checked, joined, of_images, tensor_of
from quadrate.codecs.quad_dataset import ChunkSampler, QuadDataset
from quadrate.codecs.quad_file import (
    CHUNK_SAMPLES,
    QuadFile,
    as_bytes,
    check_fit,
    chunk_samples,
)
from quadrate.codecs.watch import Watch
from quadrate.coding.container import ChunkData, Header, LayerHeader, Writer
from quadrate.coding.container.layout import MAX_CHUNK_SAMPLES
from quadrate.coding.streams import encode_layer
from quadrate.core.files import FileSource
from quadrate.core.remote import Url
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs.symbol_codec import SymbolCodec

__all__ = [
    "CHUNK_SAMPLES",
    "Batch",
    "ChunkSampler",
    "QuadDataset",
    "QuadFile",
    "append",
    "as_bytes",
    "compress",
    "decompress",
]


def compress(
    codec: SymbolCodec,
    batches: Iterable[Batch],
    target: str | os.PathLike[str] | Url | BinaryIO,
    seed: int = 0,
    chunk: int | None = None,
    strict: bool = False,
) -> int:
    """Writes a .quad file in one pass and in constant memory.

    Under its name it appears only when it is whole.

    Warns (`QuadrateWarning`) if more than 1 % of the samples are unlike those that the codec was
    made for (`quadrate.codecs.familiarity`).

    Args:
        codec: A frozen codec.
        batches: Samples of the codec's shape, in batches of any size; all of them with labels or
            names, or none.
        target: Where to write: a path, of which a symbolic link is followed, a URL, or an open
            binary file.
        seed: Seed of the dither, 0 to 2^64 - 1; it stands in the file.
        chunk: Samples a chunk: what must be read to decode one of them; by default 16384, or fewer
            large ones.
        strict: Whether to refuse where it would warn: a file of the target's name then stays as it
            was.

    Returns:
        How many samples were written.

    Raises:
        QuadrateError: If the codec is not frozen, samples do not fit it, the file cannot be
            written, or it is strict about the samples.
    """
    layers = tuple(
        LayerHeader(identity, model.columns)
        for identity, model in zip(codec.identities, codec.models, strict=True)
    )
    chunks = _rechunked(codec, batches, chunk)
    first = next(chunks, None)
    fields = tuple(name for name in ("labels", "names") if getattr(first, name, None) is not None)
    header = Header(codec.shape, seed, layers, fields)
    seed = int(
        seed
    )  # which the header has checked: True and 1 are one seed, but would not print the same
    watch = Watch(codec, strict)
    with Writer.create(target, header) as writer:
        if first is not None:
            writer.write(_encoded(codec, first, seed, 0, watch))
        for batch in chunks:
            writer.write(_encoded(codec, batch, seed, writer.samples, watch))
        watch.conclude()
        return writer.samples


def append(
    codec: SymbolCodec,
    batches: Iterable[Batch],
    path: str | os.PathLike[str] | Url,
    chunk: int | None = None,
    strict: bool = False,
) -> int:
    """Adds samples to a .quad file that this codec wrote.

    If that fails half-way, the file is as before. Otherwise as `compress`.

    The file is locked meanwhile: another append waits a few seconds for its end, and is then
    refused.

    Raises:
        QuadrateError: As `compress`; if there is no such file, it is damaged, or another program is
            writing to it.
    """
    watch = Watch(codec, strict)
    with Writer.append(path) as writer:
        check_fit(codec, writer.header, str(path))
        if len(codec.models) != len(writer.header.layers):
            raise QuadrateError(
                f"{path} has {len(writer.header.layers)} layers, this codec writes"
                f" {len(codec.models)}; append with the codec of all layers"
            )
        before = writer.samples
        for batch in _rechunked(codec, batches, chunk):
            writer.write(_encoded(codec, batch, writer.header.seed, writer.samples, watch))
        watch.conclude()
        return writer.samples - before


def decompress(
    codec: SymbolCodec,
    source: FileSource,
    decoder: Blend = None,
    samples: slice = slice(None),
    dtype: str | None = None,
) -> NDArray[Any]:
    """Reads the samples of a .quad file, all in memory.

    `QuadFile.pieces` reads them chunk by chunk.

    Args:
        codec: The codec that wrote the file, or one with the same encoders.
        source: The path of the file or of a folder of shards, or a file's bytes.
        decoder: A decoder's name, or the weights of several by name, which sum to one; by default
            the codec's first.
        samples: Which samples; only their chunks are read.
        dtype: "uint8", or a floating point type, whose numbers lie in [0, 1]; of features, a
            floating point type. By default images come as uint8, features as the codec's own.

    Returns:
        Images (n, C, H, W), or features (n, D).

    Raises:
        QuadrateError: If the file is damaged or another codec's, the decoder or the type is
            unknown, or there is not enough memory.
    """
    with QuadFile(source, codec) as file:
        kind = _output_dtype(dtype, file)
        shape = (len(range(*samples.indices(file.samples))), *codec.shape)
        size = math.prod(shape) * kind.itemsize
        too_much = (
            f"{file.name}: {shape[0]} samples take {size} bytes of memory at once; decode them in"
            " pieces, with samples= or QuadFile.pieces"
        )
        # Few bytes may claim many samples, and some systems promise memory that they do not have.
        if size > _memory_bytes():
            raise QuadrateError(too_much)
        try:
            images = np.empty(shape, kind)
            done = 0
            for batch in file.pieces(samples, decoder):
                decoded = as_bytes(batch.images) if kind == np.uint8 else batch.images
                images[done : done + len(batch)] = decoded.numpy()
                done += len(batch)
        except MemoryError:
            raise QuadrateError(too_much) from None
        except RuntimeError as error:
            if "can't allocate memory" in str(error):  # what torch raises in place of a MemoryError
                raise QuadrateError(too_much) from None
            raise
    return images


def _output_dtype(dtype: str | None, file: QuadFile) -> np.dtype[Any]:
    """The type that samples come in: what is asked for, or what suits them."""
    images = of_images(file.codec.shape)
    if dtype is None:
        return np.dtype(np.uint8) if images else file.latent_dtype
    with suppress(TypeError):
        if (kind := np.dtype(dtype)).kind == "f" or (images and kind == np.uint8):
            return kind
    what = "images come as uint8 or a" if images else "features come as a"
    raise QuadrateError(f"{what} floating point type such as float32; got dtype {dtype!r}")


def _memory_bytes() -> int:
    """The main memory of this machine, or of the container that we are in."""
    limits = [sys.maxsize]
    with suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(ValueError, OSError):  # "max" is no limit
            limits.append(int(Path(limit).read_text()))
    return min(limits)


def _rechunked(codec: SymbolCodec, batches: Iterable[Batch], size: int | None) -> Iterator[Batch]:
    """The same samples, checked, in batches of `size`, the last one smaller."""
    size = chunk_samples(codec) if size is None else size
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


def _encoded(codec: SymbolCodec, batch: Batch, seed: int, first: int, watch: Watch) -> ChunkData:
    """A chunk of samples numbered from `first` on."""
    samples = tensor_of(batch.images, codec.shape)
    symbols = codec.encode(samples, seed, first).cpu().numpy()
    watch.see(samples, symbols, seed, first)
    dither = codec.dither_words(len(symbols), seed, first)
    payloads = tuple(encode_layer(model, symbols, dither) for model in codec.models)
    return ChunkData(
        len(symbols), payloads, batch.labels, None if batch.names is None else tuple(batch.names)
    )
