"""Sources: fixed splits, fingerprints, arrays, and the noisy observation."""

import numpy as np
import pytest
import torch

from quadrate.errors import QuadrateError
from quadrate.sources import (
    Source,
    Split,
    from_arrays,
    pixels,
)
from quadrate.sources.source import to_uint8
from sources_parts import random_images


def tiny(noise_std: float = 0.0) -> Source:
    split = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))
    return Source("tiny", split, split, split, classes=4, fingerprint="", noise_std=noise_std)


# --- Split, Source, pixels, observe ---


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(0, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_split_refuses_other_shapes_and_dtypes(images, labels):
    with pytest.raises(QuadrateError, match="of a split must be uint8|must be int64"):
        Split(images, labels)


def test_source_refuses_mismatched_splits_labels_and_noise():
    a = Split(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    b = Split(torch.zeros(2, 1, 2, 3, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(
        QuadrateError, match=r"one shape .* train has \(1, 2, 2\), test \(1, 2, 3\)"
    ):
        Source("s", a, a, b, 2, "")
    with pytest.raises(QuadrateError, match=r"must lie in 0\.\.0; train has 0\.\.1"):
        Source("s", a, a, a, 1, "")
    for noise_std in (-0.1, float("nan"), float("inf")):
        with pytest.raises(QuadrateError, match="noise_std"):
            Source("s", a, a, a, 2, "", noise_std)


def test_source_shape_len_and_device():
    source = tiny(0.5)
    assert source.shape == (1, 2, 2) and len(source.train) == 4
    moved = source.to("cpu")
    assert moved.noise_std == 0.5 and torch.equal(moved.test.labels, source.test.labels)
    assert source.train.to(torch.device("meta")).images.device.type == "meta"


def test_pixels_scales_once():
    levels = torch.arange(256, dtype=torch.uint8)
    assert pixels(levels).dtype == torch.float32 and pixels(levels)[[0, 255]].tolist() == [0.0, 1.0]
    assert torch.equal((pixels(levels) * 255).round().to(torch.uint8), levels)
    with pytest.raises(QuadrateError, match="uint8"):
        pixels(pixels(levels))


def test_observe_is_the_identity_without_noise_and_draws_nothing():
    x, generator = torch.rand(3, 1, 2, 2), torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert tiny().observe(x, generator) is x
    assert torch.equal(generator.get_state(), state)


def test_observe_is_decided_by_the_generator():
    x = torch.rand(2, 3, 1, 2, 2)
    first, again, other = (
        tiny(0.3).observe(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == x.shape and first.dtype == x.dtype


def test_observe_adds_unclipped_unbiased_gaussian_noise():
    x = torch.cat([torch.zeros(50_000), torch.ones(50_000)]).reshape(
        -1, 1, 10, 10
    )  # the values at which clipping would bias
    noise = (tiny(0.4).observe(x, torch.Generator().manual_seed(0)) - x).flatten()
    for half in noise.split(50_000):
        assert abs(half.mean()) < 5 * 0.4 / 50_000**0.5
        assert abs(half.std() - 0.4) < 0.01
        assert abs((half / 0.4).pow(4).mean() - 3) < 0.2  # a Gaussian's kurtosis


def test_observe_refuses_integer_images():
    with pytest.raises(QuadrateError, match="floating-point"):
        tiny(0.1).observe(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.Generator())


# --- arrays, splits, fingerprints ---


def test_validation_is_a_twelfth_and_disjoint():
    images = np.arange(120, dtype=np.uint8).reshape(120, 1, 1, 1)  # each image is its own number
    labels = np.arange(120) % 10
    source = from_arrays("s", (images, labels), (images, labels))
    train = source.train.images.flatten().tolist()
    validation = source.validation.images.flatten().tolist()
    assert len(validation) == 10 and sorted(train + validation) == list(range(120))
    assert source.validation.labels.tolist() == [number % 10 for number in validation]
    assert torch.equal(source.test.images, torch.from_numpy(images))
    # The fixed split of everything published: if this line fails, every number published before is
    # void.
    assert validation == [27, 50, 105, 16, 119, 107, 99, 49, 23, 62]


def test_fingerprint_follows_the_contents():
    images, labels = random_images((24, 1, 4, 4))
    splits = dict(
        train=(images, labels), validation=(images[:4], labels[:4]), test=(images[4:8], labels[4:8])
    )
    first = from_arrays("a", **splits).fingerprint
    assert len(first) == 64 and first == from_arrays("b", **splits).fingerprint
    assert (
        first
        == from_arrays(
            "a", **{name: (torch.tensor(x), torch.tensor(y)) for name, (x, y) in splits.items()}
        ).fingerprint
    )
    changed_image, changed_label = images.copy(), labels.copy()
    changed_image[0, 0, 0, 0] ^= 1
    changed_label[0] ^= 1
    swapped = dict(splits, validation=splits["test"], test=splits["validation"])
    reshaped = {name: (x.reshape(-1, 1, 2, 8), y) for name, (x, y) in splits.items()}
    others = [
        dict(splits, train=(changed_image, labels)),
        dict(splits, train=(images, changed_label)),
        swapped,
        reshaped,
    ]
    assert len({first, *(from_arrays("a", **other).fingerprint for other in others)}) == 5


def test_from_arrays_copies_and_takes_any_layout_in_memory():
    images, labels = random_images((12, 3, 5))
    backwards = images[::-1, :, ::-1]
    source = from_arrays("s", (backwards, labels[::-1]), (images, labels), (images, labels))
    expected = backwards.copy()[:, np.newaxis]
    images[:] = 0
    assert (
        np.array_equal(source.train.images.numpy(), expected)
        and source.train.images.is_contiguous()
    )


def test_from_arrays_rounds_floats_to_levels():
    images, labels = random_images((12, 1, 4, 4))
    for scaled in (images / 255, (images / 255).astype(np.float32), torch.tensor(images) / 255):
        source = from_arrays("s", (scaled, labels), (scaled, labels), (scaled, labels))
        assert np.array_equal(source.test.images.numpy(), images)
    assert np.array_equal(
        to_uint8(np.array([0.0, 0.0019, 0.0020, 0.9979, 0.9981]), "here"), [0, 0, 1, 254, 255]
    )


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.full((12, 2, 2), 1.5), np.zeros(12, int), "must lie in"),
        (np.full((12, 2, 2), np.nan), np.zeros(12, int), "must lie in"),
        (np.zeros((12, 2, 2), np.int64), np.zeros(12, int), "got int64"),
        (np.zeros((12, 2), np.uint8), np.zeros(12, int), r"\(N, C, H, W\)"),
        (np.zeros((12, 2, 2), np.uint8), np.zeros(11, int), "must be 12 integers"),
        (np.zeros((12, 2, 2), np.uint8), np.zeros(12), "must be 12 integers; got float64"),
        (np.zeros((12, 2, 2), np.uint8), np.full(12, -1), "must lie in 0"),
        (np.zeros((11, 2, 2), np.uint8), np.zeros(11, int), "at least 12"),
    ],
)
def test_from_arrays_refuses(images, labels, message):
    with pytest.raises(QuadrateError, match=message):
        from_arrays("s", (images, labels), (images, labels))
