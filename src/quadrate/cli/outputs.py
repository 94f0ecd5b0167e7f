"""One rule for what verbs write, checked before their work begins.

Nothing that is there is replaced unless that is asked for.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from quadrate.core.files import shown
from quadrate.core.remote import Url, place_of
from quadrate.errors import QuadrateError

FIGURES = (".png", ".pdf", ".svg")
Output = Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
"""The name of an output as it was given.

A path would forget an empty name and a slash at the end.
"""


def output_file(text: str, endings: Sequence[str], overwrite: bool = False) -> Path:
    """The file that a verb is to write.

    Args:
        text: Its name, as it was given.
        endings: What it may end in, in small letters.
        overwrite: Whether a file of that name may be replaced.

    Raises:
        QuadrateError: If it is no name of such a file, a file is there that is not to be replaced,
            something else is there, or it cannot be written.
    """
    wanted = f"its name must end in {', '.join(endings)}"
    _check_name(text, wanted)
    if text.endswith(("/", os.sep)):
        raise QuadrateError(
            f"cannot write {shown(text)}: a slash at its end makes it a folder's name; {wanted}"
        )
    path = Path(text)
    if path.suffix.lower() not in endings:
        raise QuadrateError(f"cannot write {shown(text)}: {wanted}")
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise QuadrateError(
            f"cannot write {shown(text)}: it is"
            f" {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}; give another name"
        )
    if mode is not None and not overwrite:
        raise _exists(text)
    _check_writable(path)
    return path


def _exists(text: str) -> QuadrateError:
    return QuadrateError(
        f"{shown(text)} exists already; give another name, or --overwrite to replace it"
    )


def output_folder(text: str, wanted: str = "give a folder, or a name that ends in .npy") -> Path:
    """The folder that a verb is to write pictures or shards into.

    Whether it is empty is seen when they are written.

    Args:
        text: Its name, as it was given.
        wanted: What errors ask for.

    Raises:
        QuadrateError: If it is no name of a folder, something else is there, or it cannot be
            written.
    """
    _check_name(text, wanted)
    path, slash = Path(text), text.endswith(("/", os.sep))
    mode = _mode(path)
    if mode is not None and not stat.S_ISDIR(mode):
        raise QuadrateError(f"{shown(text)} is a file; {wanted}")
    if mode is None and re.match(r"\.[^\W\d]", path.suffix) and not slash:
        raise QuadrateError(
            f"cannot write {shown(text)}: {wanted}; a folder whose name has an ending is written"
            f" with a slash, {shown(text)}/"
        )
    _check_writable(path)
    return path


def output_url(text: str, ending: str, overwrite: bool = False) -> Url | None:
    """The file behind a URL that a verb is to write; None if the output is no URL.

    Args:
        text: Its name, as it was given.
        ending: What it must end in.
        overwrite: Whether a file of that name may be replaced.

    Raises:
        QuadrateError: If it ends in something else, or a file is there that is not to be replaced.
    """
    place = place_of(text)
    if not isinstance(place, Url):
        return None
    if not place.name.lower().endswith(ending):
        raise QuadrateError(f"cannot write {shown(text)}: its name must end in {ending}")
    if not overwrite and place.exists():
        raise _exists(text)
    return place


def is_array(text: str) -> bool:
    """Whether an output is an array by its name, rather than a folder."""
    return text.rstrip("/" + os.sep).lower().endswith(".npy")


def _check_name(text: str, wanted: str) -> None:
    if text == "-":
        raise QuadrateError(
            f"cannot write to -, the terminal or a pipe, but only to a file or folder: {wanted}"
        )
    if not text.strip():
        raise QuadrateError(f"cannot write to an output without a name: {wanted}")


def _mode(path: Path) -> int | None:
    """What stands there; None if nothing does, or a link to nothing."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise QuadrateError(
            f"cannot write {shown(path)}: {getattr(error, 'strerror', None) or error}; choose"
            " another name"
        ) from None


def _check_writable(path: Path) -> None:
    """Raise a QuadrateError if the file or folder cannot be made, as far as can be told before."""
    place = path if path.is_dir() else Path(os.path.realpath(path)).parent
    while not place.exists():  # what is missing is made
        place = place.parent
    if not place.is_dir():
        raise QuadrateError(
            f"cannot write {shown(path)}: {shown(place)} is not a folder; choose another place"
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise QuadrateError(
            f"cannot write {shown(path)}: no permission to write into {shown(place)}; choose"
            " another place"
        )
