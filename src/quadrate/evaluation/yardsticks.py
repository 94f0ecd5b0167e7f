"""The small networks that scoring trains, and their training.

They are separate from `quadrate.networks` and the codecs' trainer: a better codec network or
optimizer must not change the scores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from quadrate.core import draws
from quadrate.sources.source import pixels
from quadrate.training.loop import Descent, run, scheduled


def fully_connected(
    widths: Sequence[int], slope: float, *key: object, device: torch.device
) -> nn.Sequential:
    """Linear layers with LeakyReLU between them, on flattened images.

    Initial weights are U(-1, 1)/√fan-in under the key, PyTorch's usual law.

    Args:
        widths: Inputs, hidden widths and outputs.
        slope: LeakyReLU's slope below 0; 0 for a ReLU.
        key: Key of the draw; see `quadrate.core.draws`.
        device: Device of the network.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        if number:
            layers.append(nn.LeakyReLU(slope))
        # On "meta" first, since the usual constructor draws from the global generator.
        linear = nn.Linear(inputs, outputs, device="meta").to_empty(device=device)
        with torch.no_grad():
            for name, parameter in linear.named_parameters():
                u = draws.uniform(*key, number, name, shape=tuple(parameter.shape))
                parameter.copy_((2 * u - 1) * inputs**-0.5)
        layers.append(linear)
    return nn.Sequential(*layers)


def minimize(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    learning_rate: float,
    betas: tuple[float, float],
) -> None:
    """Train a module in place by Adam, then freeze it; the learning rate falls linearly to 0.

    Args:
        module: What is trained.
        loss: From the number of a step to its loss, a scalar.
        steps: How many steps.
        learning_rate: Of the first step.
        betas: Adam's decay rates.
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate, betas=betas)
    descend(optimizer, loss, steps)
    module.eval().requires_grad_(False)


def descend(optimizer: torch.optim.Optimizer, loss: Callable[[int], Tensor], steps: int) -> None:
    """Take steps down the losses that a function gives; learning rates fall linearly to 0."""
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    descent = Descent(optimizer, scheduled(falling))
    run(lambda step: descent.step(step, loss(step)), steps)


def batches(count: int, steps: int, batch: int, *key: object, device: torch.device) -> Tensor:
    """Indices of the images of each step, drawn with replacement: int64 (steps, batch)."""
    # In double precision, because count·u must not be rounded up to count.
    words = draws.uniform(*key, shape=(steps, batch)).double()
    return (words * count).long().to(device)


def as_pixels(images: Tensor) -> Tensor:
    """Clean images (uint8) or reconstructions (float32), as float32 in [0, 1]."""
    return pixels(images) if images.dtype == torch.uint8 else images
