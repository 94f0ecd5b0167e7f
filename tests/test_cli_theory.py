"""`quadrate theory`, as a user meets it.

In this process, but for one call, since each process would import PyTorch anew.
"""

import csv
import subprocess
import sys

import numpy as np
import pytest

from quadrate.theory import (
    Bernoulli,
    OneShotBernoulli,
    ScalarGaussian,
    ScalarLabel,
    VectorGaussian,
    classification,
    distortion,
    rate,
)
from theory_cli import asked, number

GAUSSIAN = "gaussian --variance 1 --label-variance .5 --correlation .9".split()


def table(text):
    header, *rows = csv.reader(text.splitlines())
    return header, np.array(rows, dtype=np.float64)


def test_a_shell_gets_one_number():
    command = [
        sys.executable,
        "-c",
        "from quadrate.cli import main; main()",
        "theory",
        "rate",
        "gaussian",
        "--distortion",
        "0.25",
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


# From facts that others published or that were checked by brute force, see the tests of the
# sources.
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            [*GAUSSIAN, "--distortion", 0.55, "--classification", 0.9, "--unit", "nats"],
            0.2989185003778102,
        ),
        (
            [
                *GAUSSIAN,
                "--distortion",
                0.7,
                "--perception",
                0.02,
                "--classification",
                0.8,
                "--unit",
                "nats",
            ],
            0.3654457697041142,
        ),
        (
            [
                "gaussian",
                "--distortion",
                0.5,
                "--perception",
                0.03,
                "--divergence",
                "kl",
                "--unit",
                "nats",
            ],
            0.36011886058246595,
        ),
        (
            [
                "bernoulli",
                "--p",
                0.2,
                "--label-flip",
                0.05,
                "--distortion",
                0.05,
                "--classification",
                0.6,
            ],
            0.43553113777140606,
        ),
        (
            [
                "bernoulli",
                "--p",
                0.3,
                "--label-flip",
                0.1,
                "--perception",
                0,
                "--classification",
                0.8,
            ],
            0.20704014828029868,
        ),
        (
            [
                "vector-gaussian",
                "--variances",
                4,
                1.5,
                0.5,
                0.1,
                "--distortion",
                4,
                "--perception",
                0,
                "--unit",
                "nats",
            ],
            0.6950089872585586,
        ),
    ],
)
def test_rate(capsys, arguments, expected):
    assert number(capsys, "rate", *arguments) == pytest.approx(expected, abs=1e-6)


def test_an_infeasible_rate_is_inf(capsys):
    assert (
        asked(
            capsys,
            "rate",
            "bernoulli",
            "--p",
            0.4,
            "--label-flip",
            0.1,
            "--distortion",
            0.05,
            "--classification",
            0.46,
        )
        == "inf\n"
    )


def test_inverses(capsys):
    source = ScalarGaussian(1.0, 0.5, 0.9)
    assert number(capsys, "distortion", *GAUSSIAN, "--rate", 1, "--perception", 0) == pytest.approx(
        distortion(source, 1.0, 0.0), rel=1e-11
    )
    assert number(
        capsys, "classification", *GAUSSIAN, "--rate", 1, "--unit", "nats"
    ) == pytest.approx(classification(source, 1.0, unit="nats"), rel=1e-11)


def test_options_reach_the_rate_function(capsys):
    limited = distortion(ScalarGaussian(2.0), 1.0, 0.0, common_randomness=0.5)
    assert number(
        capsys,
        "distortion",
        "gaussian",
        "--variance",
        2,
        "--rate",
        1,
        "--perception",
        0,
        "--common-randomness",
        0.5,
    ) == pytest.approx(limited)
    source = Bernoulli(0.2, 0.1)
    limits = [
        "bernoulli",
        "--p",
        0.2,
        "--label-flip",
        0.1,
        "--perception",
        0,
        "--classification",
        0.7,
    ]
    seen = rate(
        source, perception=0.0, classification=0.7, divergence="tv", classifier_sees_randomness=True
    )
    assert number(capsys, "rate", *limits, "--classifier-sees-randomness") == pytest.approx(
        seen, abs=1e-6
    )
    assert number(capsys, "rate", *limits) > seen + 1e-3
    noisy = rate(ScalarGaussian(noise_variance=0.25), distortion=0.5)
    assert (
        number(capsys, "rate", "gaussian", "--noise-variance", 0.25, "--distortion", 0.5)
        == pytest.approx(noisy)
        != rate(ScalarGaussian(), 0.5)
    )


