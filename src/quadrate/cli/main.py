"""Entry point: verbs, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import tyro

from quadrate.cli.compress import compress
from quadrate.cli.decompress import decompress
from quadrate.cli.demo import demo
from quadrate.cli.evaluate import evaluate
from quadrate.cli.export import export
from quadrate.cli.inspect_ import inspect
from quadrate.cli.judge import judge
from quadrate.cli.plot import plot
from quadrate.cli.recipes import recipes
from quadrate.cli.report import report
from quadrate.cli.reproduce import reproduce
from quadrate.cli.theory import theory
from quadrate.cli.train import train
from quadrate.cli.verify import verify
from quadrate.errors import QuadrateError
from quadrate.progress import lines_off_terminal

_FILES = (export, compress, decompress, inspect, verify)
VERBS = {verb.__name__: verb for verb in (recipes, reproduce, train, evaluate, plot, report, judge, demo, theory, *_FILES)}


@lines_off_terminal()
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb; exits with 1 and one line on an error that the user can mend, with 130 when interrupted."""
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="quadrate", description="Lossy compression by purpose.", args=arguments)
    except QuadrateError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt as interrupt:
        _fail(f"interrupted; {str(interrupt) or 'the same command goes on from the last checkpoint'}", 130)
    except BrokenPipeError:
        # The reader of our output (head, less) went away: not an error, but Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> None:
    print(f"quadrate: {message}", file=sys.stderr)
    sys.exit(status)
