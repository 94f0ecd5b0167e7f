"""Reading: what several classifiers read in pictures that are disturbed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.core import draws
from quadrate.core.shifts import moved
from quadrate.objectives.term import Batch

_SHIFT, _ERASED = 1 / 14, 1 / 4  # of a side, at most
_NOISE = 0.15  # standard deviation, on the [0, 1] scale
_OFTEN = 0.45  # how often pictures are blurred, noisy, or erased in a place
_BLURRED_FROM = 16  # pixels; a mean over 3x3 leaves little of smaller pictures


class Reading:
    """Cross-entropy, in nats, of the labels under frozen classifiers of disturbed pictures.

    A picture that one classifier reads need not be read by another. What several of different
    architectures read, moved, blurred, noisy and with a square erased, has what most classifiers
    look at, also those that took no part. The classifiers themselves learn from clean images.

    Args:
        readers: Images (N, C, H, W) to logits (N, classes). They are put in evaluation mode and
            frozen here.
        keys: For each of K models, what its draws depend on, beside the number of the step.
    """

    def __init__(self, readers: Sequence[nn.Module], keys: Sequence[tuple[object, ...]]) -> None:
        self.readers = [reader.eval().requires_grad_(False) for reader in readers]
        self.keys = list(keys)

    def __call__(self, batch: Batch) -> Tensor:
        """The mean over the classifiers, one number a model, (K,)."""
        losses = []
        for pictures, labels, key in zip(
            batch.reconstruction, batch.labels, self.keys, strict=True
        ):
            shown = disturbed(pictures, *key, "reading", batch.step)
            own = [F.cross_entropy(reader(shown).float(), labels) for reader in self.readers]
            losses.append(torch.stack(own).mean())
        return torch.stack(losses)


def disturbed(images: Tensor, *key: object) -> Tensor:
    """Images (N, C, H, W) moved by some pixels; at times blurred, noisy, or erased in a square.

    All of them alike but for the noise, as the draws under the key say.
    """
    height, width = images.shape[2:]
    down, right, blurs, noisy, erased, top, left = draws.uniform(*key, shape=(7,)).tolist()
    reach = [int(side * _SHIFT) for side in (height, width)]
    shift = [int(u * (2 * r + 1)) - r for u, r in zip((down, right), reach, strict=True)]
    images = moved(images[None], torch.tensor([shift]))[0]
    if blurs < _OFTEN and min(height, width) >= _BLURRED_FROM:
        images = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    if noisy < _OFTEN:
        generator = draws.generator(*key, "noise", device=images.device)
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        images = images + _NOISE * noise
    if erased < _OFTEN:
        sides = [max(1, round(side * _ERASED)) for side in (height, width)]
        y, x = int(top * (height - sides[0] + 1)), int(left * (width - sides[1] + 1))
        kept = torch.ones(height, width, device=images.device)
        kept[y : y + sides[0], x : x + sides[1]] = 0
        images = images * kept
    return images
