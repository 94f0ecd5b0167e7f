"""Networks by name: families of encoder, decoder and critic, and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from quadrate.errors import QuadrateError
from quadrate.networks import compact, compact_colour, paper
from quadrate.networks.classifiers import Classifier, ConvClassifier, DenseClassifier, ResidualClassifier
from quadrate.networks.compact import Shape


@dataclass(frozen=True)
class Family:
    """Networks by name.

    Attributes:
        name: The family's name.
        encoder: From the shape (C, H, W) and the latent dimension to a network from images (N, C, H, W) in [0, 1] to latents (N, dim) in [-1, 1].
        decoder: From the same to a network from received latents (N, dim) to images.
        critic: From the shape to a network from images to scores (N,); no batch norm, as the gradient penalty holds for each sample.
        version: What stands for the code of a family of one's own in the name of a run's folder; without it, the code itself.
    """

    name: str
    encoder: Callable[[Shape, int], nn.Module]
    decoder: Callable[[Shape, int], nn.Module]
    critic: Callable[[Shape], nn.Module]
    version: str = ""


FAMILIES = {
    family.name: family
    for family in (
        Family("compact", compact.encoder, compact.decoder, compact.critic),
        Family("paper", paper.encoder, paper.decoder, paper.critic),
        Family("compact-colour", compact_colour.encoder, compact_colour.decoder, compact_colour.critic),
    )
}

BUILT_IN = tuple(FAMILIES.values())
"""The families that come with Quadrate: their names say what they are."""

CLASSIFIERS: dict[str, Callable[[Shape, int], Classifier]] = {
    "conv": ConvClassifier,
    "dense": DenseClassifier,
    "paper": paper.classifier,
    "residual": ResidualClassifier,
}


def find_family(family: Family | str) -> Family:
    """A family by its name, or as it is.

    Raises:
        QuadrateError: If no family has that name.
    """
    if isinstance(family, Family):
        return family
    if family not in FAMILIES:
        raise QuadrateError(f"unknown network family {family!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[family]
