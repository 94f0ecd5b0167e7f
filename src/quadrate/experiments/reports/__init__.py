"""Reports: tables, figures, sample grids, and the findings as numbers.

All from the rows that `quadrate.experiments.runs.Run.results` returns.
"""

from quadrate.experiments.reports.analysis import (
    against_published_front,
    perception_price,
    refinement,
    universal_penalty,
    urdc_finding,
)
from quadrate.experiments.reports.figures import demo_figure, plot_run, plot_runs
from quadrate.experiments.reports.findings import findings_markdown
from quadrate.experiments.reports.grids import save_grid
from quadrate.experiments.reports.published_points import published_fig9a
from quadrate.experiments.reports.result_tables import markdown_table, results_table
from quadrate.experiments.reports.summary import mean_over_seeds
from quadrate.experiments.reports.tradeoffs import restoration

__all__ = [
    "against_published_front",
    "demo_figure",
    "findings_markdown",
    "markdown_table",
    "mean_over_seeds",
    "perception_price",
    "plot_run",
    "plot_runs",
    "published_fig9a",
    "refinement",
    "restoration",
    "results_table",
    "save_grid",
    "universal_penalty",
    "urdc_finding",
]
