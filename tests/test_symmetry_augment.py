"""Geometry and colours against PIL, plain reference code, and recovered parameters."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.stats import kstest

from quadrate.core.resample import resample
from quadrate.errors import QuadrateError
from quadrate.sources.symmetry import (
    AUGMENTATIONS,
    Affine,
    Augmentation,
    ColourJitter,
    HorizontalFlip,
    RandomGrey,
    ResizedCrop,
)
from quadrate.sources.symmetry.augment import (
    brightness,
    compose,
    contrast,
    hue,
    luma,
    saturation,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


# --- geometry ---


def recovered_maps(
    augmentation: Augmentation, count: int, height: int, width: int, seed: int = 0
) -> torch.Tensor:
    """The maps (count, 2, 3) in pixels about the middle that the augmentation draws, result to
    source, read off transformed coordinates.

    The channels hold each pixel's own x and y, scaled into [0, 1], and ones. Bilinear interpolation
    is exact on these where all that it looks at lies inside, which the ones tell."""
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    ramps = torch.stack(
        [
            (x / width + 0.5).expand(height, width),
            (y / height + 0.5)[:, None].expand(height, width),
            torch.ones(height, width),
        ]
    )
    result = augmentation.sample_orbit(
        ramps.float().expand(count, -1, -1, -1), generator(seed)
    ).double()
    grid = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)],
        dim=-1,
    ).reshape(-1, 3)
    maps = []
    for image in result:
        inside = (image[2] > 1 - 1e-5).flatten()
        sources = torch.stack(
            [(image[0] - 0.5) * width, (image[1] - 0.5) * height], dim=-1
        ).reshape(-1, 2)
        maps.append(torch.linalg.lstsq(grid[inside], sources[inside]).solution.T)
    return torch.stack(maps)


def is_uniform(values: torch.Tensor, low: float, high: float) -> bool:
    """Whether they fill [low, high] and look uniform on it; to the precision of float32 pixels."""
    inside = low - 1e-3 * (high - low) <= values.min() and values.max() <= high + 1e-3 * (
        high - low
    )
    return bool(inside and kstest(values.numpy(), "uniform", args=(low, high - low)).pvalue > 0.001)


@pytest.mark.parametrize(
    ("name", "translate", "degrees", "scale", "shear"),
    [("mnist-aug", 0.25, 45, (0.6, 1.4), 25), ("mnist-less", 0.15, 15, (0.8, 1.2), 15)],
)
def test_affine_parameters_are_recovered_and_uniform(name, translate, degrees, scale, shear):
    """Points move by translation, rotation, scaling and shear in this order, also if not square."""
    height, width, count = 48, 64, 1000
    maps = recovered_maps(AUGMENTATIONS[name], count, height, width)
    forward = torch.linalg.inv(maps[:, :, :2])  # = shear · scale · rotation
    sizes, angles = forward[:, 1].norm(dim=1), torch.atan2(forward[:, 1, 0], forward[:, 1, 1])
    cosines, sines = angles.cos(), angles.sin()
    leans = torch.stack([forward[:, 0, 0] / sizes, forward[:, 0, 1] / sizes], 1) - torch.stack(
        [cosines, -sines], 1
    )  # tan(shear)·(sin, cos)
    tangents = (leans * torch.stack([sines, cosines], 1)).sum(1)
    torch.testing.assert_close(
        leans, tangents[:, None] * torch.stack([sines, cosines], 1), atol=2e-3, rtol=0
    )  # there is no other lean
    shifts = -maps[:, :, 2]
    drawn = {
        "x": (shifts[:, 0] / width, -translate, translate),
        "y": (shifts[:, 1] / height, -translate, translate),
        "degrees": (angles.rad2deg(), -degrees, degrees),
        "scale": (sizes, *scale),
        "shear": (tangents.atan().rad2deg(), -shear, shear),
    }
    for what, (values, low, high) in drawn.items():
        assert is_uniform(values, low, high), what
    correlations = torch.corrcoef(
        torch.stack([values for values, _, _ in drawn.values()])
    ) - torch.eye(5)
    assert correlations.abs().max() < 5 / count**0.5


def test_crops_are_recovered():
    height, width, count = 40, 60, 2000
    maps = recovered_maps(
        Augmentation((ResizedCrop(), HorizontalFlip()), padding="border"), count, height, width
    )
    assert maps[:, 0, 1].abs().max() < 1e-3 and maps[:, 1, 0].abs().max() < 1e-3
    flipped = (maps[:, 0, 0] < 0).double().mean()
    assert abs(flipped - 0.5) < 4 * 0.5 / count**0.5
    across, down = maps[:, 0, 0].abs(), maps[:, 1, 1]
    assert is_uniform_given_fit(across * down, across * width / (down * height), width / height)
    for size, shift, pixels in ((across, maps[:, 0, 2], width), (down, maps[:, 1, 2], height)):
        assert (
            size.max() < 1 + 1e-3 and (shift.abs() / pixels + size / 2).max() < 0.5 + 1e-3
        )  # the box lies inside
        room = 1 - size > 0.02
        assert is_uniform((shift / pixels / (1 - size))[room].clamp(-0.5, 0.5), -0.5, 0.5)


def is_uniform_given_fit(area: torch.Tensor, ratio: torch.Tensor, aspect: float) -> bool:
    """Whether (area, log ratio) is uniform on its box where the crop fits.

    Then so are areas given the ratio, up to the largest that fits.
    """
    assert area.min() > 0.3 - 1e-3 and ratio.min() > 0.7 - 1e-3 and ratio.max() < 1.4 + 1e-3
    largest = torch.minimum(ratio / aspect, aspect / ratio).clamp(max=1.0)
    roomy = largest > 0.32
    return is_uniform(((area - 0.3) / (largest - 0.3))[roomy], 0, 1)


def test_affine_maps_are_those_of_pil():
    """PIL's own bilinear affine transformation, where neither looks beyond the border."""
    height, width = 31, 40
    image = random_images(1, 1, height, width).float() / 255
    for seed in range(5):
        inverse = Affine(0.1, 30, (0.7, 1.3), 20).inverse(1, height, width, generator(seed))
        result = resample(image, inverse)[0, 0].double().numpy()
        # From [-1, 1] to PIL's pixels, whose middles lie at halves.
        to_unit = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
        pixels = (
            np.linalg.inv(to_unit) @ np.vstack([inverse[0].double().numpy(), [0, 0, 1]]) @ to_unit
        )
        expected = Image.fromarray(image[0, 0].numpy()).transform(
            (width, height),
            Image.Transform.AFFINE,
            tuple(pixels[:2].ravel()),
            Image.Resampling.BILINEAR,
        )
        rows, columns = np.mgrid[:height, :width]
        x, y = pixels[:2] @ np.stack(
            [columns.ravel() + 0.5, rows.ravel() + 0.5, np.ones(height * width)]
        )
        inside = ((x > 0.5) & (x < width - 0.5) & (y > 0.5) & (y < height - 0.5)).reshape(
            height, width
        )
        assert inside.mean() > 0.3
        np.testing.assert_allclose(result[inside], np.asarray(expected)[inside], atol=2e-4)
        assert np.all(result[((x < -0.5) | (x > width + 0.5)).reshape(height, width)] == 0)


