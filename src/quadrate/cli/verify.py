"""`quadrate verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.quads import Decoded, check_layers, find_codec, most_symbols, shown
from quadrate.coding.container import open_quad
from quadrate.core.plugins import load_plugins
from quadrate.core.remote import Place, place_of
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs import Codec
    from quadrate.codecs.photo_quad import Changes


def verify(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.quad")],
    /,
    codec: str | None = None,
    layers: int | None = None,
    all: bool = False,
    idempotent: bool = False,
    decoder: str | None = None,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Check a whole .quad file.

    Or a folder of shards. Every checksum, and, if there is a codec, that every chunk decodes. The
    exit status is 1 if the file is damaged.

    Args:
        file: The .quad file, or a folder of shards; a path or a URL.
        codec: The codec that wrote it; by default the one in the package that fits, if one does.
        layers: Decode the first so many layers alone; by default all that the codec reads.
        all: Decode every chunk even of a file that claims more symbols, or of photographs pixels,
            than 2^24 and 2^8 a byte, of which otherwise as many are decoded.
        idempotent: Decode photographs, compress what was decoded again with the same step, and say
            how many symbols differ.
        decoder: Which decoder that takes; by default the first.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    if decoder is not None and not idempotent:
        raise QuadrateError("--decoder is of --idempotent; other checks decode symbols alone")
    place = place_of(file)
    with open_quad(place) as reader:
        check_layers(layers, reader.header, place)
        try:
            for _ in shown(reader.verified(), "checking", reader.samples, printer.quiet):
                pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{file} was not checked to its end") from None
        name = codec if codec is not None else (find_codec(reader.header) or (None,))[0]
        samples, chunks = reader.samples, reader.chunks
        holds = f"{samples} samples in {chunks} chunks"
        count, ignored = len(reader.header.layers), reader.ignored_bytes
    decoded = Decoded(0, 0)
    if name is None:
        if idempotent:
            raise QuadrateError(
                f"{file}: no codec in the package reads it; --idempotent needs one: give the codec"
                " that wrote it with --codec"
            )
        checked = (
            "checksums hold; nothing was decoded: no codec in the package reads it, give one with"
            " --codec"
        )
    else:
        decoded = _decode(place, name, layers, all, idempotent, decoder, printer.quiet)
        part = "all" if decoded.layers == count else f"{decoded.layers} of {count}"
        checked = f"checksums hold and {part} layers decode with {name}"
        if decoded.chunks < chunks:
            checked += (
                f" in the first {decoded.chunks} of {chunks} chunks; the others claim too many"
                f" {decoded.unit} for the file's bytes: --all decodes them, too"
            )
        if decoded.changes is not None:
            checked += f"; {_text(decoded.changes)}"
    rest = (
        f"; {ignored} bytes at its end do not count: an append that did not end" if ignored else ""
    )
    facts = {
        "file": file,
        "samples": samples,
        "chunks": chunks,
        "codec": name,
        "decoded_layers": decoded.layers,
        "decoded_chunks": decoded.chunks,
        "ignored_bytes": ignored,
    }
    if decoded.changes is not None:
        facts["coded_again"] = asdict(decoded.changes)
    printer.done(facts, f"{file}: whole: {holds}; {checked}{rest}")


def _text(changes: Changes) -> str:
    return (
        f"decoded and compressed again, {changes.changed} of {changes.symbols} symbols differ"
        f" ({changes.nonzero} of them are not 0 before or after)"
    )


def _decode(
    file: Place,
    name: str,
    layers: int | None,
    everything: bool,
    idempotent: bool,
    decoder: str | None,
    quiet: bool,
) -> Decoded:
    """Decode chunk after chunk by the codec of a name."""
    from quadrate.cli.quads import load_codec
    from quadrate.codecs import PhotoCodec

    codec = load_codec(name)
    try:
        if isinstance(codec, PhotoCodec):
            from quadrate.cli import photo_files

            return photo_files.verify(file, codec, layers, everything, idempotent, decoder, quiet)
        if idempotent:
            raise QuadrateError(f"{name} is not a codec of photographs; leave --idempotent out")
        return _decode_symbols(file, codec, layers, everything, quiet)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{file} was not checked to its end") from None


def _decode_symbols(
    file: Place, codec: Codec, layers: int | None, everything: bool, quiet: bool
) -> Decoded:
    """Decode chunks of samples of one shape."""
    from quadrate.codecs.quad import QuadFile  # the entropy coder, which other verbs do not need

    with QuadFile(file, codec, layers) as opened:
        columns = sum(model.columns for model in opened.models)
        symbols = np.cumsum(opened.reader.index[:, 1]) * columns
        most = most_symbols(opened.reader)
        count = len(symbols) if everything else int(np.searchsorted(symbols, most, side="right"))
        pieces = (opened.symbols(chunk) for chunk in range(count))
        total = int(opened.reader.index[:count, 1].sum())
        for _ in shown(pieces, "verifying", total, quiet):
            pass
        return Decoded(len(opened.models), count)
