"""The verbs by name, and how one of them is found and run.

A verb is imported when it runs: nobody waits for PyTorch to read the help. A plug-in adds its own
by `register_verb`.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import getdoc

from quadrate import __version__
from quadrate.core.plugins import load_plugin
from quadrate.core.registry import Registry
from quadrate.errors import UsageError


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        place: The function that runs it, or the module that has a function of the verb's name.
        summary: What it does, the first line of the function's docstring.
    """

    place: str | Callable[..., None]
    summary: str

    def load(self, name: str) -> Callable[..., None]:
        """Return the function; its signature and docstring are the verb's options and help."""
        if callable(self.place):
            return self.place
        function: Callable[..., None] = getattr(import_module(self.place), name)
        return function


VERBS: Registry[Verb] = Registry(
    "verb",
    {
        "recipes": Verb("quadrate.cli.recipes", "List the recipes by paper."),
        "reproduce": Verb(
            "quadrate.cli.reproduce", "Reproduce a published experiment from end to end."
        ),
        "train": Verb("quadrate.cli.train", "Train a recipe, or go on where it was interrupted."),
        "evaluate": Verb(
            "quadrate.cli.evaluate", "Score every trained point of a run on the test set."
        ),
        "plot": Verb("quadrate.cli.plot", "Draw evaluated runs as one figure."),
        "report": Verb("quadrate.cli.report", "Make one HTML page of evaluated runs."),
        "judge": Verb(
            "quadrate.cli.judge", "Train or score a classifier that judges codecs on a data set."
        ),
        "demo": Verb(
            "quadrate.cli.demo", "Show the whole way: a judge, codecs, scores, a table, a figure."
        ),
        "theory": Verb("quadrate.cli.theory", "Compute what any codec needs at least."),
        "export": Verb("quadrate.cli.export", "Make a trained codec ready for files."),
        "compress": Verb(
            "quadrate.cli.compress", "Compress photographs, images or features to one .quad file."
        ),
        "decompress": Verb(
            "quadrate.cli.decompress", "Decode a .quad file to an array or a folder of pictures."
        ),
        "inspect": Verb(
            "quadrate.cli.inspect_quad", "Say what a .quad file holds, and which codec reads it."
        ),
        "verify": Verb("quadrate.cli.verify", "Check a whole .quad file."),
        "app": Verb("quadrate.cli.app", "Open a page to play with: one file, every decoder."),
        "completion": Verb(
            "quadrate.cli.completion",
            "Print a script by which a shell completes verbs, options and recipes.",
        ),
    },
)


def register_verb(function: Callable[..., None]) -> None:
    """Add a verb, called as the function is; tyro makes its options of the signature.

    Raises:
        QuadrateError: If there is a verb of that name already.
    """
    summary = (getdoc(function) or "").partition("\n")[0]
    VERBS.register(function.__name__, Verb(function, summary))


def run(arguments: Sequence[str], imported: Callable[[], None]) -> None:
    """Run the verb that the arguments name, or print the help.

    Plug-ins with verbs of their own may stand before the verb: `--module FILE.py VERB …`.

    Args:
        arguments: The words after `quadrate`.
        imported: Called when the imports of the command line are done.
    """
    words = list(arguments)
    while words[:1] == ["--module"] and words[1:]:
        load_plugin(words[1])
        del words[:2]
    if words and not words[0].startswith("-"):
        name, *rest = words
        if not VERBS.knows(name):
            raise UsageError(f"unknown verb {name!r}; {VERBS.hint}; see `quadrate --help`")
        function = VERBS[name].load(name)
        import tyro

        tyro._experimental_options["ansi_codes"] = _coloured()
        imported()
        tyro.cli(function, prog=f"quadrate {name}", args=rest)
    else:
        imported()
        _help_parser().parse_args(words)


def _coloured() -> bool:
    """Whether help and usage errors may be coloured: on a terminal, unless NO_COLOR is set.

    Rich asks the same for tables and bars; tyro would look at stdout alone.
    """
    return not os.environ.get("NO_COLOR") and sys.stdout.isatty() and sys.stderr.isatty()


def _help_parser() -> ArgumentParser:
    """What prints the help, or what is wrong with words without a verb; tyro would take longer."""
    parser = ArgumentParser(
        "quadrate",
        usage="quadrate [-h] [--version] [--module FILE.py] VERB ...",
        description="Lossy compression by purpose.",
        epilog="`quadrate VERB --help` says how a verb is used.",
    )
    parser.add_argument("--version", action="version", version=f"quadrate {__version__}")
    parser.add_argument(
        "--module", metavar="FILE.py", help="a plug-in with verbs of its own (docs/extending.md)"
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        verbs.add_parser(name, help=verb.summary)
    return parser
