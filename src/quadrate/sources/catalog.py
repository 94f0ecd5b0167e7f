"""The sources known by name, Quadrate's and users', and `load_source`, which takes names and paths.

The built-in data sets have 10 classes. The test set is as published; the validation set is the last
n/12 of the published training set after a fixed permutation (`from_arrays`): 5,000 of MNIST's and
Fashion-MNIST's 60,000, 6,104 of SVHN's 73,257, 4,166 of CIFAR-10's 50,000.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from quadrate.core.files import exists
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError
from quadrate.sources.cifar import CIFAR_10
from quadrate.sources.digits import digits
from quadrate.sources.image_folder import from_folder
from quadrate.sources.mnist import FASHION_MNIST, MNIST
from quadrate.sources.source import Source, with_true_fingerprint
from quadrate.sources.svhn import SVHN

# A loader takes the folder of named data sets, or None.
SOURCES: Registry[Callable[[Path | str | None], Source]] = Registry(
    "source",
    {
        "digits": digits,
        "mnist": MNIST,
        "fashion-mnist": FASHION_MNIST,
        "svhn": SVHN,
        "cifar-10": CIFAR_10,
    },
)
_ALIASES = {"cifar10": "cifar-10", "fashionmnist": "fashion-mnist"}


def register_source(name: str, load: Callable[[], Source]) -> None:
    """Make your own source known by a name, for `--data` and recipes.

    Args:
        name: The name.
        load: Returns the source; called on each use.

    Raises:
        QuadrateError: If the name is taken, or is not valid as a file name.
    """
    if name in _ALIASES:
        raise QuadrateError(f"{name!r} is another name of {_ALIASES[name]!r}; choose another")
    SOURCES.register(name, lambda data_dir: with_true_fingerprint(load()))


def source_name(name: str) -> str:
    """The name in `SOURCES` for a name or an alias, such as `cifar10`; other names unchanged."""
    return _ALIASES.get(name, name)


def load_source(name: str | Path, data_dir: Path | str | None = None) -> Source:
    """Load the source of a name or a path.

    Args:
        name: The name of a data set (one of `SOURCES`, or an alias), or the path of a folder of
            images (`from_folder`). A name wins over a folder of the same name; write `./digits` for
            the folder.
        data_dir: The folder with the files of named data sets, as `<data_dir>/<name>/<file>`;
            QUADRATE_DATA by default. See `DataSet`.

    Raises:
        QuadrateError: If there is no such name or folder, or its contents cannot be read.
    """
    if isinstance(name, str) and SOURCES.knows(known := source_name(name)):
        return SOURCES[known](data_dir)
    path = Path(os.path.expanduser(name))
    if exists(path) and path.is_dir():
        return from_folder(name)
    raise QuadrateError(
        f"unknown source {str(name)!r}: expected one of {', '.join(SOURCES)}, or the path of a"
        " folder of images; register your own with --module FILE.py (docs/extending.md)"
    )
