"""Plug-ins: Python files, modules and installed packages that register things of your own.

A plug-in is a module that calls `register_…` functions when it is imported. Files and modules are
named (`--module` on the command line); a package announces its module as an entry point of the
group "quadrate.plugins", and is imported when a name is not known otherwise
(`quadrate.core.registry.load_installed`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from quadrate.core import registry
from quadrate.errors import QuadrateError

_loaded: dict[str, ModuleType] = {}  # by the file's full path, or the module's name


def load_plugin(spec: str | Path) -> ModuleType:
    """Imports a plug-in, once.

    What it registers holds for this process and for the worker processes that it starts.

    Args:
        spec: The path of a Python file, which may import others in its folder, or the name of a
            module that can be imported.

    Raises:
        QuadrateError: If there is none, or importing it fails; then nothing of it is registered.
    """
    text = str(spec)
    is_file = text.endswith(".py") or os.sep in text
    key = str(Path(text).expanduser().resolve()) if is_file else text
    if key not in _loaded:
        before = registry.contents()
        try:
            _loaded[key] = _import_file(Path(key)) if is_file else importlib.import_module(key)
        except (
            Exception,
            SystemExit,
        ) as error:  # whatever a user's module raises when it is imported
            registry.restore(before)
            reason = (
                str(error)
                if isinstance(error, QuadrateError)
                else f"{type(error).__name__}: {error}"
            )
            advice = (
                ""
                if is_file
                else (
                    "; a plug-in is a path such as ./mine.py, or the name of a module that can be"
                    " imported"
                )
            )
            raise QuadrateError(
                f"plug-in {text} cannot be loaded: {' '.join(reason.split())}{advice}"
            ) from None
    return _loaded[key]


def load_plugins(specs: Iterable[str]) -> None:
    """Imports several; errors as `load_plugin`."""
    for spec in specs:
        load_plugin(spec)


def loaded_plugins() -> tuple[str, ...]:
    """What `load_plugin` has imported, so that another process can, too."""
    return tuple(_loaded)


def _import_file(path: Path) -> ModuleType:
    name = f"quadrate_plugin_{path.stem}"  # so that it hides no other module
    if name in sys.modules:
        raise QuadrateError(f"another plug-in is called {path.name}, too; rename one of them")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise QuadrateError("it is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # by which worker processes find its functions
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
