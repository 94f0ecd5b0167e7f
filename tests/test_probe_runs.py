"""Labels of photographs read from files: probes on latents and pixels, networks on the base."""

import functools

import numpy as np
import pytest
import torch
from PIL import Image

import photos_made
from backbones_made import Thumbnail
from photos_made import picture
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import find_recipe
from quadrate.experiments.recipes.probe_recipes import ProbeRecipe, Reading
from quadrate.experiments.runs import Run, probe_kind
from quadrate.networks.backbones import Backbone, Preprocessing
from quadrate.networks.latent_reader import on_a_grid
from quadrate.photo_config import ReaderConfig
from quadrate.training.reader_fit import _changed

POINTS = (
    Reading("originals"),
    Reading("latents", 30, 1),
    Reading("latents", 30, 2),
    Reading("pixels", 30, 1),
    Reading("pixels", 30, 2),
    Reading("network", 30, 1, 0),
    Reading("distilled", 30, 1, 0),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Dark and bright pictures, which any reader of the mean tells apart, and a run on them."""
    root = tmp_path_factory.mktemp("probes")
    for split, count in (("train", 20), ("validation", 6), ("test", 8)):
        for number in range(count):
            bright = number % 2
            pixels = picture(40 + number, 50, seed=number) // 2 + 120 * bright
            place = root / "pictures" / split / ("bright" if bright else "dark")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8)).save(
                place / f"{number}.png"
            )
    photos_made.codec().save(root / "codec.safetensors")
    recipe = ProbeRecipe(
        "small-probes",
        "a small one",
        str(root / "pictures"),
        str(root / "codec.safetensors"),
        "thumbnail",
        POINTS,
        train=18,
        reader=ReaderConfig(width=4, epochs=12, batch=6),
    )
    backbone = Backbone("thumbnail", 48, Preprocessing(32, (0.0,) * 3, (1.0,) * 3), Thumbnail())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_kind, "load_backbone", lambda name: backbone)
        run = Run(recipe, root / "runs").train(workers=1, report=None)
        return run, run.evaluate(workers=1, report=None)


def test_every_way_of_reading_is_scored_with_its_bits(made):
    run, rows = made
    assert [row["way"] for row in rows] == [point.way for point in POINTS]
    by_key = {point.key: row for point, row in zip(POINTS, rows, strict=True)}
    for name, row in by_key.items():
        assert row["train_photographs"] == 18 and row["test_photographs"] == 8
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
        if not name.startswith(("network", "distilled")):
            assert row["accuracy"] == 1, name
    assert by_key["originals"]["lost"] == 0 and "bits_per_pixel" not in by_key["originals"]
    base, whole = (by_key[f"latents-30-{layers}"] for layers in (1, 2))
    assert 0 < base["payload_bits_per_pixel"] < whole["payload_bits_per_pixel"]
    for row in (base, whole):  # the container is the same
        beside = row["bits_per_pixel"] - row["payload_bits_per_pixel"]
        assert beside == pytest.approx(base["bits_per_pixel"] - base["payload_bits_per_pixel"])
        assert beside > 0
    assert by_key["pixels-30-1"]["bits_per_pixel"] == base["bits_per_pixel"]


def test_networks_learn_from_the_base(made):
    run, rows = made
    by_key = {point.key: row for point, row in zip(POINTS, rows, strict=True)}
    assert by_key["network-30-1-s0"]["accuracy"] >= 7 / 8
    assert by_key["distilled-30-1-s0"]["accuracy"] >= 7 / 8
    features, _ = run.kind.originals("train")
    scaled = (features - features.mean(0)) / features.std(0)
    outputs = run.kind.features(POINTS[-1], "train")
    assert ((outputs - scaled) ** 2).mean() < 0.9 * (scaled**2).mean()


def test_what_is_read_is_that_of_the_codec(made):
    run, _ = made
    kind = run.kind
    readings = kind.readings(30.0, "test")
    codec = kind.codec
    pixels = kind.photographs["test"].read(3)
    payloads = codec.encode(pixels, round(0.7 * 512))
    assert [len(payloads[0]), sum(map(len, payloads))] == [
        readings.bytes_1[3],
        readings.bytes_2[3],
    ]
    base, _ = codec.coefficients(payloads[:1], pixels.shape)
    known = readings.base.shape[1]
    grid = on_a_grid(torch.from_numpy(base[:, :, :known])).numpy()
    np.testing.assert_allclose(readings.base[3], grid, rtol=1e-2, atol=0.5)
    assert readings.pooled(1).shape[1] < readings.pooled(2).shape[1]
    assert kind.processes(1) == 1


def test_blocks_are_mirrored_by_their_coefficients():
    transform = photos_made.codec().transform
    pixels = picture(64, 96, seed=3)
    maps, mirrored = (
        torch.from_numpy(transform.forward(np.ascontiguousarray(each))).permute(2, 0, 1)
        for each in (pixels, pixels[:, :, ::-1])
    )
    mirror = torch.from_numpy(transform.mirror(12))
    found = torch.einsum("dc,chw->dhw", mirror, maps[:12]).flip(2)
    error = (found - mirrored[:12]).square().mean() / mirrored[:12].square().mean()
    assert error < 0.02


def test_changes_keep_what_a_photograph_shows():
    base = torch.arange(16.0).repeat(40, 2, 16, 1)  # a ramp from left to right
    seen = _changed(base, torch.eye(2), torch.Generator().manual_seed(0))
    assert seen.shape == base.shape
    rises = seen[:, 0, 0, 8] > seen[:, 0, 0, 7]
    assert 8 < rises.sum() < 32  # about half are mirrored


def test_recipes_that_cannot_be_are_refused():
    with pytest.raises(QuadrateError, match="the base alone"):
        Reading("network", 8, 2)
    with pytest.raises(QuadrateError, match="1 layer or 2"):
        Reading("latents", 8, 3)
    make = functools.partial(ProbeRecipe, "n", "t", "clothing", "photo", "efficientnet-lite0")
    with pytest.raises(QuadrateError, match="originals"):
        make((Reading("latents", 8, 1),))
    recipe = find_recipe("clothing-probes")
    assert {point.layers for point in recipe.points} == {1, 2} and recipe.source == "clothing"
