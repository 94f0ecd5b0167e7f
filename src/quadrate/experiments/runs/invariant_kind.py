"""Runs of invariant codecs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quadrate import __version__
from quadrate.bottlenecks.collapse import warn_if_constant
from quadrate.config import InvariantConfig
from quadrate.core import draws
from quadrate.core.files import exists
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.experiments.runs.kind import Item, Job, Kind, Row, Workers
from quadrate.sources import Source, load_source
from quadrate.sources.symmetry import (
    Banana,
    OrbitSplits,
    Population,
    dihedral_patterns,
    orbit_splits,
)
from quadrate.training.invariant_trainer import train_invariant
from quadrate.training.processes import Report, run_jobs

if TYPE_CHECKING:
    from quadrate.codecs import InvariantCodec

POPULATIONS = ("banana", "patterns")  # sources that are drawn from at will
_HELD_OUT_SAMPLES = 5000  # at most
_FIT_SAMPLES = 100_000  # members that the joint tables are fitted to


class InvariantKind(Kind):
    """An invariant recipe with its images, or with samples drawn at will."""

    recipe_class = InvariantRecipe

    @classmethod
    def options(cls, recipe: Any) -> frozenset[str]:
        """Return that other seeds may be trained, and other images, not other fresh samples."""
        return frozenset(("seeds",) if recipe.source in POPULATIONS else ("seeds", "data"))

    def prepare(self) -> None:
        """Load the images, if the recipe's source is a data set."""
        name = self.recipe.source
        self.source = None if name in POPULATIONS else load_source(name)
        fingerprint = self.source.fingerprint if self.source else name
        self.decisive = [fingerprint]
        self.described = {"source": {"name": name, "fingerprint": fingerprint}}

    def load(self, job: Job) -> InvariantCodec:
        """Return a trained codec."""
        from quadrate.codecs import InvariantCodec

        return InvariantCodec.load(self.folder / job.model)

    def shown(self) -> list[tuple[InvariantConfig, InvariantCodec]]:
        """Return the trained codecs for pictures: the first of each objective."""
        first: dict[str, Job] = {}
        for job in self.jobs(self.recipe):
            if exists(self.folder / job.model):
                first.setdefault(job.point.objective, job)
        return [(job.point, self.load(job)) for job in first.values()]

    def samples(self, count: int) -> tuple[Tensor, Tensor]:
        """Return some test members, and the samples that they came from: (count, ...) each."""
        generator = draws.generator("invariant shown members")
        if self.source is None:
            source = _population(self.recipe, self.recipe.points[0])
            x = source.sample(count, "shown").float()
            return source.sample_orbit(x, generator), x
        test, chosen = _splits(self.source, self.recipe.augmentation).test, torch.arange(count)
        return test.sample_orbit(chosen, generator), test.representatives(chosen)

    def items(self) -> list[Item]:
        """Return the codecs' folders, and scores that are built on them."""
        jobs = self.jobs(self.recipe)
        rows = [(self.row_file(job), job.model) for job in jobs]
        return [Item(job.place, job.model) for job in jobs] + [
            Item(row, row, model) for row, model in rows
        ]

    def make(self, execution: Any, workers: Workers, report: Report) -> None:
        """Train the points that are not trained, each in a process."""
        jobs = [job for job in self.jobs(self.recipe) if not exists(self.folder / job.model)]
        run_jobs(_train_point, self, jobs, self.processes(workers), report)

    def score(self, jobs: Sequence[Job], workers: Workers, report: Report, quick: bool) -> None:
        """Score points, each in a process."""
        run_jobs(_score_point, self, jobs, self.processes(workers), report)

    def draw(self, rows: Sequence[Row]) -> list[Path]:
        """Draw the curve, and what codecs do to samples."""
        from quadrate.experiments.reports import invariant_figures as figures

        if self.recipe.source == "patterns":
            return []
        curve, samples = self.folder / "trade-off.png", self.folder / "samples.png"
        shown = self.shown()
        if self.source is None:
            figures.draw_banana(rows, self.recipe.augmentation, curve)
            figures.draw_quantization(
                [
                    (f"{figures.LABELS[point.objective]}, β = {point.beta:g}", codec)
                    for point, codec in shown
                ],
                *self.samples(3000),
                samples,
            )
        else:
            figures.draw_accuracy(rows, curve)
            members, originals = self.samples(14)
            named = [
                (f"{figures.LABELS[point.objective]}, β = {point.beta:g}", codec)
                for point, codec in shown
                if codec.decoders
            ]
            if not named:
                return [curve]
            figures.draw_reconstructions(
                [(name, figures.reconstructing(codec)) for name, codec in named],
                members,
                originals,
                samples,
            )
        return [curve, samples]


