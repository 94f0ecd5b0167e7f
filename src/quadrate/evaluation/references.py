"""What a score is held against, and what no codec changes.

Real-against-real floors, and the retrained judge's score on clean images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from quadrate import __version__
from quadrate.core import draws
from quadrate.core.files import read_json, write_text
from quadrate.errors import QuadrateError
from quadrate.evaluation.protocol import VERSION, Protocol, exact_arithmetic
from quadrate.sources.source import Source

if TYPE_CHECKING:
    from quadrate.training.judges import Judge

_VALUES = (
    "w1_certified_floor",
    "w1_fresh_floor",
    "sliced_w2sq_floor",
    "kid_floor",
    "accuracy_retrained_clean",
    "cross_entropy_retrained_clean_nats",
)
_computed: dict[str, dict[str, float]] = {}


def prepare(
    source: Source,
    judges: Mapping[str, Judge | None],
    protocol: Protocol | None = None,
    cache_dir: Path | None = None,
) -> dict[str, float]:
    """Computes floors and clean references once a process, source, protocol and judge, or reads
    them from `cache_dir`, where it also writes them.

    `evaluate` calls this itself. Calling it first pays for the references before many processes
    need them at once.

    Args:
        source: The images.
        judges: As for `evaluate`.
        protocol: The terms; by default those of docs/evaluation.md.
        cache_dir: A folder; without one the references live as long as the process.

    Returns:
        `w1_fresh_floor`, `w1_certified_floor`, `sliced_w2sq_floor`, and where there are labels
        `kid_floor`, `accuracy_retrained_clean` and `cross_entropy_retrained_clean_nats`.

    Raises:
        QuadrateError: If there is no independent judge, the source is too small, or the folder
            cannot be written.
    """
    protocol, judge = protocol or Protocol(), independent_judge(source, judges)
    about_judge = judge and [judge.name, judge.accuracy, judge.cross_entropy_nats, judge.identity]
    made_with = {
        "quadrate": __version__,
        "version": VERSION,
        "source": source.fingerprint,
        "classes": source.classes,
    }
    terms = json.dumps(
        {**made_with, "protocol": asdict(protocol), "judge": about_judge}, sort_keys=True
    )
    path = cache_dir / f"references-{draws.key(terms):016x}.json" if cache_dir else None
    if terms not in _computed:
        _computed[terms] = _read(path, terms) or _compute(source, judge, protocol)
    if path and _read(path, terms) is None:
        write_text(path, json.dumps({"terms": terms, "values": _computed[terms]}, indent=1))
    return dict(_computed[terms])


def independent_judge(source: Source, judges: Mapping[str, Judge | None]) -> Judge | None:
    """The judge that the codec never met; None where the source has no labels to judge by.

    Raises:
        QuadrateError: If there is none, or a judge has a role that the protocol does not know.
    """
    independent = judges.get("independent")
    if not source.is_labelled and not any(judges.values()):
        return None
    if independent is None or not set(judges) <= {"training", "independent"}:
        raise QuadrateError(
            'evaluation takes an "independent" judge, and a "training" judge or None; got'
            f" {', '.join(judges) or 'no judges'}"
        )
    return independent


def _compute(source: Source, judge: Judge | None, protocol: Protocol) -> dict[str, float]:
    with exact_arithmetic(source.test.images.device):
        # Two disjoint samples of pictures, as large as the ones that a codec is scored on where the
        # source has enough.
        half_train = min(protocol.training_images, len(source.train) // 2)
        pictures = protocol.training_sample(source, 2 * half_train).images
        train = protocol.training_sample(source, protocol.training_images)
        test = protocol.test_sample(source)
        half_test = len(test) // 2
        halves = test.images[:half_test], test.images[half_test : 2 * half_test]
        references = {
            "w1_certified_floor": (
                protocol.certified_w1((pictures[:half_train], pictures[half_train:]), halves).value
            ),
            "w1_fresh_floor": (
                protocol.fresh_critic_w1(
                    (pictures[:half_train], pictures[half_train:]), halves
                ).value
            ),
            # Crossed distances hold one half against the other already: a codec that changes
            # nothing scores the floor.
            "sliced_w2sq_floor": protocol.sliced_w2sq(test.images, test.images).value,
        }
        if judge is not None:
            clean = protocol.retrained(train, test, train.images, test.images, source.classes)
            references |= {
                "kid_floor": protocol.kid(judge, test.images, test.images).value,
                "accuracy_retrained_clean": clean.accuracy,
                "cross_entropy_retrained_clean_nats": clean.cross_entropy_nats,
            }
        return references


def _read(path: Path | None, terms: str) -> dict[str, float] | None:
    """What an earlier process wrote for the same terms.

    None where there is no such file, or it is damaged and better written anew.
    """
    try:
        stored = read_json(path) if path else None
        values = (
            {name: stored["values"][name] for name in _VALUES}
            if stored and stored["terms"] == terms
            else None
        )
    except (QuadrateError, KeyError, TypeError):
        return None
    return (
        values
        if values
        and all(type(value) is float and math.isfinite(value) for value in values.values())
        else None
    )
