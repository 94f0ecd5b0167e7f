"""Decoders by name: how pictures are made of latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from quadrate.core.registry import Registry
from quadrate.networks.compact import Shape
from quadrate.networks.family import Family
from quadrate.networks.flow import FlowDecoder, VelocityNetwork
from quadrate.networks.labelled import LabelledDecoder


@dataclass(frozen=True)
class DecoderKind:
    """A way to make pictures of latents, as an operating point names it.

    Attributes:
        name: The kind's name.
        build: From a family, the shape (C, H, W) of the images, the latent dimension and the number
            of classes K to a network from received latents (N, dim) to images. If its attribute
            `takes_noise` is true, it takes standard normal noise (N, C, H, W) beside them. If its
            attribute `takes_labels` is true, it gives the logits (N, K) of the labels as well when
            it is given the labels, one-hot (N, K), in training.
        classes: From a state dict of such a network to its number of classes, 0 if it has none.
        version: What stands for the code of your own kind in the name of a run's folder; without
            it, the code itself.
    """

    name: str
    build: Callable[[Family, Shape, int, int], nn.Module]
    classes: Callable[[Mapping[str, Tensor]], int] = lambda state: 0
    version: str = ""


def _direct(family: Family, shape: Shape, dim: int, classes: int) -> nn.Module:
    return family.decoder(shape, dim)


def _labelled(family: Family, shape: Shape, dim: int, classes: int) -> nn.Module:
    return LabelledDecoder(family.decoder(shape, dim + classes), dim, classes)


def _flow(family: Family, shape: Shape, dim: int, classes: int) -> nn.Module:
    return FlowDecoder(family.decoder(shape, dim), VelocityNetwork(shape))


DECODERS: Registry[DecoderKind] = Registry(
    "decoder kind",
    {
        kind.name: kind
        for kind in (
            DecoderKind("direct", _direct),
            DecoderKind("labelled", _labelled, LabelledDecoder.classes_of),
            DecoderKind("flow", _flow),
        )
    },
)


def register_decoder(kind: DecoderKind) -> None:
    """Register your own kind of decoder by its name, so that operating points may name it.

    Raises:
        QuadrateError: If the name is taken, or is not fit for a file.
    """
    DECODERS.register(kind.name, kind)
