"""`quadrate decompress`."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import is_array, output_file, output_folder
from quadrate.cli.printer import PRINTER, Printing
from quadrate.core.plugins import load_plugins
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from torch import Tensor

    from quadrate.cli.pictures import PictureFolder
    from quadrate.codecs import Batch
    from quadrate.codecs.batches import Blend

_END_BYTES = 1 << 12
_SLICE = re.compile(r"{0}|({0})?(:({0})?){{1,2}}".format(r"-?[0-9]{1,18}"))


def decompress(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.quad")],
    /,
    output: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="OUT")],
    codec: str | None = None,
    decoder: str | None = None,
    blend: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=WEIGHT")] = (),
    samples: str = ":",
    dtype: Literal["uint8", "float32", "float64"] | None = None,
    latents: bool = False,
    layers: int | None = None,
    overwrite: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Decode a .quad file to an array or a folder of PNG files.

    Features, and latents that models read without a decoder, become an array.

    Args:
        file: The .quad file.
        output: A name that ends in .npy, or else a new or empty folder, whose pictures get the
            stored names, or numbers; a folder that the same command did not finish is finished.
        codec: The codec that wrote the file: one in the package, or a file; by default the one in
            the package that fits.
        decoder: Which of the codec's decoders; by default the first.
        blend: Or several with their weights, which sum to 1, such as faithful=.3 realistic=.7.
        samples: Which samples, as in Python: 10:20, ::100, 7.
        dtype: Of an array: of images uint8, whose numbers lie in [0, 255], the default, or else [0,
            1]; of features float32, or float64, which is the default of codecs whose features
            float32 does not hold to within the error that they were fitted to.
        latents: Write what decoders would read, (N, d), in place of samples: float32, or float64 of
            codecs whose default that is.
        layers: Decode the first so many layers alone, by the codec of these layers (docs/files.md);
            by default all that the codec reads.
        overwrite: Replace the array if it is there; a folder that holds something is never written
            into.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    from quadrate.cli.pictures import PictureFolder, write_array
    from quadrate.cli.quads import codec_for, shown
    from quadrate.codecs import quad

    array = is_array(output)
    path = output_file(output, (".npy",), overwrite) if array else output_folder(output)
    if not array and (latents or dtype not in (None, "uint8")):
        asked = "--latents" if latents else f"PNG files hold bytes; --dtype {dtype}"
        raise QuadrateError(f"{asked} needs an output that ends in .npy")
    chosen = _blend(decoder, blend)
    if latents and (dtype or chosen):
        raise QuadrateError(
            "--latents are what decoders read, in the codec's own type; leave --dtype, --decoder"
            " and --blend out"
        )
    part, quiet = _slice(samples), printer.quiet
    with quad.QuadFile(file, codec_for(file, codec, layers)) as opened:
        wanted = range(*part.indices(opened.samples))
        if not wanted and opened.samples:
            raise QuadrateError(
                f"{file} has samples 0 to {opened.samples}, the last not included; {samples} is"
                " none of them"
            )
        shape = opened.latent_shape if latents else opened.codec.shape
        if not latents:
            opened.codec.check_decoder(chosen)  # before anything is made
        images = not latents and len(shape) == 3
        if not images and (not array or dtype == "uint8"):
            raise QuadrateError(
                f"{file} holds features of {shape[0]} dimensions: give an output that ends in .npy,"
                " and no --dtype uint8"
            )
        kind = dtype or ("uint8" if images else str(opened.latent_dtype))
        try:
            if latents:
                write_array(
                    path,
                    (len(wanted), *shape),
                    kind,
                    _numbers(shown(opened.latent_pieces(part), "reading", len(wanted), quiet)),
                )
            elif array:
                pieces = shown(opened.pieces(part, chosen), "decompressing", len(wanted), quiet)
                write_array(path, (len(wanted), *shape), kind, _pixels(pieces, kind))
            else:
                pieces = shown(opened.pieces(part, chosen), "decompressing", len(wanted), quiet)
                with PictureFolder(
                    path, opened.codec.shape, _asked(file, codec, chosen, wanted)
                ) as folder:
                    _write_pictures(folder, pieces, wanted)
        except KeyboardInterrupt:
            state = (
                "is as it was before"
                if array
                else "holds what was written so far; the same command goes on"
            )
            raise KeyboardInterrupt(f"{path} {state}") from None
    facts = {"output": path, "samples": len(wanted), "shape": shape}
    printer.done(facts, f"{path}: {len(wanted)} samples of {'x'.join(map(str, shape))}")


def _asked(file: Path, codec: str | None, decoder: Blend, samples: range) -> dict[str, Any]:
    """What decides every picture: the .quad file, by its end, which has checksums of all before it.

    The codec; the decoder; which samples.
    """
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _END_BYTES))
        end = hashlib.sha256(opened.read()).hexdigest()
    path = Path(codec) if codec is not None else None
    reader = (
        hashlib.sha256(path.read_bytes()).hexdigest()
        if path is not None and path.is_file()
        else codec
    )
    weights = decoder if decoder is None or isinstance(decoder, str) else dict(decoder)
    return {
        "file": [size, end],
        "codec": reader,
        "decoder": weights,
        "samples": [samples.start, samples.stop, samples.step],
    }


def _numbers(pieces: Iterator[Tensor]) -> Iterator[Any]:
    for piece in pieces:
        yield piece.numpy()


def _pixels(pieces: Iterator[Batch], dtype: str) -> Iterator[Any]:
    from quadrate.codecs.quad import as_bytes

    for batch in pieces:
        yield (as_bytes(batch.images) if dtype == "uint8" else batch.images).numpy()


def _write_pictures(folder: PictureFolder, pieces: Iterator[Batch], numbers: range) -> None:
    from quadrate.codecs.quad import as_bytes

    places = iter(numbers)
    for batch in pieces:
        for i, image in enumerate(as_bytes(batch.images).numpy()):
            folder.write(image, next(places), batch.names[i] if batch.names else None)


def _blend(decoder: str | None, blend: tuple[str, ...]) -> Blend:
    """A decoder or the weights of several, from the command line's words."""
    if not blend:
        return decoder
    if decoder is not None:
        raise QuadrateError("give --decoder or --blend, not both")
    weights: dict[str, float] = {}
    for text in blend:
        name, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or name in weights or math.isnan(weight):
            raise QuadrateError(
                "a blend is decoders with their weights, each once, such as faithful=.3"
                f" realistic=.7; got {text!r}"
            )
        weights[name] = weight
    return weights


def _slice(text: str) -> slice:
    """A slice or a single number, as Python writes them."""
    numbers = (
        [int(part) if part else None for part in text.split(":")] if _SLICE.fullmatch(text) else []
    )
    if len(numbers) == 1 and numbers[0] is not None:
        return slice(numbers[0], numbers[0] + 1 or None)
    if not numbers or len(numbers) == 3 and numbers[2] == 0:
        raise QuadrateError(
            f"--samples takes start:stop, start:stop:step or a number, as in 10:20; got {text!r}"
        )
    return slice(*numbers)
