"""What is seen of long work.

On a terminal, in a notebook, through the command line, and by a function of one's own.
"""

import io
import sys
import types

import pytest

from quadrate.cli import main
from quadrate.config import InvariantConfig, OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.core.progress import lines_off_terminal, shown
from quadrate.errors import QuadrateWarning
from quadrate.experiments.recipes.lossless_prediction import group_exact
from quadrate.experiments.runs import Run
from quadrate.sources.symmetry import Banana, OrbitSet, dihedral_patterns
from quadrate.training import find_judge, train_judge
from quadrate.training.invariant_trainer import train_invariant

POINTS = (OperatingPoint((3, 3)), OperatingPoint((3, 3), seed=1))
RECIPE = Recipe(
    "small",
    "a test",
    "digits",
    (Stage("first", POINTS, training=TrainingConfig(epochs=2, batch=64)),),
    judge="dense",
)


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)


class Terminal(io.StringIO):
    """A stderr with someone before it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr a terminal from now on, and gives what is seen there."""
    monkeypatch.setenv("TERM", "xterm")

    def begin() -> Terminal:
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return begin


@pytest.fixture
def notebook(monkeypatch):
    """As if this were a kernel; gives what its cell shows, in order."""
    seen: list[str] = []
    handle = types.SimpleNamespace(update=lambda data, raw: seen.append(data["text/plain"]))
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    display = types.SimpleNamespace(
        display=lambda data, raw, display_id: seen.append(data["text/plain"]) or handle
    )
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return seen


def work(digits, tmp_path, **options):
    """All that takes long; each piece of it says what it is."""
    train_judge(digits, "dense", epochs=1, **options)
    find_judge("dense", digits, tmp_path / "judges", **options)
    train_invariant(
        dihedral_patterns(2, [0.5, 0.5]), InvariantConfig(dims=2, steps=10, batch=16), **options
    )


def test_python_users_see_a_bar_on_a_terminal(digits, tmp_path, terminal):
    screen = terminal()
    work(digits, tmp_path)
    assert "judge dense-s0" in screen.getvalue() and "100%" in screen.getvalue()
    run, screen = Run(RECIPE, tmp_path, source=digits), terminal()
    run.train("single")
    assert all(text in screen.getvalue() for text in ("training", "100%", "2/2", "MSE"))


def test_they_see_a_line_in_a_notebook_without_widgets(digits, tmp_path, notebook):
    run = Run(RECIPE, tmp_path, source=digits).prepare()
    assert (
        notebook[0].startswith("judge dense-s0 ░")
        and "█" * 24 + " 1.0 of 1 dense-s0 CE" in notebook[-1]
    )
    run.train("single")
    assert "training " + "█" * 24 + " 2.0 of 2 " in notebook[-1]
    count = len(notebook)
    run.train("single")  # nothing is left to do
    assert len(notebook) == count


def test_elsewhere_they_see_nothing_and_none_is_silence_everywhere(digits, tmp_path, capsys):
    work(digits, tmp_path / "a")
    Run(RECIPE, tmp_path, source=digits).train("single")
    assert capsys.readouterr() == ("", "")


def test_none_is_silence_on_a_terminal_too(digits, tmp_path, terminal):
    run, screen = Run(RECIPE, tmp_path / "run", source=digits), terminal()
    work(digits, tmp_path, report=None)
    run.train("single", report=None)
    assert screen.getvalue() == ""


def test_a_function_of_ones_own_is_called_instead(digits, tmp_path, terminal):
    messages: list[dict] = []
    run, screen = Run(RECIPE, tmp_path / "run", source=digits).prepare(None), terminal()
    work(digits, tmp_path, report=messages.append)
    assert {message.get("stage") for message in messages} == {"judge", None}
    assert {"step", "steps", "distortion", "rate_bits"} == set(messages[-1])
    messages.clear()
    run.train("single", report=messages.append)
    assert [(m["stage"], m["point"], m["epoch"], m["epochs"]) for m in messages] == [
        ("first", p.key, e, 2) for p in POINTS for e in (1, 2)
    ]
    assert screen.getvalue() == ""


def test_runs_whose_points_stand_alone_report_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("quadrate.experiments.runs.invariant_kind._FIT_SAMPLES", 2000)
    recipe = group_exact()
    recipe = type(recipe)(
        "one",
        "a test",
        recipe.source,
        (InvariantConfig("vic", steps=4, batch=32, likelihood="bernoulli"),),
        recipe.augmentation,
    )
    run = Run(recipe, tmp_path)
    with lines_off_terminal():
        run.train(workers=1)
    assert capsys.readouterr().err.startswith(f"one/{recipe.points[0].key}: D ")


def test_the_command_line_prints_a_line_a_judge_where_nobody_watches(tmp_path, capsys):
    main(["judge", "digits", "--architecture", "dense", "--runs", str(tmp_path)])
    output, error = capsys.readouterr()
    assert (
        error.startswith("judge/dense-s0: CE ")
        and error.count("\n") == 1
        and output.startswith("judge dense-s0 on clean digits")
    )


def test_what_goes_on_from_a_checkpoint_counts_as_far_as_it_is(capsys):
    with lines_off_terminal(), shown("auto", "training", 2) as told:
        told({"stage": "s", "point": "a", "epoch": 3, "epochs": 4})
        told({"running": 2})
        told({"stage": "s", "point": "a", "epoch": 4, "epochs": 4, "mse": 0.5})
        told({"stage": "s", "point": "b", "steps": 20})  # a score of a point that had so many steps
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0].startswith("s/a: MSE 0.5000 [1/2, 1 running, 0 waiting; ")
        and lines[1].startswith("s/b:  [2/2, 0 running, 0 waiting; ")
        and lines[1].endswith("0 s left]")
    )


def test_training_needs_no_rich(digits, tmp_path, monkeypatch, terminal):
    """Machines to train on may have PyTorch, NumPy and safetensors only."""
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    screen = terminal()
    train_judge(digits, "dense", epochs=1)
    assert screen.getvalue().startswith("judge/dense-s0: CE ")


# --- small data sets ---


def test_a_batch_too_large_for_the_data_is_told_before_training(digits, tmp_path):
    """There are 256 images."""
    for batch, steps in ((1000, "1 step of a batch of 1000"), (100, "2 steps of a batch of 100")):
        stage = Stage("first", POINTS[:1], training=TrainingConfig(epochs=1, batch=batch))
        run = Run(
            Recipe(f"b{batch}", "a test", "digits", (stage,), judge="dense"),
            tmp_path,
            source=digits,
        )
        with pytest.warns(
            QuadrateWarning,
            match=(
                f"stage 'first': a pass over 256 training samples takes {steps}; with a batch of 32"
                " it would"
            ),
        ):
            run.train("single")
        run.train("single")  # what is trained needs no warning
    data = OrbitSet(Banana().sample(100, "x"), Banana("rotation"))
    with pytest.warns(
        QuadrateWarning, match="a pass over 100 training samples takes 1 step of a batch of 64"
    ):
        train_invariant(data, InvariantConfig(dims=1, steps=2, batch=64))
