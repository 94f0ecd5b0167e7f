"""Codecs that are made in a moment.

Nobody trained them, but they are frozen, and code and decode like any other.
"""

import math
import warnings

import torch
from torch import nn

from quadrate.codecs import Layer, TradeoffCodec
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateWarning
from quadrate.networks.family import Family, find_family
from quadrate.sources import Source, from_arrays

COMPACT = find_family("compact")


def tiny_encoder(shape, dim) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), dim), nn.Tanh())


def tiny_decoder(shape, dim) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, math.prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape))


TINY = Family(
    "tiny", tiny_encoder, tiny_decoder, COMPACT.critic
)  # no batch norm, and quick enough for a million samples


def source_of(shape=(1, 8, 8), count=256, seed=0) -> Source:
    """Random images, smooth enough that their latents depend on one another."""
    factors = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    pictures = torch.rand(
        2, math.prod(shape), generator=torch.Generator().manual_seed(0)
    )  # the same for every seed
    images = factors @ pictures / 2
    images = (images * 255).to(torch.uint8).reshape(count, *shape)
    labels = (torch.arange(count) * 7 % 10).numpy()
    return from_arrays("random", (images, labels), (images[:64], labels[:64]), classes=10)


def make(
    family=COMPACT, shape=(1, 8, 8), levels=((3, 4),), seed=0, decoders=("faithful",), freeze=True
) -> TradeoffCodec:
    """A codec with one random decoder for each name."""
    dim = sum(map(len, levels))
    source = source_of(shape)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        networks = {
            f"encoder.{i}": family.encoder(shape, len(stage)) for i, stage in enumerate(levels)
        }
        networks |= {f"decoder.{name}": family.decoder(shape, dim) for name in decoders}
        for (
            role,
            network,
        ) in (
            networks.items()
        ):  # batch norms get the statistics of what they see, so that latents spread
            for module in network.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.momentum = None
            network.train()(
                source.train.images / 255
                if role.startswith("encoder")
                else torch.rand(64, dim) * 2 - 1
            )
    states = {
        role: {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for role, network in networks.items()
    }
    points = {name: OperatingPoint(levels[-1]) for name in decoders}
    codec = TradeoffCodec(family, shape, [Layer(stage) for stage in levels], points, states)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", QuadrateWarning
        )  # nobody trained it, so it may have collapsed
        return codec.freeze(source) if freeze else codec
