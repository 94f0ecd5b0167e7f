"""`quadrate reproduce` from end to end on digits, its options, and its errors."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quadrate.cli.main import main
from quadrate.cli.steps import Changes, adapted, reproduce_command, verdicts_of
from quadrate.config import Recipe
from quadrate.evaluation import Protocol, conditional_entropy_bits
from quadrate.experiments.recipes import Grid, find_recipe
from quadrate.experiments.recipes.subset import Subset
from quadrate.experiments.runs import Run, read_results

QUICK = Protocol(critic_steps=5, judge_steps=5, directions=8, critic_batch=16, judge_batch=16)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rdp-mnist` with two weights and a judge without a file, trained and scored quickly."""

    def find(name: str, grid: Grid = "quick") -> Recipe:
        recipe = find_recipe(name, grid)
        stages = tuple(
            replace(stage, points=tuple(p for p in stage.points if p.lambda_p in (0.0, 0.015)))
            for stage in recipe.stages
        )
        return replace(recipe, stages=stages, judge="dense", independent_judge="dense")

    monkeypatch.setattr("quadrate.cli.steps.find_recipe", find)
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)
    monkeypatch.setattr(
        "quadrate.evaluation.conditional_entropy_bits", partial(conditional_entropy_bits, steps=5)
    )
    for module in ("scores", "references"):
        monkeypatch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)


def test_one_command_trains_scores_and_gives_verdicts(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "reproduce",
        "rdp-mnist",
        "--data",
        "digits",
        "--epochs",
        "1",
        "--workers",
        "1",
        "--runs",
        str(tmp_path),
    ]
    main(command)
    printed = capsys.readouterr().out
    (folder,) = tmp_path.glob("digits-rdp-mnist-*")
    assert {"results.csv", "trade-off.png", "verdicts.md"} <= {
        path.name for path in folder.iterdir()
    }
    assert len(read_results(folder)[1]) == 12
    lines = [line for line in printed.splitlines() if ": published " in line]
    assert len(lines) == 3 and lines[0].startswith(
        "universal penalty in MSE at 4.75 bits is small: published about 2 to 3 %; here "
    )
    assert all("(3 seeds, digits): " in line for line in lines)
    page = (folder / "verdicts.md").read_text()
    assert "Made by `quadrate reproduce rdp-mnist --epochs 1 --data digits`." in page
    assert all(line.rsplit(": ", 1)[1] in page for line in lines)
    models = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    main(command)  # the same command finds everything done
    assert capsys.readouterr().out.splitlines()[-5:] == printed.splitlines()[-5:]
    for verb in (command, ["evaluate", str(folder)]):
        main([*verb, "--json", "--quiet"])
        out, err = capsys.readouterr()
        facts = json.loads(out)
        assert not err and facts["run"] == str(folder) and len(facts["rows"]) == 12
        answers = [verdict["holds"] for verdict in facts["verdicts"]]
        assert len(answers) == 3 and set(answers) <= {"yes", "no", "undecided"}
        assert all(Path(path).exists() for path in (facts["table"], *facts["pictures"]))
    assert models == {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}


def test_the_run_is_that_of_train(tmp_path: Path) -> None:
    changes = Changes(data="digits", epochs=3)
    recipe = adapted(find_recipe("demo"), data="digits", epochs=3)
    assert changes.of("demo") == recipe
    assert replace(changes, seeds=1).of("demo") == recipe  # the recipe's own
    more = Run(replace(changes, seeds=2).of("demo"), tmp_path).folder
    assert more.name.startswith("demo-") and more != Run(recipe, tmp_path).folder


def test_the_command_says_what_changes_results_and_nothing_else() -> None:
    assert reproduce_command("rdp-mnist", Changes(), ()) == "quadrate reproduce rdp-mnist"
    changes = Changes("paper", "published", 3, 2, "my data", part=Subset(lambda_p=(0.0, 0.1)))
    assert (
        reproduce_command("rdp-mnist", changes, ["mine.py"])
        == "quadrate reproduce rdp-mnist --networks paper --grid published --seeds 3 --epochs 2"
        " --data 'my data' --lambda-p 0.0 0.1 --module mine.py"
    )


def test_a_recipe_without_claims_says_so(tmp_path: Path) -> None:
    run: Any = SimpleNamespace(folder=tmp_path, recipe=find_recipe("demo"))
    facts, lines = verdicts_of(run, [], "quadrate reproduce demo")
    assert facts == [] and lines[-1] == "demo decides no published claim."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["rdp-mnits"], "unknown recipe 'rdp-mnits'"),
        (["demo", "--seeds", "0"], "seeds must be at least 1"),
        (["demo", "--epochs", "0"], "epochs must be at least 1"),
        (["demo", "--grid", "published"], "demo has one grid only"),
        (["demo", "--data", "mnits"], "unknown source 'mnits'"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["reproduce", *arguments, "--runs", str(tmp_path)])
    errors = capsys.readouterr().err.strip()
    assert caught.value.code == 1 and part in errors and "\n" not in errors


def test_interrupted_it_says_how_to_go_on(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "reproduce",
        "rdp-mnist",
        "--data",
        "digits",
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--workers",
        "1",
        "--runs",
        str(tmp_path),
    ]

    def interrupt(self: Run, *arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted, pytest.raises(SystemExit) as caught:
        interrupted.setattr(Run, "evaluate", interrupt)
        main(command)
    (folder,) = tmp_path.glob("digits-rdp-mnist-*")
    trained = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert caught.value.code == 130 and len(trained) == 4 and not (folder / "verdicts.md").exists()
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "quadrate: interrupted; the same command goes on from the last checkpoint"
    )
    main(command)
    assert trained == {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert (folder / "verdicts.md").exists() and capsys.readouterr().out.count(
        "(1 seed, digits): undecided"
    ) == 3
