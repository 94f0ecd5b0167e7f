"""The pictures of a run of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def draw_run(run: Any, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """Draw the results of a run into its folder; returns the pictures."""
    if run.recipe.kind == "invariant":
        from quadrate.experiments.reports.invariant_figures import draw_invariant_run

        return draw_invariant_run(run, rows)
    if run.recipe.kind == "contours":
        from quadrate.experiments.reports.theory_figures import contours_figure

        contours_figure(run.folder / "contours.png")
        return [run.folder / "contours.png"]
    if run.recipe.kind == "trade-off":
        from quadrate.experiments.reports.figures import plot_run

        plot_run(run.recipe.name, rows, run.folder / "trade-off.png")
        return [run.folder / "trade-off.png"]
    return []
