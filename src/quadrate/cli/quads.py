"""What the verbs of .quad files share: codecs, and which reads a file; a bar over the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from quadrate.codecs.zoo_index import CodecSummary, read_index
from quadrate.coding.container import Header, QuadReader, open_quad
from quadrate.core.files import digest_of
from quadrate.core.remote import Place, place_of
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs import Codec, PhotoCodec
    from quadrate.codecs.photo_quad import Changes

_Piece = TypeVar("_Piece")
# Symbols may take hardly any bytes, so the time that decoding takes does not depend on a file's
# size, but on what it claims to hold.
_SYMBOLS = 1 << 24
_SYMBOLS_PER_BYTE = 1 << 8


@dataclass(frozen=True)
class Decoded:
    """What `verify` has decoded.

    Attributes:
        layers: How many layers.
        chunks: How many chunks.
        unit: What bounds them.
        changes: What encoding again changed, if that was asked for.
    """

    layers: int
    chunks: int
    unit: Literal["symbols", "pixels"] = "symbols"
    changes: Changes | None = None


def most_symbols(reader: QuadReader) -> int:
    """How many symbols, or pixels of photographs, `verify` decodes unless asked for all."""
    return _SYMBOLS + _SYMBOLS_PER_BYTE * reader.size


def find_codec(header: Header, layers: int | None = None) -> tuple[str, CodecSummary] | None:
    """Return the name and the summary of the codec in the package that reads a file.

    Args:
        header: The file's header.
        layers: How many layers the codec shall read; by default it is the one that reads the most.
    """
    found = [each for each in read_index().items() if reads(each[1], header, layers)]
    return max(found, key=lambda each: len(each[1].identities), default=None)


def reads(codec: CodecSummary, header: Header, layers: int | None = None) -> bool:
    """Whether a codec reads a file's layers, or the first of them, just so many if given."""
    theirs, count = [layer.identity.hex() for layer in header.layers], len(codec.identities)
    fewer = codec.reads_fewer_layers and layers is not None and layers < count
    return (
        0 < count
        and (layers in (None, count) or fewer)
        and list(codec.identities) == theirs[:count]
        and tuple(codec.shape) == tuple(header.shape)
    )


def load_codec(name: str) -> Codec | PhotoCodec:
    """The codec of a name or file.

    Raises:
        QuadrateError: If there is none, it is damaged, or it is of a kind that verbs cannot use.
    """
    from quadrate.codecs import BaseCodec, Codec, PhotoCodec

    loaded = BaseCodec.load(name)
    if not isinstance(loaded, Codec | PhotoCodec):
        raise QuadrateError(
            f"{name}: it is a file of {type(loaded).__name__}, not of Codec or PhotoCodec"
        )
    return loaded


def codec_mark(name: str) -> str:
    """What tells a codec from others: the digest of its file; a name or an address is its own."""
    path = place_of(name)
    return digest_of(path) if isinstance(path, Path) and path.is_file() else name


def codec_for(file: Place, name: str | None, layers: int | None = None) -> Codec | PhotoCodec:
    """The codec of a name, or else the one in the package that reads a file.

    If so many layers are wanted, the codec of these, or one that reads them alone, too.

    Raises:
        QuadrateError: If there is no such codec, or the file cannot be read or has no such layers.
    """
    with open_quad(file) as reader:
        header = reader.header
    check_layers(layers, header, file)
    if name is not None:
        codec = load_codec(name)
        count = len(codec.identities)
        if layers is not None and layers != count and not codec.reads_fewer_layers:
            raise QuadrateError(
                f"{name} decodes {count_of(count, 'layer')}, all at once; --layers"
                f" {layers} needs the codec of the first {layers} alone, which `quadrate export RUN"
                " --stage STAGE` makes"
            )
        return codec
    found = find_codec(header, layers)
    if found is None:
        wanted = header.layers[0].identity.hex()
        part = "it" if layers is None else f"its first {count_of(layers, 'layer')} alone"
        raise QuadrateError(
            f"{file}: no codec in the package reads {part} (its layer 0 is {wanted}); give the"
            " codec that wrote it with --codec"
        )
    return load_codec(found[0])


def check_layers(layers: int | None, header: Header, file: Place) -> None:
    """Raises a QuadrateError unless a file has as many layers as are asked for."""
    if layers is not None and not 1 <= layers <= len(header.layers):
        raise QuadrateError(
            f"{file} has {count_of(len(header.layers), 'layer')}; --layers takes 1 to"
            f" {len(header.layers)}, got {layers}"
        )


def count_of(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def rate_text(samples: int, size: int, bound: float | None) -> str:
    """Samples, bytes, and bits a sample beside the bound."""
    text = f"{samples} samples, {size} bytes"
    if samples:
        text += f", {8 * size / samples:.4f} bits a sample"
    return text if bound is None else f"{text} (bound: sum log2 L = {bound:.4f})"


def pixels_of(reader: QuadReader, most_chunks: int | None = None) -> int | None:
    """How many pixels the photographs of a file have, from its side data.

    None if the samples are not images of their own shapes, or there are too many chunks.
    """
    header, chunks = reader.header, reader.chunks
    if len(header.shape) != 3 or 0 not in header.shape[1:]:
        return None
    if most_chunks is not None and chunks > most_chunks:
        return None
    shapes = (reader.read(number, layers=0).shapes for number in range(chunks))
    return sum(int(each[:, 1:].prod(axis=1).sum()) for each in shapes if each is not None)


def shown(
    pieces: Iterable[_Piece],
    title: str,
    total: int,
    quiet: bool = False,
    count: Callable[[Any], int] = len,
) -> Iterator[_Piece]:
    """Yield the pieces, of `count(piece)` samples each; a terminal shows a bar unless quiet."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield from pieces
        return
    columns = (
        TextColumn(title),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        for piece in pieces:
            yield piece
            bar.advance(task, count(piece))
