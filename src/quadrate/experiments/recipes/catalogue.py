"""Every experiment by name.

Which paper and figure, on which data, what it cost where it was run, and whether there are results.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from quadrate.config import Recipe
from quadrate.experiments.recipes.contour_recipe import rdpc_contours
from quadrate.experiments.recipes.demo_recipe import demo
from quadrate.experiments.recipes.feature_recipes import cifar_features, lossyless_clip
from quadrate.experiments.recipes.lossless_prediction import (
    banana_rotation,
    banana_x_translation,
    banana_y_translation,
    group_exact,
    mnist_invariant_bince,
    mnist_invariant_less,
    mnist_invariant_sup,
    mnist_invariant_vc,
    mnist_invariant_vic,
)
from quadrate.experiments.recipes.rdpc import (
    large_rate_mnist,
    rdc_mnist,
    rdc_svhn,
    rdpc_mnist,
    rdpc_svhn,
    restore_mnist,
    rpc_mnist,
)
from quadrate.experiments.recipes.settings import Grid
from quadrate.experiments.recipes.urdc import urdc_mnist, urdc_mnist_6bit, urdc_mnist_rates
from quadrate.experiments.recipes.urdp import rdp_mnist, rdp_svhn, refine_mnist, refine_svhn
from quadrate.experiments.recipes.zoo_recipe import zoo_mnist

OWN = "Quadrate"
URDP = "uRDP, Zhang et al. 2021"
RDPC = "RDPC, Wang et al. 2025"
URDC = "URDC, Nguyen et al. 2025"
LOSSLESS = "lossyless, Dubois et al. 2021"
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


def grids_of(recipe: Callable[..., Any]) -> tuple[Grid, ...]:
    """The grids that a function which returns a recipe has, thin first."""
    return get_args(Grid) if "grid" in inspect.signature(recipe).parameters else ("thin",)


@dataclass(frozen=True)
class Experiment:
    """One line of the catalogue.

    Attributes:
        name: The recipe's name.
        paper: Whose experiment it is.
        figures: Where the paper shows it.
        data: Its data set.
        recipe: The function that returns its configuration, of a grid where it has several: with
            `stages`, as a `Recipe`, or with `points`.
        cpu_minutes: What training the thin grid took of one core (results/NAME); None where the
            repository has no results of it.
        results: Which results the project's repository has of it, where that is not all or nothing.
    """

    name: str
    paper: str
    figures: str
    data: str
    recipe: Callable[..., Any]
    cpu_minutes: float | None = None
    results: str = ""

    @property
    def committed(self) -> str:
        """Whether the project's repository has results of it, in results/NAME."""
        return "yes" if self.cpu_minutes is not None else self.results or "no"

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids it has, thin first."""
        return grids_of(self.recipe)

    def points(self, grid: Grid) -> int | None:
        """How many points a grid has; None where there is no such grid."""
        if grid not in self.grids:
            return None
        made = self.recipe(grid=grid) if len(self.grids) > 1 else self.recipe()
        return (
            sum(len(stage.points) for stage in made.stages)
            if isinstance(made, Recipe)
            else len(made.points)
        )


TRADE_OFFS = (
    Experiment("demo", OWN, "the whole way in minutes", "digits", demo),
    Experiment("zoo-mnist", OWN, "the codecs in the package", "mnist", zoo_mnist, 10.2),
    Experiment("rdp-mnist", URDP, "Fig. 4a; URDC, Fig. 5", "mnist", rdp_mnist, 14.0),
    Experiment("rdp-svhn", URDP, "Fig. 4c", "svhn", rdp_svhn),
    Experiment("refine-mnist", URDP, "Fig. 6a", "mnist", refine_mnist, 5.3),
    Experiment("refine-svhn", URDP, "Fig. 6c", "svhn", refine_svhn),
    Experiment("rdc-mnist", RDPC, "Fig. 9a", "mnist", rdc_mnist, 68.0),
    Experiment("rdc-svhn", RDPC, "its weights; no figure", "svhn", rdc_svhn, results="on cifar-10"),
    Experiment("rpc-mnist", RDPC, "Fig. 9b", "mnist", rpc_mnist, 36.9),
    Experiment("rdpc-mnist", RDPC, "Figs. 10a, 11a", "mnist", rdpc_mnist, 34.3),
    Experiment("rdpc-svhn", RDPC, "Figs. 10b, 11b", "svhn", rdpc_svhn),
    Experiment("large-rate-mnist", RDPC, "insets, 12544 bits", "mnist", large_rate_mnist, 39.4),
    Experiment("restore-mnist", RDPC, "source noise", "mnist", restore_mnist, 16.9),
    Experiment("urdc-mnist", URDC, "Fig. 6", "mnist", urdc_mnist, 23.0),
    Experiment("urdc-mnist-6bit", URDC, "Fig. 6, at 6 bits", "mnist", urdc_mnist_6bit, 23.8),
    Experiment("urdc-mnist-rates", URDC, "Fig. 4; poster", "mnist", urdc_mnist_rates),
)
"""The experiments whose recipe is a `Recipe`."""

LOSSLESS_PREDICTION = (
    Experiment("banana-rotation", LOSSLESS, "banana", "fresh samples", banana_rotation, 13.5),
    Experiment(
        "banana-x-translation", LOSSLESS, "banana", "fresh samples", banana_x_translation, 3.1
    ),
    Experiment(
        "banana-y-translation", LOSSLESS, "banana", "fresh samples", banana_y_translation, 3.1
    ),
    Experiment("group-exact", LOSSLESS, "its theorem", "fresh samples", group_exact, 6.4),
    Experiment(
        "mnist-invariant-vic", LOSSLESS, "augmented MNIST", "mnist", mnist_invariant_vic, 40.9
    ),
    Experiment("mnist-invariant-vc", LOSSLESS, "augmented MNIST", "mnist", mnist_invariant_vc, 6.7),
    Experiment(
        "mnist-invariant-bince", LOSSLESS, "augmented MNIST", "mnist", mnist_invariant_bince, 20.4
    ),
    Experiment(
        "mnist-invariant-less", LOSSLESS, "choice of augmentation", "mnist", mnist_invariant_less
    ),
    Experiment(
        "mnist-invariant-sup", LOSSLESS, "choice of augmentation", "mnist", mnist_invariant_sup
    ),
    Experiment(
        "cifar-features", LOSSLESS, "its table, another backbone", "cifar-10", cifar_features, 0.0
    ),
    Experiment(
        "lossyless-clip", LOSSLESS, "its published bottlenecks", "lossyless", lossyless_clip, 0.0
    ),
)
"""The experiments of invariant compressors and of features."""

THEORY = (Experiment("rdpc-contours", RDPC, "theory figure", "closed form", rdpc_contours, 0.0),)
"""What is computed, and trains nothing."""

_PAPERS = (OWN, URDP, RDPC, URDC, LOSSLESS)
CATALOGUE: tuple[Experiment, ...] = tuple(
    sorted(
        (*TRADE_OFFS, *THEORY, *LOSSLESS_PREDICTION),
        key=lambda experiment: (
            _PAPERS.index(experiment.paper) if experiment.paper in _PAPERS else len(_PAPERS)
        ),
    )
)
"""All experiments, by paper; those of no paper named here stand last."""


def name_on(name: str, source: str) -> str:
    """The name of a recipe on other data than its own.

    It begins with theirs, in characters that are fit for a folder.
    """
    data = re.sub(r"[^\w. -]", "-", Path(source).name).strip(". ")
    return f"{data}-{name}"


def published_name(name: str, source: str) -> str:
    """The name in the catalogue of a recipe, which on other data than the paper's begins with theirs."""
    known = {experiment.name for experiment in CATALOGUE}
    other = name.removeprefix(name_on("", source))
    return other if name not in known and other in known else name
