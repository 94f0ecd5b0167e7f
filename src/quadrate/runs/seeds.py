"""A run with more seeds goes on from one with fewer: what is trained for a seed does not depend on which others there are."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from quadrate.config import Recipe, from_json
from quadrate.errors import QuadrateError
from quadrate.recipes.changes import with_seeds
from quadrate.recipes.invariant import InvariantRecipe
from quadrate.runs.folder import read_recipe_fields

_Recipe = TypeVar("_Recipe", Recipe, InvariantRecipe)


def take_over(recipe: _Recipe, folder_of: Callable[[_Recipe], Path], items: Iterable[tuple[Path, Path]]) -> None:
    """Copies into a run's folder what runs of the same recipe with other seeds have finished.

    Args:
        recipe: The run's recipe.
        folder_of: Names the folder of a recipe on the run's data, with its judges and networks.
        items: What to copy, and the file that shows that it is finished, as paths inside a run's folder.

    Raises:
        QuadrateError: If a file cannot be copied.
    """
    own, items = folder_of(recipe), list(items)
    for other in sorted(own.parent.glob(f"{recipe.name}-*")):
        if other != own and _same_but_for_seeds(recipe, other, folder_of):
            for item, finished in items:
                if (other / finished).exists() and not (own / item).exists():
                    _copy(other / item, own / item)


def _same_but_for_seeds(recipe: _Recipe, folder: Path, folder_of: Callable[[_Recipe], Path]) -> bool:
    """Whether a folder is a run of the recipe with other seeds, on the same data, with the same judges and networks."""
    try:
        other = from_json(type(recipe), json.dumps(read_recipe_fields(folder)))
    except QuadrateError:  # no run, or one of another kind
        return False
    return folder_of(other).name == folder.name and with_seeds(other, 1) == with_seeds(recipe, 1)


def _copy(path: Path, target: Path) -> None:
    """Copies a file or a folder, under a temporary name until it is whole."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, temporary)
        else:
            shutil.copyfile(path, temporary)
        temporary.rename(target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
        raise QuadrateError(f"cannot copy {path} to {target}: {error.strerror}; make room or choose another folder") from None
