"""`quadrate verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.quads import check_layers, find_codec, shown
from quadrate.coding.container import Reader
from quadrate.core.plugins import load_plugins

if TYPE_CHECKING:
    from quadrate.codecs import Codec

# Symbols may take hardly any bytes, so the time that decoding takes does not depend on a file's
# size, but on what it claims to hold.
_SYMBOLS = 1 << 24
_SYMBOLS_PER_BYTE = 1 << 8


def verify(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.quad")],
    /,
    codec: str | None = None,
    layers: int | None = None,
    all: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Check a whole .quad file.

    Every checksum, and, if there is a codec, that every chunk decodes. The exit status is 1 if the
    file is damaged.

    Args:
        file: The .quad file.
        codec: The codec that wrote it; by default the one in the package that fits, if one does.
        layers: Decode the first so many layers alone; by default all that the codec reads.
        all: Decode every chunk even of a file that claims more symbols than 2^24 and 2^8 a byte, of
            which otherwise as many are decoded.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    with Reader(file) as reader:
        check_layers(layers, reader.header, file)
        try:
            for _ in shown(reader.verified(), "checking", reader.samples, printer.quiet):
                pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{file} was not checked to its end") from None
        name = codec if codec is not None else (find_codec(reader.header) or (None,))[0]
        samples, chunks = reader.samples, len(reader.index)
        holds = f"{samples} samples in {chunks} chunks"
        count, ignored = len(reader.header.layers), reader.ignored_bytes
    read, decoded = 0, None
    if name is None:
        checked = (
            "checksums hold; nothing was decoded: no codec in the package reads it, give one with"
            " --codec"
        )
    else:
        from quadrate.codecs import Codec

        read, decoded = _decode(file, Codec.load(name), layers, all, printer.quiet)
        checked = (
            f"checksums hold and {'all' if read == count else f'{read} of {count}'} layers decode"
            f" with {name}"
        )
        if decoded is not None:
            checked += (
                f" in the first {decoded} of {chunks} chunks; the others claim too many symbols for"
                " the file's bytes: --all decodes them, too"
            )
    rest = (
        f"; {ignored} bytes at its end do not count: an append that did not end" if ignored else ""
    )
    facts = {
        "file": file,
        "samples": samples,
        "chunks": chunks,
        "codec": name,
        "decoded_layers": read,
        "decoded_chunks": 0 if name is None else chunks if decoded is None else decoded,
        "ignored_bytes": ignored,
    }
    printer.done(facts, f"{file}: whole: {holds}; {checked}{rest}")


def _decode(
    file: Path, codec: Codec, layers: int | None, everything: bool, quiet: bool
) -> tuple[int, int | None]:
    """Decodes chunk after chunk: how many layers, and how many chunks if these were not all."""
    from quadrate.codecs.quad import QuadFile  # the entropy coder, which other verbs do not need

    with QuadFile(file, codec, layers) as opened:
        columns = sum(model.columns for model in opened.models)
        symbols = np.cumsum(opened.reader.index[:, 1]) * columns
        most = _SYMBOLS + _SYMBOLS_PER_BYTE * file.stat().st_size
        count = len(symbols) if everything else int(np.searchsorted(symbols, most, side="right"))
        pieces = (opened.symbols(chunk) for chunk in range(count))
        try:
            total = int(opened.reader.index[:count, 1].sum())
            for _ in shown(pieces, "verifying", total, quiet):
                pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{file} was not checked to its end") from None
        return len(opened.models), None if count == len(symbols) else count
