"""Networks by name: families of encoder, decoder and critic, and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from quadrate.core.registry import Registry
from quadrate.networks import compact, compact_colour, paper
from quadrate.networks.classifiers import (
    ConvClassifier,
    DenseClassifier,
    LeNetClassifier,
    ResidualClassifier,
    StridedClassifier,
)
from quadrate.networks.compact import Shape


@dataclass(frozen=True)
class Family:
    """Networks by name.

    Attributes:
        name: The family's name.
        encoder: From the shape (C, H, W) and the latent dimension to a network from images (N, C,
            H, W) in [0, 1] to latents (N, dim) in [-1, 1].
        decoder: From the same to a network from received latents (N, dim) to images.
        critic: From the shape to a network from images to scores (N,); no batch norm, as the
            gradient penalty holds for each sample.
        version: What stands for the code of your own family in the name of a run's folder; without
            it, the code itself.
    """

    name: str
    encoder: Callable[[Shape, int], nn.Module]
    decoder: Callable[[Shape, int], nn.Module]
    critic: Callable[[Shape], nn.Module]
    version: str = ""


_OURS = (
    Family("compact", compact.encoder, compact.decoder, compact.critic),
    Family("paper", paper.encoder, paper.decoder, paper.critic),
    Family("compact-colour", compact_colour.encoder, compact_colour.decoder, compact_colour.critic),
)
FAMILIES: Registry[Family] = Registry("network family", {family.name: family for family in _OURS})
CLASSIFIERS: Registry[Callable[[Shape, int], nn.Module]] = Registry(
    "classifier",
    {
        "conv": ConvClassifier,
        "dense": DenseClassifier,
        "lenet": LeNetClassifier,
        "paper": paper.classifier,
        "residual": ResidualClassifier,
        "strided": StridedClassifier,
    },
)


def register_family(family: Family) -> None:
    """Register your own networks by their name, so that recipes and codec files find them.

    Raises:
        QuadrateError: If the name is taken, or is not fit for a file.
    """
    FAMILIES.register(family.name, family)


def register_classifier(name: str, build: Callable[[Shape, int], nn.Module]) -> None:
    """Register your own classifier by a name.

    Judges of this architecture are then trained, saved and read.

    Args:
        name: The name.
        build: From the shape (C, H, W) and the number of classes K to a network from images (N, C,
            H, W) in [0, 1] to logits (N, K). An independent judge also needs a method `features`,
            (N, C, H, W) to (N, F).

    Raises:
        QuadrateError: If the name is taken, or is not fit for a file.
    """
    CLASSIFIERS.register(name, build)


def find_family(family: Family | str) -> Family:
    """Find a family by its name; a family is returned as it is.

    Raises:
        QuadrateError: If no family has that name.
    """
    return family if isinstance(family, Family) else FAMILIES.find(family)
