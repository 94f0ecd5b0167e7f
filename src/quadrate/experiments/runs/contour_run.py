"""Run folders of contours: where the rate functions in closed form reach given rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quadrate import __version__
from quadrate.experiments.recipes.contour_recipe import Contour, ContourRecipe
from quadrate.experiments.runs.point_run import PointRun
from quadrate.theory import ScalarGaussian, classification, distortion, rate
from quadrate.training.processes import Report

_PERCEPTIONS = np.linspace(
    0.0, 1.0, 11
)  # squared 2-Wasserstein distances, along which a contour of R(P, C) is followed


class ContourRun(PointRun):
    """A recipe of contours at work, in the folder `root/NAME-DIGEST`: a row a rate.

    Args:
        recipe: Which source and rates.
        root: Where run folders live.
        device: "cpu", as nothing here is work for another.

    Raises:
        QuadrateError: If the device is missing.
    """

    recipe_class = ContourRecipe

    def __init__(
        self, recipe: ContourRecipe, root: Path | str = "runs", device: str = "cpu"
    ) -> None:
        super().__init__(recipe, ("closed form", ""), root, device)

    def _needed(self) -> list[Path]:
        return []

    def _made_with(self, point: Contour) -> dict[str, str]:
        return {"quadrate": __version__}

    def _make(self, workers: int, report: Report) -> None:
        """Nothing is made beforehand."""

    def _score(self, points: Sequence[Contour], workers: int, report: Report) -> None:
        source = ScalarGaussian(
            self.recipe.variance, self.recipe.label_variance, self.recipe.correlation
        )
        for point in points:
            mse = float(distortion(source, point.rate, unit="nats"))
            entropy = float(classification(source, point.rate, unit="nats"))
            along = np.asarray(
                classification(source, point.rate, perception=_PERCEPTIONS, unit="nats")
            )
            row = {
                "rate_nats": point.rate,
                "distortion_asymptote": mse,  # of R(D, C) = rate, where the classification is free
                "classification_asymptote_nats": (
                    entropy
                ),  # of the same, where the distortion is free
                "corner_rate_nats": float(
                    rate(source, distortion=mse, classification=entropy, unit="nats")
                ),
                "perfect_perception_asymptote_nats": float(along[0]),  # of R(P, C) = rate, at P = 0
                "perfect_perception_price_nats": float(along[0]) - entropy,
                "perception_spread_nats": (
                    float(np.ptp(along)) if np.isfinite(along).all() else math.inf
                ),
            }
            self.keep(point, row, report)
