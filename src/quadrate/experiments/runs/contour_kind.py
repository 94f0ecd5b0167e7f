"""Runs of contours: where the rate functions in closed form reach given rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quadrate import __version__
from quadrate.experiments.recipes.contour_recipe import ContourRecipe
from quadrate.experiments.runs.kind import Job, Kind, Row, Workers
from quadrate.theory import ScalarGaussian, classification, distortion, rate
from quadrate.training.processes import Report

_PERCEPTIONS = np.linspace(
    0.0, 1.0, 11
)  # squared 2-Wasserstein distances, along which a contour of R(P, C) is followed


class ContourKind(Kind):
    """A recipe of contours, which needs no data: a row a rate."""

    recipe_class = ContourRecipe

    def prepare(self) -> None:
        """Nothing is loaded."""
        self.decisive = [""]
        self.described = {"source": {"name": "closed form", "fingerprint": ""}}

    def needs(self, job: Job) -> list[Path]:
        """Nothing is trained."""
        return []

    def made_with(self, job: Job) -> dict[str, str]:
        """The version decides everything."""
        return {"quadrate": __version__}

    def make(self, execution: Any, workers: Workers, report: Report) -> None:
        """Nothing is trained."""

    def draw(self, rows: Sequence[Row]) -> list[Path]:
        """Draw the contours."""
        from quadrate.experiments.reports.theory_figures import contours_figure

        contours_figure(self.folder / "contours.png")
        return [self.folder / "contours.png"]

    def score(self, jobs: Sequence[Job], workers: Workers, report: Report, quick: bool) -> None:
        """Compute where the rate functions reach the rates."""
        source = ScalarGaussian(
            self.recipe.variance, self.recipe.label_variance, self.recipe.correlation
        )
        for job in jobs:
            point = job.point
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
            self.keep(job, row, report)
