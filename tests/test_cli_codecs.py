"""The file verbs with codecs of features and invariant ones."""

import json

import numpy as np
import pytest
import torch

from quadrate.cli.main import main
from quadrate.codecs import FeatureCodec, InvariantCodec
from quadrate.config import InvariantConfig
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant

SOURCE = dihedral_patterns(2, (0.5, 0.5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A feature codec, invariant codecs with a decoder and without, features and patterns."""
    path = tmp_path_factory.mktemp("codecs")
    features = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    np.save(path / "features.npy", features)
    FeatureCodec(rate_bits=12).fit(features).save(path / "features.safetensors")
    patterns = SOURCE.sample(300, "x").float()
    np.save(path / "patterns.npy", patterns.numpy())
    for objective in ("vic", "bince"):
        config = InvariantConfig(
            objective, dims=2, steps=40, batch=64, likelihood="bernoulli", beta=0.05
        )
        train_invariant(SOURCE, config).codec(patterns).save(path / f"{objective}.safetensors")
    return path


def run(*words) -> None:
    main([str(word) for word in words])


def test_features_go_there_and_back(folder, tmp_path, capsys):
    file, codec = tmp_path / "f.quad", folder / "features.safetensors"
    run("compress", folder / "features.npy", "--codec", codec, "-o", file)
    run("decompress", file, "--codec", codec, "-o", tmp_path / "back.npy")
    back = np.load(tmp_path / "back.npy")
    assert back.dtype == np.float32
    assert np.array_equal(
        back, FeatureCodec.load(codec).transform(np.load(folder / "features.npy"))
    )
    run("verify", file, "--codec", codec)
    run("inspect", file, "--codec", codec, "--json")
    said = capsys.readouterr().out
    assert (
        "all layers decode" in said
        and json.loads(said[said.index("{") :])["codec"]["rate_bound_bits"] is None
    )
    run("inspect", file, "--codec", codec)
    assert "reads it" in capsys.readouterr().out


def test_features_that_float32_does_not_hold_come_back_as_precisely_as_asked(tmp_path):
    features = 1e8 + np.random.default_rng(0).normal(size=(2000, 8))
    codec = tmp_path / "f.safetensors"
    np.save(tmp_path / "f.npy", features)
    FeatureCodec(mse=0.01).fit(features).save(codec)
    run("compress", tmp_path / "f.npy", "--codec", codec, "-o", tmp_path / "f.quad")
    for name, options in {
        "back": (),
        "narrow": ("--dtype", "float32"),
        "wide": ("--dtype", "float64"),
        "latents": ("--latents",),
    }.items():
        run(
            "decompress",
            tmp_path / "f.quad",
            "--codec",
            codec,
            "-o",
            tmp_path / f"{name}.npy",
            *options,
        )
    back, narrow, wide, latents = (
        np.load(tmp_path / f"{name}.npy") for name in ("back", "narrow", "wide", "latents")
    )
    assert back.dtype == wide.dtype == latents.dtype == np.float64 and narrow.dtype == np.float32
    assert 0.009 < ((back - features) ** 2).mean() < 0.0101
    assert np.array_equal(back, wide) and np.array_equal(back.astype(np.float32), narrow)
    loaded = FeatureCodec.load(codec)
    assert np.array_equal(loaded.reconstruct(torch.from_numpy(latents)).numpy(), back)


def test_invariant_codecs_give_representatives_and_latents(folder, tmp_path):
    file, codec = tmp_path / "p.quad", folder / "vic.safetensors"
    run("compress", folder / "patterns.npy", "--codec", codec, "-o", file)
    run(
        "decompress",
        file,
        "--codec",
        codec,
        "-o",
        tmp_path / "upright.npy",
        "--dtype",
        "float32",
        "--decoder",
        "representative",
    )
    run(
        "decompress",
        file,
        "--codec",
        codec,
        "-o",
        tmp_path / "latents.npy",
        "--latents",
        "--samples",
        "20:0:-2",
    )
    loaded = InvariantCodec.load(codec)
    patterns = torch.from_numpy(np.load(folder / "patterns.npy"))
    received = loaded.dequantize(loaded.encode(patterns))
    assert np.array_equal(
        np.load(tmp_path / "latents.npy"), received[torch.arange(20, 0, -2)].numpy()
    )
    assert np.allclose(np.load(tmp_path / "upright.npy"), loaded.reconstruct(received).numpy())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("decompress", "b.quad", "--codec", "bince.safetensors", "-o", "x.npy"),
            "decodes nothing; read its latents",
        ),
        (
            ("decompress", "b.quad", "--codec", "bince.safetensors", "-o", "x", "--latents"),
            "--latents needs an output that ends in .npy",
        ),
        (
            (
                "decompress",
                "b.quad",
                "--codec",
                "bince.safetensors",
                "-o",
                "x.npy",
                "--latents",
                "--dtype",
                "uint8",
            ),
            "leave --dtype",
        ),
        (
            ("decompress", "f.quad", "--codec", "features.safetensors", "-o", "x"),
            "holds features of 5 dimensions: give an output that ends in .npy",
        ),
        (
            (
                "decompress",
                "f.quad",
                "--codec",
                "features.safetensors",
                "-o",
                "x.npy",
                "--dtype",
                "uint8",
            ),
            "no --dtype uint8",
        ),
        (
            ("decompress", "f.quad", "--codec", "vic.safetensors", "-o", "x.npy"),
            "written by another codec",
        ),
        (
            ("compress", "patterns.npy", "--codec", "features.safetensors", "-o", "x.quad"),
            "this codec takes features (N, 5)",
        ),
        (
            ("compress", ".", "--codec", "features.safetensors", "-o", "x.quad"),
            "from an .npy or .npz file that is there",
        ),
        (
            ("compress", "features.npy", "--codec", "vic.safetensors", "-o", "x.quad"),
            "expected images",
        ),
        (("train", "group-exact", "--epochs", "3"), "takes no --epochs"),
        (("train", "group-exact", "--data", "digits"), "leave --data out"),
        (("train", "group-exact", "--judge", "conv"), "takes no --judge"),
        (("reproduce", "group-exact", "--seeds", "0"), "seeds must be at least 1"),
        (("reproduce", "lossyless-clip", "--seeds", "2"), "leave --seeds out"),
        (("evaluate", "."), "no run at"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, tmp_path, monkeypatch, capsys, words, message):
    for name, codec in (("b.quad", "bince"), ("f.quad", "features")):
        if not (folder / name).exists():
            data = "features" if codec == "features" else "patterns"
            run(
                "compress",
                folder / f"{data}.npy",
                "--codec",
                folder / f"{codec}.safetensors",
                "-o",
                folder / name,
            )
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and message in error and error.count("\n") == 1
    assert not (folder / "x.npy").exists() and not (folder / "x.quad").exists()


def test_invariant_runs_are_plotted_together(tmp_path, capsys):
    row = "objective,beta,steps,disk_bits,augmentation,predictor_augmentation"
    row += ",accuracy_latents,accuracy_reconstructions\n"
    for name, line in (
        ("a", "vic,0.1,100,40.5,mnist-aug,mnist-aug,0.97,0.96"),
        ("b", "bince,0.1,100,44.5,mnist-aug,mnist-aug,0.95,"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.csv").write_text(row + line + "\n")
        (tmp_path / name / "config.json").write_text(
            '{"recipe": {"name": "x", "points": [], "predictors": []}}'
        )
    run("plot", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 10_000
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text('{"kind": "trade-off"}')
    with pytest.raises(SystemExit):
        run("plot", tmp_path / "a", tmp_path / "c")
    assert "plot them apart" in capsys.readouterr().err
