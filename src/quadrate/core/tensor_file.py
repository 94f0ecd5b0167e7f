"""Tensors and texts in one safetensors file, with a digest over all of them.

So a damaged file cannot pass for a result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from quadrate.core.files import read_bytes, write_atomically
from quadrate.core.names import check_text
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

_DIGEST = "digest"
_MAX_HEADER_BYTES = 1 << 24
_DTYPES = {
    *(torch.float16, torch.float32, torch.float64, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors and texts, whole or not at all.

    Args:
        path: The file.
        tensors: Tensors by name, on any device.
        metadata: Texts by name; "format" names the kind of file.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    # Clones, since networks may share weights and safetensors files may not.
    here = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    texts = {**metadata, _DIGEST: _digest(metadata, here)}
    write_atomically(path, lambda temporary: safetensors.torch.save_file(here, temporary, texts))


def read_tensors(
    path: Place, what: str, formats: Sequence[str], older: Sequence[str] = ()
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Reads what `write_tensors` wrote; later changes of the file do not reach the tensors.

    Args:
        path: The file.
        what: What errors say it should be, such as "a Quadrate codec".
        formats: The formats to accept.
        older: Formats to accept without a digest, from before files had one.

    Returns:
        The texts and the tensors, by name.

    Raises:
        QuadrateError: If the file is missing, cannot be read, has another format, or is damaged:
            its digest differs, a number is not finite, or a tensor has a type that Quadrate does
            not write.
    """
    data = read_bytes(path)
    try:
        tensors = safetensors.torch.load(data)
        metadata = _metadata(data)
    except Exception as error:  # safetensors raises a dozen kinds of exception on hostile headers
        raise QuadrateError(
            f"{path} is not a whole safetensors file: {' '.join(str(error).split())[:200]!a}"
        ) from None
    if metadata.get("format") not in (*formats, *older):
        raise QuadrateError(f"{path} is a safetensors file, but not {what}")
    found = metadata.pop(_DIGEST, None)
    if found is None and metadata["format"] not in older:
        raise QuadrateError(f"{path} is damaged: it has no digest")
    for name, tensor in tensors.items():
        check_text(f"{path}: the name of a tensor", name)
        if tensor.dtype not in _DTYPES:
            raise QuadrateError(
                f"{path} is damaged: tensor {name!r} is {tensor.dtype}, which Quadrate does not"
                " write"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise QuadrateError(
                f"{path} is damaged: tensor {name!r} has numbers that are not finite"
            )
    if found is not None and found != _digest(metadata, tensors):
        raise QuadrateError(f"{path} is damaged: its contents do not match its digest")
    return metadata, tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The texts of a file, unchecked; empty if it is not a safetensors file.

    Raises:
        QuadrateError: If the file is missing or cannot be read.
    """
    try:
        return _metadata(read_bytes(path))
    except (ValueError, RecursionError):
        return {}


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    if size > _MAX_HEADER_BYTES:
        raise ValueError(f"its header takes {size} bytes; allowed: {_MAX_HEADER_BYTES}")
    header = json.loads(data[8 : 8 + size])
    texts = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    if not isinstance(texts, dict):
        return {}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over all texts and tensors, each with its length before it."""
    sha = hashlib.sha256()

    def add(part: bytes) -> None:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)

    for name, text in sorted(metadata.items()):
        add(name.encode())
        add(text.encode())
    for name, tensor in sorted(tensors.items()):
        add(name.encode())
        add(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        add(tensor_bytes(tensor))
    return sha.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor of any type and device, row by row."""
    own = tensor.detach().cpu().contiguous()
    return own.reshape(-1).view(torch.uint8).numpy().tobytes() if own.numel() else b""
