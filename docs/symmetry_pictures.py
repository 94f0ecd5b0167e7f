"""Draws the pictures of docs/symmetry.md.

`python docs/symmetry_pictures.py`, from the root of the repository; it reads MNIST and CIFAR-10.
"""

from pathlib import Path

import torch

from quadrate.core import draws
from quadrate.experiments.reports.grids import mosaic, save_grid
from quadrate.experiments.reports.panels import COLOURS, new_figure, save_figure
from quadrate.sources import load_source
from quadrate.sources.symmetry import (
    Banana,
    OrbitSet,
    cyclic_patterns,
    dihedral_patterns,
    multisets,
    orbit_splits,
)

DOCS = Path(__file__).parent
COLUMNS = 12


def banana() -> None:
    """Draw a cloud of points, the orbits of four of them, and their representatives."""
    figure, ((*axes,),) = new_figure(1, 3, 3.6, 3.6)
    for axis, invariance in zip(axes, ("rotation", "y_translation", "x_translation"), strict=True):
        group = Banana(invariance)
        points = group.sample(2000, "picture")
        axis.scatter(*points.T, s=2, color="#bbbbbb")
        chosen = points[group.invariant(points).argsort()[[100, 700, 1300, 1900]]]
        for colour, point in zip(COLOURS, chosen, strict=False):
            members = group.sample_orbit(
                point.expand(150, 2), draws.generator("picture", invariance)
            )
            axis.scatter(*members.T, s=3, color=colour)
            axis.scatter(*point, s=90, marker="*", color=colour, edgecolor="black")
            axis.scatter(
                *group.representative(point[None])[0],
                s=60,
                marker="s",
                facecolor="none",
                edgecolor=colour,
                linewidth=2,
            )
        axis.set(title=invariance, xlim=(-10, 10), ylim=(-10, 10), aspect="equal")
    save_figure(figure, DOCS / "symmetry-banana.png")


def patterns() -> None:
    """A row an orbit: a pattern, its representative, members."""
    groups = {
        "D4 on 4x4": (dihedral_patterns(4), 6, (4, 4)),
        "cyclic shifts": (cyclic_patterns(12), 1, (4, 12)),
        "permutations": (multisets(12), 1, (4, 12)),
    }
    figure, ((*axes,),) = new_figure(1, 3, 3.8, 3.0)
    for axis, (title, (group, members, size)) in zip(axes, groups.items(), strict=True):
        x = group.sample(6, "picture", 2)
        generator = draws.generator("picture", title)
        columns = [
            x,
            group.representative(x),
            *(group.sample_orbit(x, generator) for _ in range(members)),
        ]
        cells = (
            torch.stack(columns, dim=1)
            .float()
            .reshape(6, len(columns), 1, -1, size[1])
            .expand(-1, -1, -1, *size)
        )  # rows of beads thickened
        axis.imshow(mosaic(list(cells)))
        axis.set(title=title, xticks=[], yticks=[])
        axis.grid(visible=False)
    save_figure(figure, DOCS / "symmetry-patterns.png")


def rows_of(orbits: OrbitSet, members: int) -> list[torch.Tensor]:
    """The representatives of the first samples, and rows of members."""
    indices = torch.arange(COLUMNS)
    generator = draws.generator("picture", "images")
    return [
        orbits.representatives(indices),
        *(orbits.sample_orbit(indices, generator) for _ in range(members)),
    ]


def images() -> None:
    """Representatives, with members below."""
    digits, photographs = load_source("mnist"), load_source("cifar-10")
    plain = (
        rows_of(orbit_splits(digits, "mnist-aug").test, 3)
        + rows_of(orbit_splits(digits, "mnist-less").test, 3)[1:]
    )
    save_grid(
        DOCS / "symmetry-mnist.png",
        plain + rows_of(orbit_splits(digits, "mnist-aug", by_label=True).test, 3),
    )
    save_grid(DOCS / "symmetry-cifar.png", rows_of(orbit_splits(photographs, "cifar").test, 5))


if __name__ == "__main__":
    banana()
    patterns()
    images()
