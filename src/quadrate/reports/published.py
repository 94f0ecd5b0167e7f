"""Published points that ours are held against; the facts travel with the package."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from importlib import resources


def published_fig9a() -> list[dict[str, float]]:
    """RDPC on MNIST (Wang et al. 2025, Fig. 9a): `rate_bits`, `mse` per pixel and `accuracy` by the training classifier of 124 single runs.

    Recovered from the paper's vector figure, to about five digits of MSE and four of accuracy.
    """
    text = (resources.files("quadrate.reports") / "published_rdpc_fig9a.csv").read_text(encoding="utf-8")
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(text.splitlines())]


def pareto_set(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (mse, accuracy) points that no other one beats or equals in both, by rising MSE and so by rising accuracy."""
    front: list[tuple[float, float]] = []
    for mse, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((mse, accuracy))
    return front
