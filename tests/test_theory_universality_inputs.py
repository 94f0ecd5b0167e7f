"""Universal representations: units, bad arguments, and letters that do not matter."""

import math

import numpy as np
import pytest

from quadrate.theory import rate
from quadrate.theory.channels import DiscreteChannel, GaussianChannel
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.discrete import Discrete
from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import ScalarLabel, VectorGaussian
from quadrate.theory.universality.representation import (
    AlphabetRepresentation,
    SquaredErrorRepresentation,
    representation,
)
from quadrate.theory.universality.universal import (
    mse_encoder_bounds,
    one_shot_bound,
    rate_penalty,
    universal_rate,
)
from universality_parts import random_letters, squares

INF = math.inf


SHARED = VectorGaussian([2.0, 1.0], ScalarLabel([0.0, 1.0], 0.1))


# Arguments ----------------------------------------------------------------------------------------


def test_kl_perception_and_entropies_follow_the_unit():
    pmf, points, encoder, labels, classifier = random_letters(5)
    source = Discrete(pmf, squares(points), labels, classifier)
    bits, nats = (
        representation(source, DiscreteChannel(encoder), divergence="kl", unit=unit)
        for unit in ("bits", "nats")
    )
    assert (bits.rate, bits.classification) == pytest.approx(
        (nats.rate / math.log(2), nats.classification / math.log(2))
    )
    limit = nats.classification + 0.1
    assert bits.distortion(0.02 / math.log(2), limit / math.log(2)) == pytest.approx(
        nats.distortion(0.02, limit), abs=1e-6
    )
    assert bits.decoder(0.02 / math.log(2)) == pytest.approx(nats.decoder(0.02), abs=1e-4)


LETTERS = Discrete([0.2, 0.3, 0.5], squares(np.arange(3.0)))


THREE = DiscreteChannel(np.full((3, 2), 0.5))


