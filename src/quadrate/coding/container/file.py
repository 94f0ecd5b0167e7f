"""Files that are read at any place, and files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

from quadrate.coding.container.lock import locked
from quadrate.core.files import (
    Closing,
    FileSource,
    data_or_path,
    shown,
    target_of,
    temporary_beside,
)
from quadrate.core.remote import Place, Url
from quadrate.errors import QuadrateError


class InputFile(Closing):
    """A regular file, one behind a URL, or bytes, read at any place; counts bytes read.

    Any number of threads may read. Behind a URL only what is asked for is fetched.
    """

    def __init__(self, source: FileSource) -> None:
        self.bytes_read = 0
        self._data: bytes | None = None
        self._url: Url | None = None
        self._file: Any = None
        given = data_or_path(source)
        if isinstance(given, bytes):
            self._data, self.size, self.name = given, len(given), "the data"
            return
        if isinstance(given, Url):
            self._url, self.name, self.size = given, str(given), given.size()
            return
        self.name, self._seeking = str(given), threading.Lock()
        check_regular(given, "read")
        try:
            self._file = open(given, "rb", buffering=0)  # noqa: SIM115 (closed by close)
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise QuadrateError(f"cannot read {given}: {error.strerror}") from None

    def read(self, offset: int, count: int) -> bytes:
        """Read exactly `count` bytes; the caller makes sure that they lie within `size`."""
        self.bytes_read += count
        if self._data is not None:
            return self._data[offset : offset + count]
        if self._url is not None:
            return self._url.read(offset, count)
        pieces = []
        try:
            while count:
                piece = self._read_some(offset, count)
                if not piece:
                    raise QuadrateError(
                        f"{self.name} became shorter while it was read: {count} bytes are missing"
                        f" at byte {offset}"
                    )
                pieces.append(piece)
                offset, count = offset + len(piece), count - len(piece)
        except OSError as error:
            raise QuadrateError(f"cannot read {self.name}: {error.strerror}") from None
        except ValueError:  # what Python says of a closed file
            raise QuadrateError(f"{self.name} is closed; open it again") from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_some(self, offset: int, count: int) -> bytes:
        # Threads, and processes forked from one another, such as a DataLoader's, share the file's
        # position.
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, offset)
        with self._seeking:
            self._file.seek(offset)
            return bytes(self._file.read(count))

    def changed_size(self) -> bool:
        """Whether the file has grown or shrunk since it was opened.

        If so, `size` is its new size.
        """
        if self._data is not None:
            return False
        before = self.size
        self.size = self._url.size() if self._url else os.fstat(self._file.fileno()).st_size
        return before != self.size

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._file is not None:
            self._file.close()


def check_regular(path: Path, verb: str) -> None:
    """Raise a QuadrateError unless a path leads to a regular file.

    A pipe would keep us waiting, and a device must not be replaced.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise QuadrateError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise QuadrateError(f"cannot {verb} {shown(path)}: {reason}") from None
    if not stat.S_ISREG(mode):
        raise QuadrateError(f"cannot {verb} {path}: it is not a regular file")


class OutputFile:
    """A binary file that is written in one pass, with failures of one line.

    Args:
        file: The file, at its `position`.
        name: Its name in errors.
        position: How many bytes stand before the first that is written.
        cut: Whether the first write cuts off the bytes after them.

    Attributes:
        position: How many bytes stand in the file.
        failed: Whether a write failed.
    """

    def __init__(self, file: BinaryIO, name: str, position: int = 0, cut: bool = False) -> None:
        self._file, self.name, self.position, self._cut = file, name, position, cut
        self.failed = False

    def write(self, *parts: bytes) -> None:
        """Write the parts one after another.

        Raises:
            QuadrateError: If the file does not take them; from then on it takes nothing.
        """
        with self._guarded():
            if self._cut:
                self._file.truncate(self.position)
                self._cut = False
            for part in parts:
                rest = memoryview(part)
                while rest:  # an unbuffered file may take less than it is given
                    taken = self._file.write(rest)
                    if not taken:
                        raise OSError(f"the file took {taken} of {len(rest)} bytes")
                    rest, self.position = rest[taken:], self.position + taken

    def flush(self, to_disk: bool) -> None:
        """Empty the buffers, and with `to_disk` those of the operating system too."""
        with self._guarded():
            self._file.flush()
            if to_disk:
                os.fsync(self._file.fileno())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self.failed:
            raise QuadrateError(
                f"cannot write {self.name}: an earlier write failed, so the file would have a hole;"
                " begin again"
            )
        try:
            yield
        except BaseException as error:  # an interrupt leaves half a block, too
            self.failed = True
            if isinstance(error, OSError):
                raise _cannot_write(self.name, error) from None
            raise


@contextmanager
def new_file(path: Place) -> Iterator[OutputFile]:
    """A new file under a temporary name next to `path`, which takes its name at the end.

    What belongs behind a URL is written to this machine's folder for temporary files first.

    On any failure the old file stays. A symbolic link is followed: it stays, and the file that it
    leads to is written.

    Raises:
        QuadrateError: If it cannot be written, or another program is appending to it.
    """
    if isinstance(path, Url):
        with TemporaryDirectory() as folder:
            whole = Path(folder) / "file"
            with _errors_of(whole), whole.open("xb", buffering=0) as made:
                output = OutputFile(cast(BinaryIO, made), str(path))
                yield output
            path.put(whole)
        return
    target = target_of(path)
    with _replaceable(path):  # before the work is done; and again when it is
        pass
    with _errors_of(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(target)
    try:  # from before the file is there, as a signal may come at any time
        with _errors_of(path):
            file = cast(BinaryIO, open(temporary, "xb", buffering=0))  # noqa: SIM115 (closed below)
        with file:
            output = OutputFile(file, str(path))
            yield output
            output.flush(to_disk=True)
        with _errors_of(path), _replaceable(path):
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _replaceable(path: Path) -> Iterator[None]:
    """Keep others from appending to a file, if there is one, while a new one takes its place."""
    with ExitStack() as stack:
        if os.name != "nt":  # where open files cannot be replaced anyhow
            with suppress(FileNotFoundError, PermissionError):
                stack.enter_context(locked(path))
        yield


@contextmanager
def grown_file(file: BinaryIO, name: str, end: int) -> Iterator[OutputFile]:
    """Write to a file from byte `end` on; a failure cuts off again what was written.

    Raises:
        QuadrateError: If it cannot be written.
    """
    file.seek(end)
    output = OutputFile(file, name, end, cut=True)
    try:
        yield output
        output.flush(to_disk=True)
    except BaseException:
        if output.position > end or output.failed:
            with suppress(OSError):
                file.truncate(end)
        raise


@contextmanager
def file_to_grow(path: Path) -> Iterator[BinaryIO]:
    """Open and lock a file to append to.

    Raises:
        QuadrateError: If there is no such file, it cannot be written, or another program is writing
            to it.
    """
    check_regular(path, "write")
    with ExitStack() as stack:
        with _errors_of(path):
            file = stack.enter_context(locked(path, "r+b"))
        yield file


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise _cannot_write(str(path), error) from None


def _cannot_write(name: str, error: OSError | ValueError) -> QuadrateError:
    reason = getattr(error, "strerror", None) or error
    return QuadrateError(
        f"cannot write {shown(name)}: {reason}; make room, or choose another place"
    )
