"""Finite groups and the rate-invariance theorem against enumeration and exact formulas."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, entropy, multinomial

from quadrate.theory.invariance.groups import (
    PermutationGroup,
    cyclic_shifts,
    dihedral_images,
    equal_orbits,
    image_rotations,
    invariant_rate,
    multiset_entropies,
    orbit_entropies,
)

PROFILE = settings(deadline=None, derandomize=True, max_examples=60)


def symmetric(n):
    return PermutationGroup([np.roll(np.arange(n), 1), np.r_[1, 0, np.arange(2, n)]])


def bracelet(n):
    return PermutationGroup([np.roll(np.arange(n), 1), np.arange(n)[::-1]])


def all_products(generators):
    """The group by a closure of its own, as tuples."""
    found = {tuple(range(len(generators[0])))}
    while True:
        larger = found | {
            tuple(a[i] for i in b) for a in found for b in [tuple(g) for g in generators]
        }
        if larger == found:
            return found
        found = larger


def enumerated(generators, pmf):
    """H[X] and H[M(X)] in bits, the number of orbits, and each pattern's least image."""
    elements = all_products(generators)
    orbits, total, least = Counter(), 0.0, {}
    for pattern in itertools.product(range(len(pmf)), repeat=len(generators[0])):
        p = math.prod(pmf[c] for c in pattern)
        least[pattern] = min(tuple(pattern[i] for i in g) for g in elements)
        orbits[least[pattern]] += p
        total -= p * math.log2(p) if p > 0 else 0
    return total, -sum(p * math.log2(p) for p in orbits.values() if p > 0), len(orbits), least


@st.composite
def groups_and_colours(draw):
    n = draw(st.integers(1, 6))
    generators = draw(st.lists(st.permutations(range(n)), min_size=1, max_size=2))
    weights = draw(
        st.lists(
            st.sampled_from([0, 1, 1, 2, 5, 100]), min_size=1, max_size=3 if n < 6 else 2
        ).filter(any)
    )
    return generators, [w / sum(weights) for w in weights]


@PROFILE
@given(groups_and_colours())
def test_entropies_orbits_and_representatives_agree_with_enumeration(case):
    generators, pmf = case
    group = PermutationGroup(generators)
    source, invariant, orbits, least = enumerated(generators, pmf)
    found = group.pattern_entropies(pmf)
    assert found.source == pytest.approx(source, abs=1e-12)
    assert found.invariant == pytest.approx(invariant, abs=1e-12)
    assert group.orbit_count(len(pmf)) == orbits
    patterns = np.array(list(least))
    np.testing.assert_array_equal(group.canonical(patterns), np.array(list(least.values())))
    # The same once more as a source like any other.
    probabilities = np.prod(np.array(pmf)[patterns], axis=1)
    labels = [str(representative) for representative in group.canonical(patterns)]
    general = orbit_entropies(probabilities, labels)
    assert general.invariant == pytest.approx(invariant, abs=1e-12)
    assert general.saving == pytest.approx(found.saving, abs=1e-12)


def test_elements_are_the_group_and_the_identity_is_first():
    assert cyclic_shifts(5).order == 5
    for k, element in enumerate(cyclic_shifts(5).elements):
        np.testing.assert_array_equal(element, np.roll(np.arange(5), -k))
    assert [dihedral_images(side).order for side in (1, 2, 3)] == [1, 8, 8]
    assert [image_rotations(side).order for side in (1, 2, 5)] == [1, 4, 4]
    generators = [[1, 2, 0, 3, 4], [0, 1, 2, 4, 3]]
    assert {
        tuple(element) for element in PermutationGroup(generators).elements.tolist()
    } == all_products(generators)
    images = dihedral_images(3).elements.reshape(8, 3, 3)
    pixels = np.arange(9).reshape(3, 3)
    wanted = {
        np.rot90(image, turns).tobytes() for image in (pixels, pixels.T) for turns in range(4)
    }
    assert {image.tobytes() for image in images} == wanted
    with pytest.raises(ValueError, match="read-only"):
        cyclic_shifts(3).elements[0, 0] = 1


