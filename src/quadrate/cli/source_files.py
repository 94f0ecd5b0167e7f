"""Files of numbers that `quadrate theory` reads: matrices, and arrays of discrete sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quadrate.core.array_file import array_names, read_array, readable
from quadrate.core.files import exists, read_bytes
from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError
from quadrate.theory.channels import FloatArray

_ARRAYS = ("pmf", "distortion", "label_channel", "classifier")
# More than any solver can take; a small archive may claim to hold any number of bytes.
_MOST_BYTES = 1 << 27


def read_source_arrays(path: Path) -> dict[str, FloatArray]:
    """The arrays of an .npz file, or of a folder's .csv and .npy files, by their names.

    Raises:
        QuadrateError: If there is no such file or folder, something in it cannot be read, or it
            holds other arrays than a source has.
    """
    if exists(path) and path.is_dir():
        files = {
            file.stem: file
            for file in sorted(path.iterdir())
            if file.stem in _ARRAYS and file.suffix in (".csv", ".npy")
        }
        found = {name: read_matrix(file) for name, file in files.items()}
    else:
        _check_size(path)
        found = {name: read_array(path, name, _MOST_BYTES) for name in array_names(path)}
    _check_names(path, list(found))
    return found


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not {"pmf", "distortion"} <= set(names) <= set(_ARRAYS):
        held = (
            ", ".join(name if is_printable(name) else ascii(name) for name in names[:20]) or "none"
        )
        raise QuadrateError(
            f"{path} must hold the arrays pmf and distortion, and may hold label_channel and"
            f" classifier; it holds {held}"
        )


def read_matrix(path: Path) -> FloatArray:
    """The array in a .csv or .npy file.

    Raises:
        QuadrateError: If there is no such file, or it cannot be read.
    """
    _check_size(path)
    if path.suffix == ".npy":
        return read_array(path, most_bytes=_MOST_BYTES)
    with readable(path):
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
        return np.array([line.split(",") for line in lines if line.strip()], dtype=np.float64)


def _check_size(path: Path) -> None:
    """Refuses a file that is missing, or of more bytes than a source may take."""
    if not exists(path):
        raise QuadrateError(f"no such file: {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise QuadrateError(
            f"{path} holds more than the {_MOST_BYTES >> 20} MB that a source may take"
        )
