"""Symbols to bytes and back under integer tables."""

import hashlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quadrate.coding import entropy_coder as entropy
from quadrate.coding.entropy_coder import Decoder, Encoder
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.coding.tables import TOTAL, Tables, integer_frequencies
from quadrate.errors import QuadrateError

INT32 = np.iinfo(np.int32)
INT64 = np.iinfo(np.int64)
many = settings(max_examples=60, deadline=None, derandomize=True)


def random_tables(
    draw: np.random.Generator, count: int, entries: int, escape: bool = False, ragged: bool = False
) -> Tables:
    """Tables from flat to almost certain, with lows near and far."""
    frequencies = np.zeros((count, entries), dtype=np.uint16)
    for row in frequencies:
        size = int(draw.integers(2, entries + 1)) if ragged else entries
        row[:size] = integer_frequencies(
            draw.dirichlet(np.full(size, draw.choice([0.05, 1, 100])))[None]
        )[0]
    return Tables(frequencies, draw.integers(-40, 40, count).astype(np.int32), escape)


def random_symbols(draw: np.random.Generator, tables: Tables, indices: np.ndarray) -> np.ndarray:
    """Symbols under the law of their tables; what the tables escape for is left out."""
    totals = tables.frequencies[:, ::-1].cumsum(axis=1, dtype=np.int64)[
        :, ::-1
    ]  # of an entry and those behind it
    entries = (draw.integers(0, TOTAL, len(indices))[:, None] >= TOTAL - totals[indices]).sum(
        axis=1
    ) - 1
    entries = np.minimum(entries, tables.sizes[indices] - 1 - tables.escape)
    return tables.lows[indices] + entries


def written(tables: Tables, *groups: tuple[np.ndarray, np.ndarray]) -> bytes:
    encoder = Encoder(tables)
    for symbols, indices in groups:
        encoder.write(symbols, indices)
    return encoder.bytes()


# --- round trips ---


@many
@given(
    seed=st.integers(0, 2**32),
    count=st.sampled_from([1, 2, 7, 300]),
    entries=st.sampled_from([2, 3, 9, 100]),
    lengths=st.lists(st.sampled_from([0, 1, 5, 400]), max_size=4),
    ragged=st.booleans(),
    few=st.sampled_from([0, 32, 10**9]),
)
def test_symbols_come_back(seed, count, entries, lengths, ragged, few):
    draw = np.random.default_rng(seed)
    tables = random_tables(draw, count, entries, ragged=ragged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "_FEW", few)
        groups = []
        for length in lengths:
            indices = draw.integers(0, count, length)
            groups.append((random_symbols(draw, tables, indices), indices))
        decoder = Decoder(tables, written(tables, *groups))
        for symbols, indices in groups:
            assert decoder.read(indices).tolist() == symbols.tolist()
        decoder.finish()


raw = st.one_of(
    st.integers(INT32.min, INT32.max),
    st.sampled_from([INT32.min, INT32.min + 1, -65537, -65536, -1, 0, 65535, 65536, INT32.max]),
    st.integers(-9, 9),
)


@many
@given(
    st.lists(st.tuples(raw, st.integers(0, 2)), max_size=30),
    st.lists(st.tuples(raw, st.integers(0, 2)), max_size=5),
    st.sampled_from([0, 10**9]),
)
@example([(INT32.min, 2), (INT32.max, 0)], [(INT32.max, 2)], 0)
def test_an_escape_carries_every_32_bit_integer(first, second, few):
    tables = Tables(
        integer_frequencies([[3, 1, 5, 1], [1, 1, 1, 9], [9, 9, 0, 0]]),
        np.array([-2, INT32.max - 2, INT32.min], dtype=np.int32),
        escape=True,
    )
    groups = [tuple(np.array(group, dtype=np.int64).reshape(-1, 2).T) for group in (first, second)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "_FEW", few)
        decoder = Decoder(tables, written(tables, *groups))
        for symbols, indices in groups:
            assert decoder.read(indices).tolist() == symbols.tolist()
        decoder.finish()


@pytest.mark.parametrize(
    "symbol", [INT32.max + 1, INT32.min - 1, 2**62, -(2**62), INT64.max, INT64.min]
)
def test_what_an_escape_cannot_carry_is_refused(symbol):
    tables = Tables(
        np.array([[65535, 1]], dtype=np.uint16), np.array([0], dtype=np.int32), escape=True
    )
    with pytest.raises(QuadrateError, match=f"symbol {symbol} does not fit into 32 bits"):
        written(tables, (np.array([0, symbol]), np.zeros(2, dtype=np.int64)))


