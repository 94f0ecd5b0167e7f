"""Codec files and decoder packs.

Safetensors with the configuration as metadata, so that nothing in them is ever executed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from quadrate.bottlenecks.contexts import ContextModel
from quadrate.codecs.codec import Codec, Decoders
from quadrate.codecs.familiarity import metadata_of, of_metadata
from quadrate.coding.container.layout import MAX_COLUMNS, MAX_SAMPLE_SIZE
from quadrate.config import OperatingPoint, from_json, to_json
from quadrate.core.files import exists
from quadrate.core.names import check_text
from quadrate.core.tensor_file import read_metadata, read_tensors, write_tensors
from quadrate.errors import QuadrateError
from quadrate.networks.family import Family

if TYPE_CHECKING:
    from quadrate.codecs.feature_codec import FeatureCodec
    from quadrate.codecs.invariant_codec import InvariantCodec

AnyCodec: TypeAlias = "Codec | FeatureCodec | InvariantCodec"
States = dict[str, dict[str, Tensor]]

_CODEC, _CODECS_BEFORE = "quadrate-codec-3", ("quadrate-codec-2", "quadrate-codec-1")
_PACK, _PACKS_BEFORE = "quadrate-decoders-2", ("quadrate-decoders-1",)
_MAX_LEVEL = 1 << 24  # up to here float32 holds all symbols
_MAX_SEED = 1 << 64
_HASH = re.compile("[0-9a-f]{64}")


def zoo() -> dict[str, Path]:
    """The codecs that come with the package: file by name."""
    folder = Path(str(files("quadrate.codecs") / "zoo"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def open_codec(path: Path | str) -> AnyCodec:
    """Reads a codec of any kind: of images by purpose, of features, or an invariant one.

    Args:
        path: A codec's file, or the name of one in the package.

    Raises:
        QuadrateError: If it is missing, damaged, not frozen, or not a codec.
    """
    form = read_metadata(Path(path)).get("format", "") if exists(path) else ""
    if form.startswith("quadrate-features"):
        from quadrate.codecs.feature_codec import FeatureCodec

        return FeatureCodec.load(path)
    if form.startswith("quadrate-invariant"):
        from quadrate.codecs.invariant_codec import InvariantCodec

        return InvariantCodec.load(path)
    codec = load_codec(path)
    if not codec.models:
        raise QuadrateError(
            f"{path} has no tables yet, so it cannot write files; Codec.freeze(source) fits them,"
            " Codec.save keeps them"
        )
    return codec


def save_codec(codec: Codec, path: Path) -> None:
    """Writes a codec with all its decoders, and its tables if it is frozen.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    tables = {
        f"tables.{i}": {name: torch.from_numpy(array) for name, array in model.arrays().items()}
        for i, model in enumerate(codec.models)
    }
    metadata = {
        "family": codec.family.name,
        "shape": json.dumps(codec.shape),
        "levels": json.dumps(codec.stages),
        "points": _points_text(codec.points),
        "details": json.dumps(codec.details, sort_keys=True),
    }
    write_tensors(
        path, flat(codec.states | tables), {"format": _CODEC, **metadata, **metadata_of(codec)}
    )


def load_codec(
    path: Path | str, family: Family | None = None, device: torch.device | str = "cpu"
) -> Codec:
    """Reads a codec; arguments and errors as `Codec.load`."""
    place = Path(path)
    if not exists(place):
        if str(path) not in zoo():
            raise QuadrateError(
                f"no codec at {path}; `quadrate train RECIPE` makes one, and"
                f" {', '.join(zoo()) or 'none'} come with the package"
            )
        place = zoo()[str(path)]
    metadata, tensors = read_tensors(place, "a codec of Quadrate's", [_CODEC], _CODECS_BEFORE)
    with describing(path, "codec"):
        shape = samples_shape(metadata["shape"], 3)
        stages = _stages(metadata["levels"])
        details = mapping(metadata["details"], "details")
        name = check_text("the name of its family", metadata["family"])
        states = by_role(tensors)
        if (
            metadata["format"] == "quadrate-codec-1"
        ):  # before codecs had more than one decoder in a file
            point = _point(metadata["point"])
            points = {point.purpose: point}
            states[f"decoder.{point.purpose}"] = states.pop("decoder")
        else:
            points = _points(metadata["points"], states)
        tables = [states.pop(f"tables.{i}") for i in range(len(stages)) if f"tables.{i}" in states]
        models = [
            ContextModel.from_arrays(
                {name: t.numpy() for name, t in arrays.items()},
                sum(map(len, stages[:i])),
                sum(stages[: i + 1], ()),
            )
            for i, arrays in enumerate(tables)
        ]
        familiarity = of_metadata(metadata)
    try:
        codec = Codec(
            family or name,
            (shape[0], shape[1], shape[2]),
            stages,
            points,
            states,
            details,
            device,
            models,
        )
    except QuadrateError as error:
        raise QuadrateError(f"{path}: {error}") from error.__cause__
    codec.familiarity = familiarity
    return codec


