"""The script that Python was started with, which new processes import under another name.

A new process imports the script to find the functions and classes that are defined in it. All that
does not stand below `if __name__ == "__main__":` then runs again.
"""

from __future__ import annotations

import ast
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from pathlib import Path
from types import ModuleType
from typing import Any

_starting = threading.Lock()


def importing_main() -> bool:
    """Whether this is a new process that is still importing the script it was made for."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


def is_safe_to_import() -> bool:
    """Whether the script can be imported without running again what it runs now.

    It can if it is a file whose running line stands below its guard.
    """
    main = sys.modules["__main__"]
    line = _running_line(main)
    if line is None:
        return False
    try:
        tree = ast.parse(Path(str(main.__file__)).read_bytes())
    except (
        OSError,
        ValueError,
        SyntaxError,
        AttributeError,
    ):  # there is no such file in a notebook, and there may be none in an archive
        return False
    guards = (node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_guard(node.test))
    return any(guard.body[0].lineno <= line <= (guard.body[-1].end_lineno or 0) for guard in guards)


def _running_line(main: ModuleType) -> int | None:
    """The line of a module's own code that the main thread is at, if any."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if (
            frame.f_code.co_name == "<module>"
            and frame.f_globals is vars(main)
            and frame.f_code.co_filename == getattr(main, "__file__", None)
        ):
            return frame.f_lineno
        frame = frame.f_back
    return None


def _is_guard(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(map(_is_guard, test.values))
    if not (
        isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)
    ):
        return False
    sides = (test.left, test.comparators[0])
    names = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    return names and any(
        isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
    )


@contextmanager
def started_without_main(wanted: bool) -> Iterator[None]:
    """Let new processes that this thread starts not import the script, if that is wanted.

    What they are sent must not refer to it.
    """
    if not wanted:
        yield
        return
    thread = threading.get_ident()
    with _starting:
        prepare = spawn.get_preparation_data

        def without_main(name: str) -> dict[str, Any]:
            data = prepare(name)
            return {
                key: value
                for key, value in data.items()
                if threading.get_ident() != thread or not key.startswith("init_main")
            }

        spawn.get_preparation_data = without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = prepare
