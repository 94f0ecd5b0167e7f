"""Runs of probes: photographs are stored, and their labels read from the files in several ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from quadrate.codecs.photo_codec import PhotoCodec
from quadrate.core import draws
from quadrate.core.array_file import read_array
from quadrate.core.files import exists
from quadrate.evaluation.receivers import accuracy_interval, accuracy_lost, train_receiver
from quadrate.experiments.recipes.probe_recipes import ProbeRecipe, Reading
from quadrate.experiments.runs.kind import Job, Kind
from quadrate.experiments.runs.probe_readings import (
    Readings,
    features_and_labels,
    read,
    store,
    write_arrays,
)
from quadrate.networks.backbones import Backbone, load_backbone
from quadrate.sources.photographs import Photographs, find_folder
from quadrate.training.processes import Executor, Report, run_jobs
from quadrate.training.reader_fit import fit_reader

SPLITS = ("test", "validation", "train")
_REFERENCE = Path("originals.npz")  # which test photographs are read right from the originals
_Part = tuple[float | None, str]
"""A quality, None for the originals, and a split."""


class ProbeKind(Kind):
    """A recipe of probes with its data.

    Attributes:
        photographs: Folders of class folders, by split.
        codec: The codec of photographs.
    """

    recipe_class = ProbeRecipe

    @classmethod
    def options(cls, recipe: Any) -> frozenset[str]:
        """Return that other photographs may be read."""
        return frozenset(("data",))

    def prepare(self) -> None:
        """Look the photographs and the codec up."""
        root = find_folder(self.recipe.source)
        self.photographs = {split: self._drawn(root / split, split) for split in SPLITS}
        self.codec = PhotoCodec.load(self.recipe.codec, self.device)
        prints = "".join(each.fingerprint for each in self.photographs.values())
        identities = "".join(identity.hex() for identity in self.codec.identities)
        self.decisive = [prints, identities]
        self.described = {
            "source": {
                "name": str(self.recipe.source),
                "fingerprint": prints + identities,
                "photographs": {name: len(each) for name, each in self.photographs.items()},
            }
        }

    def _drawn(self, root: Path, split: str) -> Photographs:
        """As many photographs of a folder as the recipe takes, from all classes alike."""
        found = Photographs(root)
        drawn = draws.permutation("probed", split, n=len(found))[: getattr(self.recipe, split)]
        found.names = [found.names[number] for number in sorted(drawn.tolist())]
        return found

    def part_file(self, quality: float | None, split: str) -> Path:
        """Where is kept what is read of a split, inside the run's folder."""
        name = "originals" if quality is None else f"{quality:g}"
        return Path("read", name, f"{split}.npz")

    def network_file(self, point: Reading) -> Path:
        """Where is kept what a network of the base reads, inside the run's folder."""
        return Path("networks", f"{point.key}.npz")

    def needs(self, job: Job) -> list[Path]:
        """Return the files of what is read."""
        point: Reading = job.point
        files = [self.part_file(None, split) for split in SPLITS]
        if point.reads != "originals":
            files += [self.part_file(point.quality, split) for split in SPLITS]
        if point.is_network:
            files.append(self.network_file(point))
        return files

    def read_by(self, job: Job) -> list[Path]:
        """Return those files, and what is read right of the originals."""
        return self.needs(job) + ([] if job.point.reads == "originals" else [_REFERENCE])

    def make(self, execution: Any, workers: int | Executor | None, report: Report) -> None:
        """Store the photographs and read them."""
        parts: list[_Part] = [
            (quality, split)
            for quality in (None, *self.recipe.qualities)
            for split in SPLITS
            if not exists(self.folder / self.part_file(quality, split))
        ]
        if parts:
            shared = (self, load_backbone(self.recipe.backbone))
            run_jobs(_read_part, shared, parts, self.processes(workers), report)
        networks = [
            point
            for point in self.recipe.points
            if point.is_network and not exists(self.folder / self.network_file(point))
        ]
        run_jobs(_train_network, self, networks, self.processes(workers), report)

    def readings(self, quality: float, split: str) -> Readings:
        """What was read of a split at a quality."""
        return Readings.load(self.folder / self.part_file(quality, split))

    def originals(self, split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The backbone's features of the photographs of a split, and their labels."""
        path = self.folder / self.part_file(None, split)
        return read_array(path, "features"), read_array(path, "labels")

    def features(self, point: Reading, split: str) -> NDArray[np.float32]:
        """What a probe is given of a split, (n, d); of a network its logits."""
        if point.reads == "originals":
            return self.originals(split)[0]
        if point.is_network:
            return read_array(self.folder / self.network_file(point), split)
        readings = self.readings(point.quality, split)
        if point.reads == "pixels":
            return readings.pixels_1 if point.layers == 1 else readings.pixels_2
        return readings.pooled(point.layers)

    def score(
        self, jobs: Sequence[Job], workers: int | Executor | None, report: Report, quick: bool
    ) -> None:
        """Fit a probe a point, and score it on the test photographs; the originals' first."""
        for first in (True, False):
            some = [job for job in jobs if (job.point.reads == "originals") == first]
            run_jobs(_score_point, self, some, self.processes(workers), report)


def _read_part(shared: tuple[ProbeKind, Backbone], part: _Part, report: Report) -> None:
    (kind, backbone), (quality, split) = shared, part
    photographs, path = kind.photographs[split], kind.folder / kind.part_file(quality, split)
    if quality is None:
        features, labels = features_and_labels(photographs, backbone)
        write_arrays(path, features=features, labels=labels)
    else:
        file = path.with_suffix(".quad")
        store(kind.codec, photographs, quality, file)
        read(kind.codec, file, backbone).save(path)
        file.unlink()
    report({"stage": kind.recipe.name, "point": f"{path.parent.name}/{split}"})


def _train_network(kind: ProbeKind, point: Reading, report: Report) -> None:
    """Train a network on the base of training photographs, and keep what it reads of all."""
    start = time.process_time()
    base = {
        split: torch.from_numpy(kind.readings(point.quality, split).base).float()
        for split in SPLITS
    }
    features, labels = kind.originals("train")
    if point.reads == "network":
        wanted, outputs = torch.from_numpy(labels), int(labels.max()) + 1
        loss: Callable[[Tensor, Tensor], Tensor] = partial(cross_entropy, label_smoothing=0.1)
    else:  # features on one scale, so that all count
        scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
        wanted, outputs, loss = torch.from_numpy(scaled), features.shape[1], mse_loss
    mirror = torch.from_numpy(kind.codec.transform.mirror(base["train"].shape[1]))
    network = fit_reader(
        kind.recipe.reader, base["train"], wanted, outputs, loss, mirror, point.seed, report
    )
    with torch.inference_mode():
        read_off = {split: network(maps).numpy() for split, maps in base.items()}
    seconds = np.array([time.process_time() - start])
    write_arrays(kind.folder / kind.network_file(point), cpu_seconds=seconds, **read_off)


def _score_point(kind: ProbeKind, job: Job, report: Report) -> None:
    from threadpoolctl import threadpool_limits

    point: Reading = job.point
    labels = {split: kind.originals(split)[1] for split in SPLITS}
    given = {split: kind.features(point, split) for split in SPLITS}
    row: dict[str, Any] = {"way": point.way, "receiver": point.receiver}
    if point.reads != "originals":
        row |= {"quality": point.quality, **_bits(kind, point)}
    if point.reads == "network":
        correct = given["test"].argmax(1) == labels["test"]
        row["validation_accuracy"] = float(
            np.mean(given["validation"].argmax(1) == labels["validation"])
        )
    else:
        with threadpool_limits(1):
            receiver = train_receiver(
                "linear",
                (given["train"], labels["train"]),
                (given["validation"], labels["validation"]),
            )
        correct = receiver.correct(given["test"], labels["test"])
        row |= {
            "validation_accuracy": receiver.validation_accuracy,
            "hyperparameter": receiver.hyperparameter,
            "at_the_edge": receiver.at_the_edge,
        }
    if point.is_network:
        seconds = read_array(kind.folder / kind.network_file(point), "cpu_seconds")
        row |= {"seed": point.seed, "train_cpu_seconds": float(seconds[0])}
    reference = kind.folder / _REFERENCE
    if point.reads == "originals":
        write_arrays(reference, correct=correct)
    scores = {
        "accuracy": accuracy_interval(correct),
        "lost": accuracy_lost(read_array(reference, "correct"), correct),
    }
    for name, (estimate, low, high) in scores.items():
        row |= {name: estimate, f"{name}_low": low, f"{name}_high": high}
    sizes = {f"{split}_photographs": len(labels[split]) for split in ("train", "test")}
    kind.keep(job, row | sizes, report)


def _bits(kind: ProbeKind, point: Reading) -> dict[str, float]:
    """Bits a pixel of the test photographs' file, without what is not read of it."""
    readings = kind.readings(point.quality, "test")
    pixels = readings.pixels.sum()
    read_bytes = readings.bytes_1 if point.layers == 1 else readings.bytes_2
    beside = readings.file_bytes[0] - readings.bytes_2.sum()
    return {
        "bits_per_pixel": float(8 * (read_bytes.sum() + beside) / pixels),
        "payload_bits_per_pixel": float(8 * read_bytes.sum() / pixels),
    }
