"""The learned factorized bottleneck: for each dimension a step, and a density of its symbols."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.bottlenecks.rounding import RoundingModel, make_tables
from quadrate.coding.tables import MAX_ENTRIES
from quadrate.errors import QuadrateError

_TAIL = 1e-9  # mass beyond either end of what tables are made from
_LEAST_MASS = 1e-9  # of a cell, so that no value has an infinite rate


class LogisticMixture(nn.Module):
    """A mixture of logistic densities a dimension.

    Preferred to Ballé's network: its parameters are places, widths and weights, so it starts from
    the normal law with spread components and follows a large learning rate; a cell's mass is a sum
    of differences of sigmoids, accurate in the tails; and it takes a fifth of the work.

    Args:
        dims: d.
        components: Logistics a dimension.
    """

    def __init__(self, dims: int, components: int = 4) -> None:
        super().__init__()
        levels = (torch.arange(components) + 0.5) / components
        self.places = nn.Parameter(torch.special.ndtri(levels).repeat(dims, 1))  # (d, J)
        self.log_widths = nn.Parameter(torch.full((dims, components), math.log(0.4)))
        self.weights = nn.Parameter(torch.zeros(dims, components))  # logits

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x): (n, d) to (n, d)."""
        return (torch.sigmoid(self._scaled(x)) * torch.softmax(self.weights, dim=1)).sum(-1)

    def mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """P(lower < X <= upper): (n, d), (n, d) to (n, d)."""
        masses = _between(self._scaled(lower), self._scaled(upper))  # (..., d, J)
        return (masses * torch.softmax(self.weights, dim=1)).sum(-1)

    def _scaled(self, x: Tensor) -> Tensor:
        return (x[..., None] - self.places) * torch.exp(-self.log_widths)  # (..., d, J)


