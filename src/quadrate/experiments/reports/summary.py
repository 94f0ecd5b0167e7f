"""Rows over seeds: what tables, figures and claims read."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quadrate.config import WEIGHTS
from quadrate.core.fields import is_number, shown
from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError
from quadrate.evaluation.intervals import mean_interval
from quadrate.evaluation.score import SCORES, is_quick

Row = Mapping[str, Any]
"""One scored point, as `quadrate.experiments.runs.Run.results` returns it, or a mean of seeds."""

POINT = ("stage", "levels", "lambda_d", "lambda_p", "lambda_c", "noise_std")
"""The columns that name an operating point, its seed apart."""

SETTINGS = {
    "stage": "stage",
    "protocol": "protocol",
    "levels": "levels",
    "decoder": "decoder",
    "noise_std": "noise",
    **{weight.name: weight.symbol for weight in WEIGHTS},
    "objective": "objective",
    "beta": "β",
    "schedule": "training",
    "steps": "steps",
    "predictor_augmentation": "predictor's changes",
    "way": "stored as",
    "quality": "quality",
    "images_a_file": "images a file",
    "receiver": "receiver",
    "rate_nats": "rate, nats",
}
"""The columns that tell points of all kinds apart, their seeds aside, and what tables call them."""

_LONGEST_WHOLE = 18  # digits, which every integer type holds
_TEXTS = {
    "decoder",
    "objective",
    "bottleneck",
    "schedule",
    "augmentation",
    "predictor_augmentation",
    "way",
    "receiver",
    "at_the_edge",
    "hyperparameter",
}
_WHOLE = ("steps", "seed")
_ENDLESS = ("perception_spread_nats",)
_LARGEST = 1e15  # no result comes near
KINDS = {
    "objective": (
        "A line is a codec, or another way to read one. vic reconstructs the representative that"
        " all members of an orbit share, vc the sample itself, bince tells orbits apart; β weighs"
        " the rate. Bits are those of whole .quad files, a sample. A predictor is a classifier that"
        " was trained on what is received, reconstructions or latents; predictor's changes: the"
        " random changes by which its images were moved. MSE is against what is to be"
        " reconstructed. H[X] and H[M]: entropies of the source, and of what its symmetry leaves."
    ),
    "bits_per_pixel": (
        "A line is a way to store photographs, each in a file of its own: means over the test"
        " photographs. Bits are those of whole files. PSNR and MS-SSIM of the three colours."
    ),
    "way": (
        "A line is a way to store images and a receiver that was trained on what comes back; bits"
        " are those of the test images' files. Points lost: percentage points of accuracy, against"
        " the same receiver of uncompressed features."
    ),
    "model_entropy_bits": (
        "A line is a published bottleneck, and samples of its own model in one .quad file."
    ),
    "rate_nats": (
        "A line is a rate: D is what the contour of R(D, C) nears where classification is free, C"
        " what it nears where distortion is free."
    ),
}
"""The columns that tell kinds of results without stages apart, and what their tables mean."""


def require(rows: Sequence[Row], *names: str) -> None:
    """Check that every row has a number or name in each of the columns.

    Raises:
        QuadrateError: If there are no rows, or one lacks a column.
    """
    if not rows:
        raise QuadrateError(
            "there are no scored points; `quadrate evaluate RUN` scores the trained points of a run"
        )
    for row in rows:
        for name in names:
            if row.get(name) is None:
                which = ", ".join(f"{key} {row[key]}" for key in (*POINT, "seed") if key in row)
                raise QuadrateError(
                    f"no column {name!r} in the results of {which or 'a point'}; `quadrate evaluate"
                    " RUN` writes all columns"
                )


def is_judged(rows: Sequence[Row]) -> bool:
    """Whether any row has an accuracy; images without labels have none."""
    return any(name.startswith("accuracy_") for row in rows for name in row)


def read_table(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a results.csv: numbers where cells are numbers, no key where a cell is empty.

    Raises:
        QuadrateError: If there is no such file, it is not a table, or a cell has control
            characters.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise QuadrateError(
            f"cannot read the table {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    if any(None in row or None in row.values() for row in rows):
        raise QuadrateError(
            f"{path} has a line with more or fewer cells than its first; a results.csv of `quadrate"
            " evaluate` has equally many"
        )
    if not all(is_printable(text) for row in rows for cell in row.items() for text in cell):
        raise QuadrateError(
            f"{path} has a cell with a line break or another control character; `quadrate evaluate`"
            " writes none"
        )
    return [{name: _cell(text) for name, text in row.items() if text} for row in rows]


def _cell(text: str) -> int | float | str:
    for kind in (int, float) if len(text) <= _LONGEST_WHOLE else (float,):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_points(path: Path) -> list[dict[str, Any]]:
    """The rows of a results.csv without stages.

    Raises:
        QuadrateError: If the file cannot be read, is not of such a run, or has a text where a
            number belongs.
    """
    rows = read_table(path)
    kind = kind_of(rows)
    if not kind:
        raise QuadrateError(
            f"{path}: not the results of a run: a row has one of the columns {', '.join(KINDS)}"
        )
    again = "`quadrate evaluate RUN` writes it anew"
    for row in rows:
        for name, value in row.items():
            if name not in _TEXTS and not (
                is_number(value) and (abs(value) < _LARGEST or name in _ENDLESS)
            ):
                which = f"{shown(value)} where a number should stand, in the column {name[:80]!a}"
                raise QuadrateError(f"{path}: a table of results holds {which}; {again}")
            if name in _WHOLE and type(value) is not int:
                raise QuadrateError(
                    f"{path}: {name} is {shown(value)}, and should be a whole number; {again}"
                )
        if kind not in row or not is_printable("".join(row)):
            raise QuadrateError(f"{path} has a row without {kind!r}; {again}")
    return rows


def point_of(row: Row) -> tuple[Any, ...]:
    """What tells a row from those of other points, its seed apart.

    Scores on quick terms are never taken together with others.
    """
    return tuple(row.get(name) for name in SETTINGS)


def quick_note(rows: Iterable[Row]) -> str:
    """A caution about rows with quick scores; empty if there are none."""
    quick = [is_quick(row) for row in rows]
    if not any(quick):
        return ""
    return (
        f"{'All' if all(quick) else 'Some'} scores are quick ones (--quick), for a first look: they"
        " are rough, and compare with no others."
    )


def kind_of(rows: Sequence[Row]) -> str:
    """The column of `KINDS` that rows have; empty for rows of stages."""
    return next((name for name in KINDS if rows and name in rows[0]), "")


def by_point(rows: Iterable[Row]) -> list[list[Row]]:
    """Groups of rows that differ in nothing but the seed, in the order of the points.

    Raises:
        QuadrateError: If there are no rows, or a row does not say which point it is.
    """
    rows = list(rows)
    kind = kind_of(rows)
    require(rows, *((kind,) if kind else (*POINT, "seed")))
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(point_of(row), []).append(row)
    return list(groups.values())


def mean_over_seeds(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One row for each point: its settings, `seeds`, and the mean of every column of numbers.

    With two seeds or more, each score that can be better or worse gets `…_low` and
    `…_high`, the 95 % t-interval over seeds. A mean of `…_stderr` is the mean of the seeds'
    standard errors, not the standard error of the mean. A column that one of the seeds lacks is
    left out.

    Raises:
        QuadrateError: If there are no rows, or a row does not say which point it is.
    """
    return [_mean(group) for group in by_point(rows)]


def _mean(group: Sequence[Row]) -> dict[str, Any]:
    mean: dict[str, Any] = {name: group[0][name] for name in SETTINGS if name in group[0]}
    mean["seeds"] = len(group)
    for name in group[0]:
        values: list[Any] = [row.get(name) for row in group]
        if name in mean or name == "seed" or None in values:
            continue
        if not all(isinstance(value, int | float) for value in values):
            mean[name] = " / ".join(dict.fromkeys(map(str, values)))
        elif name in SCORES and SCORES[name].better and len(group) > 1:
            mean[name], mean[f"{name}_low"], mean[f"{name}_high"] = mean_interval(
                [float(value) for value in values]
            )
        else:
            mean[name] = math.fsum(values) / len(group)
    return mean


def interval(name: str, values: Sequence[float]) -> dict[str, float]:
    """The mean over seeds under a name, and its 95 % t-interval under `…_low` and `…_high`.

    NaN for the interval of one seed.
    """
    mean, low, high = mean_interval(values)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
