"""Small sources and random images."""

import numpy as np


def random_images(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 10, shape[0])


# --- CIFAR-10 ---

TRAIN, TEST = random_images((15, 3, 32, 32), 1), random_images((4, 3, 32, 32), 2)


COLOUR, _ = random_images((12, 3, 5, 6))
