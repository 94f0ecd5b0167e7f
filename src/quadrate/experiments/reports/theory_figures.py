"""Figures of rate functions: a curve, a surface as contours, and two that are ready made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import entr

from quadrate.experiments.recipes.contour_recipe import rdpc_contours
from quadrate.experiments.reports.panels import COLOURS, LINES, new_figure, save_figure
from quadrate.theory import (
    AlignedLabels,
    Bernoulli,
    Discrete,
    OneShotBernoulli,
    ScalarGaussian,
    ScalarLabel,
    Source,
    VectorGaussian,
    classification,
    rate,
)
from quadrate.theory.channels import FloatArray
from quadrate.theory.units import DIVERGENCE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import ContourSet
    from matplotlib.figure import Figure

Quantity = Literal["rate", "distortion", "perception", "classification"]

_GREY = "#e4e4e4"
_DARK = "#555555"
_NOTE: Any = {"color": _DARK, "fontsize": 8, "ha": "center", "va": "center"}
_WIDTH, _HEIGHT = 3.4, 3.3  # inches a panel: three side by side can be read at 900 pixels
_GRID = 401  # points along each side: corners of contours are cut by one step
_STAGGERED = np.linspace(0.9, 0.2, 7)  # where to label contours that lie close to each other
# A binary source so far from even, and so noisy a label, that the price of perception can be seen.
_BINARY: Any = {"p": 0.1, "label_flip": 0.2}
_BINARY_LEVELS = np.array([0.03, 0.08, 0.15, 0.22, 0.3])
_NOISY: Any = {"p": 0.2, "label_flip": 0.1}
_NOISES = (0.0, 0.05, 0.1)


def quantity_label(quantity: Quantity, source: Source, divergence: str, unit: str) -> str:
    """The name of an axis of this quantity, with its unit or measure."""
    gaussian = isinstance(source, (ScalarGaussian, VectorGaussian))
    binary = isinstance(source, (Bernoulli, OneShotBernoulli))
    frozen = isinstance(source, Discrete) and source.classifier is not None
    error = "squared error of all components" if isinstance(source, VectorGaussian) else "MSE"
    perceptions = {
        name: title + (f", {unit}" if name == "kl" else "")
        for name, title in DIVERGENCE_TITLES.items()
    }
    entropy = (
        "h(S|X̂)"
        if gaussian
        else (
            "cross-entropy"
            if frozen
            else "H(S|X̂,U)"
            if isinstance(source, OneShotBernoulli)
            else "H(S|X̂)"
        )
    )
    return {
        "rate": f"rate ({unit} per sample)",
        "distortion": (
            "distortion" + (f" ({error})" if gaussian else " (Hamming)" if binary else "")
        ),
        "perception": f"perception ({perceptions[divergence]})",
        "classification": f"classification {entropy} ({unit})",
    }[quantity]


def source_label(source: Source) -> str:
    """A source and its parameters in words, so that a figure stands alone."""
    if isinstance(source, ScalarGaussian):
        label = (
            ""
            if source.label_variance is None
            else (
                f", label of variance {source.label_variance:g} and correlation"
                f" {source.correlation:g}"
            )
        )
        noise = f", noise of variance {source.noise_variance:g}" if source.noise_variance else ""
        return f"Gaussian source of variance {source.variance:g}{label}{noise}"
    if isinstance(source, Bernoulli | OneShotBernoulli):
        label = (
            ""
            if source.label_flip is None
            else f", label flipped with probability {source.label_flip:g}"
        )
        noise = (
            f", seen with {source.noise_flip:.3g} of the bits flipped"
            if isinstance(source, Bernoulli) and source.noise_flip
            else ""
        )
        once = ", one symbol at a time" if isinstance(source, OneShotBernoulli) else ""
        return f"Binary source, P(X=1) = {source.p:g}{label}{noise}{once}"
    if isinstance(source, VectorGaussian):
        spread = _numbers(np.asarray(np.linalg.eigvalsh(source.covariance)[::-1], dtype=np.float64))
        return (
            f"Gaussian vector of {len(source.covariance)} dimensions, eigenvalues of the covariance"
            f" {spread}{_vector_label(source.labels)}"
        )
    assert isinstance(source, Discrete), "there are no others"
    entropy = float(entr(source.pmf).sum()) / math.log(2)
    label = (
        "" if source.label_channel is None else f", label of {source.label_channel.shape[1]} values"
    )
    frozen = "" if source.classifier is None else " read by a frozen classifier"
    letters, reproduced = source.distortion.shape
    return (
        f"Discrete source of {letters} letters and {entropy:.4g} bits, reproduced in {reproduced}"
        f" letters{label}{frozen}"
    )


def _vector_label(labels: AlignedLabels | ScalarLabel | None) -> str:
    if labels is None:
        return ""
    if isinstance(labels, ScalarLabel):
        return f", label of weights {_numbers(labels.weights)} and noise {labels.noise:g}"
    return f", labels of gains {_numbers(labels.gains)} and noises {_numbers(labels.noises)}"


def _numbers(values: FloatArray) -> str:
    """The first few numbers of an array."""
    return ", ".join(f"{value:.4g}" for value in values[:6]) + (", …" if len(values) > 6 else "")


def sweep_figure(
    grids: Sequence[FloatArray],
    values: FloatArray,
    labels: Sequence[str],
    title: str,
    path: Path,
    caption: str = "",
) -> None:
    """Draw a quantity over one constraint as a curve, or over two as contours.

    Where it is infinite the ground is shaded.

    Args:
        grids: The values of each constraint, (n,) or (n,) and (m,).
        values: The quantity, (n,) or (n, m).
        labels: What the constraints and the quantity are called, in this order.
        title: One sentence.
        path: The picture; its suffix names the format.
        caption: What source this is, to stand below.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    figure, [[axes]] = new_figure(1, 1)
    if len(grids) == 1:
        _curve(axes, grids[0], values)
        _name(axes, labels[0], labels[1], title)
    else:
        _contours(axes, grids[0], grids[1], values, _round_levels(values))
        _name(axes, labels[0], labels[1], title)
    _caption(figure, caption)
    save_figure(figure, path)