def test_options_may_come_before_the_source(capsys):
    assert number(capsys, "rate", "--distortion", 0.25, "--unit", "bits", "gaussian") == 1


def test_negative_numbers(capsys):
    source = ["vector-gaussian", "--variances", 2, 1, "--weights", -1, 0.5, "--noise", 0.1]
    expected = rate(
        VectorGaussian(np.diag([2.0, 1.0]), ScalarLabel(np.array([-1, 0.5]), 0.1)),
        classification=[-1, 1.2],
    )
    grid = [
        "--vary",
        "classification",
        "distortion",
        "--from",
        -1,
        5,
        "--to",
        1.2,
        6,
        "--points",
        2,
    ]
    np.testing.assert_allclose(
        table(asked(capsys, "surface", *source, *grid))[1][[0, 2], 2], expected
    )


def test_one_shot(capsys):
    expected = distortion(OneShotBernoulli(0.4, 0.1), 0.5)
    assert number(
        capsys, "distortion", "one-shot-bernoulli", "--p", 0.4, "--label-flip", 0.1, "--rate", 0.5
    ) == pytest.approx(expected)


def test_curve_as_a_table(capsys, tmp_path):
    arguments = [
        "curve",
        *GAUSSIAN,
        "--vary",
        "distortion",
        "--from",
        0,
        "--to",
        1,
        "--points",
        5,
        "--classification",
        0.5,
    ]
    text = asked(capsys, *arguments)
    header, rows = table(text)
    assert header == ["distortion", "rate_bits"]
    grid = np.linspace(0, 1, 5)
    np.testing.assert_allclose(
        rows,
        np.stack([grid, rate(ScalarGaussian(1.0, 0.5, 0.9), grid, classification=0.5)], 1),
        rtol=1e-11,
    )
    assert (
        asked(capsys, *arguments, "--output", tmp_path / "curve.csv")
        == f"table: {tmp_path / 'curve.csv'}\n"
    )
    assert (tmp_path / "curve.csv").read_text() == text


def test_curve_of_an_inverse_and_its_units(capsys):
    question = [
        *GAUSSIAN,
        "--of",
        "classification",
        "--vary",
        "rate",
        "--from",
        0.5,
        "--to",
        2,
        "--points",
        2,
        "--unit",
        "nats",
    ]
    header, rows = table(asked(capsys, "curve", *question))
    assert header == ["rate_nats", "classification_nats"]
    np.testing.assert_allclose(
        rows[:, 1], classification(ScalarGaussian(1.0, 0.5, 0.9), rows[:, 0], unit="nats")
    )
    header, rows = table(
        asked(
            capsys,
            "curve",
            "gaussian",
            "--vary",
            "perception",
            "--from",
            0,
            "--to",
            1,
            "--divergence",
            "kl",
            "--distortion",
            0.5,
        )
    )
    assert header == ["perception_kl_bits", "rate_bits"] and len(rows) == 50


def test_surface_as_a_table(capsys):
    grid = ["--vary", "perception", "distortion", "--from", 0, 0.2, "--to", 0.1, 0.8, "--points", 3]
    header, rows = table(asked(capsys, "surface", "gaussian", *grid))
    assert header == ["perception_w2", "distortion", "rate_bits"] and len(rows) == 9
    np.testing.assert_allclose(rows[:, 0], np.repeat([0, 0.05, 0.1], 3))
    np.testing.assert_allclose(rows[:, 1], np.tile([0.2, 0.5, 0.8], 3))
    np.testing.assert_allclose(rows[:, 2], rate(ScalarGaussian(), rows[:, 1], rows[:, 0]))
