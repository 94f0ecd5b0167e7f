"""`quadrate theory` with arrays that are hostile, bounds that are mistakes, and results in doubt.

One line each; and figures that stand alone.
"""

from __future__ import annotations

import io
import os
import zipfile
from typing import get_args

import numpy as np
import pytest

from quadrate.cli import main
from quadrate.experiments.reports import theory_figures as figures
from quadrate.theory import (
    AlignedLabels,
    Bernoulli,
    Discrete,
    OneShotBernoulli,
    ScalarGaussian,
    ScalarLabel,
    VectorGaussian,
)
from quadrate.theory.units import Divergence


def fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["theory", *map(str, arguments)])
    assert stopped.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith("quadrate: ") and text.count("\n") == 1 and text[:-1].isprintable()
    return text


def header(shape: str, descr: str = "'<f8'") -> bytes:
    """An .npy file that claims a shape."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)


HOSTILE = {
    "brackets": header("[[["),
    "minus signs": header("(" + "-" * 8000 + "1,)"),
    "huge": header("(10000000000000,)"),
    "beyond integers": header("(10**40,)"),
    "objects": header("(8,)", "'|O'"),
    "unknown type": header("(8,)", "'<zz'"),
    "cut short": header("(80,)"),
    "nothing": b"",
    "text": b"hello",
    "pickle": b"\x80\x04cos\nsystem\n",
    "records": header("(4,)", "[('a', '<f8'), ('b', '<f8')]"),
    "times": header("(8,)", "'<M8[s]'"),
    "complex": header("(4,)", "'<c16'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays_are_one_line(capsys, tmp_path, name):
    array = tmp_path / "covariance.npy"
    array.write_bytes(HOSTILE[name])
    fails(capsys, "rate", "vector-gaussian", "--covariance", array)
    with zipfile.ZipFile(tmp_path / "source.npz", "w") as archive:
        archive.writestr("pmf.npy", HOSTILE[name])
        archive.writestr("distortion.npy", HOSTILE[name])
    fails(capsys, "rate", "discrete", tmp_path / "source.npz")


def test_hostile_archives_are_one_line(capsys, tmp_path):
    good = io.BytesIO()
    np.savez_compressed(good, pmf=np.full(2, 0.5), distortion=1 - np.eye(2))
    data = good.getvalue()
    path = tmp_path / "source.npz"
    for i in range(0, len(data), 7):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :])
        try:
            main(["theory", "rate", "discrete", str(path)])
        except SystemExit as stopped:
            assert stopped.code == 1
        assert capsys.readouterr().err.count("\n") <= 1
    with zipfile.ZipFile(
        path, "w"
    ) as archive:  # a member without the ending, and one with an escape sequence in its name
        archive.writestr("pmf", b"x")
        archive.writestr("\x1b[31mdistortion\n.npy", header("(8,)"))
    fails(capsys, "rate", "discrete", path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("pmf.npy", header("(8,)"))
        archive.writestr("distortion.npy", header("(8,)"))
    damaged = bytearray(path.read_bytes())
    damaged[60:80] = bytes(20)
    path.write_bytes(damaged)
    fails(capsys, "rate", "discrete", path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pmf.npy", header(f"({1 << 25},)") + bytes(1 << 28))
        archive.writestr("distortion.npy", b"")
    assert "takes at most 134217728 bytes" in fails(capsys, "rate", "discrete", path)


def test_what_is_no_file_is_one_line(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name in (tmp_path / "pipe.npy", tmp_path, "x" * 5000, tmp_path / "missing"):
        fails(capsys, "rate", "vector-gaussian", "--covariance", name)
    (tmp_path / "numbers.csv").write_bytes(b"\xff\xfe\x00\x01,2\n")
    fails(capsys, "rate", "vector-gaussian", "--covariance", tmp_path / "numbers.csv")
    for name in (tmp_path / "missing", "x" * 5000, tmp_path / "numbers.csv"):
        fails(capsys, "rate", "discrete", name)


def test_an_erasure_from_csv(capsys, tmp_path):
    (tmp_path / "pmf.csv").write_text("0.5,0.5\n")
    (tmp_path / "distortion.csv").write_text("0,inf,1\ninf,0,1\n")
    main(["theory", "rate", "discrete", str(tmp_path), "--distortion", "0.25"])
    assert float(capsys.readouterr().out) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        "rate gaussian --distortion -1",
        "rate bernoulli --p .3 --perception -.1",
        "distortion vector-gaussian --variances 1 2 --rate -1",
        "classification one-shot-bernoulli --p .3 --label-flip .1 --rate 1 --distortion -1",
        "curve gaussian --vary distortion --from -1 --to 1",
        "surface gaussian --vary distortion perception --from .1 -.1 --to 1 1",
    ],
)
def test_what_cannot_be_negative_is_refused(capsys, arguments):
    assert "must be >= 0; got -" in fails(capsys, *arguments.split())


def test_a_local_result_is_said_in_one_line(capsys, tmp_path):
    np.savez(
        tmp_path / "source.npz",
        pmf=[0.6, 0.4],
        distortion=1 - np.eye(2),
        label_channel=[[0.9, 0.1], [0.2, 0.8]],
    )
    main(["theory", "rate", "discrete", str(tmp_path / "source.npz"), "--classification", "0.8"])
    shown = capsys.readouterr()
    assert 0 < float(shown.out) < 1
    assert (
        shown.err.startswith("quadrate: warning: ")
        and "upper bound" in shown.err
        and shown.err.count("\n") == 1
    )


def test_the_command_line_offers_the_divergences_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["theory", "rate", "gaussian", "--help"])
    words = capsys.readouterr().out.replace(" ", "").replace("\n", "")
    assert (
        "{" + ",".join(get_args(Divergence)) + "}" in words
        or "{" + "|".join(get_args(Divergence)) + "}" in words
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            ScalarGaussian(2.0, 0.5, 0.9, 0.1),
            ("Gaussian", "variance 2", "variance 0.5", "correlation 0.9", "noise of variance 0.1"),
        ),
        (Bernoulli(0.3, 0.1, 0.05), ("Binary", "P(X=1) = 0.3", "probability 0.1", "0.05")),
        (OneShotBernoulli(0.3, 0.1), ("Binary", "0.3", "0.1", "one symbol at a time")),
        (
            VectorGaussian([3.0, 2.0], ScalarLabel([1.0, 0.5], 0.1)),
            ("2 dimensions", "3, 2", "weights 1, 0.5", "noise 0.1"),
        ),
        (
            VectorGaussian([3.0, 2.0], AlignedLabels([1.0, 0.5], [0.1, 0.2])),
            ("gains 1, 0.5", "noises 0.1, 0.2"),
        ),
        (
            Discrete([0.5, 0.5], np.ones((2, 3)), np.eye(2), np.full((3, 2), 0.5)),
            ("2 letters", "1 bits", "3 letters", "2 values", "frozen"),
        ),
    ],
)
def test_a_source_says_what_it_is(source, words):
    assert all(word in figures.source_label(source) for word in words)


def test_figures_stand_alone(capsys, monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure))
    curve = ["--vary", "distortion", "--from", "0", "--to", ".5", "--points", "3"]
    main(
        [
            "theory",
            "curve",
            "bernoulli",
            "--p",
            ".3",
            "--label-flip",
            ".1",
            *curve,
            "--classification",
            ".8",
            "--output",
            "x.png",
        ]
    )
    main(["theory", "noise"])
    main(["theory", "contours"])
    captions = [" ".join(figure.get_supxlabel().split()) for figure in kept]
    assert captions[0] == "Binary source, P(X=1) = 0.3, label flipped with probability 0.1"
    assert (
        "under classification\N{NO-BREAK SPACE}≤\N{NO-BREAK SPACE}0.8\N{NO-BREAK SPACE}bits"
        in kept[0].axes[0].get_title().replace("\n", " ")
    )
    assert "P(X=1) = 0.2" in captions[1]
    assert (
        "variance 1, label of variance 0.5 and correlation 0.9" in captions[2]
        and "P(X=1) = 0.1" in captions[2]
    )
    capsys.readouterr()
