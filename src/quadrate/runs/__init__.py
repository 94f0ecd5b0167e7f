"""Run folders: a recipe at work on its data; trade-offs (`Run`), and recipes whose points stand alone (`PointRun`)."""

from quadrate.runs.folder import machine, to_csv
from quadrate.runs.run import Run, read_results

# Runs of other kinds, and what tells them apart (`quadrate.runs.kinds`), are imported from their own modules.
__all__ = ["Run", "machine", "read_results", "to_csv"]
