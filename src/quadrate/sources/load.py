"""One way in: a source from a name or a folder."""

from __future__ import annotations

import os
from pathlib import Path

from quadrate.errors import QuadrateError
from quadrate.files import exists
from quadrate.sources.catalog import ALIASES, SOURCE_NAMES, load_named
from quadrate.sources.folder import from_folder
from quadrate.sources.source import Source


def load_source(name: str | Path, data_dir: Path | str | None = None) -> Source:
    """The source that a name or a path asks for.

    Args:
        name: a data set's name (one of `SOURCE_NAMES`, or of `ALIASES`, as `cifar10`), or the path of a folder of images (`from_folder`). A
            name wins over a folder of the same name; write `./digits` for the folder.
        data_dir: the folder with the files of named data sets, as `<data_dir>/<name>/<file>`; QUADRATE_DATA if it is left out. See `load_named`.

    Raises:
        QuadrateError: when there is no such name or folder, or what it holds cannot be read.
    """
    if isinstance(name, str) and (known := ALIASES.get(name, name)) in SOURCE_NAMES:
        return load_named(known, data_dir)
    path = Path(os.path.expanduser(name))
    if exists(path) and path.is_dir():
        return from_folder(name)
    raise QuadrateError(f"unknown source {str(name)!r}: expected one of {', '.join(SOURCE_NAMES)}, or the path of a folder of images")
