"""Codec files of all kinds, and decoder packs: one reader and one writer.

They are safetensors files with texts as metadata, so that nothing in them is ever executed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.codecs import hub
from quadrate.codecs.familiarity import Familiarity
from quadrate.codecs.parts import Parts, States
from quadrate.codecs.zoo_index import zoo
from quadrate.coding.container.layout import MAX_SAMPLE_SIZE
from quadrate.config import OperatingPoint, from_json, to_json
from quadrate.core.files import exists
from quadrate.core.names import check_text
from quadrate.core.registry import Registry
from quadrate.core.remote import Place, place_of
from quadrate.core.tensor_file import read_tensors, tensor_bytes, write_tensors
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs.base_codec import BaseCodec

AnyCodec = TypeVar("AnyCodec", bound="BaseCodec")


def _kind(module: str, name: str) -> Callable[[], type[BaseCodec]]:
    """A class that is imported when a file of its kind is read."""
    return lambda: cast(
        "type[BaseCodec]", getattr(import_module(f"quadrate.codecs.{module}"), name)
    )


KINDS: Registry[Callable[[], type[BaseCodec]]] = Registry(
    "kind of codec",
    {
        "tradeoff": _kind("tradeoff_codec", "TradeoffCodec"),
        "invariant": _kind("invariant_codec", "InvariantCodec"),
        "features": _kind("feature_codec", "FeatureCodec"),
        "photographs": _kind("photo_codec", "PhotoCodec"),
    },
)

FORMAT = "quadrate-codec-5"
_READABLE = (FORMAT, "quadrate-codec-4")  # in which the kind stands in the metadata
_BEFORE = {  # the kind of each earlier format
    "quadrate-codec-3": "tradeoff",
    "quadrate-codec-2": "tradeoff",
    "quadrate-codec-1": "tradeoff",
    "quadrate-invariant-2": "invariant",
    "quadrate-invariant-1": "invariant",
    "quadrate-features-2": "features",
    "quadrate-features-1": "features",
}
_WITHOUT_DIGEST = (
    *("quadrate-codec-1", "quadrate-codec-2", "quadrate-invariant-1", "quadrate-features-1"),
    "quadrate-decoders-1",
)
_PACK = ("quadrate-decoders-3", "quadrate-decoders-2", "quadrate-decoders-1")
_MAX_LEVEL = 1 << 24  # up to here float32 holds all symbols
_MAX_SEED = 1 << 64
_HASH = re.compile("[0-9a-f]{64}")


def tensors_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Arrays as tensors, the inverse of `Parts.arrays`."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def write(path: Path, codec: BaseCodec) -> None:
    """Write a codec of any kind; errors as of `Codec.save`."""
    parts = codec.to_parts()
    known = {"familiarity": codec.familiarity.to_json()} if codec.familiarity else {}
    texts = {"format": FORMAT, "kind": codec.kind, **parts.metadata, **known}
    _write(path, parts.states, texts)


def read(
    path: Place | str, wanted: type[AnyCodec], device: torch.device | str, family: Any
) -> AnyCodec:
    """Read a codec of any kind and version; arguments and errors as of `Codec.load`."""
    place: Place
    if str(path).startswith(hub.SCHEME):
        place = hub.fetch(hub.Address.parse(str(path)))
    elif not exists(place := place_of(path)):
        if str(path) not in zoo():
            raise QuadrateError(
                f"no codec at {path}; `quadrate train RECIPE` makes one, and"
                f" {', '.join(zoo()) or 'none'} come with the package"
            )
        place = zoo()[str(path)]
    metadata, tensors = read_tensors(
        place, "a Quadrate codec", (*_READABLE, *_BEFORE), _WITHOUT_DIGEST
    )
    with _describing(path, "codec"):
        name = _BEFORE.get(metadata["format"]) or check_text("its kind", metadata["kind"])
        kind = KINDS.find(name)()
        if not issubclass(kind, wanted):
            raise QuadrateError(f"it is a file of {kind.__name__}, not {wanted.__name__}")
        known = metadata.get("familiarity")
        parts = Parts(
            metadata,
            _by_role(tensors, metadata),
            None if known is None else Familiarity.from_json(known),
        )
        codec: AnyCodec = kind.from_parts(parts, device, family)
        return codec


@dataclass(frozen=True)
class Decoders:
    """Decoders on their own, bound to the encoder that they were trained on.

    Attributes:
        encoder_hash: `TradeoffCodec.encoder_hash` of that encoder.
        points: The decoders' operating points by name.
        states: Their state dicts by name.
    """

    encoder_hash: str
    points: dict[str, OperatingPoint]
    states: States = field(repr=False)

    def save(self, path: Path | str) -> None:
        """Write the decoders without an encoder.

        Raises:
            QuadrateError: If the file cannot be written.
        """
        states = {f"decoder.{name}": state for name, state in self.states.items()}
        texts = {"encoder_hash": self.encoder_hash, "points": points_text(self.points)}
        _write(Path(path), states, {"format": _PACK[0], **texts})

    @classmethod
    def load(cls, path: Path | str) -> Decoders:
        """Read what `save` wrote, of any version.

        Raises:
            QuadrateError: If the file is missing, damaged, or not a decoder pack.
        """
        if not exists(path):
            raise QuadrateError(f"no decoder pack at {path}")
        metadata, tensors = read_tensors(
            Path(path), "a decoder pack of Quadrate's", _PACK, _WITHOUT_DIGEST
        )
        with _describing(path, "pack"):
            if not _HASH.fullmatch(metadata["encoder_hash"]):
                raise ValueError("its encoder_hash is not a SHA-256 in hexadecimal digits")
            states = _by_role(tensors, metadata)
            points = read_points(metadata["points"], states)
            found = {name: states[f"decoder.{name}"] for name in points}
            return cls(metadata["encoder_hash"], points, found)


@contextmanager
def _describing(path: Place | str, what: str) -> Iterator[None]:
    """Turn whatever a damaged description leads to into one line with the file's name."""
    try:
        yield
    except QuadrateError as error:
        raise QuadrateError(f"{path}: {error}") from error.__cause__
    except Exception as error:  # any kind, as any text may stand there
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise QuadrateError(f"{path}: the {what}'s description is damaged: {reason}") from None