@pytest.mark.parametrize("change", [Affine(), ResizedCrop((1, 1), (1, 1)), HorizontalFlip(0.0)])
def test_identity_parameters_change_nothing(change):
    x = random_images(20, 3, 28, 28)
    torch.testing.assert_close(
        Augmentation((change,)).sample_orbit(x, generator()), x.float() / 255, atol=2e-5, rtol=0
    )


def test_a_certain_flip_mirrors():
    x = random_images(5, 1, 9, 14)
    torch.testing.assert_close(
        Augmentation((HorizontalFlip(1.0),)).sample_orbit(x, generator()),
        x.flip(3).float() / 255,
        atol=2e-5,
        rtol=0,
    )


def test_a_quarter_turn_is_one():
    x = random_images(1, 1, 16, 16)
    turned = {True: torch.rot90(x, -1, (2, 3)), False: torch.rot90(x, 1, (2, 3))}
    maps = Affine(degrees=90).inverse(4000, 16, 16, generator())
    angles = torch.atan2(-maps[:, 1, 0], maps[:, 0, 0])
    for end, clockwise in ((angles.argmax(), True), (angles.argmin(), False)):
        near = resample(x.float() / 255, maps[end : end + 1])
        assert (near - turned[clockwise].float() / 255).abs().mean() < 0.01


