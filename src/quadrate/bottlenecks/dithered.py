"""The dithered uniform scalar quantizer: levels on [-1, 1], shared dither (Zhang et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrate.bottlenecks.contexts import ContextModel, fit_contexts
from quadrate.errors import QuadrateError


class DitheredQuantizer(nn.Module):
    """Quantize a latent in [-1, 1]^d with a dither that sender and receiver share.

    Dimension i has L_i levels, with centres -1 + 2k/(L_i - 1). With dither u uniform on one cell,
    symbol z = Q(f(x) + u) and received value y = z - u, the error y - f(x) is *exactly* uniform on
    a cell and independent of f(x) for every f(x) in [-1, 1]: the outer cells reach half a step
    beyond the interval, so nothing overloads. Hence training may replace the quantizer by
    f(x) + u with the identity gradient, without any approximation.

    Args:
        levels: The number of levels of each latent dimension, each at least 2; (d,).
        device: Where the step sizes live.

    Raises:
        QuadrateError: If a level is below 2, or there is no dimension.
    """

    has_learned_rate = False
    surrogate_is_exact = True
    top: Tensor
    step: Tensor

    def __init__(self, levels: Sequence[int], device: torch.device | str = "cpu") -> None:
        super().__init__()
        if not levels or any(level < 2 for level in levels):
            raise QuadrateError(
                "a dithered quantizer needs at least one dimension and at least 2 levels in each;"
                f" got levels={tuple(levels)}"
            )
        self.levels = tuple(int(level) for level in levels)
        self.shape = self.latent_shape = (len(self.levels),)
        self.noise_columns = len(self.levels)
        top = torch.tensor(self.levels, device=device) - 1
        self.register_buffer("top", top, persistent=False)  # (d,) the highest symbol
        self.register_buffer("step", 2.0 / top.float(), persistent=False)  # (d,) a cell's width

    def forward(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, None]:
        """Add the dither: latents and noise (..., d) to what is received; the rate is fixed.

        What is received is distributed exactly as by `dequantize(quantize(...))`.
        """
        return latents + noise * self.step, None

    def quantize(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Round to symbols Q(f + u), int64 in 0 … L_i - 1, from latents and noise (..., d)."""
        cells = torch.round((latents + noise * self.step + 1.0) / self.step)  # (..., d)
        return cells.long().clamp(min=0).minimum(self.top)

    def dequantize(self, symbols: Tensor, noise: Tensor) -> Tensor:
        """Take the centres of the symbols' cells less the dither, float (..., d)."""
        return symbols.float() * self.step - 1.0 - noise * self.step

    def soft(self, latents: Tensor, noise: Tensor, sharpness: float = 1.0) -> Tensor:
        """Quantize by the surrogate of the papers, hard values with a soft gradient.

        Backward it is the gradient of the softmax over -sharpness·|x - centre|. The published
        sharpness is 1 on MNIST and 2/L on SVHN. It is a poor gradient (`forward` is exact) and
        stays for comparison only.
        """
        value = latents + noise * self.step  # (..., d)
        columns = []
        for i, level in enumerate(self.levels):
            centres = torch.linspace(-1.0, 1.0, level, device=value.device)  # (L,)
            weight = torch.softmax(-sharpness * (value[..., i, None] - centres).abs(), dim=-1)
            columns.append((weight * centres).sum(-1))
        soft = torch.stack(columns, dim=-1)  # (..., d)
        hard = self.dequantize(self.quantize(latents, noise), torch.zeros_like(noise))
        return soft + (hard - soft).detach() - noise * self.step

    def freeze(
        self, latents: NDArray[np.float32] | None = None, before: Sequence[int] = ()
    ) -> ContextModel:
        """Count tables on the latents of training samples (`fit_contexts`).

        Args:
            latents: (n, len(before) + d).
            before: In a refinement, the levels of the columns of the layers before.

        Raises:
            QuadrateError: If there are no latents, or they do not fit the levels.
        """
        if latents is None:
            raise QuadrateError("the tables of a dithered quantizer are counted on latents")
        return fit_contexts(latents, (*before, *self.levels), len(before))
