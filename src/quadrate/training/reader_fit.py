"""Trains networks that read the base of photographs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from quadrate.core import draws
from quadrate.core.progress import Report
from quadrate.networks.latent_reader import LatentReader
from quadrate.photo_config import ReaderConfig
from quadrate.training.loop import Descent, one_cycle, run, shares

_SHIFT = 2  # sites by which training photographs are moved, at most


def fit_reader(
    config: ReaderConfig,
    base: Tensor,
    wanted: Tensor,
    outputs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    mirror: Tensor,
    seed: int,
    report: Report,
) -> LatentReader:
    """Train a network to read something from the base of photographs.

    They are shown moved by up to two sites, and half of them mirrored, which needs no pixels: the
    coefficients of a mirrored block are a linear function of the block's own.

    Args:
        config: The settings.
        base: Grids, float (n, c, 16, 16), as `quadrate.networks.latent_reader.on_a_grid` gives.
        wanted: What shall be read: labels (n,), or numbers (n, outputs).
        outputs: How many numbers the network gives.
        loss: Of its outputs and what is wanted.
        mirror: (c, c), by which the coefficients of a block become those of the mirrored one.
        seed: Of weights, batches and changes.
        report: Is told of the progress.
    """
    mean, std = base.mean((0, 2, 3)), base.std((0, 2, 3))
    network = draws.build_with_seed(
        lambda: LatentReader(base.shape[1], outputs, config.width, mean, std),
        draws.key(seed, "reader"),
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    batch = min(config.batch, len(base))
    steps = len(base) // batch
    total = config.epochs * steps
    descent = Descent(
        optimizer,
        shares(optimizer, lambda step: one_cycle(step / total, 0.1)),
        list(network.parameters()),
    )

    def epoch(number: int) -> None:
        network.train()
        order = draws.permutation("reader", seed, number, n=len(base))
        generator = draws.generator("reader's changes", seed, number)
        mean_loss = 0.0
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            seen = _changed(base[rows], mirror, generator)
            value = loss(network(seen), wanted[rows])
            descent.step(number * steps + step, value)
            mean_loss += float(value.detach()) / steps
        report({"stage": "reader", "epoch": number + 1, "epochs": config.epochs, "loss": mean_loss})

    run(epoch, config.epochs)
    return network.eval().requires_grad_(False)


def _changed(base: Tensor, mirror: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the grids mirrored, and all moved by the same few sites."""
    half = torch.rand(len(base), 1, 1, 1, generator=generator) < 0.5
    seen = torch.where(half, torch.einsum("dc,nchw->ndhw", mirror, base).flip(3), base)
    top, left = torch.randint(2 * _SHIFT + 1, (2,), generator=generator).tolist()
    height, width = base.shape[2:]
    around = pad(seen, (_SHIFT,) * 4, mode="replicate")
    return around[:, :, top : top + height, left : left + width]
