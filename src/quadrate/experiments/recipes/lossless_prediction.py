"""Invariant compression (Dubois et al. 2021).

Sources whose bounds are exact, and augmented MNIST.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

from quadrate.config import InvariantConfig, InvariantObjective
from quadrate.core.fields import check_recipe
from quadrate.experiments.recipes.experiment import LOSSLESS, experiment


@dataclass(frozen=True)
class InvariantRecipe:
    """An experiment with invariant compressors.

    Attributes:
        name: The recipe's name.
        title: What the experiment shows, in a line.
        source: "banana", "patterns" (3×3 binary images under rotations and reflections), or the
            name of a data set of images.
        points: The compressors to train.
        augmentation: The group that the compressor is trained for: the banana's invariance, or for
            images a name in `quadrate.sources.symmetry.AUGMENTATIONS`; with "-sup" at its end,
            images of one label are equivalent too.
        predictors: The groups whose members predictors see, in training and in the test; the first
            is the compressor's own.

    Raises:
        QuadrateError: If two points are equal, a value is not of its type, or the name is not fit
            for a folder.
    """

    kind: ClassVar = "invariant"
    name: str
    title: str
    source: str
    points: tuple[InvariantConfig, ...]
    augmentation: str = ""
    predictors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_recipe(self)


@experiment(LOSSLESS, "banana", "fresh samples", 13.5)
def banana_rotation() -> InvariantRecipe:
    """The banana under rotation (paper, Fig. 3).

    VIC keeps the distance to the origin, VC the point; the published beta is .07.
    """
    return _banana("rotation", plain=True)


@experiment(LOSSLESS, "banana", "fresh samples", 3.1)
def banana_x_translation() -> InvariantRecipe:
    """VIC on the banana under horizontal translation, which leaves y."""
    return _banana("x_translation")


@experiment(LOSSLESS, "banana", "fresh samples", 3.1)
def banana_y_translation() -> InvariantRecipe:
    """VIC on the banana under vertical translation, which leaves x."""
    return _banana("y_translation")


def _banana(invariance: str, plain: bool = False) -> InvariantRecipe:
    vic = InvariantConfig("vic", 0.07, steps=5000)
    seeds = [replace(vic, seed=seed) for seed in range(3 if plain else 1)]
    points = seeds + [
        replace(vic, beta=beta) for beta in ((0.02, 0.2, 0.5) if plain else (0.02, 0.2))
    ]
    if plain:
        points += [replace(point, objective="vc", dims=2) for point in points]
    title = f"the banana under {invariance.replace('_', '-')}" + (
        ", beside one that knows of no invariance" if plain else ""
    )
    return InvariantRecipe(
        f"banana-{invariance.replace('_', '-')}", title, "banana", tuple(points), invariance
    )


@experiment(LOSSLESS, "its theorem", "fresh samples", 6.4)
def group_exact() -> InvariantRecipe:
    """A finite group whose H[M] is exact.

    VIC and BINCE need H[M], VC needs H[X] (paper, theorem on the rate of invariant tasks).
    """
    base = InvariantConfig(dims=4, steps=3000, batch=512, likelihood="bernoulli")
    contrast = replace(base, objective="bince", beta=0.05, batch=1024)
    points = [
        replace(own, seed=seed)
        for seed in range(3)
        for own in (replace(base, beta=0.1), replace(base, objective="vc", beta=0.02), contrast)
    ]
    return InvariantRecipe(
        "group-exact",
        "H[M] bits are enough for every invariant task, and needed",
        "patterns",
        tuple(points),
    )


_IMAGES = InvariantConfig(
    dims=32,
    network="convolutional",
    batch=128,
    learning_rate=2e-3,
    bottleneck_learning_rate=5e-3,
    weight_decay=1e-4,
    likelihood="bernoulli",
)
_EPOCH = 57_000 // 128  # steps


@experiment(LOSSLESS, "augmented MNIST", "mnist", 40.9)
def mnist_invariant_vic() -> InvariantRecipe:
    """VIC on augmented MNIST: three seeds at the published rate, other beta for the curve.

    Other predictors see smaller changes.
    """
    return _mnist("vic", (0.18,), (0.1, 0.36, 0.72), epochs=8, shifts=("mnist-less",))


@experiment(LOSSLESS, "augmented MNIST", "mnist", 6.7)
def mnist_invariant_vc() -> InvariantRecipe:
    """VC on augmented MNIST, which must keep the pose."""
    return _mnist("vc", (), (0.1, 0.2, 0.4, 0.8), epochs=6)


@experiment(LOSSLESS, "augmented MNIST", "mnist", 20.4)
def mnist_invariant_bince() -> InvariantRecipe:
    """BINCE on augmented MNIST, in larger batches, which hold the images to tell a view from.

    And one compressor that is trained longer.
    """
    recipe = _mnist("bince", (), (0.003, 0.01, 0.03, 0.1), epochs=6)
    points = tuple(
        replace(point, batch=512, steps=point.steps // 4, learning_rate=4e-3)
        for point in recipe.points
    )
    return replace(recipe, points=(*points, replace(points[-1], beta=0.12, steps=20 * _EPOCH // 4)))


@experiment(LOSSLESS, "choice of augmentation", "mnist")
def mnist_invariant_less() -> InvariantRecipe:
    """VIC for smaller changes than predictors see.

    A compressor may not keep what it does not expect, so too small a group is not a safe choice.
    """
    return _chosen("less", "mnist-less", ("mnist-less", "mnist-aug"))


@experiment(LOSSLESS, "choice of augmentation", "mnist")
def mnist_invariant_sup() -> InvariantRecipe:
    """VIC with all images of a label equivalent as well, so that H[M] = log2 10 bits.

    Less is kept, for one task only.
    """
    return _chosen("sup", "mnist-aug-sup", ("mnist-aug-sup",))


def _chosen(name: str, augmentation: str, predictors: tuple[str, ...]) -> InvariantRecipe:
    point = replace(_IMAGES, beta=0.18, steps=8 * _EPOCH)
    title = "VIC on augmented MNIST, by the choice of what is equivalent"
    return InvariantRecipe(
        f"mnist-invariant-{name}", title, "mnist", (point,), augmentation, predictors
    )


def _mnist(
    objective: InvariantObjective,
    seeded: tuple[float, ...],
    curve: tuple[float, ...],
    epochs: int,
    shifts: tuple[str, ...] = (),
) -> InvariantRecipe:
    base = replace(_IMAGES, objective=objective)
    long = [
        replace(base, steps=40 * _EPOCH, beta=beta, seed=seed)
        for beta, seed in product(seeded, range(3))
    ]
    points = (*long, *(replace(base, steps=epochs * _EPOCH, beta=beta) for beta in curve))
    title = f"{objective.upper()} on augmented MNIST: bits on disk and what predictors make of them"
    return InvariantRecipe(
        f"mnist-invariant-{objective}", title, "mnist", points, "mnist-aug", ("mnist-aug", *shifts)
    )
