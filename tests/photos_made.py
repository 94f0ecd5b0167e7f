"""A small codec of photographs, fitted in seconds, and pictures for it."""

from functools import cache

import numpy as np

from quadrate.codecs import PhotoCodec
from quadrate.networks.block_transform import BlockTransform
from quadrate.networks.restoration import Restoration
from quadrate.photo_config import CheckerboardConfig
from quadrate.training.checkerboard_fit import CheckerboardFit

ENDS = (3, 12, 28)


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth colours with some edges and grain, uint8 (C, H, W)."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    waves = [
        np.sin(draw.normal() * x + draw.normal() * y + draw.uniform(0, 6)) for _ in range(channels)
    ]
    edge = 40 * (draw.normal() * x + draw.normal() * y > draw.normal())
    grain = draw.normal(scale=3, size=(channels, height, width))
    return (128 + 60 * np.stack(waves) + edge + grain).clip(0, 255).astype(np.uint8)


@cache
def codec() -> PhotoCodec:
    """Channels of three groups; the decoder adds nothing yet."""
    pictures = [picture(96, 128, seed=seed) for seed in range(8)]
    transform = BlockTransform.fit(pictures, ENDS[-1])

    def maps(number: int):
        for seed, photograph in enumerate(pictures):
            exponent = 64 + (97 * seed + 31 * number) % 320
            yield transform.forward(photograph) / np.float32(2 ** (exponent / 64)), exponent

    config = CheckerboardConfig(
        ends=ENDS, hidden=(4, 4, 4), predicted=3, rounds=1, steps=40, batch=64
    )
    model = CheckerboardFit(config, maps, 0, lambda message: None).run()
    return PhotoCodec(transform, model, {"faithful": Restoration(4), "plain": Restoration(4)})
