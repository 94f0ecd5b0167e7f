"""Run folders: one recipe on one source, with everything that decides its numbers in the folder's name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quadrate import __version__, draws
from quadrate.bottlenecks.collapse import warn_if_collapsed
from quadrate.codec import Codec
from quadrate.config import OperatingPoint, Recipe, Stage, digest, from_json, to_json
from quadrate.errors import QuadrateError
from quadrate.files import read_json, write_text
from quadrate.networks.family import Family, find_family
from quadrate.objectives import Term, find_term
from quadrate.runs.folder import describe, read_recipe_fields, to_csv
from quadrate.runs.seeds import Item, take_over
from quadrate.sources import Source, load_source, pixels
from quadrate.training.judges import find_judge
from quadrate.training.processes import Report, available_cores, one_thread, run_jobs
from quadrate.training.stages import Assignment, Execution, train_stage

_LONG = 100  # dimensions
_ENTROPY = ("rate_entropy_bits", "rate_entropy_stderr", "rate_entropy_method")


def _silent(message: dict[str, Any]) -> None:
    """The default report: none."""


class Run:
    """A recipe at work: its source, its judges, its folder.

    The folder is `root/NAME-DIGEST`; the digest covers the recipe with all its settings, the source's contents, the judge's weights, and the user's
    own networks and terms by name. So the same command finds its own folder again, finished or not, and a changed one never meets another's files.

    Args:
        recipe: What to train.
        root: Where run folders live.
        device: "cpu" or "cuda".
        source: A source of the user's own, in place of the recipe's.
        family: Networks of the user's own, in place of the recipe's.
        terms: The user's own terms of the loss, beside those that the recipe names.

    Raises:
        QuadrateError: If data, a judge, a named term or the device is missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path | str = "runs",
        device: str = "cpu",
        source: Source | None = None,
        family: Family | None = None,
        terms: Sequence[Term] = (),
    ) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise QuadrateError("device 'cuda' was asked for, but this machine (or this build of torch) has none; use --device cpu")
        self.recipe, self.root, self.device = recipe, Path(root), device
        self.terms = (*terms, *(find_term(term.name, term.weight) for term in recipe.terms))
        names = [term.name for term in self.terms]
        if twice := [name for name in names if names.count(name) > 1]:
            raise QuadrateError(f"the loss term {twice[0]!r} is given twice; give it once, with the sum of its weights")
        self.source = (source or load_source(recipe.source)).to(device)
        self.family = family or find_family(recipe.family)
        if self.source.noise_std:
            raise QuadrateError("give the noise to the recipe's stages (Stage.noise_std), not to the source: it belongs to the run's configuration")
        with one_thread():  # a judge that is trained here must not depend on how many cores there are
            self.judge = find_judge(recipe.judge, self.source, self.root / "judges")
        self._beside = [
            self.source.fingerprint,
            self.family.name,
            *names,
            _weights_digest(self.judge.module),
        ]  # what else decides numbers
        self.folder = self._folder_of(recipe)

    def train(self, execution: Execution = "auto", workers: int | None = None, report: Report = _silent) -> Run:
        """Trains every stage in order, skipping what is trained and resuming what was interrupted; returns itself.

        What the same recipe with other seeds has trained under the same root is taken over.

        Raises:
            QuadrateError: As `quadrate.training.train_stage`.
        """
        self.begin()
        for stage in self.recipe.stages:
            details = {"recipe": self.recipe.name, "source": self.source.name, "fingerprint": self.source.fingerprint, "version": __version__}
            assignment = Assignment(stage, self.source, self.family, self.judge.module, self.folder, details, self.terms)
            train_stage(assignment, execution, workers, report)
        return self

    def _folder_of(self, recipe: Recipe) -> Path:
        """Where a recipe is trained on this run's source, with its judge, networks and terms."""
        return self.root / f"{recipe.name}-{digest(to_json(recipe), *self._beside)}"

    def begin(self) -> None:
        """Writes the resolved configuration, once, and takes over what the same recipe with other seeds has trained; `train` does it first.

        Raises:
            QuadrateError: If a file cannot be written.
        """
        source = {"name": self.source.name, "fingerprint": self.source.fingerprint, "shape": self.source.shape}
        judge = {"name": self.judge.name, "accuracy": self.judge.accuracy, "cross_entropy_nats": self.judge.cross_entropy_nats}
        describe(self.folder, self.recipe, source, family=self.family.name, terms=[term.name for term in self.terms], judge=judge)
        take_over(self.recipe, self._folder_of, [_item(stage, point) for stage in self.recipe.stages for point in stage.points])

    def place(self, stage: Stage | str, point: OperatingPoint) -> Path:
        """The folder of one point."""
        return self.folder / (stage if isinstance(stage, str) else stage.name) / point.key

    def is_scored(self, stage: Stage | str, point: OperatingPoint) -> bool:
        """Whether all that the protocol measures of every codec is measured of a point."""
        from quadrate.evaluation import COLUMNS

        return set(COLUMNS) <= _scores(self.place(stage, point)).keys()

    def codec(self, stage: str, point: OperatingPoint) -> Codec:
        """A trained codec.

        Raises:
            QuadrateError: If it is not trained yet.
        """
        return Codec.load(self.place(stage, point) / "model.safetensors", self.family, self.device)

    def universal_codec(self, stage: str, seed: int = 0) -> Codec:
        """One encoder and all the decoders that a universal stage trained on it for a seed, by their purposes."""
        points = [point for point in self.recipe.stage(stage).points if point.seed == seed]
        codecs = [self.codec(stage, point) for point in points]
        for other in codecs[1:]:
            name = other.point.purpose if other.point.purpose not in codecs[0].decoders else other.point.key
            codecs[0].add_decoder(other, name)
        return codecs[0]

    def evaluate(self, workers: int | None = None, report: Report = _silent) -> list[dict[str, Any]]:
        """Scores every trained point that is not scored yet, by the fixed protocol on the test set; what an earlier version measured is kept.

        Warns (`QuadrateWarning`) of points that have collapsed (`quadrate.bottlenecks.collapse`).

        Returns:
            One row a point: stage, weights, seed, rates, scores and cost.

        Raises:
            QuadrateError: If no point is trained.
        """
        pairs = [(stage, point) for stage in self.recipe.stages for point in stage.points]
        trained = [(stage, point) for stage, point in pairs if (self.place(stage, point) / "model.safetensors").exists()]
        if not trained:
            raise QuadrateError(f"nothing is trained in {self.folder}; run `quadrate train {self.recipe.name}` first")
        pending = [pair for pair in trained if not self.is_scored(*pair)]
        if pending:
            from quadrate.evaluation import prepare

            with one_thread():
                independent = find_judge(self.recipe.independent_judge, self.source, self.root / "judges", seed=1)
                judges = {"training": self.judge, "independent": independent}
                prepare(self.source, judges, cache_dir=self.root / "floors")
            jobs = [(stage, point, self.place(stage, point)) for stage, point in pending]
            on_cpu = self.device == "cpu"
            shared = (self.source, self.family, judges, self.root / "floors", self.device)
            run_jobs(_evaluate_point, shared, jobs, (workers or available_cores()) if on_cpu else 1, report)
        _, results = read_results(self.folder)
        write_text(self.folder / "results.csv", to_csv(results))
        for row in results:
            what = " ".join(f"{name}={row[name]}" for name in ("levels", "lambda_d", "lambda_p", "lambda_c", "seed"))
            training, count = self.recipe.stage(row["stage"]).training, len(self.source.train)
            steps = training.epochs * (count // min(training.batch, count))
            warn_if_collapsed(f"the point {what} of stage {row['stage']!r}", row["rate_entropy_bits"], row["rate_bound_bits"], steps=steps)
        return results

    @classmethod
    def open(cls, folder: Path | str, device: str = "cpu") -> Run:
        """A run by its folder.

        Raises:
            QuadrateError: If there is no run there, or its data are not what they were.
        """
        folder = Path(folder)
        recipe = _read_recipe(folder)
        run = cls(recipe, folder.parent, device)
        if run.folder.name != folder.resolve().name:
            raise QuadrateError(f"{folder} was trained on other data, judges or networks than are found now (now: {run.folder.name})")
        return run


def _item(stage: Stage, point: OperatingPoint) -> Item:
    """A point's folder, which is built on another's codec where its stage has a base."""
    place, base = Path(stage.name, point.key), stage.base_of(point)
    return Item(place, place / "model.safetensors", Path(stage.base_stage, base.key, "model.safetensors") if base else None)


def read_results(folder: Path | str) -> tuple[str, list[dict[str, Any]]]:
    """The recipe's name and the scored rows of a run folder, without its data or judges.

    Raises:
        QuadrateError: If there is no run there, or none of its points is scored.
    """
    folder = Path(folder)
    recipe = _read_recipe(folder)
    rows = [
        read_json(path) for stage in recipe.stages for point in stage.points if (path := folder / stage.name / point.key / "evaluation.json").exists()
    ]
    if not rows:
        raise QuadrateError(f"no point of {folder} is scored yet; run `quadrate evaluate {folder}` first")
    return recipe.name, rows


def _read_recipe(folder: Path) -> Recipe:
    return from_json(Recipe, json.dumps(read_recipe_fields(folder)))


def _levels_text(levels: tuple[int, ...]) -> str:
    """Levels as 3x3x3, and those of a long code as 256^1568."""
    return f"{levels[0]}^{len(levels)}" if len(levels) > _LONG and len(set(levels)) == 1 else "x".join(map(str, levels))


def _weights_digest(module: nn.Module) -> str:
    return digest(*(name + tensor.cpu().numpy().tobytes().hex() for name, tensor in sorted(module.state_dict().items())))


@dataclass(frozen=True)
class _Reconstruction:
    """A codec on what its encoder sees, as the evaluation calls it."""

    codec: Codec
    source: Source

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        generator = draws.generator(seed, "evaluation noise", device=images.device)
        return self.codec.reconstruct(self.source.observe(pixels(images), generator), seed)


def _scores(place: Path) -> dict[str, Any]:
    """What is measured of a point already."""
    path = place / "evaluation.json"
    row = read_json(path) if path.exists() else {}
    return row if isinstance(row, dict) else {}


def _entropy(codec: Codec, source: Source, seed: int, device: str) -> dict[str, Any]:
    """H(Z|U) of the codec's symbols."""
    from quadrate.bottlenecks import conditional_entropy_bits

    latents = []
    for split in (source.train, source.validation):
        generator = draws.generator(seed, "entropy noise", device=device)
        latents.append(codec.source_latents(source, split.images, generator))
    entropy = conditional_entropy_bits(latents[0], latents[1], codec.levels)
    return dict(zip(_ENTROPY, (entropy.bits, entropy.stderr, entropy.method), strict=True))


def _evaluate_point(shared: tuple[Any, ...], job: tuple[Stage, OperatingPoint, Path], report: Report) -> None:
    """Scores one point and writes its row."""
    from quadrate.evaluation import evaluate
    from quadrate.reports.grids import save_grid

    source, family, judges, floors, device = shared
    stage, point, place = job
    source = replace(source, noise_std=stage.noise_std)
    codec = Codec.load(place / "model.safetensors", family, device)
    reconstruct = _Reconstruction(codec, source)
    known = _scores(place)
    row: dict[str, Any] = {
        "stage": stage.name,
        "levels": _levels_text(codec.levels),
        "lambda_d": point.lambda_d,
        "lambda_p": point.lambda_p,
        "lambda_c": point.lambda_c,
        "seed": point.seed,
        "noise_std": stage.noise_std,
        "rate_bound_bits": codec.rate_bound_bits,
    }
    row |= {name: known[name] for name in _ENTROPY} if set(_ENTROPY) <= known.keys() else _entropy(codec, source, point.seed, device)
    row |= evaluate(reconstruct, source, judges, legacy_critic=codec.critic, cache_dir=floors, known=known)
    row |= {"train_cpu_seconds": codec.details["cpu_seconds"], "train_wall_seconds": codec.details["wall_seconds"]}
    shown = source.test.images[:16]
    save_grid(place / "samples.png", [pixels(shown), reconstruct(shown, 0)])
    write_text(place / "evaluation.json", json.dumps(row, indent=1))
    report({"stage": stage.name, "point": point.key, **row})
