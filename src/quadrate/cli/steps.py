"""What `train`, `evaluate` and `reproduce` share: recipes as options change them, scores shown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from quadrate.cli.modules import weighted_terms
from quadrate.cli.printer import PRINTER, Printer
from quadrate.config import Recipe, Stage
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import decide_run, write_verdicts
from quadrate.experiments.recipes import Grid, find_recipe, with_epochs, with_seeds
from quadrate.experiments.recipes.catalogue import name_on
from quadrate.experiments.recipes.subset import Subset
from quadrate.experiments.reports import results_table
from quadrate.experiments.runs import Run
from quadrate.experiments.runs.kind import Workers
from quadrate.experiments.runs.kinds import find_kind
from quadrate.networks.family import CLASSIFIERS, FAMILIES
from quadrate.sources import load_source, source_name
from quadrate.training.batch_size import fitting_batch


@dataclass(frozen=True)
class Changes:
    """What options change in a recipe; `quadrate.cli.train` says what each means."""

    family: str | None = None
    grid: Grid = "quick"
    seeds: int | None = None
    epochs: int | None = None
    data: str | None = None
    judge: str | None = None
    term: tuple[str, ...] = ()
    part: Subset = Subset()

    @property
    def words(self) -> dict[str, list[str]]:
        """The words of the command line that say what changes, by the name of the option."""
        words: dict[str, list[str]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "part":
                words["part"] = value.words
            elif value != field.default:
                values = value if isinstance(value, tuple) else (value,)
                words[field.name] = [w for v in values for w in (f"--{field.name}", str(v))]
        return {name: found for name, found in words.items() if found}

    def of(self, name: str, remark: Callable[[str], None] = print) -> Any:
        """Return the recipe of that name with these changes; remarks say what was chosen.

        Raises:
            QuadrateError: If there is no such recipe, or it does not take an option.
        """
        recipe = find_recipe(name, self.grid)
        taken = find_kind(recipe.kind).options(recipe)
        for option, words in self.words.items():
            if option not in taken and option != "grid":
                raise QuadrateError(
                    f"{name} takes no {words[0]}, as all recipes of its kind: leave {words[0]} out"
                )
        changed = adapted(recipe, self.data, self.family, self.judge, self.epochs)
        if self.term:
            changed = replace(changed, terms=(*changed.terms, *weighted_terms(self.term)))
        if self.seeds is not None:
            changed = with_seeds(changed, self.seeds)
        if self.part.words:
            changed = self.part.of(changed)
        if "family" in taken:
            changed = for_data(recipe, changed, self.family, self.judge, remark)
        return changed


def reproduce_command(name: str, changes: Changes, modules: Sequence[str]) -> str:
    """Return the command that measures the same again, without options that say only where."""
    words = [word for found in changes.words.values() for word in found]
    words = ["--networks" if word == "--family" else word for word in words]
    words += [word for module in modules for word in ("--module", module)]
    return shlex.join(["quadrate", "reproduce", name, *words])


def adapted(
    recipe: Any,
    data: str | None = None,
    family: str | None = None,
    judge: str | None = None,
    epochs: int | None = None,
) -> Any:
    """Return a recipe with other data, networks, judge or passes; None changes nothing."""
    if data is not None and (data := source_name(data)) != recipe.source:
        # Another name: what is published for the recipe does not speak of other data.
        recipe = replace(recipe, source=data, name=name_on(recipe.name, data))
    own = {"family": family, "judge": judge}
    recipe = replace(recipe, **{name: text for name, text in own.items() if text is not None})
    return recipe if epochs is None else with_epochs(recipe, epochs)


def fitted(
    recipe: Recipe, shape: Sequence[int], family: str | None = None, judge: str | None = None
) -> Recipe:
    """Return a recipe with networks and judges that fit images of a shape (C, H, W).

    Those that are asked for stay.

    A judge that was published for the recipe's data knows its classes only, and networks for gray
    images see little in colours.
    """
    channels, height, width = shape
    large, colour = min(height, width) >= 8, channels == 3
    own = recipe.family if recipe.family not in ("compact", "compact-colour") else "compact"
    ours = recipe.family in FAMILIES.built_in  # registered ones are the user's choice
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
    strangers = recipe.strangers if large else ("dense",) * bool(recipe.strangers)
    independent = {judges[1], *strangers}
    stages = tuple(
        replace(stage, readers=tuple(name for name in stage.readers if name not in independent))
        for stage in recipe.stages
    )
    return replace(
        recipe,
        family=family,
        judge=judge,
        independent_judge=judges[1],
        strangers=strangers,
        stages=stages,
    )


def for_data(
    recipe: Recipe,
    changed: Recipe,
    family: str | None = None,
    judge: str | None = None,
    remark: Callable[[str], None] = print,
) -> Recipe:
    """Return the changed recipe with networks, judges and batches that fit its data.

    If the data are the recipe's own, nothing changes; otherwise remarks say what was chosen.
    """
    if changed.source == recipe.source:
        return changed
    source = load_source(changed.source)
    chosen = fitted(changed, source.shape, family, judge)
    if chosen != changed:
        size = "x".join(map(str, source.shape))
        strangers = f", never in the loss {', '.join(chosen.strangers)}" if chosen.strangers else ""
        remark(
            f"for images of {size}: family {chosen.family}, judge {chosen.judge}, independent judge"
            f" {chosen.independent_judge}{strangers}"
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
        remark(f"for {len(source.train)} training images: batches of {batch}")
    return replace(chosen, stages=stages)


def _with_fitting_batch(stage: Stage, count: int) -> Stage:
    return replace(
        stage, training=replace(stage.training, batch=fitting_batch(stage.training.batch, count))
    )


def evaluate_run(
    run: Run,
    workers: Workers = None,
    quick: bool = False,
    command: str = "",
    printer: Printer = PRINTER,
) -> list[dict[str, Any]]:
    """Score what is not scored yet; print the table, the pictures and the verdicts."""
    rows = run.evaluate(workers, printer.report, quick)
    pictures, table = run.kind.draw(rows), run.folder / "results.csv"
    if all(run.kind.rows(job) for job in run.kind.jobs(run.recipe)):
        verdicts, said = verdicts_of(run, rows, command)
    else:
        verdicts, said = None, ["Some points are not trained yet, so no claim is decided yet."]
    facts = {
        "run": run.folder,
        "table": table,
        "pictures": pictures,
        "rows": rows,
        "verdicts": verdicts,
    }
    places = [f"table:    {table}", *(f"picture:  {path}" for path in pictures)]
    printer.result(facts, results_table(rows), *places, *said)
    return rows


def verdicts_of(
    run: Run, rows: Sequence[dict[str, Any]], command: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Decide the paper's claims by the scores, and write the verdicts into the run's folder.

    On other data than the paper's, claims about published numbers are left out.

    Returns:
        The verdicts as facts, and as lines to print.
    """
    command = command or f"quadrate evaluate {run.folder}"
    recipe = run.recipe
    verdicts = decide_run(recipe.name, getattr(recipe, "source", ""), rows, command)
    if not verdicts:
        return [], ["", f"{recipe.name} decides no published claim."]
    path = write_verdicts(run.folder, verdicts, command)
    facts = [
        {
            "paper": verdict.claim.paper,
            "claim": verdict.claim.text,
            "published": verdict.claim.published,
            "measured": verdict.measured,
            "holds": verdict.holds,
            "seeds": verdict.seeds,
        }
        for verdict in verdicts
    ]
    return facts, ["", *(verdict.line for verdict in verdicts), f"verdicts: {path}"]
