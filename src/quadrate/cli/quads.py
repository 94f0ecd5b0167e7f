"""What the verbs of .quad files share: which codec reads a file, and a bar over the samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from quadrate import codec_file
from quadrate.codec import Codec
from quadrate.codec_file import AnyCodec, open_codec
from quadrate.coding.container import Header, Reader
from quadrate.errors import QuadrateError

_Piece = TypeVar("_Piece", bound=Sized)


def find_codec(header: Header) -> tuple[str, Codec] | None:
    """The codec in the package that reads a file, with its name; of several the one that reads the most layers.

    Raises:
        QuadrateError: If a codec in the package is damaged.
    """
    found: tuple[str, Codec] | None = None
    for name, path in codec_file.zoo().items():
        codec = Codec.load(path)
        if reads(codec, header) and (found is None or len(codec.models) > len(found[1].models)):
            found = name, codec
    return found


def reads(codec: AnyCodec, header: Header) -> bool:
    """Whether a codec reads a file's layers, or the first of them."""
    theirs = tuple(layer.identity for layer in header.layers)
    return bool(codec.models) and codec.identities == theirs[: len(codec.models)] and tuple(codec.shape) == tuple(header.shape)


def codec_for(file: Path, name: str | None) -> AnyCodec:
    """The codec of a name, or else the one in the package that reads a file.

    Raises:
        QuadrateError: If there is none, or the file is none.
    """
    if name is not None:
        return open_codec(name)
    with Reader(file) as reader:
        header = reader.header
    found = find_codec(header)
    if found is None:
        wanted = header.layers[0].identity.hex()
        raise QuadrateError(f"{file}: no codec in the package reads it (its layer 0 is {wanted}); give the codec that wrote it with --codec")
    return found[1]


def rate_text(samples: int, size: int, bound: float | None) -> str:
    """Samples, bytes, and bits a sample beside the bound."""
    text = f"{samples} samples, {size} bytes"
    if samples:
        text += f", {8 * size / samples:.4f} bits a sample"
    return text if bound is None else f"{text} (bound: sum log2 L = {bound:.4f})"


def shown(pieces: Iterable[_Piece], title: str, total: int) -> Iterator[_Piece]:
    """The same pieces, each of `len(piece)` samples, with a bar over them if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from pieces
        return
    columns = (TextColumn(title), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        for piece in pieces:
            yield piece
            bar.advance(task, len(piece))
