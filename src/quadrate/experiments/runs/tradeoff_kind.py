"""Runs of trade-off codecs: stages of points, judged by classifiers and critics."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quadrate import __version__
from quadrate.bottlenecks.collapse import LEAST_STEPS, warn_if_collapsed
from quadrate.codecs import TradeoffCodec
from quadrate.config import WEIGHTS, Recipe
from quadrate.core.identity import weights_digest
from quadrate.errors import QuadrateError
from quadrate.evaluation.roles import STRANGER
from quadrate.experiments.runs.kind import Item, Job, Kind, Row, Workers
from quadrate.experiments.runs.kinds import read_recipe, read_results
from quadrate.experiments.runs.own_code import OwnCode
from quadrate.experiments.runs.scoring import ROWS, Scoring, score_point
from quadrate.networks.family import CLASSIFIERS, find_family
from quadrate.networks.filled import outline
from quadrate.objectives import find_term
from quadrate.sources import load_source
from quadrate.sources.source import with_true_fingerprint
from quadrate.training.judges import Judge, find_judge
from quadrate.training.processes import Report, one_thread, run_jobs
from quadrate.training.stages import Assignment, Execution, train_stage

# Of judges that are trained here. Strangers share their seed with no judge of a loss, so that even
# one of an architecture that is in the loss was never met.
_TRAINING_SEED, _INDEPENDENT_SEED, _STRANGERS_SEED, _READERS_SEED = range(4)


class TradeoffKind(Kind):
    """A trade-off recipe with its images and judges.

    Attributes:
        family: The networks.
        terms: Your own terms of the loss, and those that the recipe names.
    """

    recipe_class = Recipe
    has_quick = has_chart = exports = True

    def prepare(self) -> None:
        """Load the images and the judge, and describe what is your own."""
        recipe, own = self.recipe, self.own
        self.terms = (*own.terms, *(find_term(term.name, term.weight) for term in recipe.terms))
        names = [term.name for term in self.terms]
        if twice := [name for name in names if names.count(name) > 1]:
            raise QuadrateError(
                f"the loss term {twice[0]!r} is given twice; give it once, with the sum of its"
                " weights"
            )
        source = (
            load_source(recipe.source) if own.source is None else with_true_fingerprint(own.source)
        )
        self.source = source.to(self.device)
        self.family = own.family or find_family(recipe.family)
        if self.source.noise_std:
            raise QuadrateError(
                "give the noise to the recipe's stages (Stage.noise_std), not to the source: it"
                " belongs to the run's configuration"
            )
        self._check_labels()
        self._check_classifiers()
        self._judges: dict[tuple[str, int], Judge | None] = {}
        self.judge = self._find_judge(recipe.judge, _TRAINING_SEED)
        decoders = {point.decoder for stage in recipe.stages for point in stage.points}
        code = OwnCode(self.family, self.terms, self.source, self.judge, decoders)
        self.unknown = code.unknown
        self.decisive = [self.source.fingerprint, self.family.name, *names]
        judge: dict[str, Any] = {"name": "none, as the images have no labels"}
        if self.judge:
            self.decisive.append(weights_digest(self.judge.module))
            judge = {
                "name": self.judge.name,
                "accuracy": self.judge.accuracy,
                "cross_entropy_nats": self.judge.cross_entropy_nats,
            }
        if code.described:
            self.decisive.append(json.dumps(code.described, sort_keys=True))
        if code.unknown:
            self.decisive.append(secrets.token_hex(8))
        self.described = {
            "source": {
                "name": self.source.name,
                "fingerprint": self.source.fingerprint,
                "shape": self.source.shape,
            },
            "family": self.family.name,
            "terms": names,
            **({"own": code.described} if code.described else {}),
            "judge": judge,
        }

    def _check_labels(self) -> None:
        """Refuse points that learn from labels on a source without labels."""
        for job in self.jobs(self.recipe):
            if job.point.lambda_c > 0 and not self.source.is_labelled:
                raise QuadrateError(
                    f"{self.recipe.name}: the point {job.point.key} of stage {job.stage} has"
                    f" lambda_c > 0 and needs labels, which {self.source.name} lacks: images in"
                    " class folders have some; points with lambda_c = 0 need none"
                )

    def _check_classifiers(self) -> None:
        """Refuse classifiers that cannot judge the source, which would show after training only."""
        readers = [name for stage in self.recipe.stages for name in stage.readers]
        for name in (*self.recipe.strangers, *readers) if self.source.is_labelled else ():
            outline(partial(CLASSIFIERS.find(name), self.source.shape, self.source.classes))

    def _find_judge(self, spec: str, seed: int) -> Judge | None:
        """A judge, trained here if need be; None where there are no labels to judge by."""
        if not self.source.is_labelled:
            return None
        if (spec, seed) not in self._judges:
            with one_thread():  # a judge must not depend on how many cores there are
                self._judges[spec, seed] = find_judge(
                    spec, self.source, self.root / "judges", seed, self.showing
                )
        return self._judges[spec, seed]

    @classmethod
    def options(cls, recipe: Any) -> frozenset[str]:
        """Return all options."""
        return frozenset(
            ("data", "family", "judge", "term", "seeds", "epochs", "execution", "part")
        )

    @classmethod
    def jobs(cls, recipe: Any) -> list[Job]:
        """Return the points of all stages."""
        return [Job(stage.name, point) for stage in recipe.stages for point in stage.points]

    @staticmethod
    def row_file(job: Job) -> Path:
        """Return the file of scores, which stands next to the codec."""
        return job.place / ROWS

    def items(self) -> list[Item]:
        """Return the points' folders; a point of a frozen encoder is built on the encoder's."""
        items = []
        for job in self.jobs(self.recipe):
            stage = self.recipe.stage(job.stage)
            base = stage.base_of(job.point)
            built_on = Job(stage.base_stage, base).model if base else None
            items.append(Item(job.place, job.model, built_on))
        return items

    def make(self, execution: Execution, workers: Workers, report: Report) -> None:
        """Train every stage in order."""
        details = {
            "recipe": self.recipe.name,
            "source": self.source.name,
            "fingerprint": self.source.fingerprint,
            "version": __version__,
        }
        classifier = self.judge.module if self.judge else None
        for stage in self.recipe.stages:
            readers = [self._find_judge(name, _READERS_SEED) for name in stage.readers]
            assignment = Assignment(
                stage,
                self.source,
                self.family,
                classifier,
                self.folder,
                details,
                self.terms,
                readers=tuple(reader.module for reader in readers if reader),
            )
            train_stage(assignment, execution, workers, report)

    def load(self, job: Job) -> TradeoffCodec:
        """Return a trained codec."""
        path = self.folder / job.model
        return TradeoffCodec.load(path, device=self.device, family=self.family)

    def differs(self, job: Job, quick: bool = False) -> bool:
        """Whether a point was scored with something else; a judge not at hand is left out."""
        found = {role: self._judge_at_hand(*spec) for role, spec in self._others.items()}
        return self._scoring(found, quick).differs(self.folder / job.place)

    def is_whole(self, rows: Sequence[Row]) -> bool:
        """Whether a row has all columns of the protocol."""
        from quadrate.evaluation import columns_of

        strangers = [role for role in self._others if role.startswith(STRANGER)]
        return set(columns_of(self.source, strangers)) <= rows[0].keys()

    def score(self, jobs: Sequence[Job], workers: Workers, report: Report, quick: bool) -> None:
        """Score points with all judges."""
        from quadrate.evaluation import Protocol, prepare

        others = {role: self._find_judge(*spec) for role, spec in self._others.items()}
        scoring = self._scoring(others, quick)
        with one_thread():
            terms = Protocol.quick() if quick else None
            prepare(self.source, scoring.judges, terms, scoring.floors)
        points = [
            (self.recipe.stage(job.stage), job.point, self.folder / job.place) for job in jobs
        ]
        run_jobs(score_point, scoring, points, self.processes(workers), report)

    def warn(self, rows: Sequence[Row]) -> None:
        """Warn of points that have collapsed, unless their training had hardly begun."""
        warn_of_collapse(self.recipe, rows, len(self.source.train))

    def draw(self, rows: Sequence[Row]) -> list[Path]:
        """Draw the trade-off."""
        from quadrate.experiments.reports.figures import plot_run

        plot_run(self.recipe.name, rows, self.folder / "trade-off.png")
        return [self.folder / "trade-off.png"]

    @staticmethod
    def plot(folders: Sequence[Path], path: Path) -> None:
        """Draw the trade-offs of runs as one figure; warn of points that have collapsed."""
        from quadrate.experiments.reports import plot_runs

        results = [read_results(folder) for folder in folders]
        for folder, (_, rows) in zip(folders, results, strict=True):
            warn_of_collapse(read_recipe(folder), rows)
        plot_runs(results, path)

    def _scoring(self, others: Mapping[str, Judge | None], quick: bool) -> Scoring:
        judges = {"training": self.judge, **others}
        return Scoring(self.source, self.family, judges, self.root / "floors", self.device, quick)

    @property
    def _others(self) -> dict[str, tuple[str, int]]:
        """What finds the judges that no codec meets, by role: architecture or path, and seed."""
        strangers = {
            f"{STRANGER}{name}-s{_STRANGERS_SEED}": (name, _STRANGERS_SEED)
            for name in self.recipe.strangers
        }
        return {"independent": (self.recipe.independent_judge, _INDEPENDENT_SEED), **strangers}

    def _judge_at_hand(self, spec: str, seed: int) -> Judge | None:
        """A judge if it is there already.

        Scores that were made with it are not held against one trained for nothing else.
        """
        if spec in CLASSIFIERS and not any(
            (self.root / "judges").glob(
                f"*-{self.source.fingerprint[:8]}-{spec}-s{seed}.safetensors"
            )
        ):
            return None
        try:
            return self._find_judge(spec, seed)
        except QuadrateError:
            return None


def warn_of_collapse(recipe: Recipe, rows: Sequence[Row], images: int | None = None) -> None:
    """Warn of points whose symbols carry hardly anything, unless training had hardly begun.

    Args:
        recipe: The recipe.
        rows: Scores.
        images: How many images trained the codecs, where that is known.
    """
    for row in rows:
        training, steps = recipe.stage(row["stage"]).training, LEAST_STEPS
        if images is not None:
            steps = training.epochs * (images // min(training.batch, images))
        names = ("levels", *(weight.name for weight in WEIGHTS if weight.name in row), "seed")
        what = " ".join(f"{name}={row[name]}" for name in names)
        warn_if_collapsed(
            f"the point {what} of stage {row['stage']!r}",
            row["rate_entropy_bits"],
            row["rate_bound_bits"],
            steps=steps,
        )
