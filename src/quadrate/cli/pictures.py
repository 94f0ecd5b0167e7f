"""Where `quadrate decompress` writes: a folder of pictures, or one .npy file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quadrate.cli.wish import Format
from quadrate.core.files import read_json, shown, temporary_beside, write_atomically, write_text
from quadrate.core.names import DEVICES
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError
from quadrate.sources.images import SUFFIXES, fitting_profile

_MARK = ".quadrate-unfinished.json"  # the names of pictures never begin with a dot
# of a name between slashes, and at most this many parts: file systems allow 255 bytes a part and
# 4096 a path, OUT's included
_PART_BYTES = 100
_PARTS = 8
_ODD = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029]')  # Windows forbids the first seven


@dataclass(frozen=True)
class _Format:
    """A format of picture files.

    Attributes:
        name: Its name in errors.
        ending: Of the files' names.
        most: Pixels a side that it holds.
        options: How Pillow shall write it.
    """

    name: str
    ending: str
    most: int
    options: dict[str, Any] = field(default_factory=dict)


_FORMATS: dict[Format, _Format] = {
    "png": _Format("PNG", ".png", 2**31 - 1),
    "jpeg": _Format("JPEG", ".jpg", 65500, {"quality": 95, "subsampling": 0}),
    "webp": _Format("WebP", ".webp", 16383, {"lossless": True}),
}


def check_picture(shape: tuple[int, ...], kind: Format) -> None:
    """Raise a QuadrateError unless a format holds pictures of a shape (C, H, W)."""
    wanted = _FORMATS[kind]
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise QuadrateError(
            f"{wanted.name} files hold 1 or 3 channels; these images are {tuple(shape)} (C, H, W):"
            " give an output that ends in .npy"
        )
    if max(shape[1:]) > wanted.most:
        raise QuadrateError(
            f"{wanted.name} files hold up to {wanted.most} pixels a side; an image has {shape[2]} x"
            f" {shape[1]}: give --format png"
        )


class PictureFolder:
    """A folder that gets a picture a sample; the files have the stored names where these are safe.

    A context manager.

    While it is entered, a file in it says what is asked for; it goes at the end. So a folder that
    was not finished is known, and the same question finishes it: the pictures in it are whole,
    since each appears under its name when it is, and they stay as they are.

    Args:
        root: A folder that does not exist, is empty, or was left unfinished by the same question,
            so that no name in a .quad file can change what is there.
        asked: What decides the pictures, as JSON has it.
        kind: The format of the pictures, each of which `check_picture` allows.

    Raises:
        QuadrateError: If it cannot be made, or is not empty.
    """

    def __init__(self, root: Path, asked: dict[str, Any], kind: Format = "png") -> None:
        self._root, self._asked = root, json.loads(json.dumps({**asked, "format": kind}))
        self._format = _FORMATS[kind]
        self._mark = root / _MARK
        self._taken: set[tuple[int, int]] | None = (
            None  # of a folder that is gone on with: the files that belong to samples that came by
        )
        self._written = 0
        self._made: list[Path] = []

    def __enter__(self) -> PictureFolder:
        with _cannot_write(self._root):
            missing = [
                folder for folder in (self._root, *self._root.parents) if not folder.exists()
            ]
            self._root.mkdir(parents=True, exist_ok=True)
            self._made = missing
            temporary_beside(
                self._mark
            )  # removes what a writer left that was killed before it began
            if any(self._root.iterdir()):
                self._go_on()
            else:
                write_text(self._mark, json.dumps(self._asked))
            self._lock = locked(self._mark)
            self._temporary = temporary_beside(self._root / "picture")
        return self

    def _go_on(self) -> None:
        """Raises a QuadrateError unless the folder is an unfinished one of the same question."""
        if not self._mark.is_file():
            raise QuadrateError(f"{self._root} is not empty; give a new folder")
        if read_json(self._mark) != self._asked:
            raise QuadrateError(
                f"{self._root} was begun from another file, or with another codec, decoder, format"
                " or samples; give a new folder"
            )
        self._taken = set()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()
        with suppress(OSError):
            self._temporary.unlink()
        with suppress(OSError):
            if kind is None:
                self._mark.unlink()
            elif not self._written and self._taken is None:  # nothing is left of what did not begin
                self._mark.unlink()
                for folder in self._made:
                    folder.rmdir()

    def write(
        self, image: NDArray[np.uint8], number: int, name: str | None, profile: bytes = b""
    ) -> None:
        """Writes a sample, uint8 (C, H, W), by its name or its number.

        A profile of its colours is written with it, unless it is damaged.

        Raises:
            QuadrateError: If it cannot be written.
        """
        wanted = safe_parts(name) if name is not None else None
        folders, stem = wanted if wanted else ([], f"{number:06d}")
        for place in (*folders, stem), (*folders, f"{stem}-{number:06d}"), (f"{number:06d}",):
            if self._put(self._root.joinpath(*place[:-1]), place[-1], image, profile):
                return
        attempt = 2
        while not self._put(self._root, f"{number:06d}-{attempt}", image, profile):
            attempt += 1

    def _put(self, folder: Path, stem: str, image: NDArray[np.uint8], profile: bytes) -> bool:
        """Writes a new file, whole or not at all.

        False if another sample's is in the way: the file system knows best which names are the
        same.
        """
        from PIL import Image

        path = folder / f"{stem}{self._format.ending}"
        with _cannot_write(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if self._taken is not None and path.is_file():
                    return self._take(path)
                options = dict(self._format.options)
                if profile := fitting_profile(profile, len(image)):
                    options["icc_profile"] = profile
                pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
                with self._temporary.open("wb") as file:
                    Image.fromarray(pixels).save(file, self._format.name, **options)
                _name_new(self._temporary, path)
            except (FileExistsError, NotADirectoryError):
                return False
            if self._taken is not None:
                self._take(path)
            self._written += 1
        return True

    def _take(self, path: Path) -> bool:
        """Whether a file that is there is this sample's.

        Samples come in the same order as before, so it is the first to whom it falls.
        """
        assert self._taken is not None
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        free = key not in self._taken
        self._taken.add(key)
        return free


def locked(path: Path) -> IO[bytes]:
    """A file that no other process can hold by this until it is closed or the process ends.

    Where the system has no locks, just a file.

    Raises:
        QuadrateError: If another process holds it.
    """
    file = path.open("rb")
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise QuadrateError(
                f"another process is writing into {path.parent}; wait for its end, or give another"
                " folder"
            ) from None
        except OSError:  # a file system without locks
            pass
    return file


def _name_new(temporary: Path, path: Path) -> None:
    """Gives a file its name.

    Raises:
        FileExistsError: If there is something of that name.
    """
    try:
        os.link(temporary, path)
        temporary.unlink()
    except FileExistsError:
        raise
    except OSError:  # some file systems know no second names
        if os.path.lexists(path):
            raise FileExistsError from None
        os.rename(temporary, path)


@contextmanager
def _cannot_write(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise QuadrateError(
            f"cannot write {shown(path)}: {error.strerror or error}; what was written before it is"
            " whole"
        ) from None


def safe_parts(name: str) -> tuple[list[str], str] | None:
    """Sub-folders and stem of a file for an untrusted name; None if nothing of it can be used.

    The sub-folders are kept if the name is a plain relative path, and dropped otherwise: whatever
    the name, the file lies below the folder.
    """
    parts = re.split(r"[/\\]", name)
    plain = (
        all(part.strip(". ") for part in parts) and not _ODD.search(name) and len(parts) <= _PARTS
    )
    last = parts[-1]
    suffix = Path(last).suffix
    stem = _safe_part(last[: -len(suffix)] if suffix.lower() in SUFFIXES else last)
    if not stem:
        return None
    folders = [_safe_part(part) for part in parts[:-1]] if plain else []
    return folders, stem


def _safe_part(part: str) -> str:
    """A part of a path without odd characters, of a length that every file system takes.

    Empty if nothing is left.
    """
    part = (
        _ODD.sub("_", part).strip(". ").encode()[:_PART_BYTES].decode(errors="ignore").rstrip(". ")
    )
    return os.fsdecode(
        (f"_{part}" if DEVICES.fullmatch(part) else part).encode()
    )  # UTF-8 on the disk, whatever the locale says of names


def write_array(
    path: Place, shape: tuple[int, ...], dtype: str, pieces: Iterable[NDArray[Any]]
) -> None:
    """Writes an .npy file piece by piece; it appears under its name when it is whole.

    Args:
        path: The file.
        shape: The whole array's shape.
        dtype: Its type.
        pieces: The array in pieces along the first axis.

    Raises:
        QuadrateError: If it cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            header = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces:
                file.write(np.ascontiguousarray(piece, dtype).data)

    write_atomically(path, write)
