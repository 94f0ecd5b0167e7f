"""What the catalogue says about a recipe, declared next to the function that returns it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from quadrate.config import Recipe
from quadrate.experiments.recipes.settings import Grid

OURS = "Quadrate"
URDP = "uRDP, Zhang et al. 2021"
RDPC = "RDPC, Wang et al. 2025"
URDC = "URDC, Nguyen et al. 2025"
LOSSLESS = "lossyless, Dubois et al. 2021"
YOURS = "your own"
PAPERS = (OURS, URDP, RDPC, URDC, LOSSLESS, YOURS)
CITATIONS = {
    URDP: (
        "Zhang, Qian, Chen and Khisti, Universal Rate-Distortion-Perception Representations for"
        " Lossy Compression (NeurIPS 2021, arXiv 2106.10311)"
    ),
    RDPC: "Wang et al. on rate, distortion, perception and classification (IEEE JSAC 2025)",
    URDC: (
        "Nguyen et al. on universal representations for distortion and classification (2025, arXiv"
        " 2504.13191 and 2504.09025)"
    ),
    LOSSLESS: (
        "Dubois, Bloem-Reddy, Ullrich and Maddison, Lossy Compression for Lossless Prediction"
        " (NeurIPS 2021)"
    ),
}
"""The papers in full."""

MakeRecipe = TypeVar("MakeRecipe", bound=Callable[..., Any])


@dataclass(frozen=True)
class Experiment:
    """One line of the catalogue.

    Attributes:
        name: The recipe's name.
        recipe: The function that returns the recipe, with an argument `grid` if it has both grids.
        paper: The paper whose experiment it is.
        figures: Where the paper shows it.
        data: The data set.
        cpu_minutes: CPU minutes of one core for training the quick grid (results/NAME); None if
            the repository has no results.
        results: Which results the repository has, if it is not all or nothing.
    """

    name: str
    recipe: Callable[..., Any]
    paper: str = YOURS
    figures: str = ""
    data: str = ""
    cpu_minutes: float | None = None
    results: str = ""

    @property
    def committed(self) -> str:
        """Whether the project's repository has results in results/NAME."""
        return "yes" if self.cpu_minutes is not None else self.results or "no"

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids of the recipe, quick first."""
        return grids_of(self.recipe)

    def points(self, grid: Grid) -> int | None:
        """The number of points of a grid; None if the recipe does not have that grid."""
        if grid not in self.grids:
            return None
        recipe = self.recipe(grid=grid) if len(self.grids) > 1 else self.recipe()
        parts = recipe.stages if isinstance(recipe, Recipe) else (recipe,)
        return sum(len(part.points) for part in parts)


def grids_of(make: Callable[..., Any]) -> tuple[Grid, ...]:
    """The grids of a function that returns a recipe, quick first."""
    return get_args(Grid) if "grid" in inspect.signature(make).parameters else ("quick",)


def experiment(
    paper: str, figures: str, data: str, cpu_minutes: float | None = None, results: str = ""
) -> Callable[[MakeRecipe], MakeRecipe]:
    """Decorate a function that returns a recipe with its line in the catalogue.

    The recipe is named like the function, with hyphens. The arguments are those of `Experiment`.
    """

    def describe(make: MakeRecipe) -> MakeRecipe:
        name = make.__name__.replace("_", "-")
        line = Experiment(name, make, paper, figures, data, cpu_minutes, results)
        make.experiment = line  # type: ignore[attr-defined]
        return make

    return describe
