"""The demo: the whole way in a few minutes, on digits that come with scikit-learn or on MNIST."""

from __future__ import annotations

from dataclasses import replace

from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.experiments.recipes.experiment import OURS, experiment


@experiment(OURS, "the whole way in minutes", "digits")
def demo(source: str = "digits") -> Recipe:
    """A sweep of lambda_c end-to-end, and a universal encoder with three decoders.

    The decoders are a faithful, a realistic and a recognizable one.

    Args:
        source: "digits", or the name of a larger data set, which gets fewer epochs and weights that
            fit MNIST.
    """
    small = source == "digits"
    levels = (3, 3, 3)
    plain = TrainingConfig(epochs=60 if small else 10, batch=64 if small else 256)
    flow = TrainingConfig(
        epochs=100 if small else 4,
        batch=64,
        learning_rate=1.5e-3,
        betas=(0.9, 0.99),
        warmup=0.05,
    )
    p, c = (0.03, 0.02) if small else (0.01, 0.02)
    base = OperatingPoint(levels, 1.0, 0.0, c, decoder="labelled")
    faithful = OperatingPoint(levels)
    recognizable = OperatingPoint(levels, 1.0, p, c, decoder="labelled")
    sweep = tuple(
        OperatingPoint(levels, 1.0, 0.0, weight) for weight in (0.0, c / 8, c / 4, c / 2, c, 2 * c)
    )
    stages = (
        Stage("end-to-end", sweep, training=plain),
        Stage("base", (base,), training=replace(plain, shift=0 if small else 1)),
        Stage("universal", (faithful, recognizable), "universal", base, "base", plain),
        Stage(
            *("realistic", (OperatingPoint(levels, decoder="flow"),), "universal"),
            *(faithful, "universal", flow),
        ),
    )
    return Recipe(
        "demo", "a sweep, and one encoder with three decoders", source, stages, judge="dense"
    )
