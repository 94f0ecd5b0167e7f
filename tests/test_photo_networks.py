"""The block transform and the restoration of photographs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from photos_made import picture
from quadrate.errors import QuadrateError
from quadrate.networks.block_transform import BlockTransform, sites
from quadrate.networks.restoration import Restoration

PICTURES = [picture(96, 128, seed=seed) for seed in range(3)]
WHOLE = BlockTransform.fit(PICTURES, 768)
SOME = BlockTransform(WHOLE.mean, WHOLE.basis[:, :20])

# --- the transform ---


def test_axes_are_orthonormal_and_ordered_by_variance():
    np.testing.assert_allclose(WHOLE.basis.T @ WHOLE.basis, np.eye(768), atol=1e-5)
    coefficients = np.concatenate([WHOLE.forward(p).reshape(-1, 768) for p in PICTURES])
    mirrored = [p[:, :, ::-1] for p in PICTURES] + [p[:, ::-1] for p in PICTURES]
    mirrored += [p[:, ::-1, ::-1] for p in PICTURES]
    others = [WHOLE.forward(p).reshape(-1, 768) for p in mirrored]
    power = np.square(np.concatenate([coefficients, *others])).mean(0)
    assert (np.diff(power) < 1e-3 * power[0]).all() and power[0] > 50 * power[19]


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_all_axes_give_any_photograph_back(height, width, seed):
    photograph = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    coefficients = WHOLE.forward(photograph)
    assert coefficients.shape == (math.ceil(height / 16), math.ceil(width / 16), 768)
    pixels = WHOLE.inverse(coefficients)
    assert pixels.shape == (3, 16 * coefficients.shape[0], 16 * coefficients.shape[1])
    np.testing.assert_allclose(pixels[:, :height, :width], photograph, atol=2e-2)
    # what fills up the last blocks is the last row and column
    filled = np.pad(photograph, ((0, 0), (0, -height % 16), (0, -width % 16)), mode="edge")
    np.testing.assert_allclose(pixels, filled, atol=2e-2)


@pytest.mark.parametrize("height", [16, 256, 272, 500])
def test_errors_of_coefficients_are_errors_of_pixels(height):
    """Strips of 16 rows of blocks, too."""
    draw = np.random.default_rng(height)
    coefficients = draw.normal(0, 30, (math.ceil(height / 16), 3, 20)).astype(np.float32)
    noise = draw.normal(size=coefficients.shape).astype(np.float32)
    moved = SOME.inverse(coefficients + noise).astype(np.float64) - SOME.inverse(coefficients)
    assert np.square(moved).sum() == pytest.approx(np.square(noise).sum(), rel=1e-4)


def test_blocks_do_not_know_each_other():
    photograph = picture(300, 50, seed=5)
    whole = SOME.forward(photograph)
    for row, column in ((0, 0), (15, 1), (16, 2), (18, 3)):
        part = photograph[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        np.testing.assert_allclose(SOME.forward(part)[0, 0], whole[row, column], atol=1e-3)
    assert sites(300, 50) == whole.shape[:2] == (19, 4)


def test_channels_that_are_zero_cost_nothing_and_change_nothing():
    coefficients = np.zeros((2, 3, 20), np.float32)
    np.testing.assert_array_equal(
        SOME.inverse(coefficients)[:, :16, :16].transpose(1, 2, 0).ravel(), WHOLE.mean
    )
    coefficients[1, 2, 4] = 10
    longer = np.pad(coefficients, ((0, 0), (0, 0), (0, 748)))
    np.testing.assert_allclose(SOME.inverse(coefficients), WHOLE.inverse(longer), atol=1e-4)


def test_small_photographs_have_no_blocks_to_fit():
    with pytest.raises(QuadrateError, match="at least 16 x 16 pixels"):
        BlockTransform.fit([picture(15, 90)], 4)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("mean", np.zeros(767, np.float32), r"a mean \(768,\) and a basis"),
        ("basis", np.zeros((767, 4), np.float32), r"a mean \(768,\) and a basis"),
        ("basis", np.zeros(768, np.float32), r"a mean \(768,\) and a basis"),
        ("mean", np.full(768, np.nan, np.float32), "far larger, or not finite"),
        ("basis", np.full((768, 2), np.inf, np.float32), "far larger, or not finite"),
        ("basis", np.full((768, 2), 1e30, np.float32), "far larger, or not finite"),
        ("mean", np.zeros(768), "two arrays, mean and basis, of float32"),
        ("basis", np.zeros((768, 2), np.int32), "two arrays, mean and basis, of float32"),
        ("other", np.zeros(1, np.float32), "two arrays, mean and basis, of float32"),
    ],
)
def test_arrays_that_are_no_transform_are_refused(name, array, message):
    with pytest.raises(QuadrateError, match=message):
        BlockTransform.from_arrays(SOME.arrays() | {name: array})
    assert BlockTransform.from_arrays(SOME.arrays()).channels == 20


# --- restoration ---


def random_restoration(width: int = 6) -> Restoration:
    network = Restoration(width)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def random_pixels(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(picture(height, width, seed=seed)).float()[None]


def test_an_untrained_network_adds_nothing():
    pixels = random_pixels(32, 48)
    assert torch.equal(Restoration(5)(pixels, torch.tensor([20.0])), pixels)


def test_a_pixel_is_mended_by_what_is_near():
    network, step = random_restoration(), torch.tensor([16.0])
    pixels = random_pixels(128, 128)
    changed = pixels.clone()
    changed[..., 64:68, 64:68] += 50
    moved = (network(changed, step) - network(pixels, step)).abs().amax(dim=(0, 1))
    rows, columns = (moved > 1e-3).nonzero().unbind(1)
    for places in (rows, columns):
        assert 64 - network.reach <= int(places.min()) and int(places.max()) < 68 + network.reach
        # and the reach that is declared is not larger than it need be
        assert int(places.min()) < 64 - network.reach + 4


def test_brightness_is_not_seen():
    network, step = random_restoration(), torch.tensor([16.0])
    pixels = random_pixels(64, 64)
    torch.testing.assert_close(
        network(pixels + 30, step), network(pixels, step) + 30, atol=1e-3, rtol=0
    )


def test_photographs_of_a_batch_do_not_know_each_other():
    network, steps = random_restoration(), torch.tensor([3.0, 40.0])
    both = torch.cat([random_pixels(48, 32, seed) for seed in (1, 2)])
    together = network(both, steps)
    for i in range(2):
        torch.testing.assert_close(
            together[i : i + 1], network(both[i : i + 1], steps[i : i + 1]), atol=1e-3, rtol=0
        )


def test_a_cell_knows_its_place_in_the_block():
    network, step = random_restoration(), torch.tensor([16.0])
    flat = torch.full((1, 3, 96, 96), 100.0)
    added = (network(flat, step) - flat)[0, :, 32:64, 32:64]
    torch.testing.assert_close(added[:, :16, :16], added[:, 16:, 16:], atol=1e-3, rtol=0)
    assert (added[:, :4, :4] - added[:, 4:8, :4]).abs().max() > 0.1


@pytest.mark.parametrize("size", [(15, 16), (16, 8), (1, 1)])
def test_parts_of_blocks_are_refused(size):
    with pytest.raises(QuadrateError, match="whole blocks of 16 x 16 pixels"):
        Restoration(4)(torch.zeros(1, 3, *size), torch.ones(1))


def test_noise_is_wanted_or_not_and_needs_depth():
    pixels, step = torch.rand(1, 3, 16, 16) * 255, torch.tensor([20.0])
    with pytest.raises(QuadrateError, match="takes 0 maps of noise"):
        Restoration(4)(pixels, step, torch.zeros(1, 1, 4, 4))
    with pytest.raises(QuadrateError, match="takes 2 maps of noise; got none"):
        Restoration(4, noise=2)(pixels, step)
    with pytest.raises(QuadrateError, match="2 to 64 hidden layers; got 1"):
        Restoration(4, depth=1, noise=1)
    with pytest.raises(QuadrateError, match="0 to 64 hidden layers; got 65"):
        Restoration(4, depth=65)


@pytest.mark.parametrize(("depth", "noise"), [(0, 0), (3, 0), (2, 1), (5, 8)])
def test_a_state_tells_the_sizes_of_its_network(depth, noise):
    assert Restoration.sizes(Restoration(4, depth, noise).state_dict()) == {
        "depth": depth,
        "noise": noise,
    }
