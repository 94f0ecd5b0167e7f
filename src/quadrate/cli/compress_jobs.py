"""What `quadrate compress` does: a file, or shards, each of which any process can write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from quadrate.cli.inputs import Input, check_classes, open_inputs, part_of
from quadrate.cli.photo_files import open_photographs, photographs_of
from quadrate.cli.picture_features import (
    FEATURE_OPTIONS,
    FeatureOptions,
    Fitted,
    open_features,
    reads_pictures,
)
from quadrate.cli.quads import codec_mark, load_codec, shown
from quadrate.cli.rates import RateOptions
from quadrate.codecs import Codec, FeatureCodec, PhotoCodec, photo_quad, quad
from quadrate.codecs.quad_file import check_fit
from quadrate.coding.container import Header, Shard, read_shard
from quadrate.coding.container.manifest import seed_of
from quadrate.coding.container.shard_folder import ShardFolder
from quadrate.core.files import exists
from quadrate.core.plugins import load_plugins
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError
from quadrate.sources.image_files import Images

AnyCodec = Codec | PhotoCodec


@dataclass(frozen=True)
class CompressJob:
    """A file or a shard to write, described so that any process that has the inputs can do it.

    Attributes:
        inputs: What to compress, as the command line names it.
        codec: The codec's name, or its file.
        path: Where the file belongs.
        start: The number of the first sample, over all inputs.
        stop: The number of the last one, plus 1; None takes all.
        seed: The file's seed.
        labels: Whether to store labels.
        named: Whether to store names, where there are some.
        rate: How many bits photographs get.
        features: How pictures become features.
        chunk: Samples a chunk, of codecs that are not of photographs.
        strict: Whether to refuse samples unlike the codec's own.
        module: Plug-ins.
    """

    inputs: tuple[str, ...]
    codec: str
    path: Place
    start: int = 0
    stop: int | None = None
    seed: int = 0
    labels: bool = False
    named: bool = True
    rate: RateOptions = RateOptions()
    features: FeatureOptions = FEATURE_OPTIONS
    chunk: int | None = None
    strict: bool = False
    module: tuple[str, ...] = ()

    def check(self, codec: AnyCodec) -> None:
        """Raise a QuadrateError if there are options that mean nothing for the codec."""
        reads_pictures(codec, self.inputs, self.features)
        if not isinstance(codec, PhotoCodec):
            self.rate.refuse(self.codec)
            return
        if self.chunk is not None:
            raise QuadrateError(
                f"{self.codec} is a codec of photographs, each of which is a chunk; leave --chunk"
                " out"
            )
        if self.strict:
            raise QuadrateError(
                f"{self.codec} is a codec of photographs, to which none is unlike its own; leave"
                " --strict out"
            )

    def open(self, codec: AnyCodec, fitted: Fitted | None = None) -> list[Input] | list[Images]:
        """Open the inputs, without reading samples; features that are known are not made again."""
        if isinstance(codec, PhotoCodec):
            return open_photographs(self.inputs, self.labels)
        if isinstance(codec, FeatureCodec) and reads_pictures(codec, self.inputs, self.features):
            return open_features(self.inputs, codec, self.features, self.labels, fitted)
        return open_inputs(self.inputs, codec.shape, self.labels)


def compress_to_file(
    job: CompressJob,
    codec: AnyCodec,
    append: bool,
    quiet: bool,
    fitted: Fitted | None = None,
) -> int:
    """Write a .quad file, or add to it.

    Args:
        job: What to write.
        codec: The job's codec.
        append: Whether to add to the file.
        quiet: Whether to show no progress.
        fitted: What the codec was just fitted to, if it was.

    Returns:
        How many samples were written.

    Raises:
        QuadrateError: If the inputs cannot be read, do not fit the codec or the file, or the file
            cannot be written.
    """
    inputs = job.open(codec, fitted)
    total = sum(each.count for each in inputs)

    def seen(pieces: Iterator[Any]) -> Iterator[Any]:
        photographs = isinstance(codec, PhotoCodec)
        count: Callable[[Any], int] = (lambda piece: 1) if photographs else len
        return shown(pieces, "compressing", total, quiet, count)

    return _write(replace(job, stop=total), codec, inputs, append, seen)


def _write(
    job: CompressJob,
    codec: AnyCodec,
    inputs: Sequence[Any],
    append: bool = False,
    seen: Callable[[Iterator[Any]], Iterator[Any]] = lambda pieces: pieces,
) -> int:
    assert job.stop is not None
    pieces = seen(part_of(inputs, job.start, job.stop))
    if isinstance(codec, PhotoCodec):
        photographs, rate = photographs_of(pieces, job.named), job.rate.rate()
        if append:
            return photo_quad.append(codec, photographs, job.path, rate)
        return photo_quad.compress(codec, photographs, job.path, rate, job.seed)
    batches = (batch if job.named else replace(batch, names=None) for batch in pieces)
    if append:
        return quad.append(codec, batches, job.path, job.chunk, job.strict)
    return quad.compress(codec, batches, job.path, job.seed, job.chunk, job.strict)


def write_shard(job: CompressJob, codec: AnyCodec | None = None) -> Shard:
    """Write one shard, unless it is there and whole.

    It depends on nothing but the job: the same bytes wherever and whenever it runs.

    Args:
        job: What to write; `stop` is given.
        codec: The job's codec, if it is loaded already.

    Returns:
        What the manifest says of it.

    Raises:
        QuadrateError: As `compress_to_file`, or if the inputs have changed.
    """
    load_plugins(job.module)
    codec = codec or load_codec(job.codec)
    assert job.stop is not None
    samples = job.stop - job.start
    facts = (job.path, job.seed, list(codec.identities), samples)
    if exists(job.path):
        try:
            return read_shard(*facts)
        except QuadrateError:  # damaged; it is written anew
            pass
    written = _write(job, codec, job.open(codec))
    if written != samples:
        raise QuadrateError(
            f"{job.path} was to have {samples} samples, and there were {written}: the inputs have"
            " changed since the work began; begin again in a new folder"
        )
    return read_shard(*facts)


Runner = Callable[[Sequence[CompressJob]], Sequence[Shard]]
"""Does jobs somewhere by `write_shard`, and gives what it returned of each, in their order."""


def compress_to_shards(
    job: CompressJob, shards: int, header: Header | None, codec: AnyCodec, run: Runner
) -> int:
    """Write a folder of shards, or add shards to one; finish what the same question left.

    Args:
        job: The whole work; its path is the folder, its seed that of the folder's first shard.
        shards: How many shards to write.
        header: That of the folder to add to; None makes a new one.
        codec: The codec.
        run: Does the jobs.

    Returns:
        How many samples were written.

    Raises:
        QuadrateError: If there are fewer samples than shards, the folder holds something else, or a
            shard cannot be written.
    """
    inputs = job.open(codec)
    check_classes(inputs)
    count = sum(each.count for each in inputs)
    if not 1 <= shards <= max(1, count):
        raise QuadrateError(
            f"--shards takes 1 to {max(1, count)}, the number of samples; got {shards}"
        )
    if header is not None:
        _check_append(job, header, codec, inputs)
    asked = _asked(job, shards, count)
    with ShardFolder(job.path, asked, header is not None) as folder:
        jobs = [
            replace(
                job,
                start=count * k // shards,
                stop=count * (k + 1) // shards,
                path=folder.path(folder.first + k),
                seed=seed_of(job.seed, folder.first + k),
            )
            for k in range(shards)
        ]
        folder.finish(list(run(jobs)), inputs[0].classes)
    return count


def _check_append(
    job: CompressJob, header: Header, codec: AnyCodec, inputs: Sequence[Input | Images]
) -> None:
    """Raise a QuadrateError if samples do not go to a folder of shards with this header."""
    check_fit(codec, header, str(job.path))
    if len(codec.identities) != len(header.layers):
        raise QuadrateError(
            f"{job.path} has {len(header.layers)} layers, this codec writes"
            f" {len(codec.identities)}; append with the codec of all layers"
        )
    if "names" in header.fields and isinstance(inputs[0], Input) and not inputs[0].named:
        raise QuadrateError(
            f"{job.path} holds names, and the samples of {inputs[0].name} have none: compress them"
            " into another folder"
        )


def _asked(job: CompressJob, shards: int, count: int) -> dict[str, Any]:
    """What decides the bytes of all shards."""
    asked = asdict(job) | {"shards": shards, "samples": count, "codec": codec_mark(job.codec)}
    return {name: value for name, value in asked.items() if name not in ("path", "start", "stop")}
