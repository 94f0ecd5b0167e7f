"""`quadrate theory` with vectors and letters from files, and mistakes in one line."""

import warnings

import numpy as np
import pytest

from quadrate.cli import main
from quadrate.theory import (
    AlignedLabels,
    ConvergenceWarning,
    Discrete,
    ScalarLabel,
    VectorGaussian,
    rate,
)
from theory_cli import number


def fails(capsys, *arguments):
    """The one line with which `quadrate theory` ends."""
    with pytest.raises(SystemExit) as end:
        main(["theory", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert end.value.code == 1 and not out
    assert err.startswith("quadrate: ") and err.count("\n") == 1, err
    return err


def test_vector_gaussian_from_files_with_either_label(capsys, tmp_path):
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    np.savetxt(tmp_path / "covariance.csv", covariance, delimiter=",")
    np.save(tmp_path / "covariance.npy", covariance)
    expected = rate(
        VectorGaussian(covariance, ScalarLabel(np.array([0.0, 1.0]), 0.1)),
        distortion=1.2,
        classification=1.5,
    )
    for ending in ("csv", "npy"):
        source = [
            "vector-gaussian",
            "--covariance",
            tmp_path / f"covariance.{ending}",
            "--weights",
            0,
            1,
            "--noise",
            0.1,
        ]
        assert number(
            capsys, "rate", *source, "--distortion", 1.2, "--classification", 1.5
        ) == pytest.approx(expected, abs=1e-8)
    source = VectorGaussian(
        np.diag([2.0, 1.0]), AlignedLabels(np.array([0.5, 1.0]), np.array([0.3, 0.2]))
    )
    arguments = [
        "vector-gaussian",
        "--variances",
        2,
        1,
        "--gains",
        0.5,
        1,
        "--noises",
        0.3,
        0.2,
        "--distortion",
        1.2,
        "--classification",
        2.5,
    ]
    assert number(capsys, "rate", *arguments) == pytest.approx(
        rate(source, distortion=1.2, classification=2.5), abs=1e-8
    )


@pytest.fixture
def arrays():
    return {
        "pmf": np.array([0.5, 0.3, 0.2]),
        "distortion": 1 - np.eye(3),
        "label_channel": np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]),
    }


def test_discrete_from_an_archive_or_a_folder(capsys, tmp_path, arrays):
    np.savez(tmp_path / "source.npz", **arrays)
    folder = tmp_path / "source"
    folder.mkdir()
    np.savetxt(folder / "pmf.csv", arrays["pmf"])  # as a column
    np.savetxt(folder / "distortion.csv", arrays["distortion"], delimiter=",")
    np.save(folder / "label_channel.npy", arrays["label_channel"])
    expected = rate(Discrete(**arrays), distortion=0.2)
    for path in (tmp_path / "source.npz", folder):
        assert number(capsys, "rate", "discrete", path, "--distortion", 0.2) == pytest.approx(
            expected, abs=1e-8
        )


