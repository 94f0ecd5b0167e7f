"""One kind of run: config.json says the recipe's kind, and one class opens all of them."""

import json

import pytest

from quadrate.config import to_json
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import RECIPES
from quadrate.experiments.recipes.contour_recipe import rdpc_contours
from quadrate.experiments.runs import KINDS, Run, kind_of, read_recipe, read_results

ONE_OF_EACH = {
    "trade-off": "demo",
    "invariant": "group-exact",
    "features": "cifar-features",
    "clip": "lossyless-clip",
    "contours": "rdpc-contours",
}


@pytest.mark.parametrize("kind", ONE_OF_EACH)
@pytest.mark.parametrize("said", [True, False], ids=["now", "before 0.3"])
def test_the_recipe_of_a_folder_is_read_whatever_its_kind(kind, said, tmp_path):
    recipe = RECIPES[ONE_OF_EACH[kind]]()
    described = {"kind": kind} if said else {}
    text = json.dumps({**described, "recipe": json.loads(to_json(recipe))})
    (tmp_path / "config.json").write_text(text)
    assert kind_of(tmp_path) == recipe.kind == kind and kind in KINDS
    assert read_recipe(tmp_path) == recipe


def test_an_unknown_kind_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"kind": "video", "recipe": {}}')
    with pytest.raises(
        QuadrateError, match=r"config\.json: unknown kind 'video'; known: trade-off"
    ):
        Run.open(tmp_path)


def test_a_run_made_before_opens_and_keeps_its_scores(tmp_path):
    run = Run(rdpc_contours(), tmp_path).train()
    rows = run.evaluate()
    path = run.folder / "config.json"
    described = json.loads(path.read_text())
    assert described.pop("kind") == "contours"
    path.write_text(json.dumps(described))
    opened = Run.open(run.folder)
    assert opened.folder == run.folder and opened.results() == rows
    assert read_results(run.folder) == (run.recipe.name, rows)
    assert opened.evaluate(report=pytest.fail) == rows


def test_constructing_a_run_loads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("QUADRATE_DATA", str(tmp_path / "nowhere"))
    run = Run(RECIPES["lossyless-clip"](), tmp_path)
    with pytest.raises(QuadrateError, match="is missing"):
        run.prepare()


def test_an_option_that_a_kind_does_not_take_is_refused(tmp_path):
    with pytest.raises(QuadrateError, match="rdpc-contours runs a point a process"):
        Run(rdpc_contours(), tmp_path).train("stacked")
    with pytest.raises(QuadrateError, match="one way to be scored; leave --quick out"):
        Run(rdpc_contours(), tmp_path).train().evaluate(quick=True)
