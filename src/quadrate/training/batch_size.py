"""Whether a batch makes sense for so many samples."""

from __future__ import annotations

import warnings

from quadrate.errors import QuadrateWarning


def fitting_batch(batch: int, count: int) -> int:
    """Choose a batch for so many training samples.

    It is the batch itself, unless a pass would take one or two steps: then it takes about eight.
    """
    return batch if count // batch > 2 else min(count, max(2, count // 8))


def check_batch(what: str, batch: int, count: int) -> None:
    """Warn where a pass over the training samples takes one or two steps, which teach little.

    A batch is never larger than the data.
    """
    if (fitting := fitting_batch(batch, count)) < min(batch, count):
        steps = max(1, count // batch)
        advice = (
            f"with a batch of {fitting} it would take about eight and learn more"
            " (TrainingConfig.batch, InvariantConfig.batch)"
        )
        text = (
            f"{what}: a pass over {count} training samples takes {steps} step{'s' * (steps > 1)} of"
            f" a batch of {batch}; {advice}"
        )
        warnings.warn(text, QuadrateWarning, stacklevel=3)
