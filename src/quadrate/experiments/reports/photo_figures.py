"""Figures of runs of photographs: quality against bits a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quadrate.experiments.reports.panels import COLOURS, MARKERS, new_figure, save_figure
from quadrate.experiments.reports.summary import require


def plot_rates(title: str, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw PSNR and MS-SSIM of each way to store photographs against bits a pixel.

    Args:
        title: The figure's title.
        rows: Scored points of a recipe of photographs.
        path: The picture.

    Raises:
        QuadrateError: If there is nothing to draw.
    """
    require(rows, "way", "bits_per_pixel", "psnr_db")
    figure, (axes,) = new_figure(1, 2)
    columns = ("psnr_db", "PSNR (dB)"), ("ms_ssim", "MS-SSIM")
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