def save_pack(pack: Decoders, path: Path) -> None:
    """Writes decoders without an encoder.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    states = {f"decoder.{name}": state for name, state in pack.states.items()}
    write_tensors(
        path,
        flat(states),
        {"format": _PACK, "encoder_hash": pack.encoder_hash, "points": _points_text(pack.points)},
    )


def load_pack(path: Path) -> Decoders:
    """Reads what `save_pack` wrote.

    Raises:
        QuadrateError: If the file is missing, damaged, or no decoder pack.
    """
    if not exists(path):
        raise QuadrateError(f"no decoder pack at {path}")
    metadata, tensors = read_tensors(path, "a decoder pack of Quadrate's", [_PACK], _PACKS_BEFORE)
    with describing(path, "pack"):
        if not _HASH.fullmatch(metadata["encoder_hash"]):
            raise ValueError("its encoder_hash is not a SHA-256 in hexadecimal digits")
        states = by_role(tensors)
        points = _points(metadata["points"], states)
        return Decoders(
            metadata["encoder_hash"], points, {name: states[f"decoder.{name}"] for name in points}
        )


# What the files of all kinds of codecs have in common.


@contextmanager
def describing(path: Path | str, what: str) -> Iterator[None]:
    """Turns whatever a damaged description leads to into one line with the file's name."""
    try:
        yield
    except QuadrateError as error:
        raise QuadrateError(f"{path}: {error}") from error.__cause__
    except Exception as error:  # any kind, as any text may stand there
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise QuadrateError(f"{path}: the {what}'s description is damaged: {reason}") from None


def flat(states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by role and name to tensors by `role/name`, each with memory of its own.

    Matrices of numbers that float16 holds become float16.
    """
    return {
        f"{role}/{name}": _smallest(tensor)
        for role, state in states.items()
        for name, tensor in state.items()
    }


def _smallest(tensor: Tensor) -> Tensor:
    if (
        tensor.dtype == torch.float32
        and tensor.ndim >= 2
        and torch.equal(half := tensor.half(), tensor)
    ):
        return half  # at half the size, and no number changes
    return tensor.clone()  # weights that share memory are refused by safetensors


def by_role(tensors: Mapping[str, Tensor]) -> States:
    """The inverse of `flat`, numbers in float32."""
    states: States = {}
    for full_name, tensor in tensors.items():
        role, _, name = full_name.partition("/")
        states.setdefault(role, {})[name] = (
            tensor.float() if tensor.dtype == torch.float16 else tensor
        )
    return states


def samples_shape(text: str, *dimensions: int) -> tuple[int, ...]:
    """The shape of a sample, so many whole numbers from 1 on, of which no more than a .quad file takes."""
    shape = _whole_numbers(json.loads(text), "shape", 1, MAX_SAMPLE_SIZE)
    if len(shape) not in dimensions or math.prod(shape) > MAX_SAMPLE_SIZE:
        raise ValueError(
            f"its shape {shape} is not {' or '.join(map(str, dimensions))} numbers with a product"
            f" of at most {MAX_SAMPLE_SIZE}"
        )
    return shape


def mapping(text: str, what: str) -> dict[str, Any]:
    """A JSON object."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"its {what} are not an object")
    return value


def _whole_numbers(values: Any, what: str, least: int, most: int) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(
        type(value) is int and least <= value <= most for value in values
    ):
        raise ValueError(f"its {what} are not whole numbers from {least} to {most}")
    return tuple(values)


def _stages(text: str) -> list[tuple[int, ...]]:
    levels = json.loads(text)
    if not isinstance(levels, list) or not levels:
        raise ValueError("its levels are not a list for each encoder")
    stages = [_whole_numbers(stage, "levels", 2, _MAX_LEVEL) for stage in levels]
    if not all(stages) or sum(map(len, stages)) > MAX_COLUMNS:
        raise ValueError(f"its encoders give no symbol, or more than {MAX_COLUMNS}")
    return stages


def _points_text(points: dict[str, OperatingPoint]) -> str:
    return json.dumps({name: json.loads(to_json(point)) for name, point in points.items()})


def _points(text: str, roles: Iterable[str]) -> dict[str, OperatingPoint]:
    described, there = mapping(text, "points"), set(roles)
    if not described:
        raise ValueError("it has no decoder")
    for name in described:  # first, as they are quick to tell
        if f"decoder.{check_text('the name of a decoder', name)}" not in there:
            raise ValueError(f"decoder {name!r} has no weights")
    return {name: _point(json.dumps(point)) for name, point in described.items()}


def _point(text: str) -> OperatingPoint:
    point: OperatingPoint = from_json(OperatingPoint, text)
    _whole_numbers(list(point.levels), "levels", 2, _MAX_LEVEL)
    _whole_numbers([point.seed], "seeds", -_MAX_SEED, _MAX_SEED)
    return point
