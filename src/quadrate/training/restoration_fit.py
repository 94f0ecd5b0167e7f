"""Fits restoration networks to decoded photographs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from quadrate.core import draws
from quadrate.core.progress import Report
from quadrate.networks.restoration import Restoration
from quadrate.photo_config import RestorationConfig
from quadrate.training.loop import Descent, one_cycle, run, shares

_BLOCK = 16


def fit_restoration(
    config: RestorationConfig,
    decoded: Tensor,
    originals: Tensor,
    steps: Tensor,
    seed: int,
    report: Report,
) -> Restoration:
    """Train a network to bring decoded photographs nearer to their originals.

    The loss is the squared error of each crop over its squared step, so that all rates count.

    Args:
        config: The settings.
        decoded: Float (n, 3, H, W), 0 to 255, in whole blocks.
        originals: uint8, of the same shape.
        steps: (n,), with which each was coded.
        seed: Of weights and crops.
        report: Is told of the progress.
    """
    network = draws.build_with_seed(
        lambda: Restoration(config.width), draws.key(seed, "restoration")
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    total = config.steps
    descent = Descent(
        optimizer,
        shares(optimizer, lambda step: one_cycle(step / total, 0.05)),
        list(network.parameters()),
    )
    blocks = decoded.shape[2] // _BLOCK, decoded.shape[3] // _BLOCK
    inside = config.crop // _BLOCK
    before, after = 0.0, 0.0

    def advance(step: int) -> None:
        nonlocal before, after
        generator = draws.generator(seed, "restored crops", step)
        rows = torch.randint(len(decoded), (config.batch,), generator=generator)
        corners = [
            torch.randint(size - inside + 1, (config.batch,), generator=generator) * _BLOCK
            for size in blocks
        ]
        parts = [
            (row, slice(None), slice(top, top + config.crop), slice(left, left + config.crop))
            for row, top, left in zip(rows.tolist(), *(c.tolist() for c in corners), strict=True)
        ]
        given = torch.stack([decoded[part] for part in parts]).float()
        wanted = torch.stack([originals[part] for part in parts]).float()
        unit = steps[rows].float()
        restored = network(given, unit)
        scale = unit.view(-1, 1, 1, 1)
        loss = mse_loss(restored / scale, wanted / scale)
        descent.step(step, loss)
        before += float(mse_loss(given / scale, wanted / scale))
        after += float(loss.detach())
        if step % 50 == 49:
            share = after / before
            message = {"stage": "restoration", "point": "faithful", "step": step + 1}
            report(message | {"steps": total, "share_of_squared_error": share})
            before, after = 0.0, 0.0

    run(advance, total)
    return network.eval().requires_grad_(False)
