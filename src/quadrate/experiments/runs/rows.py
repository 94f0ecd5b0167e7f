"""The one reader and writer of scores: a JSON file for each point of a run, of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quadrate.core.fields import is_number, shown
from quadrate.core.files import exists, read_json, write_text
from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError

_MADE_WITH = "made_with"  # the key of what the scores were made with
_ADVICE = "delete it and run `quadrate evaluate` again"
_TEXTS = ("stage", "levels", "decoder", "rate_entropy_method", "protocol")
_NUMBERS = (
    *("lambda_", "noise_", "seed", "rate_", "distortion_", "psnr_", "accuracy_"),
    *("cross_entropy_", "w1_", "sliced_", "kid", "train_"),
)
_NEEDED = (
    *("stage", "levels", "lambda_d", "lambda_p", "lambda_c", "noise_std", "seed"),
    "rate_bound_bits",
)  # of points in stages
_LARGEST = 1e15  # no score comes near


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a point, of which it may have several; none if it is not scored.

    Raises:
        QuadrateError: If the file cannot be read, or does not hold scores.
    """
    if not exists(path):
        return []
    found = read_json(path)
    rows = found.get("rows", [found]) if isinstance(found, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise QuadrateError(f"{path} holds no scores; {_ADVICE}")
    rows = [{name: value for name, value in row.items() if name != _MADE_WITH} for row in rows]
    for row in rows:
        _check(path, row)
    return rows


def read_made_with(path: Path) -> dict[str, Any] | None:
    """Return what scores were made with; None where they do not say, as in version 0.1."""
    found = read_json(path)
    if _MADE_WITH not in found:
        return None
    return found[_MADE_WITH] if isinstance(found[_MADE_WITH], dict) else {}


def write_row(path: Path, row: dict[str, Any], made_with: dict[str, str]) -> None:
    """Write the scores of a point with what they were made with."""
    write_text(path, json.dumps({**row, _MADE_WITH: made_with}, indent=1))


def _check(path: Path, row: dict[str, Any]) -> None:
    if path.name == "evaluation.json" and (lacking := [key for key in _NEEDED if key not in row]):
        raise QuadrateError(f"{path} lacks {lacking[0]!r}; {_ADVICE}")
    if not row:
        raise QuadrateError(f"{path} holds no scores; {_ADVICE}")
    for name, value in row.items():
        if name in _TEXTS:
            right, what = isinstance(value, str) and is_printable(value), "a text"
        elif name.startswith(_NUMBERS):
            # infinite: the error of one block, the PSNR of a codec that changes nothing, the bound
            # of a rate that is learned
            endless = name.endswith("_stderr") or name in ("psnr_db", "rate_bound_bits")
            right, what = is_number(value) and (endless or abs(value) < _LARGEST), "a finite number"
        else:
            right = value is None or is_number(value) or isinstance(value, bool)
            right = right or (isinstance(value, str) and is_printable(value))
            what = "a number or a text"
        if not (right and is_printable(name)):
            column = name if name.isidentifier() else ascii(name[:80])
            raise QuadrateError(f"{path}: {column} is {shown(value)}, not {what}; {_ADVICE}")
