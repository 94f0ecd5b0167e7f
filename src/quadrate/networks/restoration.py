"""A small network that mends what coarse steps do to photographs of any size."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle

from quadrate.errors import QuadrateError

CELL = 4  # pixels a side that the network sees as one site
_BLOCK_CELLS = 4  # cells a side of the blocks that were coded
_MOST_LAYERS = 64
_SEEN_BEFORE_NOISE = 1  # the hidden layer after which noise comes in


class Restoration(nn.Module):
    """Adds what is missing to decoded photographs.

    It sees pixels in units of the step, and what it adds is in steps, too, so that one network
    serves all rates; brightness as such it does not see. Convolutions run over cells of 4 x 4
    pixels, where they are cheap; a cell knows its place in the block of 16 x 16 that was coded.

    Args:
        width: Maps of the hidden layers.
        depth: Convolutions between the first and the last, at most 64; two at least with noise.
        noise: Maps of noise that it takes beside the pixels, as textures need some.

    Raises:
        QuadrateError: If there are too few or too many layers.
    """

    def __init__(self, width: int = 32, depth: int = 3, noise: int = 0) -> None:
        super().__init__()
        least = 1 + _SEEN_BEFORE_NOISE if noise else 0
        if not least <= depth <= _MOST_LAYERS:
            raise QuadrateError(
                f"a restoration has {least} to {_MOST_LAYERS} hidden layers; got {depth}"
            )
        self.width, self.depth, self.noise = width, depth, noise
        numbers = 3 * CELL * CELL
        self.first = nn.Conv2d(numbers + 3, width, 3, padding=1)
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(width, numbers, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(width, _BLOCK_CELLS, _BLOCK_CELLS))
        self.by_step = nn.Linear(2, width)
        if noise:
            self.by_noise = nn.Conv2d(noise, width, 1, bias=False)
            self.amount = nn.Conv2d(width, width, 1)  # of noise, at each place
            nn.init.zeros_(self.amount.weight)
            nn.init.zeros_(self.amount.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.last.weight)  # so that training begins with what is decoded as it is
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.by_step.weight)

    @classmethod
    def sizes(cls, state: Mapping[str, Tensor]) -> dict[str, int]:
        """Depth and noise of the network that a state dict is of."""
        by_noise = state.get("by_noise.weight")
        return {
            "depth": sum(name.startswith("hidden.") and name.endswith("weight") for name in state),
            "noise": 0 if by_noise is None or by_noise.ndim < 2 else by_noise.shape[1],
        }

    @property
    def reach(self) -> int:
        """How many pixels away a pixel is looked at, at most."""
        return CELL * (self.depth + 3)

    def forward(self, pixels: Tensor, step: Tensor, noise: Tensor | None = None) -> Tensor:
        """Mend pixels (n, 3, H, W), 0 to 255, that were coded with steps (n,).

        H and W are multiples of 16, and begin with a block.

        Args:
            pixels: As decoded.
            step: In gray levels.
            noise: Standard normal, (n, `noise`, H/4, W/4), for networks that take some.

        Raises:
            QuadrateError: If sides are no such multiples, or noise is missing or not wanted.
        """
        if pixels.shape[2] % (CELL * _BLOCK_CELLS) or pixels.shape[3] % (CELL * _BLOCK_CELLS):
            raise QuadrateError(
                f"restoration takes whole blocks of 16 x 16 pixels; got {tuple(pixels.shape)}"
            )
        if (noise is None) != (self.noise == 0):
            raise QuadrateError(
                f"this restoration takes {self.noise} maps of noise; got"
                f" {'none' if noise is None else tuple(noise.shape)}"
            )
        unit = step.view(-1, 1, 1, 1)
        means = avg_pool2d(pixels, CELL)  # (n, 3, H/4, W/4)
        details = pixels - interpolate(means, scale_factor=CELL)
        around = avg_pool2d(pad(means, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        seen = torch.cat([pixel_unshuffle(details, CELL), means - around], dim=1) / unit
        h = self.first(torch.asinh(seen))  # (n, width, H/4, W/4)
        rows, columns = h.shape[2] // _BLOCK_CELLS, h.shape[3] // _BLOCK_CELLS
        log = torch.log2(step) / 4
        h = h + self.place.repeat(1, rows, columns)
        h = h + self.by_step(torch.stack([log, log * log], dim=1))[:, :, None, None]
        h = torch.relu(h)
        for number, layer in enumerate(self.hidden):
            h = h + torch.relu(layer(h))
            if noise is not None and number == _SEEN_BEFORE_NOISE:
                h = h + self.by_noise(noise) * self.amount(h)
        return pixels + unit * pixel_shuffle(self.last(h), CELL)
