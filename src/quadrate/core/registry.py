"""Things by name: built-in ones, and those that users add."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TypeVar

from quadrate.core.names import check_file_name
from quadrate.errors import QuadrateError, QuadrateWarning

GROUP = "quadrate.plugins"  # of the entry points that packages announce
Thing = TypeVar("Thing")
_registries: list[Registry[object]] = []
_looked_for = False


class Registry(dict[str, Thing]):
    """Things of one kind by name, in the order in which they were added.

    Args:
        kind: What errors call one of them, such as "network family".
        known: Quadrate's own.

    Attributes:
        built_in: The names of Quadrate's own.
    """

    def __init__(self, kind: str, known: Mapping[str, Thing]) -> None:
        super().__init__(known)
        self.kind, self.built_in = kind, frozenset(known)
        _registries.append(self)  # type: ignore[arg-type]

    def register(self, name: str, thing: Thing) -> None:
        """Adds one.

        Raises:
            QuadrateError: If the name cannot be that of a file, as some become, or is taken.
        """
        check_file_name(f"the name of a {self.kind}", name)
        if name in self:
            raise QuadrateError(f"there is a {self.kind} {name!r} already; give yours another name")
        self[name] = thing

    def knows(self, name: str) -> bool:
        """Whether there is one of that name, here or in an installed plug-in."""
        if name not in self:
            load_installed()
        return name in self

    def find(self, name: str) -> Thing:
        """The one of that name.

        Raises:
            QuadrateError: If there is none.
        """
        if not self.knows(name):
            raise QuadrateError(f"unknown {self.kind} {name!r}; {self.hint}")
        return self[name]

    @property
    def hint(self) -> str:
        """What there is, and how to bring in more."""
        return (
            f"known: {', '.join(self) or 'none'}; one of your own is registered by --module FILE.py"
            " (docs/extending.md)"
        )


def contents() -> list[dict[str, object]]:
    """What all registries hold, for `restore`."""
    return [dict(registry) for registry in _registries]


def restore(before: list[dict[str, object]]) -> None:
    """Takes out what was added since `contents`."""
    for registry, known in zip(_registries, before, strict=False):
        for name in registry.keys() - known.keys():
            del registry[name]


def load_installed() -> None:
    """Imports the plug-ins of installed packages, once.

    Warns (`QuadrateWarning`) of those that fail.
    """
    global _looked_for
    if _looked_for:
        return
    _looked_for = True
    from importlib.metadata import entry_points  # takes a while, and is seldom needed

    for entry in entry_points(group=GROUP):
        before = contents()
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            restore(before)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warnings.warn(
                f"plug-in {entry.name} ({entry.value}) cannot be loaded: {reason}",
                QuadrateWarning,
                stacklevel=3,
            )