@pytest.mark.parametrize("symbol", [-4, 0, INT64.max, INT64.min])
def test_without_an_escape_a_symbol_outside_its_table_is_refused(symbol):
    tables = Tables(np.array([[65534, 1, 1]], dtype=np.uint16), np.array([-3], dtype=np.int32))
    with pytest.raises(
        QuadrateError, match=f"symbol {symbol} is not in its table, which has no escape"
    ):
        written(tables, (np.array([-3, symbol]), np.zeros(2, dtype=np.int64)))


def test_the_order_of_tables_of_more_than_16_bits_of_index_is_right():
    draw = np.random.default_rng(0)
    count = (1 << 16) + 9
    tables = Tables(
        np.tile(np.array([60000, 5000, 536], dtype=np.uint16), (count, 1)),
        np.arange(count, dtype=np.int32),
    )
    indices = draw.integers(0, count, 3000)
    indices[::3] += (1 << 16) - indices[
        ::3
    ] % 9  # some beyond, some before that share their lower 16 bits
    indices %= count
    symbols = random_symbols(draw, tables, indices)
    stream = written(tables, (symbols, indices))
    assert stream == reference_stream(tables, [(symbols.tolist(), indices.tolist())])
    assert Decoder(tables, stream).read(indices).tolist() == symbols.tolist()


def test_wide_tables_are_spelled_out_in_blocks_that_bound_the_memory(monkeypatch):
    draw = np.random.default_rng(0)
    tables = random_tables(draw, 50, 1000)
    indices = draw.integers(0, 50, 3000)
    symbols = random_symbols(draw, tables, indices)
    sizes = []

    def recorded(*arguments):
        for part, model, probabilities in calls(*arguments):
            sizes.extend(p.size for p in probabilities)
            yield part, model, probabilities

    calls = entropy._calls
    monkeypatch.setattr(entropy, "_FEW", 10**9)
    stream = written(tables, (symbols, indices))
    monkeypatch.setattr(entropy, "_calls", recorded)
    assert Decoder(tables, stream).read(indices).tolist() == symbols.tolist()
    assert max(sizes) <= entropy._BLOCK < sum(sizes)


# --- the stream ---


@many
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 5, 60]),
    st.sampled_from([2, 3, 30]),
    st.booleans(),
    st.sampled_from([1, 50, 1000]),
)
def test_by_table_or_by_symbol_the_stream_is_the_same(seed, count, entries, escape, length):
    draw = np.random.default_rng(seed)
    tables = random_tables(draw, count, entries, escape)
    indices = draw.integers(0, count, length)
    symbols = random_symbols(draw, tables, indices)
    if escape:
        symbols[:: max(1, length // 5)] = draw.integers(INT32.min, INT32.max)
    streams = {}
    for few in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(entropy, "_FEW", few)
            calls = list(entropy._calls(tables, tables.sizes, np.sort(indices)))
            assert bool(calls[0][2]) is (few > 0)  # that both ways are really taken
            streams[few] = written(tables, (symbols, indices))
    assert streams[0] == streams[10**9]


def reference_stream(tables: Tables, groups: list[tuple[list[int], list[int]]]) -> bytes:
    """A range coder in whole numbers of any length, written from docs/format.md alone."""
    low, width, words = 0, (1 << 64) - 1, 0

    def code(left: int, right: int) -> None:
        nonlocal low, width, words
        unit = width >> 24
        low, width = low + unit * left, unit * (right - left)
        if width < 1 << 32:
            low, width, words = low << 32, width << 32, words + 1

    for symbols, indices in groups:
        order = sorted(range(len(symbols)), key=lambda k: indices[k])
        escaped = []
        for k in order:
            frequencies = [f for f in tables.frequencies[indices[k]].tolist() if f]
            n, entry = len(frequencies), symbols[k] - int(tables.lows[indices[k]])
            if not 0 <= entry < n - tables.escape:
                entry = n - 1
                escaped.append(2 * symbols[k] if symbols[k] >= 0 else -2 * symbols[k] - 1)
            left, right = (
                ((sum(frequencies[:j]) * ((1 << 24) - n)) >> 16) + j for j in (entry, entry + 1)
            )
            code(left, right if entry < n - 1 else 1 << 24)
        for value in escaped:
            for half in (value >> 16, value & 0xFFFF):
                code(half << 8, half + 1 << 8)
    if width == (1 << 64) - 1:
        return b""
    point, count = low + (1 << 32) - 1 >> 32, words + 1
    if (low + width >> 32) % (1 << 32) == point % (1 << 32):
        point, count = point << 32, count + 1
    return b"".join(
        (point >> 32 * (count - 1 - i) & 0xFFFFFFFF).to_bytes(4, "little") for i in range(count)
    )


@many
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 4]),
    st.sampled_from([2, 3, 30]),
    st.booleans(),
    st.lists(st.integers(0, 60), max_size=3),
)
def test_the_stream_is_the_one_that_the_format_describes(seed, count, entries, escape, lengths):
    draw = np.random.default_rng(seed)
    tables = random_tables(draw, count, entries, escape, ragged=True)
    groups = []
    for length in lengths:
        indices = draw.integers(0, count, length)
        symbols = random_symbols(draw, tables, indices)
        if escape:
            symbols[::7] = draw.integers(INT32.min, INT32.max, len(symbols[::7]))
        groups.append((symbols, indices))
    assert written(tables, *groups) == reference_stream(
        tables, [(s.tolist(), i.tolist()) for s, i in groups]
    )


