"""The fields of a .quad file, each declared once with name, width and allowed values.

See docs/format.md for their meaning.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from quadrate.errors import QuadrateError

MAGIC = b"\x89QUAD\r\n\x1a"
NEWEST_VERSION = 2  # 1 is written wherever it suffices
CHUNK_MARKER, TRAILER_MARKER, END_MAGIC = b"CHNK", b"TRLR", b"QUADEND\n"
SIDE_FIELDS = ("labels", "names", "shapes", "profiles")  # kinds 1 to 4
VERSION_2_FIELDS = frozenset(("shapes", "profiles"))

# The declared limits; the limits of single fields stand below, with the fields.
MAX_SAMPLE_SIZE = 2**26  # product of a sample's dimensions in the header
MAX_COLUMNS = 2**16  # symbols a sample, all layers together
MAX_CHUNKS = 2**20
MAX_CHUNK_SAMPLES = 2**20
MAX_CHUNK_SYMBOLS = 2**24  # samples x columns
MAX_CHUNK_VALUES = 2**28  # by the samples' own shapes, and so of one sample, too
MAX_CHUNK_BYTES = 2**27  # payloads of all layers together
MAX_SIDE_BYTES = 2**26  # side data a chunk, decompressed
MAX_NAME_BYTES = 2**12
MAX_PROFILE_BYTES = 2**22


@dataclass(frozen=True)
class Field:
    """A field: its name, its `struct` code, and its values: a constant, or from `low` to `high`."""

    name: str
    code: str
    low: int = 0
    high: int | None = None
    constant: bytes | None = None

    @property
    def width(self) -> int:
        """Bytes."""
        return struct.calcsize(f"<{self.code}")

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.constant is not None:
            return self.constant.hex(" ")
        if self.high is None:
            return "any"
        low, high = number_text(self.low), number_text(self.high)
        return low if low == high else f"{low} to {high}"

    def check(self, value: Any, where: str) -> Any:
        """The value, if it is allowed; integers of any type become int."""
        if self.code.endswith("s"):
            right = isinstance(value, bytes) and len(value) == self.width
            if right and self.constant in (None, value):
                return value
            raise QuadrateError(
                f"{where}: {self.name} is {value!r}; it must be {self.width} bytes: {self.allowed}"
            )
        try:
            number = index(value)
        except TypeError:
            raise QuadrateError(
                f"{where}: {self.name} is {value!r}; it must be an integer"
            ) from None
        high = 256**self.width - 1 if self.high is None else self.high
        if not self.low <= number <= high:
            allowed = f"0 to {number_text(high)}" if self.high is None else self.allowed
            raise QuadrateError(f"{where}: {self.name} is {number}; allowed: {allowed}")
        return number


def number_text(value: int) -> str:
    """A number as text, powers of two from 2^10 on as such."""
    if value >= 1024 and value.bit_count() == 1:
        return f"2^{value.bit_length() - 1}"
    if value >= 1023 and (value + 1).bit_count() == 1:
        return f"2^{value.bit_length()} - 1"
    return str(value)


class Record:
    """Fields one after another, little-endian, without gaps."""

    def __init__(self, *fields: Field) -> None:
        self.fields = fields
        self._struct = struct.Struct("<" + "".join(field.code for field in fields))
        self.size = self._struct.size

    def pack(self, *values: Any, where: str) -> bytes:
        """The fields' bytes.

        Raises:
            QuadrateError: If a value is not allowed.
        """
        pairs = zip(self.fields, values, strict=True)
        return self._struct.pack(*(field.check(value, where) for field, value in pairs))

    def unpack(self, data: bytes, offset: int = 0, *, where: str) -> tuple[Any, ...]:
        """The fields at an offset, where `size` bytes must be.

        Raises:
            QuadrateError: If a value is not allowed.
        """
        values = self._struct.unpack_from(data, offset)
        pairs = zip(self.fields, values, strict=True)
        return tuple(field.check(value, where) for field, value in pairs)


PREAMBLE = Record(
    Field("magic", "8s", constant=MAGIC),
    Field("version", "H", 1, NEWEST_VERSION),
    Field("flags", "H", 0, 0),
    # With the fewest and the most dimensions, layers and side fields.
    Field("header length", "I", 56, 212),
    Field("dither seed", "Q"),
    Field("dimensions", "B", 1, 4),
    Field("layers", "B", 1, 8),
    Field("side fields", "B", 0, len(SIDE_FIELDS)),
    Field("zero", "B", 0, 0),
)
DIMENSION = Record(Field("dimension", "I", 0, MAX_SAMPLE_SIZE))
LAYER = Record(Field("identity", "16s"), Field("columns", "I", 0, MAX_COLUMNS))
SIDE_FIELD = Record(Field("kind", "B", 1, len(SIDE_FIELDS)))
CRC = Record(Field("CRC-32", "I"))

CHUNK = Record(
    Field("marker", "4s", constant=CHUNK_MARKER),
    Field("file id", "8s"),
    Field("number", "I", 0, MAX_CHUNKS - 1),
    Field("first sample", "Q", 0, MAX_CHUNKS * MAX_CHUNK_SAMPLES - 1),
    Field("samples", "I", 1, MAX_CHUNK_SAMPLES),
)
PART = Record(Field("bytes", "I", 0, MAX_CHUNK_BYTES), Field("CRC-32", "I"))
CHECKSUM = Record(Field("checksum", "8s"))

TRAILER = Record(
    Field("marker", "4s", constant=TRAILER_MARKER),
    Field("file id", "8s"),
    Field("chunks", "I", 0, MAX_CHUNKS),
    Field("samples", "Q", 0, MAX_CHUNKS * MAX_CHUNK_SAMPLES),
)
ENTRY = Record(
    Field("offset", "Q"), Field("samples", "I", 1, MAX_CHUNK_SAMPLES), Field("checksum", "8s")
)
DIGEST = Record(Field("digest", "16s"))
FOOTER = Record(
    Field("trailer length", "I", 52, 52 + 20 * MAX_CHUNKS),
    Field("end magic", "8s", constant=END_MAGIC),
)


def blake2b(width: int, *parts: bytes) -> bytes:
    """BLAKE2b of the parts one after another, of `width` bytes."""
    state = hashlib.blake2b(digest_size=width)
    for part in parts:
        state.update(part)
    return state.digest()


@dataclass(frozen=True)
class LayerHeader:
    """A layer's stream identity (16 bytes, opaque here) and its columns, the symbols a sample.

    Columns are 0 where a dimension is each sample's own: then the codec knows how many a shape has.
    """

    identity: bytes
    columns: int


@dataclass(frozen=True)
class Header:
    """The header, which holds for a whole file.

    Args:
        shape: A sample's shape: (C, H, W), (n,), or any other of one to four dimensions. A
            dimension of 0 is each sample's own.
        seed: The dither's seed, 64 bits.
        layers: The base layer, then the layers that refine it. Their columns are 0 if a dimension
            is 0, and never otherwise.
        fields: The side data of each chunk: any of "labels", "names", "shapes", "profiles", in this
            order. "shapes" must be there if a dimension is 0, and never otherwise.

    Raises:
        QuadrateError: If a value is beyond the format's limits.
    """

    shape: tuple[int, ...]
    seed: int
    layers: tuple[LayerHeader, ...]
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.pack()

    @property
    def columns(self) -> int:
        """Symbols a sample, all layers together; 0 if each sample's shape decides."""
        return sum(layer.columns for layer in self.layers)

    @property
    def version(self) -> int:
        """The format's version, 2 where a dimension is 0, or there are shapes or profiles."""
        return _version_of(self.shape, self.fields)

    def pack(self) -> bytes:
        """The header's bytes."""
        if list(self.fields) != [name for name in SIDE_FIELDS if name in self.fields]:
            raise QuadrateError(
                f"header: side fields are {', '.join(map(repr, self.fields))}; allowed: "
                f"{', '.join(map(repr, SIDE_FIELDS))}, in this order"
            )
        where = "header"
        parts = [DIMENSION.pack(dimension, where=where) for dimension in self.shape]
        parts += [LAYER.pack(layer.identity, layer.columns, where=where) for layer in self.layers]
        kinds = [SIDE_FIELDS.index(name) + 1 for name in self.fields]
        body = b"".join(parts + [SIDE_FIELD.pack(kind, where=where) for kind in kinds])
        counts = (len(self.shape), len(self.layers), len(self.fields))
        for field, count in zip(PREAMBLE.fields[5:8], counts, strict=True):
            field.check(count, where)  # first, so that the length is not blamed
        length = PREAMBLE.size + len(body) + CRC.size
        values = (MAGIC, self.version, 0, length, self.seed, *counts, 0)
        data = PREAMBLE.pack(*values, where=where) + body
        _check_whole(self.shape, self.layers, self.fields, where)
        return data + CRC.pack(zlib.crc32(data), where=where)

    @staticmethod
    def length(data: bytes, where: str) -> int:
        """The length of the header that begins with these bytes (28, or all there are).

        Raises:
            QuadrateError: If it is not a header, is cut short, or is that of a newer version.
        """
        if not data:
            raise QuadrateError(
                f"{where} is empty; a .quad file has a header and a trailer at least"
            )
        if data[:8] == b"\x89QUAD\n\x1a" + data[7:8]:
            raise QuadrateError(
                f"{where} was changed by a transfer as text, which damages it: transfer it again as"
                " a binary file"
            )
        if data[:8] != MAGIC[: len(data)]:
            raise QuadrateError(
                f"{where} is not a .quad file: it begins with {data[:8].hex(' ')}, not with"
                f" {MAGIC.hex(' ')}"
            )
        version = int.from_bytes(data[8:10], "little")
        if len(data) >= 10 and version > NEWEST_VERSION:
            raise QuadrateError(
                f"{where} was written by a newer version of the format ({version}; this reads up to"
                f" {NEWEST_VERSION}): upgrade quadrate"
            )
        if len(data) < PREAMBLE.size:
            raise QuadrateError(
                f"{where} ends within its header, after {len(data)} bytes: it was not finished, or"
                " is cut short"
            )
        length = PREAMBLE.fields[3]
        return int(length.check(int.from_bytes(data[12:16], "little"), f"{where}: header"))

    @classmethod
    def unpack(cls, data: bytes, where: str) -> Header:
        """Read a header from its bytes, as many as `length` says.

        Raises:
            QuadrateError: If the bytes are damaged, or a value is beyond the format's limits.
        """
        where = f"{where}: header"
        if CRC.unpack(data, len(data) - CRC.size, where=where)[0] != zlib.crc32(data[: -CRC.size]):
            raise QuadrateError(
                f"{where}: its checksum differs, so it is damaged: get the file again"
            )
        if int.from_bytes(data[10:12], "little"):
            raise QuadrateError(
                f"{where}: flags are {data[10:12].hex()}, which this version of quadrate does not"
                " know: upgrade quadrate"
            )
        _, version, _, length, seed, *counts, _ = PREAMBLE.unpack(data, where=where)
        kinds_of_rows = zip(counts, (DIMENSION, LAYER, SIDE_FIELD), strict=True)
        records = [record for count, record in kinds_of_rows for _ in range(count)]
        expected = PREAMBLE.size + sum(record.size for record in records) + CRC.size
        if length != expected:
            raise QuadrateError(
                f"{where}: header length is {length}; its counts of dimensions, layers and side"
                f" fields make {expected}"
            )
        rows, offset = [], PREAMBLE.size
        for record in records:
            rows.append(record.unpack(data, offset, where=where))
            offset += record.size
        shape = tuple(size for (size,) in rows[: counts[0]])
        layers = tuple(LayerHeader(*row) for row in rows[counts[0] : counts[0] + counts[1]])
        kinds = [kind for (kind,) in rows[counts[0] + counts[1] :]]
        if kinds != sorted(set(kinds)):
            raise QuadrateError(f"{where}: the kinds of side fields are {kinds}; they must ascend")
        fields = tuple(SIDE_FIELDS[kind - 1] for kind in kinds)
        if version != _version_of(shape, fields):
            raise QuadrateError(
                f"{where}: version is {version}; shape {shape} with the side fields"
                f" {', '.join(fields) or 'none'} must have version {_version_of(shape, fields)}"
            )
        _check_whole(shape, layers, fields, where)
        return cls(shape, seed, layers, fields)


