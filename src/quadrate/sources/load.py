"""One way in: a source from a name or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from quadrate.core.files import exists
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError
from quadrate.sources.catalog import ALIASES, SOURCE_NAMES, load_named
from quadrate.sources.image_folder import from_folder
from quadrate.sources.source import Source, as_it_is

SOURCES: Registry[Callable[[], Source]] = Registry("source", {})
"""Sources of users, by name; those that Quadrate knows are in `SOURCE_NAMES`."""


def register_source(name: str, load: Callable[[], Source]) -> None:
    """Makes a source of one's own known by a name, as `--data` and recipes give it.

    Args:
        name: The name.
        load: Returns the source; called whenever it is asked for.

    Raises:
        QuadrateError: If the name is taken, or cannot be that of a file.
    """
    if name in SOURCE_NAMES or name in ALIASES:
        raise QuadrateError(f"there is a source {name!r} already; give yours another name")
    SOURCES.register(name, load)


def is_source_name(name: str) -> bool:
    """Whether a name is that of a source, Quadrate's or registered, rather than a path."""
    return name in SOURCE_NAMES or SOURCES.knows(name)


def load_source(name: str | Path, data_dir: Path | str | None = None) -> Source:
    """The source that a name or a path asks for.

    Args:
        name: a data set's name (one of `SOURCE_NAMES`, or of `ALIASES`, as `cifar10`, or a
            registered one), or the path of a folder of images (`from_folder`). A name wins over a
            folder of the same name; write `./digits` for the folder.
        data_dir: the folder with the files of named data sets, as `<data_dir>/<name>/<file>`;
            QUADRATE_DATA if it is left out. See `load_named`.

    Raises:
        QuadrateError: when there is no such name or folder, or what it holds cannot be read.
    """
    if isinstance(name, str) and (known := ALIASES.get(name, name)) in SOURCE_NAMES:
        return load_named(known, data_dir)
    if isinstance(name, str) and SOURCES.knows(name):
        return as_it_is(SOURCES[name]())
    path = Path(os.path.expanduser(name))
    if exists(path) and path.is_dir():
        return from_folder(name)
    known = ", ".join((*SOURCE_NAMES, *SOURCES))
    own = "; one of your own is registered by --module FILE.py (docs/extending.md)"
    raise QuadrateError(
        f"unknown source {str(name)!r}: expected one of {known}, or the path of a folder of"
        f" images{own}"
    )
