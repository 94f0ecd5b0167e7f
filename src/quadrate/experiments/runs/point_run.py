"""Run folders of recipes whose points stand alone: what runs of all these kinds have in common."""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from quadrate.config import to_json
from quadrate.core.devices import find_device
from quadrate.core.digests import digest
from quadrate.core.fields import is_number
from quadrate.core.files import exists, read_bytes, read_json, write_text
from quadrate.core.names import is_printable
from quadrate.core.progress import Showing, shown
from quadrate.errors import QuadrateError
from quadrate.evaluation.protocol import VERSION
from quadrate.experiments.runs.run_folder import MADE_WITH, describe, read_recipe, to_csv
from quadrate.training.processes import Report, available_cores


class PointRun(ABC):
    """A recipe at work, in the folder `root/NAME-DIGEST`.

    The digest covers the recipe and the contents of its data.

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
        self.recipe = recipe
        self.root = Path(root)
        self.device = str(find_device(device))
        self._source = source
        self.folder = self._folder_of(recipe)

    @classmethod
    def open(cls, folder: Path | str, device: str = "cpu") -> Self:
        """A run by its folder.

        Raises:
            QuadrateError: If there is no such run there, or its data are missing or not what they
                were.
        """
        folder = Path(folder)
        recipe = read_recipe(folder, cls.recipe_class)
        run = cls(recipe, folder.parent, device)  # type: ignore[call-arg]
        if run.folder.name != folder.resolve().name:
            raise QuadrateError(
                f"{folder} was made of other data than are found now (now: {run.folder.name})"
            )
        return run

    def train(self, workers: int | None = None, report: Showing = "auto") -> Self:
        """Makes what is to be scored, skipping what is there; returns itself.

        Progress is shown as in `quadrate.experiments.runs.Run.train`.

        Raises:
            QuadrateError: If something cannot be made or written; the rest is made first.
        """
        describe(
            self.folder, self.recipe, dict(zip(("name", "fingerprint"), self._source, strict=True))
        )
        with shown(report, "training", sum(not exists(path) for path in self._needed())) as told:
            self._make(self._processes(workers), told)
        return self

    def evaluate(
        self, workers: int | None = None, report: Showing = "auto"
    ) -> list[dict[str, Any]]:
        """Scores every point that is not scored yet.

        Returns one row a point, and writes results.csv, after an interruption too.

        A point is scored anew where what its scores were made from has changed.

        Raises:
            QuadrateError: If training is not finished, or a point cannot be scored; the others are
                scored first.
        """
        if missing := [path for path in self._needed() if not exists(path)]:
            lacking = missing[0].relative_to(self.folder)
            raise QuadrateError(
                f"training is not finished in {self.folder}: no {lacking}; run `quadrate train"
                f" {self.recipe.name}` first"
            )
        pending = [point for point in self.recipe.points if not self._is_scored(point)]
        try:
            with shown(report, "scoring", len(pending)) as told:
                self._score(pending, self._processes(workers), told)
        finally:
            if rows := self.results():
                write_text(self.folder / "results.csv", to_csv(rows))
        return rows

    def results(self) -> list[dict[str, Any]]:
        """The rows of all scored points.

        Raises:
            QuadrateError: If a file of rows is damaged.
        """
        return [
            row
            for path in map(self._row_file, self.recipe.points)
            if exists(path)
            for row in _rows(path)
        ]

    def keep(self, point: Any, row: dict[str, Any], report: Report) -> None:
        """Writes a point's row with what it was made from, and reports it."""
        write_text(
            self._row_file(point), json.dumps({**row, MADE_WITH: self._made_with(point)}, indent=1)
        )
        report({"stage": self.recipe.name, "point": point.key, **row})

    def _is_scored(self, point: Any) -> bool:
        """Whether a point has a row, made from what is there now.

        Rows of version 0.1 do not say what they were made from, and are kept.
        """
        path = self._row_file(point)
        if not exists(path):
            return False
        _rows(path)
        made = read_json(path).get(MADE_WITH)
        return made is None or made == self._made_with(point)

    def _made_with(self, point: Any) -> dict[str, str]:
        """What decides the row of a point: the data, and the files that it is made from."""
        files = {
            path.relative_to(self.folder).as_posix(): _sha256(path, path.stat().st_mtime_ns)
            for path in self._read_by(point)
            if exists(path)
        }
        return {"data": self._source[1], "protocol": str(VERSION), **files}

    def _read_by(self, point: Any) -> list[Path]:
        """The files that a point is scored from."""
        return self._needed()

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


@functools.cache
def _sha256(path: Path, changed_ns: int) -> str:
    """The digest of a file, read once as long as it does not change."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows in a point's file, of which a point may have several."""
    found = read_json(path)
    rows = found.get("rows", [found]) if isinstance(found, dict) else None
    if not isinstance(rows, list) or not rows or not all(_is_row(row) for row in rows):
        raise QuadrateError(f"{path} holds no scores; delete it and run `quadrate evaluate` again")
    return [{name: value for name, value in row.items() if name != MADE_WITH} for row in rows]


def _is_row(row: Any) -> bool:
    """Whether a value of JSON is one level of numbers and texts by name."""
    return isinstance(row, dict) and all(
        is_printable(name)
        and (
            name == MADE_WITH
            or value is None
            or isinstance(value, bool)
            or is_number(value)
            or _is_text(value)
        )
        for name, value in row.items()
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_printable(value)
