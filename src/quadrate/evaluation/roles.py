"""The roles of judges: in the loss, independent, and strangers, which no codec ever meets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from quadrate.core.names import check_file_name
from quadrate.errors import QuadrateError
from quadrate.sources.source import Source

if TYPE_CHECKING:
    from quadrate.training.judges import Judge

STRANGER = "stranger."
"""What the roles of strangers begin with; a name follows, as in "stranger.lenet"."""


def strangers(judges: Mapping[str, Judge | None]) -> tuple[str, ...]:
    """The roles of the strangers among judges, without those that are None."""
    return tuple(role for role, judge in judges.items() if judge and role.startswith(STRANGER))


def check_roles(judges: Mapping[str, Judge | None]) -> None:
    """Refuse judges that are not what their roles say.

    Raises:
        QuadrateError: If a role is unknown, or a stranger is the training judge.
    """
    training = judges.get("training")
    for role, judge in judges.items():
        if role in ("training", "independent"):
            continue
        if not role.startswith(STRANGER):
            raise QuadrateError(
                f"unknown role of a judge {role[:80]!a}; known: training, independent, and"
                " stranger.NAME for judges that were never in the loss"
            )
        check_file_name("the name of a stranger", role.removeprefix(STRANGER))
        if judge and training and judge.identity == training.identity:
            raise QuadrateError(
                f"{role} is the training judge, {training.name}, so it was in the loss; a stranger"
                " is a judge of another architecture or seed"
            )


def independent_judge(source: Source, judges: Mapping[str, Judge | None]) -> Judge | None:
    """The judge that the codec was not trained with; None if a source has no labels or judges.

    Raises:
        QuadrateError: If there is no such judge, or as `check_roles` does.
    """
    check_roles(judges)
    independent = judges.get("independent")
    if not source.is_labelled and not any(judges.values()):
        return None
    if independent is None:
        raise QuadrateError(
            'evaluation takes an "independent" judge, and a "training" judge or None; got'
            f" {', '.join(judges) or 'no judges'}"
        )
    return independent
