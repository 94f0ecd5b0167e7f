"""Feature and CLIP runs.

What their tables say is so, an interrupted run goes on, and what is missing is named.
"""

import csv
import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import quadrate.experiments.runs.feature_kind as feature_runs
from quadrate.codecs import FeatureCodec, PublishedBottleneck
from quadrate.config import from_json, to_json
from quadrate.errors import QuadrateError
from quadrate.evaluation.classical import code_images
from quadrate.evaluation.receivers import train_receiver
from quadrate.experiments.recipes.feature_recipes import (
    ClipBottleneck,
    ClipRecipe,
    FeatureRecipe,
    Storage,
    cifar_features,
    lossyless_clip,
)
from quadrate.experiments.runs import Run
from quadrate.experiments.runs.feature_kind import SPLITS
from quadrate.networks.backbones import Backbone, Preprocessing

GOLDEN = Path(__file__).parent / "golden" / "lossyless-bottleneck.pt"
COMMITTED = Path(__file__).parents[1] / "results" / "cifar-features" / "results.csv"
POINTS = (
    Storage("fp16", "linear"),
    Storage("features", "linear", 40.0),
    Storage("features", "linear", 8.0),
    Storage("png", "linear"),
    Storage("jpeg", "linear", 5.0, 16),
    Storage("fp16", "svm"),
    Storage("features", "svm", 8.0),
)
RECIPE = FeatureRecipe(
    "tiny-features", "digits through a random layer", "digits", "stand-in", 400, 100, 200, POINTS
)
CLIP = ClipRecipe("tiny-clip", "one bottleneck", (ClipBottleneck("5e-02", samples=20_000),))


