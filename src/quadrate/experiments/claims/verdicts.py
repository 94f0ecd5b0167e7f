"""Which claims a recipe decides, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quadrate.core.files import write_text
from quadrate.core.table import Table, words_table
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import contours_claims as contours
from quadrate.experiments.claims import lossyless_claims as lossyless
from quadrate.experiments.claims import photo_claims as photo
from quadrate.experiments.claims import promises_claims as promises
from quadrate.experiments.claims import rdpc_claims as rdpc
from quadrate.experiments.claims import urdc_claims as urdc
from quadrate.experiments.claims import urdp_claims as urdp
from quadrate.experiments.claims.claim import Answer, Check, Verdict
from quadrate.experiments.recipes.catalogue import published_name
from quadrate.experiments.reports.summary import Row, quick_note, require

CHECKS: dict[str, tuple[Check, ...]] = {
    name: checks
    for module in (urdp, urdc, rdpc, contours, lossyless, promises, photo)
    for name, checks in module.CHECKS.items()
}
"""The claims that a recipe, or a table of results, decides; by its name."""


def decide(name: str, rows: Sequence[Row], command: str, other_data: str = "") -> list[Verdict]:
    """A verdict on each claim that a recipe decides; empty for a recipe without claims.

    Args:
        name: The recipe's name, as `quadrate recipes` lists it, or that of a folder of results.
        rows: Its scored points.
        command: The command that measures them again.
        other_data: The data measured on, if they are not the paper's; claims about published
            numbers are then left out.

    Raises:
        QuadrateError: If there are no rows.
    """
    checks = [
        check
        for check in CHECKS.get(name, ())
        if not (other_data and check.claim.of_published_data)
    ]
    if not checks:
        return []
    require(rows)
    seeds = len({row["seed"] for row in rows if "seed" in row})
    return [
        Verdict(check.claim, *_decided(check, rows), seeds, command, other_data) for check in checks
    ]


def decide_run(name: str, source: str, rows: Sequence[Row], command: str = "") -> list[Verdict]:
    """As `decide`, by a run's own name, which on other data than the paper's begins with theirs.

    Args:
        name: The name of the run's recipe.
        source: The data's name.
        rows: All its scored points.
        command: The command that measures them again.
    """
    known = published_name(name, source)
    return decide(known, rows, command, "" if known == name else Path(source).name)


def write_verdicts(folder: Path, verdicts: Sequence[Verdict], command: str) -> Path:
    """Write verdicts.md into a run's folder; returns its path."""
    path = folder / "verdicts.md"
    title = f"# Verdicts of {folder.name}\n\nMade by `{command}`."
    rules = "\n".join(f"- {verdict.claim.text}: {verdict.claim.rule}." for verdict in verdicts)
    table = verdicts_table(verdicts).markdown()
    write_text(path, f"{title}\n\n{table}\n\nA claim holds if:\n\n{rules}\n")
    return path


def verdicts_table(verdicts: Sequence[Verdict]) -> Table:
    """Verdicts as a table, one a row."""
    lines = [
        (
            f"{verdict.claim.paper}: {verdict.claim.text}",
            verdict.word,
            verdict.claim.published,
            verdict.here,
        )
        for verdict in verdicts
    ]
    return words_table(("claim", "verdict", "published", "here, with 95 % interval"), lines)


def _decided(check: Check, rows: Sequence[Row]) -> tuple[str, Answer]:
    """The measurement in words, and the answer.

    Rough rows, or rows without a column that the check reads, leave its claim undecided.
    """
    if note := quick_note(rows):
        return f"not measured: {note[0].lower()}{note[1:]}", "undecided"
    try:
        return check.decide(rows)
    except QuadrateError as error:
        return f"not measured: {error}", "undecided"
