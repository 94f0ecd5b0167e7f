"""Where `quadrate decompress` writes: a folder of PNG files, or one .npy file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError
from quadrate.files import write_atomically
from quadrate.sources.images import SUFFIXES

_PART_BYTES = 100  # of a name between slashes, and at most this many parts: file systems allow 255 bytes a part and 4096 a path, OUT's included
_PARTS = 8
_ODD = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029]')  # Windows forbids the first seven
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that are no files on Windows


class PictureFolder:
    """A folder that gets a PNG file a sample; the files have the stored names where these are safe.

    Args:
        root: A folder that does not exist, or is empty, so that no name in a .quad file can change what is there.
        shape: The images' shape (C, H, W).

    Raises:
        QuadrateError: If it cannot be made, is not empty, or PNG holds no such images.
    """

    def __init__(self, root: Path, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise QuadrateError(f"PNG files hold 1 or 3 channels; these images are {tuple(shape)} (C, H, W): give an output that ends in .npy")
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            if any(root.iterdir()):
                raise QuadrateError(f"{root} is not empty; give a new folder")
        except FileExistsError:
            raise QuadrateError(f"{root} is a file; give a folder, or a name that ends in .npy") from None
        except OSError as error:
            raise QuadrateError(f"cannot write {root}: {error.strerror}; choose another folder") from None

    def write(self, image: NDArray[np.uint8], number: int, name: str | None) -> None:
        """Writes a sample, uint8 (C, H, W), by its name or its number.

        Raises:
            QuadrateError: If it cannot be written.
        """
        from PIL import Image

        picture = io.BytesIO()
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(picture, "PNG")
        wanted = safe_parts(name) if name is not None else None
        folders, stem = wanted if wanted else ([], f"{number:06d}")
        for place in (*folders, stem), (*folders, f"{stem}-{number:06d}"), (f"{number:06d}",):
            if self._put(self._root.joinpath(*place[:-1], f"{place[-1]}.png"), picture.getvalue()):
                return
        attempt = 2
        while not self._put(self._root / f"{number:06d}-{attempt}.png", picture.getvalue()):
            attempt += 1

    def _put(self, path: Path, data: bytes) -> bool:
        """Writes a new file; false if one is in the way: the file system knows best which names are the same to it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
        except (FileExistsError, NotADirectoryError):
            return False
        except OSError as error:
            raise QuadrateError(f"cannot write {path}: {error.strerror}; what was written before it is whole") from None
        return True


def safe_parts(name: str) -> tuple[list[str], str] | None:
    """Sub-folders and stem of a file for an untrusted name; None if nothing of it can be used.

    The sub-folders are kept if the name is a plain relative path, and dropped otherwise: whatever the name, the file lies below the folder.
    """
    parts = re.split(r"[/\\]", name)
    plain = all(part.strip(". ") for part in parts) and not _ODD.search(name) and len(parts) <= _PARTS
    last = parts[-1]
    suffix = Path(last).suffix
    stem = _safe_part(last[: -len(suffix)] if suffix.lower() in SUFFIXES else last)
    if not stem:
        return None
    folders = [_safe_part(part) for part in parts[:-1]] if plain else []
    return folders, stem


def _safe_part(part: str) -> str:
    """A part of a path without odd characters, of a length that every file system takes; empty if nothing is left."""
    part = _ODD.sub("_", part).strip(". ").encode()[:_PART_BYTES].decode(errors="ignore").rstrip(". ")
    return f"_{part}" if _DEVICES.fullmatch(part) else part


def write_array(path: Path, shape: tuple[int, ...], dtype: str, pieces: Iterable[NDArray[Any]]) -> None:
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
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces:
                file.write(np.ascontiguousarray(piece, dtype).data)

    write_atomically(path, write)
