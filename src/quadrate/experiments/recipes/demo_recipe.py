"""The demo: the whole way in a few minutes, on digits that come with scikit-learn or on MNIST."""

from __future__ import annotations

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
    critic = TrainingConfig(epochs=60 if small else 8, batch=64 if small else 256)
    p, c = (0.05, 0.004) if small else (0.015, 0.0144)
    base = OperatingPoint(levels, 1.0, p, c)
    sweep = tuple(
        OperatingPoint(levels, 1.0, 0.0, weight) for weight in (0.0, c / 4, c / 2, c, 2 * c, 4 * c)
    )
    decoders = (
        OperatingPoint(levels, 1.0, 0.0, 0.0),
        OperatingPoint(levels, 1.0, p, 0.0),
        OperatingPoint(levels, 1.0, 0.0, c),
    )
    stages = (
        Stage("end-to-end", sweep, training=plain),
        Stage("base", (base,), training=critic),
        Stage("universal", decoders, "universal", base, "base", critic),
    )
    return Recipe(
        "demo", "a sweep, and one encoder with three decoders", source, stages, judge="dense"
    )
