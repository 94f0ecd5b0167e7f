"""Recipes: published grids, pinned digests, the catalogue, and colour recipes end to end."""

import copy
import csv
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import formats
from quadrate.cli.recipes import recipes
from quadrate.cli.steps import adapted
from quadrate.config import to_json
from quadrate.core import registry
from quadrate.core.digests import digest
from quadrate.errors import QuadrateError
from quadrate.evaluation import Protocol, conditional_entropy_bits
from quadrate.experiments.recipes import (
    RECIPES,
    Experiment,
    catalogue,
    find_recipe,
    register_recipe,
    with_epochs,
    with_seeds,
)
from quadrate.experiments.recipes.experiment import CITATIONS
from quadrate.experiments.reports.published_points import published_figure, published_points
from quadrate.experiments.runs import Run
from quadrate.networks import find_family
from quadrate.sources import load_source
from quadrate.training.stack import Stack

RESULTS = Path(__file__).parents[1] / "results"

KINDS = ("trade-off", "invariant", "features", "clip", "contours", "photographs", "probes")

# Run folders are found by these: whoever changes one loses what was trained under it.
DIGESTS = {
    "demo": "8f40b2d7dbb8",
    "promises-mnist": "ab8cf0a67d42",
    "promises-mnist-10bit": "793594ac92cf",
    "rdp-mnist": "9c3886a0b4f5",
    "refine-mnist": "6e2c2b31330e",
    "rdc-mnist": "a58ee7c35518",
    "rpc-mnist": "59195360ba90",
    "rdpc-mnist": "31f74ade23d7",
    "restore-mnist": "7432ba36a45b",
    "urdc-mnist": "372d0f4dcaa9",
    "urdc-mnist-6bit": "83886dfcd7bf",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_trained_recipes_are_what_they_were(name):
    assert digest(to_json(find_recipe(name))) == DIGESTS[name]
    assert find_recipe(name) == find_recipe(name, "quick") == RECIPES[name]()


# --- the published grids ---


def weights(name, stage="end-to-end", column="lambda_p"):
    return sorted(
        {getattr(point, column) for point in find_recipe(name, "published").stage(stage).points}
    )


def test_published_grids_are_the_papers():
    assert weights("rdp-mnist") == [0, 0.0033, 0.005, 0.0066, 0.008, 0.01, 0.011, 0.013, 0.015]
    assert weights("rdp-mnist", "universal") == [
        0,
        0.0025,
        0.004,
        0.005,
        0.006,
        0.008,
        0.009,
        0.01,
        0.011,
        0.013,
    ]
    assert find_recipe("rdp-mnist", "published").stage("universal").base.lambda_p == 0.015
    assert weights("rdp-svhn") == [0, 0.00025, 0.0005, 0.00075, 0.001, 0.00125, 0.0015, 0.002]
    assert find_recipe("refine-svhn", "published").stage("refined").base.lambda_p == 0
    assert weights("urdc-mnist", column="lambda_c") == [
        0,
        0.001,
        0.0033,
        0.0066,
        0.008,
        0.011,
        0.013,
        0.015,
    ]
    # RDPC's cross-entropy is in bits: λc .015 for it weighs a nat with .015 / ln 2.
    assert weights("rdc-mnist", column="lambda_c")[-1] * math.log(2) == pytest.approx(0.015)
    assert weights("rdc-mnist", column="lambda_d") == [0.5, 0.8, 1.0, 1.2]
    assert len(weights("rdpc-svhn", column="lambda_c")) == 8 and len(weights("rdpc-svhn")) == 5


@pytest.mark.parametrize(
    ("name", "runs_a_rate"),
    [("rdc-mnist", 32), ("rdpc-mnist", 63), ("rpc-mnist", 42), ("rdpc-svhn", 40)],
)
def test_published_grids_have_the_published_size(name, runs_a_rate):
    points = find_recipe(name, "published").stages[0].points
    rates = {point.rate_bound_bits for point in points}
    assert len(points) == runs_a_rate * len(rates) and {point.seed for point in points} == {0}
    # As many rates as the figures have, and in no rate more runs than the grid makes.
    published = [
        point["rate_bits"]
        for point in published_points(name)
        if point["figure"] in ("RDPC 9a", "RDPC 9b", "RDPC 10a", "RDPC 10b")
    ]
    assert sorted(set(published)) == pytest.approx(sorted(rates), abs=0.01)
    assert max(published.count(rate) for rate in published) <= runs_a_rate


def with_published_settings(catalogue):
    """The papers' experiments that have a published grid.

    Recipes of one's own may call a grid so and train as they like.
    """
    return [
        experiment
        for experiment in catalogue
        if experiment.paper in CITATIONS and "published" in experiment.grids
    ]


def test_a_recipe_of_ones_own_may_have_a_published_grid_with_settings_of_its_own():
    def own(grid="quick"):
        return find_recipe("demo")

    mine = Experiment("mine", own, "Me, 2027", "Fig. 1", "digits")
    assert mine.grids == ("quick", "published") and len(with_published_settings(catalogue())) >= 9
    assert with_published_settings(
        (*catalogue(), mine, replace(mine, paper="Quadrate"))
    ) == with_published_settings(catalogue())


@pytest.mark.parametrize(
    "experiment", with_published_settings(catalogue()), ids=lambda experiment: experiment.name
)
def test_published_settings(experiment):
    for stage in find_recipe(experiment.name, "published").stages:
        training = stage.training
        assert (training.surrogate, training.alternate, training.precision) == (
            "soft",
            True,
            "float32",
        )
        rates = (1e-4, 1e-4) if experiment.data == "svhn" else (1e-2, 2e-4)
        assert (training.learning_rate, training.critic_learning_rate) == rates
        assert training.epochs == (
            80 if experiment.data == "svhn" else 25 if experiment.name.startswith("urdc") else 30
        )
        assert training.batch == (128 if experiment.paper.startswith("RDPC") else 64)


@pytest.mark.parametrize(
    ("name", "grid", "message"),
    [
        ("rdc-mnist", "fine", "unknown grid 'fine'; known: quick, published"),
        ("demo", "published", "demo has one grid only, quick"),
        ("large-rate-mnist", "published", "large-rate-mnist has one grid only, quick"),
    ],
)
def test_what_there_is_not_is_said_in_a_line(name, grid, message):
    with pytest.raises(QuadrateError, match=message):
        find_recipe(name, grid)


# --- recipes with something changed ---


@pytest.mark.parametrize(
    ("name", "seeds"), [("rdc-mnist", 3), ("refine-mnist", 3), ("urdc-mnist", 3), ("demo", 1)]
)
def test_its_own_number_of_seeds_changes_nothing(name, seeds):
    recipe = find_recipe(name)
    assert with_seeds(recipe, seeds) == recipe
    more = with_seeds(recipe, seeds + 2)
    for stage, other in zip(recipe.stages, more.stages, strict=True):
        assert len(other.points) * seeds == len(stage.points) * (seeds + 2)
        assert {replace(point, seed=0) for point in stage.points} == {
            replace(point, seed=0) for point in other.points
        }
        assert {point.seed for point in other.points} == set(range(seeds + 2))


def test_no_seeds_are_refused():
    with pytest.raises(QuadrateError, match="seeds must be at least 1; got 0"):
        with_seeds(find_recipe("demo"), 0)


# --- the catalogue ---


def test_costs_in_the_catalogue_are_those_of_the_committed_results():
    if not RESULTS.is_dir():
        pytest.skip("the results are not beside the tests")
    for experiment in catalogue():
        path = RESULTS / experiment.name / "results.csv"
        rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
        measured = sum(float(row.get("train_cpu_seconds") or 0) for row in rows) / 60
        assert experiment.cpu_minutes == (round(measured, 1) if rows else None), (
            f"{experiment.name}: cpu_minutes in the catalogue should be {measured:.1f}"
        )


def test_catalogue_names_each_experiment_once_and_its_data():
    names = [experiment.name for experiment in catalogue()]
    assert len(set(names)) == len(names) and set(RECIPES) == set(names)
    for experiment in catalogue():
        recipe = find_recipe(experiment.name)
        assert recipe.name == experiment.name and recipe.kind in KINDS
        if recipe.kind == "trade-off":
            assert recipe.source == experiment.data
            assert experiment.points("quick") == sum(len(stage.points) for stage in recipe.stages)
        else:
            assert experiment.points("quick") == len(recipe.points)
        assert (experiment.committed == "yes") == (experiment.cpu_minutes is not None)


def test_catalogue_is_printed(capsys):
    recipes()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 110 and not any("…" in line for line in lines)
    assert any(re.search(r"rdc-mnist +Fig. 9a +mnist +72 +128 +68 +yes", line) for line in lines)
    assert any(re.search(r"rdp-svhn +Fig. 4c +svhn .* no$", line.rstrip()) for line in lines)
    assert not any(" here" in line for line in lines)  # a reader takes it for his own machine


# --- published points ---


def test_published_points_have_what_their_figures_show():
    first = published_figure("RDPC 9a")[0]
    assert (first["rate_bits"], first["mse"], first["accuracy"]) == (4.75, 0.04603, 0.7983)
    for figure, count, known in [
        ("RDPC 9b", 132, ("w1", "accuracy")),
        ("RDPC 10a", 36, ("rate_bits", "mse", "w1", "accuracy")),
        ("URDC 5", 14, ("mse", "w1")),
    ]:
        points = published_figure(figure)
        assert len(points) == count and all(
            not math.isnan(point[name]) for point in points for name in known
        )
    assert {point["kind"] for point in published_figure("URDC 6")} == {"end-to-end", "universal"}
    with pytest.raises(
        QuadrateError,
        match=r"no published points of figure 'RDPC 12'; there are some of RDPC 9a, RDPC 9b",
    ):
        published_figure("RDPC 12")


def test_figures_that_show_the_same_runs_agree():
    """Figs. 10a and 11a are two views of one grid.

    Where an accuracy and an MSE are in both, so is the W1, and the rate that was found apart.
    """
    pairs = 0
    for one in published_figure("RDPC 10a"):
        for other in published_figure("RDPC 11a"):
            if (
                abs(one["accuracy"] - other["accuracy"]) < 2e-4
                and abs(one["mse"] - other["mse"]) < 2e-5
            ):
                assert (
                    one["w1"] == pytest.approx(other["w1"], abs=2e-3)
                    and one["rate_bits"] == other["rate_bits"]
                )
                pairs += 1
    assert pairs == 8


def test_every_published_point_has_a_known_recipe_and_a_source():
    names = {experiment.name for experiment in catalogue()}
    assert sum(len(published_points(name)) for name in names) == 508
    for name in names:
        for point in published_points(name):
            assert point["source"] and point["kind"] in ("end-to-end", "universal")
            assert not math.isnan(point["mse"]) or not math.isnan(point["w1"])
            assert math.isnan(point["accuracy"]) or 0 < point["accuracy"] < 1
    assert published_points("demo") == []


# --- colour ---


@pytest.fixture(scope="module")
def svhn(tmp_path_factory):
    """A folder with SVHN's two files, small.

    A bright bar whose height is the label, on a coloured ground.
    """
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count) % 10
        images = rng.integers(0, 60, (count, 3, 1, 1)) + np.zeros(
            (count, 3, 32, 32), dtype=np.int64
        )
        for image, label in zip(images, labels, strict=True):
            image[:, 3 * label : 3 * label + 4] += 150
        return images.astype(np.uint8), labels

    formats.write_svhn(root / "svhn" / "train_32x32.mat", *split(240))
    formats.write_svhn(root / "svhn" / "test_32x32.mat", *split(60))
    return root


