"""Runs of feature recipes.

Features are extracted once, coded and read by receivers, beside images that classical codecs have
coded.

Every row is one way to store images and one receiver: it is trained on what that way gives back of
the training images, its penalty chosen on what it gives back of the validation images, and scored
on what it gives back of the test images. Bits are those of the test images' file or files.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.core.array_file import read_array
from quadrate.core.fields import is_number
from quadrate.core.files import exists, read_json, write_atomically, write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.feature_recipes import FeatureRecipe, Storage
from quadrate.experiments.runs.kind import Job, Kind, Workers
from quadrate.networks.backbones import Backbone, load_backbone
from quadrate.sources import Split, load_source
from quadrate.training.processes import Report, run_jobs

SPLITS = ("train", "validation", "test")

Features = dict[str, NDArray[np.float32]]
"""By split, (N, d) each."""
_Stored = tuple[
    dict[str, Any], float, Features
]  # columns of its own, bits an image, and what comes back


class FeatureKind(Kind):
    """A feature recipe with its images.

    Attributes:
        splits: The images, by the names of splits.
    """

    recipe_class = FeatureRecipe

    @classmethod
    def options(cls, recipe: Any) -> frozenset[str]:
        """Return that other images may be stored."""
        return frozenset(("data",))

    def prepare(self) -> None:
        """Load the images, as many of each split as the recipe takes."""
        recipe, source = self.recipe, load_source(self.recipe.source)
        if source.shape[0] not in (1, 3):
            raise QuadrateError(
                f"{recipe.name}: backbones and image codecs take 1 or 3 channels; {recipe.source}"
                f" has {source.shape[0]}"
            )
        self.splits = {name: _first(recipe, name, getattr(source, name)) for name in SPLITS}
        self.decisive = [source.fingerprint]
        self.described = {"source": {"name": source.name, "fingerprint": source.fingerprint}}

    def features(self, *splits: str) -> Features:
        """The features of splits' images, of all by default, extracted before.

        Raises:
            QuadrateError: If they are missing or damaged.
        """
        return {
            name: _read(self._features_file(name), len(self.splits[name]))
            for name in splits or SPLITS
        }

    def codec_file(self, rate_bits: float) -> Path:
        """The codec of a rate, which `FeatureCodec.load` reads."""
        return self.folder / "codecs" / f"{rate_bits:g}.safetensors"

    def reference_file(self, receiver: str) -> Path:
        """Which test images a receiver of fp16 features gets right, bool (N,)."""
        return self.folder / "reference" / f"{receiver}.npy"

    def extract(self, images: Tensor, backbone: Backbone, path: Path) -> None:
        """Write the features of images, uint8 (N, C, H, W), as float32 (N, d), if missing."""
        if not exists(path):
            values = (
                backbone.to(self.device).features(images, bfloat16=self.recipe.bfloat16).numpy()
            )
            _write(path, values)

    def extract_coded(self, images: dict[str, Tensor], point: Storage) -> Features:
        """The features of images that a codec gave back; kept until the point is scored."""
        backbone = load_backbone(self.recipe.backbone)
        paths = {name: self._coded_folder(point) / f"{name}.npy" for name in images}
        for name, path in paths.items():
            self.extract(images[name], backbone, path)
        return {name: _read(path, len(images[name])) for name, path in paths.items()}

    def drop_coded(self, point: Storage) -> None:
        """Removes what `extract_coded` kept."""
        shutil.rmtree(self._coded_folder(point), ignore_errors=True)

    def _features_file(self, split: str) -> Path:
        return self.folder / "features" / f"{split}.npy"

    def _coded_folder(self, point: Storage) -> Path:
        return self.folder / "features" / point.key

    @property
    def _rates_bits(self) -> list[float]:
        return list(
            dict.fromkeys(
                point.quality for point in self.recipe.points if point.codec == "features"
            )
        )

    def needs(self, job: Job) -> list[Path]:
        """Return the files of features, and of the feature codec if the point is one."""
        files = [self._features_file(split) for split in SPLITS]
        if job.point.codec == "features":
            files.append(self.codec_file(job.point.quality))
        return [path.relative_to(self.folder) for path in files]

    def read_by(self, job: Job) -> list[Path]:
        """Return those files, and what the receiver of fp16 features reads right."""
        if job.point.codec == "fp16":
            return self.needs(job)
        reference = self.reference_file(job.point.receiver)
        return [*self.needs(job), reference.relative_to(self.folder)]

    def make(self, execution: Any, workers: Workers, report: Report) -> None:
        """Extract the features, and fit the codecs to those of training images."""
        processes = self.processes(workers)
        splits = [name for name in SPLITS if not exists(self._features_file(name))]
        if splits:
            shared = (self, load_backbone(self.recipe.backbone))
            run_jobs(_extract_split, shared, splits, processes, report)
        rates = [rate for rate in self._rates_bits if not exists(self.codec_file(rate))]
        run_jobs(_fit_codec, self, rates, processes, report)

    def score(self, jobs: Sequence[Job], workers: Workers, report: Report, quick: bool) -> None:
        """Store the images and train receivers; fp16 features first, the reference of others."""
        for first in (True, False):
            some = [job for job in jobs if (job.point.codec == "fp16") == first]
            run_jobs(_score_point, self, some, self.processes(workers), report)


def _first(recipe: FeatureRecipe, name: str, split: Split) -> Split:
    count = getattr(recipe, name)
    if not 1 <= count <= len(split):
        raise QuadrateError(
            f"{recipe.name} takes {count} {name} images; {recipe.source} has {len(split)}, and one"
            " is needed at least"
        )
    # Copies, for a slice is sent to other processes with all that it was cut from.
    return Split(split.images[:count].clone(), split.labels[:count].clone())


def _read(path: Path, count: int, kind: type[np.generic] = np.float32) -> NDArray[Any]:
    """An array that `_write` wrote: features (count, d), or one truth value a row, (count,)."""
    if not exists(path):
        raise QuadrateError(
            f"no such file: {path}; remove its run folder, and train and evaluate anew"
        )
    try:
        values = read_array(path)
    except QuadrateError:
        values = np.empty(0)
    dimensions = 1 if kind is np.bool_ else 2
    if (
        values.shape[:1] != (count,)
        or values.ndim != dimensions
        or values.dtype != kind
        or not np.isfinite(values).all()
    ):
        raise QuadrateError(
            f"{path} is damaged or of other images: an array of {count} rows should stand there;"
            " remove it to have it made anew"
        )
    return values


def _write(path: Path, values: NDArray[Any]) -> None:
    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # to a path, numpy would add a suffix
            np.save(file, values)

    write_atomically(path, save)


def _extract_split(shared: tuple[FeatureKind, Backbone], name: str, report: Report) -> None:
    run, backbone = shared
    start, images = time.process_time(), run.splits[name].images
    run.extract(images, backbone, run._features_file(name))
    rate = len(images) / (time.process_time() - start)
    report(
        {"stage": run.recipe.name, "point": f"features of {name} images", "images_a_second": rate}
    )


def _fit_codec(run: FeatureKind, rate_bits: float, report: Report) -> None:
    """Fits a codec to the training features alone."""
    from threadpoolctl import threadpool_limits

    from quadrate.codecs import FeatureCodec

    features = run.features("train")["train"]
    with threadpool_limits(1):
        start = time.process_time()
        codec = FeatureCodec(rate_bits=rate_bits).fit(features)
        seconds = time.process_time() - start
    path = run.codec_file(rate_bits)
    write_text(path.with_suffix(".json"), json.dumps({"fit_seconds": seconds}))
    codec.save(path)
    report(
        {"stage": run.recipe.name, "point": f"codec of {rate_bits:g} bits", "fit_seconds": seconds}
    )


def _score_point(run: FeatureKind, job: Job, report: Report) -> None:
    from threadpoolctl import threadpool_limits

    point = job.point
    with threadpool_limits(1):
        way, bits, received = _stored(run, point, run.features())
        run.keep(
            job,
            way
            | {"bits_per_image": bits, "receiver": point.receiver}
            | _received(run, point, received),
            report,
        )
    run.drop_coded(point)


def _received(run: FeatureKind, point: Storage, features: Features) -> dict[str, Any]:
    """How well a receiver does, and what is lost against the same receiver of fp16 features."""
    from quadrate.evaluation.receivers import accuracy_interval, accuracy_lost, train_receiver

    train, validation, test = ((features[name], run.splits[name].labels.numpy()) for name in SPLITS)
    start = time.process_time()
    receiver = train_receiver(point.receiver, train, validation)
    correct = receiver.correct(*test)
    seconds = time.process_time() - start
    if point.codec == "fp16":
        _write(run.reference_file(point.receiver), correct)
    before = _read(run.reference_file(point.receiver), len(correct), np.bool_)
    scores = {"accuracy": accuracy_interval(correct), "lost": accuracy_lost(before, correct)}
    row = {
        column: value
        for name, (estimate, low, high) in scores.items()
        for column, value in _columns(name, estimate, low, high)
    }
    chosen = {
        "hyperparameter": receiver.hyperparameter,
        "at_the_edge": receiver.at_the_edge,
        "validation_accuracy": receiver.validation_accuracy,
    }
    return row | chosen | {"receiver_seconds": seconds}


def _columns(name: str, estimate: float, low: float, high: float) -> list[tuple[str, float]]:
    return [(name, estimate), (f"{name}_low", low), (f"{name}_high", high)]


def _stored(run: FeatureKind, point: Storage, plain: Features) -> _Stored:
    """What a way to store images makes of them."""
    if point.codec == "fp16":
        return _as_fp16(plain)
    return (
        _by_feature_codec(run, point, plain)
        if point.codec == "features"
        else _by_image_codec(run, point, plain)
    )


def _as_fp16(plain: Features) -> _Stored:
    half = {name: values.astype(np.float16) for name, values in plain.items()}
    file = io.BytesIO()
    np.savez_compressed(file, features=half["test"])
    bits = 8 * len(file.getvalue()) / len(half["test"])
    return (
        {"way": "fp16 features, npz"},
        bits,
        {name: values.astype(np.float32) for name, values in half.items()},
    )


def _by_feature_codec(run: FeatureKind, point: Storage, plain: Features) -> _Stored:
    from quadrate.codecs import FeatureCodec

    path = run.codec_file(point.quality)
    codec = FeatureCodec.load(path)
    images, start = sum(map(len, plain.values())), time.process_time()
    files = {name: codec.compress(values) for name, values in plain.items()}
    compressed = time.process_time()
    back = {name: codec.decompress(file or b"") for name, file in files.items()}
    ends = time.process_time()
    way = {
        "way": "feature codec",
        "quality": point.quality,
        "images_a_file": len(plain["test"]),
        "feature_mse": float(np.mean(np.square(back["test"] - plain["test"], dtype=np.float64))),
        "codec_file_bytes": path.stat().st_size,
        "fit_seconds": _fit_seconds(path.with_suffix(".json")),
        "compress_images_a_second": images / (compressed - start),
        "decompress_images_a_second": images / (ends - compressed),
    }
    return way, 8 * len(files["test"] or b"") / len(plain["test"]), back


def _fit_seconds(path: Path) -> float:
    stored = read_json(path)
    seconds = stored.get("fit_seconds") if isinstance(stored, dict) else None
    if not is_number(seconds):
        raise QuadrateError(
            f"{path} is damaged: it does not say how long fitting took; remove the codec beside it"
            " to have both made anew"
        )
    return float(seconds)


def _by_image_codec(run: FeatureKind, point: Storage, plain: Features) -> _Stored:
    from quadrate.evaluation.classical import code_images

    coded = {
        name: code_images(split.images, point.codec, point.quality, point.grid)
        for name, split in run.splits.items()
    }
    images = {name: own.images for name, own in coded.items()}
    lossless = all(torch.equal(own, run.splits[name].images) for name, own in images.items())
    error = (
        images["test"].double() - run.splits["test"].images.double()
    ).square().mean().item() / 255**2
    way = {
        "way": point.codec,
        "quality": point.quality,
        "images_a_file": point.grid**2,
        "pixel_mse": error,
    }
    return (
        way,
        coded["test"].bits_per_image,
        plain if lossless else run.extract_coded(images, point),
    )