def test_orbit_counts_are_the_known_ones():
    # OEIS A000031, A001867 (necklaces of 2 and 3 colours), A000029 (bracelets), A047937, A054247
    # (square images under C4, D4).
    assert [cyclic_shifts(n).orbit_count(2) for n in range(1, 11)] == [
        2,
        3,
        4,
        6,
        8,
        14,
        20,
        36,
        60,
        108,
    ]
    assert [cyclic_shifts(n).orbit_count(3) for n in range(1, 8)] == [3, 6, 11, 24, 51, 130, 315]
    assert [bracelet(n).orbit_count(2) for n in range(1, 11)] == [2, 3, 4, 6, 8, 13, 18, 30, 46, 78]
    assert [image_rotations(side).orbit_count(2) for side in range(1, 5)] == [2, 6, 140, 16456]
    assert [dihedral_images(side).orbit_count(2) for side in range(1, 7)] == [
        2,
        6,
        102,
        8548,
        4211744,
        8590557312,
    ]
    assert dihedral_images(8).orbit_count(2) == 2305843028004192256
    assert cyclic_shifts(32).orbit_count(2) == 134219796
    assert [symmetric(n).orbit_count(3) for n in range(2, 7)] == [
        math.comb(n + 2, 2) for n in range(2, 7)
    ]
    assert cyclic_shifts(64).orbit_count(256) > 2**500  # beyond any fixed width


@pytest.mark.parametrize("side", [2, 3])
def test_images_under_d4_by_enumeration(side):
    group = dihedral_images(side)
    _, invariant, orbits, _ = enumerated([g.tolist() for g in group.elements], [0.5, 0.5])
    assert orbits == {2: 6, 3: 102}[side]
    assert group.pattern_entropies([0.5, 0.5]).invariant == pytest.approx(invariant, abs=1e-12)


def test_large_images_under_d4():
    # Inclusion-exclusion to the order 1e-12: the half turn and two reflections leave 32 free pixels
    # of 64, the two diagonals 36.
    found = dihedral_images(8).pattern_entropies([0.5, 0.5])
    assert found.source == 64
    assert 3 - found.saving == pytest.approx(3 * 2.0**-32 + 2 * 2.0**-28, abs=2e-13)
    # Sparse images are often symmetric: by sampling.
    group = dihedral_images(8)
    images = (np.random.default_rng(0).random((20_000, 64)) < 0.02).astype(int)
    members = np.stack([group.act(g, images) for g in range(8)])
    codes = (
        (members * np.random.default_rng(1).normal(size=64)).sum(axis=-1).round(9)
    )  # a random hash of each image
    sizes = np.array([len(set(column)) for column in codes.T])
    logs = np.log2(sizes)
    assert group.pattern_entropies([0.98, 0.02]).saving == pytest.approx(
        logs.mean(), abs=4 * logs.std() / math.sqrt(logs.size)
    )
    assert logs.mean() < 2.8