COLOUR = [experiment.name for experiment in catalogue() if experiment.data == "svhn"]
QUICK = Protocol(critic_steps=5, judge_steps=5, directions=8, critic_batch=16, judge_batch=16)


def few_points(name):
    """A colour recipe cut down to the strongest weights of each rate, one seed and one epoch.

    Bases have the strongest weights, or none at all.
    """
    stages = []
    for stage in find_recipe(name).stages:
        strongest = {
            point.levels: point
            for point in sorted(stage.points, key=lambda point: (point.lambda_p, point.lambda_c))
            if point.seed == 0
        }
        stages.append(
            replace(
                stage, points=tuple(strongest.values()), training=replace(stage.training, batch=40)
            )
        )
    return with_epochs(replace(find_recipe(name), stages=tuple(stages)), 1)


@pytest.mark.parametrize(
    "name", [name for name in COLOUR if name != "rdc-svhn"]
)  # the next test has that one
def test_colour_recipes_run_from_end_to_end(name, svhn, tmp_path, monkeypatch):
    monkeypatch.setenv("QUADRATE_DATA", str(svhn))
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)
    run = Run(few_points(name), tmp_path).train("single")
    assert run.source.shape == (3, 32, 32)
    for stage in run.recipe.stages:
        for point in stage.points:
            codec = run.codec(stage.name, point)
            bits = (
                30 + point.rate_bound_bits if stage.mode == "refinement" else point.rate_bound_bits
            )
            assert codec.rate_bound_bits == pytest.approx(bits) and round(bits) in (30, 45, 60)
            images = run.source.test.images[:20]
            again = codec.decode(codec.encode(images))
            assert (
                again.shape == images.shape and 0 <= float(again.min()) <= float(again.max()) <= 1
            )


