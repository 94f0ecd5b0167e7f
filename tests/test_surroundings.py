"""What is known around a site: by the format's page, in plain loops, and never what comes later."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photo_page import Site, log
from quadrate.bottlenecks.surroundings import Surroundings, logs, sites_of_passes

ENDS = (2, 5, 15, 18)
sizes = st.integers(1, 9)


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
        numbers = known.received.tolist()
        for row, site in enumerate(sites.tolist()):
            i, j = divmod(site, width)
            reference = Site(numbers, ENDS, exponent, group, i, j)
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
