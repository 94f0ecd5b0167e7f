"""What `quadrate reproduce` runs.

An experiment of any kind, by its name and the options that change it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Protocol

from quadrate.cli.steps import (
    adapted,
    adapted_points,
    evaluate_run,
    for_data,
    train_points,
    train_run,
)
from quadrate.config import Recipe
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import Grid, find_recipe, with_seeds
from quadrate.experiments.recipes.subset import Subset
from quadrate.experiments.runs import Run
from quadrate.experiments.runs.kinds import run_of


@dataclass(frozen=True)
class Options:
    """How an experiment is run; `quadrate.cli.reproduce` says what each means."""

    networks: Literal["default", "paper"] = "default"
    grid: Grid = "quick"
    seeds: int | None = None
    epochs: int | None = None
    data: str | None = None
    device: str = "cpu"
    runs: Path = Path("runs")
    part: Subset = Subset()
    module: tuple[str, ...] = ()

    def command(self, name: str) -> str:
        """The command that measures the same again, without what says only where."""
        chosen = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.name not in ("device", "runs", "part", "module")
        }
        words = [
            word
            for option, value in chosen.items()
            if value != getattr(Options, option)
            for word in (f"--{option}", str(value))
        ]
        words += self.part.words
        words += [word for path in self.module for word in ("--module", path)]
        return shlex.join(["quadrate", "reproduce", name, *words])


class Reproduction(Protocol):
    """An experiment in its folder.

    Training and evaluation go on where they were interrupted, and show what they do.
    """

    @property
    def folder(self) -> Path:
        """Where it writes."""
        ...

    def train(self, workers: int | None) -> None:
        """Trains what is not trained yet."""
        ...

    def evaluate(self, workers: int | None, command: str) -> None:
        """Scores what is not scored yet; shows and writes the table, pictures and verdicts."""
        ...


class RecipeReproduction:
    """A recipe of codecs."""

    def __init__(self, name: str, options: Options) -> None:
        recipe = find_recipe(name, options.grid)
        family = None if options.networks == "default" else options.networks
        changed = adapted(recipe, options.data, family, epochs=options.epochs)
        changed = options.part.of(
            changed if options.seeds is None else with_seeds(changed, options.seeds)
        )
        self._run = Run(for_data(recipe, changed, family), options.runs, device=options.device)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._run.folder

    def train(self, workers: int | None) -> None:
        """As `quadrate train`."""
        train_run(self._run, workers=workers)

    def evaluate(self, workers: int | None, command: str) -> None:
        """As `quadrate evaluate`."""
        evaluate_run(self._run, workers, command=command)


class PointReproduction:
    """A recipe whose points stand alone: invariant compressors, features."""

    def __init__(self, name: str, options: Options) -> None:
        if options.part.words:
            raise QuadrateError(
                f"{name} is trained as a whole, with its own settings; leave"
                f" {options.part.words[0]} out"
            )
        recipe = adapted_points(
            name, options.data, options.seeds, options.grid, options.networks, options.epochs
        )
        self._run = run_of(recipe, options.runs, options.device)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._run.folder

    def train(self, workers: int | None) -> None:
        """As `quadrate train`."""
        train_points(self._run, workers)

    def evaluate(self, workers: int | None, command: str) -> None:
        """As `quadrate evaluate`."""
        evaluate_run(self._run, workers, command=command)


def find_reproduction(name: str, options: Options) -> Reproduction:
    """The experiment of that name.

    Raises:
        QuadrateError: If there is none, an option does not fit it, or data, a judge or the device
            are missing.
    """
    kind = RecipeReproduction if find_recipe(name).kind == Recipe.kind else PointReproduction
    return kind(name, options)
