"""Checkpoints of unfinished trainings: they lead to the uninterrupted result, or are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadrate.core.files import exists
from quadrate.core.tensor_file import read_tensors, write_tensors
from quadrate.errors import QuadrateError

_FORMAT = "quadrate-checkpoint-3"  # earlier ones are refused


def write_checkpoint(
    path: Path, state: Mapping[str, Tensor], training: str, rows: Sequence[dict[str, Any]] = ()
) -> None:
    """Write all that a training needs to go on.

    Args:
        path: The file.
        state: Tensors by name.
        training: What training this is: a text that differs between any two whose results differ.
        rows: The metrics so far, which stand in a file of their own and must go with this one.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    write_tensors(
        path, state, {"format": _FORMAT, "training": training, "metrics": _digest_of(rows)}
    )


def read_checkpoint(
    path: Path, training: str | None = None
) -> tuple[dict[str, Tensor], str] | None:
    """Read what `write_checkpoint` wrote.

    Args:
        path: The file.
        training: What training it must be of; None takes any.

    Returns:
        Tensors by name, and the digest of the metrics, for `check_metrics`; None if there is no
        checkpoint.

    Raises:
        QuadrateError: If it is damaged, of another version or of another training.
    """
    if not exists(path):
        return None
    try:
        texts, state = read_tensors(path, "a checkpoint of this version of Quadrate", [_FORMAT])
    except QuadrateError as error:
        raise damaged(path, error) from None
    if training is not None and texts.get("training") != training:
        raise QuadrateError(
            f"checkpoint {path} is of another configuration; delete it to train from the start"
        )
    return state, texts.get("metrics", "")


def check_tensors(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise a QuadrateError unless a state has the names, shapes and types of another."""
    if state.keys() != wanted.keys():
        raise QuadrateError(
            "it has too few or too many tensors:"
            f" {', '.join(sorted(state.keys() ^ wanted.keys()))[:200]!a}"
        )
    for name, tensor in wanted.items():
        found = state[name]
        if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            what = f"{found.dtype} {tuple(found.shape)}, not {tensor.dtype} {tuple(tensor.shape)}"
            raise QuadrateError(f"its tensor {name!r} is {what}")
        if name.endswith((".exp_avg_sq", ".running_var", "seconds")) and bool((found < 0).any()):
            raise QuadrateError(f"its tensor {name!r} has negative numbers")


def check_counter(name: str, found: Tensor, least: int, most: int) -> int:
    """Read a counter; raise a QuadrateError unless it is a whole number in its range."""
    if (
        found.shape
        or found.dtype not in (torch.int64, torch.float32)
        or not (found == found.round() and least <= float(found) <= most)
    ):
        raise QuadrateError(
            f"its {name!r} is {found.tolist()!r:.100}, and should be a whole number from {least} to"
            f" {most}"
        )
    return int(found)


def check_metrics(rows: Sequence[dict[str, Any]], digest: str) -> None:
    """Raise a QuadrateError unless these are the rows that a checkpoint was written with."""
    if _digest_of(rows) != digest:
        raise QuadrateError("metrics.jsonl next to it does not match it")


def damaged(path: Path, reason: object) -> QuadrateError:
    """Make an error that tells what is wrong with a checkpoint."""
    return QuadrateError(
        f"checkpoint {path} is damaged ({str(reason).removeprefix(f'{path} ')}); delete it to train"
        " the point from the start"
    )


def _digest_of(rows: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256("".join(json.dumps(row) + "\n" for row in rows).encode()).hexdigest()
