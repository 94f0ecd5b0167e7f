"""Decoders that keep their promise: realism that critics see, labels that readers read."""

from __future__ import annotations

from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.experiments.recipes.changes import with_seeds
from quadrate.experiments.recipes.experiment import OURS, experiment
from quadrate.experiments.recipes.settings import RDPC_JUDGE, Levels, RATE_3x3

_SEEDS = 3
_CRITICS = (0.015,)  # λp of realistic decoders that critics train, for comparison
_CURVE = (0.005, 0.015, 0.03)  # the same where blends of decoders are held against them
_SHARPER = 0.005  # λp of the recognizable decoder
_READERS = ("strided", "dense")  # which the recognizable decoder writes for


@experiment(OURS, "decoders that keep their promise", "mnist", 144.9)
def promises_mnist() -> Recipe:
    """One encoder with a faithful, a realistic and a recognizable decoder, at 4.75 bits.

    The realistic decoder is a flow; three that critics trained stand beside it. The recognizable
    one estimates the label and draws that class, so that small classifiers read it.
    """
    return _promises("promises-mnist", RATE_3x3, 0.02, _CURVE)


@experiment(OURS, "decoders that keep their promise, at 10 bits", "mnist", 41.3)
def promises_mnist_10bit() -> Recipe:
    """The same at 10 bits, with one decoder that a critic trained."""
    return _promises("promises-mnist-10bit", (4,) * 5, 0.05, _CRITICS)


def _promises(name: str, levels: Levels, weight: float, critics: tuple[float, ...]) -> Recipe:
    """Three decoders on an encoder whose λc is `weight`.

    The encoder learns with a labelled decoder, so its codes keep what tells classes apart, for some
    percent of MSE: no decoder could bring it back. Images are moved by a pixel while it learns,
    without which codes tell less about new images than about those of the training.
    """
    longer = TrainingConfig(epochs=40, shift=1)
    critic = TrainingConfig(epochs=16, critic_learning_rate=3e-3)
    flow = TrainingConfig(epochs=16, batch=64, learning_rate=1.5e-3, betas=(0.9, 0.99), warmup=0.05)
    base = OperatingPoint(levels, 1.0, 0.0, weight, decoder="labelled")
    faithful = OperatingPoint(levels)
    others = (faithful, *(OperatingPoint(levels, 1.0, critic, 0.0) for critic in critics))
    recognizable = OperatingPoint(levels, 1.0, _SHARPER, weight, decoder="labelled")
    realistic = OperatingPoint(levels, decoder="flow")
    stages = (
        Stage("encoder", (base,), training=longer),
        Stage("decoders", others, "universal", base, "encoder", critic),
        Stage(
            *("recognizable", (recognizable,), "universal", base, "encoder", critic),
            readers=_READERS,
        ),
        Stage("realistic", (realistic,), "universal", faithful, "decoders", flow),
    )
    recipe = Recipe(
        name,
        "faithful, realistic and recognizable decoders before judges that no one trained against",
        "mnist",
        stages,
        judge=RDPC_JUDGE,
        strangers=("lenet", "residual"),
    )
    return with_seeds(recipe, _SEEDS)
