"""What torch.save wrote, read without PyTorch's unpickler.

Tensors and plain values only, and never more of them than the file holds.

PyTorch's own reader executes no code of a file's (`weights_only`), but believes what it says about
sizes: a hundred bytes can ask for gigabytes.
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

_PICKLE_BYTES = 1 << 20  # of everything but the numbers; those of large networks take a tenth of it
# before 2020 files were pickles one after another, and began with this number
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
# Everything that plain values and tensors are made of; what calls constructors, or allocates on a
# file's word, is not among it.
_OPCODES = (
    *(
        pickle.PROTO,
        pickle.FRAME,
        pickle.STOP,
        pickle.MARK,
        pickle.POP,
        pickle.POP_MARK,
        pickle.NONE,
        pickle.NEWTRUE,
        pickle.NEWFALSE,
    ),
    *(
        pickle.INT,
        pickle.BININT,
        pickle.BININT1,
        pickle.BININT2,
        pickle.LONG,
        pickle.LONG1,
        pickle.LONG4,
        pickle.FLOAT,
        pickle.BINFLOAT,
    ),
    *(
        pickle.STRING,
        pickle.BINSTRING,
        pickle.SHORT_BINSTRING,
        pickle.UNICODE,
        pickle.BINUNICODE,
        pickle.SHORT_BINUNICODE,
        pickle.BINUNICODE8,
    ),
    *(
        pickle.BINBYTES,
        pickle.SHORT_BINBYTES,
        pickle.BINBYTES8,
        pickle.TUPLE,
        pickle.EMPTY_TUPLE,
        pickle.TUPLE1,
        pickle.TUPLE2,
        pickle.TUPLE3,
    ),
    *(
        pickle.LIST,
        pickle.EMPTY_LIST,
        pickle.APPEND,
        pickle.APPENDS,
        pickle.DICT,
        pickle.EMPTY_DICT,
        pickle.SETITEM,
        pickle.SETITEMS,
    ),
    *(
        pickle.EMPTY_SET,
        pickle.ADDITEMS,
        pickle.FROZENSET,
        pickle.GET,
        pickle.BINGET,
        pickle.LONG_BINGET,
    ),
    *(
        pickle.PUT,
        pickle.BINPUT,
        pickle.LONG_BINPUT,
        pickle.MEMOIZE,
        pickle.GLOBAL,
        pickle.STACK_GLOBAL,
        pickle.REDUCE,
        pickle.BUILD,
        pickle.BINPERSID,
    ),
)


def read_saved(path: Path | str, largest_bytes: int, nests: Sequence[str] = ()) -> Any:
    """Reads a file of torch.save's; nothing in it is executed.

    Args:
        path: The file, of PyTorch's format of today or of before 2020.
        largest_bytes: What it may take unpacked.
        nests: Keys under which the wanted dictionary may lie, in one another.

    Returns:
        A dictionary with its tensors, or whatever else the file holds, in which tensors are not
        built.

    Raises:
        QuadrateError: If it is too large, or a tensor claims to be larger than what the file holds.
        Exception: Of any kind, if it is missing, damaged, or holds anything but tensors and plain
            values.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is not a regular file")  # a pipe would keep us waiting
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                _check_size(
                    path, sum(entry.file_size for entry in archive.infolist()), largest_bytes
                )
                names = archive.namelist()
                (place,) = (
                    name.removesuffix("data.pkl")
                    for name in names
                    if name.split("/")[1:] == ["data.pkl"]
                )
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
            file.read(8)  # how many numbers follow, which the pickle says, too
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
    """A tensor as a file describes it: which numbers of a storage it shows."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or not all(
            type(number) is int and 0 <= number < 1 << 62 for number in numbers
        ):
            raise ValueError("a tensor is not described by whole numbers")

    def tensor(self, data: bytearray) -> Tensor:
        """The tensor on the bytes of its storage."""
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True)
        )
        count = math.prod(self.size)
        if (
            count > self.storage.count
            or count
            and last >= self.storage.count
            or len(data) < self.storage.bytes
        ):
            raise QuadrateError(f"claims a shape of {self.size}, more than the file holds")
        if not count:
            return torch.empty(self.size, dtype=self.storage.dtype)
        return torch.frombuffer(
            data, dtype=self.storage.dtype, count=self.storage.count
        ).as_strided(self.size, self.stride, self.offset)


class _Bounded:
    """A file of which only so much is read as the longest pickle takes."""

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


class _Unpickler(
    pickle._Unpickler
):  # the one in Python, since the one in C allocates on a file's word
    """Reads plain values, and tensors as descriptions.

    Args:
        file: Where to read.
        storages: Where to note the storages that are mentioned, by key.
    """

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}

    def __init__(self, file: _Bounded, storages: dict[str, _Storage] | None = None) -> None:
        super().__init__(file)
        self._storages = {} if storages is None else storages

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global name.

        Functions of ours, which call nothing and allocate nothing.
        """
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return f"torch.{name}"
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage: ("storage", its type, its key, the device it was on, how many numbers it has), and in old files None."""
        kind, dtype, key, _, count, *view = pid
        if (
            kind != "storage"
            or not isinstance(dtype, torch.dtype)
            or not isinstance(key, str)
            or type(count) is not int
            or count < 0
            or any(view)
        ):
            raise ValueError("it refers to something that is no storage of numbers")
        return self._storages.setdefault(key, _Storage(dtype, key, count))

    def _load_build(self) -> None:
        self.stack.pop()  # type: ignore[attr-defined]  # attributes, such as the versions that state dicts carry, are not needed

    dispatch[pickle.BUILD[0]] = _load_build  # type: ignore[assignment]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Saved:
    if (
        not isinstance(storage, _Storage)
        or not isinstance(size, tuple)
        or not isinstance(stride, tuple)
    ):
        raise ValueError("a tensor is not described by a storage and whole numbers")
    return _Saved(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _sequence(values: Any = ()) -> tuple[Any, ...]:
    if not isinstance(
        values, tuple | list
    ):  # a buffer would be taken for as many numbers as it has bytes
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
            f"{path} unpacks to {size} bytes; nothing that is known here has more than"
            f" {largest_bytes}"
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
    data: dict[str, bytearray] = (
        {}
        # tensors that share numbers in the file share them here, so that many cannot take more than
        # one
    )
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