def _population(recipe: InvariantRecipe, point: InvariantConfig) -> Population:
    """Where samples of no data set come from.

    On the banana VC knows of no invariance, as published.
    """
    if recipe.source == "patterns":
        return dihedral_patterns(3, (0.5, 0.5))
    return Banana("none" if point.objective == "vc" else recipe.augmentation)  # type: ignore[arg-type]


def _splits(source: Source, augmentation: str) -> OrbitSplits:
    return orbit_splits(
        source, augmentation.removesuffix("-sup"), by_label=augmentation.endswith("-sup")
    )


def _fit_members(data: Population | OrbitSplits, seed: int) -> Tensor:
    """Members that tables are fitted to.

    Of fresh samples, or of all training samples, as often as makes about `_FIT_SAMPLES`.
    """
    generator = draws.generator("invariant fit members", seed)
    if isinstance(data, Population):
        return data.sample_orbit(data.sample(_FIT_SAMPLES, "tables", seed).float(), generator)
    everything = torch.arange(len(data.train), device=data.train.points.device)
    return torch.cat(
        [
            data.train.sample_orbit(everything, generator)
            for _ in range(-(-_FIT_SAMPLES // len(everything)))
        ]
    )


def _held_out_members(data: Population | OrbitSplits, seed: int) -> Tensor:
    """Members of samples that trained nothing, one each, to recognize similar samples by."""
    generator = draws.generator("invariant held-out members", seed)
    if isinstance(data, Population):
        return data.sample_orbit(
            data.sample(_HELD_OUT_SAMPLES, "held out", seed).float(), generator
        )
    return data.validation.sample_orbit(
        torch.arange(min(len(data.validation), _HELD_OUT_SAMPLES)), generator
    )


def _train_point(run: InvariantKind, job: Job, report: Report) -> None:
    """Train one point and write its codec."""
    recipe, source, device = run.recipe, run.source, run.device
    point, place = job.point, run.folder / job.place
    data = _splits(source, recipe.augmentation) if source else _population(recipe, point)
    train = data if isinstance(data, Population) else data.train.to(device)

    def progress(row: dict[str, Any]) -> None:
        report(
            {
                "stage": recipe.name,
                "point": point.key,
                "epoch": row["step"],
                "epochs": row["steps"],
                **row,
            }
        )

    trained = train_invariant(train, point, progress, place / "checkpoint.safetensors")
    for module in (trained.encoder, trained.head, trained.bottleneck):
        module.cpu()
    seconds = {
        "cpu_seconds": round(trained.cpu_seconds, 1),
        "wall_seconds": round(trained.wall_seconds, 1),
    }
    details = {"recipe": recipe.name, "version": __version__, **seconds}
    members = _fit_members(data, point.seed)
    trained.codec(members, details, _held_out_members(data, point.seed)).save(
        place / "model.safetensors"
    )
    (place / "checkpoint.safetensors").unlink(missing_ok=True)


def _score_point(run: InvariantKind, job: Job, report: Report) -> None:
    """Score one point and write its rows."""
    from quadrate.evaluation.invariant_scores import score_images, score_population

    recipe, point, codec = run.recipe, job.point, run.load(job)
    data = _splits(run.source, recipe.augmentation) if run.source else _population(recipe, point)
    warn_if_constant(
        f"the codec {point.key}",
        codec.encode(_held_out_members(data, point.seed)).numpy(),
        steps=point.steps,
    )
    row: dict[str, Any] = {
        name: getattr(point, name)
        for name in (
            "objective",
            "beta",
            "dims",
            "bottleneck",
            "schedule",
            "steps",
            "batch",
            "seed",
        )
    }
    size = (run.folder / job.model).stat().st_size
    cost = {"codec_file_bytes": size}
    cost |= {
        f"train_{name}": codec.details[name]
        for name in ("cpu_seconds", "wall_seconds")
        if name in codec.details
    }
    if run.source is None:
        rows = [row | score_population(codec, _population(recipe, point)) | cost]
    else:
        row |= {"augmentation": recipe.augmentation}
        groups = recipe.predictors if point == recipe.points[0] else recipe.predictors[:1]
        scores = [
            score_images(codec, _splits(run.source, name), name)
            for name in groups or (recipe.augmentation,)
        ]
        rows = [
            row | own | (cost if i == 0 else {}) for i, own in enumerate(scores)
        ]  # what training took counts once
    run.keep(job, {**rows[0], "rows": rows}, report)