@pytest.mark.parametrize("length", [12, 30, 32])
@pytest.mark.parametrize(
    "pmf",
    [
        (Fraction(1, 2), Fraction(1, 2)),
        (Fraction(9, 10), Fraction(1, 20), Fraction(1, 20)),
        (Fraction(1),),
    ],
)
def test_necklaces_by_möbius_inversion_over_divisors(length, pmf):
    """The probability that a necklace's least period is d, by differences over divisors of d."""
    divisors = [d for d in range(1, length + 1) if length % d == 0]
    exact = {}
    for d in divisors:
        exact[d] = sum(p ** (length // d) for p in pmf) ** d - sum(
            exact[e] for e in exact if d % e == 0
        )
    saving = sum(float(p) * math.log2(d) for d, p in exact.items())
    found = cyclic_shifts(length).pattern_entropies([float(p) for p in pmf])
    assert found.saving == pytest.approx(saving, abs=1e-13)
    assert found.source == pytest.approx(
        length * entropy([float(p) for p in pmf], base=2), abs=1e-12
    )


@pytest.mark.parametrize(
    "pmf", [[0.5, 0.5], [0.7, 0.2, 0.1], [1.0], [1.0, 0.0], [0.4, 0.3, 0.15, 0.1, 0.05]]
)
def test_multisets_agree_with_the_symmetric_group_and_the_multinomial(pmf):
    for n in (2, 3, 5, 6):
        group, multiset = symmetric(n).pattern_entropies(pmf), multiset_entropies(pmf, n)
        assert group.source == pytest.approx(multiset.source, abs=1e-12)
        assert group.saving == pytest.approx(multiset.saving, abs=1e-12)
    counts = [c for c in itertools.product(range(10), repeat=len(pmf)) if sum(c) == 9]
    direct = (
        entropy(multinomial.pmf(np.array(counts), 9, np.array(pmf)), base=2)
        if len(pmf) > 1
        else 0.0
    )
    assert multiset_entropies(pmf, 9).invariant == pytest.approx(direct, abs=1e-11)


def test_multisets_of_two_letters_are_binomial_for_any_length():
    for n, p in ((1, 0.3), (100, 0.01), (2000, 0.37)):
        direct = entropy(binom.pmf(np.arange(n + 1), n, p), base=2)
        assert multiset_entropies([p, 1 - p], n).invariant == pytest.approx(direct, abs=1e-9)


@PROFILE
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12).filter(
        lambda points: any(w for w, _ in points)
    )
)
def test_any_finite_source_by_the_chain_rule(points):
    weights, orbits = np.array(points).T
    pmf = weights / weights.sum()
    found = orbit_entropies(pmf, orbits)
    masses = np.array([pmf[orbits == label].sum() for label in set(orbits.tolist())])
    conditional = sum(
        m * entropy(pmf[orbits == label], base=2)
        for m, label in zip(masses, set(orbits.tolist()), strict=True)
        if m > 0
    )
    assert found.source == pytest.approx(entropy(pmf, base=2), abs=1e-12)
    assert found.invariant == pytest.approx(entropy(masses, base=2), abs=1e-12)
    assert found.saving == pytest.approx(conditional, abs=1e-12)


def test_equal_orbits_save_the_logarithm_of_their_size():
    found = equal_orbits(6, 8)
    general = orbit_entropies(np.full(48, 1 / 48), np.repeat(np.arange(6), 8))
    assert (found.source, found.saving, found.invariant) == pytest.approx(
        (math.log2(48), 3, math.log2(6))
    )
    assert (general.source, general.saving) == pytest.approx((found.source, found.saving))
    assert equal_orbits(57_000, 1).invariant == pytest.approx(
        15.80, abs=0.005
    )  # the index of an MNIST training image
    assert equal_orbits(95_000, 24).invariant == pytest.approx(
        16.54, abs=0.005
    )  # STL10, any number of augmentations
    assert equal_orbits(10**30, 1).source == pytest.approx(30 * math.log2(10))


def test_units():
    group = dihedral_images(2)
    for function in (
        lambda unit: group.pattern_entropies([0.3, 0.7], unit=unit),
        lambda unit: multiset_entropies([0.3, 0.7], 5, unit=unit),
        lambda unit: orbit_entropies([0.3, 0.5, 0.2], [0, 0, 1], unit=unit),
        lambda unit: equal_orbits(3, 4, unit=unit),
    ):
        bits, nats = function("bits"), function("nats")
        for name in ("source", "saving", "invariant"):
            assert getattr(nats, name) == pytest.approx(
                getattr(bits, name) * math.log(2), rel=1e-12
            )
            assert getattr(nats, name) > 0