GOLDEN = Tables(
    np.array(
        [
            [32768, 16384, 16384, 0, 0],
            [1, 2, 3, 65529, 1],
            [13108, 13107, 13107, 13107, 13107],
            [65535, 1, 0, 0, 0],
        ],
        dtype=np.uint16,
    ),
    np.array([0, -3, 100, 7], dtype=np.int32),
)


PLAIN = """
    32273ef2 6e00d1e1 0387c34d 45f8689b 000dbabb 3d709200 00147621 bb2391fd
    89636a89 ff6cb698 f2c55a7e 1a2ea103
"""
ESCAPED = """
    2b847efe d7c1703e 3e22ff01 840f77fa b40fad3e 86345520 7a3e1b67 673ce0c6
    ff2e89af 9eff2881 2390ca84 3efc3a13
"""


def golden_groups(escape: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    steps = np.arange(60)
    indices = steps * 7 % 11 % 4
    symbols = GOLDEN.lows[indices] + steps * 5 % 13 % (GOLDEN.sizes[indices] - escape)
    if escape:
        symbols[[3, 20, 41, 50]] = [INT32.min, INT32.max, -1, 70000]
    return [(symbols[:45], indices[:45]), (symbols[45:], indices[45:])]


@pytest.mark.parametrize(("escape", "words"), [(False, PLAIN), (True, ESCAPED)])
def test_the_words_of_a_stream_are_what_they_were(escape, words):
    tables = Tables(GOLDEN.frequencies, GOLDEN.lows, escape)
    stream = written(tables, *golden_groups(escape))
    assert [f"{word:08x}" for word in np.frombuffer(stream, "<u4")] == words.split()
    decoder = Decoder(tables, stream)
    for symbols, indices in golden_groups(escape):
        assert decoder.read(indices).tolist() == symbols.tolist()
    decoder.finish()


@pytest.mark.parametrize("few", [0, 10**9])
def test_a_long_stream_is_what_it_was(monkeypatch, few):
    monkeypatch.setattr(entropy, "_FEW", few)
    steps = np.arange(100_000)
    frequencies = np.array(
        [[1 + (40503 * (t + 1) * (k + 1) >> 3) % 5000 for k in range(7)] for t in range(97)]
    )
    frequencies[:, 6] = TOTAL - frequencies[:, :6].sum(axis=1)
    tables = Tables(frequencies.astype(np.uint16), np.zeros(97, np.int32))
    indices = steps * 31 % 97
    stream = written(tables, (steps * steps % 10007 % 7, indices))
    assert (len(stream), hashlib.sha256(stream).hexdigest()) == (
        57232,
        "b33935a988e3e7af50b8a14158e4076efb101a5e6151c5e90c171e439febfc17",
    )


@pytest.mark.parametrize("entries", [2, 4, 16, 100])
def test_a_stream_is_as_long_as_its_tables_say(entries):
    draw = np.random.default_rng(entries)
    tables = random_tables(draw, 60, entries)
    indices = draw.integers(0, 60, 100_000)
    symbols = random_symbols(draw, tables, indices)
    ideal_bytes = tables.bits(symbols, indices) / 8
    assert (
        0.999 * ideal_bytes - 8
        <= len(written(tables, (symbols, indices)))
        <= 1.001 * ideal_bytes + 8
    )


def test_rare_symbols_and_escapes_are_as_long_as_their_tables_say():
    draw = np.random.default_rng(0)
    tables = Tables(
        np.array([[1] * 50 + [TOTAL - 51, 1]], dtype=np.uint16),
        np.array([-25], dtype=np.int32),
        escape=True,
    )
    symbols = draw.integers(-40, 40, 100_000)
    indices = np.zeros(100_000, dtype=np.int64)
    assert len(written(tables, (symbols, indices))) == pytest.approx(
        tables.bits(symbols, indices) / 8, rel=1e-3
    )


# --- damage ---


def read_all(tables: Tables, stream: bytes, groups: list[np.ndarray]) -> list[list[int]] | None:
    """What a decoder makes of a stream; None if it says that there is nothing."""
    try:
        decoder = Decoder(tables, stream)
        read = [decoder.read(indices) for indices in groups]
        decoder.finish()
    except QuadrateError as error:
        assert "\n" not in str(error) and "stream" in str(error)
        return None
    for symbols, indices in zip(read, groups, strict=True):
        assert symbols.dtype == np.int64 and symbols.shape == indices.shape
        entries = symbols - tables.lows[indices]
        assert tables.escape or ((entries >= 0) & (entries < tables.sizes[indices])).all()
        assert ((symbols >= INT32.min) & (symbols <= INT32.max)).all()
    return [symbols.tolist() for symbols in read]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from([0, 10**9]),
    st.sampled_from(["cut", "flip", "longer", "random", "empty", "ones"]),
    st.integers(0, 10**6),
)
def test_damaged_streams_give_an_error_or_symbols(seed, escape, few, kind, place):
    draw = np.random.default_rng(seed)
    tables = random_tables(draw, 5, 6, escape, ragged=few == 0)
    indices = draw.integers(0, 5, 120)
    stream = bytearray(written(tables, (random_symbols(draw, tables, indices), indices)))
    if kind == "flip":
        stream[place % len(stream)] ^= 1 << place % 8
    stream = {
        "cut": bytes(stream[: place % len(stream)]),
        "flip": bytes(stream),
        "longer": bytes(stream) + draw.bytes(1 + place % 50),
        "random": draw.bytes(len(stream)),
        "empty": b"",
        "ones": b"\xff" * len(stream),
    }[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "_FEW", few)
        read_all(tables, stream, [indices, draw.integers(0, 5, 30)])


