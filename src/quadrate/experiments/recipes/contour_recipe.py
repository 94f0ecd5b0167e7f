"""RDPC's theory figure: contours of rate functions in closed form (Wang et al. 2025).

Nothing is trained, and no data are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quadrate.core.fields import check_positive, check_recipe, make_plain
from quadrate.experiments.recipes.experiment import RDPC, experiment


@dataclass(frozen=True)
class Contour:
    """The contours of R(D, C) and R(P, C) at one rate.

    Attributes:
        rate: The rate, in nats a sample.
    """

    rate: float

    def __post_init__(self) -> None:
        make_plain(self, "a contour: ")
        check_positive(self, "rate")

    @property
    def key(self) -> str:
        """The name of the contour's files."""
        return f"rate{self.rate:g}"


@dataclass(frozen=True)
class ContourRecipe:
    """Contours of the rate functions of a scalar Gaussian source with a Gaussian label.

    Attributes:
        name: The recipe's name.
        title: What the experiment shows, in a line.
        points: The contours.
        variance: The source's variance.
        label_variance: The label's variance.
        correlation: The correlation of source and label.
    """

    kind: ClassVar = "contours"
    name: str
    title: str
    points: tuple[Contour, ...]
    variance: float = 1.0
    label_variance: float = 1.0
    correlation: float = 0.9

    def __post_init__(self) -> None:
        check_recipe(self)


@experiment(RDPC, "theory figure", "closed form", 0.0)
def rdpc_contours() -> ContourRecipe:
    """The paper's source and levels, read from its contours; in nats, though its axis says bits."""
    levels = tuple(Contour(round(0.3 * i, 1)) for i in range(1, 8))
    return ContourRecipe(
        "rdpc-contours",
        "contours of R(D, C) and R(P, C) of a Gaussian source (RDPC's theory figure)",
        levels,
        label_variance=0.5,
    )
