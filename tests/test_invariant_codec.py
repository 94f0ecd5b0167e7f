"""Invariant codecs and their runs: files, codec files, folders, scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from quadrate.codecs import InvariantCodec, QuadDataset
from quadrate.config import InvariantConfig
from quadrate.errors import QuadrateError
from quadrate.evaluation.invariant_scores import score_population
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.experiments.runs import Run
from quadrate.sources.symmetry import AUGMENTATIONS, OrbitSet, dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant
from tensor_files import contents, rewrite

SOURCE = dihedral_patterns(2, (0.5, 0.5))
TINY = InvariantConfig(dims=2, steps=200, batch=128, likelihood="bernoulli", beta=0.05)


def made(config=TINY) -> InvariantCodec:
    return train_invariant(SOURCE, config).codec(
        SOURCE.sample(2000, "fit").float(), {"recipe": "none"}
    )


@pytest.fixture(scope="module")
def codec() -> InvariantCodec:
    return made()


def test_a_codec_survives_its_file_and_reads_its_streams(codec, tmp_path):
    x = SOURCE.sample(500, "x").float()
    codec.save(tmp_path / "codec.safetensors")
    again = InvariantCodec.load(tmp_path / "codec.safetensors")
    data = codec.compress(x, labels=np.arange(500))
    assert again.compress(x, labels=np.arange(500)) == data
    pictures = again.decompress(data, dtype="float32")
    assert pictures.shape == (500, 1, 2, 2) and 0 <= pictures.min() and pictures.max() <= 1
    assert torch.equal(again.decompress_latents(data), codec.dequantize(codec.encode(x)))
    item, label = QuadDataset(data, again, item="latents")[7]
    assert torch.equal(item, codec.dequantize(codec.encode(x[7:8]))[0]) and label == 7
    assert (
        again.details == {"recipe": "none"}
        and list(again.decoders) == ["representative"]
        and again.identities == codec.identities
    )


def test_patterns_are_scored_on_numbers_in_the_unit_interval(codec, monkeypatch):
    monkeypatch.setattr("quadrate.evaluation.invariant_scores.TEST_SAMPLES", 2000)
    row = score_population(codec, SOURCE)
    test = SOURCE.sample(2000, "test", codec.config.seed).float()
    target = SOURCE.representative(test)
    wrong = (codec.round_trip(target) > 0.5) != (target > 0.5)
    assert row["pattern_error"] == pytest.approx(
        float(wrong.flatten(1).any(1).float().mean()), abs=0.05
    )


def test_a_contrast_gives_latents_and_says_that_it_decodes_nothing():
    codec = made(replace(TINY, objective="bince", steps=20))
    data = codec.compress(SOURCE.sample(10, "x").float())
    assert codec.decompress_latents(data).shape == (10, 2)
    with pytest.raises(QuadrateError, match="decodes nothing; read its latents"):
        codec.decompress(data)
    assert "critic" in codec.states


def test_a_hyperprior_is_coded_and_a_unit_gaussian_is_not():
    config = replace(TINY, dims=12, bottleneck="hyperprior", steps=40)
    codec = made(config)
    x = SOURCE.sample(300, "x").float()
    assert np.array_equal(
        codec.decompress(codec.compress(x), dtype="float32"),
        codec.reconstruct(codec.dequantize(codec.encode(x))).numpy(),
    )
    trained = train_invariant(SOURCE, replace(TINY, bottleneck="unit-gaussian", steps=40))
    with pytest.raises(QuadrateError, match="has no code"):
        trained.codec(x)


def test_wrong_samples_decoders_and_files_are_refused(codec, tmp_path):
    said = r"images of shape \(1, 2, 2\) \(C, H, W\); got \(1, 3, 3\)"
    with pytest.raises(QuadrateError, match=said):
        codec.encode(torch.zeros(4, 1, 3, 3))
    with pytest.raises(QuadrateError, match="no decoder 'member'; this codec has representative"):
        codec.check_decoder("member")
    with pytest.raises(QuadrateError, match="reads symbols"):
        codec.dequantize(torch.zeros(4, 3, dtype=torch.int64))
    path = tmp_path / "codec.safetensors"
    with pytest.raises(QuadrateError, match="no codec at"):
        InvariantCodec.load(path)
    codec.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(QuadrateError, match="not a whole safetensors file"):
        InvariantCodec.load(path)
    codec.save(path)
    whole, metadata = path.read_bytes(), contents(path)[0]
    for changed, expected in (
        ({"format": "other"}, "not a Quadrate codec"),
        ({"shape": "[1, 99999, 99999]"}, "damaged"),
        ({"shape": "[1, 3, 3]"}, "encoder is not the perceptron one"),
        ({"config": "{}x"}, "not the configuration"),
        (
            {"config": json.dumps(json.loads(metadata["config"]) | {"dims": 3})},
            "the bottleneck codes 2 dimensions",
        ),
    ):
        path.write_bytes(whole)
        rewrite(path, changed)
        with pytest.raises(QuadrateError, match=expected):
            InvariantCodec.load(path)


def test_the_convolutional_network_trains_on_augmented_images():
    images = (torch.rand(64, 1, 12, 12) * 255).byte()
    data = OrbitSet(images, AUGMENTATIONS["mnist-less"])
    config = InvariantConfig(
        dims=3, network="convolutional", steps=4, batch=16, likelihood="bernoulli", polish=0.5
    )
    trained = train_invariant(data, config)
    codec = trained.codec(data.sample_orbit(torch.arange(64), torch.Generator().manual_seed(0)))
    assert codec.decompress(codec.compress(images)).shape == (64, 1, 12, 12)


def test_a_run_trains_resumes_scores_and_opens(tmp_path, monkeypatch):
    for place in (
        "quadrate.experiments.runs.invariant_kind._FIT_SAMPLES",
        "quadrate.evaluation.invariant_scores.TEST_SAMPLES",
    ):
        monkeypatch.setattr(place, 8192)
    points = tuple(replace(TINY, objective=name, steps=60) for name in ("vc", "vic", "bince"))
    recipe = InvariantRecipe("tiny-patterns", "three objectives", "patterns", points)
    run = Run(recipe, tmp_path)
    with pytest.raises(QuadrateError, match="nothing is trained"):
        run.evaluate()
    reports: list = []
    run.train(workers=1, report=reports.append)
    assert {report["point"] for report in reports} == {point.key for point in points}
    times = [path.stat().st_mtime_ns for path in sorted(run.folder.glob("*/model.safetensors"))]
    opened = Run.open(run.folder)
    run = opened.train(workers=1)  # nothing to do
    assert times == [
        path.stat().st_mtime_ns for path in sorted(run.folder.glob("*/model.safetensors"))
    ]
    rows = run.evaluate(1)
    assert [row["objective"] for row in rows] == ["vc", "vic", "bince"]
    for row in rows:
        assert (
            row["entropy_invariant_bits"] < row["entropy_source_bits"] == 9.0
            and row["codec_file_bytes"] > 1000
        )
        assert 0 < row["disk_bits"] <= row["factorized_disk_bits"] + 0.5
        assert row["information_bits"] <= row["entropy_invariant_bits"] + 0.1
    assert rows[2]["bound_bits"] <= rows[2]["entropy_invariant_bits"]
    assert (run.folder / "results.csv").exists() and run.results() == rows
    with pytest.raises(QuadrateError, match="no run at"):
        Run.open(tmp_path / "other")
