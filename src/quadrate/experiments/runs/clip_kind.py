"""Runs of CLIP recipes: symbols that published bottlenecks expect, in real files."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.core.digests import digest
from quadrate.core.files import exists, read_bytes
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.feature_recipes import ClipBottleneck, ClipRecipe
from quadrate.experiments.runs.kind import Job, Kind, Workers
from quadrate.training.processes import Report, run_jobs

if TYPE_CHECKING:
    from quadrate.codecs import PublishedBottleneck

_REACH = 400  # symbols on either side of the median; beyond it the published densities have no mass
_REPEATS = 5


class ClipKind(Kind):
    """A CLIP recipe with its published bottlenecks, from `$QUADRATE_DATA/lossyless/`."""

    recipe_class = ClipRecipe

    def prepare(self) -> None:
        """Find the bottlenecks."""
        self._published = {point: _find(point) for point in self.recipe.points}
        contents = [read_bytes(path).hex() for path in self._published.values()]
        self.decisive = [digest(*contents)]
        self.described = {"source": {"name": "lossyless", "fingerprint": digest(*contents)}}

    def published(self, point: ClipBottleneck) -> PublishedBottleneck:
        """Return a bottleneck as it was published.

        Raises:
            QuadrateError: If its file is damaged.
        """
        from quadrate.codecs import PublishedBottleneck

        return PublishedBottleneck.load(self._published[point])

    def codec_file(self, point: ClipBottleneck) -> Path:
        """Return the file of the bottleneck's codec, which `FeatureCodec.load` reads."""
        return self.folder / "codecs" / f"{point.key}.safetensors"

    def needs(self, job: Job) -> list[Path]:
        """Return the codec's file."""
        return [self.codec_file(job.point).relative_to(self.folder)]

    def make(self, execution: Any, workers: Workers, report: Report) -> None:
        """Freeze the bottlenecks."""
        points = [point for point in self.recipe.points if not exists(self.codec_file(point))]
        run_jobs(_freeze, self, points, self.processes(workers), report)

    def score(self, jobs: Sequence[Job], workers: Workers, report: Report, quick: bool) -> None:
        """Code symbols with each bottleneck."""
        run_jobs(_score_point, self, jobs, self.processes(workers), report)


def draw_symbols(
    published: PublishedBottleneck, count: int, seed: int
) -> tuple[NDArray[np.int64], float]:
    """Symbols under a bottleneck's own density, and their entropy, in float64 and without tables.

    Args:
        published: The bottleneck, of d dimensions.
        count: How many samples.
        seed: Keys the draw.

    Returns:
        Symbols, int64 (count, d), and bits a sample.

    Raises:
        QuadrateError: If the density reaches further than symbols are drawn from.
    """
    density = copy.deepcopy(published.bottleneck.density).double()
    medians = published.quantiles[:, 1].double()
    symbols = torch.arange(-_REACH, _REACH + 1, dtype=torch.float64)[:, None]
    masses = density.mass(medians + symbols - 0.5, medians + symbols + 0.5).T.numpy()  # (d, K)
    if (least := masses.sum(axis=1).min()) < 1 - 1e-6:
        raise QuadrateError(
            f"only {least:.6f} of a dimension's mass lie within {_REACH} symbols of its median;"
            " published bottlenecks keep all there"
        )
    entropy = -(masses * np.log2(np.maximum(masses, 1e-300))).sum()
    draw = np.random.default_rng(seed)
    columns = [
        np.searchsorted(np.cumsum(row) / row.sum(), draw.random(count), side="right") - _REACH
        for row in masses
    ]
    return np.stack(columns, axis=1), float(entropy)


def _find(point: ClipBottleneck) -> Path:
    by_hand = (
        "download it from release v1.0 of github.com/YannDubs/lossyless into <folder>/lossyless/"
        " and set QUADRATE_DATA=<folder>"
    )
    if not (root := os.environ.get("QUADRATE_DATA")):
        raise QuadrateError(f"{point.file} is missing (QUADRATE_DATA is not set); {by_hand}")
    path = Path(root).expanduser() / "lossyless" / point.file
    if not path.is_file():
        raise QuadrateError(f"{point.file} is missing; looked in {path.parent}; {by_hand}")
    return path


def _freeze(run: ClipKind, point: ClipBottleneck, report: Report) -> None:
    run.published(point).codec().save(run.codec_file(point))
    report({"stage": run.recipe.name, "point": f"codec of {point.key}"})


def _score_point(run: ClipKind, job: Job, report: Report) -> None:
    from quadrate.codecs import FeatureCodec

    point = job.point
    path = run.codec_file(point)
    codec = FeatureCodec.load(path)
    symbols, entropy = draw_symbols(run.published(point), point.samples, point.seed)
    features = codec.reconstruct(codec.dequantize(torch.from_numpy(symbols))).numpy()
    encoding, data = _least_seconds(lambda: codec.compress(features))
    decoding, back = _least_seconds(lambda: codec.decompress(data))
    if not np.array_equal(back, features):
        raise QuadrateError(
            f"{point.key}: the file gives back other features than went in; report this as a defect"
            " of Quadrate"
        )
    bits = 8 * len(data) / point.samples
    row = {
        "beta": point.beta,
        "samples": point.samples,
        "seed": point.seed,
        "model_entropy_bits": entropy,
        "disk_bits": bits,
    }
    row |= {
        "over_entropy_percent": 100 * (bits / entropy - 1),
        "codec_file_bytes": path.stat().st_size,
    }
    run.keep(
        job,
        row
        | {
            "encoded_a_second": point.samples / encoding,
            "decoded_a_second": point.samples / decoding,
        },
        report,
    )


def _least_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """The least processor time of some runs, and what the last of them returned."""
    seconds = []
    for _ in range(_REPEATS):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return min(seconds), result
