"""A run with more seeds goes on from one with fewer.

What is trained for a seed does not depend on the other seeds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quadrate.core.files import temporary_beside
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.changes import with_seeds
from quadrate.experiments.runs.kind import Item
from quadrate.experiments.runs.kinds import read_recipe


def take_over(recipe: Any, folder_of: Callable[[Any], Path], items: Sequence[Item]) -> None:
    """Copy into a run's folder what runs of the same recipe with other seeds have finished.

    Args:
        recipe: The run's recipe.
        folder_of: Names the folder of a recipe on the run's data, with its judges and networks.
        items: What to copy; what others are built on comes first.

    Raises:
        QuadrateError: If a file cannot be copied.
    """
    here = folder_of(recipe)
    for other in sorted(here.parent.iterdir()):
        if (
            other.name.startswith(f"{recipe.name}-")
            and other != here
            and _same_but_for_seeds(recipe, other, folder_of)
        ):
            for item in items:
                wanted = (other / item.finished).exists() and not (here / item.path).exists()
                if wanted and (
                    item.built_on is None or _same(here / item.built_on, other / item.built_on)
                ):
                    _copy(other / item.path, here / item.path)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.read_bytes() == other.read_bytes()


def _same_but_for_seeds(recipe: Any, folder: Path, folder_of: Callable[[Any], Path]) -> bool:
    """Whether a folder is a run of the recipe with other seeds, on the same data and judges."""
    try:
        other = read_recipe(folder)
    except QuadrateError:  # not a run
        return False
    return (
        type(other) is type(recipe)
        and folder_of(other).name == folder.name
        and with_seeds(other, 1) == with_seeds(recipe, 1)
    )


def _copy(path: Path, target: Path) -> None:
    """Copy a file or a folder, under a temporary name until it is whole.

    Another process may do the same at the same time.
    """
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(
                path, temporary, ignore=shutil.ignore_patterns(".*", "checkpoint.safetensors")
            )
        else:
            shutil.copyfile(path, temporary)
        temporary.rename(target)
    except OSError as error:  # copytree's own error is one, too, and lists what it could not copy
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
        if not target.exists():
            raise QuadrateError(
                f"cannot copy {path} to {target}: {error.strerror or error}; make room or choose"
                " another folder"
            ) from None
