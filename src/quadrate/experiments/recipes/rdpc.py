"""RDPC: rate, distortion, perception, classification (Wang et al., IEEE JSAC 2025).

With the grid "published", weights and settings are those of the authors' code, with one seed and
the exceptions that `as_published` names. Their λc are for a cross-entropy in bits, so they are
divided by ln 2 here. Only the rate of the insets at 12,544 bits is known; dimensions and levels are
ours.
"""

from __future__ import annotations

from dataclasses import replace

from quadrate.config import Recipe, Stage
from quadrate.experiments.recipes.experiment import RDPC, experiment
from quadrate.experiments.recipes.settings import (
    COLOUR_CRITIC,
    COLOUR_NETWORKS,
    COLOUR_PLAIN,
    COLOUR_RATES,
    CRITIC,
    MNIST_RATES,
    PLAIN,
    RDPC_JUDGE,
    Grid,
    as_published,
    choose,
    classification,
    crossed,
    per_bit,
    sweep,
)

_MNIST = as_published(epochs=30, batch=128)
_SVHN = as_published(epochs=80, batch=128, colour=True)
_ENDS = (MNIST_RATES[0], MNIST_RATES[-1])
_MNIST_P = (0.0025, 0.004, 0.005, 0.01, 0.013, 0.015)
_MNIST_C = per_bit((0.0025, 0.005, 0.006, 0.008, 0.01, 0.011, 0.013, 0.015))
_SVHN_P = (0.0, 0.00025, 0.00075, 0.00125, 0.002)
_SVHN_C = per_bit((0.0, 0.00025, 0.0005, 0.00075, 0.001, 0.00125, 0.0015, 0.002))


@experiment(RDPC, "Fig. 9a", "mnist", 68.0)
def rdc_mnist(grid: Grid = "quick") -> Recipe:
    """Rate, distortion, classification on MNIST (Fig. 9a)."""
    weights = (0.0, 0.0018, 0.0036, 0.0072, 0.0144, 0.0217)
    points, training = choose(
        grid,
        quick=(sweep(MNIST_RATES, classification(weights), 3), PLAIN),
        published=(sweep(MNIST_RATES, crossed((0.5, 0.8, 1.0, 1.2), (0.0,), _MNIST_C), 1), _MNIST),
    )
    stages = (Stage("end-to-end", points, training=training),)
    return Recipe(
        "rdc-mnist",
        "accuracy against MSE at four rates (RDPC, Fig. 9a)",
        "mnist",
        stages,
        judge=RDPC_JUDGE,
    )


@experiment(RDPC, "its weights; no figure", "svhn", results="on cifar-10")
def rdc_svhn(grid: Grid = "quick") -> Recipe:
    """Rate, distortion, classification on colour images at 30, 45 and 60 bits.

    The edge λp = 0 of RDPC's grid, without a figure of its own.
    """
    points, training = choose(
        grid,
        quick=(sweep(COLOUR_RATES, classification((0.0, 0.0007, 0.0029)), 2), COLOUR_PLAIN),
        published=(sweep(COLOUR_RATES, classification(_SVHN_C), 1), _SVHN),
    )
    stages = (Stage("end-to-end", points, training=training),)
    return Recipe(
        "rdc-svhn",
        "accuracy against MSE on colour images at three rates (RDPC's weights)",
        "svhn",
        stages,
        **COLOUR_NETWORKS,
    )


@experiment(RDPC, "Fig. 9b", "mnist", 36.9)
def rpc_mnist(grid: Grid = "quick") -> Recipe:
    """Classification against perception without a distortion term (Fig. 9b).

    At two rates, or the published four. Only the first and the last of the published λc are known;
    the grid takes those of `rdc_mnist` from .005 on.
    """
    points, training = choose(
        grid,
        quick=(
            sweep(_ENDS, crossed((0.0,), (0.0025, 0.005, 0.015), (0.0072, 0.0144, 0.0217)), 3),
            CRITIC,
        ),
        published=(sweep(MNIST_RATES, crossed((0.0,), _MNIST_P, _MNIST_C[1:]), 1), _MNIST),
    )
    stages = (Stage("end-to-end", points, training=training),)
    return Recipe(
        "rpc-mnist",
        "accuracy against perception, no distortion term (RDPC, Fig. 9b)",
        "mnist",
        stages,
        judge=RDPC_JUDGE,
    )


