"""What latents pass through on their way to a decoder in training, layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quadrate.bottlenecks.bottleneck import Bottleneck
from quadrate.bottlenecks.by_name import build_bottleneck
from quadrate.bottlenecks.frozen import FrozenBottleneck
from quadrate.codecs import TradeoffCodec
from quadrate.core import draws
from quadrate.sources.source import Source
from quadrate.training.stack import Stack


@dataclass(frozen=True)
class FrozenLatents:
    """What a frozen encoder gives a point, computed once.

    Attributes:
        layers: What the latents of each layer pass through: a bottleneck whose surrogate is exact,
            or else the frozen one. Latents of a layer without dither are already as received.
        train: Latents of the training images, (N, d) or (N, c, h, w), layers side by side.
        validation: Latents of the validation images.
        critic: The state of a critic to start from, if any.
        decoder: The state of the base's decoder, which flow decoders start from, if any.
    """

    layers: tuple[Bottleneck | FrozenBottleneck, ...]
    train: Tensor
    validation: Tensor
    critic: dict[str, Tensor] | None = None
    decoder: dict[str, Tensor] | None = None

    @classmethod
    def of(cls, base: TradeoffCodec, source: Source, seed: int) -> FrozenLatents:
        """Encode a source's images by a codec's encoders, for a point of a seed."""
        device = source.train.images.device
        latents: list[Tensor] = []
        for split in (source.train, source.validation):
            key = (seed, base.point.key, "frozen noise", len(latents))
            generator = draws.generator(*key, device=device)
            latents.append(base.source_latents(source, split.images, generator))  # (N, ...)
        layers: list[Any] = []
        at = 0
        for layer, model in zip(base.layers, base.layer_models, strict=True):
            own = slice(at, at := at + layer.latent_dims)
            shape = tuple(latents[0][:, own].shape[1:])
            if layer.levels or model is None:
                bottleneck = build_bottleneck(layer.bottleneck, shape, layer.levels)
                layers.append(bottleneck.to(device))
                continue
            layers.append(model)
            for part in latents if not model.dither_columns else ():
                part[:, own] = received(model, part[:, own], part.new_zeros(len(part), 0))
        critic = base.critic.state_dict() if base.critic else {}
        state = {name: tensor.cpu() for name, tensor in critic.items()}
        decoder = base.states.get(f"decoder.{next(iter(base.points), None)}")
        return cls(tuple(layers), latents[0], latents[1], state or None, decoder)


@dataclass(frozen=True)
class TrainingLayer:
    """A layer of K models side by side.

    Attributes:
        dims: Latent dimensions, or channels of maps.
        noise_columns: How many uniform numbers a sample it takes.
        surrogate: Latents (K, B, dims, ...) and noise on [-1/2, 1/2), (K, B, noise_columns), to
            what is received, and the rate in nats, (K, B), if it is learned.
        hard: The same to what is received where latents are quantized as for files.
    """

    dims: int
    noise_columns: int
    surrogate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
    hard: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def shared(cls, bottleneck: Any, soft: bool = False) -> TrainingLayer:
        """A layer of one bottleneck that learns nothing, for all models.

        Args:
            bottleneck: With a surrogate that is exact.
            soft: Whether to take the dithered quantizer's published surrogate instead.
        """

        def published(latents: Tensor, noise: Tensor) -> tuple[Tensor, None]:
            return bottleneck.soft(latents, noise), None

        surrogate = published if soft and hasattr(bottleneck, "soft") else bottleneck
        columns = bottleneck.noise_columns
        return cls(bottleneck.shape[0], columns, surrogate, _hard(bottleneck))

    @classmethod
    def learned(cls, bottleneck: Any, stack: Stack) -> TrainingLayer:
        """A layer of bottlenecks that learn their rate, stacked; the bottleneck is one of them."""

        def surrogate(latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(latents.device.type, enabled=False):
                return stack(latents, noise)

        def hard(latents: Tensor, noise: Tensor) -> Tensor:
            modules = [member(bottleneck, stack, k) for k in range(stack.count)]
            parts = zip(modules, latents, noise, strict=True)
            with torch.autocast(latents.device.type, enabled=False):
                return torch.stack([_hard(module)(*part) for module, *part in parts])

        return cls(bottleneck.shape[0], bottleneck.noise_columns, surrogate, hard)

    @classmethod
    def frozen(cls, models: Sequence[Any], soft: bool = False) -> TrainingLayer:
        """A frozen layer of K points, as `FrozenLatents` has it for each."""
        if isinstance(models[0], nn.Module):
            return cls.shared(models[0], soft)
        columns = models[0].dither_columns

        def hard(latents: Tensor, noise: Tensor) -> Tensor:
            if not columns:
                return latents
            parts = zip(models, latents, noise, strict=True)
            return torch.stack([received(*part) for part in parts])

        return cls(models[0].shape[0], columns, lambda *inputs: (hard(*inputs), None), hard)


def member(bottleneck: Any, stack: Stack, index: int) -> Any:
    """Copy a bottleneck, with the state of one of those that are stacked, for evaluation."""
    module = copy.deepcopy(bottleneck)
    state = stack.member(index)
    module.load_state_dict({name: state[name] for name in module.state_dict()})
    return module.eval().requires_grad_(False)


def _hard(bottleneck: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda latents, noise: bottleneck.dequantize(bottleneck.quantize(latents, noise), noise)


def received(model: FrozenBottleneck, latents: Tensor, noise: Tensor) -> Tensor:
    """What a receiver reads, (n, ...), by the frozen bottleneck."""
    dither = ((noise + 0.5) * 2**24).long().cpu().numpy()
    symbols = model.quantize(latents.cpu().numpy(), dither)
    read = torch.from_numpy(model.dequantize(symbols, dither))
    return read.to(latents).reshape(latents.shape)
