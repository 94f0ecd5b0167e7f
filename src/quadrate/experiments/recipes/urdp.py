"""uRDP: universal rate-distortion-perception representations (Zhang et al., NeurIPS 2021).

With the grid "published", weights and settings are those of the authors' code, with one seed and
the exceptions that `as_published` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.experiments.recipes.experiment import URDP, experiment
from quadrate.experiments.recipes.settings import (
    COLOUR_CRITIC,
    COLOUR_NETWORKS,
    COLOUR_RATES,
    CRITIC,
    RDPC_JUDGE,
    Grid,
    Levels,
    RATE_3x3,
    as_published,
    choose,
    perception,
    sweep,
)

_MNIST = as_published(epochs=30, batch=64)
_SVHN = as_published(epochs=80, batch=64, colour=True)
# λp on a frozen encoder, on MNIST
_REUSED = (0.0, 0.0025, 0.004, 0.005, 0.006, 0.008, 0.009, 0.01, 0.011, 0.013)
_SVHN_WEIGHTS = (0.0, 0.00025, 0.0005, 0.00075, 0.001, 0.00125, 0.0015, 0.002)


@dataclass(frozen=True)
class _Plan:
    """λp end-to-end and on a frozen encoder, the number of seeds, and the training settings."""

    single: Sequence[float]
    frozen: Sequence[float]
    seeds: int
    training: TrainingConfig


@experiment(URDP, "Fig. 4a; URDC, Fig. 5", "mnist", 14.0)
def rdp_mnist(grid: Grid = "quick") -> Recipe:
    """Distortion against perception at 4.75 bits (Fig. 4a).

    End-to-end, and universal on the encoder of the largest λp.
    """
    few = (0.0, 0.0025, 0.005, 0.01, 0.015)
    many = (0.0, 0.0033, 0.005, 0.0066, 0.008, 0.01, 0.011, 0.013, 0.015)
    plan = choose(grid, quick=_Plan(few, few, 3, CRITIC), published=_Plan(many, _REUSED, 1, _MNIST))
    title = "perception against MSE, end-to-end and universal (uRDP, Fig. 4a)"
    return Recipe("rdp-mnist", title, "mnist", _universal(RATE_3x3, plan), judge=RDPC_JUDGE)


@experiment(URDP, "Fig. 4c", "svhn")
def rdp_svhn(grid: Grid = "quick") -> Recipe:
    """The same on SVHN at 30 bits (Fig. 4c)."""
    few = (0.0, 0.0005, 0.002)
    shared = (0.0, 0.0003, 0.0005, 0.0008, 0.001, 0.0012, 0.0017)
    plan = choose(
        grid,
        quick=_Plan(few, few, 1, COLOUR_CRITIC),
        published=_Plan(_SVHN_WEIGHTS, shared, 1, _SVHN),
    )
    title = "perception against MSE on colour images, end-to-end and universal (uRDP, Fig. 4c)"
    return Recipe("rdp-svhn", title, "svhn", _universal(COLOUR_RATES[0], plan), **COLOUR_NETWORKS)


@experiment(URDP, "Fig. 6a", "mnist", 5.3)
def refine_mnist(grid: Grid = "quick") -> Recipe:
    """Successive refinement: 4.75 + 4.75 bits on a frozen first stage (Fig. 6a).

    Next to a single stage of 9.51 bits at equal weights.
    """
    few = (0.0, 0.015)
    plan = choose(
        grid, quick=_Plan(few, few, 3, CRITIC), published=_Plan(_REUSED, _REUSED, 1, _MNIST)
    )
    title = "a second encoder on a frozen first, beside a single one (uRDP, Fig. 6a)"
    return Recipe("refine-mnist", title, "mnist", _refined(RATE_3x3, plan), judge=RDPC_JUDGE)


@experiment(URDP, "Fig. 6c", "svhn")
def refine_svhn(grid: Grid = "quick") -> Recipe:
    """The same on SVHN, 30 + 30 bits next to 60 (Fig. 6c)."""
    few = (0.0, 0.002)
    plan = choose(
        grid,
        quick=_Plan(few, few, 1, COLOUR_CRITIC),
        published=_Plan(_SVHN_WEIGHTS, _SVHN_WEIGHTS, 1, _SVHN),
    )
    title = (
        "a second encoder on a frozen first on colour images, beside a single one (uRDP, Fig. 6c)"
    )
    return Recipe("refine-svhn", title, "svhn", _refined(COLOUR_RATES[0], plan), **COLOUR_NETWORKS)


def _universal(levels: Levels, plan: _Plan) -> tuple[Stage, ...]:
    base = OperatingPoint(levels, 1.0, max(plan.single))
    single, frozen = (
        sweep([levels], perception(weights), plan.seeds) for weights in (plan.single, plan.frozen)
    )
    return (
        Stage("end-to-end", single, training=plan.training),
        Stage("universal", frozen, "universal", base, "end-to-end", plan.training),
    )


def _refined(levels: Levels, plan: _Plan) -> tuple[Stage, ...]:
    return (
        Stage("first", sweep([levels], perception([0.0]), plan.seeds), training=plan.training),
        Stage(
            "refined",
            sweep([levels], perception(plan.frozen), plan.seeds),
            "refinement",
            OperatingPoint(levels),
            "first",
            plan.training,
        ),
        Stage(
            "single",
            sweep([levels * 2], perception(plan.single), plan.seeds),
            training=plan.training,
        ),
    )
