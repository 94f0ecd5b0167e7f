"""How verbs answer: tables and lines for readers, one JSON document for programs."""

from __future__ import annotations

import json as json_format
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quadrate.core.remote import Url

if TYPE_CHECKING:
    from quadrate.core.progress import Showing
    from quadrate.core.table import Table

_LEAST_WIDTH = 110  # off a terminal rich would assume 80 columns and cut tables


@dataclass(frozen=True)
class Printer:
    """Prints what a verb has to say, as its options ask.

    A verb calls `result` or `done` once, with facts that become the JSON document.

    Attributes:
        json: Print one JSON document in place of tables and lines (docs/command-line.md).
        quiet: Print no progress, and no lines on what was made; errors, warnings, and tables and
            numbers that were asked for are still printed.
    """

    json: bool = False
    quiet: bool = False

    @property
    def report(self) -> Showing:
        """Where progress goes, as `report` of `Run.train`."""
        return None if self.quiet else "auto"

    def result(self, facts: Any, *texts: str | Table) -> None:
        """Print what was asked for.

        Args:
            facts: What is printed with `--json`: lists, mappings by name, numbers, text, paths.
            *texts: What is printed without.
        """
        if self.json:
            print(json_format.dumps(plain(facts), indent=2, allow_nan=False))
        else:
            _show(*texts)

    def done(self, facts: Any, *texts: str | Table) -> None:
        """Print what was made or checked; nothing if quiet. The arguments are those of `result`."""
        if self.json or not self.quiet:
            self.result(facts, *texts)

    def remark(self, *texts: str | Table) -> None:
        """Print what helps a reader on the way: nothing if quiet, or with `--json`."""
        if not self.json and not self.quiet:
            _show(*texts)


PRINTER = Printer()
Printing = Annotated[
    Printer,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.CascadeSubcommandArgs,  # may stand behind the name of a subcommand, too
    tyro.conf.arg(name=""),
]
"""A verb's last parameter: its options `--json` and `--quiet`."""


def plain(facts: Any) -> Any:
    """Facts as JSON has them.

    Infinite numbers, which JSON lacks, become the text "inf" or "-inf"; NaN becomes null.
    """
    if isinstance(facts, Mapping):
        return {str(name): plain(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [plain(value) for value in facts]
    if isinstance(facts, Path | Url):
        return str(facts)
    if hasattr(facts, "tolist"):  # of NumPy
        return plain(facts.tolist())
    if isinstance(facts, float) and not math.isfinite(facts):
        return None if math.isnan(facts) else str(facts)
    return facts


def _show(*texts: str | Table) -> None:
    for text in texts:
        if isinstance(text, str):
            print(text)
        else:
            from rich.console import Console

            Console(width=max(_LEAST_WIDTH, Console().width)).print(text.text())
