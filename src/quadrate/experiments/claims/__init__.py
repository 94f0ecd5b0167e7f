"""The papers' claims as a checklist.

What was published, what is measured here, and whether that holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quadrate.errors import QuadrateError
from quadrate.experiments.claims import contours_claims as contours
from quadrate.experiments.claims import lossyless_claims as lossyless
from quadrate.experiments.claims import rdpc_claims as rdpc
from quadrate.experiments.claims import urdc_claims as urdc
from quadrate.experiments.claims import urdp_claims as urdp
from quadrate.experiments.claims.claim import Answer, Check, Claim, Verdict
from quadrate.experiments.recipes.catalogue import published_name
from quadrate.experiments.reports.result_tables import markdown
from quadrate.experiments.reports.summary import Row, quick_note, require

CHECKS: dict[str, tuple[Check, ...]] = (
    urdp.CHECKS | urdc.CHECKS | rdpc.CHECKS | contours.CHECKS | lossyless.CHECKS
)
"""The claims that a recipe, or a table of results, decides; by its name."""


def decide(name: str, rows: Sequence[Row], command: str, other_data: str = "") -> list[Verdict]:
    """A verdict on each claim that a recipe decides; none for a recipe without claims.

    Args:
        name: The recipe's name, as `quadrate recipes` lists it, or that of a folder of results.
        rows: Its scored points.
        command: What measures them again.
        other_data: What was measured on, where that is not the paper's data; claims about published
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
        command: What measures them again.
    """
    known = published_name(name, source)
    return decide(known, rows, command, "" if known == name else Path(source).name)


def _decided(check: Check, rows: Sequence[Row]) -> tuple[str, Answer]:
    """What a check finds.

    Rows that lack what it reads, or are rough, leave its claim undecided, and others' not.
    """
    if note := quick_note(rows):
        return f"not measured: {note[0].lower()}{note[1:]}", "undecided"
    try:
        return check.decide(rows)
    except QuadrateError as error:
        return f"not measured: {error}", "undecided"


def verdicts_markdown(verdicts: Sequence[Verdict]) -> str:
    """Verdicts as a Markdown table, and below it the rule that decided each."""
    columns = [
        ("claim", [f"{verdict.claim.paper}: {verdict.claim.text}" for verdict in verdicts]),
        ("published", [verdict.claim.published for verdict in verdicts]),
        ("here, with 95 % interval", [verdict.here for verdict in verdicts]),
        ("verdict", [verdict.word for verdict in verdicts]),
    ]
    rules = "\n".join(f"- {verdict.claim.text}: {verdict.claim.rule}." for verdict in verdicts)
    return (
        f"{markdown([heading for heading, _ in columns], [cells for _, cells in columns], words=True)}\n\nA"
        f" claim holds if:\n\n{rules}"
    )


__all__ = [
    "CHECKS",
    "Answer",
    "Check",
    "Claim",
    "Verdict",
    "decide",
    "decide_run",
    "verdicts_markdown",
]
