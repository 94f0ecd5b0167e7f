"""Files that are whole or not there: writing under a temporary name, then renaming."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from quadrate.errors import QuadrateError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, which then takes its name; on any failure the old file stands.

    Raises:
        QuadrateError: If the file cannot be written (no space, no permission).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that only their owner may read, and results are to be shared
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        # safetensors reports a full disk as an error of its own, so the reason is read from the text too.
        if isinstance(error, OSError) or "No space left" in str(error) or "I/O error" in str(error):
            reason = getattr(error, "strerror", None) or str(error)
            raise QuadrateError(f"cannot write {path}: {reason}; what stood there before is untouched: make room or choose another folder") from None
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON Lines atomically."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def exists(path: Path | str) -> bool:
    """Whether there is a file or folder of this name.

    Raises:
        QuadrateError: If nobody can tell: no permission, or a name that is none on this system (too long, or with a null character).
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _cannot_read(path, error) from None
    return True


def read_bytes(path: Path | str) -> bytes:
    """The contents of a regular file; errors as `open_regular`."""
    with open_regular(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise _cannot_read(path, error) from None


def open_regular(path: Path | str) -> IO[bytes]:
    """A regular file, opened for reading.

    Raises:
        QuadrateError: If it is missing, cannot be read, or is not a regular file: a pipe would keep us waiting.
    """
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder says what it is
            raise QuadrateError(f"cannot read {path}: it is not a regular file")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise _cannot_read(path, error) from None


def _cannot_read(path: Path | str, error: OSError | ValueError) -> QuadrateError:
    if isinstance(error, FileNotFoundError):
        return QuadrateError(f"no such file: {path}")
    name = str(path) if len(str(path)) < 300 and "\0" not in str(path) else f"{str(path)[:80]!a}…"
    return QuadrateError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads JSON Lines; no file is no rows.

    Raises:
        QuadrateError: If a line is not a JSON object, or the file cannot be read.
    """
    if not exists(path):
        return []
    rows = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise QuadrateError(f"{path}, line {number}: not a JSON object; delete the file to have it written anew")
        rows.append(row)
    return rows


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        QuadrateError: If it is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError):
        raise QuadrateError(f"{path} is not JSON; delete it to have it written anew") from None


def _read_text(path: Path) -> str:
    """A text file; bytes that are no text become characters that are no JSON."""
    return read_bytes(path).decode(errors="replace")
