"""Whether a batch makes sense for so many samples."""

from __future__ import annotations

import warnings

from quadrate.errors import QuadrateWarning


def check_batch(what: str, batch: int, count: int) -> None:
    """Warns where a pass over `count` training samples takes one or two steps, as few learn little; a batch is never larger than the data."""
    steps = max(1, count // batch)
    if steps <= 2:
        advice = f"with a batch of {max(1, count // 8)} it would take eight or more and learn more (TrainingConfig.batch, InvariantConfig.batch)"
        text = f"{what}: a pass over {count} training samples takes {steps} step{'s' * (steps > 1)} of a batch of {batch}; {advice}"
        warnings.warn(text, QuadrateWarning, stacklevel=3)
