"""Reports of runs of photographs: quality against bits a pixel, as a figure and as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from quadrate.errors import QuadrateError
from quadrate.experiments.reports.panels import COLOURS, MARKERS, new_figure, save_figure
from quadrate.experiments.reports.summary import Row, require


def score_at(rows: Sequence[Row], way: str, bits_per_pixel: float, score: str = "psnr_db") -> float:
    """Interpolate a score of a way, PSNR in dB or another, linearly in log bits a pixel.

    Returns:
        NaN outside the rates that were scored.
    """
    rates, quality = _curve(rows, way, score)
    wanted = math.log(bits_per_pixel)
    return float(np.interp(wanted, rates, quality, left=math.nan, right=math.nan))


def bjontegaard_rate(rows: Sequence[Row], way: str, anchor: str) -> float:
    """Return by how much a way's rate differs from an anchor's at equal PSNR, on average.

    The mean difference of log rates over the PSNR that both reach, each interpolated by a monotone
    cubic (Bjøntegaard 2001, with the interpolation of JCTVC-L0136).

    Returns:
        A share: -0.1 is a tenth fewer bits.

    Raises:
        QuadrateError: If they have no PSNR in common.
    """
    curves = [_curve(rows, each) for each in (way, anchor)]
    low = max(float(quality[0]) for _, quality in curves)
    high = min(float(quality[-1]) for _, quality in curves)
    if not low < high:
        raise QuadrateError(f"{way} and {anchor} reach no PSNR in common")
    means = [
        float(PchipInterpolator(quality, rates).integrate(low, high)) / (high - low)
        for rates, quality in curves
    ]
    return math.expm1(means[0] - means[1])


def _curve(rows: Sequence[Row], way: str, score: str = "psnr_db") -> tuple[Any, Any]:
    """Logarithms of a way's rates, rising, and its scores."""
    own = [(row["bits_per_pixel"], row[score]) for row in rows if row["way"] == way]
    if len(own) < 2:
        raise QuadrateError(f"{way} is not scored at two rates")
    table = np.array(sorted(own))
    return np.log(table[:, 0]), table[:, 1]


def plot_rates(title: str, rows: Sequence[Row], path: Path) -> None:
    """Draw PSNR, MS-SSIM and, where it was scored, LPIPS of each way against bits a pixel.

    Args:
        title: The figure's title.
        rows: Scored points of a recipe of photographs.
        path: The picture.

    Raises:
        QuadrateError: If there is nothing to draw.
    """
    require(rows, "way", "bits_per_pixel", "psnr_db")
    columns = [("psnr_db", "PSNR (dB)"), ("ms_ssim", "MS-SSIM")]
    if any(row.get("lpips_alex") is not None for row in rows):
        columns.append(("lpips_alex", "LPIPS (AlexNet), less is better"))
    figure, (axes,) = new_figure(1, len(columns))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    for (column, label), ax in zip(columns, axes, strict=True):
        for number, way in enumerate(ways):
            own = [row for row in rows if row["way"] == way and row.get(column) is not None]
            own.sort(key=lambda row: row["bits_per_pixel"])
            ax.plot(
                [row["bits_per_pixel"] for row in own],
                [row[column] for row in own],
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                label=way,
                linewidth=2.2 if way.startswith("photo") else 1.2,
                markersize=4,
            )
        ax.set_xscale("log")
        ax.set_xlabel("bits a pixel, whole files")
        ax.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    save_figure(figure, path)
