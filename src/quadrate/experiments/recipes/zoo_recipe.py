"""The codecs that come with the package."""

from __future__ import annotations

from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.experiments.recipes.experiment import OURS, experiment
from quadrate.experiments.recipes.settings import MNIST_RATES, RDPC_JUDGE

# A little weight on the label while the encoder learns costs 2 to 5 % of MSE and saves what the
# recognizable decoder could not bring back.
_ENCODER_WEIGHT = 0.0072


@experiment(OURS, "the codecs in the package", "mnist", 10.2)
def zoo_mnist() -> Recipe:
    """One encoder with three decoders for each published rate on MNIST.

    The decoders are a faithful, a realistic and a recognizable one.
    """
    stages: list[Stage] = []
    for levels in MNIST_RATES:
        base = OperatingPoint(levels, 1.0, 0.0, _ENCODER_WEIGHT)
        decoders = (
            OperatingPoint(levels),
            OperatingPoint(levels, 1.0, 0.015, 0.0),
            OperatingPoint(levels, 1.0, 0.0, 0.0217),
        )
        training = TrainingConfig(epochs=16, critic_learning_rate=3e-3)
        name = f"{len(levels)}x{levels[0]}"
        stages += [
            Stage(f"encoder-{name}", (base,), training=TrainingConfig(epochs=28)),
            Stage(f"decoders-{name}", decoders, "universal", base, f"encoder-{name}", training),
        ]
    return Recipe(
        "zoo-mnist",
        "the codecs in the package: four encoders with three decoders each",
        "mnist",
        tuple(stages),
        judge=RDPC_JUDGE,
    )
