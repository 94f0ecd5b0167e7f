"""Scores: the numbers in tables of results, each declared once.

An evaluation writes a score into a row under its name, in some cases also `NAME_stderr`, `NAME_low`
and `NAME_high`, or `NAME_floor`; tables, figures, pages and claims find here how to show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quadrate.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

JUDGES = {"training": "train.", "independent": "indep.", "retrained": "retr."}
"""The judges of classification by role, and their short names."""


@dataclass(frozen=True)
class Score:
    """A number measured on a codec.

    Attributes:
        name: The column of its rows.
        label: A short name for headings of tables.
        unit: The unit of `factor` times the value.
        factor: The factor of the value in tables.
        decimals: Decimals in tables; None for four significant digits of a column's largest.
        axis: The full name, with the unit of the value itself, for figures and charts.
        floor: The column of the same score on real images; empty if there is none.
        floor_label: The name of this floor.
        better: "lower", "higher", or "" if neither is better.
        is_main: Whether tables show it; charts show all scores.
        measure: Computes the score from originals, uint8 (N, C, H, W), and reconstructions, float32
            (N, C, H, W) in [0, 1]; None for the protocol's own measures and for other rows.
    """

    name: str
    label: str
    unit: str = ""
    factor: float = 1.0
    decimals: int | None = None
    axis: str = ""
    floor: str = ""
    floor_label: str = "real against real"
    better: str = ""
    is_main: bool = True
    measure: Callable[[Tensor, Tensor], float] | None = None

    @property
    def heading(self) -> str:
        """The heading of a column, in two short lines if it has a factor or a unit."""
        times = {1000.0: "×10³"}.get(self.factor, "")
        return "\n".join(filter(None, (self.label, " ".join(filter(None, (times, self.unit))))))

    @property
    def title(self) -> str:
        """The name on the axis of a figure."""
        return self.axis or f"{self.label}{f' ({self.unit})' if self.unit else ''}"


def _judged(role: str) -> tuple[Score, Score]:
    accuracy, nats, clean = f"accuracy_{role}", f"cross_entropy_{role}", "judge on clean images"
    first = Score(accuracy, f"acc. {JUDGES[role]}", "%", 100, 2, f"accuracy ({role} judge)")
    second = Score(f"{nats}_nats", f"cross-entropy {JUDGES[role]}", "nats", is_main=False)
    return (
        replace(first, floor=f"{accuracy}_clean", floor_label=f"{role} {clean}", better="higher"),
        replace(
            second,
            axis=f"cross-entropy ({role} judge, nats)",
            floor=f"{nats}_clean_nats",
            floor_label=f"{role} {clean}",
            better="lower",
        ),
    )


def _stranger(which: str) -> Score:
    name = f"accuracy_stranger_{which}"
    label, axis = f"acc. {which} stranger", f"accuracy ({which} judge never in the loss)"
    floor = f"{which} stranger on clean images"
    return Score(name, label, "%", 100, 2, axis, f"{name}_clean", floor, better="higher")


def _perception(name: str, label: str, how: str, factor: float = 1.0) -> Score:
    axis = f"perception ({how})"
    return Score(name, label, "", factor, None, axis, f"{name}_floor", better="lower")


_H = "entropy H(Z|U) (bits per image)"
_MSE = "distortion (MSE per pixel)"
_TRADE_OFFS = (
    Score("rate_bound_bits", "rate", "bits", decimals=2, axis="rate bound (bits per image)"),
    Score("rate_entropy_bits", "H(Z|U)", "bits", decimals=2, axis=_H),
    Score("distortion_mse", "MSE", factor=1000, axis=_MSE, better="lower"),
    Score("psnr_db", "PSNR", "dB", decimals=2, better="higher", is_main=False),
    *(score for scores in zip(*map(_judged, JUDGES), strict=True) for score in scores),
    *map(_stranger, ("worst", "mean")),
    _perception("w1_fresh", "W1 fresh", "W1 by a fresh critic, image norm"),
    _perception("w1_certified", "W1 cert.", "W1, certified lower bound, image norm"),
    _perception("sliced_w2sq", "sliced W2²", "sliced W2², squared image norm", 1000),
    _perception("kid", "KID", "KID in the independent judge's features", 1000),
)
_INVARIANT = (
    Score("entropy_invariant_bits", "H[M]", "bits", decimals=2),
    Score("entropy_source_bits", "H[X]", "bits", decimals=2),
    Score("disk_bits", "bits on disk", decimals=3, better="lower"),
    Score("factorized_disk_bits", "with a table a dimension", "bits", decimals=3),
    Score("distortion", "MSE", decimals=4, better="lower"),
    Score("objective_disk", "MSE + β · nats on disk", decimals=4, better="lower"),
    Score("prediction_error", "prediction errors", "%", 100, 2, better="lower"),
    Score("information_bits", "I(Z;M)", "bits", decimals=3),
    Score("bound_bits", "InfoNCE bound", "bits", decimals=3, better="higher"),
    Score("bound_stderr", "its standard error", "bits", decimals=3),
    Score("accuracy_reconstructions", "accuracy on reconstructions", "%", 100, 2, better="higher"),
    Score("accuracy_latents", "accuracy on latents", "%", 100, 2, better="higher"),
)
_FEATURES = (
    Score("bits_per_image", "bits an image on disk", decimals=1, better="lower"),
    Score("accuracy", "accuracy", "%", 100, 2, better="higher"),
    Score("lost", "points lost", factor=100, decimals=2, better="lower"),
    Score("feature_mse", "MSE of features", decimals=4, better="lower"),
    Score("model_entropy_bits", "entropy of the model", "bits", decimals=1),
    Score("encoded_a_second", "encoded a second", decimals=0, better="higher"),
    Score("decoded_a_second", "decoded a second", decimals=0, better="higher"),
    Score("codec_file_bytes", "codec file", "bytes", decimals=0),
)
_PHOTOGRAPHS = (
    Score("bits_per_pixel", "bits a pixel", decimals=3, better="lower"),
    Score("ms_ssim", "MS-SSIM", decimals=4, better="higher"),
    Score("lpips_alex", "LPIPS (AlexNet)", decimals=4, better="lower"),
)
_CONTOURS = (
    Score("rate_nats", "rate", "nats", decimals=1),
    Score("distortion_asymptote", "D (MSE)", decimals=5),
    Score("classification_asymptote_nats", "C", "nats", decimals=5),
    Score("perfect_perception_asymptote_nats", "C at P = 0", "nats", decimals=5),
)

_COST = Score("train_cpu_seconds", "CPU", "s", decimals=0, axis="training (CPU seconds)")

_ALL = (*_TRADE_OFFS, *_INVARIANT, *_FEATURES, *_PHOTOGRAPHS, *_CONTOURS, _COST)
SCORES: Registry[Score] = Registry("score", {score.name: score for score in _ALL})
"""All scores by name, in the order of tables."""


def register_score(score: Score) -> None:
    """Make your own score known: if it has a `measure`, every trade-off codec gets it.

    Raises:
        QuadrateError: If the name is taken or cannot be the name of a file.
    """
    SCORES.register(score.name, score)


QUICK = "quick"
"""In the column `protocol` of rows on quick terms (`Protocol.quick()`); others lack the column."""


def is_quick(row: Mapping[str, Any]) -> bool:
    """Whether a row has rough scores, of `quadrate evaluate --quick`."""
    return row.get("protocol") == QUICK
