"""Run folders whose files were changed by somebody.

One line that names the file, from every verb that reads them.
"""

import json
import random
import shutil
from pathlib import Path

import pytest

from quadrate.cli.plot import plot
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.page import report_page
from quadrate.experiments.recipes.contour_recipe import rdpc_contours
from quadrate.experiments.runs import Run
from quadrate.training.judges import save_judge
from rows_made import scored

POINT = OperatingPoint((3, 3))
VALUES = [
    None,
    True,
    -1,
    10**30,
    10**400,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "a\u2028b",
    "\x1b[31m",
    "../x",
    "/etc/x",
    [],
    [1],
    {},
    {"a": 1},
    "\ud800",
]


@pytest.fixture(scope="module")
def folders(digits, judge, tmp_path_factory):
    """A trade-off with made-up scores, and contours."""
    root = tmp_path_factory.mktemp("runs")
    save_judge(judge, root / "judge.safetensors")
    stage = Stage("end-to-end", (POINT,), training=TrainingConfig(epochs=1, batch=64))
    run = Run(
        Recipe("tiny", "a test", "digits", (stage,), judge=str(root / "judge.safetensors")),
        root,
        source=digits,
    )
    run.begin()
    write_text(run.place(stage, POINT) / "evaluation.json", json.dumps(scored(levels="3x3")))
    contours = Run(rdpc_contours(), root).train()
    contours.evaluate(1)
    return run.folder, contours.folder


def places(value, path=()):
    """Every place in a value of JSON but the root."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:4])
        if isinstance(value, list)
        else ()
    )
    for name, item in items:
        yield (*path, name)
        yield from places(item, (*path, name))


def mutate(path: Path, draw: random.Random) -> None:
    if path.suffix == ".csv":
        cells = path.read_text().split(",")
        cells[draw.randrange(len(cells))] = str(draw.choice(VALUES))
        path.write_text(",".join(cells), errors="replace")
        return
    value = json.loads(path.read_text())
    *way, last = draw.choice(list(places(value)))
    holder = value
    for name in way:
        holder = holder[name]
    if draw.random() < 0.2:
        del holder[last]
    else:
        holder[last] = draw.choice(VALUES)
    path.write_text(json.dumps(value))


def draw_plot(folders):
    plot(tuple(folders), str(folders[0].parent / "p.png"))


@pytest.mark.parametrize("kind", [0, 1])
def test_any_change_of_a_run_folders_tables_is_one_line(folders, kind, tmp_path):
    draw, said = random.Random(0), 0
    for i in range(60):
        folder = Path(shutil.copytree(folders[kind], tmp_path / str(i) / folders[kind].name))
        mutate(
            draw.choice(
                sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".csv"))
            ),
            draw,
        )
        for read in (report_page, draw_plot) if i % 4 == 0 else (report_page,):
            try:
                read([folder])
            except QuadrateError as error:
                said += 1
                assert str(error).isprintable() and str(folder) in str(error), str(error)
    assert said > 15


def test_opening_names_the_file(folders, tmp_path):
    draw = random.Random(1)
    for i in range(60):
        folder = Path(shutil.copytree(folders[1], tmp_path / str(i) / folders[1].name))
        mutate(folder / "config.json", draw)
        try:
            Run.open(folder)
        except QuadrateError as error:
            assert str(error).isprintable() and str(folder) in str(error), str(error)
