"""What run folders of all kinds have in common.

Config.json, which says what was run and where, and tables.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from quadrate import __version__
from quadrate.config import from_json, to_json
from quadrate.core.files import exists, read_json, write_text
from quadrate.errors import QuadrateError
from quadrate.training.processes import available_cores

MADE_WITH = "made_with"
"""The key in a file of scores under which stands what they were made with.

Scores made with something else are measured anew.
"""

_Recipe = TypeVar("_Recipe")


def describe(folder: Path, recipe: Any, source: dict[str, Any], **more: Any) -> None:
    """Writes the resolved configuration into a run's folder, once.

    The recipe, its source, what else decides its numbers, command and machine.
    """
    path = folder / "config.json"
    if not exists(path):
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        description = {
            "recipe": json.loads(to_json(recipe)),
            "source": source,
            **more,
            "command": command,
            **machine(),
        }
        # A list of numbers stands on one line, however long a code is.
        text = re.sub(
            r"\[\n[\s\d.,e+-]+\]",
            lambda numbers: f"[{' '.join(numbers[0][1:-1].split())}]",
            json.dumps(description, indent=1),
        )
        write_text(path, text)


def read_recipe(folder: Path, kind: type[_Recipe]) -> _Recipe:
    """The recipe of a run folder.

    Args:
        folder: The folder.
        kind: The recipe's class.

    Raises:
        QuadrateError: If there is no run there, or its config.json holds no such recipe.
    """
    fields = read_recipe_fields(folder)
    try:
        recipe: _Recipe = from_json(kind, json.dumps(fields))
    except QuadrateError as error:
        raise QuadrateError(f"{folder / 'config.json'}: {error}") from None
    return recipe


def read_recipe_fields(folder: Path) -> Any:
    """The recipe in a run folder, as JSON has it; None where config.json holds none.

    Raises:
        QuadrateError: If there is no run there, or its config.json cannot be read.
    """
    path = folder / "config.json"
    if not exists(path):
        raise QuadrateError(
            f"no run at {folder}: a run folder holds config.json; `quadrate train RECIPE` makes one"
            " and prints its name"
        )
    described = read_json(path)
    return described.get("recipe") if isinstance(described, dict) else None


@contextmanager
def naming(*folders: Path) -> Iterator[None]:
    """Lets errors about what run folders hold say which folders these are."""
    try:
        yield
    except QuadrateError as error:
        if any(str(folder) in str(error) for folder in folders):
            raise
        raise QuadrateError(f"{', '.join(map(str, folders))}: {error}") from None


def machine() -> dict[str, Any]:
    """Where and when: versions, processor, date."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    return {
        "quadrate": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": f"{processor}, {available_cores()} cores",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV text; the columns are all keys in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    )
    return text.getvalue()
