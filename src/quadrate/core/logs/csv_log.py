"""Curves as one table, a number a line."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from quadrate.core.logs.log import Log

COLUMNS = ("curve", "step", "name", "value")


class CsvLog(Log):
    """`curves.csv`: curve, step, name, value. Scores are in the run's results.csv."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "curves.csv"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self._add([COLUMNS])

    def curve(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
        """Add a line a number."""
        self._add([(name, step, key, repr(value)) for key, value in numbers.items()])

    def _add(self, lines: list[tuple[object, ...]]) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