def _version_of(shape: Sequence[int], fields: Sequence[str]) -> int:
    """The version of a header, the least that can say it."""
    return 2 if 0 in shape or VERSION_2_FIELDS.intersection(fields) else 1


def _check_whole(
    shape: Sequence[int], layers: Sequence[LayerHeader], fields: Sequence[str], where: str
) -> None:
    """Raise a QuadrateError if fields that are allowed one by one do not go together."""
    own, size = 0 in shape, math.prod(dimension for dimension in shape if dimension)
    if size > MAX_SAMPLE_SIZE:
        raise QuadrateError(
            f"{where}: a sample of shape {tuple(shape)} has {size} values{' or more' * own};"
            f" allowed: up to {number_text(MAX_SAMPLE_SIZE)}"
        )
    if own and "shapes" not in fields:
        raise QuadrateError(
            f"{where}: a dimension is 0, each sample's own, but shapes are not among the side"
            f" fields ({', '.join(fields) or 'none'})"
        )
    if "shapes" in fields and not own:
        raise QuadrateError(
            f"{where}: shapes are among the side fields, but no dimension of {tuple(shape)} is 0,"
            " each sample's own"
        )
    for number, layer in enumerate(layers):
        if (layer.columns == 0) != own:
            allowed = "0, since a dimension is" if own else f"1 to {number_text(MAX_COLUMNS)}"
            raise QuadrateError(
                f"{where}: columns is {layer.columns} in layer {number}; allowed: {allowed}"
            )
    columns = sum(layer.columns for layer in layers)
    if columns > MAX_COLUMNS:
        raise QuadrateError(
            f"{where}: the layers have {columns} columns; allowed: up to {number_text(MAX_COLUMNS)}"
        )
