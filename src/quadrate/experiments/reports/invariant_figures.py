"""Figures of invariant runs.

Bits on disk against what is kept, quantization pictures of the banana, reconstructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quadrate.errors import QuadrateError
from quadrate.experiments.reports.panels import COLOURS, MARKERS, new_figure, save_figure
from quadrate.experiments.reports.summary import read_points, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from quadrate.codecs import InvariantCodec

Row = dict[str, Any]
LABELS = {"vic": "VIC", "vc": "VC", "bince": "BINCE"}
_STYLES = {"vic": 0, "vc": 1, "bince": 2}
_EXTENT = 7.0  # of the banana's pictures, either way

# Lossyless (Dubois et al. 2021), augmented MNIST, ResNet18 on reconstructions: rates in theory, and
# on disk.
PUBLISHED_MNIST = (
    ("VIC, published, in theory (1,736 on disk)", 47.3, 0.9715, "vic"),
    ("VC, published, in theory (1,767 on disk)", 178.0, 0.9731, "vc"),
)


def plot_tables(tables: Sequence[Path], path: Path) -> None:
    """Draw the results of several invariant runs on images as one figure.

    Args:
        tables: Their files results.csv.
        path: The picture.

    Raises:
        QuadrateError: If a file is not such a table.
    """
    rows: list[Row] = []
    for table in tables:
        rows += (own := read_points(table))
        if not {"objective", "augmentation"} <= own[0].keys():
            raise QuadrateError(
                f"{table.parent} has no accuracy against bits to draw; `quadrate evaluate` draws"
                " its own pictures"
            )
    require(
        rows,
        "objective",
        "beta",
        "steps",
        "disk_bits",
        "augmentation",
        "predictor_augmentation",
        "accuracy_latents",
    )
    draw_accuracy(rows, path)


def reconstructing(codec: InvariantCodec) -> Callable[[Tensor], Tensor]:
    """What takes samples through a codec's symbols and back."""
    return lambda members: codec.reconstruct(codec.dequantize(codec.encode(members)))


def draw_banana(rows: Sequence[Row], invariance: str, path: Path) -> None:
    """Bits on disk against the MSE of the representative, with two bounds.

    The bounds are the entropy-coded scalar quantizer of M and Shannon's lower bounds.

    Args:
        rows: Scored points of a recipe `banana-*`.
        invariance: "rotation", "x_translation" or "y_translation".
        path: The picture.
    """
    from quadrate.theory import banana

    figure, ((axis,),) = new_figure(1, 1, 6.5, 4.5)
    # M is one of the representative's two coordinates, or both of them /√2: the mean over
    # coordinates halves its error.
    weights = np.geomspace(0.005, 0.9, 30)
    best = banana.best_quantizer
    points = [best(invariance, float(weight)) for weight in weights]  # type: ignore[arg-type]
    axis.plot(
        [p.mse / 2 for p in points],
        [p.rate for p in points],
        color=COLOURS[2],
        label="entropy-coded scalar quantizer of M",
    )
    grid = np.geomspace(0.002, 0.6, 60)
    axis.plot(
        grid,
        banana.shannon_lower_bound(invariance, 2 * grid),  # type: ignore[arg-type]
        "--",
        color=COLOURS[6],
        label="Shannon lower bound, M",
    )
    if any(row["objective"] == "vc" for row in rows):
        axis.plot(
            grid,
            banana.shannon_lower_bound("none", grid),
            ":",
            color=COLOURS[6],
            label="Shannon lower bound, x",
        )
    _scatter(axis, rows, "distortion", "disk_bits")
    axis.set_xscale("log")
    axis.set_xlabel("MSE, mean of the two coordinates")
    axis.set_ylabel("bits a sample on disk")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    save_figure(figure, path)


def draw_accuracy(rows: Sequence[Row], path: Path) -> None:
    """Accuracy of predictors against bits on disk, on augmented images.

    Predictors of reconstructions on the left, of latents on the right.
    """
    figure, ((left, right),) = new_figure(1, 2, 5.2, 4.8)
    own = [row for row in rows if row["predictor_augmentation"] == row["augmentation"]]
    for axis, kind in ((left, "reconstructions"), (right, "latents")):
        _scatter(
            axis,
            [row for row in own if row.get(f"accuracy_{kind}") not in (None, "")],
            "disk_bits",
            f"accuracy_{kind}",
        )
        if kind == "reconstructions":
            for label, bits, accuracy, objective in PUBLISHED_MNIST:
                style: dict[str, Any] = {
                    "mfc": "none",
                    "mec": COLOURS[_STYLES[objective]],
                    "ls": "none",
                    "marker": MARKERS[_STYLES[objective]],
                }
                axis.plot([bits], [accuracy], label=label, **style)
        axis.set_xscale("log")
        for each in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            each(
                lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else ""
            )  # not 90 next to 100
        axis.set_xlabel("bits an image")
        axis.set_ylabel(f"accuracy of a predictor on {kind}")
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    save_figure(figure, path)


