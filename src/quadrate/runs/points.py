"""Run folders of recipes whose points stand alone: what runs of all these kinds have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from quadrate.config import digest, from_json, to_json
from quadrate.devices import find_device
from quadrate.errors import QuadrateError
from quadrate.files import exists, read_json, write_text
from quadrate.progress import Showing, shown
from quadrate.runs.folder import describe, read_recipe_fields, to_csv
from quadrate.training.processes import Report, available_cores


class PointRun(ABC):
    """A recipe at work, in the folder `root/NAME-DIGEST`; the digest covers the recipe and the contents of its data.

    Args:
        recipe: What to do, with `name` and `points`, of which each has a `key`.
        source: The data's name and fingerprint.
        root: Where run folders live.
        device: "cpu" or "cuda".

    Raises:
        QuadrateError: If the device is missing.
    """

    recipe_class: ClassVar[type[Any]]

    def __init__(self, recipe: Any, source: tuple[str, str], root: Path | str, device: str) -> None:
        self.recipe, self.root, self.device, self._source = recipe, Path(root), str(find_device(device)), source
        self.folder = self._folder_of(recipe)

    @classmethod
    def open(cls, folder: Path | str, device: str = "cpu") -> Self:
        """A run by its folder.

        Raises:
            QuadrateError: If there is no such run there, or its data are missing or not what they were.
        """
        folder = Path(folder)
        recipe = from_json(cls.recipe_class, json.dumps(read_recipe_fields(folder)))
        run = cls(recipe, folder.parent, device)  # type: ignore[call-arg]
        if run.folder.name != folder.resolve().name:
            raise QuadrateError(f"{folder} was made of other data than are found now (now: {run.folder.name})")
        return run

    def train(self, workers: int | None = None, report: Showing = "auto") -> Self:
        """Makes what is to be scored, skipping what is there; returns itself. Progress is shown as in `quadrate.runs.Run.train`.

        Raises:
            QuadrateError: If something cannot be made or written; the rest is made first.
        """
        describe(self.folder, self.recipe, dict(zip(("name", "fingerprint"), self._source, strict=True)))
        with shown(report, "training", sum(not exists(path) for path in self._needed())) as told:
            self._make(self._processes(workers), told)
        return self

    def evaluate(self, workers: int | None = None, report: Showing = "auto") -> list[dict[str, Any]]:
        """Scores every point that is not scored yet; returns one row a point, and writes results.csv, after an interruption too.

        Raises:
            QuadrateError: If training is not finished, or a point cannot be scored; the others are scored first.
        """
        if missing := [path for path in self._needed() if not path.exists()]:
            lacking = missing[0].relative_to(self.folder)
            raise QuadrateError(f"training is not finished in {self.folder}: no {lacking}; run `quadrate train {self.recipe.name}` first")
        pending = [point for point in self.recipe.points if not exists(self._row_file(point))]
        try:
            with shown(report, "scoring", len(pending)) as told:
                self._score(pending, self._processes(workers), told)
        finally:
            if rows := self.results():
                write_text(self.folder / "results.csv", to_csv(rows))
        return rows

    def results(self) -> list[dict[str, Any]]:
        """The rows of all scored points."""
        places = [self._row_file(point) for point in self.recipe.points]
        return [read_json(path) for path in places if path.exists()]

    def keep(self, point: Any, row: dict[str, Any], report: Report) -> None:
        """Writes a point's row and reports it."""
        write_text(self._row_file(point), json.dumps(row, indent=1))
        report({"stage": self.recipe.name, "point": point.key, **row})

    def _folder_of(self, recipe: Any) -> Path:
        """Where a recipe is made on this run's data."""
        return self.root / f"{recipe.name}-{digest(to_json(recipe), self._source[1])}"

    def _row_file(self, point: Any) -> Path:
        return self.folder / "rows" / f"{point.key}.json"

    def _processes(self, workers: int | None) -> int:
        return (workers or available_cores()) if self.device == "cpu" else 1

    @abstractmethod
    def _needed(self) -> list[Path]:
        """The files that training makes."""

    @abstractmethod
    def _make(self, workers: int, report: Report) -> None:
        """Makes those that are not there."""

    @abstractmethod
    def _score(self, points: Sequence[Any], workers: int, report: Report) -> None:
        """Scores points and keeps their rows."""