def test_colour_codecs_are_scored_by_a_judge_of_another_kind(svhn, tmp_path, monkeypatch):
    monkeypatch.setenv("QUADRATE_DATA", str(svhn))
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)
    for module in ("scores", "references"):
        monkeypatch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)
    monkeypatch.setattr(
        "quadrate.evaluation.conditional_entropy_bits", partial(conditional_entropy_bits, steps=5)
    )
    rows = Run(few_points("rdc-svhn"), tmp_path).train("single").evaluate(1)
    assert sorted(round(row["rate_bound_bits"]) for row in rows) == [30, 45, 60]
    for row in rows:
        assert (
            math.isfinite(row["distortion_mse"])
            and 0 < row["rate_entropy_bits"] <= row["rate_bound_bits"]
        )
        assert row["train_cpu_seconds"] > 0 and 0 <= row["accuracy_independent"] <= 1
    assert sorted(path.stem.split("-", 2)[2] for path in (tmp_path / "judges").iterdir()) == [
        "conv-s0",
        "residual-s1",
    ]


def test_the_colour_family_stacks_and_says_what_it_takes():
    encoder = find_family("compact-colour").encoder
    modules = [encoder((3, 32, 32), 20) for _ in range(2)]
    x = torch.rand(2, 6, 3, 32, 32)
    alone = torch.stack(
        [copy.deepcopy(module)(images) for module, images in zip(modules, x, strict=True)]
    )
    assert alone.shape == (2, 6, 20) and alone.abs().max() <= 1
    torch.testing.assert_close(Stack.of(modules)(x), alone, rtol=1e-4, atol=1e-4)
    assert encoder((1, 28, 28), 3)(torch.rand(4, 1, 28, 28)).shape == (4, 3)
    with pytest.raises(
        QuadrateError, match="even sizes from 8x8 on, not of 9x21; `compact` takes any shape"
    ):
        encoder((3, 9, 21), 3)


