"""Rows over seeds: what tables, figures and claims read."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError
from quadrate.evaluation.intervals import mean_interval

Row = Mapping[str, Any]
"""One scored point, as `quadrate.experiments.runs.Run.results` returns it, or the mean of several seeds."""

POINT = ("stage", "levels", "lambda_d", "lambda_p", "lambda_c", "noise_std")
"""What names an operating point, its seed apart."""

JUDGES = ("training", "independent", "retrained")

_LONGEST_WHOLE = 18  # digits, which every integer type holds

SCORES = (
    "rate_entropy_bits",
    "distortion_mse",
    *(f"accuracy_{judge}" for judge in JUDGES),
    *(f"cross_entropy_{judge}_nats" for judge in JUDGES),
    "w1_fresh",
    "w1_certified",
    "sliced_w2sq",
    "kid",
)
"""The scores that get an interval over seeds."""


def require(rows: Sequence[Row], *names: str) -> None:
    """Checks that every row has a number or name in each of the columns.

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
    """Whether any row has an accuracy; where images have no labels, none has."""
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


def point_of(row: Row) -> tuple[Any, ...]:
    """What tells a row from those of other points, its seed apart.

    Scores on quick terms are never taken together with others.
    """
    return (*(row[name] for name in POINT), is_quick(row))


def is_quick(row: Row) -> bool:
    """Whether a row has scores on quick terms (`quadrate evaluate --quick`), which are for a first look and compare with no others."""
    return row.get("protocol") == "quick"


def quick_note(rows: Iterable[Row]) -> str:
    """What is to be said of rows with scores on quick terms; nothing where there are none."""
    quick = [is_quick(row) for row in rows]
    if not any(quick):
        return ""
    return (
        f"{'All' if all(quick) else 'Some'} scores are quick ones (--quick), for a first look: they"
        " are rough, and compare with no others."
    )


def by_point(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows in groups that differ in nothing but the seed, in the order in which the points first
    appear.

    Raises:
        QuadrateError: If a row does not say which point it is.
    """
    rows = list(rows)
    require(rows, *POINT, "seed")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(point_of(row), []).append(row)
    return list(groups.values())


def mean_over_seeds(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One row a point: `seeds`, their number, and the mean of every column of numbers.

    With two seeds or more, each of `SCORES` gets `…_low` and `…_high`, the 95 % t-interval over
    seeds. A mean of `…_stderr` is that of one seed's standard error, not the standard error of the
    mean. What one of the seeds lacks has no column.

    Raises:
        QuadrateError: If there are no rows, or a row does not say which point it is.
    """
    return [_mean(group) for group in by_point(rows)]


def _mean(group: Sequence[Row]) -> dict[str, Any]:
    mean: dict[str, Any] = {name: group[0][name] for name in POINT} | {"seeds": len(group)}
    for name in group[0]:
        values: list[Any] = [row.get(name) for row in group]
        if name in mean or name == "seed" or None in values:
            continue
        if not all(isinstance(value, int | float) for value in values):
            mean[name] = " / ".join(dict.fromkeys(map(str, values)))
        elif name in SCORES and len(group) > 1:
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
