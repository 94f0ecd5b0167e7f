"""What `train`, `evaluate` and `reproduce` have in common.

A recipe as the options change it, and the two steps of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from quadrate.cli.console import CONSOLE
from quadrate.config import Recipe, Stage
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import decide_run, write_verdicts
from quadrate.experiments.recipes import find_recipe, with_epochs, with_seeds
from quadrate.experiments.recipes.catalogue import name_on
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.experiments.reports import results_table
from quadrate.experiments.reports.run_pictures import draw_run
from quadrate.experiments.runs import Run
from quadrate.experiments.runs.kinds import PointRecipe
from quadrate.experiments.runs.point_run import PointRun
from quadrate.networks.family import CLASSIFIERS, FAMILIES
from quadrate.sources import load_source, source_name
from quadrate.training.batch_size import fitting_batch
from quadrate.training.stages import Execution


def adapted(
    recipe: Recipe,
    data: str | None = None,
    family: str | None = None,
    judge: str | None = None,
    epochs: int | None = None,
) -> Recipe:
    """A recipe with other data, networks, judge or passes over the data; None changes nothing."""
    if data is not None and (data := source_name(data)) != recipe.source:
        # Another name: what is published for the recipe does not speak of other data.
        recipe = replace(recipe, source=data, name=name_on(recipe.name, data))
    recipe = replace(
        recipe,
        family=recipe.family if family is None else family,
        judge=recipe.judge if judge is None else judge,
    )
    return recipe if epochs is None else with_epochs(recipe, epochs)


def fitted(
    recipe: Recipe, shape: Sequence[int], family: str | None = None, judge: str | None = None
) -> Recipe:
    """A recipe for other data with networks and judges that fit images of a shape (C, H, W), where
    none are asked for.

    A judge that was published for the recipe's data knows its classes only, and networks for gray
    images see little in colours.
    """
    channels, height, width = shape
    large, colour = min(height, width) >= 8, channels == 3
    own = recipe.family if recipe.family not in ("compact", "compact-colour") else "compact"
    ours = recipe.family in FAMILIES.built_in  # what the user registered is his to choose
    fitting = (
        "compact-colour" if ours and colour and large and height % 2 == width % 2 == 0 else own
    )
    judges = (recipe.judge, recipe.independent_judge)
    if colour != (recipe.family == "compact-colour") or not large:
        judges = (
            ("conv", "residual") if colour and large else ("dense", "conv" if large else "dense")
        )
    elif not CLASSIFIERS.knows(recipe.judge):
        judges = ("conv" if colour else "dense", recipe.independent_judge)
    family, judge = fitting if family is None else family, judges[0] if judge is None else judge
    return replace(recipe, family=family, judge=judge, independent_judge=judges[1])


def for_data(
    recipe: Recipe, changed: Recipe, family: str | None = None, judge: str | None = None
) -> Recipe:
    """The changed recipe, with networks, judges and batches that fit its data if these are others than the recipe's; says which it chose."""
    if changed.source == recipe.source:
        return changed
    source = load_source(changed.source)
    chosen = fitted(changed, source.shape, family, judge)
    if chosen != changed:
        size = "x".join(map(str, source.shape))
        print(
            f"for images of {size}: family {chosen.family}, judge {chosen.judge}, independent judge"
            f" {chosen.independent_judge}"
        )
    asked = {stage.name: stage.training.batch for stage in recipe.stages}
    stages = tuple(
        (
            _with_fitting_batch(stage, len(source.train))
            if stage.training.batch == asked.get(stage.name)
            else stage
        )
        for stage in chosen.stages
    )
    for batch in {stage.training.batch for stage in stages} - {
        stage.training.batch for stage in chosen.stages
    }:
        print(f"for {len(source.train)} training images: batches of {batch}")
    return replace(chosen, stages=stages)


def _with_fitting_batch(stage: Stage, count: int) -> Stage:
    return replace(
        stage, training=replace(stage.training, batch=fitting_batch(stage.training.batch, count))
    )


def train_run(run: Run, execution: Execution = "auto", workers: int | None = None) -> None:
    """Trains what is not trained yet."""
    run.train(execution, workers)


def adapted_points(
    name: str,
    data: str | None = None,
    seeds: int | None = None,
    grid: str = "quick",
    networks: str = "default",
    epochs: int | None = None,
) -> PointRecipe:
    """A recipe whose points stand alone, with other images or seeds; None changes nothing.

    Raises:
        QuadrateError: If an option says nothing to it.
    """
    recipe = find_recipe(name)
    if (grid, networks, epochs) != ("quick", "default", None):
        raise QuadrateError(
            f"{name} has one grid and its own networks and steps; leave --grid, --networks and"
            " --epochs out"
        )
    if seeds is not None:
        if not isinstance(recipe, InvariantRecipe):
            raise QuadrateError(f"{name} takes no other seeds")
        recipe = with_seeds(recipe, seeds)
    if data is not None and (data := source_name(data)) != getattr(recipe, "source", None):
        if getattr(recipe, "source", "banana") in ("banana", "patterns"):
            raise QuadrateError(f"{name} has data of its own; leave --data out")
        recipe = replace(recipe, source=data, name=name_on(recipe.name, data))
    return recipe


def train_points(run: PointRun, workers: int | None = None) -> None:
    """Makes what is not made yet."""
    run.train(workers)


def evaluate_run(
    run: Run | PointRun, workers: int | None = None, quick: bool = False, command: str = ""
) -> list[dict[str, Any]]:
    """Scores what is not scored yet; shows the table, the pictures and the verdicts."""
    rows = run.evaluate(workers, quick=quick) if isinstance(run, Run) else run.evaluate(workers)
    CONSOLE.print(results_table(rows).text())
    pictures = draw_run(run, rows)
    lines = [f"table:    {run.folder / 'results.csv'}", *(f"picture:  {path}" for path in pictures)]
    print(*lines, sep="\n")
    if isinstance(run, Run) and len(rows) < sum(len(stage.points) for stage in run.recipe.stages):
        print("Some points are not trained yet, so no claim is decided yet.")
    else:
        show_verdicts(run, rows, command)
    return rows


def show_verdicts(run: Run | PointRun, rows: Sequence[dict[str, Any]], command: str) -> None:
    """Prints what the scores say about the paper's claims, and writes it into the run's folder.

    On other data than the paper's, claims about published numbers are left out.
    """
    command = command or f"quadrate evaluate {run.folder}"
    recipe = run.recipe
    verdicts = decide_run(recipe.name, getattr(recipe, "source", ""), rows, command)
    if not verdicts:
        print(f"\n{recipe.name} decides no published claim.")
        return
    path = write_verdicts(run.folder, verdicts, command)
    print("", *(verdict.line for verdict in verdicts), f"verdicts: {path}", sep="\n")