class Layer(nn.Module):
    """A random layer on 8×8 images: features that classes can be read from."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 24)
        values = torch.randn(24, 192, generator=torch.Generator().manual_seed(0))
        self.linear.weight.data, self.linear.bias.data = values / 10, torch.zeros(24)
        self.images, self.most = 0, 10_000

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self.images += len(x)
        if self.images > self.most:
            raise KeyboardInterrupt
        return self.linear(x.flatten(1))


@pytest.fixture
def layer(monkeypatch) -> Layer:
    """Stands in for a backbone, so that nothing is downloaded."""
    network = Layer()
    backbone = Backbone("stand-in", 24, Preprocessing(8, (127.0,) * 3, (128.0,) * 3), network)
    monkeypatch.setattr(feature_runs, "load_backbone", lambda name: backbone)
    return network


@pytest.fixture
def lossyless(tmp_path, monkeypatch) -> Path:
    """QUADRATE_DATA with a small bottleneck under a published name."""
    place = tmp_path / "data" / "lossyless" / "beta5e-02-factorized_rate.pt"
    place.parent.mkdir(parents=True)
    shutil.copy(GOLDEN, place)
    monkeypatch.setenv("QUADRATE_DATA", str(tmp_path / "data"))
    return place


def test_every_row_is_what_its_way_to_store_gives(tmp_path, layer):
    reports = []
    run = Run(RECIPE, tmp_path).train(workers=1, report=reports.append)
    assert [report["point"] for report in reports] == [
        *(f"features of {name} images" for name in SPLITS),
        "codec of 40 bits",
        "codec of 8 bits",
    ]
    rows = run.evaluate(1, reports.append)
    assert [(row["way"], row["receiver"]) for row in rows] == [
        ("fp16 features, npz", "linear"),
        *[("feature codec", "linear")] * 2,
        ("png", "linear"),
        ("jpeg", "linear"),
        ("fp16 features, npz", "svm"),
        ("feature codec", "svm"),
    ]
    half, fine, coarse, png, jpeg, *_ = rows
    features = run.kind.features()
    labels = {name: split.labels.numpy() for name, split in run.kind.splits.items()}

    codec = FeatureCodec.load(run.kind.codec_file(8.0))
    assert coarse["bits_per_image"] == 8 * len(codec.compress(features["test"])) / 200
    assert coarse["codec_file_bytes"] == run.kind.codec_file(8.0).stat().st_size
    assert coarse["feature_mse"] == pytest.approx(
        np.square(codec.transform(features["test"]) - features["test"]).mean(), rel=1e-5
    )
    back = {name: codec.transform(values) for name, values in features.items()}
    receiver = train_receiver(
        "linear", *((back[name], labels[name]) for name in ("train", "validation"))
    )
    assert coarse["accuracy"] == receiver.correct(back["test"], labels["test"]).mean()
    assert coarse["lost"] == pytest.approx(half["accuracy"] - coarse["accuracy"])
    assert half["lost"] == 0 and half["accuracy"] > fine["accuracy"] > coarse["accuracy"] > 0.2
    assert half["bits_per_image"] > fine["bits_per_image"] > coarse["bits_per_image"]

    test = run.kind.splits["test"].images
    assert (
        png["bits_per_image"] == code_images(test, "png").bits_per_image and png["pixel_mse"] == 0
    )
    assert png["accuracy"] == pytest.approx(half["accuracy"], abs=0.01)
    coded = code_images(test, "jpeg", 5, 16)
    assert (jpeg["bits_per_image"], jpeg["images_a_file"]) == (coded.bits_per_image, 256)
    assert jpeg["pixel_mse"] == pytest.approx(
        ((coded.images.double() - test.double()) / 255).square().mean().item()
    )
    assert jpeg["accuracy"] < half["accuracy"]
    assert layer.images == 2 * 700  # plain, and JPEG's; what is lossless is not extracted again
    assert sorted(path.name for path in (run.folder / "features").iterdir()) == [
        "test.npy",
        "train.npy",
        "validation.npy",
    ]

    with (run.folder / "results.csv").open() as made, COMMITTED.open() as committed:
        table = list(csv.DictReader(made))
        assert list(table[0]) == next(csv.reader(committed))
    assert len(table) == 7 and float(table[2]["bits_per_image"]) == pytest.approx(
        coarse["bits_per_image"], rel=1e-5
    )


def test_what_is_sent_to_processes_is_small_and_complete(tmp_path, layer):
    run = Run(replace(RECIPE, points=POINTS[:2]), tmp_path)
    sent = pickle.dumps((run.kind, feature_runs.load_backbone("stand-in")))
    assert (
        len(sent) < 700 * (64 + 8) + 50_000
    )  # pixels and labels of the images that are used, and the backbone
    there, backbone = pickle.loads(sent)
    for name in SPLITS:
        feature_runs._extract_split((there, backbone), name, lambda message: None)
    assert backbone.network.images == 700 and layer.images == 0
    np.testing.assert_array_equal(
        run.kind.features()["test"],
        backbone.features(run.kind.splits["test"].images, bfloat16=True).numpy(),
    )


def test_an_interrupted_run_goes_on(tmp_path, layer, monkeypatch):
    run = Run(RECIPE, tmp_path)
    with pytest.raises(
        QuadrateError,
        match=(
            r"nothing is trained in .* \(no features/train.npy\); run `quadrate train"
            r" tiny-features` first"
        ),
    ):
        run.evaluate(1)
    layer.most = 450
    with pytest.raises(KeyboardInterrupt):
        run.train(workers=1)
    layer.images, layer.most = 0, 300  # of validation and test images
    run.train(workers=1)
    assert layer.images == 300

    def stop(message):
        if message["point"] == POINTS[2].key:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.evaluate(1, stop)
    known = run.results()
    assert len(known) == 4  # both of fp16 first, which the others are compared with
    assert len((run.folder / "results.csv").read_text().splitlines()) == 5
    layer.images, layer.most = 0, 700
    scored = []
    rows = Run.open(run.folder).evaluate(1, scored.append)
    assert [message["point"] for message in scored] == [POINTS[index].key for index in (3, 4, 6)]
    assert len(rows) == 7 and all(
        row in rows for row in known
    )  # with their seconds: they were not measured again


def test_damaged_files_are_named(tmp_path, layer):
    run = Run(RECIPE, tmp_path).train(workers=1)
    (run.folder / "features" / "test.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(
        QuadrateError,
        match=(
            r"test.npy is damaged or of other images: an array of 200 rows should stand there;"
            r" remove it"
        ),
    ):
        run.evaluate(1)
    (run.folder / "config.json").write_text(
        json.dumps({"kind": "features", "recipe": {"name": "tiny-features"}})
    )
    with pytest.raises(QuadrateError, match="not the configuration of a FeatureRecipe: .*missing"):
        Run.open(run.folder)
    (run.folder / "config.json").write_text("[]")
    with pytest.raises(QuadrateError, match="not the configuration of a Recipe"):
        Run.open(run.folder)
    with pytest.raises(QuadrateError, match="no run at .*/nothing: a run folder holds config.json"):
        Run.open(tmp_path / "nothing")


def test_a_run_of_other_data_is_not_opened(tmp_path, layer):
    run = Run(RECIPE, tmp_path).train(workers=1)
    run.folder.rename(tmp_path / "tiny-features-of-old")
    with pytest.raises(
        QuadrateError,
        match=r"was made with other data, judges, networks or terms than are found now"
        rf" \(now: {run.folder.name}\)",
    ):
        Run.open(tmp_path / "tiny-features-of-old")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(
        QuadrateError, match="tiny-features takes 5000 train images; digits has 1197"
    ):
        Run(replace(RECIPE, train=5000), tmp_path).prepare()
    with pytest.raises(
        QuadrateError,
        match=(
            "resnet50-swav: no checksum is known for .*; fetch https://.* by hand into .*, or pass"
            " its path"
        ),
    ):
        Run(replace(RECIPE, backbone="resnet50-swav"), tmp_path).train(workers=1)
    monkeypatch.setenv("QUADRATE_DATA", str(tmp_path))
    monkeypatch.setattr(
        "quadrate.sources.downloads._download",
        lambda *_: (_ for _ in ()).throw(QuadrateError("no connection")),
    )
    with pytest.raises(
        QuadrateError,
        match=(
            r"cifar-10: missing cifar-10-binary.tar.gz; looked in .*; put the files into"
            r" <folder>/cifar-10/ and set"
        ),
    ):
        Run(cifar_features(), tmp_path).prepare()


def test_recipes_are_plain_and_complete():
    recipe = cifar_features()
    assert from_json(FeatureRecipe, to_json(recipe)) == recipe
    assert len(recipe.points) == 7 + 13 + 2 * 2
    assert [
        point.quality
        for point in recipe.points
        if point.codec == "features" and point.receiver == "mlp"
    ] == [1024]
    with pytest.raises(QuadrateError, match="names the same point twice"):
        replace(recipe, points=recipe.points[:1] * 2)
    with pytest.raises(
        QuadrateError,
        match=(
            "features-32-1-linear has nothing to be compared with; add a point of fp16 features for"
            " its receiver"
        ),
    ):
        replace(recipe, points=recipe.points[1:])
    assert from_json(ClipRecipe, to_json(lossyless_clip())) == lossyless_clip()
    assert [point.beta for point in lossyless_clip().points] == ["1e-01", "5e-02", "1e-02"]


def test_modules_of_the_command_line_import_nothing_heavy():
    script = (
        "import sys, quadrate.experiments.recipes.feature_recipes,"
        " quadrate.experiments.runs.feature_kind, quadrate.experiments.runs.clip_kind;"
        " print(*sys.modules)"
    )
    modules = set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert "torch" in modules
    assert not modules & {
        "scipy",
        "sklearn",
        "constriction",
        "matplotlib",
        "PIL",
        "pooch",
        "transformers",
    }


# --- CLIP's bottlenecks ---


def test_a_published_bottleneck_costs_its_entropy(tmp_path, lossyless):
    run = Run(CLIP, tmp_path).train(workers=1)
    (row,) = run.evaluate(1)
    published = PublishedBottleneck.load(lossyless)
    assert run.kind.codec_file(CLIP.points[0]).stat().st_size == row["codec_file_bytes"]
    symbols = torch.arange(-400, 401)[:, None] + published.quantiles[:, 1]
    masses = published.bottleneck.density.mass(symbols - 0.5, symbols + 0.5).double().numpy()
    entropy = -(masses * np.log2(np.maximum(masses, 1e-300))).sum()
    assert row["model_entropy_bits"] == pytest.approx(entropy, rel=1e-4)
    assert row["disk_bits"] == pytest.approx(
        entropy, abs=0.3
    )  # of 36.5; header, checksums and index, and the draw
    assert row["encoded_a_second"] > 0 and row["decoded_a_second"] > 0
    assert Run.open(run.folder).evaluate(1) == [row]


def test_missing_bottlenecks_are_named(tmp_path, lossyless, monkeypatch):
    run = Run(CLIP, tmp_path).train(workers=1)
    lossyless.write_bytes(b"other")
    with pytest.raises(QuadrateError, match="was made with other data"):
        Run.open(run.folder)
    with pytest.raises(
        QuadrateError, match="beta5e-02-factorized_rate.pt is not a file of PyTorch tensors"
    ):
        Run(CLIP, tmp_path).train(workers=1)
    by_hand = (
        r"download it from release v1.0 of github.com/YannDubs/lossyless into <folder>/lossyless/"
        r" and set QUADRATE_DATA=<folder>"
    )
    lossyless.unlink()
    with pytest.raises(
        QuadrateError,
        match=rf"beta5e-02-factorized_rate.pt is missing; looked in .*/data/lossyless; {by_hand}",
    ):
        Run(CLIP, tmp_path).prepare()
    monkeypatch.delenv("QUADRATE_DATA")
    with pytest.raises(
        QuadrateError,
        match=rf"beta1e-01-factorized_rate.pt is missing \(QUADRATE_DATA is not set\); {by_hand}",
    ):
        Run(lossyless_clip(), tmp_path).prepare()
