"""Classical codecs.

The right images come back, in order, and their bytes are those of the files.
"""

import importlib
import importlib.util
import io
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from quadrate.errors import QuadrateError
from quadrate.evaluation.classical import CLASSICAL, code_images

EXTRA = pytest.mark.skipif(
    importlib.util.find_spec("imagecodecs") is None, reason="imagecodecs is not installed"
)
LOSSY = [
    ("jpeg", (10, 50, 95)),
    ("webp", (10, 50, 95)),
    ("avif", (10, 50, 95)),
    pytest.param("jpegxl", (15, 4, 0.5), marks=EXTRA),
    pytest.param("jpeg2000", (22, 30, 42), marks=EXTRA),
]


def pictures(count: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    """Smooth pictures of different brightness, colour and wavelength, with a little grey noise."""
    y, x = np.mgrid[:side, :side] / side
    generator = np.random.default_rng(0)
    level, slope, phase = (
        generator.uniform(50, 200, (count, channels, 1, 1)),
        *generator.uniform(2, 9, (2, count, 1, 1, 1)),
    )
    images = (
        level + 40 * np.sin(slope * x + phase * y) + generator.normal(0, 3, (count, 1, side, side))
    )
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def mse(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.double() - b.double()).square().flatten(1).mean(1)


@settings(max_examples=40)
@given(
    st.integers(1, 12),
    st.sampled_from([1, 3]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_png_gives_back_every_image(count, channels, height, width, grid, seed):
    images = torch.from_numpy(
        np.random.default_rng(seed).integers(
            0, 256, (count, channels, height, width), dtype=np.uint8
        )
    )
    coded = code_images(images, "png", grid=grid)
    assert torch.equal(coded.images, images)
    assert len(coded.file_bytes) == math.ceil(count / grid**2)
    assert coded.bits_per_image == 8 * coded.file_bytes.sum() / count


@pytest.mark.parametrize(("codec", "qualities"), LOSSY)
@pytest.mark.parametrize("channels", [1, 3])
def test_more_bits_bring_less_distortion(codec, qualities, channels):
    images = pictures(6, channels)
    for grid in (1, 2):
        coded = [code_images(images, codec, quality, grid) for quality in qualities]
        bits = [one.bits_per_image for one in coded]
        errors = [mse(one.images, images).mean().item() for one in coded]
        assert (
            bits == sorted(bits) and errors == sorted(errors, reverse=True) and len(set(bits)) == 3
        )
        assert (
            errors[-1] < 40
        )  # 32 dB: at any quality these formats keep colour at half the resolution
        assert all(
            one.images.shape == images.shape and one.images.dtype == torch.uint8 for one in coded
        )


@pytest.mark.parametrize(("codec", "qualities"), LOSSY)
def test_a_mosaic_costs_fewer_bits_and_keeps_the_order(codec, qualities):
    images = pictures(11)
    apart, together = (code_images(images, codec, qualities[1], grid) for grid in (1, 3))
    assert len(apart.file_bytes) == 11 and len(together.file_bytes) == 2
    assert together.bits_per_image < apart.bits_per_image
    distances = torch.stack(
        [mse(together.images[[i]].expand_as(images), images) for i in range(len(images))]
    )
    assert torch.equal(distances.argmin(1), torch.arange(len(images)))


def test_a_file_is_the_one_that_pillow_writes():
    image = pictures(1)
    file = io.BytesIO()
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=60, optimize=True)
    coded = code_images(image, "jpeg", 60)
    assert coded.file_bytes.tolist() == [len(file.getvalue())]
    assert np.array_equal(
        coded.images[0].permute(1, 2, 0).numpy(), np.array(Image.open(file, formats=["JPEG"]))
    )


def test_what_does_not_fit_is_said(monkeypatch):
    images = pictures(1)
    cases = [
        (
            (images, "gif"),
            (
                "unknown classical codec 'gif': expected one of png, jpeg, webp, avif, jpeg2000,"
                " jpegxl"
            ),
        ),
        ((images, "jpeg", 101), "jpeg: the quality is JPEG quality, from 0 to 100, not 101"),
        (
            (images, "jpegxl", 0),
            "jpegxl: the quality is Butteraugli distance, from 0.01 to 25, not 0",
        ),
        ((images, "png", 9), "png: the quality is none, from 0 to 0, not 9"),
        ((images, "jpeg", float("nan")), "not nan"),
        (
            (images.float(), "jpeg", 50),
            r"take uint8 images \(N, 1 or 3, H, W\), not torch.float32 \(1, 3, 32, 32\)",
        ),
        ((images[:0], "jpeg", 50), r"not torch.uint8 \(0, 3, 32, 32\)"),
        ((images, "jpeg", 50, 0), "at least 1x1 images, not 0x0"),
    ]
    for arguments, message in cases:
        with pytest.raises(QuadrateError, match=message):
            code_images(*arguments)
    real = importlib.import_module

    def without(name, *rest):
        if name == "imagecodecs":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(
        QuadrateError,
        match=r"jpegxl needs imagecodecs, which is missing: pip install 'quadrate\[baselines\]'",
    ):
        code_images(images, "jpegxl", 2)


def test_the_ranges_make_sense():
    for name, codec in CLASSICAL.items():
        assert (
            codec.name == name
            and codec.lowest <= codec.highest
            and callable(codec.encode)
            and callable(codec.decode)
        )