def test_maps_compose_in_order():
    x = random_images(6, 1, 20, 20).float() / 255
    smooth = torch.nn.functional.avg_pool2d(x, 9, 1, 4)
    maps = [
        Affine(degrees=20).inverse(6, 20, 20, generator(1)),
        Affine(translate=0.2).inverse(6, 20, 20, generator(2)),
        HorizontalFlip(1.0).inverse(6, 20, 20, generator()),
    ]
    whole, steps = resample(smooth, compose(maps), "border"), smooth
    for step in maps:
        steps = resample(steps, step, "border")
    middle = (slice(None), slice(None), slice(6, 14), slice(6, 14))
    assert (
        (whole - steps)[middle].abs().max()
        < 0.05
        < (whole - resample(smooth, compose(maps[::-1]), "border"))[middle].abs().max()
    )


# --- colours ---

FACTORS = (0.0, 0.6, 0.95, 1.0, 1.4)


@pytest.mark.parametrize(
    ("operation", "enhance"),
    [
        (brightness, ImageEnhance.Brightness),
        (contrast, ImageEnhance.Contrast),
        (saturation, ImageEnhance.Color),
    ],
)
def test_operations_are_pils(operation, enhance):
    x = random_images(len(FACTORS), 3, 12, 9)
    x[:, :, :6] //= 3  # a darker half
    result = operation(x.float() / 255, torch.tensor(FACTORS)) * 255
    for image, factor, own in zip(x, FACTORS, result, strict=True):
        expected = enhance(Image.fromarray(image.permute(1, 2, 0).numpy())).enhance(factor)
        assert (
            np.abs(own.permute(1, 2, 0).numpy() - np.asarray(expected)).max() < 1.6
        )  # PIL rounds the luma, its mean and the result


def test_hue_is_that_of_hsv():
    x = random_images(9, 3, 5, 7).float() / 255
    x[0], x[1, :, 0] = (
        0.0,
        torch.tensor([0.4, 0.4, 0.9])[:, None],
    )  # without chroma; with two channels equal
    turns = torch.tensor([0.1, 0.0, 0.2, -0.2, 0.5, -0.5, 1.0, 0.37, -1.0])
    result = hue(x, turns)
    for image, turn, own in zip(x, turns, result, strict=True):
        for pixel, changed in zip(image.flatten(1).T, own.flatten(1).T, strict=True):
            tone, chroma, value = colorsys.rgb_to_hsv(*pixel.tolist())
            assert changed.tolist() == pytest.approx(
                colorsys.hsv_to_rgb((tone + turn.item()) % 1, chroma, value), abs=3e-6
            )
    torch.testing.assert_close(hue(x, torch.zeros(9)), x)


def test_neutral_amounts_change_nothing():
    x = random_images(4, 3, 8, 8).float() / 255
    for operation in (brightness, contrast, saturation):
        torch.testing.assert_close(operation(x, torch.ones(4)), x)
    torch.testing.assert_close(ColourJitter(0, 0, 0, 0, 1.0)(x, generator()), x)


def flat(*colour: float, count: int = 3000) -> torch.Tensor:
    return torch.tensor(colour)[:, None, None].expand(count, 3, 2, 2)


def test_jitter_draws_factors_and_shifts_over_their_ranges():
    for own in (
        ColourJitter(0.4, 0, 0, 0, 1.0),
        ColourJitter(0, 0.4, 0, 0, 1.0),
        ColourJitter(0, 0, 0.4, 0, 1.0),
    ):
        x = flat(0.5, 0.4, 0.45).clone()
        x[:, :, 0] = torch.tensor([0.3, 0.35, 0.3])[:, None]
        result = own(x, generator())
        if own.brightness:
            factors = result[:, 0, 0, 0] / 0.3
        elif own.contrast:
            factors = (result[:, 0, 1, 0] - result[:, 0, 0, 0]) / 0.2
        else:
            factors = (result[:, 0, 0, 0] - result[:, 1, 0, 0]) / -0.05
        assert is_uniform(factors, 0.6, 1.4)
    tones = hue_of(ColourJitter(0, 0, 0, 0.2, 1.0)(flat(0.2, 0.8, 0.8), generator()))
    assert is_uniform(tones - 0.5, -0.2, 0.2)
    assert is_uniform(
        ColourJitter(1.5, 0, 0, 0, 1.0)(flat(0.2, 0.2, 0.2), generator())[:, 0, 0, 0] / 0.2,
        0.0,
        2.5,
    )  # no negative factor


def hue_of(x: torch.Tensor) -> torch.Tensor:
    return torch.tensor([colorsys.rgb_to_hsv(*pixel)[0] for pixel in x[:, :, 0, 0].tolist()])


