"""Runs of recipes of photographs: one codec is fitted, and many ways to store them are compared."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.codecs.base_codec import BaseCodec
from quadrate.codecs.photo_codec import PhotoCodec, step_of
from quadrate.codecs.photo_quad import PhotoFile, Photograph, Rate, compress, psnr
from quadrate.core import draws
from quadrate.core.files import exists, write_text
from quadrate.errors import QuadrateError
from quadrate.evaluation.picture_scores import ms_ssim
from quadrate.experiments.recipes.photo_recipes import PhotoRecipe, PhotoStorage
from quadrate.experiments.runs.kind import Job, Kind, Row, Workers
from quadrate.experiments.runs.kinds import read_results
from quadrate.networks.backbones import load_lpips
from quadrate.networks.backbones.lpips import SMALLEST
from quadrate.networks.block_transform import BlockTransform
from quadrate.networks.restoration import Restoration
from quadrate.photo_config import RestorationConfig
from quadrate.sources.photographs import Photographs
from quadrate.training.checkerboard_fit import CheckerboardFit
from quadrate.training.processes import Report, one_thread, run_jobs
from quadrate.training.restoration_fit import Pool, RestorationFit

_CODEC = Path("codec.safetensors")
_CONTEXTS = Path("contexts.safetensors")  # the codec before its decoder is trained
_PLAIN_WIDTH = 32  # of the decoder before training, which adds nothing
_HELD_OUT = 10  # every tenth photograph, where there are no others for testing


class PhotoKind(Kind):
    """A recipe of photographs with its data.

    Attributes:
        train: What it is fitted to.
        test: What it is scored on.
    """

    recipe_class = PhotoRecipe

    @classmethod
    def options(cls, recipe: Any) -> frozenset[str]:
        """Return that other photographs may be stored."""
        return frozenset(("data",))

    def prepare(self) -> None:
        """Look the photographs up."""
        recipe = self.recipe
        self.train = Photographs(recipe.source, recipe.skip)
        self.test = Photographs(recipe.test or recipe.source, "" if recipe.test else recipe.skip)
        if not recipe.test:
            self.test.names = self.test.names[::_HELD_OUT]
            tested = set(self.test.names)
            self.train.names = [name for name in self.train.names if name not in tested]
        fingerprints = self.train.fingerprint, self.test.fingerprint
        self.decisive = list(fingerprints)
        self.described = {
            "source": {
                "name": str(recipe.source),
                "fingerprint": "".join(fingerprints),
                "photographs": len(self.train),
                "test_photographs": len(self.test),
            }
        }

    def needs(self, job: Job) -> list[Path]:
        """Return the codec's file for its own points; classical codecs need none."""
        return [_CODEC] if job.point.codec == "photo" else []

    def load(self, job: Job) -> PhotoCodec:
        """Return the codec."""
        return PhotoCodec.load(self.folder / _CODEC, self.device)

    def make(self, execution: Any, workers: Workers, report: Report) -> None:
        """Fit the codec: transform and contexts first, then its decoders, spread over processes.

        Each part is kept when it is whole; decoders go on from their checkpoints.
        """
        if exists(self.folder / _CODEC):
            return
        with one_thread():
            if not exists(self.folder / _CONTEXTS):
                start = time.process_time()
                self._fit_contexts(report).save(self.folder / _CONTEXTS)
                self._note("contexts", time.process_time() - start)
            codec = PhotoCodec.load(self.folder / _CONTEXTS)
        missing = [each for each in self.recipe.decoders if not exists(self._decoder(each.name))]
        run_jobs(_fit_decoder, self, missing, self.processes(workers), report)
        names = [each.name for each in self.recipe.decoders]
        decoders = {name: PhotoCodec.load(self._decoder(name)).networks[name] for name in names}
        PhotoCodec(codec.transform, codec.model, decoders, codec.rate_weight).save(
            self.folder / _CODEC
        )
        for name in names:
            self._decoder(name).unlink()
        report({"stage": self.recipe.name, "point": "codec"})

    def _decoder(self, name: str) -> Path:
        """Where a decoder is kept until all are there: a codec with this one alone."""
        return self.folder / f"{name}.safetensors"

    def _note(self, part: str, seconds: float) -> None:
        """Keep what a part of the fit took."""
        write_text(self.folder / f"{part}.json", json.dumps({"cpu_seconds": seconds}) + "\n")

    def _fit_contexts(self, report: Report) -> BaseCodec:
        recipe = self.recipe
        transform = BlockTransform.fit(self.train, recipe.contexts.ends[-1])

        def maps(number: int) -> Iterator[tuple[NDArray[np.float32], int]]:
            steps = recipe.finest, recipe.coarsest
            for crop, exponent in self._crops("contexts", number, recipe.crops, steps):
                yield transform.forward(crop) / np.float32(step_of(exponent)), exponent

        model = CheckerboardFit(recipe.contexts, maps, recipe.seed, report).run()
        plain = draws.build_with_seed(
            lambda: Restoration(_PLAIN_WIDTH), draws.key(recipe.seed, "plain")
        )
        return PhotoCodec(
            transform, model, {"faithful": plain}, rate_weight=recipe.contexts.rate_weight
        )

    def fit_decoder(self, config: RestorationConfig, report: Report) -> None:
        """Train one of the decoders, or go on with it, and keep it."""
        codec = PhotoCodec.load(self.folder / _CONTEXTS)
        start = time.process_time()
        fit = RestorationFit(config, self._pool(codec), self.recipe.seed, report, self.device)
        checkpoint = self.folder / f"{config.name}.checkpoint"
        network = fit.run(checkpoint, f"{config} {self.decisive} {self.recipe.seed}")
        self._note(config.name, time.process_time() - start)
        whole = PhotoCodec(codec.transform, codec.model, {config.name: network})
        whole.save(self._decoder(config.name))
        checkpoint.unlink(missing_ok=True)

    def _pool(self, codec: PhotoCodec) -> Pool:
        decoded, originals, steps = [], [], []
        recipe = self.recipe
        range_of_steps = recipe.finest, recipe.decoder_coarsest
        for crop, exponent in self._crops("restoration", 0, recipe.decoder_crops, range_of_steps):
            payloads = codec.encode(crop, exponent)
            coefficients, _ = codec.coefficients(payloads, crop.shape)
            decoded.append(codec.transform.inverse(coefficients).astype(np.float16))
            originals.append(crop)
            steps.append(step_of(exponent))
        return Pool(
            torch.from_numpy(np.stack(decoded)),
            torch.from_numpy(np.stack(originals)),
            torch.tensor(steps),
        )

    def _crops(
        self, role: str, number: int, count: int, steps: tuple[float, float]
    ) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Crops, each with the exponent of a step, which are spread evenly on a log scale."""
        recipe = self.recipe
        low, high = (64 * np.log2(step) for step in steps)
        shares = draws.uniform("steps", role, recipe.seed, number, shape=(count,)).numpy()
        side = recipe.side - recipe.side % 16
        crops = self.train.crops(count, side, role, recipe.seed, number)
        for crop, share in zip(crops, shares, strict=True):
            yield crop, round(float(low + share * (high - low)))

    def score(self, jobs: Sequence[Job], workers: Workers, report: Report, quick: bool) -> None:
        """Store every test photograph in a file of its own, each way."""
        run_jobs(_score_point, self, list(jobs), self.processes(workers), report)

    @staticmethod
    def plot(folders: Sequence[Path], path: Path) -> None:
        """Draw one run's quality against bits a pixel."""
        from quadrate.experiments.reports.photo_report import plot_rates

        if len(folders) != 1:
            raise QuadrateError("runs of photographs are drawn one by one; give one folder")
        plot_rates(*read_results(folders[0]), path)

    def draw(self, rows: Sequence[Row]) -> list[Path]:
        """Draw PSNR against bits a pixel."""
        from quadrate.experiments.reports.photo_report import plot_rates

        path = self.folder / "rates.png"
        plot_rates(self.recipe.name, rows, path)
        return [path]


