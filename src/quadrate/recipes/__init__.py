"""Recipes: one function an experiment; each returns plain configuration."""

from quadrate.config import Recipe
from quadrate.errors import QuadrateError
from quadrate.recipes.demo import demo
from quadrate.recipes.published import RATE_3x3, rdc_mnist, rdp_mnist, refine_mnist, restore_mnist, urdc_mnist
from quadrate.recipes.zoo import zoo_mnist

RECIPES = {recipe.__name__.replace("_", "-"): recipe for recipe in (demo, rdc_mnist, rdp_mnist, urdc_mnist, refine_mnist, restore_mnist, zoo_mnist)}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        QuadrateError: If there is none.
    """
    if name not in RECIPES:
        raise QuadrateError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]()


__all__ = ["RATE_3x3", "RECIPES", "demo", "find_recipe", "rdc_mnist", "rdp_mnist", "refine_mnist", "restore_mnist", "urdc_mnist", "zoo_mnist"]
