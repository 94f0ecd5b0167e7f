"""References that do not depend on a codec: real-against-real floors, scores on clean images."""

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
from quadrate.evaluation.roles import independent_judge
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
    """Compute floors and clean references, or read them from `cache_dir`.

    They are computed once for each process, source, protocol and judge, and written to `cache_dir`.
    `evaluate` calls this; call it before many processes need the references at once.

    Args:
        source: The images.
        judges: As for `evaluate`.
        protocol: The terms; by default those of docs/evaluation.md.
        cache_dir: A folder, or None to keep the references in memory only.

    Returns:
        `w1_fresh_floor`, `w1_certified_floor`, `sliced_w2sq_floor`, and for labelled images
        `kid_floor`, `accuracy_retrained_clean` and `cross_entropy_retrained_clean_nats`.

    Raises:
        QuadrateError: If there is no independent judge, a judge is not what its role says, the
            source is too small, or the folder cannot be written.
    """
    protocol, judge = protocol or Protocol(), independent_judge(source, judges)
    about_judge = judge and [judge.name, judge.accuracy, judge.cross_entropy_nats, judge.identity]
    made_with = {
        "quadrate": __version__,
        "version": VERSION,
        "source": source.fingerprint,
        "classes": source.classes,
        "protocol": asdict(protocol),
        "judge": about_judge,
    }
    terms = json.dumps(made_with, sort_keys=True)
    path = cache_dir / f"references-{draws.key(terms):016x}.json" if cache_dir else None
    if terms not in _computed:
        _computed[terms] = _read(path, terms) or _compute(source, judge, protocol)
    if path and _read(path, terms) is None:
        write_text(path, json.dumps({"terms": terms, "values": _computed[terms]}, indent=1))
    return dict(_computed[terms])


def _compute(source: Source, judge: Judge | None, protocol: Protocol) -> dict[str, float]:
    with exact_arithmetic(source.test.images.device):
        # Two disjoint samples of pictures, as large as those that a codec is scored on if the
        # source has enough.
        half_train = min(protocol.training_images, len(source.train) // 2)
        pictures = protocol.training_sample(source, 2 * half_train).images
        train = protocol.training_sample(source, protocol.training_images)
        test = protocol.test_sample(source)
        half_test = len(test) // 2
        halves = test.images[:half_test], test.images[half_test : 2 * half_test]
        samples = pictures[:half_train], pictures[half_train:]
        references = {
            "w1_certified_floor": protocol.certified_w1(samples, halves).value,
            "w1_fresh_floor": protocol.fresh_critic_w1(samples, halves).value,
            # Crossed distances compare one half with the other: a perfect codec scores the floor.
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
    """The values in a file for the same terms, or None if it is missing or damaged."""
    try:
        stored = read_json(path) if path else None
        if not stored or stored["terms"] != terms:
            return None
        values = {name: stored["values"][name] for name in _VALUES}
    except (QuadrateError, KeyError, TypeError):
        return None
    valid = all(type(value) is float and math.isfinite(value) for value in values.values())
    return values if valid else None