SCALAR = GaussianChannel(np.array(0.5), np.array(0.1))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: representation(1.0, SCALAR), "source must be"),
        (lambda: representation(LETTERS, SCALAR), "channel must be a DiscreteChannel"),
        (
            lambda: representation(LETTERS, DiscreteChannel(np.full((2, 2), 0.5))),
            r"channel must have shape \(3, any\)",
        ),
        (
            lambda: representation(LETTERS, DiscreteChannel(np.full((3, 2), 0.4))),
            "channel must be a distribution in every row",
        ),
        (
            lambda: representation(LETTERS, THREE, points=[1.0, 2.0]),
            "points must have one entry for each of the 3 letters",
        ),
        (lambda: representation(LETTERS, THREE, points=1.0), "points must have 1 or 2 dimension"),
        (
            lambda: representation(LETTERS, THREE, points=[0.0, 1.0, 2.0], divergence="tv"),
            "divergence must be 'w2' with points",
        ),
        (lambda: representation(LETTERS, THREE, divergence="l1"), "divergence must be one of"),
        (lambda: representation(LETTERS, THREE, unit="dits"), "unit must be"),
        (
            lambda: representation(
                Discrete([0.5, 0.5], 1 - np.eye(2), np.eye(2), np.full((2, 2), 0.5)),
                DiscreteChannel(np.eye(2)),
                points=[0.0, 1.0],
            ),
            "points must be None for a source with a frozen classifier",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR, points=[0.0]),
            "points must be None for a ScalarGaussian",
        ),
        (lambda: representation(ScalarGaussian(1.0), THREE), "channel must be a GaussianChannel"),
        (
            lambda: representation(ScalarGaussian(1.0), GaussianChannel(np.ones(2), np.ones(2))),
            "channel must be one encoder",
        ),
        (
            lambda: representation(SHARED, GaussianChannel(np.eye(2), np.eye(2)), divergence="kl"),
            "divergence must be 'w2'",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR).distortion(INF, 0.1),
            "classification must be inf",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR).distortion(math.nan),
            "perception must not be NaN",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR).interpolation(1.2),
            r"weight must be within \[0, 1\]",
        ),
        (
            lambda: universal_rate(LETTERS, 0.1),
            "source must be a ScalarGaussian or a VectorGaussian",
        ),
        (lambda: universal_rate(ScalarGaussian(1.0), []), "must list at least one point"),
        (
            lambda: rate_penalty(ScalarGaussian(1.0), [0.1, 0.2], [0.1, 0.2, 0.3]),
            "constraints must broadcast",
        ),
        (
            lambda: rate_penalty(ScalarGaussian(1.0), 0.1, INF, 0.1),
            "classification needs a source with a label",
        ),
        (
            lambda: universal_rate(SHARED, 0.1, 0.1, divergence="kl"),
            "divergence must be 'w2' for a universal rate",
        ),
        (lambda: mse_encoder_bounds(0.0, 0.0), "variance must be"),
        (lambda: mse_encoder_bounds(1.0, 1.1), "mmse must be"),
        (lambda: one_shot_bound(-1.0), "rate must be >= 0"),
        (lambda: one_shot_bound(1.0, unit="dits"), "unit must be"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_channel_of_an_infeasible_point_is_refused():
    needed, channel = rate(ScalarGaussian(1.0), 0.0, return_channel=True)
    assert needed == INF
    with pytest.raises(ValueError, match="channel must hold at least one number, all finite"):
        representation(ScalarGaussian(1.0), channel)


def test_a_decoder_that_is_not_reached_is_warned_of(monkeypatch):
    monkeypatch.setattr("quadrate.theory.universality.decoders._TANGENTS", 1)
    pmf, points, encoder, _, _ = random_letters(3)
    fixed = representation(
        Discrete(pmf, squares(points)), DiscreteChannel(encoder), divergence="kl"
    )
    with pytest.warns(ConvergenceWarning, match="was not reached in 1 steps"):
        fixed.distortion(0.01)


def test_letters_of_reconstruction_may_be_others_as_long_as_perception_is_not_bounded():
    pmf, points, encoder, labels, _ = random_letters(7, n=3)
    places, classifier = (
        np.linspace(-2, 2, 5),
        np.array([[1.0, 0.0], [0.7, 0.3], [0.5, 0.5], [0.2, 0.8], [0.0, 1.0]]),
    )  # zeros forbid letters
    fixed = representation(
        Discrete(pmf, squares(points, places), labels, classifier),
        DiscreteChannel(encoder),
        unit="nats",
    )
    joint = pmf[:, None] * encoder
    assert fixed.distortion() == pytest.approx((squares(places, points) @ joint).min(axis=0).sum())
    assert fixed.distortion(INF, 1.5) >= fixed.distortion()
    assert fixed.decoder(classification=1.5).shape == (3, 5)
    assert fixed.decoder(classification=1.5)[:, [0, 4]] == pytest.approx(0)
    with pytest.raises(
        ValueError, match="perception must be inf for a source whose X and X̂ differ"
    ):
        fixed.distortion(0.1)


def test_letters_of_probability_zero_do_not_matter():
    pmf, points, encoder, _, _ = random_letters(11, n=3)
    wider, rows = np.append(pmf, 0.0), np.vstack([encoder, encoder[0]])
    places = np.append(points, 9.0)
    for divergence in Discrete.divergences:
        small = representation(
            Discrete(pmf, squares(points)), DiscreteChannel(encoder), divergence=divergence
        )
        large = representation(
            Discrete(wider, squares(places)), DiscreteChannel(rows), divergence=divergence
        )
        for perception in (0.0, 0.05, INF):
            assert large.distortion(perception) == pytest.approx(
                small.distortion(perception), abs=1e-6
            )


def test_kinds_of_representation_are_told_apart():
    assert isinstance(representation(LETTERS, THREE), AlphabetRepresentation)
    assert isinstance(
        representation(LETTERS, THREE, points=[0.0, 1.0, 2.0]), SquaredErrorRepresentation
    )
