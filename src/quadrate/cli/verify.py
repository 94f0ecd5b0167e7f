"""`quadrate verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.quads import find_codec, shown
from quadrate.codec_file import AnyCodec, open_codec
from quadrate.coding.container import Reader
from quadrate.plugins import load_plugins


def verify(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.quad")],
    /,
    codec: str | None = None,
    module: Modules = (),
) -> None:
    """Checks a whole .quad file: every checksum, and, if a codec is there, that every chunk decodes; exits with 1 if it is damaged.

    Args:
        file: The .quad file.
        codec: The codec that wrote it; by default the one in the package that fits, if one does.
        module: A Python file, or the name of a module, that registers what is your own (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    with Reader(file) as reader:
        reader.verify()
        found = (codec, open_codec(codec)) if codec is not None else find_codec(reader.header)
        holds = f"{reader.samples} samples in {len(reader.index)} chunks"
        layers, ignored = len(reader.header.layers), reader.ignored_bytes
    if found is None:
        checked = "checksums hold; nothing was decoded: no codec in the package reads it, give one with --codec"
    else:
        _decode_all(file, found[1])
        read = len(found[1].models)
        checked = f"checksums hold and {'all' if read == layers else f'{read} of {layers}'} layers decode with {found[0]}"
    rest = f"; {ignored} bytes at its end do not count: an append that did not end" if ignored else ""
    print(f"{file}: whole: {holds}; {checked}{rest}")


def _decode_all(file: Path, codec: AnyCodec) -> None:
    from quadrate.quad import QuadFile  # the entropy coder, which other verbs do not need

    with QuadFile(file, codec) as opened:
        pieces = (opened.symbols(chunk) for chunk in range(len(opened.reader.index)))
        try:
            for _ in shown(pieces, "verifying", opened.samples):
                pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{file} was not checked to its end") from None