def contours_figure(path: Path) -> None:
    """Draw R(D, C) and R(P, C) of the Gaussian source of the RDPC paper, in nats.

    And R(P, C) of a binary source, in bits (Wang et al. 2025).

    Raises:
        QuadrateError: If the file cannot be written.
    """
    figure, [[rdc, rpc, binary]] = new_figure(1, 3, _WIDTH, _HEIGHT)
    recipe = rdpc_contours()
    source = ScalarGaussian(recipe.variance, recipe.label_variance, recipe.correlation)
    levels = np.array([point.rate for point in recipe.points])
    limits, classifications = np.linspace(0.0, 1.0, _GRID), np.linspace(0.16, 1.1, _GRID)
    limit, c = np.meshgrid(limits, classifications, indexing="ij")
    distortion_rates = rate(source, distortion=limit, classification=c, unit="nats")
    perception_rates = rate(source, perception=limit, classification=c, unit="nats")
    for axes, values in ((rdc, distortion_rates), (rpc, perception_rates)):
        _contours(axes, limits, classifications, np.asarray(values), levels, labels_at=_STAGGERED)
    mse, squared_distance, entropy = (
        quantity_label(name, source, "w2", "nats")
        for name in ("distortion", "perception", "classification")
    )
    _name(
        rdc,
        mse,
        entropy,
        "Gaussian source: the harder demand\nalone sets the rate R(D, C) in nats.",
    )
    _name(
        rpc,
        squared_distance,
        entropy,
        "Gaussian source: perception is free,\nC alone sets the rate R(P, C) in nats.",
    )
    _binary_contours(binary)
    _caption(figure, f"{source_label(source)}.   {source_label(Bernoulli(**_BINARY))}.")
    save_figure(figure, path)


def source_noise_figure(path: Path) -> None:
    """Draw the least H(S|X̂) against perception, for a binary source at unlimited rate.

    Without noise and with some.

    Raises:
        QuadrateError: If the file cannot be written.
    """
    figure, [[axes]] = new_figure(1, 1, 5.6, 3.9)
    perceptions = np.linspace(0.0, 0.08, 41)
    for noise, colour, line in zip(_NOISES, COLOURS, LINES, strict=False):
        source = Bernoulli(noise_flip=noise, **_NOISY)
        least = np.asarray(
            classification(source, math.inf, perception=perceptions, divergence="tv")
        )
        axes.plot(perceptions, least, color=colour, linestyle=line)
        axes.text(
            perceptions[-1],
            least[-1] - 0.003,
            f"{noise:.0%} of the bits flipped",
            color=colour,
            ha="right",
            va="top",
        )
    axes.set_xlim(0, perceptions[-1])
    axes.margins(y=0.12)
    variation, entropy = (
        quantity_label(name, source, "tv", "bits") for name in ("perception", "classification")
    )
    _name(
        axes,
        variation,
        f"least {entropy}",
        "If the encoder sees the source through noise, perception costs\nclassification even at"
        " unlimited rate.",
    )
    _caption(figure, f"{source_label(Bernoulli(**_NOISY))}.")
    save_figure(figure, path)


