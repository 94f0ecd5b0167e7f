"""A learned bottleneck whose first symbols say where the others lie, and how far they spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture
from quadrate.bottlenecks.hyperprior_model import (
    LEAST_SCALE,
    LEVELS,
    MOST_SCALE,
    HyperpriorModel,
    gaussian_tables,
)
from quadrate.bottlenecks.integer_network import IntegerNetwork

_LEAST, _MOST = math.log(LEAST_SCALE), math.log(MOST_SCALE)


class HyperpriorBottleneck(nn.Module):
    """Round each dimension at a learned step, and price it by a Gaussian that is predicted.

    The mean-scale hyperprior of Minnen, Ballé & Toderici (2018) for vectors, as Dubois et al.
    (2021) use it: a network makes k side latents of the latent; these are rounded under a
    factorized density; from them, as they are received, another network predicts means and scales.

    Args:
        dims: d.
        side_dims: k; by default d/5, and at least 10.
        width: Of the two hidden layers of either network.
        centre: The approximate middle of the latents, (d,); by default 0.
        scale: Their approximate spread, (d,); by default 1.
        log_step: The first log(step/scale), (d,); by default 0.
    """

    has_learned_rate = True
    surrogate_is_exact = False

    def __init__(
        self,
        dims: int,
        side_dims: int | None = None,
        width: int = 128,
        centre: Tensor | None = None,
        scale: Tensor | None = None,
        log_step: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.shape = self.latent_shape = (dims,)
        self.dims, self.side_dims = dims, max(10, dims // 5) if side_dims is None else side_dims
        self.noise_columns = dims + self.side_dims
        self.register_buffer("centre", torch.zeros(dims) if centre is None else centre.clone())
        self.register_buffer("scale", torch.ones(dims) if scale is None else scale.clone())
        self.centre: Tensor
        self.scale: Tensor
        self.log_step = nn.Parameter(torch.zeros(dims) if log_step is None else log_step.clone())
        # What a fresh linear layer gives. The first steps are small, so that side symbols tell
        # something from the start: otherwise their price drives them to zero before they are used.
        zero, spread = torch.zeros(self.side_dims), torch.full((self.side_dims,), 0.25)
        self.side = FactorizedBottleneck(LogisticMixture(self.side_dims), zero, spread, zero - 2)
        self.analysis = _rectified(dims, width, self.side_dims)
        self.synthesis = _rectified(self.side_dims, width, 2 * dims)

    @property
    def step(self) -> Tensor:
        """The width of a cell, (d,)."""
        return self.scale * torch.exp(self.log_step)

    def forward(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (..., n, d) and noise to what is received, and nats a sample (..., n).

        The noise is that of the main latents and then of the side latents, (..., n, d + k).
        """
        main_noise, side_noise = noise.split([self.dims, self.side_dims], dim=-1)
        centred = (latents - self.centre) / self.scale  # (..., n, d)
        side, side_nats = self.side(self.analysis(centred), side_noise)  # (..., n, k), (..., n)
        log_scale, mean = self._predictions(side / self.side.step)  # (..., n, d) each
        x = (centred - mean) * torch.exp(-self.log_step)  # (..., n, d) in steps
        scale = torch.exp(_Bounded.apply(log_scale - self.log_step))  # (..., n, d) in steps
        nats = side_nats - _log_mass(x + main_noise, scale).sum(-1)  # (..., n)
        return latents + main_noise * self.step, nats

    @torch.no_grad()
    def quantize(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents (n, d) to symbols, int64 (n, k + d); there is no dither."""
        centred = (latents - self.centre) / self.scale
        side = torch.round(self.analysis(centred) / self.side.step)  # (n, k)
        main = torch.round((centred - self._predictions(side)[1]) * torch.exp(-self.log_step))
        return torch.cat([side, main], dim=-1).long()

    @torch.no_grad()
    def dequantize(self, symbols: Tensor, noise: Tensor) -> Tensor:
        """Symbols (n, k + d) to what is received, (n, d)."""
        side, main = symbols.to(self.scale.dtype).split([self.side_dims, self.dims], dim=-1)
        return main * self.step + self._predictions(side)[1] * self.scale + self.centre

    def _predictions(self, side: Tensor) -> list[Tensor]:
        """The log scale and the mean of each dimension, from side latents in steps (n, k)."""
        return list(self.synthesis(side).chunk(2, dim=-1))

    @torch.no_grad()
    def freeze(self, latents: object = None, before: Sequence[int] = ()) -> HyperpriorModel:
        """Compute integer tables and an integer network; nothing is trained for them.

        Raises:
            QuadrateError: If a side table would be too long, or a weight too large for exact
                integers.
        """
        analysis = _layers(self.analysis)
        analysis[0] = (analysis[0][0] / self.scale.double(), analysis[0][1])
        synthesis = _layers(self.synthesis)
        log_step = self.log_step.double()
        spacing = (_MOST - _LEAST) / (LEVELS - 1)
        # To table indices, and to means in steps.
        gain = torch.cat([torch.full_like(log_step, 1 / spacing), torch.exp(-log_step)])  # (2d,)
        shift = torch.cat([(-log_step - _LEAST) / spacing, torch.zeros_like(log_step)])
        weight, bias = synthesis[-1]
        synthesis[-1] = (gain[:, None] * weight, gain * bias + shift)
        network = [(weight.numpy(), bias.numpy()) for weight, bias in synthesis]
        return HyperpriorModel(
            tuple((weight.float().numpy(), bias.float().numpy()) for weight, bias in analysis),
            # The grid of the side symbols goes through 0, as in `quantize`.
            self.side.freeze(medians=torch.zeros(self.side_dims)),
            IntegerNetwork.quantized(network),
            gaussian_tables(),
            self.step.double().numpy(),
            self.centre.double().numpy(),
            len(before),
        )


def _rectified(fan_in: int, width: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(fan_in, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, fan_out),
    )


def _layers(network: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases in float64."""
    return [
        (layer.weight.double(), layer.bias.double())
        for layer in network
        if isinstance(layer, nn.Linear)
    ]


def _log_mass(x: Tensor, scale: Tensor) -> Tensor:
    """The log of a zero-mean Gaussian's mass on (x - 1/2, x + 1/2).

    In logs throughout, so that far away it still has a gradient.
    """
    distance = x.abs()  # the side where both CDFs are small
    upper = _LogNdtr.apply((0.5 - distance) / scale)
    lower = _LogNdtr.apply((-0.5 - distance) / scale)
    return upper + torch.log(-torch.expm1(lower - upper))


class _LogNdtr(torch.autograd.Function):
    """`torch.special.log_ndtr` and its gradient, with a rule for stacked models."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.special.log_ndtr(x)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        context.save_for_backward(*inputs, output)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (x, value), (gradient,) = context.saved_tensors, gradients
        return gradient / math.sqrt(2 * math.pi) * (value + x.pow(2) / 2).neg().exp()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        return _LogNdtr.apply(x), in_dims[0]


class _Bounded(torch.autograd.Function):
    """Clamp log scales to those of the tables; gradients pass unless they lead further out."""

    generate_vmap_rule = True

    generate_vmap_rule = True  # of stacked models

    @staticmethod
    def forward(log_scale: Tensor) -> Tensor:
        return log_scale.clamp(_LEAST, _MOST)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (log_scale,), (gradient,) = context.saved_tensors, gradients
        leads_out = ((log_scale < _LEAST) & (gradient > 0)) | ((log_scale > _MOST) & (gradient < 0))
        return gradient.masked_fill(leads_out, 0.0)
