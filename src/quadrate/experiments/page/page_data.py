"""The contents of a run folder for a report, without the data set and the networks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quadrate.config import WEIGHTS, OperatingPoint, Recipe, Stage
from quadrate.core.files import exists, read_bytes, read_json
from quadrate.errors import QuadrateError
from quadrate.evaluation.score import SCORES
from quadrate.experiments.claims import Verdict, decide_run
from quadrate.experiments.reports.summary import POINT, Row, read_points, require
from quadrate.experiments.runs import find_kind, kind_of, naming, read_recipe, read_results

_LARGEST_SIDE = 1 << 16  # of a picture that is drawn


@dataclass(frozen=True)
class ScoredPoint:
    """A trained and scored codec: its identifier in the page, its scores, and its folder."""

    identifier: str
    row: Row
    place: Path


@dataclass(frozen=True)
class ReportedRun:
    """A run of any kind as a report needs it.

    Attributes:
        folder: The run's folder.
        config: The contents of `config.json`.
        recipe: The recipe in it, if the run is a trade-off.
        rows: The scores, in the recipe's order.
        points: The scored codecs of a trade-off, in the same order.
        unscored: The points that are trained but not scored, as "stage/point" where they have a
            name.
        untrained: The points that are not trained.
    """

    folder: Path
    config: dict[str, Any]
    recipe: Recipe | None
    rows: Sequence[Row]
    points: list[ScoredPoint]
    unscored: list[str]
    untrained: list[str]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.config["recipe"]["name"])

    @property
    def title(self) -> str:
        """What the recipe shows, in a line."""
        return str(self.config["recipe"].get("title", ""))

    @property
    def source(self) -> str:
        """The data's name."""
        return str(self.config["source"]["name"])

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the scores say about the paper's claims; empty until every point is scored."""
        waiting = self.unscored or self.untrained
        return [] if waiting else decide_run(self.name, self.source, self.rows)

    @property
    def fingerprint(self) -> str:
        """The digest of the source's contents: scores of runs of equal fingerprints compare."""
        return str(self.config["source"]["fingerprint"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """The images' shape (C, H, W)."""
        channels, height, width = self.config["source"]["shape"]
        return channels, height, width


def open_run(folder: Path | str, number: int = 0) -> ReportedRun:
    """Read a run folder.

    Args:
        folder: The run's folder.
        number: Tells the points of several runs in one page apart.

    Raises:
        QuadrateError: If there is no run there, no point is scored, or a file is damaged.
    """
    folder = Path(folder)
    if not find_kind(kind_of(folder)).has_chart:
        return _open_points(folder)
    _, rows = read_results(folder)
    config = _checked_config(folder)
    recipe = read_recipe(folder)
    points: list[ScoredPoint] = []
    waiting: dict[bool, list[str]] = {True: [], False: []}
    for stage, point in stage_points(recipe):
        place = folder / stage.name / point.key
        if exists(place / "evaluation.json"):
            with naming(folder):
                row = _checked_row(rows[len(points)], place)
            points.append(ScoredPoint(f"r{number}p{len(points)}", row, place))
        else:
            waiting[exists(place / "model.safetensors")].append(f"{stage.name}/{point.key}")
    return ReportedRun(folder, config, recipe, rows, points, waiting[True], waiting[False])


def _open_points(folder: Path) -> ReportedRun:
    config = checked_config(folder / "config.json")
    if not isinstance(config["recipe"].get("points"), list):
        raise QuadrateError(
            f"{folder / 'config.json'}: the recipe has no list of points; `quadrate train` writes"
            " it"
        )
    if not exists(folder / "results.csv"):
        raise QuadrateError(
            f"no point of {folder} is scored yet; run `quadrate evaluate {folder}` first"
        )
    rows = list(read_points(folder / "results.csv"))
    scored = len(list((folder / "rows").glob("*.json")))
    unscored = [""] * max(0, len(config["recipe"]["points"]) - scored)
    return ReportedRun(folder, config, None, rows, [], unscored, [])


def model_hashes(folder: Path, recipe: Recipe) -> list[tuple[str, str]]:
    """A run's model files, as "stage/point", and the SHA-256 of each, hexadecimal.

    Raises:
        QuadrateError: If a file cannot be read.
    """
    hashes = []
    for stage, point in stage_points(recipe):
        path = folder / stage.name / point.key / "model.safetensors"
        if exists(path):
            hashes.append((f"{stage.name}/{point.key}", _sha256(path)))
    return hashes


def weights_text(row: Row) -> str:
    """The weights of a point for a reader: "λp 0.01, λc 0", and λd if it is not 1."""
    shown = [
        f"{weight.symbol} {row[weight.name]:g}"
        for weight in WEIGHTS
        if weight.name in row and (weight.name != "lambda_d" or row[weight.name] != 1)
    ]
    return ", ".join(shown)


def varied(rows: Sequence[Row], name: str) -> bool:
    """Whether a column has more than one value."""
    return len({row[name] for row in rows}) > 1


def stage_points(recipe: Recipe) -> Iterator[tuple[Stage, OperatingPoint]]:
    """The points of a recipe with their stages."""
    return ((stage, point) for stage in recipe.stages for point in stage.points)


def _checked_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    config = checked_config(path)
    sizes = config["source"].get("shape")
    whole = (
        isinstance(sizes, list)
        and len(sizes) == 3
        and all(type(size) is int and 0 < size <= _LARGEST_SIDE for size in sizes)
    )
    whole = (
        whole
        and isinstance(config["source"].get("fingerprint"), str)
        and isinstance(config.get("judge"), dict)
    )
    if not whole:
        raise QuadrateError(
            f"{path} lacks the source's name, fingerprint and shape (C, H, W), or the judge;"
            " `quadrate train` writes them"
        )
    terms = config.get("terms", [])
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        raise QuadrateError(
            f"{path}: the terms should be a list of names; `quadrate train` writes them"
        )
    return config


def checked_config(path: Path) -> dict[str, Any]:
    """A config.json, which holds a recipe and a source, each with its name.

    Raises:
        QuadrateError: If the file cannot be read, or lacks them.
    """
    config = read_json(path)
    parts = [
        config.get(part) if isinstance(config, dict) else None for part in ("recipe", "source")
    ]
    if not all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts):
        raise QuadrateError(
            f"{path} lacks the recipe or the source, or the name of one; `quadrate train` writes"
            " them"
        )
    return dict(config)


def _checked_row(row: Row, place: Path) -> Row:
    require([row], *POINT, "seed")
    for name, value in row.items():
        if (
            name.startswith(tuple(SCORES))
            and not name.endswith("_method")
            and not math.isfinite(value)
        ):
            advice = f"delete {place / 'evaluation.json'} and run `quadrate evaluate` again"
            raise QuadrateError(
                f"{place / 'evaluation.json'}: {name} is {value!r}, not a finite number; {advice}"
            )
    return row


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()
