"""Vector Gaussians: bad arguments, extreme channels, the solver alone, and its speed."""

import math
import time

import numpy as np
import pytest

from quadrate.theory.any_source import Constraints
from quadrate.theory.channels import DiscreteChannel, GaussianChannel
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.functions import measure, rate
from quadrate.theory.gaussian import barrier
from quadrate.theory.gaussian.vector import AlignedLabels, ScalarLabel, VectorGaussian
from vector_gaussian_parts import draw, inf, nats

# --- Arguments


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VectorGaussian([1.0, -1.0]), "covariance must be positive definite"),
        (lambda: VectorGaussian([1.0, 0.0]), "covariance must be positive definite \\(leave out"),
        (lambda: VectorGaussian([[1, 0.5], [0.2, 1]]), "covariance must be symmetric"),
        (lambda: VectorGaussian([[1, 2, 3], [4, 5, 6]]), "covariance must be symmetric"),
        (lambda: VectorGaussian(1.0), "covariance must have 1 or 2"),
        (lambda: VectorGaussian([1.0, math.nan]), "covariance must hold"),
        (
            lambda: VectorGaussian([1.0], "label"),
            "labels must be AlignedLabels, a ScalarLabel or None",
        ),
        (
            lambda: VectorGaussian([[1, 0.5], [0.5, 1]], AlignedLabels([1, 1], [1, 1])),
            "covariance must be diagonal for AlignedLabels",
        ),
        (
            lambda: VectorGaussian([1.0, 1.0], AlignedLabels([1], [1])),
            "labels must have one gain and noise for each of the 2 dimensions; got 1",
        ),
        (
            lambda: VectorGaussian([1.0, 1.0], ScalarLabel([1], 1)),
            "labels must have one weight for each of the 2 dimensions; got 1",
        ),
        (
            lambda: AlignedLabels([1, 1], [1]),
            "noises must have one entry for each of the 2 gains; got 1",
        ),
        (lambda: AlignedLabels([1, 0], [1, 0]), "noises must be >= 0, and > 0 where the gain is 0"),
        (lambda: AlignedLabels([1], [-1]), "noises must be >= 0"),
        (lambda: AlignedLabels([[1]], [[1]]), "gains must have 1 dimension"),
        (lambda: ScalarLabel([1.0], -0.1), "noise must be"),
        (lambda: ScalarLabel([0.0], 0.0), "noise must be"),
        (lambda: ScalarLabel("w", 1.0), "weights must be"),
    ],
)
def test_bad_sources(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_bad_questions():
    source = VectorGaussian([1.0, 2.0])
    one = np.ones(1)
    with pytest.raises(ValueError, match="divergence must be one of w2, kl for a VectorGaussian"):
        rate(source, 1.0, divergence="tv")
    with pytest.raises(ValueError, match="classification needs a source with a label"):
        rate(source, classification=1.0)
    with pytest.raises(ValueError, match="common_randomness must be inf"):
        rate(source, 1.0, common_randomness=1.0)
    with pytest.raises(ValueError, match="classifier_sees_randomness must be False"):
        rate(source, 1.0, classifier_sees_randomness=True)
    with pytest.raises(ValueError, match="divergence must be 'w2' for a universal rate"):
        source.solve_universal(Constraints(one, one, one * inf, "kl"))
    with pytest.raises(ValueError, match="common_randomness must be inf"):
        source.solve_universal(Constraints(one, one, one * inf, common_randomness=0.0))
    with pytest.raises(ValueError, match="channel must be a GaussianChannel"):
        measure(source, DiscreteChannel(np.eye(2)))
    for shapes in (((3, 3), (3, 3)), ((2, 2), (3, 2, 2)), ((2,), (2,))):
        with pytest.raises(ValueError, match="channel must have a gain and a noise of one shape"):
            measure(source, GaussianChannel(*map(np.ones, shapes)))


def test_measure_of_extreme_channels():
    source = VectorGaussian([1.0, 2.0], ScalarLabel([1, 1], 0.5))
    copy = measure(source, GaussianChannel(np.eye(2), np.zeros((2, 2))), unit="nats")
    assert float(copy.rate) == inf and float(copy.distortion) == float(copy.perception) == 0
    assert float(copy.classification) == pytest.approx(source.label_entropies[0], abs=1e-6)
    constant = measure(
        source, GaussianChannel(np.zeros((2, 2)), np.zeros((2, 2))), divergence="kl", unit="nats"
    )
    assert (float(constant.rate), float(constant.distortion), float(constant.perception)) == (
        pytest.approx(0, abs=1e-12),
        3,
        inf,
    )


# --- The barrier method


def line(slope):
    return lambda x: (float(slope @ x), slope, np.zeros((x.size, x.size)))


def test_barrier_solves_a_linear_program_to_its_gap():
    rows = np.array([[-1.0, 0], [0, -1.0], [1, 1]])
    barriers = [barrier.below(line(row), bound) for row, bound in zip(rows, [0, 0, 1], strict=True)]
    x = barrier.minimize(line(np.array([-1.0, -2.0])), barriers, np.array([0.3, 0.3]))
    assert -2 < -x[0] - 2 * x[1] < -2 + 1e-7


def test_barrier_solves_a_semidefinite_program():
    matrix = np.array([[2.0, 1], [1, 3]])
    within = barrier.positive_definite(-matrix, np.eye(2)[None])
    x = barrier.minimize(line(np.ones(1)), [within], np.array([10.0]))
    assert 0 < x[0] - np.linalg.eigvalsh(matrix)[-1] < 1e-7


def test_barrier_says_when_it_stopped_short():
    with pytest.warns(ConvergenceWarning, match="short of 1e-30"):
        barrier.minimize(
            line(np.ones(1)),
            [barrier.below(line(-np.ones(1)), -1.0)],
            2 * np.ones(1),
            tolerance=1e-30,
        )  # beyond rounding


@pytest.mark.parametrize(
    ("kind", "asked", "seconds"),
    [
        ("none", (0.5, inf, inf), 0.05),
        ("none", (0.5, 0.05, inf), 0.05),
        ("scalar", (0.5, inf, 1.0), 0.05),
        ("aligned", (0.5, inf, 3.0), 0.05),
        ("scalar", (0.5, 0.05, 1.0), 1),
        ("aligned", (0.5, 0.05, 3.0), 1),
    ],
)
def test_speed(kind, asked, seconds):
    """The quickest of several tries, at twice the promised time of a processor."""
    source, _ = draw(9, kind, 4)
    times = []
    for _ in range(5):
        begun = time.process_time()
        nats(source, *asked)
        times.append(time.process_time() - begun)
    assert min(times) < 2 * seconds
