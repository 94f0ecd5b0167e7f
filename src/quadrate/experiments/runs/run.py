"""Run folders: one recipe on one source, with everything that decides its numbers in the folder's name."""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from quadrate import __version__
from quadrate.bottlenecks.collapse import warn_if_collapsed
from quadrate.codecs import TradeoffCodec
from quadrate.config import OperatingPoint, Recipe, Stage, to_json
from quadrate.core.devices import find_device
from quadrate.core.digests import digest
from quadrate.core.files import exists, write_text
from quadrate.core.identity import weights_digest
from quadrate.core.progress import Showing, shown
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.experiments.runs.own import Own
from quadrate.experiments.runs.run_folder import describe, read_recipe, to_csv
from quadrate.experiments.runs.scoring import QUICK, Scoring, read_row, score_point
from quadrate.experiments.runs.seeds import Item, take_over
from quadrate.networks.family import CLASSIFIERS, Family, find_family
from quadrate.objectives import Term, find_term
from quadrate.sources import Source, load_source
from quadrate.sources.source import with_true_fingerprint
from quadrate.training.judges import Judge, find_judge
from quadrate.training.processes import available_cores, one_thread, run_jobs
from quadrate.training.stages import Assignment, Execution, train_stage

_LONGEST_FILE = ".checkpoint.safetensors.00000000"  # in a point's folder


