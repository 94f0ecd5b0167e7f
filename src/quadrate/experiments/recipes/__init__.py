"""Recipes: a function for each experiment; each returns plain configuration."""

from quadrate.experiments.recipes.catalogue import (
    RECIPES,
    catalogue,
    find_recipe,
    register_recipe,
)
from quadrate.experiments.recipes.changes import with_epochs, with_seeds
from quadrate.experiments.recipes.demo_recipe import demo
from quadrate.experiments.recipes.experiment import Experiment, experiment
from quadrate.experiments.recipes.settings import RDPC_JUDGE, Grid, RATE_3x3

__all__ = [
    "RATE_3x3",
    "RDPC_JUDGE",
    "RECIPES",
    "Experiment",
    "Grid",
    "catalogue",
    "demo",
    "experiment",
    "find_recipe",
    "register_recipe",
    "with_epochs",
    "with_seeds",
]
