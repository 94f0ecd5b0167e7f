"""Codec files and decoder packs: safetensors with the configuration as metadata, so that nothing in them is ever executed."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from quadrate.bottlenecks.contexts import ContextModel
from quadrate.codec import Codec, Decoders
from quadrate.config import OperatingPoint, from_json, to_json
from quadrate.errors import QuadrateError
from quadrate.familiarity import metadata_of, of_metadata
from quadrate.files import write_atomically
from quadrate.networks.family import Family

if TYPE_CHECKING:
    from quadrate.features import FeatureCodec
    from quadrate.invariant import InvariantCodec

AnyCodec: TypeAlias = "Codec | FeatureCodec | InvariantCodec"
_CODEC, _PACK = "quadrate-codec-2", "quadrate-decoders-1"
_States = dict[str, dict[str, Tensor]]


def zoo() -> dict[str, Path]:
    """The codecs that come with the package: file by name."""
    folder = Path(str(files("quadrate") / "zoo"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def open_codec(path: Path | str) -> AnyCodec:
    """Reads a codec of any kind: of images by purpose, of features, or an invariant one.

    Args:
        path: A codec's file, or the name of one in the package.

    Raises:
        QuadrateError: If it is missing, damaged, or no codec's, or not frozen.
    """
    form = _format(Path(path))
    if form is not None and form.startswith("quadrate-features"):
        from quadrate.features import FeatureCodec

        return FeatureCodec.load(path)
    if form is not None and form.startswith("quadrate-invariant"):
        from quadrate.invariant import InvariantCodec

        return InvariantCodec.load(path)
    codec = load_codec(path)
    if not codec.models:
        raise QuadrateError(f"{path} has no tables yet, so it cannot write files; Codec.freeze(source) fits them, Codec.save keeps them")
    return codec


def _format(path: Path) -> str | None:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("format")
    except (OSError, safetensors.SafetensorError):
        return None  # what is wrong with it is said where it is read


def save_codec(codec: Codec, path: Path) -> None:
    """Writes a codec with all its decoders, and its tables if it is frozen.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    tables = {f"tables.{i}": {name: torch.from_numpy(array) for name, array in model.arrays().items()} for i, model in enumerate(codec.models)}
    metadata = {
        "family": codec.family.name,
        "shape": json.dumps(codec.shape),
        "levels": json.dumps(codec.stages),
        "points": _points_text(codec.points),
        "details": json.dumps(codec.details, sort_keys=True),
    }
    _write(path, codec.states | tables, {"format": _CODEC, **metadata, **metadata_of(codec)})


def load_codec(path: Path | str, family: Family | None = None, device: torch.device | str = "cpu") -> Codec:
    """Reads a codec; arguments and errors as `Codec.load`."""
    place = Path(path)
    if not place.exists() and str(path) in zoo():
        place = zoo()[str(path)]
    if not place.exists():
        raise QuadrateError(f"no codec at {path}; `quadrate train RECIPE` makes one, and {', '.join(zoo()) or 'none'} come with the package")
    metadata, states = _read(place)
    if metadata.get("format") not in ("quadrate-codec-1", _CODEC):
        raise QuadrateError(f"{path} is a safetensors file, but not a codec of Quadrate's")
    try:
        channels, height, width = map(int, json.loads(metadata["shape"]))
        stages = [tuple(map(int, stage)) for stage in json.loads(metadata["levels"])]
        details = dict(json.loads(metadata["details"]))
        if metadata["format"] == _CODEC:
            points = _points(metadata["points"])
        else:  # before codecs had more than one decoder in a file
            point = from_json(OperatingPoint, metadata["point"])
            points = {point.purpose: point}
            states[f"decoder.{point.purpose}"] = states.pop("decoder")
        tables = [states.pop(f"tables.{i}") for i in range(len(stages)) if f"tables.{i}" in states]
        models = [
            ContextModel.from_arrays(sum(stages[: i + 1], ()), sum(map(len, stages[:i])), {name: t.numpy() for name, t in arrays.items()})
            for i, arrays in enumerate(tables)
        ]
        codec = Codec(family or metadata["family"], (channels, height, width), stages, points, states, details, device, models)
        codec.familiarity = of_metadata(metadata)
        return codec
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise QuadrateError(f"{path}: the codec's description is damaged: {type(error).__name__}: {error}") from None
    except QuadrateError as error:
        raise QuadrateError(f"{path}: {error}") from None


def save_pack(pack: Decoders, path: Path) -> None:
    """Writes decoders without an encoder.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    states = {f"decoder.{name}": state for name, state in pack.states.items()}
    _write(path, states, {"format": _PACK, "encoder_hash": pack.encoder_hash, "points": _points_text(pack.points)})


def load_pack(path: Path) -> Decoders:
    """Reads what `save_pack` wrote.

    Raises:
        QuadrateError: If the file is missing, damaged, or no decoder pack.
    """
    if not path.exists():
        raise QuadrateError(f"no decoder pack at {path}")
    metadata, states = _read(path)
    if metadata.get("format") != _PACK:
        raise QuadrateError(f"{path} is a safetensors file, but not a decoder pack of Quadrate's")
    try:
        points = _points(metadata["points"])
        return Decoders(metadata["encoder_hash"], points, {name: states[f"decoder.{name}"] for name in points})
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise QuadrateError(f"{path}: the pack's description is damaged: {type(error).__name__}: {error}") from None


def _points_text(points: dict[str, OperatingPoint]) -> str:
    return json.dumps({name: json.loads(to_json(point)) for name, point in points.items()})


def _points(text: str) -> dict[str, OperatingPoint]:
    points = {str(name): from_json(OperatingPoint, json.dumps(point)) for name, point in dict(json.loads(text)).items()}
    if not points:
        raise ValueError("it has no decoder")
    return points


def _write(path: Path, states: _States, metadata: dict[str, str]) -> None:
    tensors = {f"{role}/{name}": _smallest(tensor.contiguous()) for role, state in states.items() for name, tensor in state.items()}
    write_atomically(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))


def _smallest(tensor: Tensor) -> Tensor:
    """Matrices of numbers that float16 holds, as float16: it costs nothing."""
    if tensor.dtype == torch.float32 and tensor.ndim >= 2 and torch.equal(half := tensor.half(), tensor):
        return half
    return tensor


def _read(path: Path) -> tuple[dict[str, str], _States]:
    """A file's metadata, and its tensors by role and name, numbers in float32."""
    states: _States = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for full_name in file.keys():  # noqa: SIM118 (a safetensors handle is not iterable)
                role, _, name = full_name.partition("/")
                tensor = file.get_tensor(full_name)
                states.setdefault(role, {})[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    except (OSError, safetensors.SafetensorError) as error:
        raise QuadrateError(f"{path} is not a whole safetensors file: {error}") from None
    return metadata, states
