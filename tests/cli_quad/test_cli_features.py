"""Folders of pictures whose features alone are kept: one command fits the codec and compresses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones_made import THUMBNAIL
from cli_parts import save
from photos_made import picture
from quadrate.codecs import Codec, FeatureCodec, QuadDataset, QuadFile
from quadrate.networks.backbones import BACKBONES, load_backbone

NAMES = [f"{name}/{number}.png" for name in ("cats", "dogs") for number in range(4)]


@pytest.fixture(autouse=True)
def _thumbnails(monkeypatch):
    monkeypatch.setitem(BACKBONES, "thumbnail", THUMBNAIL)


@pytest.fixture
def here(here, tmp_path_factory) -> Path:
    for seed, name in enumerate(NAMES):
        pixels = picture(20 + 7 * seed, 33, channels=1 if seed == 2 else 3, seed=seed)
        save(pixels, here / "photos" / name)
    return here


def expected() -> np.ndarray:
    backbone = load_backbone("thumbnail", "w.pth")
    pictures = [
        torch.from_numpy(picture(20 + 7 * seed, 33, channels=1 if seed == 2 else 3, seed=seed))
        for seed in range(len(NAMES))
    ]
    return backbone.features(pictures).numpy()


NEW = ("--purpose", "features", "--backbone", "thumbnail", "--weights", "w.pth")


def test_one_command_fits_a_codec_and_compresses(quadrate, here):
    facts = json.loads(
        quadrate(
            *("compress", "photos", "-o", "p.quad", "--codec", "f.safetensors", *NEW),
            *("--labels", "--json"),
        )
    )
    assert facts["samples"] == facts["fitted_to"] == 8 and facts["codec"] == "f.safetensors"
    codec = FeatureCodec.load("f.safetensors")
    assert codec.backbone == "thumbnail" and codec.shape == (48,)
    features = expected()
    received = codec.decompress("p.quad")
    assert received.shape == (8, 48)
    # By default the error is about a hundredth of the variance.
    assert ((received - features) ** 2).mean() < 0.02 * features.var(0).mean()
    dataset = QuadDataset("p.quad", codec)
    assert [label for _, label in dataset] == [0] * 4 + [1] * 4
    assert np.array_equal(dataset[3][0].numpy(), received[3])
    with QuadFile("p.quad", codec) as file:
        assert list(file.side(0).names or ()) == NAMES

    # Another command needs the codec's name alone, and gives the same features.
    quadrate("compress", "photos/dogs", "-o", "d.quad", "--codec", "f.safetensors", *NEW[4:])
    assert np.allclose(codec.decompress("d.quad"), received[4:], atol=1e-3)
    quadrate(
        *("compress", "photos/cats", "-o", "d.quad", "--append", "--codec", "f.safetensors"),
        *NEW,
    )
    assert len(codec.decompress("d.quad")) == 8
    # Features that are at hand are taken as they are.
    np.save("features.npy", features)
    quadrate("compress", "features.npy", "-o", "n.quad", "--codec", "f.safetensors")
    assert np.allclose(codec.decompress("n.quad"), received, atol=1e-3)


def test_the_codec_may_be_fitted_to_another_folder(quadrate, here):
    text = quadrate(
        *("compress", "photos/cats", "-o", "p.quad", "--codec", "f.safetensors", *NEW),
        *("--fit", "photos/dogs", "--bits", "40"),
    )
    assert "4 samples" in text and "fitted to 4 pictures" in text
    assert FeatureCodec.load("f.safetensors").rate_bits == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--codec", "f.safetensors", *NEW[:2]), "--backbone efficientnet-lite0"),
        (("--codec", "f.safetensors", *NEW[2:]), "needs --purpose features"),
        (("--codec", "f.bin", *NEW), "must end in .safetensors"),
        (("--codec", "c.st", *NEW), "not one of a backbone's features"),
        (("--codec", "c.st", *NEW, "--bits", "9"), "leave --bits out"),
        (("--codec", "g.safetensors", *NEW[:3], "resnet50-swav"), "not of resnet50-swav"),
        (("--codec", "f.safetensors", *NEW, "--fit", "none"), "no such file or folder"),
        (("--codec", "f.safetensors", *NEW, "--fit", "photos/cats/0.png"), "two pictures"),
        (("--codec", "g.safetensors", *NEW, "--bpp", "1"), "leave --bpp out"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(quadrate, here, arguments, said):
    codec = FeatureCodec(backbone="thumbnail").fit(np.eye(3, 48) + np.eye(3, 48, 1))
    codec.save("g.safetensors")
    before = sorted(path.name for path in here.iterdir())
    assert said in quadrate("compress", "photos", "-o", "p.quad", *arguments, status=1)
    assert sorted(path.name for path in here.iterdir()) == before


def test_codecs_without_a_backbone_are_as_they_were(tmp_path):
    codec = FeatureCodec().fit(np.random.default_rng(0).normal(size=(40, 3)))
    assert "backbone" not in codec.to_parts().metadata["parameters"]
    codec.save(tmp_path / "c.safetensors")
    assert Codec.load(tmp_path / "c.safetensors").backbone is None
