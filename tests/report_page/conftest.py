"""A tiny run, trained and scored once, and the page made from it."""

import shutil
from pathlib import Path

import pytest

from evaluation_parts import QUICK
from page_parts import BASE, POINTS, SETTINGS
from quadrate.cli import main
from quadrate.config import Recipe, Stage
from quadrate.experiments.page import report_page
from quadrate.experiments.runs import Run
from quadrate.training.judges import save_judge


@pytest.fixture(scope="module")
def run(digits, judge, tmp_path_factory):
    """Two stages, the second on one encoder.

    Λp 0 and .01, two seeds each; scored on quick terms.
    """
    folder = tmp_path_factory.mktemp("runs")
    save_judge(judge, folder / "judge.safetensors")
    stages = (
        Stage("end-to-end", POINTS, training=SETTINGS),
        Stage("universal", POINTS, "universal", BASE, "end-to-end", SETTINGS),
    )
    name = str(folder / "judge.safetensors")
    recipe = Recipe("tiny", "a test", "digits", stages, judge=name, independent_judge=name)
    made = Run(recipe, folder, source=digits).train("single")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("scores", "references"):
            patch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)
        made.evaluate(workers=1)
    return made


@pytest.fixture(scope="module")
def page(run):
    return report_page([run.folder])


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run to spoil."""
    return Path(shutil.copytree(run.folder, tmp_path / "runs" / run.folder.name))


@pytest.fixture
def contours(tmp_path):
    main(["reproduce", "rdpc-contours", "--runs", str(tmp_path / "contours")])
    (folder,) = (tmp_path / "contours").glob("rdpc-contours-*")
    return folder
