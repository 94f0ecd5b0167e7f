"""Run folders: a recipe of any kind at work on its data."""

from quadrate.experiments.runs.kinds import KINDS, find_kind, kind_of, read_recipe, read_results
from quadrate.experiments.runs.run import Run
from quadrate.experiments.runs.run_folder import machine, naming, to_csv

__all__ = [
    "KINDS",
    "Run",
    "find_kind",
    "kind_of",
    "machine",
    "naming",
    "read_recipe",
    "read_results",
    "to_csv",
]
