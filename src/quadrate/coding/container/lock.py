"""Advisory locks: one writer of a file at a time.

They belong to the file, not to its name, so links lead to the same lock, and they vanish with their
process. On a file system without locks nothing is locked.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from quadrate.errors import QuadrateError

WAIT_SECONDS = 5.0  # for another writer to end, before this one is refused
_PAUSE_SECONDS = 0.02
_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)

if sys.platform == "win32":
    import msvcrt

    # Windows locks bytes, and keeps others from reading them: one beyond the end of any file.
    _FAR = 1 << 40

    def _take(file: BinaryIO, mode: int) -> None:
        place = file.tell()
        try:
            file.seek(_FAR)
            msvcrt.locking(file.fileno(), mode, 1)
        finally:
            file.seek(place)

    def _lock(file: BinaryIO) -> None:
        _take(file, msvcrt.LK_NBLCK)

    def _unlock(file: BinaryIO) -> None:
        _take(file, msvcrt.LK_UNLCK)

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


def _is_free(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; false if another open file has the lock.

    On a file system without locks every file is free.
    """
    try:
        _lock(file)
    except OSError as error:
        return error.errno not in _HELD
    return True


def _give_back(file: BinaryIO) -> None:
    """Give a lock back, if the file is still open.

    Closing alone would leave it with children that were forked meanwhile.
    """
    with suppress(OSError, ValueError):
        _unlock(file)


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one that stands under a name now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, mode: str = "rb") -> Iterator[BinaryIO]:
    """Open the file of a name, locked, so that nobody else appends to it or replaces it.

    A file system may have no locks; then nothing keeps others away.

    Raises:
        QuadrateError: If another writer keeps the lock for longer than `WAIT_SECONDS`.
        OSError: If it cannot be opened.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with cast(BinaryIO, open(path, mode, buffering=0)) as file:
            if _is_free(file) and _is_at(file, path):  # and was not replaced while we waited
                try:
                    yield file
                finally:
                    _give_back(file)
                return
        if time.monotonic() > deadline:
            raise QuadrateError(
                f"another program is writing to {path}; nothing was changed: try again when it has"
                " ended"
            )
        time.sleep(_PAUSE_SECONDS)