def test_jitter_orders_its_operations_at_random():
    """If red turns before the contrast changes, the mean luma differs."""
    x = torch.zeros(4000, 3, 2, 2)
    x[:, 0, 0] = 0.5  # red above black
    result = ColourJitter(0, 0.4, 0, 0.2, 1.0)(x, generator())
    factor = (result[:, :, 0, 0].amax(1) - result[:, :, 0, 0].amin(1)) / 0.5
    tone = hue_of(result)
    tone = torch.where(tone > 0.5, tone - 1, tone)
    telling = (factor < 0.97) & (tone.abs() > 0.02)
    mean = result[:, 0, 1, 0] / (1 - factor)
    red, turned = luma(x).mean((1, 2, 3)), luma(hue(x, tone)).mean((1, 2, 3))
    contrast_first, hue_first = (mean - red).abs() < 2e-4, (mean - turned).abs() < 2e-4
    assert telling.sum() > 1000 and torch.equal(contrast_first[telling], ~hue_first[telling])
    share = contrast_first[telling].double().mean()
    assert abs(share - 0.5) < 4 * 0.5 / telling.sum() ** 0.5


def test_probabilities_of_jitter_and_grey():
    x = flat(0.2, 0.6, 0.9, count=5000)
    for change, probability in (
        (ColourJitter(), 0.8),
        (RandomGrey(), 0.2),
        (ColourJitter(probability=0.3), 0.3),
        (RandomGrey(0.0), 0.0),
        (RandomGrey(1.0), 1.0),
    ):
        changed = (change(x, generator()) != x).flatten(1).any(1)
        assert (
            abs(changed.double().mean() - probability)
            <= 4 * (probability * (1 - probability) / 5000) ** 0.5
        )
    grey = RandomGrey(1.0)(x[:1], generator())
    torch.testing.assert_close(grey, torch.full_like(grey, 0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 0.9))


# --- augmentations as groups ---


def test_cifars_augmentation_is_all_of_it():
    """Shares of its members that are grey, and of those that are mirrored.

    Pixels stay in [0, 1].
    """
    count = 3000
    x = (
        torch.linspace(0.2, 0.8, 16).expand(count, 3, 8, 16)
        * torch.tensor([1.0, 0.9, 0.6])[:, None, None]
    )  # brighter to the right
    members = AUGMENTATIONS["cifar"].sample_orbit(x, generator())
    assert members.min() >= 0 and members.max() <= 1
    grey = (members.amax(1) - members.amin(1)).flatten(1).amax(1) < 1e-6
    mirrored = luma(members)[:, 0, :, 0].mean(1) > luma(members)[:, 0, :, -1].mean(1)
    assert (
        abs(grey.double().mean() - 0.2) < 4 * (0.16 / count) ** 0.5
        and abs(mirrored.double().mean() - 0.5) < 4 * (0.25 / count) ** 0.5
    )
    assert AUGMENTATIONS["cifar"].geometry[0] == ResizedCrop(
        (0.3, 1.0), (0.7, 1.4)
    ) and AUGMENTATIONS["cifar"].colour[0] == ColourJitter(0.4, 0.4, 0.4, 0.2, 0.8)


def test_pixels_stay_in_range_and_dtypes_do_not_matter():
    white = torch.full((50, 3, 10, 10), 255, dtype=torch.uint8)
    for group in AUGMENTATIONS.values():
        members = group.sample_orbit(white, generator())
        assert members.dtype == torch.float32 and members.max() <= 1
        assert torch.equal(
            members, group.sample_orbit(torch.ones(50, 3, 10, 10, dtype=torch.float64), generator())
        )
        assert torch.equal(group.representative(white), torch.ones(50, 3, 10, 10))


@pytest.mark.parametrize(
    ("name", "x", "message"),
    [
        (
            "cifar",
            torch.zeros(2, 1, 8, 8),
            r"changes colours, of images \(N, 3, H, W\); got \(2, 1, 8, 8\)",
        ),
        (
            "mnist-aug",
            torch.zeros(2, 8, 8),
            (
                r"images \(N, C, H, W\), uint8 or floating point in \[0, 1\]; got torch.float32"
                r" \(2, 8, 8\)"
            ),
        ),
        ("mnist-aug", torch.zeros(2, 1, 8, 8, dtype=torch.int64), "got torch.int64"),
    ],
)
def test_refuses(name, x, message):
    with pytest.raises(QuadrateError, match=message):
        AUGMENTATIONS[name].sample_orbit(x, generator())
