"""The bottleneck of photographs: causal, exact, and cheapest where it may choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photos_made import ENDS, codec
from quadrate.bottlenecks.checkerboard import CheckerboardModel
from quadrate.bottlenecks.integer_network import IntegerNetwork
from quadrate.coding.tables import Tables
from quadrate.errors import QuadrateError


def random_map(height: int, width: int, seed: int = 0, scale: float = 4.0) -> np.ndarray:
    """Smooth in the first channels, and smaller the further down."""
    draw = np.random.default_rng(seed)
    maps = draw.normal(0, scale, (height, width, ENDS[-1])) / np.arange(1, ENDS[-1] + 1)
    maps[..., :3] += scale * draw.normal(size=3)
    return maps.astype(np.float32)


@pytest.fixture
def coded(monkeypatch):
    """All that is coded while the test runs: places, sites, means, tables."""
    found = []
    context = CheckerboardModel.context

    def noted(self, known, place, sites):
        means, indices = context(self, known, place, sites)
        found.append((place, sites, means, indices))
        return means, indices

    monkeypatch.setattr(CheckerboardModel, "context", noted)
    return found


# --- bytes and back ---


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9))
    | st.sampled_from([(1, 1), (1, 64), (64, 1), (2, 3), (63, 2), (2, 65)]),
    st.integers(0, 511),
    st.sampled_from([0.0, 0.05, 0.12, 0.9]),
    st.sampled_from([0.1, 2.0, 30.0, 3000.0, 1e5]),
    st.integers(0, 99),
)
def test_what_is_received_is_near_to_what_was_sent(size, exponent, weight, scale, seed):
    model = codec().model
    maps = random_map(*size, seed, scale)
    streams = model.encode(maps, exponent, weight)
    received = model.decode(streams, *size, exponent)
    assert received.dtype == np.int32 and received.shape == maps.shape
    error = np.abs(received / 16 - maps)
    # 0 instead of a number may save many bits, but not if they are free
    reach = 1.6 if weight == 0 else 1.6 + np.sqrt(weight * 60)
    assert error.max() < reach
    again = model.encode(maps, exponent, weight)
    assert again == streams


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.1, 1.0, 4.0, 50.0]))
def test_the_base_alone_is_the_first_channels_of_both_streams(height, width, scale):
    model = codec().model
    maps = random_map(height, width, 1, scale)
    streams = model.encode(maps, 200, 0.1)
    both = model.decode(streams, height, width, 200)
    base = model.decode(streams[:1], height, width, 200)
    first = ENDS[model.base - 1]
    np.testing.assert_array_equal(base[..., :first], both[..., :first])
    assert not base[..., first:].any()
    assert streams[0][0] == 3 if streams[1] else True


def test_channels_that_are_all_below_half_a_step_cost_one_byte():
    model = codec().model
    maps = np.full((5, 7, ENDS[-1]), 0.49, np.float32)
    maps[..., 0] = 3
    base, rest = model.encode(maps, 200, 0.1)
    assert base[0] == 1 and rest == b""
    assert not model.decode((base, rest), 5, 7, 200)[..., ENDS[0] :].any()
    maps[2, 3, ENDS[0]] = 0.51
    assert model.encode(maps, 200, 0.1)[0][0] == 2
    maps[2, 3, -1] = -0.51
    assert model.encode(maps, 200, 0.1)[0][0] == 3


def test_the_loops_way_of_memory_changes_nothing():
    maps = random_map(6, 7)
    model = codec().model
    expected = model.encode(maps, 100, 0.1)
    wide = np.zeros((12, 7, 2 * ENDS[-1]), np.float32)[::2, :, ::2]
    wide[:] = maps
    for other in (np.asfortranarray(maps), wide, maps[::-1].copy()[::-1]):
        assert model.encode(other, 100, 0.1) == expected


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38, 2.0**20])
def test_numbers_that_cannot_be_coded_are_refused(number):
    maps = random_map(3, 3)
    maps[1, 1, 4] = number
    with pytest.raises(QuadrateError, match="not finite|too many steps to be coded"):
        codec().model.encode(maps, 100, 0.1)


# --- causal and exact ---


def test_contexts_see_only_what_was_coded_before(coded):
    """A number that changes leaves all contexts before it, and its own, as they were."""
    model, maps = codec().model, random_map(6, 7)
    model.encode(maps, 200, 0.1)
    before = list(coded)
    draw = np.random.default_rng(0)
    later = 0
    for place, (group, sites) in enumerate((place[0], sites) for place, sites, *_ in before):
        site = draw.choice(sites)
        channels = slice((0, *ENDS)[group], ENDS[group])
        changed = maps.copy()
        changed.reshape(-1, ENDS[-1])[site, channels] += 40
        coded.clear()
        model.encode(changed, 200, 0.1)
        for old, new in zip(before[: place + 1], coded, strict=False):
            np.testing.assert_array_equal(old[2], new[2])
            np.testing.assert_array_equal(old[3], new[3])
        rest = zip(before[place + 1 :], coded[place + 1 :], strict=True)
        later += any((old[3] != new[3]).any() for old, new in rest)
    assert later >= len(before) - 2  # and those after it are other ones, but for the last


def test_sender_and_receiver_have_the_same_contexts(coded):
    model, maps = codec().model, random_map(5, 9, scale=30)
    streams = model.encode(maps, 64, 0.1)
    sent = list(coded)
    coded.clear()
    model.decode(streams, 5, 9, 64)
    assert len(sent) == len(coded) == 9
    for old, new in zip(sent, coded, strict=True):
        assert old[0] == new[0]
        for a, b in zip(old[1:], new[1:], strict=True):
            np.testing.assert_array_equal(a, b)


def permuted(network: IntegerNetwork, seed: int) -> IntegerNetwork:
    """The same network with hidden units in another order, which changes the order of sums."""
    if len(network.weights) < 2:
        return network
    order = np.random.default_rng(seed).permutation(len(network.weights[0]))
    first, second = network.weights
    return IntegerNetwork(
        (first[order], second[:, order]),
        (network.biases[0][order], network.biases[1]),
        (network.shifts[0][order], network.shifts[1]),
    )


def test_the_order_of_sums_changes_nothing():
    model, maps = codec().model, random_map(9, 8)
    spreads = {place: permuted(network, sum(place)) for place, network in model.spreads.items()}
    moved = replace(model, spreads=spreads)
    assert any((moved.spreads[p].weights[0] != model.spreads[p].weights[0]).any() for p in spreads)
    streams = model.encode(maps, 150, 0.1)
    assert moved.encode(maps, 150, 0.1) == streams
    np.testing.assert_array_equal(
        moved.decode(streams, 9, 8, 150), model.decode(streams, 9, 8, 150)
    )


# --- the choice of symbols ---


def test_symbols_are_the_cheapest_of_their_candidates():
    model = codec().model
    draw = np.random.default_rng(0)
    indices = draw.integers(0, len(model.tables.lows), (400, 3))
    wanted = (draw.normal(size=(400, 3)) * draw.choice([0.5, 3, 50, 900], (400, 1))).astype("f4")
    wanted[:20, 0] = np.arange(-10, 10) + 0.5
    for weight in (0.0, 0.1, 0.7):
        chosen = model.choose(wanted, indices, weight)
        kinds = set()
        for z, x, t in zip(chosen.ravel(), wanted.ravel(), indices.ravel(), strict=True):
            nearest = int(np.floor(abs(x) + 0.5))
            costs = {}
            for size in {nearest, max(nearest - 1, 0), 0}:
                pair = np.array([size, -size])
                bits = model.tables.lengths(pair, np.array([t, t])).mean()
                offset = 0 if size == 0 else model.offsets[t, min(size, 3) - 1] / 16
                costs[size] = (abs(x) - size + offset) ** 2 + weight * bits
            assert costs[abs(z)] <= min(costs.values()) * (1 + 1e-4) + 1e-5
            assert z == 0 or np.sign(z) == np.sign(x)
            kinds.add("zero" if z == 0 < nearest else nearest - abs(z))
        assert kinds >= ({0} if weight == 0 else {0, 1, "zero"})


def test_more_weight_on_bits_gives_fewer_bytes():
    model, maps = codec().model, random_map(16, 16, scale=6)
    sizes, errors = [], []
    for weight in (0.0, 0.05, 0.2, 0.8):
        streams = model.encode(maps, 200, weight)
        sizes.append(sum(map(len, streams)))
        received = model.decode(streams, 16, 16, 200) / 16
        errors.append(float(np.square(received - maps).mean()))
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1.3 * sizes[-1]
    assert errors == sorted(errors)


def test_offsets_move_what_is_received_and_no_context():
    model, maps = codec().model, random_map(6, 6)
    offsets = np.broadcast_to(np.array([3, 5, -7], np.int32), model.offsets.shape).copy()
    plain, moved = replace(model, offsets=offsets * 0), replace(model, offsets=offsets)
    streams = plain.encode(maps, 200, 0.1)
    difference = moved.decode(streams, 6, 6, 200) - plain.decode(streams, 6, 6, 200)
    assert set(np.unique(difference).tolist()) <= {-7, -5, -3, 0, 3, 5, 7}
    assert {-3, 0, 3} <= set(np.unique(difference).tolist())


# --- models ---


def test_arrays_go_back_and_forth():
    model = codec().model
    again = CheckerboardModel.from_arrays(model.arrays())
    assert again.identity == model.identity
    streams = model.encode(random_map(3, 5), 99, 0.1)
    assert again.encode(random_map(3, 5), 99, 0.1) == streams


@pytest.mark.parametrize("name", sorted(codec().model.arrays()))
def test_every_number_is_part_of_the_identity(name):
    arrays = codec().model.arrays()
    changed = arrays[name].copy()
    if name == "frequencies":
        changed[0, [0, 1]] += np.array([1, -1]).astype(changed.dtype)
    elif name == "lows":
        changed[-1] += 1
    elif name == "ends":
        changed = None  # any other has networks of other sizes
    elif name == "base":
        changed -= 1
    else:
        changed.flat[0] += 1 if changed.flat[0] < 16 else -1
    if changed is not None:
        other = CheckerboardModel.from_arrays(arrays | {name: changed})
        assert other.identity != codec().model.identity


def edited(name: str, place: tuple, value: int) -> dict[str, np.ndarray]:
    array = codec().model.arrays()[name].copy()
    array[place] = value
    return {name: array}


LEAST = -(2**31)
RISING = "rising numbers from 1 on"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (edited("ends", (1,), 3), RISING),
        (edited("ends", (0,), 0), RISING),
        (edited("ends", (0,), LEAST), RISING),
        ({"ends": np.array([2**31 - 1, LEAST], np.int32)}, RISING),  # the difference overflows
        ({"ends": np.zeros((0,), np.int32)}, RISING),
        ({"ends": np.zeros((1, 1), np.int32)}, RISING),
        ({"ends": np.int32(3)}, RISING),
        (edited("ends", (2,), 4097), "up to 4096 channels in 255 groups; got 4097 in 3"),
        ({"ends": np.arange(1, 257, dtype=np.int32)}, "in 255 groups; got 256 in 256"),
        (edited("ends", (2,), 29), r"spreads \(2, 0\) needs a network of"),
        (edited("ends", (1,), 11), r"\(1, 0\) needs a network of"),
        ({"ends": np.array(ENDS[:2], np.int32), "base": np.array([1], np.int32)}, "no group and"),
        ({"base": np.array([3], np.int32)}, "the base has 1 to 2 groups; got 3"),
        ({"base": np.array([0], np.int32)}, "the base has 1 to 2 groups; got 0"),
        ({"base": np.array([2, 2], np.int32)}, "one number of base groups"),
        ({"base": np.int32(2)}, "one number of base groups"),
        (edited("offsets", (5, 1), 17), "offsets are at most a step"),
        (edited("offsets", (5, 1), LEAST), "offsets are at most a step"),  # which abs leaves as is
        ({"offsets": np.zeros((66, 4), np.int32)}, "three offsets each"),
        (edited("lows", (3,), 1), "an entry for 0"),
        (edited("lows", (3,), LEAST), "an entry for 0"),  # would be a table of 2^31 sizes
        (edited("lows", (0,), -1201), "an entry for 0"),
        (edited("frequencies", (0, 0), 60000), "table 0 does not hold"),
        ({"frequencies": np.zeros((66, 4), np.int64)}, "not those of a checkerboard model"),
        ({"offsets": np.zeros((66, 3), np.float32)}, "not those of a checkerboard model"),
        (edited("spread.1.0.shifts0", (0,), 53), "shifts outside 0 to 52"),
        (edited("spread.1.0.biases1", (0,), 2**62), "could reach 2\\^53"),
        ({"spread.1.0.weights1": np.zeros((9, 5), np.int32)}, "does not fit"),
        ({"spread.1.2.weights0": np.zeros((9, 5), np.int32)}, "not those of an integer network"),
        ({"mean.9.0.weights0": np.zeros((1, 1), np.int32)}, "not those of an integer network"),
        ({"mean.0.1.junk": np.zeros(1)}, "no array 'mean.0.1.junk'"),
        ({"mean.00.1.junk": np.zeros(1)}, "no array 'mean.00.1.junk'"),
        ({"spread.1.0.weights7": np.zeros((1, 1), np.int32)}, "not those of an integer network"),
        *(
            ({name: np.zeros(1)}, "a checkerboard model has no array")
            for name in ("x", "", "mean", "mean.1.0", "mean.1.0.x.y", "mean.².0.x", "mean.-1.0.x")
        ),
        ({"mean." + "9" * 5000 + ".0.x": np.zeros(1)}, "a checkerboard model has no array"),
    ],
    ids=lambda value: str(value)[:50].replace("\n", ""),
)
def test_arrays_that_are_no_checkerboard_model_are_refused(changes, message):
    with pytest.raises(QuadrateError, match=message) as caught:
        CheckerboardModel.from_arrays(codec().model.arrays() | changes)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("name", sorted(codec().model.arrays()))
def test_a_missing_array_is_named(name):
    parts = {other: array for other, array in codec().model.arrays().items() if other != name}
    with pytest.raises(QuadrateError):
        CheckerboardModel.from_arrays(parts)


def test_networks_of_no_place_are_refused():
    model = codec().model
    network = next(iter(model.means.values()))
    for place in ((0, 0), (0, 5), (1, 2), (3, 0), (-1, 0)):
        with pytest.raises(QuadrateError, match="needs a network of|which is no group and pass"):
            replace(model, means={**model.means, place: network})
    with pytest.raises(QuadrateError, match=r"for \(9, 9\), which is no group and pass"):
        replace(model, spreads={**model.spreads, (9, 9): network})
    with pytest.raises(QuadrateError, match=r"spreads \(0, 4\) needs a network .* got none"):
        replace(model, spreads={p: n for p, n in model.spreads.items() if p != (0, 4)})


def test_tables_with_few_entries_serve():
    """Almost everything escapes, and still comes back."""
    model, maps = codec().model, random_map(5, 5, scale=50)
    count = len(model.tables.lows)
    frequencies = np.tile(np.array([30000, 30000, 5536], np.uint16), (count, 1))
    tables = Tables(frequencies, np.zeros(count, np.int32), escape=True)
    small = replace(model, tables=tables)
    streams = small.encode(maps, 200, 0.0)
    received = small.decode(streams, 5, 5, 200) / 16
    assert np.abs(received - maps).max() < 1.6
