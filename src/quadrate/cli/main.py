"""Entry point: what becomes of errors, warnings, signals and lost output.

`quadrate.cli.verbs` has the verbs.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from quadrate.cli.signals import Interruptions
from quadrate.core.files import shown
from quadrate.core.names import one_line
from quadrate.core.progress import lines_off_terminal
from quadrate.errors import QuadrateError, QuadrateWarning, UsageError


@lines_off_terminal()
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb.

    Exits with 1 and one line on stderr on an error that the user can mend; with 2 on words that are
    no command; with 128 and the number of the signal (130 for Ctrl-C) when it was interrupted; and
    with 141, as other programs do, where the reader of its output went away.
    """
    own = arguments is None  # the process is ours, not a program's that calls us
    _mend_streams()
    with Interruptions(own) as interruptions, _shown_warnings(own):
        try:
            from quadrate.cli.verbs import run

            run(sys.argv[1:] if arguments is None else arguments, interruptions.imported)
            sys.stdout.flush()
        except SystemExit:
            _flush_or_fail()  # of --help
            raise
        except BaseException as error:
            if interruptions.number is None and not isinstance(error, KeyboardInterrupt):
                _fail_of(error)
            state = str(error) if isinstance(error, KeyboardInterrupt) else ""
            _fail(
                f"interrupted; {state or 'the same command goes on from the last checkpoint'}",
                interruptions.status,
            )


def _fail_of(error: BaseException) -> NoReturn:
    """Ends with one line on whatever a user can mend; the rest is a fault of ours, and goes on."""
    if isinstance(error, UsageError):
        _fail(str(error), 2)
    if isinstance(error, QuadrateError):
        _fail(str(error), 1)
    if isinstance(
        error, BrokenPipeError
    ):  # the reader of our output (head, less) went away: not an error
        _drop_output()
        sys.exit(128 + 13)
    if isinstance(error, OSError):
        _fail(_reason(error), 1)
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        _fail(f"not enough memory{f': {error}' if str(error) else ''}", 1)
    if isinstance(error, RecursionError):
        _fail("a file or an option is nested too deeply", 1)
    raise error


def _reason(error: OSError) -> str:
    """An error of the system that nothing else explained, with the file's name where it has one."""
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error.filename, str | bytes) and error.filename:
        return f"cannot use {shown(os.fsdecode(error.filename))}: {reason}"
    return (
        _OUTPUT_LOST.format(reason)
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF)
        else reason
    )


_OUTPUT_LOST = "cannot write the output: {}"


def _flush_or_fail() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        _fail_of(error)


def _fail(message: str, status: int) -> NoReturn:
    with suppress(OSError):  # without a place to complain, the status must do
        print(f"quadrate: {one_line(message)}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    sys.exit(status)


def _drop_output() -> None:
    """Sends what is left of the output nowhere.

    Python would try once more at its exit, and complain.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _mend_streams() -> None:
    """Open closed streams, whose place a file of ours would take; escape odd characters.

    What is written to an output that was closed is lost, and flushing it says so.
    """
    for number, name, flags in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_RDONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        stream: Any = getattr(sys, name)
        if stream is None:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(
                sys,
                name,
                open(number, "w" if number else "r", errors="backslashreplace", closefd=False),
            )  # noqa: SIM115 (stays open)
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _shown_warnings(own: bool) -> Iterator[None]:
    """Prints each doubt of ours once, on one line of stderr.

    Those of libraries are for whoever develops, who asks for them by -W.
    """
    seen: set[str] = set()
    with warnings.catch_warnings():
        if own and not sys.warnoptions:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", QuadrateWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, QuadrateWarning):
                others(message, category, *where, **more)
            elif (text := one_line(str(message))) not in seen:
                seen.add(text)
                with suppress(OSError):
                    print(f"quadrate: warning: {text}", file=sys.stderr)

        warnings.showwarning = show
        yield
