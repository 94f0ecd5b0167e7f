"""What a kind of run is: what it prepares, makes and scores."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from quadrate.config import to_json
from quadrate.core.digests import digest
from quadrate.core.files import exists, read_bytes
from quadrate.core.progress import Showing
from quadrate.evaluation.protocol import VERSION
from quadrate.experiments.runs.rows import read_made_with, read_rows, write_row
from quadrate.training.processes import Executor, Report, available_cores

Row = dict[str, Any]
Workers = int | Executor | None
"""How many processes at most, by default one a core, or what runs jobs elsewhere."""


@dataclass(frozen=True)
class Job:
    """A point of a recipe, which is trained and scored on its own.

    Attributes:
        stage: The name of its stage, empty in recipes without stages.
        point: Its settings, with a `key` that names its files.
    """

    stage: str
    point: Any

    @property
    def place(self) -> Path:
        """The point's folder inside the run's."""
        return Path(self.stage, self.point.key)

    @property
    def model(self) -> Path:
        """The file of its codec inside the run's folder."""
        return self.place / "model.safetensors"


@dataclass(frozen=True)
class Item:
    """Something in a run's folder that another run may have made; paths are inside the folder.

    Attributes:
        path: The file or folder to copy.
        finished: The file that shows that it is finished.
        built_on: A file that it was made from, which must be the same in both folders.
    """

    path: Path
    finished: Path
    built_on: Path | None = None


@dataclass(frozen=True)
class Own:
    """What you give to a run yourself, in place of what the recipe names, or next to it.

    Attributes:
        source: The data.
        family: The networks.
        terms: Terms of the loss.
    """

    source: Any = None
    family: Any = None
    terms: tuple[Any, ...] = ()


class Kind(ABC):
    """A recipe with its data and judges: what runs of one kind make and score.

    Args:
        recipe: The recipe.
        root: Where run folders live.
        device: "cpu" or "cuda".
        own: What the user gives in place of what the recipe names.

    Attributes:
        source: The data, None where samples are drawn at will.
        judge: The classifier in the loss, None without one.
        decisive: What decides the numbers next to the recipe, set by `prepare`.
        described: The data and all else that config.json says of the run, set by `prepare`.
        showing: How the training of a judge is shown, as `report` of `Run.train`.
        unknown: What cannot be told from other code, a line each; it takes a fresh folder.
    """

    recipe_class: ClassVar[type[Any]]
    has_quick: ClassVar[bool] = False
    """Whether there are quick terms of evaluation."""
    has_chart: ClassVar[bool] = False
    """Whether a report charts the points one by one, rather than showing the table alone."""
    exports: ClassVar[bool] = False
    """Whether codecs are made ready for files by `quadrate export`, not by training."""

    def __init__(self, recipe: Any, root: Path, device: str, own: Own) -> None:
        self.recipe, self.root, self.device, self.own = recipe, root, device, own
        self.source: Any = None
        self.judge: Any = None
        self.decisive: list[str] = []
        self.described: dict[str, Any] = {}
        self.unknown: list[str] = []
        self.showing: Showing = "auto"

    @abstractmethod
    def prepare(self) -> None:
        """Load data and judges; set `decisive` and `described`.

        Raises:
            QuadrateError: If data or a judge are missing, or do not fit the recipe.
        """

    @abstractmethod
    def make(self, execution: Any, workers: Workers, report: Report) -> None:
        """Make the files of `needed` that are missing."""

    @abstractmethod
    def score(self, jobs: Sequence[Job], workers: Workers, report: Report, quick: bool) -> None:
        """Score jobs and keep their rows."""

    @classmethod
    def options(cls, recipe: Any) -> frozenset[str]:
        """Return the options of `quadrate train` that change a recipe."""
        return frozenset()

    @classmethod
    def jobs(cls, recipe: Any) -> list[Job]:
        """Return the points of a recipe, in order."""
        return [Job("", point) for point in recipe.points]

    @staticmethod
    def row_file(job: Job) -> Path:
        """Return the file of a job's scores inside the run's folder."""
        return Path("rows", f"{job.point.key}.json")

    def needs(self, job: Job) -> list[Path]:
        """Return the files inside the run's folder that training makes for a job."""
        return [job.model]

    def read_by(self, job: Job) -> list[Path]:
        """Return the files inside the run's folder that a job is scored from."""
        return self.needs(job)

    def made_with(self, job: Job) -> dict[str, str]:
        """Return what decides a job's scores: data, protocol, and the files they are made from."""
        files = {
            path.as_posix(): _sha256(place, place.stat().st_mtime_ns) if exists(place) else ""
            for path in self.read_by(job)
            if (place := self.folder / path)
        }
        return {"data": self.described["source"]["fingerprint"], "protocol": str(VERSION), **files}

    def is_whole(self, rows: Sequence[Row]) -> bool:
        """Whether the rows of a job have all that is measured now."""
        return True

    def differs(self, job: Job, quick: bool = False) -> bool:
        """Whether a job's scores were made with something else than is found now.

        Scores of version 0.1 do not say what they were made with, and are kept.
        """
        made = read_made_with(self.folder / self.row_file(job))
        now = self.made_with(job)
        return made is not None and any(made.get(name) != value for name, value in now.items())

    def items(self) -> list[Item]:
        """Return what is taken over from runs with other seeds."""
        return []

    def load(self, job: Job) -> Any:
        """Return a trained codec."""
        raise NotImplementedError

    def warn(self, rows: Sequence[Row]) -> None:  # noqa: B027 (most kinds warn while they score)
        """Warn of points that have collapsed."""

    def draw(self, rows: Sequence[Row]) -> list[Path]:
        """Draw the scores into the run's folder; return the pictures."""
        return []

    @staticmethod
    def plot(folders: Sequence[Path], path: Path) -> None:
        """Draw evaluated runs of this kind as one figure.

        Raises:
            QuadrateError: If there is nothing to draw.
        """
        from quadrate.experiments.reports.invariant_figures import plot_tables

        plot_tables([folder / "results.csv" for folder in folders], path)

    def folder_of(self, recipe: Any) -> Path:
        """Return the folder of a recipe on this run's data, with its judges and networks."""
        return self.root / f"{recipe.name}-{digest(to_json(recipe), *self.decisive)}"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.folder_of(self.recipe)

    @property
    def needed(self) -> list[Path]:
        """All files that training makes, inside the run's folder."""
        return list(
            dict.fromkeys(path for job in self.jobs(self.recipe) for path in self.needs(job))
        )

    def rows(self, job: Job) -> list[Row]:
        """Return the rows of a job, none if it is not scored.

        Raises:
            QuadrateError: If the file is damaged.
        """
        return read_rows(self.folder / self.row_file(job))

    def keep(self, job: Job, row: Row, report: Report) -> None:
        """Write a job's scores with what they were made with, and report them."""
        write_row(self.folder / self.row_file(job), row, self.made_with(job))
        report({"stage": job.stage or self.recipe.name, "point": job.point.key, **row})

    def processes(self, workers: Workers) -> int | Executor:
        """Return how many processes may run at a time, or what runs jobs elsewhere."""
        on_gpu = self.device != "cpu"
        if workers is None or isinstance(workers, int):
            return 1 if on_gpu else workers or available_cores()
        return workers.at(self.folder, on_gpu)


@functools.cache
def _sha256(path: Path, changed_ns: int) -> str:
    """The digest of a file, read once as long as it does not change."""
    return hashlib.sha256(read_bytes(path)).hexdigest()
