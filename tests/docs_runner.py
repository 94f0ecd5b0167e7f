"""Runs the code of one page of the documentation from top to bottom, in the current folder.

    python tests/docs_runner.py PAGE.md

Blocks of Python share their names. A block with `title="NAME"` is saved under that name, and not
run. Of shell blocks each command runs: `quadrate …` in this process, `python FILE` too. Before a
block a comment may say otherwise: `<!-- takes … -->` has arguments parsed and the command not run,
`<!-- not run … -->` passes over the block.
"""

from __future__ import annotations

import functools
import glob
import re
import runpy
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r'^(?:<!-- (takes|not run)[^\n]*-->\n+)?^```(python|sh)(?: title="([^"\n]+)")?\n(.*?)^```',
    re.MULTILINE | re.DOTALL,
)
_INDENTED = re.compile(r"^    (quadrate .*(?:\n        .*)*)$", re.MULTILINE)
# Commands that set a machine up, or belong to a clone: they are named, and not run here.
_ELSEWHERE = {"git", "cd", "make", "pip", "python", "python3", "export", "jq", "."}


@dataclass(frozen=True)
class Block:
    """A block of code: what a comment says of it, its language, its title, its text."""

    mark: str
    language: str
    title: str
    code: str


def blocks(text: str) -> list[Block]:
    """Return a page's blocks of Python and of shell commands."""
    return [Block(*(part or "" for part in match.groups())) for match in _BLOCK.finditer(text)]


def commands(code: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block; pipes and && part commands."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = next((i for i, word in enumerate(words) if word in ("|", "&&")), len(words))
            if words[:end]:
                yield words[:end]
            words = words[end + 1 :]


def quadrate_lines(text: str) -> list[str]:
    """Return all lines of a page, in blocks or indented, that call Quadrate."""
    fenced = [line for block in blocks(text) for line in block.code.splitlines()]
    found = [line for line in fenced if line.startswith("quadrate ")]
    return found + [match[1].strip() for match in _INDENTED.finditer(text)]


def parse(words: list[str]) -> None:
    """Check the arguments of a command without running it.

    Raises:
        SystemExit: If a verb or an option is unknown, or a value is of another type.
    """
    import tyro

    from quadrate.cli.verbs import VERBS

    if words[0] in ("--version", "--help"):
        return
    function = VERBS[words[0]].load(words[0])

    @functools.wraps(function)
    def nothing(*_: object, **__: object) -> None:
        return None

    tyro.cli(nothing, prog=f"quadrate {words[0]}", args=words[1:])


def run(words: list[str]) -> None:
    """Run a command of a shell block.

    Raises:
        ValueError: If no such command may stand in the documentation.
        QuadrateError: If a command of Quadrate's fails.
    """
    words = [each for word in words for each in sorted(glob.glob(word)) or [word]]
    if words[0] == "quadrate":
        from quadrate.cli import verbs

        verbs.run(words[1:], lambda: None)
    elif words[0] == "python":
        runpy.run_path(words[1], run_name="__main__")
    else:
        raise ValueError(f"a command that the test does not know: {shlex.join(words)}")


def check(words: list[str]) -> None:
    """Parse a command that is not run here.

    Raises:
        ValueError: If no such command may stand in the documentation.
    """
    if words[0] == "quadrate":
        parse(words[1:])
    elif words[0] not in _ELSEWHERE:
        raise ValueError(f"a command that the test does not know: {shlex.join(words)}")


def main() -> None:
    """Run the page that the command line names."""
    page = Path(sys.argv[1])
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8")), 1):
        started = time.monotonic()
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.code, encoding="utf-8")
        elif block.mark == "not run":
            continue
        elif block.language == "python":
            exec(compile(block.code, f"{page.name}, block {number}", "exec"), names)
        else:
            for words in commands(block.code):
                (check if block.mark else run)(words)
        print(f"block {number}: {time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
