"""The dithered uniform scalar quantizer.

Levels on [-1, 1], shared dither (uRDP, Zhang et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadrate.errors import QuadrateError


class DitheredQuantizer:
    """Quantizes a latent in [-1, 1]^d with L_i levels in dimension i, centres -1 + 2k/(L_i - 1),
    and a dither that sender and receiver share.

    With dither u uniform on one cell, symbol z = Q(f(x) + u) and received value y = z - u, the
    error y - f(x) is *exactly* uniform on a cell and independent of f(x) for every f(x) in [-1, 1]:
    the outer cells reach half a step beyond the interval, so nothing overloads. Hence training may
    replace the quantizer by `perturb`, f(x) + u with the identity gradient, without any
    approximation.

    Args:
        levels: The number of levels of each latent dimension, each at least 2; (d,).
        device: Where the step sizes live.

    Raises:
        QuadrateError: If a level is below 2, or there is no dimension.
    """

    def __init__(self, levels: Sequence[int], device: torch.device | str = "cpu") -> None:
        if not levels or any(level < 2 for level in levels):
            raise QuadrateError(
                "a dithered quantizer needs at least one dimension and at least 2 levels in each;"
                f" got levels={tuple(levels)}"
            )
        self.levels = tuple(int(level) for level in levels)
        self.top = torch.tensor(self.levels, device=device) - 1  # (d,) the highest symbol
        self.step = 2.0 / self.top.float()  # (d,) the width of a cell

    def dither(self, uniform: Tensor) -> Tensor:
        """Scales uniform numbers on [0, 1), (..., d), to a dither on one cell, [-step/2, step/2)."""
        return (uniform - 0.5) * self.step

    def quantize(self, latent: Tensor, dither: Tensor) -> Tensor:
        """The integer symbols Q(f + u): latent and dither (..., d) to int64 (..., d) in 0 ..

        L_i - 1.
        """
        return (
            torch.round((latent + dither + 1.0) / self.step).long().clamp(min=0).minimum(self.top)
        )

    def dequantize(self, symbols: Tensor, dither: Tensor) -> Tensor:
        """What the decoder reads, the centre of the symbol's cell less the dither.

        Int64 (..., d) to float (..., d).
        """
        return symbols.float() * self.step - 1.0 - dither

    def perturb(self, latent: Tensor, dither: Tensor) -> Tensor:
        """What the decoder reads in training.

        F + u, distributed exactly as `dequantize(quantize(f, u), u)`, with the identity gradient.
        """
        return latent + dither

    def soft(self, latent: Tensor, dither: Tensor, sharpness: float = 1.0) -> Tensor:
        """The surrogate of the papers: hard values forward.

        Backward, the gradient of the softmax over -sharpness·|x - centre|.

        The published sharpness is 1 on MNIST and 2/L on SVHN. It is a poor gradient (`perturb` is
        exact) and stays for comparison only.
        """
        value = latent + dither
        columns = []
        for i, level in enumerate(self.levels):
            centres = torch.linspace(-1.0, 1.0, level, device=value.device)
            weight = torch.softmax(-sharpness * (value[..., i, None] - centres).abs(), dim=-1)
            columns.append((weight * centres).sum(-1))
        soft = torch.stack(columns, dim=-1)
        hard = self.dequantize(self.quantize(latent, dither), torch.zeros_like(dither))
        return soft + (hard - soft).detach() - dither
