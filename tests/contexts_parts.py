"""Latents that depend on each other, and what they cost."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from quadrate.bottlenecks.contexts import (
    DITHER_BITS,
    ContextModel,
)

CELL = 1 << DITHER_BITS


def arrays(**changes: object) -> dict[str, np.ndarray]:
    """Those of a model of levels (3, 2).

    A leaf for the first dimension, a split on it for the second, two bins of the dither.
    """
    parts = {
        "cuts": np.array([[CELL // 2], [CELL // 4]], dtype=np.int32),
        "roots": np.array([0, 1], dtype=np.int32),
        "nodes": np.array(
            [[-1, 0, 0, 0], [0, 1 << 16, 2, 3], [-1, 1, 0, 0], [-1, 2, 0, 0]], dtype=np.int32
        ),
        "frequencies": np.array(
            [
                [40000, 25000, 536],
                [1, 2, 65533],
                *([k, 65536 - k, 0] for k in (100, 1, 30000, 65535)),
            ],
            dtype=np.uint16,
        ),
    }
    return parts | changes


def model(**changes: object) -> ContextModel:
    return ContextModel.from_arrays(arrays(**changes), 0, (3, 2))


# --- what symbols cost ---


@dataclass(frozen=True)
class Clusters:
    """Latents of a known law.

    Clusters, in each of which dimensions are apart and uniform on intervals; cut off at ±1, which
    makes atoms.

    Attributes:
        weights: (c,).
        low: (c, d).
        high: (c, d).
        levels: (d,).
    """

    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    levels: tuple[int, ...]

    def draw(self, count: int, seed: int) -> np.ndarray:
        draw = np.random.default_rng(seed)
        cluster = draw.choice(len(self.weights), count, p=self.weights)
        return np.clip(draw.uniform(self.low[cluster], self.high[cluster]), -1, 1).astype(
            np.float32
        )

    def law(self, dither: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All vectors of symbols (s, d), with probabilities (u, s) under dithers (u, d)."""
        vectors = np.array(list(itertools.product(*map(range, self.levels))))
        joint = self.weights[:, None, None]
        for i, level in enumerate(self.levels):
            edges = (
                np.arange(level + 1) - dither[:, i, None]
            )  # symbol k if the latent is within [k, k + 1) less dither
            value = edges * 2 / (level - 1) - 1
            below = (value[None] - self.low[:, None, None, i]) / (self.high - self.low)[
                :, None, None, i
            ]
            below = np.where(
                value > 1, 1, np.where(value <= -1, 0, np.clip(below, 0, 1))
            )  # (c, u, level + 1)
            joint = joint * np.diff(below)[:, :, vectors[:, i]]
        return vectors, joint.sum(axis=0)


def quantized(latents: np.ndarray, levels: tuple[int, ...], dither: np.ndarray) -> np.ndarray:
    positions = (latents.astype(np.float64) + 1) / 2 * (np.array(levels) - 1)
    return np.floor(positions + dither / CELL).astype(np.int64)


def random_clusters(
    count: int, levels: tuple[int, ...], seed: int, spread: float = 0.25
) -> Clusters:
    draw = np.random.default_rng(seed)
    middle = draw.uniform(-1.1, 1.1, (count, len(levels)))
    half = draw.uniform(0.02, spread, middle.shape)
    return Clusters(draw.dirichlet(np.full(count, 3)), middle - half, middle + half, levels)


CASES = {
    "clusters": random_clusters(10, (3, 4, 5), 1),
    "two levels": random_clusters(6, (2, 2, 2, 2), 2),
    "atoms": Clusters(
        np.array([0.3, 0.3, 0.4]),
        np.array([[-3, 1, -1.0], [1, -3, -0.5], [-0.4, -0.4, -3]]),
        np.array([[-1, 3, 3.0], [3, -1, 0.5], [0.4, 0.4, 9]]),
        (3, 3, 4),
    ),
    "independent": Clusters(
        np.ones(1), np.array([[-1.3, -0.7, -1]]), np.array([[0.4, 0.9, 1.5]]), (3, 5, 4)
    ),
}
