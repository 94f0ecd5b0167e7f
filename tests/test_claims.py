"""The papers' claims.

Verdicts on rows whose answers are known, and never a verdict that the rows do not carry.
"""

import math
from pathlib import Path

import pytest

from claims_parts import answers, verdicts
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import CHECKS, write_verdicts
from quadrate.experiments.claims.claim import Spread, all_of, opposite
from quadrate.experiments.recipes import find_recipe
from quadrate.experiments.reports.summary import read_table
from quadrate.experiments.runs import to_csv
from rows_made import scored_recipe

RECIPES = [name for name in CHECKS if find_recipe(name).kind == "trade-off"]


# Rules


def test_an_interval_decides_only_where_it_lies_on_one_side() -> None:
    spread = Spread(2.0, 1.0, 3.0)
    assert [spread.below(limit) for limit in (4, 2, 0.5)] == ["yes", "undecided", "no"]
    assert [spread.above(limit) for limit in (4, 2, 0.5)] == ["no", "undecided", "yes"]
    assert Spread(2.0, math.nan, math.nan).below(4) == "undecided"
    assert [opposite(answer) for answer in ("yes", "no", "undecided")] == ["no", "yes", "undecided"]


def test_several_answers_make_one() -> None:
    assert all_of(["yes", "yes"]) == "yes"
    assert all_of(["yes", "undecided"]) == "undecided"
    assert all_of(["undecided", "no", "yes"]) == "no"
    assert all_of([]) == "undecided"


def test_a_spread_is_read_as_text() -> None:
    assert Spread(1.0189, 0.984, 1.054).percent().text(1, " %") == "1.9 % [-1.6, 5.4]"
    assert Spread.over([2.0]).text(1, " %", "+") == "+2.0 %"


# All recipes


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_decides_its_claims(name: str, tmp_path: Path) -> None:
    found = verdicts(name, scored_recipe(name))
    assert len(found) == len(CHECKS[name])
    for verdict in found:
        assert "not measured" not in verdict.measured and "nan" not in verdict.line
        assert verdict.line.startswith(
            f"{verdict.claim.text}: published {verdict.claim.published}; here "
        )
    page = write_verdicts(tmp_path, found, "quadrate reproduce").read_text()
    assert (
        all(verdict.claim.rule in page for verdict in found)
        and page.count("\n| ") == len(found) + 2
    )


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if name not in ("restore-mnist", "rpc-mnist")]
)
def test_one_seed_decides_nothing(name: str) -> None:
    rows = [row for row in scored_recipe(name) if row["seed"] == 0]
    assert set(answers(name, rows)) == {"undecided"}
    assert verdicts(name, rows)[0].here.endswith("(1 seed)")


def test_what_rows_lack_leaves_its_claim_undecided_and_no_other() -> None:
    rows = scored_recipe("rdp-mnist")
    for row in rows:
        del row["w1_certified"]
    whole, lacking = (verdicts("rdp-mnist", own) for own in (scored_recipe("rdp-mnist"), rows))
    assert [verdict.holds for verdict in whole] == ["yes", "yes", "no"]
    assert [verdict.holds for verdict in lacking] == ["yes", "undecided", "undecided"]
    for verdict in lacking[1:]:
        assert verdict.measured.startswith("not measured: no column 'w1_certified'")


def test_a_recipe_without_claims_has_no_verdicts_and_no_rows_are_an_error() -> None:
    assert verdicts("demo", scored_recipe("demo")) == []
    with pytest.raises(QuadrateError, match="there are no scored points"):
        verdicts("rdp-mnist", [])


def test_other_data_are_named_and_not_held_against_published_numbers() -> None:
    rows = scored_recipe("rdc-mnist")
    own = verdicts("rdc-mnist", rows)
    other = verdicts("rdc-mnist", rows, other_data="fashion-mnist")
    assert [verdict.claim for verdict in own if not verdict.claim.of_published_data] == [
        verdict.claim for verdict in other
    ]
    assert len(other) == len(own) - 2
    assert all(verdict.here.endswith("(3 seeds, fashion-mnist)") for verdict in other)


def test_the_committed_tables_decide() -> None:
    results = Path(__file__).parents[1] / "results"
    for name, words in (
        ("banana-rotation", ["holds", "holds"]),
        ("rdp-mnist", ["holds", "holds", "does not hold"]),
    ):
        assert [
            verdict.word for verdict in verdicts(name, read_table(results / name / "results.csv"))
        ] == words


# Tables


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        {"stage": "a, b", "seed": 0, "mse": 0.25},
        {"stage": "c", "seed": 1, "mse": 1e-6, "w1": math.inf},
    ]
    (tmp_path / "results.csv").write_text(to_csv(rows))
    assert read_table(tmp_path / "results.csv") == rows
    assert isinstance(read_table(tmp_path / "results.csv")[0]["seed"], int)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the table"),
        ("a,b\n1\n", "more or fewer cells"),
        ('a\n"1', "cannot read the table"),
    ],
)
def test_what_is_no_table_is_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "results.csv").write_text(text)
    with pytest.raises(QuadrateError, match=message) as caught:
        read_table(tmp_path / "results.csv")
    assert "\n" not in str(caught.value)
