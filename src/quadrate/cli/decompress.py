"""`quadrate decompress`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from torch import Tensor

from quadrate.batches import Blend
from quadrate.cli.modules import Modules
from quadrate.cli.pictures import PictureFolder, write_array
from quadrate.cli.quads import codec_for, shown
from quadrate.errors import QuadrateError
from quadrate.plugins import load_plugins

if TYPE_CHECKING:
    from quadrate.quad import Batch


def decompress(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.quad")],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")],
    codec: str | None = None,
    decoder: str | None = None,
    blend: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=WEIGHT")] = (),
    samples: str = ":",
    dtype: Literal["uint8", "float32"] | None = None,
    latents: bool = False,
    module: Modules = (),
) -> None:
    """Decodes a .quad file into an array or a folder of PNG files; features, and what models read without a decoder, into an array.

    Args:
        file: The .quad file.
        output: A name that ends in .npy, or else a new folder, whose pictures get the stored names, or numbers.
        codec: The codec that wrote the file: one in the package, or a file; by default the one in the package that fits.
        decoder: Which of the codec's decoders; by default the first.
        blend: Or several with their weights, which sum to 1, such as faithful=.3 realistic=.7.
        samples: Which samples, as in Python: 10:20, ::100, 7.
        dtype: Of an array of images, whose numbers lie in [0, 255], the default, or [0, 1].
        latents: Write what decoders would read, float32 (N, d), in place of samples.
        module: A Python file, or the name of a module, that registers what is your own (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    from quadrate import quad  # the entropy coder, which other verbs do not need

    array = output.suffix.lower() == ".npy"
    if not array and (latents or dtype == "float32"):
        asked = "--latents" if latents else f"PNG files hold bytes; --dtype {dtype}"
        raise QuadrateError(f"{asked} needs an output that ends in .npy")
    chosen = _blend(decoder, blend)
    if latents and (dtype or chosen):
        raise QuadrateError("--latents are what decoders read, as float32; leave --dtype, --decoder and --blend out")
    part = _slice(samples)
    with quad.QuadFile(file, codec_for(file, codec)) as opened:
        wanted = range(*part.indices(opened.samples))
        if not wanted and opened.samples:
            raise QuadrateError(f"{file} has samples 0 to {opened.samples}, the last not included; {samples} is none of them")
        shape = (opened.latent_dims,) if latents else opened.codec.shape
        if not latents:
            opened.codec.weighted(chosen)  # raises what there is to raise before anything is made
        if len(shape) != 3 and (not array or dtype == "uint8"):
            raise QuadrateError(f"{file} holds features of {shape[0]} dimensions: give an output that ends in .npy, and no --dtype uint8")
        kind = dtype or ("uint8" if len(shape) == 3 else "float32")
        try:
            if latents:
                write_array(output, (len(wanted), *shape), kind, _numbers(shown(opened.received_pieces(part), "reading", len(wanted))))
            elif array:
                write_array(output, (len(wanted), *shape), kind, _pixels(shown(opened.pieces(part, chosen), "decompressing", len(wanted)), kind))
            else:
                pieces = shown(opened.pieces(part, chosen), "decompressing", len(wanted))
                _write_pictures(PictureFolder(output, opened.codec.shape), pieces, wanted)
        except KeyboardInterrupt:
            state = "is as it was before" if array else "holds what was written so far"
            raise KeyboardInterrupt(f"{output} {state}") from None
    print(f"{output}: {len(wanted)} samples of {'x'.join(map(str, shape))}")


def _numbers(pieces: Iterator[Tensor]) -> Iterator[Any]:
    for piece in pieces:
        yield piece.numpy()


def _pixels(pieces: Iterator[Batch], dtype: str) -> Iterator[Any]:
    from quadrate.quad import as_bytes

    for batch in pieces:
        yield (as_bytes(batch.images) if dtype == "uint8" else batch.images).numpy()


def _write_pictures(folder: PictureFolder, pieces: Iterator[Batch], numbers: range) -> None:
    from quadrate.quad import as_bytes

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
            raise QuadrateError(f"a blend is decoders with their weights, each once, such as faithful=.3 realistic=.7; got {text!r}")
        weights[name] = weight
    return weights


def _slice(text: str) -> slice:
    """A slice or a single number, as Python writes them."""
    numbers = [int(part) if part else None for part in text.split(":")] if re.fullmatch(r"-?\d{1,18}|(-?\d{0,18}:){1,2}-?\d{0,18}", text) else []
    if len(numbers) == 1 and numbers[0] is not None:
        return slice(numbers[0], numbers[0] + 1 or None)
    if not numbers or len(numbers) == 3 and numbers[2] == 0:
        raise QuadrateError(f"--samples takes start:stop, start:stop:step or a number, as in 10:20; got {text!r}")
    return slice(*numbers)