class Run:
    """A recipe at work: its source, its judges, its folder.

    The folder is `root/NAME-DIGEST`; the digest covers the recipe with all its settings, the
    source's contents, the judge's weights, and the user's own networks, terms, judges and sources:
    their weights and their code, with the constants, closures and globals that it reads, or the
    version that he gave (`quadrate.core.identity`). So the same command finds its own folder again,
    finished or not, and a changed one never meets another's files. Where nobody can tell what code
    computes, the run warns and takes a fresh folder.

    Args:
        recipe: What to train.
        root: Where run folders live.
        device: "cpu" or "cuda".
        source: A source of the user's own, in place of the recipe's.
        family: Networks of the user's own, in place of the recipe's.
        terms: The user's own terms of the loss, beside those that the recipe names.

    Raises:
        QuadrateError: If data, a judge, a named term or the device is missing, a term is given
            twice, or a point needs labels and the source has none.

    Warns:
        QuadrateWarning: If code of the user's own cannot be told from other code, so that the run
            takes a fresh folder.
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
        self.recipe, self.root, self.device = recipe, Path(root), str(find_device(device))
        self.terms = (*terms, *(find_term(term.name, term.weight) for term in recipe.terms))
        names = [term.name for term in self.terms]
        if twice := [name for name in names if names.count(name) > 1]:
            raise QuadrateError(
                f"the loss term {twice[0]!r} is given twice; give it once, with the sum of its"
                " weights"
            )
        self.source = (
            load_source(recipe.source) if source is None else with_true_fingerprint(source)
        ).to(self.device)
        self.family = family or find_family(recipe.family)
        if self.source.noise_std:
            raise QuadrateError(
                "give the noise to the recipe's stages (Stage.noise_std), not to the source: it"
                " belongs to the run's configuration"
            )
        _check_labels(recipe, self.source)
        self.judge = self._find_judge(recipe.judge)
        self._own = Own(self.family, self.terms, self.source, self.judge)
        self._beside = [
            self.source.fingerprint,
            self.family.name,
            *names,
        ]  # what decides numbers beside the recipe
        if self.judge:
            self._beside.append(weights_digest(self.judge.module))
        if self._own.described:
            self._beside.append(json.dumps(self._own.described, sort_keys=True))
        if self._own.unknown:
            self._beside.append(secrets.token_hex(8))
        self.folder = self._folder_of(recipe)
        for line in self._own.unknown:
            warnings.warn(
                f"{line}; nothing that was trained before is used, and this run has a fresh folder,"
                f" {self.folder}",
                QuadrateWarning,
                2,
            )

    def train(
        self, execution: Execution = "auto", workers: int | None = None, report: Showing = "auto"
    ) -> Run:
        """Trains every stage in order, skipping what is trained and resuming what was interrupted.

        Returns itself.

        What the same recipe with other seeds has trained under the same root is taken over.
        Progress is shown on a terminal and in notebooks; a function as `report` takes it instead
        (`quadrate.core.progress.shown` says in what form), and None silences it.

        Raises:
            QuadrateError: As `quadrate.training.train_stage`.
        """
        self.begin()
        pending = sum(
            not exists(self.place(stage, point) / "model.safetensors")
            for stage in self.recipe.stages
            for point in stage.points
        )
        classifier = self.judge.module if self.judge else None
        with shown(report, "training", pending) as told:
            for stage in self.recipe.stages:
                details = {
                    "recipe": self.recipe.name,
                    "source": self.source.name,
                    "fingerprint": self.source.fingerprint,
                    "version": __version__,
                }
                assignment = Assignment(
                    stage, self.source, self.family, classifier, self.folder, details, self.terms
                )
                train_stage(assignment, execution, workers, told)
        return self

    def _find_judge(self, spec: str, seed: int = 0) -> Judge | None:
        """A judge, trained here if need be; None where there are no labels to judge by."""
        if not self.source.is_labelled:
            return None
        with (
            one_thread()
        ):  # a judge that is trained here must not depend on how many cores there are
            return find_judge(spec, self.source, self.root / "judges", seed=seed)

    def _folder_of(self, recipe: Recipe) -> Path:
        """Where a recipe is trained on this run's source, with its judge, networks and terms."""
        return self.root / f"{recipe.name}-{digest(to_json(recipe), *self._beside)}"

    def begin(self) -> None:
        """Writes the resolved configuration, once, and takes over what the same recipe with other
        seeds has trained; `train` does it first.

        Raises:
            QuadrateError: If a file cannot be written.
        """
        source = {
            "name": self.source.name,
            "fingerprint": self.source.fingerprint,
            "shape": self.source.shape,
        }
        judge: dict[str, Any] = {"name": "none, as the images have no labels"}
        if self.judge:
            judge = {
                "name": self.judge.name,
                "accuracy": self.judge.accuracy,
                "cross_entropy_nats": self.judge.cross_entropy_nats,
            }
        own = {"own": self._own.described} if self._own.described else {}
        for stage, point in self._pairs:
            exists(
                self.place(stage, point) / _LONGEST_FILE
            )  # a path that is too long is refused before anything is trained
        describe(
            self.folder,
            self.recipe,
            source,
            family=self.family.name,
            terms=[term.name for term in self.terms],
            **own,
            judge=judge,
        )
        take_over(
            self.recipe, self._folder_of, [_item(stage, point) for stage, point in self._pairs]
        )

    def place(self, stage: Stage | str, point: OperatingPoint) -> Path:
        """The folder of one point."""
        return self.folder / (stage if isinstance(stage, str) else stage.name) / point.key

    @property
    def _pairs(self) -> list[tuple[Stage, OperatingPoint]]:
        return [(stage, point) for stage in self.recipe.stages for point in stage.points]

    def is_scored(self, stage: Stage | str, point: OperatingPoint, quick: bool = False) -> bool:
        """Whether all that the protocol measures of every codec is measured of a point, with the
        codec, the images and the judges that are found now.

        Args:
            stage: The point's stage.
            point: The point.
            quick: Whether scores on quick terms will do; those on full terms always do.

        Raises:
            QuadrateError: If the scores that are there are damaged.
        """
        from quadrate.evaluation import columns_of

        place = self.place(stage, point)
        row = read_row(place)
        if (
            row is None
            or not set(columns_of(self.source)) <= row.keys()
            or not exists(place / "model.safetensors")
        ):
            return False
        is_quick = row.get("protocol") == QUICK
        return (quick or not is_quick) and not self._scoring(
            {"training": self.judge, "independent": self._found_judge}, is_quick
        ).differs(place)

    def _scoring(self, judges: dict[str, Judge | None], quick: bool) -> Scoring:
        return Scoring(self.source, self.family, judges, self.root / "floors", self.device, quick)

    @cached_property
    def _independent_judge(self) -> Judge | None:
        return self._find_judge(self.recipe.independent_judge, seed=1)

    @cached_property
    def _found_judge(self) -> Judge | None:
        """The independent judge if it is there already.

        Scores that were made with it are not held against one trained for nothing else.
        """
        spec, judges = self.recipe.independent_judge, self.root / "judges"
        if spec in CLASSIFIERS and not any(
            judges.glob(f"*-{self.source.fingerprint[:8]}-{spec}-s1.safetensors")
        ):
            return None
        try:
            return self._independent_judge
        except QuadrateError:
            return None

    def codec(self, stage: str, point: OperatingPoint) -> TradeoffCodec:
        """A trained codec.

        Raises:
            QuadrateError: If it is not trained yet.
        """
        path = self.place(stage, point) / "model.safetensors"
        return TradeoffCodec.load(path, device=self.device, family=self.family)

    def universal_codec(self, stage: str, seed: int = 0) -> TradeoffCodec:
        """One encoder and all the decoders that a universal stage trained on it for a seed, by their purposes."""
        points = [point for point in self.recipe.stage(stage).points if point.seed == seed]
        codecs = [self.codec(stage, point) for point in points]
        for other in codecs[1:]:
            name = (
                other.point.purpose
                if other.point.purpose not in codecs[0].decoders
                else other.point.key
            )
            codecs[0].add_decoder(other, name)
        return codecs[0]

    def evaluate(
        self, workers: int | None = None, report: Showing = "auto", quick: bool = False
    ) -> list[dict[str, Any]]:
        """Scores every trained point that is not scored yet, by the fixed protocol on the test set.

        What an earlier version measured is kept.

        A point is scored anew where its codec, the images, a judge or the protocol are not those
        that its scores were made with.

        Args:
            workers: Processes at most; by default one a core.
            report: As in `train`; takes the row of each point that is scored.
            quick: Scores on the terms of `Protocol.quick()`, for a first look: such rows have
                "quick" in the column `protocol`, and an evaluation on full terms replaces them.

        Warns (`QuadrateWarning`) of points that have collapsed (`quadrate.bottlenecks.collapse`).

        Returns:
            One row a point: stage, weights, seed, rates, scores and cost.

        Raises:
            QuadrateError: If no point is trained, or there are too few test images.
        """
        trained = [pair for pair in self._pairs if exists(self.place(*pair) / "model.safetensors")]
        if not trained:
            raise QuadrateError(
                f"nothing is trained in {self.folder}; run `quadrate train {self.recipe.name}`"
                " first"
            )
        pending = [pair for pair in trained if not self.is_scored(*pair, quick)]
        if pending:
            from quadrate.evaluation import Protocol, prepare

            scoring = self._scoring(
                {"training": self.judge, "independent": self._independent_judge}, quick
            )
            with one_thread():
                prepare(
                    self.source, scoring.judges, Protocol.quick() if quick else None, scoring.floors
                )
            jobs = [(stage, point, self.place(stage, point)) for stage, point in pending]
            with shown(report, "scoring", len(jobs)) as told:
                run_jobs(
                    score_point,
                    scoring,
                    jobs,
                    (workers or available_cores()) if self.device == "cpu" else 1,
                    told,
                )
        _, results = read_results(self.folder)
        write_text(self.folder / "results.csv", to_csv(results))
        for row in results:
            what = " ".join(
                f"{name}={row[name]}"
                for name in ("levels", "lambda_d", "lambda_p", "lambda_c", "seed")
            )
            training, count = self.recipe.stage(row["stage"]).training, len(self.source.train)
            steps = training.epochs * (count // min(training.batch, count))
            warn_if_collapsed(
                f"the point {what} of stage {row['stage']!r}",
                row["rate_entropy_bits"],
                row["rate_bound_bits"],
                steps=steps,
            )
        return results

    @classmethod
    def open(
        cls,
        folder: Path | str,
        device: str = "cpu",
        source: Source | None = None,
        family: Family | None = None,
        terms: Sequence[Term] = (),
    ) -> Run:
        """A run by its folder.

        Args:
            folder: The run's folder.
            device: "cpu" or "cuda".
            source: The user's own source, if it was trained on one.
            family: The user's own networks, if it was trained with such.
            terms: The user's own terms, if it was trained with such.

        Raises:
            QuadrateError: If there is no run there, or its data, judges, networks or terms are not
                what they were.
        """
        folder = Path(folder)
        recipe = read_recipe(folder, Recipe)
        run = cls(recipe, folder.parent, device, source, family, terms)
        if run.folder.name != folder.resolve().name:
            raise QuadrateError(
                f"{folder} was trained on other data, judges, networks or terms than are found now"
                f" (now: {run.folder.name})"
            )
        return run


def _check_labels(recipe: Recipe, source: Source) -> None:
    """Refuses points that learn from labels on a source without them."""
    for stage in recipe.stages:
        for point in stage.points:
            if point.lambda_c > 0 and not source.is_labelled:
                raise QuadrateError(
                    f"{recipe.name}: the point {point.key} of stage {stage.name} has lambda_c > 0"
                    f" and needs labels, which {source.name} lacks: images in class folders have"
                    " some; points with lambda_c = 0 need none"
                )


def _item(stage: Stage, point: OperatingPoint) -> Item:
    """A point's folder, which is built on another's codec where its stage has a base."""
    place, base = Path(stage.name, point.key), stage.base_of(point)
    return Item(
        place,
        place / "model.safetensors",
        Path(stage.base_stage, base.key, "model.safetensors") if base else None,
    )


def read_results(folder: Path | str) -> tuple[str, list[dict[str, Any]]]:
    """The recipe's name and the scored rows of a run folder, without its data or judges.

    Raises:
        QuadrateError: If there is no run there, none of its points is scored, or a file is damaged.
    """
    folder = Path(folder)
    recipe = read_recipe(folder, Recipe)
    found = (
        read_row(folder / stage.name / point.key)
        for stage in recipe.stages
        for point in stage.points
    )
    rows = [row for row in found if row is not None]
    if not rows:
        raise QuadrateError(
            f"no point of {folder} is scored yet; run `quadrate evaluate {folder}` first"
        )
    return recipe.name, rows
