"""A reader of NumPy's .npy and .npz files from any origin.

Nothing in them is run or unpickled, and a file gets no memory for more than it holds.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quadrate.core.files import open_regular
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

MAX_BYTES = 1 << 32  # of an array that is read whole
_MAX_HEADER_BYTES = 1 << 16
_MAX_DIMENSIONS, _MAX_DIGITS = 32, 18
# The header is a Python dictionary. It is matched and not evaluated: to an evaluator 8,000 minus
# signs are a program.
_ENTRY = re.compile(
    r"""['"](descr|fortran_order|shape)['"]\s*:\s*(['"][^'"]*['"]|True|False|\([\d\s,L]*\))"""
)
_NUMBERS = re.compile(r"[<>|=]?[biuf]\d{1,2}")
# NumPy writes these; others take as much memory as a file asks for.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class ArrayStream:
    """An array in a file, to be read from its beginning.

    Attributes:
        shape: Its shape.
        dtype: Its type, of kind "b", "i", "u" or "f", in the file's byte order.
        in_columns: Whether its first index varies fastest (Fortran's order).
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_columns: bool
    _file: IO[bytes]

    def read(self, count: int) -> NDArray[Any]:
        """Reads the next `count` numbers, in the machine's byte order.

        Raises:
            ValueError: If fewer numbers follow.
        """
        size = count * self.dtype.itemsize
        data = self._file.read(size)
        if len(data) < size:
            raise ValueError(f"it is cut short: {len(data)} bytes, where {size} should follow")
        return np.frombuffer(data, self.dtype, count).astype(self.dtype.newbyteorder("="))

    def skip(self, count: int) -> None:
        """Leaves out the next `count` numbers."""
        self._file.seek(count * self.dtype.itemsize, os.SEEK_CUR)


def array_names(path: Place) -> tuple[str, ...]:
    """The names of the arrays in an .npz file.

    Raises:
        QuadrateError: If the file is missing or is not an .npz file.
    """
    with open_regular(path) as file, readable(path), zipfile.ZipFile(file) as archive:
        return tuple(
            name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")
        )


@contextmanager
def open_array(path: Place, name: str | None = None) -> Iterator[ArrayStream]:
    """Opens an .npy file, or one array of an .npz file.

    Any error while it is open is blamed on the file.

    Raises:
        QuadrateError: If it is missing, damaged, shorter than its header says, or holds anything
            but numbers.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(path))
        stack.enter_context(readable(path))
        if name is None:
            stream, size = file, file.seek(0, os.SEEK_END)
            file.seek(0)
        else:
            archive = stack.enter_context(zipfile.ZipFile(file))
            member = archive.getinfo(f"{name}.npy")
            if member.compress_type not in _COMPRESSIONS:
                raise ValueError(f"{name} is compressed in a way that NumPy does not write")
            stream, size = stack.enter_context(archive.open(member)), member.file_size
        yield _stream(stream, size)


def read_array(path: Place, name: str | None = None, most_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Reads the whole array in an .npy file, or one array of an .npz file.

    Raises:
        QuadrateError: As `open_array` does; or if the array takes more than `most_bytes`.
    """
    with open_array(path, name) as array:
        count = math.prod(array.shape)
        if count * array.dtype.itemsize > most_bytes:
            raise ValueError(
                f"its shape is {array.shape}; an array that is read whole takes at most"
                f" {most_bytes} bytes here"
            )
        return array.read(count).reshape(array.shape, order="F" if array.in_columns else "C")


def _stream(file: IO[bytes], size: int) -> ArrayStream:
    """The array in a stream of `size` bytes."""
    prefix = file.read(8)
    if prefix[:6] != b"\x93NUMPY" or prefix[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it does not begin like an .npy file of a known version")
    length_bytes = file.read(2 if prefix[6] == 1 else 4)
    length = int.from_bytes(length_bytes, "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"its header takes {length} bytes")
    header = file.read(length).decode("latin-1")
    entries = dict(_ENTRY.findall(header))
    if len(entries) != 3 or re.sub(r"[\s,{}]", "", _ENTRY.sub("", header)):
        raise ValueError("its header is damaged, or it holds a table and not an array of numbers")
    sizes = re.findall(r"\d+", entries["shape"])
    if len(sizes) > _MAX_DIMENSIONS or max(map(len, sizes), default=0) > _MAX_DIGITS:
        raise ValueError(f"its header says the shape {entries['shape'][:40]}")
    shape = tuple(map(int, sizes))
    kind = entries["descr"][1:-1]
    if not _NUMBERS.fullmatch(kind):
        raise ValueError(
            f"it holds {'Python objects' if 'O' in kind else f'the type {kind!a}'} and not numbers"
        )
    dtype = np.dtype(kind)
    follow = size - len(prefix) - len(length_bytes) - length
    if math.prod(shape) * dtype.itemsize > follow:
        raise ValueError(
            f"it is cut short: its header says {dtype} {shape}, and {max(follow, 0)} bytes follow"
        )
    return ArrayStream(shape, dtype, entries["fortran_order"] == "True" and len(shape) > 1, file)


@contextmanager
def readable(path: Place) -> Iterator[None]:
    """Within it, the dozen kinds of exceptions that damaged files cause become one line."""
    try:
        yield
    except QuadrateError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise QuadrateError(f"{path}: not a readable array file ({reason})") from None
