"""The paper's claims that a run decides, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from quadrate.reports.claims import CHECKS, decide
from quadrate.reports.page.markdown import table
from quadrate.reports.summary import Row


def claims(name: str, source: str, rows: Sequence[Row]) -> str:
    """The section of claims; nothing where the recipe decides none.

    Args:
        name: The recipe's name; on other data than the paper's it begins with theirs.
        source: The data's name.
        rows: All its scored points.
    """
    data = Path(source).name
    known = name if name in CHECKS else name.removeprefix(f"{data}-")
    verdicts = decide(known, rows, "", "" if known == name else data)
    if not verdicts:
        return ""
    lines = [[f"{verdict.claim.paper}: {verdict.claim.text}", verdict.word, verdict.claim.published, verdict.here] for verdict in verdicts]
    rules = "".join(f"<li>{escape(verdict.claim.text)}: {escape(verdict.claim.rule)}.</li>" for verdict in verdicts)
    return f"""<h3>The paper's claims</h3>
{table(["claim", "verdict", "published", "here, with 95 % interval"], lines, words=True)}
<details><summary>when a claim holds</summary><ul>{rules}</ul><p>Undecided: the interval holds both answers. More seeds narrow it.</p></details>"""
