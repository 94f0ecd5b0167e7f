"""`quadrate theory`, as a user meets it.

In this process, but for one call, since each process would import PyTorch anew.
"""

import csv
import subprocess
import sys
import warnings
from importlib import import_module

import numpy as np
import pytest

from quadrate.cli import main
from quadrate.experiments.reports import theory_figures as figures
from quadrate.theory import (
    AlignedLabels,
    Bernoulli,
    ConvergenceWarning,
    Discrete,
    OneShotBernoulli,
    ScalarGaussian,
    ScalarLabel,
    VectorGaussian,
    classification,
    distortion,
    rate,
)

cli = import_module("quadrate.cli.theory")  # its name in the package is the verb's
GAUSSIAN = "gaussian --variance 1 --label-variance .5 --correlation .9".split()
MAGIC = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


def asked(capsys, *arguments):
    """What `quadrate theory` prints."""
    main(["theory", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert not err
    return out


def number(capsys, *arguments):
    out = asked(capsys, *arguments)
    assert out.count("\n") == 1
    return float(out)


def fails(capsys, *arguments):
    """The one line with which `quadrate theory` ends."""
    with pytest.raises(SystemExit) as end:
        main(["theory", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert end.value.code == 1 and not out
    assert err.startswith("quadrate: ") and err.count("\n") == 1, err
    return err


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


@pytest.mark.parametrize("ending", MAGIC)
def test_a_name_decides_the_picture(capsys, tmp_path, ending):
    curve, surface = tmp_path / f"curve{ending}", tmp_path / f"surface{ending}"
    assert (
        asked(
            capsys,
            "curve",
            *GAUSSIAN,
            "--vary",
            "distortion",
            "--from",
            0,
            "--to",
            1,
            "--output",
            curve,
        )
        == f"figure: {curve}\n"
    )
    grid = ["--vary", "distortion", "classification", "--from", 0, 0, "--to", 1, 1, "--points", 20]
    asked(capsys, "surface", *GAUSSIAN, *grid, "--output", surface)
    for path in (curve, surface):
        assert path.read_bytes().startswith(MAGIC[ending])


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn from here on."""
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure))
    return kept


def contours(axes):
    """For each level the points (x, y) of its contour, of the last set of contours that was drawn."""
    last = [
        collection
        for collection in axes.collections
        if hasattr(collection, "levels") and not collection.filled
    ][-1]
    return dict(
        zip(np.round(last.levels, 9), (path.vertices for path in last.get_paths()), strict=True)
    )


def test_a_curve_shows_what_is_infeasible(capsys, drawn):
    asked(
        capsys,
        "curve",
        *GAUSSIAN,
        "--vary",
        "classification",
        "--from",
        0,
        "--to",
        1,
        "--unit",
        "nats",
        "--distortion",
        0.5,
        "--output",
        "x.png",
    )
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["infeasible"]
    assert (
        axes.get_xlabel() == "classification h(S|X̂) (nats)"
        and axes.get_ylabel() == "rate (nats per sample)"
    )
    assert (
        " ".join(axes.get_title().split())
        == "Least rate (nats per sample) of any codec under distortion ≤ 0.5."
    )


def test_the_contours_of_the_paper(capsys, drawn):
    assert asked(capsys, "contours") == "figure: contours.png\n"
    rdc, rpc, binary = drawn[0].axes
    # Where the contours of the paper's figure run far from their corners, read from it; in nats,
    # whatever its axis says.
    for level, mse, entropy in zip(
        0.3 * np.arange(1, 8),
        (0.54882, 0.30113, 0.16524, 0.0906, 0.04964, 0.02752, 0.01566),
        (0.84491, 0.65498, 0.50872, 0.40557, 0.33835, 0.29732, 0.27335),
        strict=True,
    ):
        x, y = contours(rdc)[round(level, 9)].T
        assert x.min() == pytest.approx(mse, abs=1e-3) and y.min() == pytest.approx(
            entropy, abs=1e-3
        )
        x, y = contours(rpc)[round(level, 9)].T
        np.testing.assert_allclose(y, entropy, atol=1e-3)  # perception is free
        assert x.min() == 0 and x.max() == 1
    assert (
        rpc.get_xlabel() == "perception (squared 2-Wasserstein)"
        and rpc.get_ylabel() == "classification h(S|X̂) (nats)"
    )
    for line in contours(binary).values():
        at_zero, at_most = line[line[:, 0].argmin(), 1], line[line[:, 0].argmax(), 1]
        assert at_zero > at_most + 5e-4  # for perception a worse label has to do


def test_noise_on_the_source(capsys, drawn):
    assert asked(capsys, "noise") == "figure: source-noise.png\n"
    clean, *noisy = drawn[0].axes[0].lines
    assert np.ptp(clean.get_ydata()) < 1e-9
    for line in noisy:
        least = line.get_ydata()
        assert least[0] > least[-1] + 1e-3 and (np.diff(least) < 1e-9).all()


def test_axes_say_what_they_show():
    source = Discrete(
        np.array([0.5, 0.5]), 1 - np.eye(2), np.eye(2), np.array([[0.9, 0.1], [0.2, 0.8]])
    )
    assert (
        figures.quantity_label("classification", source, "tv", "nats")
        == "classification cross-entropy (nats)"
    )
    assert (
        figures.quantity_label("perception", source, "kl", "bits")
        == "perception (KL divergence, bits)"
    )
    assert (
        figures.quantity_label("distortion", Bernoulli(0.5), "tv", "bits") == "distortion (Hamming)"
    )


def test_a_solver_that_stops_short_is_heard_once(capsys, monkeypatch):
    def solver(source, **options):
        for point in (1, 2):
            warnings.warn(f"point {point} is inexact", ConvergenceWarning, stacklevel=2)
        return 1.0

    monkeypatch.setitem(cli._SOLVERS, "rate", solver)
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
