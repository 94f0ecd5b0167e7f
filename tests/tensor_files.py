"""Tensor files changed by someone who knows how their digest is made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from quadrate.core.tensor_file import write_tensors


def contents(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """A file's texts, all but the digest, and its tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = {
            name: text for name, text in (file.metadata() or {}).items() if name != "digest"
        }
    return metadata, safetensors.torch.load(path.read_bytes())


def rewrite(
    path: Path,
    metadata: Mapping[str, str | None] | None = None,
    tensors: Mapping[str, Any] | None = None,
) -> None:
    """Changes, adds or drops (None) texts and tensors of a file, and renews its digest."""
    texts, parts = contents(path)
    both: list[dict[str, Any]] = [
        {name: value for name, value in {**old, **(new or {})}.items() if value is not None}
        for old, new in ((texts, metadata), (parts, tensors))
    ]
    here = {
        name: (
            torch.from_numpy(np.ascontiguousarray(value))
            if isinstance(value, np.ndarray | np.generic)
            else value
        )
        for name, value in both[1].items()
    }
    write_tensors(path, here, both[0])
