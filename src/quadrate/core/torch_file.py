"""A reader of what torch.save wrote, without PyTorch's unpickler.

It reads tensors and plain values only, and never takes more memory than the file holds. PyTorch's
own reader runs no code from a file (`weights_only`), but believes what it says about sizes: a
hundred bytes can ask for gigabytes.
"""

from __future__ import annotations

import collections
import math
import os
import pickle
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError

_PICKLE_BYTES = 1 << 20  # of all but the numbers; large networks take a tenth of it
# Before 2020 files were several pickles in a row, and began with this number.
_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Everything that plain values and tensors are made of, and nothing that calls constructors or
# allocates memory on a file's word.
_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1"
    " LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE"
    " BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST"
    " EMPTY_LIST APPEND APPENDS DICT EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET GET"
    " BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID"
).split()


def read_saved(path: Path | str, largest_bytes: int, nests: Sequence[str] = ()) -> Any:
    """Reads a file written by torch.save; runs nothing that stands in it.

    Args:
        path: The file, in PyTorch's present format or in that from before 2020.
        largest_bytes: The most bytes that it may take unpacked.
        nests: Keys under which the wanted dictionary may lie, from the outermost on.

    Returns:
        A dictionary with its tensors, or any other value in the file, without its tensors.

    Raises:
        QuadrateError: If it is too large, or a tensor claims to be larger than the file.
        Exception: Of any kind, if it is missing or damaged, or holds anything but tensors and
            plain values.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is not a regular file")  # a pipe would keep us waiting
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
                _check_size(path, unpacked, largest_bytes)
                names = archive.namelist()
                (place,) = (name[:-8] for name in names if name.split("/")[1:] == ["data.pkl"])
                if f"{place}byteorder" in names and archive.read(f"{place}byteorder") != b"little":
                    raise ValueError("its numbers are not little-endian")
                with archive.open(f"{place}data.pkl") as pickled:
                    value = _Unpickler(_Bounded(pickled)).load()
                return _built(
                    path, value, nests, lambda storage: archive.read(f"{place}data/{storage.key}")
                )
        _check_size(path, Path(path).stat().st_size, largest_bytes)
        file.seek(0)
        bounded, storages = _Bounded(file), dict[str, _Storage]()
        magic, _, _, value, keys = (_Unpickler(bounded, storages).load() for _ in range(5))
        if magic != _MAGIC:
            raise ValueError("it does not begin as PyTorch's files do")
        numbers = {}
        for key in keys:
            file.read(8)  # the count of the numbers that follow, which the pickle says, too
            numbers[key] = file.read(storages[key].bytes)
        return _built(path, value, nests, lambda storage: numbers[storage.key])


@dataclass(frozen=True)
class _Storage:
    """Numbers in a row."""

    dtype: torch.dtype
    key: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class _Saved:
    """A tensor as a file describes it: a view of the numbers of a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        are_whole = all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
        if len(self.size) != len(self.stride) or not are_whole:
            raise ValueError("a tensor is not described by whole numbers")

    def tensor(self, data: bytearray) -> Tensor:
        """The tensor on the bytes of its storage."""
        axes = zip(self.size, self.stride, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in axes)
        count, stored = math.prod(self.size), self.storage.count
        if count > stored or (count and last >= stored) or len(data) < self.storage.bytes:
            raise QuadrateError(f"claims a shape of {self.size}, more than the file holds")
        if not count:
            return torch.empty(self.size, dtype=self.storage.dtype)
        numbers = torch.frombuffer(data, dtype=self.storage.dtype, count=stored)
        return numbers.as_strided(self.size, self.stride, self.offset)


class _Bounded:
    """A file that is read no further than the longest pickle reaches."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _PICKLE_BYTES

    def read(self, count: int) -> bytes:
        """The next bytes, or fewer at the end."""
        return self._taken(self._file.read(min(count, self._left + 1)))

    def readline(self) -> bytes:
        """The next line."""
        return self._taken(self._file.readline(self._left + 1))

    def _taken(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"its pickle takes more than {_PICKLE_BYTES} bytes")
        return data


class _Unpickler(pickle._Unpickler):
    """Reads plain values, and tensors as descriptions.

    It derives from the unpickler in Python, since the one in C allocates on a file's word.

    Args:
        file: The file to read.
        storages: Takes the storages that are mentioned, by key.
    """

    dispatch = {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _OPCODES)
    }

    def __init__(self, file: _Bounded, storages: dict[str, _Storage] | None = None) -> None:
        super().__init__(file)
        self._storages = {} if storages is None else storages

    def find_class(self, module: str, name: str) -> Any:
        """Our function in place of a global one; ours call nothing and allocate nothing."""
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return f"torch.{name}"
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage of ("storage", type, key, device, count), with None at the end if old."""
        kind, dtype, key, _, count, *view = pid
        is_named = kind == "storage" and isinstance(dtype, torch.dtype) and isinstance(key, str)
        if not is_named or type(count) is not int or count < 0 or any(view):
            raise ValueError("it refers to something that is not a storage of numbers")
        return self._storages.setdefault(key, _Storage(dtype, key, count))

    def _load_build(self) -> None:
        """Drops attributes, such as the versions in state dicts, which are not needed."""
        self.stack.pop()  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = _load_build  # type: ignore[assignment]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Saved:
    if isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(stride, tuple):
        return _Saved(storage, offset, size, stride)
    raise ValueError("a tensor is not described by a storage and whole numbers")


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _sequence(values: Any = ()) -> tuple[Any, ...]:
    if not isinstance(values, tuple | list):  # a buffer would become as many numbers as bytes
        raise ValueError("a shape is not a sequence of numbers")
    return tuple(values)


def _text(*parts: Any) -> str:
    return ":".join(map(str, parts[:2]))


def _bytes(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes are not given as a text")
    return text.encode("latin1")


_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _sequence,
    ("torch", "device"): _text,
    ("_codecs", "encode"): _bytes,
}


def _check_size(path: Path | str, size: int, largest_bytes: int) -> None:
    if size > largest_bytes:
        raise QuadrateError(
            f"{path} unpacks to {size} bytes; the largest known file has {largest_bytes}"
        )


def _built(
    path: Path | str, value: Any, nests: Sequence[str], read: Callable[[_Storage], bytes]
) -> Any:
    for nest in nests:
        if isinstance(value, Mapping) and isinstance(value.get(nest), Mapping):
            value = value[nest]
    if not isinstance(value, Mapping):
        return value
    built: dict[Any, Any] = {}
    data: dict[str, bytearray] = {}  # of storages; tensors that share one in the file share it here
    for name, part in value.items():
        if isinstance(part, _Saved):
            if part.storage.key not in data:
                data[part.storage.key] = bytearray(read(part.storage))
            try:
                part = part.tensor(data[part.storage.key])
            except QuadrateError as error:
                where = name if isinstance(name, str) and is_printable(name) else ascii(name)
                raise QuadrateError(f"{path}: {where[:200]} {error}") from None
        built[name] = part
    return built
