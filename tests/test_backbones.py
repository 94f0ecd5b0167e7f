"""Backbones: the networks are the published ones, and images reach them as they should."""

import re
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from torch import nn

from backbones_made import images, lite
from quadrate.errors import QuadrateError
from quadrate.networks.backbones import (
    BACKBONES,
    Backbone,
    EfficientNetLite0,
    Preprocessing,
    ResNet50,
    Weights,
    load_backbone,
)
from quadrate.networks.backbones.efficientnet_lite import _SamePadded

PLAIN = Preprocessing(32, (127.0,) * 3, (128.0,) * 3)


# --- the networks ---------------------------------------------------------------------------------


def test_the_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        lite0, resnet = EfficientNetLite0(), ResNet50()
    assert sum(parameter.numel() for parameter in lite0.parameters()) == 4_652_008
    assert (
        sum(parameter.numel() for parameter in resnet.parameters()) == 25_557_032 - 2_049_000
    )  # without its classifier


@settings(max_examples=60)
@given(st.integers(5, 40), st.integers(5, 40), st.sampled_from([3, 5]))
def test_strided_convolutions_pad_as_tensorflow_does(height, width, kernel):
    layer = _SamePadded(1, 1, kernel, 2, kernel // 2, bias=False)
    x = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(height * width))
    layer.weight.data.zero_()
    layer.weight.data[0, 0, kernel // 2, kernel // 2] = 1  # reads the middle of its window
    outputs = [-(-size // 2) for size in (height, width)]
    before = [
        ((out - 1) * 2 + kernel - size) // 2
        for out, size in zip(outputs, (height, width), strict=True)
    ]
    rows, columns = (
        [2 * i - pad + kernel // 2 for i in range(out)]
        for out, pad in zip(outputs, before, strict=True)
    )
    padded = nn.functional.pad(x, (0, 1, 0, 1))
    assert layer(x).shape[2:] == tuple(outputs)
    assert torch.equal(layer(x)[0, 0], padded[0, 0][rows][:, columns])


def test_fused_and_channels_last_the_features_are_the_same():
    fresh = lite()
    x = PLAIN(images())
    with torch.no_grad():
        right = fresh.features(x)
        copy = EfficientNetLite0()
        copy.load_state_dict(fresh.state_dict())
        backbone = Backbone("lite", 1280, PLAIN, copy)
        assert torch.allclose(
            backbone.features(images()), right, atol=1e-4 * right.abs().max().item()
        )
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.network.modules())
    assert right.min() >= 0 and right.max() <= 6 and right.std() > 0
    assert fresh(x).shape == (3, 1000)


def test_features_do_not_depend_on_the_batch():
    backbone = Backbone("lite", 1280, PLAIN, EfficientNetLite0())
    whole = backbone.features(images(5))
    assert torch.allclose(backbone.features(images(5), batch=2), whole, atol=1e-5)
    assert whole.dtype == torch.float32 and not whole.requires_grad
    half = backbone.features(images(5), bfloat16=True)
    assert half.dtype == torch.float32 and 0 < (half - whole).abs().max() < 0.1 * whole.abs().max()
    assert backbone.features(images(5)[:0]).shape == (0, 1280)


def test_images_of_any_sizes_are_resized_one_by_one():
    backbone = Backbone("lite", 1280, Preprocessing(32, (127.0,) * 3, (128.0,) * 3), lite())
    pictures = [images(1, 3, 40, 60)[0], images(1, 1, 33, 32)[0], images(1, 3, 32, 32)[0]]
    alone = torch.cat([backbone.features(picture[None]) for picture in pictures])
    together = backbone.features(pictures, batch=2)
    assert torch.allclose(together, alone, atol=1e-5 * alone.abs().max().item())
    assert backbone.features([]).shape == (0, 1280)


def test_of_a_long_line_only_the_middle_is_resized():
    line = torch.zeros(1, 1, 2, 1 << 16, dtype=torch.uint8)
    line[..., (1 << 15) - 8 : (1 << 15) + 8] = 100  # the square in the middle, and its neighbours
    seen = PLAIN(line)
    assert seen.shape == (1, 3, 32, 32) and torch.allclose(seen, torch.tensor((100 - 127) / 128))


# --- what they are shown --------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 32), (90, 60), (300, 420)])
def test_images_are_resized_and_cropped_as_pillow_does(resize, size):
    y, x = np.mgrid[: size[0], : size[1]]
    picture = (127 + 120 * np.sin(x / 9 + np.arange(3)[:, None, None]) * np.cos(y / 7)).astype(
        np.uint8
    )
    scale = 64 / min(size)
    height, width = round(size[0] * scale), round(size[1] * scale)
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[resize]
    left, top = (width - 64) // 2, (height - 64) // 2
    expected = np.array(
        Image.fromarray(picture.transpose(1, 2, 0)).resize((width, height), method)
    )[top : top + 64, left : left + 64]
    given = Preprocessing(64, (10.0, 20.0, 30.0), (2.0, 4.0, 8.0), resize)(
        torch.from_numpy(picture)[None]
    )
    pixels = given[0].permute(1, 2, 0) * torch.tensor([2.0, 4.0, 8.0]) + torch.tensor(
        [10.0, 20.0, 30.0]
    )
    assert given.shape == (1, 3, 64, 64)
    assert (pixels - torch.from_numpy(expected)).abs().max() <= 1.2  # Pillow rounds twice


def test_at_their_size_images_are_only_normalized_and_grey_becomes_colour():
    assert torch.equal(PLAIN(images()), (images().float() - 127) / 128)
    assert torch.equal(PLAIN(images(channels=1)), PLAIN(images(channels=1).expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 8, 8),
        torch.zeros(1, 2, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
    ],
)
def test_other_images_are_refused(wrong):
    with pytest.raises(
        QuadrateError,
        match=re.escape(
            f"a backbone takes uint8 images (N, 1 or 3, H, W), not {wrong.dtype}"
            f" {tuple(wrong.shape)}"
        ),
    ):
        PLAIN(wrong)


# --- the real weights -----------------------------------------------------------------------------


def real_weights() -> Path | None:
    """EfficientNet-Lite0's, if a download has left them here."""
    from quadrate.networks.backbones.weights import cache_folder

    weights = BACKBONES["efficientnet-lite0"].weights
    assert isinstance(weights, Weights)
    place = cache_folder() / f"{weights.file}.unpacked" / weights.member
    return place if place.exists() else None


@pytest.mark.real
@pytest.mark.skipif(
    real_weights() is None,
    reason=(
        "EfficientNet-Lite0's weights are not in the cache; load_backbone('efficientnet-lite0')"
        " downloads them"
    ),
)
def test_it_sees_a_temple_and_a_daisy():
    from sklearn.datasets import load_sample_images

    backbone = load_backbone("efficientnet-lite0", real_weights())
    photographs = torch.from_numpy(
        np.stack(load_sample_images().images).transpose(0, 3, 1, 2).copy()
    )
    assert backbone.network.head(backbone.features(photographs)).argmax(1).tolist() == [
        698,
        985,
    ]  # of ImageNet: palace, daisy
