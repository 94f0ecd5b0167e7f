"""A decoder whose pictures follow the distribution of real ones: posterior-mean rectified flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.errors import QuadrateError
from quadrate.networks.compact import Shape

_FREQUENCIES = 8
_FEATURES = 64  # of the time
_LARGEST_SIGMA, _MOST_STEPS = 10, 1000


class FlowDecoder(nn.Module):
    """Carries a faithful decoder's picture, with a little noise, to the distribution of real ones.

    The velocity network is trained to predict x - x0 at x_t = (1 - t)·x0 + t·x, where x0 is the
    faithful picture E[X|Z] plus noise and x the real one. Following it from t = 0 to 1 gives
    pictures that are distributed as the real ones are, and the straight paths keep them near the
    faithful picture: the flow approximates the optimal transport of E[X|Z], which has the least MSE
    among perfectly realistic decoders (Ohayon, Michaeli and Elad, "Posterior-Mean Rectified Flow",
    ICLR 2025; Freirich et al. 2021).

    Args:
        mean: The faithful decoder, from latents to images.
        velocity: From images (N, C, H, W) and times (N,) to velocities (N, C, H, W).
        sigma: The standard deviation of the noise, on the [0, 1] scale.
        steps: Steps that `forward` takes, each with one evaluation of the velocity.
    """

    takes_noise = True
    sigma: Tensor
    steps: Tensor

    def __init__(
        self, mean: nn.Module, velocity: nn.Module, sigma: float = 0.3, steps: int = 8
    ) -> None:
        super().__init__()
        self.mean, self.velocity = mean, velocity
        # Buffers, so that the file of a codec says with what its flow was trained.
        self.register_buffer("sigma", torch.tensor(sigma))
        self.register_buffer("steps", torch.tensor(steps))

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **settings: Any) -> Any:
        """Load a state as PyTorch does, from files that may hold anything.

        Raises:
            QuadrateError: If the noise or the number of steps is out of range, so that decoding
                would give no pictures, or never end.
        """
        sigma, steps = float(state_dict["sigma"]), int(state_dict["steps"])
        if not (0 <= sigma <= _LARGEST_SIGMA and 1 <= steps <= _MOST_STEPS):
            raise QuadrateError(
                f"a flow has noise of 0 to {_LARGEST_SIGMA} and 1 to {_MOST_STEPS} steps; got"
                f" {sigma:g} and {steps}"
            )
        return super().load_state_dict(state_dict, *args, **settings)

    def start(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Where paths begin, (N, C, H, W): faithful pictures with standard normal noise added."""
        start: Tensor = self.mean(latents) + self.sigma * noise
        return start

    def forward(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents (N, …) and standard normal noise (N, C, H, W) to images in [0, 1]."""
        x = self.start(latents, noise)
        steps, before = int(self.steps), None
        for i in range(steps):
            velocity = self.velocity(x, x.new_full(x.shape[:1], i / steps))
            # The second order of Adams and Bashforth takes no more evaluations than Euler's steps,
            # which cut the bends of the paths short: pictures would vary too little.
            slope = velocity if before is None else 1.5 * velocity - 0.5 * before
            x, before = x + slope / steps, velocity
        return x.clamp(0, 1)


class VelocityNetwork(nn.Module):
    """A small U-Net at a half and a quarter of the images' resolution.

    Convolutions see what is near; between them, `_Mixing` sees the whole picture.

    Args:
        shape: (C, H, W) of the images; sides that are no multiples of 4 are padded.
        width: Channels at half the resolution.
        inner: Channels at a quarter of it.
        depth: Residual blocks at a quarter.
    """

    frequencies: Tensor

    def __init__(self, shape: Shape, width: int = 24, inner: int = 48, depth: int = 3) -> None:
        super().__init__()
        channels, height, width_px = shape
        self.padding = (0, -width_px % 4, 0, -height % 4)
        places = math.ceil(height / 4) * math.ceil(width_px / 4)
        frequencies = torch.arange(1, _FREQUENCIES + 1) * math.pi / 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(
            *(nn.Linear(2 * _FREQUENCIES, _FEATURES), nn.SiLU()),
            *(nn.Linear(_FEATURES, _FEATURES), nn.SiLU()),
        )
        self.enter = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.before = _Residual(width)
        self.down = nn.Conv2d(width, inner, 2, stride=2)
        self.blocks = nn.ModuleList(_Residual(inner) for _ in range(depth))
        self.mixing = nn.ModuleList(_Mixing(inner, places) for _ in range(depth - 1))
        self.up = nn.Conv2d(inner, 4 * width, 1)
        self.after = _Residual(width)
        self.leave = _zero(nn.Conv2d(width, 4 * channels, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Images (N, C, H, W) and times (N,) in [0, 1] to velocities (N, C, H, W)."""
        height, width = x.shape[2:]
        angles = time[:, None] * self.frequencies
        t = self.time(torch.cat([angles.cos(), angles.sin()], 1))  # (N, features)
        x = F.pixel_unshuffle(F.pad(x, self.padding), 2)
        x = x.contiguous(memory_format=torch.channels_last)  # which convolutions on a CPU like
        skip = self.before(self.enter(x), t)
        h = self.down(F.silu(skip))
        for i, block in enumerate(self.blocks):
            h = block(h, t)
            if i < len(self.mixing):
                h = self.mixing[i](h)
        h = skip + F.pixel_shuffle(self.up(F.silu(h)), 2)
        h = self.leave(F.silu(self.after(h, t)))
        return F.pixel_shuffle(h, 2)[:, :, :height, :width].contiguous()


class _Residual(nn.Module):
    """x + f(x, t), f two convolutions; at first it is the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(_FEATURES, width)
        self.second = _zero(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(N, width, H, W) and the time's features (N, features) to (N, width, H, W)."""
        h = self.first(F.silu(x)) + self.time(t)[:, :, None, None]
        h = self.second(F.silu(h))
        return x + h


class _Mixing(nn.Module):
    """x + f(x), f a perceptron over all places, the same for each channel; at first 0."""

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width, width, 1)
        self.places = nn.Sequential(
            nn.Linear(places, 4 * places), nn.SiLU(), nn.Linear(4 * places, places)
        )
        self.leave = _zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        h = self.enter(F.silu(x)).contiguous().flatten(2)  # (N, width, places)
        h = self.places(h).view(x.shape).contiguous(memory_format=torch.channels_last)
        return x + self.leave(h)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that gives 0 at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
