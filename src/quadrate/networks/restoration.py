"""A small network that mends what coarse steps do to photographs of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle

from quadrate.errors import QuadrateError

CELL = 4  # pixels a side that the network sees as one site
_BLOCK_CELLS = 4  # cells a side of the blocks that were coded
_HIDDEN = 3  # convolutions between the first and the last
REACH = CELL * (_HIDDEN + 3)  # how many pixels away a pixel is looked at, at most


class Restoration(nn.Module):
    """Adds what is missing to decoded photographs.

    It sees pixels in units of the step, and what it adds is in steps, too, so that one network
    serves all rates; brightness as such it does not see. Convolutions run over cells of 4 x 4
    pixels, where they are cheap; a cell knows its place in the block of 16 x 16 that was coded.

    Args:
        width: Maps of the hidden layers.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        numbers = 3 * CELL * CELL
        self.first = nn.Conv2d(numbers + 3, width, 3, padding=1)
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(_HIDDEN))
        self.last = nn.Conv2d(width, numbers, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(width, _BLOCK_CELLS, _BLOCK_CELLS))
        self.by_step = nn.Linear(2, width)
        nn.init.zeros_(self.last.weight)  # so that training begins with what is decoded as it is
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.by_step.weight)

    def forward(self, pixels: Tensor, step: Tensor) -> Tensor:
        """Mend pixels (n, 3, H, W), 0 to 255, that were coded with steps (n,).

        H and W are multiples of 16, and begin with a block.

        Raises:
            QuadrateError: If they are not.
        """
        if pixels.shape[2] % (CELL * _BLOCK_CELLS) or pixels.shape[3] % (CELL * _BLOCK_CELLS):
            raise QuadrateError(
                f"restoration takes whole blocks of 16 x 16 pixels; got {tuple(pixels.shape)}"
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
        for layer in self.hidden:
            h = h + torch.relu(layer(h))
        return pixels + unit * pixel_shuffle(self.last(h), CELL)
