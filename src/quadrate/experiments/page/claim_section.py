"""The paper's claims that a run decides.

Which paper, the verdicts in short, and the table with the rules; all as HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from quadrate.experiments.claims import Verdict, verdicts_table
from quadrate.experiments.recipes import catalogue
from quadrate.experiments.recipes.catalogue import published_name
from quadrate.experiments.recipes.experiment import CITATIONS


def paper(name: str, source: str) -> str:
    """The paper of a recipe, as a sentence; empty for Quadrate's own recipes and yours."""
    known = published_name(name, source)
    for experiment in catalogue():
        if experiment.name == known and experiment.paper in CITATIONS:
            return (
                f"The experiment is that of {escape(CITATIONS[experiment.paper])}:"
                f" {escape(experiment.figures)}."
            )
    return ""


def in_short(found: Sequence[Verdict]) -> str:
    """The verdicts as a list, without their rules."""
    lines = "".join(
        f"<li><strong>{verdict.word}</strong>: {escape(verdict.claim.text)};"
        f" {escape(verdict.here)}</li>"
        for verdict in found
    )
    return f"<ul>{lines}</ul>" if found else ""


def claims(found: Sequence[Verdict]) -> str:
    """The section of claims; empty if there are no verdicts."""
    if not found:
        return ""
    rules = "".join(
        f"<li>{escape(verdict.claim.text)}: {escape(verdict.claim.rule)}.</li>" for verdict in found
    )
    return f"""<h3>The paper's claims</h3>
{verdicts_table(found).html()}
<details><summary>when a claim holds</summary><ul>{rules}</ul>
<p>Undecided: the interval holds both answers. More seeds narrow it.</p></details>"""