@experiment(RDPC, "Figs. 10a, 11a", "mnist", 34.3)
def rdpc_mnist(grid: Grid = "quick") -> Recipe:
    """All three terms at two rates, or four.

    Distortion against classification given a perception, and perception against it given a
    distortion.
    """
    points, training = choose(
        grid,
        quick=(
            sweep(_ENDS, crossed((1.0,), (0.0025, 0.0075, 0.015), (0.0, 0.0072, 0.0217)), 3),
            CRITIC,
        ),
        published=(
            sweep(MNIST_RATES, crossed((1.0,), (0.0, *_MNIST_P), (0.0, *_MNIST_C)), 1),
            _MNIST,
        ),
    )
    stages = (Stage("end-to-end", points, training=training),)
    return Recipe(
        "rdpc-mnist",
        "distortion, perception and accuracy at once (RDPC, Figs. 10a and 11a)",
        "mnist",
        stages,
        judge=RDPC_JUDGE,
    )


@experiment(RDPC, "insets, 12544 bits", "mnist", 39.4)
def large_rate_mnist() -> Recipe:
    """All three terms at 12,544 bits, a rate that does not bind (the insets of Figs. 10 and 11).

    Weights, dimensions and levels are ours.
    """
    points = sweep([(256,) * 1568], crossed((1.0,), (0.0025, 0.015), (0.0, 0.0072, 0.0217)), 3)
    stages = (Stage("end-to-end", points, training=replace(CRITIC, epochs=16)),)
    return Recipe(
        "large-rate-mnist",
        "the three terms where the rate does not bind (RDPC, insets)",
        "mnist",
        stages,
        judge=RDPC_JUDGE,
    )


@experiment(RDPC, "Figs. 10b, 11b", "svhn")
def rdpc_svhn(grid: Grid = "quick") -> Recipe:
    """The same on SVHN, at 30 and 60 bits, or the published three rates (Figs. 10b and 11b)."""
    ends = (COLOUR_RATES[0], COLOUR_RATES[-1])
    points, training = choose(
        grid,
        quick=(
            sweep(ends, crossed((1.0,), (0.00025, 0.002), (0.0, 0.0007, 0.0029)), 1),
            COLOUR_CRITIC,
        ),
        published=(sweep(COLOUR_RATES, crossed((1.0,), _SVHN_P, _SVHN_C), 1), _SVHN),
    )
    stages = (Stage("end-to-end", points, training=training),)
    title = "distortion, perception and accuracy at once on colour images (RDPC, Figs. 10b and 11b)"
    return Recipe("rdpc-svhn", title, "svhn", stages, **COLOUR_NETWORKS)


@experiment(RDPC, "source noise", "mnist", 16.9)
def restore_mnist() -> Recipe:
    """Noisy input, clean target (RDPC, "source noise").

    Does classification trade against perception if the source is noisy? The weights are ours, so
    there is one grid only.
    """
    weights = ((0.0, 0.02, 0.002), (0.0, 0.01, 0.01), (0.0, 0.002, 0.02))
    points = sweep([MNIST_RATES[-1]], weights, 3)
    stages = tuple(
        Stage(f"noise-{std:g}", points, training=CRITIC, noise_std=std) for std in (0.0, 0.5, 1.0)
    )
    title = "classification against perception at several levels of input noise (RDPC)"
    return Recipe("restore-mnist", title, "mnist", stages, judge=RDPC_JUDGE)
