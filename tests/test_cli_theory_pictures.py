"""The pictures of `quadrate theory`."""

import numpy as np
import pytest

from quadrate.experiments.reports import theory_figures as figures
from quadrate.theory import (
    Bernoulli,
    Discrete,
)
from theory_cli import asked

GAUSSIAN = "gaussian --variance 1 --label-variance .5 --correlation .9".split()


MAGIC = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


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
    """For each level the points (x, y) of its contour in the last set that was drawn."""
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
