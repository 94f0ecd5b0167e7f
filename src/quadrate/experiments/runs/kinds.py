"""The kinds of runs by name: the one place that tells them apart."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from quadrate.config import from_json
from quadrate.core.files import exists, read_json
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError
from quadrate.experiments.runs.kind import Kind
from quadrate.experiments.runs.rows import read_rows

KINDS: Registry[str | type[Kind]] = Registry(
    "kind of recipe",
    {
        "trade-off": "tradeoff_kind.TradeoffKind",
        "invariant": "invariant_kind.InvariantKind",
        "features": "feature_kind.FeatureKind",
        "contours": "contour_kind.ContourKind",
        "clip": "clip_kind.ClipKind",
        "photographs": "photo_kind.PhotoKind",
        "probes": "probe_kind.ProbeKind",
    },
)
"""A recipe's class attribute `kind` names its kind, which is imported when it is needed."""

_FIELDS_BEFORE = {
    "stages": "trade-off",
    "predictors": "invariant",
    "backbone": "features",
    "correlation": "contours",
    "points": "clip",
}
"""Fields by which recipes are told apart where config.json does not say their kind, up to 0.2."""


def find_kind(name: str) -> type[Kind]:
    """Return the kind of that name.

    Raises:
        QuadrateError: If it is unknown.
    """
    found = KINDS.find(name)
    if not isinstance(found, str):
        return found
    module, _, name = found.partition(".")
    kind: type[Kind] = getattr(import_module(f"{__package__}.{module}"), name)
    return kind


def kind_of(folder: Path | str) -> str:
    """Return the name of the kind of the run in a folder.

    Raises:
        QuadrateError: If there is no run there, or it is of an unknown kind.
    """
    described = _described(Path(folder))
    recipe = described.get("recipe")
    fields = recipe if isinstance(recipe, dict) else {}
    before = next((kind for field, kind in _FIELDS_BEFORE.items() if field in fields), "trade-off")
    kind = described.get("kind", before)
    if not isinstance(kind, str) or kind not in KINDS:
        raise QuadrateError(
            f"{Path(folder) / 'config.json'}: unknown kind {str(kind)[:80]!a}; {KINDS.hint}"
        )
    return kind


def read_recipe(folder: Path | str) -> Any:
    """Return the recipe of a run folder, of any kind.

    Raises:
        QuadrateError: If there is no run there, or its config.json holds no recipe.
    """
    folder = Path(folder)
    kind = find_kind(kind_of(folder))
    try:
        return from_json(kind.recipe_class, json.dumps(_described(folder).get("recipe")))
    except QuadrateError as error:
        raise QuadrateError(f"{folder / 'config.json'}: {error}") from None


def read_results(folder: Path | str) -> tuple[str, list[dict[str, Any]]]:
    """Return the recipe's name and the scored rows of a run folder, without data or judges.

    Raises:
        QuadrateError: If there is no run there, none of its points is scored, or a file is damaged.
    """
    folder = Path(folder)
    recipe, kind = read_recipe(folder), find_kind(kind_of(folder))
    rows = [row for job in kind.jobs(recipe) for row in read_rows(folder / kind.row_file(job))]
    if not rows:
        raise QuadrateError(
            f"no point of {folder} is scored yet; run `quadrate evaluate {folder}` first"
        )
    return recipe.name, rows


def _described(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not exists(path):
        raise QuadrateError(
            f"no run at {folder}: a run folder holds config.json; `quadrate train RECIPE` makes one"
            " and prints its name"
        )
    described = read_json(path)
    return described if isinstance(described, dict) else {}
