"""Numeric arrays from MATLAB's level 5 MAT-files, the format that `save` writes with -v6 and -v7.

`scipy.io.loadmat` reads outside its memory if a few bytes of a file are changed, and crashes the
process (scipy 1.17), so it must not read untrusted files. A plain array needs little of the format.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

# "MAT-File Format", The MathWorks: table 1-1 (data types), table 1-3 (array types).
_TYPES = "1 <i1, 2 <u1, 3 <i2, 4 <u2, 5 <i4, 6 <u4, 7 <f4, 9 <f8, 12 <i8, 13 <u8"
NUMERIC = {int(number): name for number, name in map(str.split, _TYPES.split(", "))}
MATRIX, COMPRESSED = 14, 15
MAX_ARRAYS = 1000  # in one file, so that reading ends soon
HEADER_BYTES = 128
SIGNATURE = b"\x00\x01IM"  # ends the header: version 1.0, written on a little-endian machine


def matlab_arrays(
    data: bytes, names: Collection[str], max_bytes: int
) -> dict[str, NDArray[np.generic]]:
    """The numeric arrays called `names` in a MAT-file.

    Absent ones, and those that are not plain numeric arrays, are left out.

    Args:
        data: The file's contents.
        names: The arrays to read; others are skipped.
        max_bytes: The most bytes of all unpacked arrays together.

    Raises:
        ValueError: If the contents do not follow the format.
    """
    if data[HEADER_BYTES - 4 : HEADER_BYTES] != SIGNATURE:
        raise ValueError("its header is not that of a little-endian level 5 MAT-file")
    arrays = {}
    for kind, contents in islice(_elements(memoryview(data)[HEADER_BYTES:]), MAX_ARRAYS):
        if kind == COMPRESSED:
            unpacked = _inflated(contents, max_bytes)
            max_bytes -= len(unpacked)
            kind, contents = next(_elements(unpacked), (0, contents))
        if kind == MATRIX:
            name, array = _matrix(contents)
            if name in names and array is not None:
                arrays[name] = array
    return arrays


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The types and contents of the data elements that follow each other in `data`."""
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise ValueError("truncated")
        kind, size = struct.unpack_from("<II", data, position)
        start = position + 8
        # All contents are padded to 8 bytes, unless they are compressed.
        end = start + size + (0 if kind == COMPRESSED else -size % 8)
        # A small element has its size and type in the first word, and its contents in the second.
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, min(kind >> 16, 4), position + 4, position + 8
        if start + size > len(data):
            raise ValueError(
                f"truncated: an element takes {size} bytes, and {len(data) - start} follow"
            )
        yield kind, data[start : start + size]
        position = end


def _inflated(contents: memoryview, max_bytes: int) -> memoryview:
    try:
        unpacked = zlib.decompressobj().decompress(contents, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"a compressed array is damaged ({error})") from error
    if len(unpacked) > max_bytes:
        raise ValueError("its arrays take more bytes than any known data set")
    return memoryview(unpacked)


def _matrix(contents: memoryview) -> tuple[str, NDArray[np.generic] | None]:
    """The name of an array, and its values if they are plain numbers.

    An array is stored as flags, dimensions, name and values.
    """
    parts = list(islice(_elements(contents), 4))
    if len(parts) < 4:
        return "", None
    _, (_, dimensions), (_, name), (kind, values) = parts
    array = None
    if kind in NUMERIC:
        shape = tuple(int(size) for size in np.frombuffer(dimensions, "<i4"))
        array = np.frombuffer(values, NUMERIC[kind]).reshape(shape, order="F")
    return bytes(name).decode("latin-1"), array