def test_rate_falls_by_one_bit_for_each_bit_lost_down_to_none():
    assert invariant_rate(3.0) == 3.0 and isinstance(invariant_rate(3.0), float)
    deltas = np.linspace(0, 5, 11)
    rates = invariant_rate(3.0, deltas)
    np.testing.assert_allclose(np.diff(rates[deltas <= 3]), -0.5)
    assert (rates[deltas >= 3] == 0).all()
    np.testing.assert_array_equal(
        invariant_rate([[1.0], [2.0]], [0.0, 0.5, np.inf]), [[1, 0.5, 0], [2, 1.5, 0]]
    )


def conditional_entropy(joint):
    """H(row | column) in bits."""
    return entropy(joint.ravel(), base=2) - entropy(joint.sum(axis=0), base=2)


def test_the_theorem_on_test_channels():
    """No channel beats the line, erasing M(X) reaches it, and M(X) is the worst task."""
    rng = np.random.default_rng(0)
    group = dihedral_images(2)
    patterns = np.array(list(itertools.product(range(2), repeat=4)))
    pmf = np.prod(np.array([0.6, 0.4])[patterns], axis=1)
    _, orbit = np.unique(group.canonical(patterns), axis=0, return_inverse=True)
    found = group.pattern_entropies([0.6, 0.4])
    to_orbit = np.eye(orbit.max() + 1)[orbit]  # (patterns, orbits)
    blank = np.zeros((to_orbit.shape[1], 1))
    channels = [rng.dirichlet(np.full(5, a), size=16) for a in (0.05, 0.3, 2.0) for _ in range(20)]
    channels += [rng.dirichlet(np.full(5, 0.1), size=6)[orbit] for _ in range(20)]
    erasures = [
        to_orbit @ np.hstack([(1 - e) * np.eye(6), blank + e]) for e in (0.0, 0.25, 0.7, 1.0)
    ]
    tasks = [
        rng.dirichlet([0.3] * 3, size=6)[orbit] for _ in range(5)
    ]  # p(s|x), constant on orbits
    for channel in channels + erasures:
        joint = pmf[:, None] * channel
        rate = entropy(pmf, base=2) - conditional_entropy(joint)
        delta = conditional_entropy(to_orbit.T @ joint)  # H[M|Z]
        assert rate >= invariant_rate(found.invariant, delta) - 1e-12
        for task in tasks:
            loss = conditional_entropy(task.T @ joint) - conditional_entropy(task.T * pmf)
            assert loss <= delta + 1e-12
        if any(channel is erasure for erasure in erasures):
            assert rate == pytest.approx(invariant_rate(found.invariant, delta), abs=1e-12)


@PROFILE
@given(st.integers(0, 10**6), st.sampled_from(["uint8", "int64", "float32", "bool"]))
def test_orbit_members_share_their_representative(seed, dtype):
    rng = np.random.default_rng(seed)
    group = dihedral_images(3)
    patterns = rng.integers(0, 2, size=(4, 5, 9)).astype(dtype)
    elements = rng.integers(0, group.order, size=(4, 5))
    members = group.act(elements, patterns)
    assert members.dtype == patterns.dtype
    for index in np.ndindex(4, 5):
        np.testing.assert_array_equal(
            members[index], patterns[index][group.elements[elements[index]]]
        )
    least = group.canonical(patterns)
    np.testing.assert_array_equal(group.canonical(members), least)
    assert least.dtype == patterns.dtype and least.shape == patterns.shape
    assert least[0, 0].tolist() == min(
        patterns[0, 0][element].tolist() for element in group.elements
    )


