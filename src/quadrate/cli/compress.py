"""`quadrate compress`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import Output, output_file, output_folder, output_url
from quadrate.cli.picture_features import FEATURE_OPTIONS, FeatureWish, Fitted, fit_if_missing
from quadrate.cli.printer import PRINTER, Printer, Printing
from quadrate.cli.rates import RATE_OPTIONS, Rating
from quadrate.core.files import exists, is_folder
from quadrate.core.plugins import load_plugins
from quadrate.core.remote import Place, Url, place_of
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.coding.container import Header, Shard


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
    shards: int | None = None,
    overwrite: bool = False,
    strict: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Compress photographs, images or features to one .quad file.

    Or to a folder of shards. A file appears under its name when it is whole.

    Args:
        inputs: Folders of images (with all sub-folders; names are stored), images, .npy or .npz
            arrays (N, C, H, W) or (N, H, W), or data sets with their split, such as mnist:test;
            features as .npy or .npz arrays (N, D); photographs of any sizes in folders and files.
            Paths may be URLs (docs/shards.md).
        output: The .quad file, whose name ends in .quad; or, with --shards, a folder.
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
        append: Add to the file, which must be there, under its seed, and store what it stores; to
            a folder of shards, one more shard, or as many as --shards says.
        shards: Write a folder of so many .quad files with a manifest, which other verbs take as one
            file; what an interrupted command left is finished by the same command.
        overwrite: Replace the file if it is there.
        strict: Refuse samples that are unlike those the codec was made for, rather than warn of
            them.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    from quadrate.cli.compress_jobs import (
        CompressJob,
        compress_to_file,
        compress_to_shards,
        write_shard,
    )
    from quadrate.cli.quads import load_codec, shown

    if append and overwrite:
        raise QuadrateError(
            "a file is added to (--append) or replaced (--overwrite), not both; leave one out"
        )
    path = _output(output, shards, append, overwrite)
    if append and not exists(path):
        raise QuadrateError(
            f"no such file: {path}; there is nothing to append to: leave --append out to make it"
        )
    header = _header_to_append_to(path, seed, labels) if append else None
    fitted = fit_if_missing(codec, inputs, features, printer.quiet)
    loaded = load_codec(codec)
    job = CompressJob(
        inputs=inputs,
        codec=codec,
        path=path,
        seed=header.seed if header else seed or 0,
        labels=labels or (header is not None and "labels" in header.fields),
        named=header is None or "names" in header.fields,
        rate=rate,
        features=features,
        chunk=chunk,
        strict=strict,
        module=module,
    )
    job.check(loaded)
    if shards is None and not is_folder(path):
        try:
            added = compress_to_file(job, loaded, append, printer.quiet, fitted)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{path} is as it was before") from None
    else:

        def run(jobs: Sequence[CompressJob]) -> list[Shard]:
            written = (write_shard(each, loaded) for each in jobs)
            return list(shown(written, "shards", len(jobs), printer.quiet, lambda shard: 1))

        try:
            added = compress_to_shards(job, 1 if shards is None else shards, header, loaded, run)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{path} holds the shards that are whole; the same command goes on"
            ) from None
    _tell(path, added if append else None, loaded.rate_bound_bits, fitted, printer)


def _tell(
    path: Place, added: int | None, bound: float | None, fitted: Fitted | None, printer: Printer
) -> None:
    """Say what was written; `added` samples, if they were added."""
    from quadrate.cli.quads import count_of, pixels_of, rate_text
    from quadrate.coding.container import ShardReader, open_quad

    with open_quad(path) as reader:
        samples, pixels, size = reader.samples, pixels_of(reader), reader.size
        shards = len(reader.manifest.shards) if isinstance(reader, ShardReader) else None
    noun = "sample" if pixels is None else "photograph"
    facts = {
        "file": path,
        "samples": samples,
        "added": samples if added is None else added,
        "bytes": size,
        "rate_bits_per_sample": 8 * size / samples if samples else None,
        "rate_bound_bits": bound,
    }
    if pixels is None:
        text = rate_text(samples, size, bound)
    else:
        per_pixel = 8 * size / pixels if pixels else None
        facts |= {"pixels": pixels, "rate_bits_per_pixel": per_pixel}
        text = f"{count_of(samples, noun)}, {size} bytes"
        text += "" if per_pixel is None else f", {per_pixel:.4f} bits a pixel"
    if shards is not None:
        facts["shards"] = shards
        text += f", in {count_of(shards, 'shard')}"
    new = f"{added} samples" if pixels is None else count_of(added or 0, noun)
    more = "" if added is None else f"{new} added; "
    lines = [f"{path}: {more}{text}"]
    if fitted is not None:
        facts |= {"codec": fitted.codec, "fitted_to": len(fitted.features)}
        lines.append(
            f"codec:  {fitted.codec}, fitted to {count_of(len(fitted.features), 'picture')}"
        )
    printer.done(facts, *lines)


def _output(output: str, shards: int | None, append: bool, overwrite: bool) -> Place:
    """The file or folder to write.

    Raises:
        QuadrateError: If its name is not allowed, or it is there and is not to be touched.
    """
    place = place_of(output)
    if shards is None and not (append and is_folder(place)):
        url = output_url(output, ".quad", append or overwrite)
        return url or output_file(output, (".quad",), append or overwrite)
    if overwrite:
        raise QuadrateError(
            "--overwrite replaces a file; shards are written to a new folder (--shards), or added"
            " to one (--append)"
        )
    return place if isinstance(place, Url) else output_folder(output, "--shards takes a folder")


def _header_to_append_to(path: Place, seed: int | None, labels: bool) -> Header:
    from quadrate.coding.container import open_quad

    with open_quad(path) as reader:
        header = reader.header
    if seed is not None and seed != header.seed:
        raise QuadrateError(
            f"{path} has seed {header.seed}, which holds for what is appended too; leave --seed out"
        )
    if labels and "labels" not in header.fields:
        raise QuadrateError(f"{path} holds no labels, so none can be appended; leave --labels out")
    return header
