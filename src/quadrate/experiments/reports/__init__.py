"""Reports: tables, figures and sample grids.

All from the rows that `quadrate.experiments.runs.Run.results` returns.
"""

from quadrate.experiments.reports.figures import demo_figure, plot_run, plot_runs
from quadrate.experiments.reports.grids import save_grid
from quadrate.experiments.reports.result_tables import results_table
from quadrate.experiments.reports.summary import mean_over_seeds

__all__ = [
    "demo_figure",
    "mean_over_seeds",
    "plot_run",
    "plot_runs",
    "results_table",
    "save_grid",
]