def test_each_kind_of_damage_that_can_be_seen_is_named():
    draw = np.random.default_rng(1)
    tables = random_tables(draw, 3, 5)
    indices = draw.integers(0, 3, 200)
    symbols = random_symbols(draw, tables, indices)
    stream = written(tables, (symbols, indices))
    with pytest.raises(
        QuadrateError, match=f"a whole number of 32-bit words; this one has {len(stream) - 1} bytes"
    ):
        Decoder(tables, stream[:-1])
    with pytest.raises(
        QuadrateError, match="the coded stream is damaged: no symbols under these tables give it"
    ):
        Decoder(tables, b"\xff" * len(stream)).read(indices)
    longer = Decoder(tables, stream + bytes(8))
    assert longer.read(indices).tolist() == symbols.tolist()
    with pytest.raises(QuadrateError, match="the coded stream goes on after its last symbol"):
        longer.finish()


def test_nothing_is_no_bytes():
    tables = Tables(np.array([[65535, 1]], dtype=np.uint16), np.array([0], dtype=np.int32))
    nothing = np.zeros(0, dtype=np.int64)
    assert written(tables) == written(tables, (nothing, nothing)) == b""
    decoder = Decoder(tables, b"")
    assert decoder.read(nothing).shape == (0,)
    decoder.finish()


# --- layers ---


class Chain:
    """A model whose table is the symbol before, shifted by a bit of the dither.

    Before the first layer's first column, the dither alone.
    """

    identity = b"chain" + bytes(11)
    tables = Tables(integer_frequencies(np.eye(8) + 0.1), np.zeros(8, dtype=np.int32))

    def __init__(self, first: int, columns: int):
        self.first, self.columns = first, columns

    def indices(self, column, symbols, dither):
        before = symbols[:, column - 1] if column else 0
        return np.asarray((before + (dither[:, column] >> 23)) % 8)


def test_layers_come_back_one_by_one():
    draw = np.random.default_rng(0)
    base, more = Chain(0, 3), Chain(3, 2)
    symbols, dither = draw.integers(0, 8, (500, 5)), draw.integers(0, 1 << 24, (500, 5))
    payloads = [
        encode_layer(model, symbols[:, : model.first + model.columns], dither)
        for model in (base, more)
    ]
    assert payloads[0] == encode_layer(
        base, symbols, dither
    )  # the base knows nothing of what refines it
    read = decode_layer(base, payloads[0], np.zeros((500, 0), dtype=np.int64), dither[:, :3])
    assert read.tolist() == symbols[:, :3].tolist()
    assert decode_layer(more, payloads[1], read, dither).tolist() == symbols.tolist()
    with pytest.raises(QuadrateError, match="stream"):
        decode_layer(base, payloads[0] + bytes(8), np.zeros((500, 0), dtype=np.int64), dither)