class MonotoneNetwork(nn.Module):
    """The univariate density of Ballé, Minnen, Singh, Hwang & Johnston (2018), appendix 6.1.

    The CDF as a small monotone network a dimension.

    Args:
        dims: d.
        widths: Of the hidden layers.
        scale: The CDF begins as a sigmoid about this wide.
    """

    def __init__(
        self, dims: int, widths: tuple[int, ...] = (3, 3, 3, 3), scale: float = 1.0
    ) -> None:
        super().__init__()
        sizes = (1, *widths, 1)
        slope = scale ** (1 / (len(widths) + 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            self.matrices.append(
                torch.full((dims, fan_out, fan_in), math.log(math.expm1(1 / slope / fan_out)))
            )
            self.biases.append(torch.rand(dims, fan_out, 1) - 0.5)
        self.factors.extend(torch.zeros(dims, width, 1) for width in widths)

    def logits(self, x: Tensor) -> Tensor:
        """The CDF's logits: (..., d) to (..., d)."""
        h = x.reshape(-1, x.shape[-1]).T[:, None]  # (d, 1, n)
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            h = F.softplus(matrix) @ h + bias
            if i < len(self.factors):
                h = h + torch.tanh(self.factors[i]) * torch.tanh(h)
        return h[:, 0].T.reshape(x.shape)

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x): (n, d) to (n, d)."""
        return torch.sigmoid(self.logits(x))

    def mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """P(lower < X <= upper): (n, d), (n, d) to (n, d)."""
        return _between(self.logits(lower), self.logits(upper))


def _between(lower: Tensor, upper: Tensor) -> Tensor:
    """sigmoid(upper) - sigmoid(lower), on the side where both are small and keep their digits."""
    sign = torch.where(lower + upper > 0, -1.0, 1.0).to(lower.dtype).detach()
    return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()


class FactorizedBottleneck(nn.Module):
    """Round each dimension at a learned step, and price it by a learned density.

    In training a value gets uniform noise as wide as the step, whose density at the result is the
    density's mass over a cell; hence the rate.

    Args:
        density: A `LogisticMixture` or a `MonotoneNetwork`, of x = (z - centre)/scale.
        centre: The approximate middle of the latents, (d,).
        scale: Their approximate spread, (d,).
        log_step: The first log(step/scale), (d,); by default 0.
    """

    has_learned_rate = True
    surrogate_is_exact = False

    def __init__(
        self,
        density: LogisticMixture | MonotoneNetwork,
        centre: Tensor,
        scale: Tensor,
        log_step: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.density = density
        self.register_buffer("centre", centre.clone())
        self.register_buffer("scale", scale.clone())
        self.centre: Tensor
        self.scale: Tensor
        log_step = torch.zeros_like(centre) if log_step is None else log_step
        self.log_step = nn.Parameter(log_step.clone())
        self.shape = self.latent_shape = tuple(centre.shape)
        self.noise_columns = len(centre)

    @classmethod
    def of_dims(cls, dims: int) -> Self:
        """The bottleneck that training starts from for latents (n, dims) of about unit spread."""
        return cls(LogisticMixture(dims), torch.zeros(dims), torch.ones(dims))

    @property
    def step(self) -> Tensor:
        """The width of a cell, (d,)."""
        return self.scale * torch.exp(self.log_step)

    def forward(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (..., n, d) and noise to what is received, and nats a sample (..., n)."""
        received = latents + noise * self.step  # (..., n, d)
        x = (received - self.centre) / self.scale  # (..., n, d)
        half = torch.exp(self.log_step) / 2  # (d,)
        mass = self.density.mass(x - half, x + half).clamp(min=_LEAST_MASS)  # (..., n, d)
        return received, -torch.log(mass).sum(-1)

    def quantize(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents (n, d) to symbols, int64 (n, d); there is no dither."""
        return torch.round((latents - self._offset) / self.step).long()

    def dequantize(self, symbols: Tensor, noise: Tensor) -> Tensor:
        """Symbols (n, d) to what is received, (n, d)."""
        return symbols * self.step + self._offset

    @property
    def _offset(self) -> Tensor:
        """What symbol 0 is received as, the density's median, (d,)."""
        return self._quantiles(0.5).to(self.centre.dtype) * self.scale + self.centre

    @torch.no_grad()
    def _quantiles(self, probability: float) -> Tensor:
        """The point where each dimension's CDF has a value, by bisection in float64, (d,)."""
        density = copy.deepcopy(self.density).double()
        low = torch.full_like(self.centre, -1.0, dtype=torch.float64)
        high = torch.ones_like(self.centre, dtype=torch.float64)
        for _ in range(60):
            low = torch.where(density.cdf(low[None])[0] > probability, 2 * low, low)
            high = torch.where(density.cdf(high[None])[0] < probability, 2 * high, high)
        for _ in range(80):
            middle = (low + high) / 2
            below = density.cdf(middle[None])[0] < probability
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    @torch.no_grad()
    def freeze(
        self,
        latents: object = None,
        before: Sequence[int] = (),
        *,
        medians: Tensor | None = None,
        rate_weight: float = 0.0,
    ) -> RoundingModel:
        """Compute integer tables from the density's own masses, over ranges that bisection finds.

        Nothing is trained for them.

        Args:
            latents: Not needed.
            before: The levels of the columns of the layers before.
            medians: The points that symbol 0 stands for, (d,) in units of the density; by default
                its medians.
            rate_weight: As `RoundingModel.rate_weight`.

        Raises:
            QuadrateError: If a table would be too long.
        """
        medians = self._quantiles(0.5) if medians is None else medians.double()
        density, cell = copy.deepcopy(self.density).double(), torch.exp(self.log_step.double())
        low = torch.floor((self._quantiles(_TAIL) - medians) / cell).min()
        high = torch.ceil((self._quantiles(1 - _TAIL) - medians) / cell).max()
        if not high - low < MAX_ENTRIES:
            raise QuadrateError(
                f"the learned tables would span {float(high - low):.0f} symbols; they hold"
                f" {MAX_ENTRIES}: train with a larger beta"
            )
        symbols = torch.arange(int(low), int(high) + 1, dtype=torch.float64)[:, None]  # (K, 1)
        lower, upper = ((symbols + side) * cell + medians for side in (-0.5, 0.5))  # (K, d)
        masses = density.mass(lower, upper).T.contiguous()  # (d, K)
        offsets = medians * self.scale.double() + self.centre.double()  # (d,)
        tables = make_tables([(masses.numpy(), int(low))])
        steps = self.step.double().numpy()
        return RoundingModel(steps, offsets.numpy(), tables, rate_weight, len(before))