def test_a_solver_that_stops_short_is_heard_once(capsys, monkeypatch):
    def solver(source, **options):
        for point in (1, 2):
            warnings.warn(f"point {point} is inexact", ConvergenceWarning, stacklevel=2)
        return 1.0

    monkeypatch.setattr("quadrate.theory.rate", solver)
    main(["theory", "rate", "gaussian"])
    assert capsys.readouterr() == (
        "1\n",
        "quadrate: warning: point 1 is inexact (and 1 more such)\n",
    )


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("rate gaussian --variance -1", "variance must be a finite number > 0"),
        ("rate gaussian --distortion nan", "distortion must not be NaN"),
        ("rate gaussian --classification 1", "classification needs a source with a label"),
        ("rate gaussian --divergence tv", "divergence must be one of w2, kl"),
        ("rate bernoulli --p 0.3 --common-randomness 1", "common_randomness"),
        ("rate vector-gaussian", "either --variances or --covariance"),
        (
            "rate vector-gaussian --variances 1 --covariance x.csv",
            "either --variances or --covariance",
        ),
        ("rate vector-gaussian --variances 1 --gains 1 --noise 1", "one label"),
        ("rate vector-gaussian --variances 1 --gains 1", "noises"),
        ("rate vector-gaussian --variances 1 --weights 1", "both --weights and --noise"),
        ("rate vector-gaussian --variances 1 --noise 1", "both --weights and --noise"),
        ("rate vector-gaussian --covariance missing.csv", "no such file: missing.csv"),
        ("rate discrete missing.npz", "no such file: missing.npz"),
        ("curve gaussian --vary distortion --from 1 --to 0", "--from must be less than --to"),
        ("curve gaussian --vary distortion --from 0 --to inf", "--from must be less than --to"),
        (
            "curve gaussian --vary distortion --from 0 --to 1 --points 1",
            "--points must be at least 2",
        ),
        ("curve gaussian --vary rate --from 0 --to 1", "--vary must name quantities that differ"),
        (
            "curve gaussian --vary distortion --from 0 --to 1 --distortion 1",
            "--distortion must be left out where distortion varies",
        ),
        (
            "curve gaussian --vary distortion --from 0 --to 1 --rate 1",
            "--rate must be left out where rate is asked for",
        ),
        (
            "curve gaussian --vary distortion --from 0 --to 1 --output x.jpeg",
            "must end in .csv, .png, .pdf, .svg",
        ),
        (
            "surface gaussian --vary distortion distortion --from 0 0 --to 1 1",
            "--vary must name quantities that differ",
        ),
        (
            "surface gaussian --vary distortion perception --from 0 1 --to 1 0",
            "--from must be less than --to",
        ),
        ("contours --output x.csv", "must end in .png, .pdf, .svg"),
        ("noise --output x", "must end in .png, .pdf, .svg"),
    ],
)
def test_mistakes(capsys, tmp_path, monkeypatch, arguments, part):
    monkeypatch.chdir(tmp_path)
    assert part in fails(capsys, *arguments.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["curve.csv", "curve.png"])
def test_an_output_that_cannot_be_written(capsys, tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    output = tmp_path / "file" / name
    assert f"cannot write {output}" in fails(
        capsys,
        "curve",
        "gaussian",
        "--vary",
        "distortion",
        "--from",
        0,
        "--to",
        1,
        "--points",
        2,
        "--output",
        output,
    )


@pytest.mark.parametrize("text", ["1,2\n3\n", "one,two\n", "", "1;2\n3;4\n"])
def test_a_covariance_that_is_no_matrix_of_numbers(capsys, tmp_path, text):
    path = tmp_path / "covariance.csv"
    path.write_text(text)
    assert "covariance" in fails(capsys, "rate", "vector-gaussian", "--covariance", path)


def test_arrays_of_wrong_shape_or_name(capsys, tmp_path, arrays):
    np.savez(tmp_path / "narrow.npz", **arrays | {"distortion": np.eye(2)})
    assert "distortion" in fails(capsys, "rate", "discrete", tmp_path / "narrow.npz")
    np.savez(tmp_path / "named.npz", **arrays, labels=np.eye(3))
    assert "it holds pmf, distortion, label_channel, labels" in fails(
        capsys, "rate", "discrete", tmp_path / "named.npz"
    )
    np.save(tmp_path / "one.npy", np.eye(3))
    (tmp_path / "empty").mkdir()
    assert "must hold the arrays pmf and distortion" in fails(
        capsys, "rate", "discrete", tmp_path / "empty"
    )
    for name in ("one.npy", "text.npz"):
        (tmp_path / "text.npz").write_text("no archive")
        assert f"{tmp_path / name}: not a readable array file" in fails(
            capsys, "rate", "discrete", tmp_path / name
        )


def test_there_is_no_code_in_arrays(capsys, tmp_path):
    np.savez(tmp_path / "source.npz", pmf=np.array([{}], dtype=object))
    assert "Python objects" in fails(capsys, "rate", "discrete", tmp_path / "source.npz")
