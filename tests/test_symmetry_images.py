"""Image sources as sets of orbits: plain, with label equivalence, padded."""

import dataclasses

import pytest
import torch

from quadrate.errors import QuadrateError
from quadrate.sources import Split
from quadrate.sources.symmetry import (
    AUGMENTATIONS,
    Affine,
    Augmentation,
    LabelOrbitSet,
    OrbitSet,
    orbit_splits,
    padded,
)

SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize("name", ["mnist-aug", "mnist-less"])
def test_images_stand_for_their_own_orbits(digits, name):
    splits = orbit_splits(digits, name)
    for split in SPLITS:
        orbits, own = getattr(splits, split), getattr(digits, split)
        assert (
            type(orbits) is OrbitSet
            and orbits.points is own.images
            and orbits.labels is own.labels
            and orbits.group is AUGMENTATIONS[name]
        )
        assert orbits.invariant_bits == pytest.approx(torch.tensor(float(len(own))).log2().item())


def test_an_augmentation_of_ones_own(digits):
    own = Augmentation((Affine(degrees=180),))
    assert orbit_splits(digits, own).test.group is own


def test_label_equivalence_shares_training_prototypes(digits):
    splits = orbit_splits(digits, "mnist-aug", by_label=True)
    shared = splits.train.prototypes
    for split in SPLITS:
        orbits, own = getattr(splits, split), getattr(digits, split)
        indices = torch.arange(len(own))
        assert isinstance(orbits, LabelOrbitSet) and torch.equal(orbits.prototypes, shared)
        assert torch.equal(orbits.invariants(indices), own.labels)
        assert torch.equal(orbits.representatives(indices), shared[own.labels].float() / 255)
        assert (
            orbits.sample_orbit(indices, torch.Generator().manual_seed(0)).shape == own.images.shape
        )
    for label, prototype in enumerate(shared):
        assert (
            (digits.train.images[digits.train.labels == label] == prototype).flatten(1).all(1).any()
        )


def test_label_equivalence_needs_each_test_label_in_training(digits):
    kept = digits.train.labels < 9
    source = dataclasses.replace(
        digits, train=Split(digits.train.images[kept], digits.train.labels[kept])
    )
    with pytest.raises(
        QuadrateError,
        match=r"each label needs a prototype .* labels are 0..9, the prototypes \(9, 1, 8, 8\)",
    ):
        orbit_splits(source, "mnist-aug", by_label=True)


def test_no_such_augmentation(digits):
    with pytest.raises(
        QuadrateError,
        match="unknown augmentation 'mnist-more': expected one of mnist-aug, mnist-less, cifar",
    ):
        orbit_splits(digits, "mnist-more")


@pytest.mark.parametrize(("side", "before", "after"), [(12, 2, 2), (11, 1, 2), (8, 0, 0)])
def test_padding_is_black_and_even(digits, side, before, after):
    source = padded(digits, side)
    assert source.shape == (1, side, side) and source.name == f"tiny digits-{side}"
    for split in SPLITS:
        images, own = getattr(source, split).images, getattr(digits, split).images
        inside = slice(before, side - after)
        assert torch.equal(images[:, :, inside, inside], own) and images.sum() == own.sum()
        assert torch.equal(getattr(source, split).labels, getattr(digits, split).labels)
    assert (source.fingerprint == digits.fingerprint) == (side == 8)


def test_padding_never_cuts(digits):
    with pytest.raises(QuadrateError, match="tiny digits: images of 8x8 do not fit into 7x7"):
        padded(digits, 7)
