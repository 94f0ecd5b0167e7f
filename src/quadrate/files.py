"""Files that are whole or not there: writing under a temporary name, then renaming."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from quadrate.errors import QuadrateError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, which then takes its name; on any failure the old file stands.

    Raises:
        QuadrateError: If the file cannot be written (no space, no permission).
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        os.replace(temporary, path)
    except Exception as error:
        # safetensors reports a full disk as an error of its own, so the reason is read from the text too.
        if isinstance(error, OSError) or "No space left" in str(error) or "I/O error" in str(error):
            reason = getattr(error, "strerror", None) or str(error)
            raise QuadrateError(f"cannot write {path}: {reason}; what stood there before is untouched: make room or choose another folder") from None
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON Lines atomically."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads JSON Lines; no file is no rows.

    Raises:
        QuadrateError: If a line is not JSON.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise QuadrateError(f"{path}, line {number}: not JSON; delete the file to have it written anew") from None
    return rows


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        QuadrateError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise QuadrateError(f"no such file: {path}") from None
    except ValueError:
        raise QuadrateError(f"{path} is not JSON; delete it to have it written anew") from None
