"""Run folders: one recipe on its data, with everything that decides its numbers in their names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quadrate.config import OperatingPoint, Stage
from quadrate.core.devices import find_device
from quadrate.core.files import exists, read_rows, write_text
from quadrate.core.logs import Logs, find_logs
from quadrate.core.progress import Showing, both, shown
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.evaluation.score import is_quick
from quadrate.experiments.runs.kind import Job, Kind, Own, Workers
from quadrate.experiments.runs.kinds import find_kind, read_recipe
from quadrate.experiments.runs.run_folder import describe, to_csv
from quadrate.experiments.runs.seeds import take_over
from quadrate.networks.family import Family
from quadrate.objectives import Term
from quadrate.sources import Source
from quadrate.training.stages import Execution

_LONGEST_FILE = ".checkpoint.safetensors.00000000"  # in a point's folder
_NOT_SCORES = ("epoch", "epochs", "step", "steps")  # settings in rows of scores, not places


class Run:
    """A recipe at work, of any kind: its data, its judges, its folder.

    The folder is `root/NAME-DIGEST`; the digest covers the recipe with all its settings, the
    contents of its data, the weights of the judge in the loss, and your own networks, terms, judges
    and sources: their weights and their code, with the constants, closures and globals that it
    reads, or the version that you gave (`quadrate.core.identity`). So the same command finds its
    own folder again, finished or not, and a changed one never meets another's files. Where nobody
    can tell what code computes, the run warns and takes a fresh folder.

    Args:
        recipe: What to train, of any kind.
        root: Where run folders live.
        device: "cpu" or "cuda".
        source: Your own source, in place of the recipe's.
        family: Your own networks, in place of the recipe's.
        terms: Your own terms of the loss, next to those that the recipe names.
    """

    def __init__(
        self,
        recipe: Any,
        root: Path | str = "runs",
        device: str = "cpu",
        source: Source | None = None,
        family: Family | None = None,
        terms: Sequence[Term] = (),
    ) -> None:
        self.recipe, self.root, self.device = recipe, Path(root), device
        self._own = Own(source, family, tuple(terms))
        self._kind: Kind | None = None

    def prepare(self, report: Showing = "auto") -> Run:
        """Load the data and the judges, once; return the run itself.

        All that needs them does it first.

        Args:
            report: As in `train`, where a judge is trained.

        Raises:
            QuadrateError: If data, a judge, a named term or the device is missing, a term is given
                twice, or a point needs labels and the source has none.

        Warns:
            QuadrateWarning: If your own code cannot be told from other code, so that the run takes
                a fresh folder.
        """
        kind = self._kind or find_kind(self.recipe.kind)(
            self.recipe, self.root, str(find_device(self.device)), self._own
        )
        kind.showing = report
        if self._kind is None:
            kind.prepare()
            self._kind = kind
            for line in kind.unknown:
                warnings.warn(
                    f"{line}; nothing that was trained before is used, and this run has a fresh"
                    f" folder, {kind.folder}",
                    QuadrateWarning,
                    2,
                )
        return self

    @property
    def kind(self) -> Kind:
        """What is prepared, made and scored, prepared."""
        if self._kind is None:
            self.prepare()
        assert self._kind is not None
        return self._kind

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.kind.folder

    @property
    def source(self) -> Any:
        """The data; None where samples are drawn at will."""
        return self.kind.source

    @property
    def judge(self) -> Any:
        """The classifier in the loss; None without one."""
        return self.kind.judge

    @classmethod
    def open(
        cls,
        folder: Path | str,
        device: str = "cpu",
        source: Source | None = None,
        family: Family | None = None,
        terms: Sequence[Term] = (),
    ) -> Run:
        """Open a run by its folder.

        Args:
            folder: The run's folder.
            device: "cpu" or "cuda".
            source: Your own source, if it was trained on one.
            family: Your own networks, if it was trained with such.
            terms: Your own terms, if it was trained with such.

        Raises:
            QuadrateError: If there is no run there, or its data, judges, networks or terms are not
                what they were.
        """
        folder = Path(folder)
        run = cls(read_recipe(folder), folder.parent, device, source, family, terms).prepare()
        if run.folder.name != folder.resolve().name:
            raise QuadrateError(
                f"{folder} was made with other data, judges, networks or terms than are found now"
                f" (now: {run.folder.name})"
            )
        return run

    def begin(self) -> None:
        """Write the resolved configuration, once, and take over what other seeds have trained.

        `train` does it first.

        Raises:
            QuadrateError: If a file cannot be written.
        """
        kind = self.kind
        for job in kind.jobs(self.recipe):  # a path that is too long is refused before training
            exists(self.folder / job.place / _LONGEST_FILE)
        describe(self.folder, self.recipe, **kind.described)
        if items := kind.items():
            take_over(self.recipe, kind.folder_of, items)

    def train(
        self,
        execution: Execution = "auto",
        workers: Workers = None,
        report: Showing = "auto",
        log: Sequence[str] = (),
    ) -> Run:
        """Make what is not made yet, going on where it was interrupted; return the run itself.

        What the same recipe with other seeds has trained under the same root is taken over.
        Progress is shown on a terminal and in notebooks; a function as `report` takes it instead
        (`quadrate.core.progress.shown` says in what form), and None silences it.

        Args:
            execution: As in `quadrate.training.train_stage`.
            workers: Processes at most, by default one a core; or a cluster, on which the same
                numbers come out as on one machine.
            report: Takes the progress.
            log: Where curves go besides, names in `quadrate.core.logs.LOGS`: the same numbers that
                the folder keeps.

        Raises:
            QuadrateError: If something cannot be made or written; the rest is made first.
        """
        classes = find_logs(log)
        self.prepare(report)
        if execution != "auto" and "execution" not in self.kind.options(self.recipe):
            raise QuadrateError(f"{self.recipe.name} runs a point a process: leave --execution out")
        self.begin()
        pending = sum(not exists(self.folder / path) for path in self.kind.needed)
        with Logs(classes, self.folder) as logs, shown(report, "training", pending) as told:
            if classes:
                self._send(logs)
                told = both(told, logs.report)
            self.kind.make(execution, workers, told)
        return self

    def log(self, *names: str) -> None:
        """Send what the folder holds to logs: curves, scores and pictures, each once.

        Args:
            names: Of `quadrate.core.logs.LOGS`.

        Raises:
            QuadrateError: If there is no such log, or a package is missing.
        """
        if names:
            with Logs(find_logs(names), self.folder) as logs:
                self._send(logs)

    def _send(self, logs: Logs) -> None:
        for job in self.kind.jobs(self.recipe):
            where = {"stage": job.stage or self.recipe.name, "point": job.point.key}
            for row in read_rows(self.folder / job.place / "metrics.jsonl"):
                logs.report(row | where)
            for row in self.kind.rows(job)[:1]:
                logs.report({k: v for k, v in row.items() if k not in _NOT_SCORES} | where)
            for path in sorted((self.folder / job.place).glob("*.png")) if job.stage else ():
                logs.picture("/".join(where.values()), path)
        for path in sorted(self.folder.glob("*.png")):
            logs.picture("", path)

    def evaluate(
        self, workers: Workers = None, report: Showing = "auto", quick: bool = False
    ) -> list[dict[str, Any]]:
        """Score every trained point that is not scored yet, on the test set.

        A point is scored anew where its codec, the data, a judge or the protocol are not those that
        its scores were made with. Writes results.csv, after an interruption too.

        Args:
            workers: As in `train`.
            report: As in `train`; takes the row of each point that is scored.
            quick: Scores on the terms of `Protocol.quick()`, for a first look: such rows have
                "quick" in the column `protocol`, and an evaluation on full terms replaces them.

        Warns (`QuadrateWarning`) of points that have collapsed (`quadrate.bottlenecks.collapse`).

        Returns:
            Rows of scores, in the order of the points, most of which have one.

        Raises:
            QuadrateError: If nothing is trained, a point cannot be scored (the others are scored
                first), or there are no quick terms.
        """
        kind = self.prepare(report).kind
        if quick and not kind.has_quick:
            raise QuadrateError(f"{self.recipe.name} has one way to be scored; leave --quick out")
        trained = [job for job in kind.jobs(self.recipe) if self._is_trained(job)]
        if not trained:
            raise QuadrateError(
                f"nothing is trained in {self.folder} (no {kind.needed[0]}); run `quadrate train"
                f" {self.recipe.name}` first"
            )
        pending = [job for job in trained if not self.is_scored(job.stage, job.point, quick)]
        try:
            if pending:
                with shown(report, "scoring", len(pending)) as told:
                    kind.score(pending, workers, told, quick)
        finally:
            if rows := self.results():
                write_text(self.folder / "results.csv", to_csv(rows))
        kind.warn(rows)
        return rows

    def results(self) -> list[dict[str, Any]]:
        """Return the rows of all scored points.

        Raises:
            QuadrateError: If a file of rows is damaged.
        """
        return [row for job in self.kind.jobs(self.recipe) for row in self.kind.rows(job)]

    def place(self, stage: Stage | str, point: Any) -> Path:
        """Return the folder of one point, whose stage is "" in recipes without stages."""
        return self.folder / Job(stage if isinstance(stage, str) else stage.name, point).place

    def codec(self, stage: str, point: Any) -> Any:
        """Return a trained codec.

        Raises:
            QuadrateError: If it is not trained yet.
        """
        return self.kind.load(Job(stage, point))

    def universal_codec(self, stage: str, seed: int = 0) -> Any:
        """Return one encoder with all decoders that were trained on it, by their purposes.

        Where several have a purpose, the first that is not of the direct kind is named so, or else
        the first; the others are named by their points' keys.

        Args:
            stage: The name of a universal stage; those on the same encoder belong to it.
            seed: The seed of the decoders.

        Raises:
            QuadrateError: If there is no such stage, or it is not trained yet.
        """
        encoder = self.recipe.encoder_of(stage)
        found = [
            (each.name, point)
            for each in self.recipe.stages
            if each.mode == "universal" and self.recipe.encoder_of(each.name) == encoder
            for point in each.points
            if point.seed == seed
        ]
        purposes: dict[str, OperatingPoint] = {}
        for _, point in sorted(found, key=lambda each: each[1].decoder == "direct"):
            purposes.setdefault(point.purpose, point)
        # Those that have their purpose as a name come first, as a codec's own is named so.
        found.sort(key=lambda each: purposes[each[1].purpose] != each[1])
        first, *others = [self.codec(name, point) for name, point in found]
        for other in others:
            purpose = other.point.purpose
            first.add_decoder(other, purpose if purpose not in first.decoders else other.point.key)
        return first

    def _is_trained(self, job: Job) -> bool:
        return all(exists(self.folder / path) for path in self.kind.needs(job))

    def is_scored(self, stage: str, point: Any, quick: bool = False) -> bool:
        """Whether a point has all its scores, made with the codec, data and judges found now.

        Args:
            stage: The name of the point's stage, "" in recipes without stages.
            point: The point.
            quick: Whether scores on quick terms will do; full ones always do.

        Raises:
            QuadrateError: If the scores are damaged.
        """
        job = Job(stage, point)
        rows = self.kind.rows(job)
        if not rows or not self._is_trained(job) or not self.kind.is_whole(rows):
            return False
        rough = is_quick(rows[0])
        return (quick or not rough) and not self.kind.differs(job, rough)
