"""The banana of `quadrate.theory.banana` as a source.

Points in the plane; tasks ignore a rotation or a translation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch import Tensor

from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.sources.symmetry.group import Population

if TYPE_CHECKING:
    from quadrate.theory.invariance.banana_rate import Invariance

# The 10 % and 90 % quantiles of X and of Y, the limits of translations (the original computed them
# from each data set).
_INNER_X, _INNER_Y = (-3.304072, 2.588459), (-3.033853, 1.947499)
_DIAGONAL = math.sqrt(0.5)


@dataclass(frozen=True)
class Banana(Population):
    """The banana under one of four invariances (Dubois et al. 2021, as in their code).

    - "rotation": a member of an orbit is the point turned by an angle uniform on [0, 360°); the
      representative is the point on the circle at 225°; M(x) is the distance to the origin.
    - "y_translation": y is uniform between the 10 % and 90 % quantiles of Y; (x, 0); x.
    - "x_translation": x is uniform between those of X; (0, y); y.
    - "none": the point itself for all three.

    Points are float32, (N, 2). Members are drawn uniformly on the orbit, so their distribution is
    smoother than the banana; M(member) = M(point).

    Raises:
        QuadrateError: If there is no such invariance.
    """

    invariance: Invariance = "rotation"

    def __post_init__(self) -> None:
        from quadrate.theory.invariance.banana_rate import Invariance

        if self.invariance not in get_args(Invariance):
            raise QuadrateError(
                f"the banana's invariance must be one of {', '.join(get_args(Invariance))}; got"
                f" {self.invariance!r}"
            )

    def sample(self, count: int, *key: object) -> Tensor:
        """`count` independent points of the banana, float32 (count, 2); see `Population.sample`."""
        from quadrate.theory.invariance import banana_rate as banana

        generator = np.random.Generator(np.random.Philox(key=draws.key("banana", *key)))
        return torch.from_numpy(banana.sample(count, generator).astype(np.float32))

    def sample_orbit(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform member of each point's orbit, (N, 2)."""
        if self.invariance == "none":
            return x
        where = torch.rand(len(x), generator=generator, device=generator.device, dtype=x.dtype)
        where = where.to(x.device)
        if self.invariance == "rotation":
            angles = 2 * math.pi * where
            cosines, sines = angles.cos(), angles.sin()
            turned = [cosines * x[:, 0] - sines * x[:, 1], sines * x[:, 0] + cosines * x[:, 1]]
            return torch.stack(turned, dim=1)
        low, high = _INNER_Y if self.invariance == "y_translation" else _INNER_X
        return self._on_line(x, low + (high - low) * where)

    def representative(self, x: Tensor) -> Tensor:
        """The representative of each point's orbit, (N, 2)."""
        if self.invariance == "none":
            return x
        if self.invariance == "rotation":
            return -_DIAGONAL * x.norm(dim=1, keepdim=True).expand(-1, 2)
        return self._on_line(x, torch.zeros_like(x[:, 0]))

    def invariant(self, x: Tensor) -> Tensor:
        """M(x), (N,); (N, 2), the points themselves, for "none"."""
        if self.invariance == "none":
            return x
        if self.invariance == "rotation":
            return x.norm(dim=1)
        return x[:, 0 if self.invariance == "y_translation" else 1]

    def _on_line(self, x: Tensor, free: Tensor) -> Tensor:
        """The points with another value of the coordinate that translations change."""
        pair = [x[:, 0], free] if self.invariance == "y_translation" else [free, x[:, 1]]
        return torch.stack(pair, dim=1)
