"""URDC: universal rate-distortion-classification representations (Nguyen et al. 2025).

arXiv 2504.13191 and 2504.09025. With the grid "published", weights and settings are those of the
authors' code, with one seed and the exceptions that `as_published` names. Their judge is a
convolutional network that is not published; ours is RDPC's, so that all recipes on MNIST have the
same judge.
"""

from __future__ import annotations

from quadrate.config import OperatingPoint, Recipe, Stage
from quadrate.experiments.recipes.experiment import URDC, experiment
from quadrate.experiments.recipes.settings import (
    CRITIC,
    MNIST_RATES,
    RDPC_JUDGE,
    SHORT,
    Grid,
    Levels,
    RATE_3x3,
    as_published,
    choose,
    classification,
    sweep,
)

_SETTINGS = as_published(epochs=25, batch=64)
_RATES = ((3, 3), *MNIST_RATES[:3])  # 3.17, 4.75, 6 and 8 bits
_FEW = (0.0, 0.0033, 0.0066, 0.015)
_ALL = (0.0, 0.001, 0.0033, 0.0066, 0.008, 0.011, 0.013, 0.015)


@experiment(URDC, "Fig. 6", "mnist", 23.0)
def urdc_mnist(grid: Grid = "quick") -> Recipe:
    """A universal encoder for distortion and classification (arXiv 2504.13191, Fig. 6).

    With and without a Wasserstein term, whose weight, .005, is ours.
    """
    return _urdc(
        "urdc-mnist",
        RATE_3x3,
        "one encoder for distortion and classification, against end-to-end (URDC, Fig. 6)",
        grid,
    )


@experiment(URDC, "Fig. 6, at 6 bits", "mnist", 23.8)
def urdc_mnist_6bit(grid: Grid = "quick") -> Recipe:
    """The same at 6 bits."""
    return _urdc(
        "urdc-mnist-6bit",
        (4, 4, 4),
        "one encoder for distortion and classification at 6 bits (URDC)",
        grid,
    )


@experiment(URDC, "Fig. 4; poster", "mnist")
def urdc_mnist_rates(grid: Grid = "quick") -> Recipe:
    """Distortion against classification end-to-end at four rates (arXiv 2504.13191, Fig. 4)."""
    weights, seeds, training = choose(grid, quick=(_FEW, 3, SHORT), published=(_ALL, 1, _SETTINGS))
    stages = (
        Stage("end-to-end", sweep(_RATES, classification(weights), seeds), training=training),
    )
    return Recipe(
        "urdc-mnist-rates",
        "accuracy against MSE from 3.17 to 8 bits (URDC, Fig. 4)",
        "mnist",
        stages,
        judge=RDPC_JUDGE,
    )


def _urdc(name: str, levels: Levels, title: str, grid: Grid) -> Recipe:
    weights, seeds = choose(grid, quick=(_FEW, 3), published=(_ALL, 1))
    stages: list[Stage] = []
    for suffix, p, quick in (("", 0.0, SHORT), ("-wasserstein", 0.005, CRITIC)):
        training = choose(grid, quick=quick, published=_SETTINGS)
        points = sweep([levels], classification(weights, p), seeds)
        base = OperatingPoint(levels, 1.0, p, max(weights))
        stages += [
            Stage(f"end-to-end{suffix}", points, training=training),
            Stage(f"universal{suffix}", points, "universal", base, f"end-to-end{suffix}", training),
        ]
    return Recipe(name, title, "mnist", tuple(stages), judge=RDPC_JUDGE)
