"""`quadrate compress`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import Output, output_file
from quadrate.cli.picture_features import FEATURE_OPTIONS, FeatureWish, fit_if_missing
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.rates import RATE_OPTIONS, Rating
from quadrate.core.files import exists
from quadrate.core.plugins import load_plugins
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.cli.inputs import Input
    from quadrate.codecs import Batch
    from quadrate.coding.container import Header


def compress(
    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN")],
    /,
    output: Output,
    codec: str,
    rate: Rating = RATE_OPTIONS,
    features: FeatureWish = FEATURE_OPTIONS,
    seed: int | None = None,
    chunk: int | None = None,
    labels: bool = False,
    append: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Compress photographs, images or features to one .quad file.

    The file appears under its name when it is whole.

    Args:
        inputs: Folders of images (with all sub-folders; names are stored), images, .npy or .npz
            arrays (N, C, H, W) or (N, H, W), or data sets with their split, such as mnist:test;
            features as .npy or .npz arrays (N, D); photographs of any sizes in folders and files.
        output: The .quad file, whose name ends in .quad.
        codec: A codec in the package, such as mnist-4.75bit, a codec's file, or an
            address on the Hugging Face Hub, hf://user/name (docs/hub.md); with --purpose features
            also the file of a codec to be made.
        rate: How many bits photographs get.
        features: How pictures become features, which models read.
        seed: Seed of the dither, 0 to 2^64 - 1; by default 0.
        chunk: Samples a chunk: what must be read to decode one of them; by default as many as make
            files small.
        labels: Store labels too: the number of an image's class folder, an .npz file's array
            labels, or a data set's labels.
        append: Add to the file, which must be there, under its seed, and store what it stores.
        overwrite: Replace the file if it is there.
        strict: Refuse samples that are unlike those the codec was made for, rather than warn of
            them.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    from quadrate.cli.inputs import open_inputs
    from quadrate.cli.picture_features import open_features, reads_pictures
    from quadrate.cli.quads import count_of, load_codec, pixels_of, rate_text
    from quadrate.codecs import FeatureCodec, PhotoCodec, quad
    from quadrate.coding.container import Reader

    if append and overwrite:
        raise QuadrateError(
            "a file is added to (--append) or replaced (--overwrite), not both; leave one out"
        )
    path = output_file(output, (".quad",), append or overwrite)
    if append and not exists(path):
        raise QuadrateError(
            f"no such file: {path}; there is nothing to append to: leave --append out to make it"
        )
    header = _header_to_append_to(path, seed, labels) if append else None
    fitted = fit_if_missing(codec, inputs, features, printer.quiet)
    loaded = load_codec(codec)
    from_pictures = reads_pictures(loaded, inputs, features)
    labels = labels or (header is not None and "labels" in header.fields)
    try:
        if isinstance(loaded, PhotoCodec):
            _refuse_for_photographs(codec, chunk, strict)
            from quadrate.cli import photo_files

            images = photo_files.open_photographs(inputs, labels)
            pieces = photo_files.read(images, header, printer.quiet)
            added = photo_files.compress(loaded, pieces, path, rate.rate(), seed or 0, append)
        else:
            rate.refuse(codec)
            opened = (
                open_features(inputs, loaded, features, labels, fitted)
                if from_pictures and isinstance(loaded, FeatureCodec)
                else open_inputs(inputs, loaded.shape, labels)
            )
            batches = _batches(opened, header, printer.quiet)
            if append:
                added = quad.append(loaded, batches, path, chunk, strict)
            else:
                added = quad.compress(loaded, batches, path, seed or 0, chunk, strict)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{path} is as it was before") from None
    with Reader(path) as reader:
        samples, pixels = reader.samples, pixels_of(reader)
    size, bound = path.stat().st_size, loaded.rate_bound_bits
    facts = {
        "file": path,
        "samples": samples,
        "added": added,
        "bytes": size,
        "rate_bits_per_sample": 8 * size / samples if samples else None,
        "rate_bound_bits": bound,
    }
    if pixels is None:
        new, text = f"{added} samples", rate_text(samples, size, bound)
    else:
        per_pixel = 8 * size / pixels if pixels else None
        facts |= {"pixels": pixels, "rate_bits_per_pixel": per_pixel}
        new, text = count_of(added, "photograph"), count_of(samples, "photograph")
        text += f", {size} bytes"
        text += "" if per_pixel is None else f", {per_pixel:.4f} bits a pixel"
    more = f"{new} added; " if append else ""
    lines = [f"{path}: {more}{text}"]
    if fitted is not None:
        facts |= {"codec": fitted.codec, "fitted_to": len(fitted.features)}
        lines.append(
            f"codec:  {fitted.codec}, fitted to {count_of(len(fitted.features), 'picture')}"
        )
    printer.done(facts, *lines)


def _refuse_for_photographs(codec: str, chunk: int | None, strict: bool) -> None:
    """Raise a QuadrateError if there are options that mean nothing for photographs."""
    if chunk is not None:
        raise QuadrateError(
            f"{codec} is a codec of photographs, each of which is a chunk; leave --chunk out"
        )
    if strict:
        raise QuadrateError(
            f"{codec} is a codec of photographs, to which none is unlike its own; leave --strict"
            " out"
        )


def _header_to_append_to(path: Path, seed: int | None, labels: bool) -> Header:
    from quadrate.coding.container import Reader

    with Reader(path) as reader:
        header = reader.header
    if seed is not None and seed != header.seed:
        raise QuadrateError(
            f"{path} has seed {header.seed}, which holds for what is appended too; leave --seed out"
        )
    if labels and "labels" not in header.fields:
        raise QuadrateError(f"{path} holds no labels, so none can be appended; leave --labels out")
    return header


def _batches(inputs: list[Input], header: Header | None, quiet: bool) -> Iterator[Batch]:
    """The samples of all inputs, with names where the file to append to has some."""
    from quadrate.cli.quads import shown

    pieces = (batch for each in inputs for batch in each.batches)
    unnamed = header is not None and "names" not in header.fields
    for batch in shown(pieces, "compressing", sum(each.count for each in inputs), quiet):
        yield replace(batch, names=None) if unnamed else batch
