"""Run folders of invariant recipes."""

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
from quadrate.experiments.runs.point_run import PointRun
from quadrate.experiments.runs.seeds import Item, take_over
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


class InvariantRun(PointRun):
    """An invariant recipe at work, in the folder `root/NAME-DIGEST`.

    A codec a point, and its scores.

    Args:
        recipe: What to train.
        root: Where run folders live.
        device: "cpu" or "cuda".

    Attributes:
        source: The images, if the recipe's source is a data set.

    Raises:
        QuadrateError: If data or the device are missing.
    """

    recipe_class = InvariantRecipe

    def __init__(
        self, recipe: InvariantRecipe, root: Path | str = "runs", device: str = "cpu"
    ) -> None:
        self.source = None if recipe.source in POPULATIONS else load_source(recipe.source)
        fingerprint = self.source.fingerprint if self.source else recipe.source
        super().__init__(recipe, (recipe.source, fingerprint), root, device)

    def place(self, point: InvariantConfig) -> Path:
        """The folder of one point."""
        return self.folder / point.key

    def codec(self, point: InvariantConfig) -> InvariantCodec:
        """A trained codec.

        Raises:
            QuadrateError: If it is not trained yet.
        """
        from quadrate.codecs import InvariantCodec

        return InvariantCodec.load(self.place(point) / "model.safetensors")

    def shown(self) -> list[tuple[InvariantConfig, InvariantCodec]]:
        """The trained codecs of seed 0 for pictures: of each objective the first."""
        first: dict[str, InvariantConfig] = {}
        for point in self.recipe.points:
            if exists(self.place(point) / "model.safetensors"):
                first.setdefault(point.objective, point)
        return [(point, self.codec(point)) for point in first.values()]

    def samples(self, count: int) -> tuple[Tensor, Tensor]:
        """Some test members, and the samples or images that they came from: (count, ...) each."""
        generator = draws.generator("invariant shown members")
        if self.source is None:
            source = _population(self.recipe, self.recipe.points[0])
            x = source.sample(count, "shown").float()
            return source.sample_orbit(x, generator), x
        test, chosen = _splits(self.source, self.recipe.augmentation).test, torch.arange(count)
        return test.sample_orbit(chosen, generator), test.representatives(chosen)

    def _needed(self) -> list[Path]:
        return [self.place(point) / "model.safetensors" for point in self.recipe.points]

    def _read_by(self, point: InvariantConfig) -> list[Path]:
        return [self.place(point) / "model.safetensors"]

    def _make(self, workers: int, report: Report) -> None:
        models = [Path(point.key, "model.safetensors") for point in self.recipe.points]
        rows = [self._row_file(point).relative_to(self.folder) for point in self.recipe.points]
        items = [Item(model.parent, model) for model in models] + [
            Item(row, row, model) for row, model in zip(rows, models, strict=True)
        ]
        take_over(self.recipe, self._folder_of, items)
        jobs = [
            (point, path.parent)
            for point, path in zip(self.recipe.points, self._needed(), strict=True)
            if not exists(path)
        ]
        run_jobs(_train_point, (self.recipe, self.source, self.device), jobs, workers, report)

    def _score(self, points: Sequence[InvariantConfig], workers: int, report: Report) -> None:
        run_jobs(_score_point, self, points, workers, report)


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
    """Members of samples that trained nothing, one each, by which a codec knows samples that are like them."""
    generator = draws.generator("invariant held-out members", seed)
    if isinstance(data, Population):
        return data.sample_orbit(
            data.sample(_HELD_OUT_SAMPLES, "held out", seed).float(), generator
        )
    return data.validation.sample_orbit(
        torch.arange(min(len(data.validation), _HELD_OUT_SAMPLES)), generator
    )


def _train_point(
    shared: tuple[InvariantRecipe, Source | None, str],
    job: tuple[InvariantConfig, Path],
    report: Report,
) -> None:
    """Trains one point and writes its codec."""

    recipe, source, device = shared
    point, place = job
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


def _score_point(run: InvariantRun, point: InvariantConfig, report: Report) -> None:
    """Scores one point and writes its rows."""
    from quadrate.evaluation.invariant_scores import score_images, score_population

    recipe, codec = run.recipe, run.codec(point)
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
    size = (run.place(point) / "model.safetensors").stat().st_size
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
    run.keep(point, {**rows[0], "rows": rows}, report)