def _binary_contours(axes: Axes) -> None:
    """R(P, C) of a binary source, with and without common randomness for the classifier."""
    source = Bernoulli(**_BINARY)
    perceptions, classifications = np.linspace(0.0, 0.1, 51), np.linspace(0.71, 0.85, 113)
    p, c = np.meshgrid(perceptions, classifications, indexing="ij")
    exact, seen = (
        np.asarray(
            rate(
                source,
                perception=p,
                classification=c,
                divergence="tv",
                classifier_sees_randomness=sees,
            )
        )
        for sees in (False, True)
    )
    dashed: Any = {"colors": _DARK, "linewidths": 1, "linestyles": "--"}
    axes.contour(perceptions, classifications, _finite(seen).T, levels=_BINARY_LEVELS, **dashed)
    axes.plot(
        [], [], color=_DARK, linewidth=1, linestyle="--", label="if it saw the common randomness"
    )
    _contours(
        axes, perceptions, classifications, exact, _BINARY_LEVELS, labels_at=_STAGGERED[1:6] / 10
    )
    axes.plot([], [], color=_DARK, label="classifier that sees X̂ alone")
    axes.legend(loc="upper right", fontsize=8, frameon=False, reverse=True)
    variation, entropy = (
        quantity_label(name, source, "tv", "bits") for name in ("perception", "classification")
    )
    _name(
        axes, variation, entropy, "Binary source: good perception\nraises the rate R(P, C) in bits."
    )


def _curve(axes: Axes, x: FloatArray, y: FloatArray) -> None:
    infeasible = np.isinf(y)
    axes.plot(x, _finite(y), color=COLOURS[0])
    axes.set_xlim(x[0], x[-1])
    axes.fill_between(
        x,
        0,
        1,
        where=infeasible,
        color=_GREY,
        linewidth=0,
        transform=axes.get_xaxis_transform(),
        zorder=0,
    )
    if infeasible.sum() > 1:
        axes.text(
            x[infeasible].mean(),
            0.5,
            "infeasible",
            transform=axes.get_xaxis_transform(),
            rotation=90,
            **_NOTE,
        )


def _contours(
    axes: Axes,
    x: FloatArray,
    y: FloatArray,
    values: FloatArray,
    levels: FloatArray,
    labels_at: FloatArray | None = None,
) -> None:
    """Contours of (n, m) values, labelled at given x, and the region of infinite values."""
    from matplotlib import colormaps

    infeasible = np.isinf(values)
    if infeasible.any():
        # Only what lies between infeasible points is shaded: points next to them may be feasible.
        axes.contourf(x, y, infeasible.T, levels=[0.99, 1.01], colors=[_GREY])
        _name_region(axes, x, y, infeasible)
    if len(levels):
        # The brightest end of the colour map could not be read on white.
        colours = colormaps["viridis"](np.linspace(0, 0.8, len(levels)))
        drawn = axes.contour(x, y, _finite(values).T, levels=levels, colors=colours, linewidths=1.5)
        texts = axes.clabel(
            drawn,
            fmt="%g",
            fontsize=8,
            manual=False if labels_at is None else _points(drawn, labels_at),
        )
        for text in texts:  # not to be struck through by other contours
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.2})


def _points(drawn: ContourSet, xs: FloatArray) -> list[FloatArray]:
    """The point of each contour that is closest in x to the number given for it."""
    contours = [np.asarray(path.vertices) for path in drawn.get_paths()]
    return [
        points[np.abs(points[:, 0] - x).argmin()] for points, x in zip(contours, xs, strict=True)
    ]


def _round_levels(values: FloatArray) -> FloatArray:
    """Round numbers within the finite values.

    Not in the steepest tenth, where contours would run into each other.
    """
    from matplotlib.ticker import MaxNLocator

    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return finite
    levels = MaxNLocator(9).tick_values(finite.min(), np.quantile(finite, 0.9))
    return np.asarray(levels[(levels > finite.min()) & (levels < finite.max())])


def _name_region(axes: Axes, x: FloatArray, y: FloatArray, region: FloatArray) -> None:
    """Write "infeasible" where the region is widest, along its longer side.

    Not at all into a sliver.
    """
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    # The middle of the deepest points, so that a strip is named half way along.
    deepest = np.argwhere(depth >= depth.max() - 1)
    i, j = deepest[len(deepest) // 2]
    if depth.max() > 0.02 * min(region.shape):
        upright = region[:, j].mean() < region[i].mean()
        axes.text(x[i], y[j], "infeasible", rotation=90 if upright else 0, **_NOTE)


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.nan)


def _caption(figure: Figure, text: str) -> None:
    """The sources below the axes."""
    if text:
        figure.supxlabel(text, fontsize=8, color=_DARK)


def _name(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
