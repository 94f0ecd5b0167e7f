"""The papers' claims as a checklist: published, measured here, and whether the claim holds."""

from quadrate.experiments.claims.claim import Answer, Check, Claim, Verdict
from quadrate.experiments.claims.verdicts import (
    CHECKS,
    decide,
    decide_run,
    verdicts_table,
    write_verdicts,
)

__all__ = [
    "CHECKS",
    "Answer",
    "Check",
    "Claim",
    "Verdict",
    "decide",
    "decide_run",
    "verdicts_table",
    "write_verdicts",
]
