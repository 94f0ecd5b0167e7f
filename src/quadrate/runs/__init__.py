"""Run folders: a recipe at work on its data; trade-offs (`Run`), and recipes whose points stand alone (`PointRun`)."""

from quadrate.runs.run import Run, machine, read_results, to_csv

# Runs of other kinds, and what tells them apart (`quadrate.runs.kinds`), are imported from their own modules.
__all__ = ["Run", "machine", "read_results", "to_csv"]
