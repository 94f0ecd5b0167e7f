"""What run folders hold besides codecs: config.json and tables."""

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
from typing import Any

import torch

from quadrate import __version__
from quadrate.config import to_json
from quadrate.core.files import exists, write_text
from quadrate.errors import QuadrateError
from quadrate.training.processes import available_cores


def describe(folder: Path, recipe: Any, **more: Any) -> None:
    """Write the resolved configuration into a run's folder, once.

    The kind, the recipe, what else decides its numbers, the command and the machine.
    """
    path = folder / "config.json"
    if not exists(path):
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        description = {
            "kind": recipe.kind,
            "recipe": json.loads(to_json(recipe)),
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


@contextmanager
def naming(*folders: Path) -> Iterator[None]:
    """Let errors about what run folders hold name the folders."""
    try:
        yield
    except QuadrateError as error:
        if any(str(folder) in str(error) for folder in folders):
            raise
        raise QuadrateError(f"{', '.join(map(str, folders))}: {error}") from None


def machine() -> dict[str, Any]:
    """Return where and when this runs: versions, processor, date."""
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
    """Return rows as CSV text; the columns are all keys in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    )
    return text.getvalue()
