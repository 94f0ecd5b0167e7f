"""Published points that ours are held against; the facts travel with the package."""

from __future__ import annotations

import csv
from importlib import resources


def published_fig9a() -> list[dict[str, float]]:
    """RDPC on MNIST (Wang et al. 2025, Fig. 9a): `rate_bits`, `mse` per pixel and `accuracy` by the training classifier of 124 single runs.

    Recovered from the paper's vector figure, to about five digits of MSE and four of accuracy.
    """
    text = (resources.files("quadrate.reports") / "published_rdpc_fig9a.csv").read_text(encoding="utf-8")
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(text.splitlines())]