def _write(path: Path, states: Mapping[str, Mapping[str, Tensor]], texts: dict[str, str]) -> None:
    """Write states by role; of tensors that are equal only the first, and who else has it.

    A flow decoder begins with the pictures of the faithful one, whose weights are most of both.
    """
    tensors: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    first: dict[Any, str] = {}  # by what a tensor holds
    for role, state in states.items():
        for name, tensor in state.items():
            smallest = _smallest(tensor)
            content = smallest.dtype, smallest.shape, tensor_bytes(smallest)
            original = first.setdefault(content, f"{role}/{name}")
            if original == f"{role}/{name}":
                tensors[original] = smallest
            else:
                same[f"{role}/{name}"] = original
    write_tensors(path, tensors, texts | ({"same": json.dumps(same)} if same else {}))


def _smallest(tensor: Tensor) -> Tensor:
    """The tensor in float16, if that holds its numbers exactly."""
    if tensor.dtype == torch.float32 and tensor.ndim >= 2:
        half = tensor.half()
        return half if torch.equal(half, tensor) else tensor
    return tensor


def _by_role(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> States:
    """The inverse of what `_write` does with states, numbers in float32."""
    wide = {n: t.float() if t.dtype == torch.float16 else t for n, t in tensors.items()}
    for name, original in read_object(metadata.get("same", "{}"), "equal tensors").items():
        if name in wide or not isinstance(original, str) or original not in tensors:
            raise ValueError(f"tensor {name!r} is said to equal {original!r}, which cannot be")
        wide[name] = wide[original]
    states: States = {}
    for full_name, tensor in wide.items():
        role, _, name = full_name.partition("/")
        states.setdefault(role, {})[name] = tensor
    return states


# Texts of metadata that several kinds of codecs store.


def read_shape(text: str, *dimensions: int) -> tuple[int, ...]:
    """The shape of a sample, of so many dimensions, and not larger than a .quad file takes."""
    shape = whole_numbers(json.loads(text), "shape", 1, MAX_SAMPLE_SIZE)
    if len(shape) not in dimensions or math.prod(shape) > MAX_SAMPLE_SIZE:
        raise ValueError(
            f"its shape {shape} is not {' or '.join(map(str, dimensions))} numbers with a product"
            f" of at most {MAX_SAMPLE_SIZE}"
        )
    return shape


def read_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"its {what} are not an object")
    return value


def whole_numbers(values: Any, what: str, least: int, most: int) -> tuple[int, ...]:
    """A list of whole numbers in a range."""
    if not isinstance(values, list) or not all(
        type(value) is int and least <= value <= most for value in values
    ):
        raise ValueError(f"its {what} are not whole numbers from {least} to {most}")
    return tuple(values)


def read_levels(values: Any) -> tuple[int, ...]:
    """The levels of a layer's dimensions."""
    return whole_numbers(values, "levels", 2, _MAX_LEVEL)


def points_text(points: Mapping[str, OperatingPoint]) -> str:
    """Operating points by decoder as text."""
    return json.dumps({name: json.loads(to_json(point)) for name, point in points.items()})


def read_points(text: str, roles: Iterable[str]) -> dict[str, OperatingPoint]:
    """The inverse of `points_text`; each decoder must have a state among the roles."""
    described, there = read_object(text, "points"), set(roles)
    if not described:
        raise ValueError("it has no decoder")
    for name in described:  # first, as they are quick to tell
        if f"decoder.{check_text('the name of a decoder', name)}" not in there:
            raise ValueError(f"decoder {name!r} has no weights")
    return {name: read_point(json.dumps(point)) for name, point in described.items()}


def read_point(text: str) -> OperatingPoint:
    """An operating point whose numbers are in range."""
    point: OperatingPoint = from_json(OperatingPoint, text)
    read_levels(list(point.levels))
    whole_numbers([point.seed], "seeds", -_MAX_SEED, _MAX_SEED)
    return point
