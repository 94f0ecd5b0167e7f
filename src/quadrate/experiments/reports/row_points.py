"""Tables and pictures of runs whose points stand alone, whatever their kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quadrate.core.fields import is_number, shown
from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.contour_recipe import ContourRecipe
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.experiments.reports.result_tables import markdown, number
from quadrate.experiments.reports.summary import Row, read_table

if TYPE_CHECKING:
    from quadrate.experiments.runs.point_run import PointRun

Columns = dict[str, tuple[str, float, int | None]]
"""By column: heading, factor, and decimals, None where cells are shown as they are."""

_INVARIANT: Columns = {
    "objective": ("objective", 1, None),
    "beta": ("β", 1, None),
    "schedule": ("training", 1, None),
    "steps": ("steps", 1, None),
    "seed": ("seed", 1, None),
    "predictor_augmentation": ("predictor's changes", 1, None),
    "entropy_invariant_bits": ("H[M]", 1, 2),
    "entropy_source_bits": ("H[X]", 1, 2),
    "disk_bits": ("bits on disk", 1, 3),
    "factorized_disk_bits": ("with a table a dimension", 1, 3),
    "distortion": ("MSE", 1, 4),
    "objective_disk": ("MSE + β · nats on disk", 1, 4),
    "prediction_error": ("prediction errors, %", 100, 2),
    "information_bits": ("I(Z;M)", 1, 3),
    "bound_bits": ("InfoNCE bound", 1, 3),
    "bound_stderr": ("its standard error", 1, 3),
    "accuracy_reconstructions": ("accuracy on reconstructions, %", 100, 2),
    "accuracy_latents": ("accuracy on latents, %", 100, 2),
    "distortion_mse": ("MSE", 1, 4),
    "codec_file_bytes": ("codec file, bytes", 1, None),
    "train_cpu_seconds": ("training, CPU s", 1, 0),
}
_FEATURES: Columns = {
    "way": ("stored as", 1, None),
    "quality": ("quality", 1, 0),
    "images_a_file": ("images a file", 1, 0),
    "receiver": ("receiver", 1, None),
    "bits_per_image": ("bits an image on disk", 1, 1),
    "accuracy": ("accuracy, %", 100, 2),
    "lost": ("points lost", 100, 2),
    "feature_mse": ("MSE of features", 1, 4),
}
_BOTTLENECKS: Columns = {
    "beta": ("β", 1, 2),
    "model_entropy_bits": ("entropy of the model, bits", 1, 1),
    "disk_bits": ("bits on disk", 1, 1),
    "encoded_a_second": ("encoded a second", 1, 0),
    "decoded_a_second": ("decoded a second", 1, 0),
    "codec_file_bytes": ("codec file, bytes", 1, None),
}
_CONTOURS: Columns = {
    "rate_nats": ("rate, nats", 1, 1),
    "distortion_asymptote": ("D (MSE)", 1, 5),
    "classification_asymptote_nats": ("C, nats", 1, 5),
    "perfect_perception_asymptote_nats": ("C at P = 0, nats", 1, 5),
}
_KINDS = {
    "objective": _INVARIANT,
    "way": _FEATURES,
    "model_entropy_bits": _BOTTLENECKS,
    "rate_nats": _CONTOURS,
}
_TEXTS = {
    "objective",
    "bottleneck",
    "schedule",
    "augmentation",
    "predictor_augmentation",
    "way",
    "receiver",
    "at_the_edge",
    "hyperparameter",
}
_WHOLE = ("steps", "seed")
_ENDLESS = ("perception_spread_nats",)
_LARGEST = 1e15  # no result comes near
_NOTES = {
    "objective": (
        """A line is a codec, or another way to read one. vic reconstructs the representative that all members of an orbit share, vc the
sample itself, bince tells orbits apart; β weighs the rate. Bits are those of whole .quad files, a sample. A predictor is a classifier that was
trained on what is received, reconstructions or latents; predictor's changes: by which random changes its images were moved. MSE is against what
is to be reconstructed. H[X] and H[M]: entropies of the source, and of what its symmetry leaves."""
    ),
    "way": (
        """A line is a way to store images and a receiver that was trained on what comes back; bits are those of the test images' files. Points
lost: percentage points of accuracy, against the same receiver of uncompressed features."""
    ),
    "model_entropy_bits": (
        "A line is a published bottleneck, and samples of its own model in one .quad file."
    ),
    "rate_nats": (
        "A line is a rate: D is what the contour of R(D, C) nears where classification is free, C"
        " what it nears where distortion is free."
    ),
}


def read_points(path: Path) -> list[dict[str, Any]]:
    """The rows of a results.csv of any kind of run whose points stand alone.

    Raises:
        QuadrateError: If the file cannot be read, is of no such run, or has a text where a number
            belongs.
    """
    rows = read_table(path)
    try:
        kind = _kind(rows)
    except QuadrateError as error:
        raise QuadrateError(f"{path}: {error}") from None
    for row in rows:
        for name, value in row.items():
            if name not in _TEXTS and not (
                is_number(value) and (abs(value) < _LARGEST or name in _ENDLESS)
            ):
                which = f"{shown(value)} where a number should stand, in the column {name[:80]!a}"
                raise QuadrateError(
                    f"{path}: a table of results holds {which}; `quadrate evaluate RUN` writes it"
                    " anew"
                )
            if name in _WHOLE and type(value) is not int:
                raise QuadrateError(
                    f"{path}: {name} is {shown(value)}, and should be a whole number; `quadrate"
                    " evaluate RUN` writes it anew"
                )
        if kind not in row or not is_printable("".join(row)):
            raise QuadrateError(
                f"{path} has a row without {kind!r}; `quadrate evaluate RUN` writes it anew"
            )
    return rows


def points_markdown(rows: Sequence[Row]) -> str:
    """The rows of a run as a Markdown table: settings, then what was measured.

    Raises:
        QuadrateError: If there are no rows, or they are of no kind of run.
    """
    columns = {
        name: how
        for name, how in _KINDS[_kind(rows)].items()
        if any(row.get(name) not in (None, "") for row in rows)
    }
    cells = [
        [_cell(row.get(name), factor, decimals) for row in rows]
        for name, (_, factor, decimals) in columns.items()
    ]
    return markdown([heading for heading, _, _ in columns.values()], cells)


def points_note(rows: Sequence[Row]) -> str:
    """What the columns of `points_markdown` mean; errors as there."""
    return _NOTES[_kind(rows)]


def _kind(rows: Sequence[Row]) -> str:
    for name in _KINDS:
        if rows and name in rows[0]:
            return name
    raise QuadrateError(
        f"not the results of a run: a row has one of the columns {', '.join(_KINDS)}"
    )


def draw_points(run: PointRun, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """Draws what there is to see of a run into its folder; returns the pictures."""
    if isinstance(run.recipe, InvariantRecipe):
        from quadrate.experiments.reports.invariant_tables import draw_run

        return draw_run(run, rows)  # type: ignore[arg-type]
    if isinstance(run.recipe, ContourRecipe):
        from quadrate.experiments.reports.theory_figures import contours_figure

        contours_figure(run.folder / "contours.png")
        return [run.folder / "contours.png"]
    return []


def _cell(value: Any, factor: float, decimals: int | None) -> str:
    if value in (None, ""):
        return "–"
    if decimals is None:
        return str(value)
    if not isinstance(value, int | float):
        raise QuadrateError(
            f"a table of results holds {value!r} where a number should stand; `quadrate evaluate"
            " RUN` writes it anew"
        )
    return number(factor * value, decimals)
