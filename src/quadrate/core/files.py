"""Reading and writing of whole files: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Self

from quadrate.core.names import is_printable
from quadrate.core.remote import Place, Url, place_of
from quadrate.errors import QuadrateError

_PIECE = 1 << 20
_NAME_BYTES = 180  # of a file's name in that of its temporary one; file systems allow 255


class Closing:
    """Something that is closed at the end of a `with` block; it has a method `close`."""

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def write_atomically(path: Place, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file in the folder of `path`, which then takes its name.

    What belongs behind a URL is made in this machine's folder for temporary files, and copied.

    If anything fails, the old file stays. A symbolic link is followed: its target is replaced or
    made, and the link stays.

    Raises:
        QuadrateError: If the file cannot be written: no space, no permission, or its name belongs
            to something that is not a file.
    """
    if isinstance(path, Url):
        with TemporaryDirectory() as folder:
            write_atomically(whole := Path(folder) / "file", write)
            path.put(whole)
        return
    temporary = None
    try:
        target = target_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(target)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that only their owner may read
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        # safetensors reports a full disk in its own kind of error, so its text is read, too.
        if isinstance(error, OSError) or "No space left" in str(error) or "I/O error" in str(error):
            reason = getattr(error, "strerror", None) or str(error)
            raise QuadrateError(
                f"cannot write {shown(path)}: {reason}; what stood there before is untouched: make"
                " room or choose another folder"
            ) from None
        raise


def target_of(path: Path) -> Path:
    """The file that writing to `path` makes or replaces: `path`, or the target of a symbolic link.

    Raises:
        QuadrateError: If `path` is not a regular file, or cannot be looked up: links in a circle,
            no permission, or a name that this system does not allow.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:
        raise QuadrateError(
            f"cannot write {shown(path)}: {getattr(error, 'strerror', None) or error}; choose"
            " another name"
        ) from None
    if not stat.S_ISREG(mode):
        raise QuadrateError(
            f"cannot write {shown(path)}: it is not a regular file; give another name"
        )
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def temporary_beside(path: Path) -> Path:
    """A name for a temporary file in the folder of `path`, with the number of this process.

    Temporary files that killed writers of the same file left there are removed; those of living
    processes and of other machines stay.
    """
    name, encoded = path.name, path.name.encode(errors="replace")
    if len(encoded) > _NAME_BYTES:
        name = hashlib.sha256(encoded).hexdigest()
    begin = f".{name}.{_processes()}-"
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            process = entry.name.removeprefix(begin).partition("-")[0]
            if entry.name.startswith(begin) and not _lives(process):
                with suppress(OSError):
                    os.unlink(entry.path)
    return path.with_name(f"{begin}{os.getpid()}-{secrets.token_hex(4)}")


@cache
def _processes() -> str:
    """A name for this machine or container, since process numbers are unique only within it."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    name = f"{socket.gethostname()} {space}".encode(errors="replace")
    return hashlib.sha256(name).hexdigest()[:8]


def _lives(process: str) -> bool:
    """Whether a process lives, or may live: its number or state cannot be read."""
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def write_text(path: Place, text: str) -> None:
    """Writes a text file atomically.

    Characters that UTF-8 lacks, as in file names of another encoding, are written as escapes.
    """
    data = text.encode("utf-8", errors="backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON Lines atomically."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


FileSource = bytes | bytearray | memoryview | str | os.PathLike[str] | Url
"""A file's contents, or its path or URL."""


def data_or_path(source: FileSource) -> bytes | Place:
    """A file's contents as bytes that nobody changes, or where it is.

    Raises:
        QuadrateError: If `source` is of another type.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike | Url):
        return place_of(source)
    try:
        return memoryview(source).tobytes()
    except TypeError:
        raise QuadrateError(
            f"a file is given by its path or its bytes; got {type(source).__name__}"
        ) from None


def exists(path: Place | str) -> bool:
    """Whether there is a file or folder of this name.

    Raises:
        QuadrateError: If it cannot be looked up: no permission, or a name that this system does
            not allow (too long, or with a null character).
    """
    if isinstance(path, Url):
        return path.exists()
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _cannot_read(path, error) from None
    return True


def is_folder(place: Place) -> bool:
    """Whether there is a folder of this name; raises as `exists` does."""
    return exists(place) and place.is_dir()


def size_of(place: Place) -> int:
    """How many bytes a file has that is there."""
    return place.size() if isinstance(place, Url) else place.stat().st_size


def read_bytes(path: Place | str) -> bytes:
    """The contents of a regular file; raises as `open_regular` does."""
    with open_regular(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise _cannot_read(path, error) from None


def digest_of(path: Place | str) -> str:
    """SHA-256 of a file, in hexadecimal digits; raises as `open_regular` does."""
    sha = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(_PIECE):
            sha.update(piece)
    return sha.hexdigest()


def open_regular(path: Place | str) -> IO[bytes]:
    """Opens a regular file for reading.

    Raises:
        QuadrateError: If it is missing, cannot be read, or is not a regular file: reading a pipe
            might never end.
    """
    if isinstance(path, Url):
        return path.open()
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder says what it is
            raise QuadrateError(f"cannot read {path}: it is not a regular file")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise _cannot_read(path, error) from None


def shown(path: Place | str) -> str:
    """A path as errors show it: on one line, and cut short if it is very long."""
    text = str(path)
    if len(text) < 300 and is_printable(text):
        return text
    return f"{text[:80]!a}{'…' * (len(text) > 80)}"


def _cannot_read(path: Place | str, error: OSError | ValueError) -> QuadrateError:
    if isinstance(error, FileNotFoundError):
        return QuadrateError(f"no such file: {shown(path)}")
    return QuadrateError(f"cannot read {shown(path)}: {getattr(error, 'strerror', None) or error}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads JSON Lines; a missing file has no rows.

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
            raise QuadrateError(
                f"{path}, line {number}: not a JSON object; delete the file to have it written anew"
            )
        rows.append(row)
    return rows


def read_json(path: Place) -> Any:
    """Reads a JSON file.

    Raises:
        QuadrateError: If it is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError):
        raise QuadrateError(f"{path} is not JSON; delete it to have it written anew") from None


def _read_text(path: Place) -> str:
    """Reads a text file; invalid bytes become characters that JSON does not allow."""
    return read_bytes(path).decode(errors="replace")
