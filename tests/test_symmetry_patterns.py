"""Patterns under finite groups.

M tells orbits apart and nothing else, members are uniform, entropies are those of what is sampled.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from quadrate.errors import QuadrateError
from quadrate.sources.symmetry import (
    PermutedPatterns,
    cyclic_patterns,
    dihedral_patterns,
    multisets,
)
from quadrate.theory.invariance import PermutationGroup, orbit_entropies

SMALL = {
    "cyclic": cyclic_patterns(8, (0.6, 0.4)),
    "cyclic of three colours": cyclic_patterns(6, (0.5, 0.2, 0.3)),
    "dihedral": dihedral_patterns(3, (0.7, 0.3)),
    "multisets": multisets(7, (0.1, 0.6, 0.3)),
    "another group": PermutedPatterns(
        (0.5, 0.5), (2, 3), PermutationGroup([[1, 0, 2, 3, 4, 5], [0, 1, 3, 4, 2, 5]])
    ),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_patterns(group) -> torch.Tensor:
    return torch.tensor(
        list(itertools.product(range(group.colours), repeat=group.positions))
    ).reshape(-1, *group.shape)


@pytest.mark.parametrize("name", SMALL)
def test_entropies_are_those_of_the_sources_m(name):
    """Over all patterns.

    M has the values listed, and its entropy is the exact H[M], so that it separates orbits exactly.
    """
    group = SMALL[name]
    patterns = all_patterns(group)
    values = group.invariant(patterns)
    assert torch.equal(group.invariants(), values.unique())
    law = torch.tensor(group.pmf, dtype=torch.float64)[patterns.flatten(1)].prod(1)
    counted, exact = orbit_entropies(law.numpy(), values.numpy()), group.entropies()
    assert counted.source == pytest.approx(
        exact.source, abs=1e-9
    ) and counted.invariant == pytest.approx(exact.invariant, abs=1e-9)


@pytest.mark.parametrize("name", ["cyclic", "cyclic of three colours", "dihedral", "another group"])
def test_representative_is_the_canonical_pattern_and_m_its_number(name):
    group = SMALL[name]
    patterns = all_patterns(group)
    canonical = group.permutations.canonical(patterns.flatten(1).numpy())
    representative = group.representative(patterns)
    assert representative.shape == patterns.shape and np.array_equal(
        representative.flatten(1).numpy(), canonical
    )
    numbers = [int("".join(map(str, row)), group.colours) for row in canonical]
    assert group.invariant(patterns).tolist() == numbers
    assert len(group.invariants()) == group.permutations.orbit_count(group.colours)


def test_multisets_are_sorted_and_counted():
    group = SMALL["multisets"]
    patterns = all_patterns(group)
    assert group.representative(patterns).tolist() == [sorted(row) for row in patterns.tolist()]
    assert group.invariant(torch.tensor([[2, 0, 1, 2, 2, 0, 1]])).tolist() == [2 + 8 * 3]
    assert len(group.invariants()) == math.comb(7 + 2, 2)


@pytest.mark.parametrize(
    ("group", "pattern", "orbit"),
    [
        (cyclic_patterns(6), [0, 0, 0, 1, 0, 1], 6),
        (cyclic_patterns(6), [0, 1, 0, 1, 0, 1], 2),
        (cyclic_patterns(6), [1, 1, 1, 1, 1, 1], 1),
        (dihedral_patterns(3), [1, 1, 0, 0, 0, 0, 0, 0, 0], 8),
        (dihedral_patterns(3), [1, 0, 0, 0, 0, 0, 0, 0, 0], 4),
        (dihedral_patterns(3), [1, 0, 1, 0, 1, 0, 1, 0, 1], 1),
        (multisets(5, (0.2, 0.3, 0.5)), [0, 0, 1, 1, 2], 30),
    ],
)
def test_members_are_uniform_on_the_orbit(group, pattern, orbit):
    x = (
        torch.tensor(pattern, dtype=torch.uint8)
        .reshape(1, *group.shape)
        .expand(orbit * 1000, *group.shape)
    )
    members, counts = (
        group.sample_orbit(x, generator()).flatten(1).unique(dim=0, return_counts=True)
    )
    assert len(members) == orbit and members.dtype == torch.uint8
    assert orbit == 1 or chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize("name", SMALL)
def test_colours_are_independent_and_have_their_pmf(name):
    group = SMALL[name]
    x = group.sample(40_000, "law").flatten(1)
    assert x.dtype == torch.uint8 and x.shape[1] == group.positions
    expected = 40_000 * np.array(group.pmf)
    for column in x.T:
        assert chisquare(column.bincount(minlength=group.colours).numpy(), expected).pvalue > 1e-4
    pairs = (x[:, 0].long() * group.colours + x[:, 1]).bincount(minlength=group.colours**2)
    assert chisquare(pairs.numpy(), 40_000 * np.outer(group.pmf, group.pmf).ravel()).pvalue > 1e-4


def test_a_colour_of_probability_zero_is_never_drawn(monkeypatch):
    for edge in (0.0, 0.5, 1 - 2**-24):  # where a draw may fall on a bound
        monkeypatch.setattr(
            "quadrate.core.draws.uniform", lambda *key, shape, edge=edge: torch.full(shape, edge)
        )
        drawn = cyclic_patterns(4, (0.0, 0.5, 0.0, 0.5, 0.0)).sample(3, "edge").unique().tolist()
        assert drawn == [1 if edge < 0.5 else 3]


@settings(max_examples=60)
@given(
    st.integers(1, 10),
    st.integers(2, 5),
    st.sampled_from(["cyclic", "multisets", "dihedral"]),
    st.integers(0, 2**32),
)
def test_any_size_and_colours_agree_with_the_definition(length, colours, kind, seed):
    make = {"cyclic": cyclic_patterns, "multisets": multisets, "dihedral": dihedral_patterns}[kind]
    group = make(1 + length % 4 if kind == "dihedral" else length, (1 / colours,) * colours)
    x = group.sample(20, seed)
    representative, values = group.representative(x), group.invariant(x)
    assert torch.equal(group.invariant(representative), values)
    same = (representative[:, None] == representative[None]).flatten(2).all(2)
    assert torch.equal(values[:, None] == values[None], same)
    for dtype in (torch.float32, torch.int64):  # what networks and coders take
        assert torch.equal(
            group.representative(x.to(dtype)), representative.to(dtype)
        ) and torch.equal(group.invariant(x.to(dtype)), values)


def test_m_fills_63_bits():
    group = cyclic_patterns(63)
    x = torch.ones(1, 63, dtype=torch.uint8)
    assert group.invariant(x).item() == 2**63 - 1 and torch.equal(group.representative(x), x)
    assert multisets(2**31, (0.5, 0.25, 0.25)).colours == 3  # (2^31 + 1)^2 values of M fit as well


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cyclic_patterns(64),
            r"M\(x\) must fit into 63 bits: .*; got 64 positions of 2 colours",
        ),
        (lambda: dihedral_patterns(8), "got 64 positions of 2 colours"),
        (lambda: multisets(2**40, (0.5, 0.25, 0.25)), "must fit into 63 bits"),
        (lambda: cyclic_patterns(0), "length must be at least 1; got 0"),
        (lambda: dihedral_patterns(-1), "side must be at least 1; got -1"),
        (lambda: multisets(0), "length must be at least 1; got 0"),
        (
            lambda: cyclic_patterns(4, (0.5, 0.4)),
            r"2 to 256 probabilities that sum to 1; got \(0.5, 0.4\)",
        ),
        (lambda: cyclic_patterns(4, (1.5, -0.5)), "2 to 256 probabilities"),
        (lambda: cyclic_patterns(4, (1.0,)), "2 to 256 probabilities"),
        (lambda: cyclic_patterns(4, (math.nan, 1.0)), "2 to 256 probabilities"),
        (
            lambda: PermutedPatterns((0.5, 0.5), (5,), PermutationGroup([[1, 0, 2]])),
            r"permutes 3 positions; a pattern of shape \(5,\) has 5",
        ),
        (
            lambda: cyclic_patterns(4).sample_orbit(torch.zeros(2, 5), generator()),
            r"patterns of shape \(4,\) have 4 positions; got \(2, 5\)",
        ),
        (lambda: cyclic_patterns(21).invariants(), "at most 1048576 patterns; there are 2097152"),
        (
            lambda: multisets(2000, (0.5, 0.25, 0.25)).invariants(),
            "multisets are listed up to M = 1048576; here it reaches 4004001",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(QuadrateError, match=message):
        call()
