"""What every group promises.

Closed orbits, one representative each, and draws that the generator alone decides.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.sources.symmetry import (
    AUGMENTATIONS,
    Banana,
    LabelOrbitSet,
    OrbitSet,
    cyclic_patterns,
    dihedral_patterns,
    multisets,
    prototypes,
)

POPULATIONS = {
    "rotation": Banana("rotation"),
    "y_translation": Banana("y_translation"),
    "x_translation": Banana("x_translation"),
    "none": Banana("none"),
    "cyclic": cyclic_patterns(12, (0.7, 0.3)),
    "dihedral": dihedral_patterns(4, (0.5, 0.3, 0.2)),
    "multisets": multisets(9, (0.2, 0.5, 0.3)),
}
IMAGES = torch.randint(
    0, 256, (64, 3, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
CASES = {name: (group, group.sample(64, "test")) for name, group in POPULATIONS.items()} | {
    name: (g, IMAGES) for name, g in AUGMENTATIONS.items()
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", POPULATIONS)
def test_orbits_are_closed_and_have_one_representative(name):
    group = POPULATIONS[name]
    x = group.sample(2000, "closed")
    once = group.sample_orbit(x, generator(1))
    twice = group.sample_orbit(once, generator(2))
    representative = group.representative(x)
    for other in (once, twice, representative):
        assert other.shape == x.shape and other.dtype == x.dtype
        torch.testing.assert_close(group.invariant(other), group.invariant(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            group.representative(other), representative, rtol=1e-5, atol=1e-5
        )
    if name != "none":
        assert (once.flatten(1) != x.flatten(1)).any(1).float().mean() > 0.8 and not torch.equal(
            once, twice
        )


@pytest.mark.parametrize("name", CASES)
def test_the_generator_alone_decides_the_draws(name):
    group, x = CASES[name]
    before, torch_state, numpy_state = (
        x.clone(),
        torch.get_rng_state(),
        np.random.get_state()[1].copy(),  # noqa: NPY002 - the state that must not move
    )
    first, again, other = (group.sample_orbit(x, generator(seed)) for seed in (1, 1, 2))
    torch.manual_seed(5)
    assert torch.equal(first, again) and torch.equal(first, group.sample_orbit(x, generator(1)))
    assert torch.equal(first, other) == (name == "none")
    torch.set_rng_state(torch_state)
    group.sample_orbit(x, generator(3))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", CASES)
def test_threads_change_nothing(name):
    group, x = CASES[name]
    x = x.repeat(20, *[1] * (x.ndim - 1))  # enough for torch to split the work
    one = group.sample_orbit(x, generator())
    torch.set_num_threads(2)
    try:
        assert torch.equal(group.sample_orbit(x, generator()), one)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("name", POPULATIONS)
def test_samples_are_functions_of_their_key(name):
    group = POPULATIONS[name]
    assert torch.equal(group.sample(50, "train", 0, 1, 2), group.sample(50, "train", 0, 1, 2))
    for key in (("train", 0, 1, 3), ("train", 0, 2, 2), ("train", 1, 1, 2), ("valid", 0, 1, 2)):
        assert not torch.equal(group.sample(50, "train", 0, 1, 2), group.sample(50, *key))
    splits, others = group.splits(30, 20, 10), group.splits(5, 20, 10)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [30, 20, 10]
    assert torch.equal(splits.test.points, others.test.points) and splits.test.group is group
    assert not torch.equal(splits.train.points[:10], splits.test.points) and not torch.equal(
        group.splits(30, 20, 10, seed=1).test.points, others.test.points
    )


def test_importing_them_needs_torch_and_numpy_only():
    unwanted = {"scipy", "PIL", "sklearn", "matplotlib", "constriction"}
    code = (
        f"import sys, quadrate.sources.symmetry; print(*{unwanted} & {{name.split('.')[0] for name"
        " in sys.modules})"
    )
    assert (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )


# --- sets of orbits ---


def test_a_set_gives_members_representatives_and_invariants_by_index():
    group = cyclic_patterns(6)
    orbits = OrbitSet(group.sample(40, "set"), group)
    indices = torch.tensor([3, 3, 17])
    assert torch.equal(
        orbits.sample_orbit(indices, generator()),
        group.sample_orbit(orbits.points[indices], generator()),
    )
    assert torch.equal(
        orbits.representatives(indices), group.representative(orbits.points[indices])
    )
    assert torch.equal(orbits.invariants(indices), group.invariant(orbits.points[indices]))
    moved = orbits.to("meta")
    assert moved.points.device.type == "meta" and moved.labels is None and moved.group is group


def test_augmented_images_are_orbits_of_their_own():
    orbits = OrbitSet(IMAGES, AUGMENTATIONS["cifar"], torch.arange(64) % 10)
    indices = torch.tensor([5, 63, 5])
    assert torch.equal(orbits.invariants(indices), indices)
    assert torch.equal(orbits.representatives(indices), IMAGES[indices].float() / 255)
    assert orbits.invariant_bits == 6
    assert not torch.equal(*orbits.sample_orbit(torch.tensor([5, 5]), generator()))  # two views


def test_draws_are_keyed_by_seed_epoch_and_step():
    orbits = OrbitSet(IMAGES, AUGMENTATIONS["mnist-aug"])
    views = {
        key: orbits.sample_orbit(torch.arange(64), draws.generator("augment", *key))
        for key in ((0, 1, 2), (0, 1, 3), (0, 2, 2), (1, 1, 2))
    }
    assert torch.equal(
        views[0, 1, 2], orbits.sample_orbit(torch.arange(64), draws.generator("augment", 0, 1, 2))
    )
    assert all(
        not torch.equal(views[0, 1, 2], view) for key, view in views.items() if key != (0, 1, 2)
    )


def test_invariant_bits_are_the_entropy_of_the_set():
    assert OrbitSet(
        torch.tensor([[0.0, 3.0], [3.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), Banana("rotation")
    ).invariant_bits == pytest.approx(1.5)
    assert OrbitSet(
        Banana("none").sample(32, "bits"), Banana("none")
    ).invariant_bits == pytest.approx(5)


def labelled(count: int = 300) -> LabelOrbitSet:
    """Images that show their label in the first channel and their number in the second."""
    labels = (
        torch.randint(0, 3, (count,), generator=generator(4)) * 2 % 5
    )  # 0, 2 or 4; and 1 and 3 only as prototypes
    images = torch.zeros(count, 3, 4, 4)
    images[:, 0], images[:, 1] = (
        labels[:, None, None] / 10,
        torch.arange(count)[:, None, None] / count,
    )
    return LabelOrbitSet(
        images,
        AUGMENTATIONS["mnist-less"],
        labels,
        prototypes=torch.rand(5, 3, 4, 4, generator=generator(5)),
    )


def test_label_equivalence_keeps_labels_and_reaches_all_of_a_label_equally_often():
    orbits = labelled()
    indices = torch.arange(300).repeat(100)
    partners = orbits.partners(indices, generator())
    assert torch.equal(orbits.labels[partners], orbits.labels[indices])
    for label in (0, 2, 4):
        counts = (
            partners[orbits.labels[indices] == label]
            .bincount(minlength=300)[orbits.labels == label]
            .double()
        )
        chi_square = ((counts - 100) ** 2 / 100).sum() / len(counts)
        assert abs(chi_square - 1) < 5 * (2 / len(counts)) ** 0.5


def test_label_equivalence_members_representatives_and_invariants():
    orbits = labelled()
    indices = torch.arange(300)
    draw = generator(7)
    partners = orbits.partners(indices, draw)
    assert (partners != indices).float().mean() > 0.9
    assert torch.equal(
        orbits.sample_orbit(indices, generator(7)),
        orbits.group.sample_orbit(orbits.points[partners], draw),
    )
    assert torch.equal(orbits.invariants(indices), orbits.labels)
    assert torch.equal(orbits.representatives(indices), orbits.prototypes[orbits.labels])
    shares = orbits.labels.bincount().double() / 300
    assert orbits.invariant_bits == pytest.approx(
        float(-torch.special.xlogy(shares, shares).sum() / np.log(2))
    )
    assert orbits.to("cpu").prototypes is not None and isinstance(orbits.to("cpu"), LabelOrbitSet)


def test_prototypes_are_the_samples_nearest_to_their_mean():
    points = torch.tensor([[0.0], [4.0], [5.0], [10.0], [11.0], [19.0]])
    assert prototypes(points, torch.tensor([0, 0, 0, 1, 1, 1])).tolist() == [[4.0], [11.0]]
    images = torch.tensor([0, 250, 255], dtype=torch.uint8)[:, None, None, None]
    assert prototypes(images, torch.tensor([0, 0, 0])).flatten().tolist() == [250]


X, GROUP = torch.zeros(3, 1, 2, 2), AUGMENTATIONS["mnist-aug"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: OrbitSet(torch.zeros(0, 2), Banana()),
            r"at least one point, along the first axis; got shape \(0, 2\)",
        ),
        (
            lambda: OrbitSet(torch.tensor(1.0), Banana()),
            r"at least one point, along the first axis; got shape \(\)",
        ),
        (
            lambda: OrbitSet(X, GROUP, torch.zeros(2, dtype=torch.int64)),
            r"labels of 3 points must be int64 \(3,\); got torch.int64 \(2,\)",
        ),
        (lambda: OrbitSet(X, GROUP, torch.zeros(3)), r"must be int64 \(3,\); got torch.float32"),
        (
            lambda: LabelOrbitSet(X, GROUP, prototypes=X),
            "can only be equivalent if there are labels",
        ),
        (
            lambda: LabelOrbitSet(X, GROUP, torch.tensor([0, 1, 3]), prototypes=X),
            r"shape \(1, 2, 2\); the labels are 0..3, the prototypes \(3, 1, 2, 2\)",
        ),
        (
            lambda: LabelOrbitSet(X, GROUP, torch.tensor([0, -1, 0]), prototypes=X),
            "the labels are -1..0",
        ),
        (
            lambda: LabelOrbitSet(X, GROUP, torch.tensor([0, 1, 2]), prototypes=X[:, 0]),
            "each label needs a prototype",
        ),
        (
            lambda: prototypes(X, torch.tensor([0, 2, 2])),
            "each label from 0 to 2 needs a sample to be its prototype; label 1 has none",
        ),
    ],
)
def test_sets_refuse(call, message):
    with pytest.raises(QuadrateError, match=message):
        call()


# --- the page ---


def test_the_code_of_the_page_runs():
    page = (Path(__file__).parents[1] / "docs" / "symmetry.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3 and all("assert" in block for block in blocks)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "symmetry.md", "exec"), names)
