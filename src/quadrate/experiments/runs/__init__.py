"""Run folders: a recipe at work on its data.

Trade-offs (`Run`), and recipes whose points stand alone (`PointRun`).
"""

from quadrate.experiments.runs.run import Run, read_results
from quadrate.experiments.runs.run_folder import machine, to_csv

# Runs of other kinds, and what tells them apart (`quadrate.experiments.runs.kinds`), are imported
# from their own modules.
__all__ = ["Run", "machine", "read_results", "to_csv"]
