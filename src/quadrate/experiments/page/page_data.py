"""What a run folder holds for a report; neither the data set nor the networks are opened."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quadrate.config import OperatingPoint, Recipe, Stage
from quadrate.core.files import exists, read_bytes, read_json
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import Verdict, decide_run
from quadrate.experiments.reports.summary import JUDGES, POINT, Row, require
from quadrate.experiments.runs import read_results
from quadrate.experiments.runs.run_folder import naming, read_recipe

SCORES = {
    "distortion_mse": "MSE per pixel",
    "psnr_db": "PSNR, dB",
    "w1_fresh": "W1, fresh critic",
    "w1_certified": "W1, certified bound",
    "sliced_w2sq": "sliced W2²",
    "kid": "KID",
    **{f"accuracy_{judge}": f"accuracy, {judge} judge" for judge in JUDGES},
    **{f"cross_entropy_{judge}_nats": f"cross-entropy, {judge} judge, nats" for judge in JUDGES},
    "rate_bound_bits": "rate bound, bits an image",
    "rate_entropy_bits": "entropy H(Z|U), bits an image",
}
"""The columns that a chart can show, and what its axes call them."""

_LARGEST_SIDE = 1 << 16  # of a picture that is drawn

WEIGHTS = {"lambda_d": "λd", "lambda_p": "λp", "lambda_c": "λc"}


@dataclass(frozen=True)
class ScoredPoint:
    """A trained and scored codec: its identifier in the page, its scores, and its folder."""

    identifier: str
    row: Row
    place: Path


@dataclass(frozen=True)
class ReportedRun:
    """A run as a report needs it.

    Attributes:
        folder: The run's folder.
        config: What `config.json` says.
        recipe: The recipe in it.
        points: The scored points, in the recipe's order.
        unscored: The points that are trained but not scored, as "stage/point".
        untrained: Those that are not trained.
    """

    folder: Path
    config: dict[str, Any]
    recipe: Recipe
    points: list[ScoredPoint]
    unscored: list[str]
    untrained: list[str]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def title(self) -> str:
        """What it shows, in a line."""
        return self.recipe.title

    @property
    def source(self) -> str:
        """The data's name."""
        return str(self.config["source"]["name"])

    @property
    def rows(self) -> list[Row]:
        """The scores alone."""
        return [point.row for point in self.points]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the scores say of the paper's claims; nothing before every point is scored."""
        return (
            [] if self.unscored or self.untrained else decide_run(self.name, self.source, self.rows)
        )

    @property
    def fingerprint(self) -> str:
        """What the source's contents hash to: scores of runs of equal fingerprints compare."""
        return str(self.config["source"]["fingerprint"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """The images' shape (C, H, W)."""
        channels, height, width = self.config["source"]["shape"]
        return channels, height, width


def open_run(folder: Path | str, number: int = 0) -> ReportedRun:
    """Reads a run folder.

    Args:
        folder: The run's folder.
        number: Tells the points of several runs in one page apart.

    Raises:
        QuadrateError: If there is no run there, none of its points is scored, or a file is damaged.
    """
    folder = Path(folder)
    _, rows = read_results(folder)
    config = _checked_config(folder)
    recipe = read_recipe(folder, Recipe)
    points: list[ScoredPoint] = []
    waiting: dict[bool, list[str]] = {True: [], False: []}
    for stage, point in _pairs(recipe):
        place = folder / stage.name / point.key
        if exists(place / "evaluation.json"):
            with naming(folder):
                points.append(
                    ScoredPoint(
                        f"r{number}p{len(points)}", _checked_row(rows[len(points)], place), place
                    )
                )
        else:
            waiting[exists(place / "model.safetensors")].append(f"{stage.name}/{point.key}")
    return ReportedRun(folder, config, recipe, points, waiting[True], waiting[False])


def model_hashes(run: ReportedRun) -> list[tuple[str, str]]:
    """The run's model files, as "stage/point", and the SHA-256 of each, hexadecimal.

    Raises:
        QuadrateError: If a file cannot be read.
    """
    hashes = []
    for stage, point in _pairs(run.recipe):
        path = run.folder / stage.name / point.key / "model.safetensors"
        if exists(path):
            hashes.append((f"{stage.name}/{point.key}", _sha256(path)))
    return hashes


def weights_text(row: Row) -> str:
    """The weights of a point for a reader: "λp 0.01, λc 0", and λd where it is not 1."""
    shown = [
        f"{label} {row[name]:g}"
        for name, label in WEIGHTS.items()
        if name != "lambda_d" or row[name] != 1
    ]
    return ", ".join(shown)


def varied(rows: Sequence[Row], name: str) -> bool:
    """Whether a column has more than one value."""
    return len({row[name] for row in rows}) > 1


def _pairs(recipe: Recipe) -> Iterator[tuple[Stage, OperatingPoint]]:
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
    """What every config.json holds: a recipe and a source, each with its name.

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
