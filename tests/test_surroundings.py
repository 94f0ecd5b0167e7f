"""What is known around a site: by the format's page, in plain loops, and never what comes later."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quadrate.bottlenecks.surroundings import Surroundings, logs, sites_of_passes

ENDS = (2, 5, 15, 18)
DIAGONAL = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
STRAIGHT = [(-1, 0), (0, -1), (0, 1), (1, 0)]
sizes = st.integers(1, 9)


def log(number: int) -> int:
    """16 log2(1 + |number| / 16) to the nearest, for up to 2^16 - 1."""
    return round(16 * math.log2(1 + min(abs(number), 65535) / 16))


def pass_of(group: int, i: int, j: int) -> int:
    if group:
        return (i + j) % 2
    return {(0, 0): 0, (2, 2): 1, (0, 2): 2, (2, 0): 2}.get((i % 4, j % 4), 4 - i % 2 * j % 2)


class Reference:
    """The section "Payloads of photographs" of docs/format.md, for one site."""

    def __init__(self, known: np.ndarray, exponent: int, group: int, i: int, j: int) -> None:
        self.known, self.exponent, self.group = known.tolist(), exponent, group
        self.height, self.width = known.shape[:2]
        self.i, self.j, self.number = i, j, pass_of(group, i, j)
        self.start, self.stop = (0, *ENDS)[group : group + 2]

    def at(self, di: int, dj: int) -> list[int]:
        i, j = self.i + di, self.j + dj
        return self.known[min(max(i, 0), self.height - 1)][min(max(j, 0), self.width - 1)]

    def inside(self, di: int, dj: int) -> bool:
        return 0 <= self.i + di < self.height and 0 <= self.j + dj < self.width

    def own(self, di: int, dj: int) -> list[int]:
        zeros = [0] * (self.stop - self.start)
        return self.at(di, dj)[self.start : self.stop] if self.inside(di, dj) else zeros

    def first_group(self) -> tuple[list[int], list[int]]:
        steps = [
            [],
            [(2 * di, 2 * dj) for di, dj in DIAGONAL],
            [(2 * di, 2 * dj) for di, dj in STRAIGHT],
            DIAGONAL,
            STRAIGHT,
        ][self.number]
        inside = [step for step in steps if self.inside(*step)]
        guess = [
            sum(self.own(*step)[c] for step in inside) // max(len(inside), 1)
            for c in range(self.stop)
        ]
        inputs = [
            self.own(*step)[c] - guess[c] if step in inside else 0
            for step in steps
            for c in range(self.stop)
        ]
        return guess, inputs

    def prediction(self) -> tuple[list[int], list[int]]:
        if not self.group:
            return self.first_group()
        low = min(self.start, 12)
        here = self.at(0, 0)[:low]
        inputs = list(here)
        for step in DIAGONAL + STRAIGHT:
            inputs += [there - own for there, own in zip(self.at(*step)[:low], here, strict=True)]
        for step in STRAIGHT if self.number else []:
            inputs += self.own(*step)
        return [0] * (self.stop - self.start), inputs

    def spread(self) -> list[int]:
        inputs = [self.exponent]
        if not self.group:
            return inputs + [log(number) for number in self.first_group()[1]]
        before, low = range(self.start), range(min(self.start, 12))
        around = [self.at(*step) for step in DIAGONAL + STRAIGHT]
        here = self.at(0, 0)
        inputs += [log(here[c]) for c in before]
        inputs += [sum(log(there[c]) for there in around) for c in before]
        inputs += [sum(log(there[c] - here[c]) for there in around) for c in low]
        if self.number:
            straight = [self.at(*step) for step in STRAIGHT]
            inputs += [
                sum(log(there[c]) for there in straight) for c in range(self.start, self.stop)
            ]
        return inputs


def filled(height: int, width: int, exponent: int, seed: int):
    """A map that is coded place by place: yields the place, its sites and what is known."""
    draw = np.random.default_rng(seed)
    known = Surroundings(height, width, ENDS, exponent)
    for group in range(len(ENDS)):
        known.begin(group)
        for number, sites in enumerate(sites_of_passes(group, height, width)):
            if not len(sites):
                continue
            yield group, number, sites, known
            count = known.channels(group).stop - known.channels(group).start
            scale = draw.choice([10, 1000, 1 << 22])
            known.put(group, sites, np.rint(draw.normal(0, scale, (len(sites), count))))


@settings(max_examples=40)
@given(sizes, sizes, st.integers(0, 511), st.integers(0, 99))
def test_what_networks_are_told_is_what_the_page_says(height, width, exponent, seed):
    seen = set()
    for group, number, sites, known in filled(height, width, exponent, seed):
        guess, inputs = known.prediction(group, number, sites)
        spread = known.spread(group, number, sites)
        for row, site in enumerate(sites.tolist()):
            i, j = divmod(site, width)
            reference = Reference(known.received, exponent, group, i, j)
            assert reference.number == number
            assert (guess[row].tolist(), inputs[row].tolist()) == reference.prediction()
            assert spread[row].tolist() == reference.spread()
            seen.add((group, site))
    assert len(seen) == len(ENDS) * height * width  # each site once a group


def test_logarithms_are_the_same_on_any_machine():
    """None is so near to a half that another library could round it another way."""
    exact = 16 * np.log2(1 + np.arange(1 << 16) / 16)
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-7
    numbers = np.array([0, 1, -1, 16, -48, 65535, 65536, -(1 << 25), (1 << 31) - 1])
    assert logs(numbers).tolist() == [log(number) for number in numbers.tolist()]
    assert logs(numbers).tolist() == [0, 1, 1, 16, 32, 192, 192, 192, 192]
    np.testing.assert_array_equal(logs(np.arange(1 << 16)), [log(n) for n in range(1 << 16)])


def test_most_sites_of_the_first_group_lie_between_known_ones():
    parts = sites_of_passes(0, 64, 64)
    assert [len(part) for part in parts] == [256, 256, 512, 1024, 2048]
    assert sorted(np.concatenate(parts).tolist()) == list(range(64 * 64))


@pytest.mark.parametrize("group", [0, 1])
def test_a_map_of_one_site_has_it_in_the_first_pass(group):
    assert [part.tolist() for part in sites_of_passes(group, 1, 1)][0] == [0]
    assert sum(map(len, sites_of_passes(group, 1, 1))) == 1
