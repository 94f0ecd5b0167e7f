"""Receivers: they learn what there is to learn, choose on validation, and their intervals cover."""

import numpy as np
import pytest

from quadrate.errors import QuadrateError
from quadrate.evaluation.receivers import GRIDS, accuracy_interval, accuracy_lost, train_receiver


def draw(count: int, seed: int, classes: int = 3, dim: int = 12, spread: float = 1.0):
    """Classes as Gaussians around the first unit vectors times 3, and their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    return (spread * generator.normal(size=(count, dim)) + 3 * np.eye(dim)[labels]).astype(
        np.float32
    ), labels


def best_possible(features, labels, classes: int = 3) -> float:
    """The accuracy of the rule that knows the law: the nearest centre."""
    return float(np.mean(features[:, :classes].argmax(1) == labels))


@pytest.mark.parametrize("name", GRIDS)
def test_each_receiver_comes_near_the_best_possible_one(name):
    test = draw(4000, 2)
    receiver = train_receiver(name, draw(1500, 0), draw(500, 1))
    assert receiver.correct(*test).mean() > best_possible(*test) - 0.015
    assert receiver.predict(test[0]).dtype == np.int64


@pytest.mark.parametrize("name", GRIDS)
def test_validation_chooses(name):
    train, validation = (
        draw(60, 3, dim=200, spread=1.6),
        draw(300, 4, dim=200, spread=1.6),
    )  # few and noisy, so that the penalty matters
    grid = (1.0, 0.1, 0.01, 1e-4) if name == "mlp" else GRIDS[name]
    alone = {
        value: float(
            train_receiver(name, train, validation, grid=[value]).correct(*validation).mean()
        )
        for value in grid
    }
    receiver = train_receiver(name, train, validation, grid=grid)
    assert len(set(alone.values())) > 1
    assert receiver.validation_accuracy == alone[receiver.hyperparameter] == max(alone.values())
    assert receiver.hyperparameter == next(
        value for value in grid if alone[value] == max(alone.values())
    )
    assert receiver.at_the_edge == (receiver.hyperparameter in (grid[0], grid[-1]))


def test_scale_shift_and_empty_dimensions_change_nothing():
    train, validation, test = draw(300, 5), draw(100, 6), draw(500, 7)
    scale = np.float32(2.0) ** np.arange(-6, 6)

    def moved(features):
        return np.hstack(
            [features * scale + 8 * scale, np.full((len(features), 2), 0.1, np.float32)]
        )

    before = train_receiver("linear", train, validation)
    after = train_receiver(
        "linear", (moved(train[0]), train[1]), (moved(validation[0]), validation[1])
    )
    assert after.hyperparameter == before.hyperparameter
    assert np.mean(after.predict(moved(test[0])) == before.predict(test[0])) > 0.998


def test_a_seed_gives_the_same_mlp():
    train, validation, test = draw(200, 8), draw(50, 9), draw(300, 10, spread=2)
    first, again, other = (
        train_receiver("mlp", train, validation, grid=[1e-4], seed=seed).predict(test[0])
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_interval_of_an_accuracy():
    interval = accuracy_interval(np.arange(10) < 8)
    assert interval == pytest.approx(
        (0.8, 0.4902, 0.9433), abs=5e-5
    )  # Wilson's for 8 of 10, as in any table
    assert (
        accuracy_interval(np.ones(20, bool)).high == 1
        and accuracy_interval(np.zeros(20, bool)).low == 0
    )


def test_the_interval_of_a_loss_uses_the_pairing():
    before = np.arange(1000) < 800
    assert (
        accuracy_lost(before, before).high < 0.004
    )  # unpaired, two accuracies of 1000 samples differ by up to 0.035
    after = before.copy()
    after[:30] = False
    lost = accuracy_lost(before, after)
    assert lost.estimate == 0.03 and lost.low > 0.018
    back = accuracy_lost(after, before)
    assert back == pytest.approx((-lost.estimate, -lost.high, -lost.low))


@pytest.mark.parametrize("shares", [(0.02, 0.01), (0.1, 0.1), (0.005, 0.0)])
def test_the_interval_of_a_loss_covers(shares):
    lost, won = shares
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        u = generator.random(1000)
        interval = accuracy_lost(u < 0.5 + lost, (u < 0.5) | (u > 1 - won))
        covered += interval.low <= lost - won <= interval.high
    assert 0.935 <= covered / 2000


def test_what_does_not_fit_is_said():
    train, validation = draw(50, 0), draw(50, 1)
    spoilt = train[0].copy()
    spoilt[3, 2] = np.nan
    cases = [
        (
            ("forest", train, validation),
            {},
            "unknown receiver 'forest': expected one of linear, svm, mlp",
        ),
        (("linear", train, validation), {"grid": []}, "the grid is empty"),
        (
            ("linear", (train[0], train[1][:-1]), validation),
            {},
            (
                r"training data is features \(N, d\) and labels \(N,\), N at least 1; got \(50,"
                r" 12\) and \(49,\)"
            ),
        ),
        (
            ("linear", train, (validation[0][:, 1:], validation[1])),
            {},
            "training features have 12 dimensions, validation features 11",
        ),
        (("linear", (spoilt, train[1]), validation), {}, "must be finite; 1 of 50 samples"),
        (
            ("linear", (train[0], train[1].astype(float)), validation),
            {},
            "labels must be integers from 0; got float64",
        ),
        (
            ("linear", (train[0], np.ones_like(train[1])), validation),
            {},
            "the training labels are all the same",
        ),
    ]
    for arguments, options, message in cases:
        with pytest.raises(QuadrateError, match=message):
            train_receiver(*arguments, **options)
    with pytest.raises(QuadrateError, match="got 0 samples"):
        accuracy_interval(np.zeros(0, bool))
    with pytest.raises(QuadrateError, match="got 3 before and 4 after"):
        accuracy_lost(np.ones(3, bool), np.ones(4, bool))
