"""RDPC's theory figure as a recipe.

Contours where its closed forms say, verdicts that can fail, a folder like any run's.
"""

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from quadrate.cli import main
from quadrate.experiments.claims import decide
from quadrate.experiments.recipes import RECIPES
from quadrate.experiments.recipes.contour_recipe import rdpc_contours
from quadrate.experiments.runs import Run
from quadrate.theory import ScalarGaussian, rate


@pytest.fixture
def rows(tmp_path):
    return Run(rdpc_contours(), tmp_path).train().evaluate()


def answers(rows):
    return [
        verdict.holds
        for verdict in decide("rdpc-contours", rows, "quadrate reproduce rdpc-contours")
    ]


def test_rows_are_where_the_rate_function_reaches_the_rate(rows):
    """The solved-for D and C against roots of the rate function itself."""
    source = ScalarGaussian(1.0, 0.5, 0.9)
    assert [row["rate_nats"] for row in rows] == [0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1]
    for row in rows:
        nats = row["rate_nats"]
        mse = brentq(
            lambda d, nats=nats: rate(source, distortion=d, unit="nats") - nats,
            1e-4,
            1 - 1e-9,
            xtol=1e-12,
        )
        lowest = 0.5 * math.log(2 * math.pi * math.e * 0.5 * (1 - 0.81)) + 1e-6
        entropy = brentq(
            lambda c, nats=nats: rate(source, classification=c, unit="nats") - nats,
            lowest,
            1.07,
            xtol=1e-12,
        )
        assert (
            row["distortion_asymptote"]
            == pytest.approx(mse, abs=1e-9)
            == pytest.approx(math.exp(-2 * nats), abs=1e-9)
        )
        assert row["classification_asymptote_nats"] == pytest.approx(entropy, abs=1e-9)
        assert row["corner_rate_nats"] == pytest.approx(nats, abs=1e-12)


def test_the_contours_are_the_papers(rows):
    assert answers(rows) == ["yes", "yes"]
    verdict = decide("rdpc-contours", rows, "x")[0]
    assert (
        "7 contours, at most 0.00066 in D and 0.00037 in C" in verdict.line
        and "seed" not in verdict.here
    )


def test_other_contours_are_not(rows):
    assert (
        answers(
            [row | {"distortion_asymptote": row["distortion_asymptote"] + 0.002} for row in rows]
        )[0]
        == "no"
    )
    assert (
        answers(
            [
                row
                | {
                    "classification_asymptote_nats": (
                        row["classification_asymptote_nats"] * math.log(2)
                    )
                }
                for row in rows
            ]
        )[0]
        == "no"
    )
    assert answers([row | {"perception_spread_nats": 1e-3} for row in rows])[1] == "no"
    assert answers([row | {"perfect_perception_price_nats": 2e-7} for row in rows])[1] == "no"
    assert answers([row | {"rate_nats": 5.0} for row in rows])[0] == "undecided"


def test_one_command_makes_table_picture_and_verdicts(tmp_path, capsys):
    main(["reproduce", "rdpc-contours", "--runs", str(tmp_path)])
    printed = capsys.readouterr().out
    (folder,) = tmp_path.glob("rdpc-contours-*")
    assert {"config.json", "results.csv", "contours.png", "verdicts.md"} <= {
        path.name for path in folder.iterdir()
    }
    assert printed.count(": holds") == 2
    run = Run.open(folder)
    assert run.recipe == rdpc_contours() == RECIPES["rdpc-contours"]()
    table = np.genfromtxt(folder / "results.csv", delimiter=",", names=True)
    assert table["corner_rate_nats"] == pytest.approx(table["rate_nats"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "2"], "rdpc-contours takes no --seeds"),
        (["--data", "mnist"], "leave --data out"),
        (
            ["--grid", "published"],
            "rdpc-contours has one grid only, quick; there is no published one",
        ),
        (["--device", "cuda"], "has none; use --device cpu"),
    ],
)
def test_options_that_say_nothing_to_it_are_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "rdpc-contours", "--runs", str(tmp_path), *options])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
