"""Reports: tables, figures, sample grids, and the findings as numbers; all from the rows that `quadrate.runs.Run.results` returns."""

from quadrate.reports.analysis import against_published_front, perception_price, refinement, universal_penalty, urdc_finding
from quadrate.reports.figures import demo_figure, plot_run, plot_runs
from quadrate.reports.findings import findings_markdown
from quadrate.reports.grids import save_grid
from quadrate.reports.published import published_fig9a
from quadrate.reports.summary import mean_over_seeds
from quadrate.reports.tables import markdown_table, results_table
from quadrate.reports.tradeoffs import restoration

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
