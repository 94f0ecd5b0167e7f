"""What `compress`, `decompress` and `verify` do with photographs, each of its own size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from quadrate.cli.inputs import check_classes
from quadrate.cli.pictures import PictureFolder, check_picture, write_array
from quadrate.cli.quads import Decoded, most_symbols, shown
from quadrate.cli.wish import Wish
from quadrate.codecs import PhotoCodec, PhotoFile, Photograph
from quadrate.codecs.photo_quad import Changes
from quadrate.core.files import exists
from quadrate.core.remote import Place, place_of
from quadrate.errors import QuadrateError
from quadrate.sources.image_files import ARCHIVES, ImageFile, Images, find_images, holds_images
from quadrate.sources.images import SUFFIXES, read_photograph

# --- compress ---


def open_photographs(
    texts: Sequence[str], labels: bool, what: str = "a codec of photographs"
) -> list[Images]:
    """What the texts of a command line name: folders of photographs, and photographs.

    Args:
        texts: The texts.
        labels: Whether labels are wanted.
        what: Who takes them, in errors.

    Raises:
        QuadrateError: If something is missing or no photograph by its name, or there are no labels
            where they are wanted.
    """
    if not texts:
        raise QuadrateError("name at least one folder of photographs, or photograph")
    found = [_open(text, labels, what) for text in texts]
    check_classes(found)
    return found


def _open(text: str, labels: bool, what: str) -> Images:
    path = place_of(os.path.expanduser(text))
    if not exists(path):
        raise QuadrateError(f"{text}: no such file or folder; {what} takes folders and image files")
    if not holds_images(path):
        raise QuadrateError(
            f"{path}: {what} takes folders and image files; expected a name that"
            f" ends in {', '.join(sorted(SUFFIXES))}, {', '.join(ARCHIVES)}"
        )
    return find_images(path, labels)


def photographs_of(files: Iterable[ImageFile], named: bool) -> Iterator[Photograph]:
    """Read photographs one by one, with names where they are wanted."""
    for each in files:
        pixels, profile = read_photograph(each.file)
        yield Photograph(pixels, each.name if named else None, each.label, profile)


# --- decompress ---


def decompress(codec: PhotoCodec, wish: Wish) -> tuple[int, tuple[int, ...] | None]:
    """Decode photographs to a folder or an array.

    Returns:
        How many, and their shape (C, H, W), if they share one.

    Raises:
        QuadrateError: If the file is damaged, or an array or a format of pictures does not hold
            these photographs.
    """
    if wish.latents:
        raise QuadrateError(
            "--latents are not built yet for photographs; leave it out to decode them"
        )
    with PhotoFile(wish.file, codec, wish.layers) as opened:
        codec.check_decoder(wish.decoder)  # before anything is made
        wanted = wish.numbers(len(opened))
        shapes = {_shape(opened, number) for number in wanted}
        decoded = shown(
            opened.photographs(wish.part, wish.decoder),
            "decompressing",
            len(wanted),
            wish.quiet,
            count=lambda photograph: 1,
        )
        if wish.array:
            _write_array(wish, decoded, len(wanted), shapes)
        else:
            for shape in shapes:
                check_picture(shape, wish.format)
            with PictureFolder(wish.folder, wish.asked(wanted), wish.format) as folder:
                for number, each in zip(wanted, decoded, strict=True):
                    folder.write(each.pixels, number, each.name, each.profile)
    return len(wanted), next(iter(shapes)) if len(shapes) == 1 else None


def _shape(opened: PhotoFile, number: int) -> tuple[int, ...]:
    shapes = opened.side(number).shapes
    assert shapes is not None
    return tuple(shapes[0].tolist())


def _write_array(
    wish: Wish,
    photographs: Iterator[Photograph],
    count: int,
    shapes: set[tuple[int, ...]],
) -> None:
    if len(shapes) != 1:
        held = f"photographs of {len(shapes)} shapes" if shapes else "no photographs"
        raise QuadrateError(
            f"{wish.file} holds {held}; an array has one: give a folder, or --samples of one shape"
        )
    dtype = wish.dtype or "uint8"

    def numbers() -> Iterator[NDArray[np.number]]:
        for each in photographs:
            yield each.pixels if dtype == "uint8" else each.pixels / 255

    write_array(wish.output, (count, *next(iter(shapes))), dtype, numbers())


# --- verify ---


def verify(
    file: Place,
    codec: PhotoCodec,
    layers: int | None,
    everything: bool,
    again: bool,
    decoder: str | None,
    quiet: bool,
) -> Decoded:
    """Decode the symbols of photographs, and encode what they show again if asked to.

    Args:
        file: The .quad file.
        codec: Its codec.
        layers: How many layers to decode; by default all.
        everything: Whether to decode all photographs even of a file that claims more pixels than
            its bytes may well hold.
        again: Whether to encode the decoded photographs again.
        decoder: Which decoder shows them; by default the first.
        quiet: Whether to show no progress.

    Raises:
        QuadrateError: If a photograph's symbols are damaged.
    """
    changes = Changes(0, 0, 0) if again else None
    with PhotoFile(file, codec, layers) as opened:
        most, pixels, done = most_symbols(opened.reader), 0, 0
        for number in shown(
            range(len(opened)), "verifying", len(opened), quiet, count=lambda number: 1
        ):
            _, height, width = _shape(opened, number)
            pixels += height * width
            if pixels > most and not everything:
                break
            if changes is None:
                opened.coefficients(number)
            else:
                changes += opened.code_again(number, decoder)
            done += 1
        return Decoded(opened.layers, done, "pixels", changes)
