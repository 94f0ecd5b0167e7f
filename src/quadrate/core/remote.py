"""Files behind URLs: what fsspec opens (extra `remote`), such as s3://, gs://, https://, memory://.

A `Url` has the methods of `pathlib.Path` that readers and writers of files use, so most code takes
either, as a `Place`. Nothing is kept between calls but the text, so that it may be sent to other
processes and used by any thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from quadrate.errors import QuadrateError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+(://|::)")  # a drive such as C: has one letter
_LOCAL = re.compile(r"(file|local)://")


@dataclass(frozen=True)
class Url:
    """A file or folder behind a URL.

    All methods raise a `QuadrateError` of one line if fsspec or what the protocol needs is missing,
    or what is behind the URL cannot be reached, read or written.

    Attributes:
        text: The URL, without a slash at its end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.text}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return os.path.splitext(self.name)[1]

    def is_file(self) -> bool:
        """Whether there is a file of this name."""
        with self._reached("read") as (system, path):
            return bool(system.isfile(path))

    def is_dir(self) -> bool:
        """Whether there is a folder of this name."""
        with self._reached("read") as (system, path):
            return bool(system.isdir(path))

    def exists(self) -> bool:
        """Whether there is anything of this name."""
        with self._reached("read") as (system, path):
            return bool(system.exists(path))

    def size(self) -> int:
        """How many bytes a file has."""
        with self._reached("read") as (system, path):
            size = system.size(path)
        if not isinstance(size, int):
            raise QuadrateError(f"cannot read {self}: its server does not say how large it is")
        return size

    def open(self) -> IO[bytes]:
        """Open a file for reading; it can seek."""
        with self._reached("read") as (system, path):
            file: IO[bytes] = system.open(path, "rb")
            return file

    def read(self, offset: int, count: int) -> bytes:
        """Fetch exactly these bytes of a file, and no others.

        Raises:
            QuadrateError: If other bytes come: the file has become shorter, or its server does not
                know of ranges.
        """
        if not count:
            return b""
        with self._reached("read") as (system, path):
            data: bytes = system.cat_file(path, start=offset, end=offset + count)
        if len(data) != count:
            raise QuadrateError(
                f"cannot read {self}: {count} bytes were asked for, and {len(data)} came; it was"
                " changed, or its server does not give ranges"
            )
        return data

    def entries(self) -> list[tuple[str, bool, bool]]:
        """The names in a folder, whether each is a folder, and whether it is a file, sorted."""
        with self._reached("read") as (system, path):
            found = system.ls(path, detail=True)
        names = [(each["name"].rstrip("/"), each["type"]) for each in found]
        return sorted(
            (name.rpartition("/")[2], kind == "directory", kind == "file")
            for name, kind in names
            if name.rstrip("/") != str(path).rstrip("/")  # some list the folder itself
        )

    def iterdir(self) -> Iterator[Url]:
        """What is in a folder; nothing if it is not there, as an object store has no folders."""
        for name, _, _ in self.entries() if self.is_dir() else ():
            yield self / name

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder, where there are folders."""
        with self._reached("write") as (system, path):
            system.makedirs(path, exist_ok=exist_ok)

    def rmdir(self) -> None:
        """Remove an empty folder, where there are folders."""
        with self._reached("write") as (system, path):
            system.rmdir(path)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        with self._reached("write") as (system, path):
            if not missing_ok or system.exists(path):
                system.rm_file(path)

    def put(self, source: Path) -> None:
        """Copy a local file here, in place of what is here.

        Object stores show it when it is whole; other systems may show a part of it meanwhile.
        """
        with self._reached("write") as (system, path):
            system.put_file(str(source), path)

    @contextmanager
    def _reached(self, verb: str) -> Iterator[tuple[Any, str]]:
        """The file system and the path in it; what goes wrong becomes one line."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise QuadrateError(
                f"{self} needs fsspec, which is missing: pip install 'quadrate[remote]'"
            ) from None
        try:
            yield url_to_fs(self.text)
        except QuadrateError:
            raise
        except FileNotFoundError:
            raise QuadrateError(f"no such file: {self}") from None
        except Exception as error:  # each protocol has its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise QuadrateError(f"cannot {verb} {self}: {reason}") from None


Place = Path | Url
"""Where a file or folder is."""


def place_of(text: str | os.PathLike[str] | Url) -> Place:
    """A path, or a URL of another protocol than file://."""
    if isinstance(text, Path | Url):
        return text
    name = os.fsdecode(text)
    if local := _LOCAL.match(name):
        return Path(name[local.end() :])
    return Url(name.rstrip("/")) if _URL.match(name) else Path(name)
