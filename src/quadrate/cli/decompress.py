"""`quadrate decompress`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import is_array, output_file, output_folder, output_url
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.wish import Dtype, Format, Wish, read_slice
from quadrate.core.plugins import load_plugins
from quadrate.core.remote import Place, place_of
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from torch import Tensor

    from quadrate.cli.pictures import PictureFolder
    from quadrate.codecs import Batch, Codec
    from quadrate.codecs.batches import Blend


def decompress(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.quad")],
    /,
    output: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="OUT")],
    codec: str | None = None,
    decoder: str | None = None,
    blend: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=WEIGHT")] = (),
    samples: str = ":",
    dtype: Dtype | None = None,
    format: Format | None = None,
    latents: bool = False,
    layers: int | None = None,
    overwrite: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Decode a .quad file to an array or a folder of pictures.

    Features, and latents that models read without a decoder, become an array.

    Args:
        file: The .quad file, or a folder of shards; a path or a URL.
        output: A name that ends in .npy, or else a new or empty folder, whose pictures get the
            stored names, or numbers; a folder that the same command did not finish is finished.
        codec: The codec that wrote the file: one in the package, a file, or hf://user/name; by
            default the one in the package that fits.
        decoder: Which of the codec's decoders; by default the first.
        blend: Or several with their weights, which sum to 1, such as faithful=.3 realistic=.7.
        samples: Which samples, as in Python: 10:20, ::100, 7.
        dtype: Of an array: of images uint8, whose numbers lie in [0, 255], the default, or else [0,
            1]; of features float32, or float64, which is the default of codecs whose features
            float32 does not hold to within the error that they were fitted to.
        format: Of pictures: png, the default, jpeg of quality 95, or lossless webp.
        latents: Write what decoders would read, (N, d), in place of samples: float32, or float64 of
            codecs whose default that is.
        layers: Decode the first so many layers alone, by the codec of these layers (docs/files.md),
            or of photographs by their own; by default all that the codec reads.
        overwrite: Replace the array if it is there; a folder that holds something is never written
            into.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    from quadrate.cli.quads import codec_for, count_of
    from quadrate.codecs import PhotoCodec

    array = is_array(output)
    path: Place = output_url(output, ".npy", overwrite) or (
        output_file(output, (".npy",), overwrite) if array else output_folder(output)
    )
    place = place_of(file)
    wish = Wish(
        file=place,
        codec=codec,
        layers=layers,
        decoder=_blend(decoder, blend),
        samples=samples,
        part=read_slice(samples),
        latents=latents,
        output=path,
        dtype=dtype,
        format=format or "png",
        quiet=printer.quiet,
    )
    _check(wish, format is not None)
    loaded = codec_for(place, codec, layers)
    try:
        if isinstance(loaded, PhotoCodec):
            from quadrate.cli import photo_files

            count, shape = photo_files.decompress(loaded, wish)
            what = count_of(count, "photograph")
        else:
            count, shape = _decompress(loaded, wish)
            what = f"{count} samples"
    except KeyboardInterrupt:
        state = (
            "is as it was before"
            if array
            else "holds what was written so far; the same command goes on"
        )
        raise KeyboardInterrupt(f"{path} {state}") from None
    facts = {"output": path, "samples": count, "shape": shape}
    size = f" of {'x'.join(map(str, shape))}" if shape else ""
    printer.done(facts, f"{path}: {what}{size}")


def _check(wish: Wish, formatted: bool) -> None:
    """Raise a QuadrateError if options do not fit together, whatever the codec."""
    if not wish.array and (wish.latents or wish.dtype not in (None, "uint8")):
        asked = "--latents" if wish.latents else f"pictures hold bytes; --dtype {wish.dtype}"
        raise QuadrateError(f"{asked} needs an output that ends in .npy")
    if wish.array and formatted:
        raise QuadrateError("--format is of pictures, and needs a folder to write them into")
    if wish.latents and (wish.dtype or wish.decoder):
        raise QuadrateError(
            "--latents are what decoders read, in the codec's own type; leave --dtype, --decoder"
            " and --blend out"
        )


def _decompress(codec: Codec, wish: Wish) -> tuple[int, tuple[int, ...]]:
    """Decode samples of one shape; return how many, and the shape."""
    from quadrate.cli.pictures import PictureFolder, check_picture, write_array
    from quadrate.cli.quads import shown
    from quadrate.codecs import QuadFile

    with QuadFile(wish.file, codec) as opened:
        wanted = wish.numbers(opened.samples)
        count, part, quiet = len(wanted), wish.part, wish.quiet
        shape = opened.latent_shape if wish.latents else codec.shape
        if not wish.latents:
            codec.check_decoder(wish.decoder)  # before anything is made
        images = not wish.latents and len(shape) == 3
        if not images and (not wish.array or wish.dtype == "uint8"):
            raise QuadrateError(
                f"{wish.file} holds features of {shape[0]} dimensions: give an output that ends in"
                " .npy, and no --dtype uint8"
            )
        dtype = wish.dtype or ("uint8" if images else str(opened.latent_dtype))
        if wish.latents:
            latents = shown(opened.latent_pieces(part), "reading", count, quiet)
            write_array(wish.output, (count, *shape), dtype, _numbers(latents))
            return count, shape
        pieces = shown(opened.pieces(part, wish.decoder), "decompressing", count, quiet)
        if wish.array:
            write_array(wish.output, (count, *shape), dtype, _pixels(pieces, dtype))
        else:
            check_picture(shape, wish.format)
            with PictureFolder(wish.folder, wish.asked(wanted), wish.format) as folder:
                _write_pictures(folder, pieces, wanted)
        return count, shape


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