def test_cifar10_is_cifar_10(tmp_path):
    recipe = adapted(find_recipe("rdc-svhn"), data="cifar10")
    assert (recipe.source, recipe.name) == ("cifar-10", "cifar-10-rdc-svhn") and recipe == adapted(
        find_recipe("rdc-svhn"), data="cifar-10"
    )
    images = np.arange(60 * 3072, dtype=np.uint8).reshape(60, 3, 32, 32)
    batches = formats.cifar_batches((images, np.arange(60) % 10), (images[:10], np.arange(10)))
    formats.write_tar(tmp_path / "cifar-10" / "cifar-10-binary.tar.gz", batches)
    assert (
        load_source("cifar10", tmp_path).fingerprint
        == load_source("cifar-10", tmp_path).fingerprint
    )


def test_recipes_import_nothing_heavy():
    program = "import sys, quadrate.experiments.recipes as r; r.catalogue(); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "numpy", "scipy", "matplotlib"} & set(modules)


def test_your_own_recipe_of_any_kind_is_registered_by_one_line_and_stands_in_the_catalogue():
    before = registry.contents()
    try:
        for name in ("demo", "group-exact"):
            own = partial(replace, find_recipe(name), name=f"my-{name}")
            register_recipe(own)
            assert find_recipe(f"my-{name}") == own()
        assert [line.name for line in catalogue()[-2:]] == ["my-demo", "my-group-exact"]
        assert catalogue()[-1].points("quick") == len(find_recipe("group-exact").points)
        with pytest.raises(QuadrateError, match="there is a recipe 'my-demo' already"):
            register_recipe(partial(replace, find_recipe("demo"), name="my-demo"))
    finally:
        registry.restore(before)
