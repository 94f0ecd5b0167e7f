"""The better of the two lower bounds of W1: one choice a point, and no gain from chance."""

import numpy as np
import pytest

from quadrate.errors import QuadrateError
from quadrate.experiments.claims.perception import better_w1, on_better_w1
from rows_made import scored


def test_each_point_takes_its_larger_bound_and_its_floor() -> None:
    rows = [
        scored(p=p, seed=seed, w1_fresh=2.0, w1_certified=certified, w1_certified_floor=-0.01)
        for seed in (0, 1)
        for p, certified in ((0.0, 3.0), (0.01, 1.0))
    ]
    found = better_w1(rows)
    assert [row["w1_bound"] for row in found] == ["w1_certified", "w1_fresh"] * 2
    assert [row["w1"] for row in found] == [3.0, 2.0] * 2
    assert [row["w1_floor"] for row in found] == [-0.01, rows[1]["w1_fresh_floor"]] * 2
    assert [{name: row[name] for name in rows[0]} for row in found] == rows


def test_a_bound_does_not_win_by_its_floor() -> None:
    row = scored(w1_fresh=2.0, w1_fresh_floor=0.3, w1_certified=1.9, w1_certified_floor=0.0)
    assert better_w1([row])[0]["w1_bound"] == "w1_certified"


def test_seeds_are_never_scored_by_different_bounds() -> None:
    floors = {"w1_fresh_floor": 0.0, "w1_certified_floor": 0.0}
    rows = [
        scored(seed=seed, w1_fresh=fresh, w1_certified=2.0, **floors)
        for seed, fresh in enumerate((2.3, 1.9, 1.9))
    ]
    assert [row["w1"] for row in better_w1(rows)] == [2.3, 1.9, 1.9]  # 2.03 on average


def test_two_equal_bounds_gain_little_by_chance() -> None:
    """With three seeds chance adds 1/√3 of what it adds to a maximum row by row."""
    generator = np.random.default_rng(0)
    chosen, maxima = [], []
    for p in range(300):
        draws = 2 + 0.1 * generator.normal(size=(3, 2))
        rows = [
            scored(
                p=float(p),
                seed=seed,
                w1_fresh=fresh,
                w1_certified=certified,
                w1_fresh_floor=0.0,
                w1_certified_floor=0.0,
            )
            for seed, (fresh, certified) in enumerate(draws.tolist())
        ]
        chosen += [row["w1"] - 2 for row in better_w1(rows)]
        maxima += draws.max(1).tolist()
    by_row = np.mean(maxima) - 2
    assert by_row == pytest.approx(0.1 / np.sqrt(np.pi), rel=0.1)
    assert np.mean(chosen) == pytest.approx(by_row / np.sqrt(3), rel=0.15)


@pytest.mark.parametrize(
    "column", ["w1_fresh", "w1_certified", "w1_fresh_floor", "w1_certified_floor"]
)
def test_nothing_stands_for_a_missing_bound(column: str) -> None:
    rows = [scored(seed=seed) for seed in (0, 1)]
    del rows[1][column]
    with pytest.raises(QuadrateError, match=f"no column '{column}'"):
        better_w1(rows)
    with pytest.raises(QuadrateError, match="there are no scored points"):
        better_w1([])


def test_a_measurement_names_its_bounds() -> None:
    check = on_better_w1(lambda rows: (f"{len(rows)} rows", "yes"))
    fresh = [scored(seed=seed) for seed in (0, 1)]
    assert check(fresh) == ("2 rows; W1 by the fresh critic", "yes")
    certified = [scored(p=0.1, w1_certified=9.0), scored(p=0.2, w1_certified=9.0)]
    assert check(certified) == ("2 rows; W1 by the certified bound", "yes")
    assert check(fresh + certified) == (
        "4 rows; W1 by the certified bound at 2 and the fresh critic at 1 points",
        "yes",
    )