def test_act_broadcasts_and_leaves_its_input_alone():
    group = cyclic_shifts(3)
    pattern = np.array([3, 1, 2])
    np.testing.assert_array_equal(
        group.act(np.arange(3), pattern), [[3, 1, 2], [1, 2, 3], [2, 3, 1]]
    )
    np.testing.assert_array_equal(group.act(1, [[3, 1, 2], [4, 5, 6]]), [[1, 2, 3], [5, 6, 4]])
    np.testing.assert_array_equal(group.canonical(pattern), [1, 2, 3])
    np.testing.assert_array_equal(pattern, [3, 1, 2])
    assert group.canonical(np.zeros((0, 3))).shape == (0, 3)


GROUP = cyclic_shifts(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: invariant_rate(-1.0), "entropy must be >= 0"),
        (lambda: invariant_rate(math.inf), "entropy must hold at least one number, all finite"),
        (lambda: invariant_rate(1.0, math.nan), "delta must not be NaN"),
        (lambda: invariant_rate([1.0, 2.0], [0.0, 1.0, 2.0]), "must broadcast to one shape"),
        (lambda: PermutationGroup([[0, 0, 1]]), "generators must be permutations"),
        (lambda: PermutationGroup([[0.5, 1]]), "generators must be"),
        (lambda: PermutationGroup([0, 1]), "generators must have 2 dimension"),
        (lambda: PermutationGroup([]), "generators must have 2 dimension"),
        (
            lambda: PermutationGroup([[0, 1], [0]]),
            "generators must be an array of numbers of one shape",
        ),
        (
            lambda: symmetric(9),
            "generators must give a group with at most 222222 elements on 9 positions",
        ),
        (
            lambda: swaps(13).pattern_entropies([0.5, 0.5]),
            "generators must give a group with at most 5000 partitions",
        ),
        (lambda: GROUP.orbit_count(0), "colours must be an integer >= 1"),
        (lambda: GROUP.orbit_count(2.0), "colours must be an integer >= 1"),
        (lambda: GROUP.act(3, [0, 1, 2]), "element must hold integers from 0 to 2"),
        (lambda: GROUP.act(-1, [0, 1, 2]), "element must hold integers from 0 to 2"),
        (lambda: GROUP.act(0.0, [0, 1, 2]), "element must hold integers from 0 to 2"),
        (lambda: GROUP.act(0, [0, 1]), "patterns must have 3 positions"),
        (lambda: GROUP.canonical(7), "patterns must have 3 positions"),
        (lambda: GROUP.pattern_entropies([0.5, 0.6]), "pmf must be a distribution"),
        (lambda: GROUP.pattern_entropies([0.5, 0.5], unit="bit"), "unit must be 'bits' or 'nats'"),
        (lambda: multiset_entropies([1.5, -0.5], 3), "pmf must be a distribution"),
        (lambda: multiset_entropies([0.5, 0.5], 0), "length must be an integer >= 1"),
        (
            lambda: orbit_entropies([0.5, 0.5], [0]),
            "orbits must hold a label for each of the 2 points",
        ),
        (lambda: equal_orbits(0, 1), "count must be an integer >= 1"),
        (lambda: equal_orbits(1, 1.5), "size must be an integer >= 1"),
        (lambda: cyclic_shifts(0), "length must be an integer >= 1"),
        (
            lambda: cyclic_shifts(2000),
            "generators must give a group with at most 1000 elements on 2000 positions",
        ),
        (lambda: dihedral_images("a"), "side must be an integer >= 1"),
        (lambda: image_rotations(-1), "side must be an integer >= 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def swaps(pairs):
    """The group that exchanges each of `pairs` pairs of neighbours on its own."""
    generators = np.tile(np.arange(2 * pairs), (pairs, 1))
    for k in range(pairs):
        generators[k, [2 * k, 2 * k + 1]] = [2 * k + 1, 2 * k]
    return PermutationGroup(generators)


def test_independent_pairs_add_their_savings():
    one = multiset_entropies([0.2, 0.3, 0.5], 2)
    found = swaps(6).pattern_entropies([0.2, 0.3, 0.5])
    assert found.saving == pytest.approx(6 * one.saving, abs=1e-12)