def _scatter(axis: Axes, rows: Sequence[Row], x: str, y: str) -> None:
    """All seeds as points, and their means by beta along a line.

    Codecs that were trained longer than others are a curve of their own.
    """
    for objective, style in _STYLES.items():
        lengths = sorted(
            {int(row["steps"]) for row in rows if row["objective"] == objective}, reverse=True
        )
        for i, steps in enumerate(lengths):
            own = [
                row for row in rows if row["objective"] == objective and int(row["steps"]) == steps
            ]
            betas = sorted({float(row["beta"]) for row in own})
            means = [
                [
                    float(np.mean([float(row[name]) for row in own if float(row["beta"]) == beta]))
                    for beta in betas
                ]
                for name in (x, y)
            ]
            axis.plot(*means, color=COLOURS[style], lw=1, alpha=0.6)
            points = [[float(row[name]) for row in own] for name in (x, y)]
            label = f"{LABELS[objective]}, on disk" + (
                f", {steps:,} steps" if len(lengths) > 1 else ""
            )
            axis.plot(
                *points,
                ls="none",
                marker=MARKERS[style],
                color=COLOURS[style],
                alpha=1 if i == 0 else 0.45,
                label=label,
            )


def draw_quantization(
    codecs: Sequence[tuple[str, InvariantCodec]], samples: Tensor, originals: Tensor, path: Path
) -> None:
    """The cells of codes in the plane, with samples of the source.

    A colour for each code, and a star for its reconstruction.

    Args:
        codecs: Codecs of the banana, with titles.
        samples: Members of orbits, which are coded, (n, 2).
        originals: The points that they came from, (n, 2).
        path: The picture.
    """
    figure, axes = new_figure(1, len(codecs), 4.6, 4.6)
    side = torch.linspace(-_EXTENT, _EXTENT, 400)
    plane = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=2).flatten(0, 1)  # (400², 2)
    for axis, (title, codec) in zip(axes[0], codecs, strict=True):
        symbols = codec.encode(plane).numpy()
        _, cells = np.unique(symbols, axis=0, return_inverse=True)
        shuffled = np.random.default_rng(0).permutation(int(cells.max()) + 1)[
            cells.reshape(400, 400)
        ]
        axis.imshow(
            shuffled % 20,
            extent=(-_EXTENT, _EXTENT) * 2,
            origin="lower",
            cmap="tab20",
            alpha=0.45,
            interpolation="nearest",
            aspect="equal",
        )
        axis.plot(*originals.T.numpy(), ls="none", marker=".", ms=1, color="#333333", alpha=0.5)
        used = np.unique(
            codec.encode(originals if codec.config.objective == "vc" else samples).numpy(), axis=0
        )
        received = codec.reconstruct(codec.dequantize(torch.from_numpy(used))).numpy()
        axis.plot(*received.T, ls="none", marker="*", ms=7, mfc="white", mec="black", mew=0.7)
        axis.set(
            title=f"{title}: {len(used)} codes in use",
            xlim=(-_EXTENT, _EXTENT),
            ylim=(-_EXTENT, _EXTENT),
        )
        axis.grid(False)
    save_figure(figure, path)


def draw_reconstructions(
    rows: Sequence[tuple[str, Callable[[Tensor], Tensor]]],
    members: Tensor,
    originals: Tensor,
    path: Path,
) -> None:
    """Members of orbits, their reconstructions, and the images they came from, a row for each.

    Args:
        rows: Names, and functions from members to reconstructions.
        members: float (N, C, H, W) in [0, 1].
        originals: Their representatives, likewise.
        path: The picture.
    """
    from quadrate.experiments.reports.grids import mosaic

    grid = mosaic([members, *(make(members) for _, make in rows), originals])
    figure, ((axis,),) = new_figure(1, 1, 7.5, 6.6 * grid.shape[0] / grid.shape[1] + 0.1)
    axis.imshow(grid, interpolation="nearest")
    names = ["encoded", *(name for name, _ in rows), "representative"]
    height = grid.shape[0] / len(names)
    axis.set_yticks([(i + 0.5) * height for i in range(len(names))], names)
    axis.set_xticks([])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    save_figure(figure, path)
