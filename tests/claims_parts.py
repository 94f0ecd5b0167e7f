"""Rows of runs with known numbers, and how their claims are decided."""

from collections.abc import Sequence
from typing import Any

from quadrate.experiments.claims import Verdict, decide


def verdicts(name: str, rows: Sequence[dict[str, Any]], **other: Any) -> list[Verdict]:
    return decide(name, rows, f"quadrate reproduce {name}", **other)


def answers(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    return [verdict.holds for verdict in verdicts(name, rows)]