def _fit_decoder(kind: PhotoKind, config: RestorationConfig, report: Report) -> None:
    kind.fit_decoder(config, report)


def _score_point(kind: PhotoKind, job: Job, report: Report) -> None:
    from threadpoolctl import threadpool_limits

    point = job.point
    codec = kind.load(job) if point.codec == "photo" else None
    # The networks of LPIPS are there where decoders were trained with them.
    guided = any(each.lpips or each.realism for each in kind.recipe.decoders)
    looks = load_lpips("alex") if codec is not None and guided else None
    scores = []
    with threadpool_limits(1), one_thread():
        for number in range(len(kind.test)):
            original = kind.test.read(number)
            size, decoded = _stored(codec, point, original)
            pair = torch.from_numpy(original), torch.from_numpy(decoded)
            rate_bits = 8 * size / original[0].size
            apart = math.nan
            if looks is not None and min(original.shape[1:]) >= SMALLEST:
                apart = float(looks(*(_coloured(each) for each in pair)))
            scores.append((rate_bits, psnr(original, decoded), ms_ssim(*pair), apart))
    table = np.array(scores)
    row = {
        "way": f"{point.codec} {point.decoder}".strip(),
        "quality": point.quality,
        "photographs": len(scores),
        "bits_per_pixel": float(table[:, 0].mean()),
        "psnr_db": float(table[:, 1].mean()),
        "psnr_db_standard_error": float(table[:, 1].std() / np.sqrt(len(table))),
        "ms_ssim": _mean(table[:, 2]),
        "lpips_alex": _mean(table[:, 3]),
    }
    kind.keep(job, row, report)


def _coloured(pixels: Tensor) -> Tensor:
    """As LPIPS takes them, (1, 3, H, W)."""
    return pixels.expand(3, -1, -1)[None].float()


def _mean(scores: NDArray[np.float64]) -> float | None:
    """The mean of those that there are."""
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else None


def _stored(
    codec: PhotoCodec | None, point: PhotoStorage, original: NDArray[np.uint8]
) -> tuple[int, NDArray[np.uint8]]:
    """The bytes of a photograph's file, and what comes back."""
    if codec is None:
        from quadrate.evaluation.classical import code_images

        coded = code_images(torch.from_numpy(original)[None], point.codec, point.quality)
        return int(coded.file_bytes.sum()), coded.images[0].numpy()
    file = io.BytesIO()
    compress(codec, [Photograph(original)], file, Rate(quality=point.quality))
    with PhotoFile(file.getvalue(), codec) as opened:
        return len(file.getvalue()), opened.photograph(0, point.decoder).pixels
