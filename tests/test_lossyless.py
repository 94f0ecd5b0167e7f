"""What lossyless published: bottlenecks, and files that CompressAI's own coder wrote.

`golden/lossyless-*`: six dimensions with CompressAI's names of 2021, and forty samples of which
some are beyond all tables; written by compressai 1.2.8's EntropyBottleneck and rANS extension, with
what they decode to."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quadrate.codecs.published_bottleneck import PublishedBottleneck, _cumulative
from quadrate.errors import QuadrateError

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def published() -> PublishedBottleneck:
    return PublishedBottleneck.load(GOLDEN / "lossyless-bottleneck.pt")


@pytest.fixture(scope="module")
def data() -> bytes:
    return (GOLDEN / "lossyless-hub.bin").read_bytes()


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return np.load(GOLDEN / "lossyless-hub.npy")


# --- CompressAI's rANS, as a writer ---


def put(words, state, start, frequency, bits=16):
    if state >= ((1 << 31) >> bits << 32) * frequency:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return ((state // frequency) << bits) + state % frequency + start


def stream(symbols, cdfs, offsets) -> bytes:
    """One sample's stream: the last symbol first, as a stack wants it."""
    steps = []
    for symbol, cdf, offset in zip(symbols.tolist(), cdfs, offsets.tolist(), strict=True):
        last, entry = len(cdf) - 2, symbol - offset
        folded = -2 * entry - 1 if entry < 0 else 2 * (entry - last)
        steps.append(
            (
                int(cdf[min(entry, last)] if entry >= 0 else cdf[last]),
                cdf,
                min(entry, last) if entry >= 0 else last,
            )
        )
        if not 0 <= entry < last:
            pieces = [folded >> 4 * i & 15 for i in range((folded.bit_length() + 3) // 4)]
            steps += [(piece, None, None) for piece in [len(pieces), *pieces]]
    words, state = [], 1 << 31
    for start, cdf, entry in reversed(steps):
        state = (
            put(words, state, start, 1, 4)
            if cdf is None
            else put(words, state, start, int(cdf[entry + 1] - cdf[entry]))
        )
    return struct.pack(f"<{len(words) + 2}I", state & 0xFFFFFFFF, state >> 32, *reversed(words))


def hub_file(symbols, bottleneck, kind="sign") -> bytes:
    cdfs = bottleneck._cumulative(kind)
    streams = [stream(row, cdfs, bottleneck._offsets) for row in symbols]
    return struct.pack(">I", len(streams)) + b"".join(
        struct.pack(">I", len(one)) + one for one in streams
    )


# --- files ---


def test_a_file_of_compressai_reads_as_compressai_reads_it(published, data, expected):
    np.testing.assert_allclose(published.read(data), expected, rtol=2e-7, atol=1e-5)
    np.testing.assert_array_equal(
        published.read(GOLDEN / "lossyless-hub.bin"), published.read(data)
    )
    symbols = published.read_symbols(data)
    assert (
        len(symbols) == 40 and symbols.min() < -40_000 and symbols.max() > 1000
    )  # what is in no table


def test_our_writer_makes_the_same_bytes(published, data):
    assert hub_file(published.read_symbols(data), published, "plain") == data


@given(
    st.lists(
        st.lists(st.integers(-(2**20), 2**20) | st.integers(-300, 300), min_size=6, max_size=6),
        max_size=8,
    ),
    st.sampled_from(["sign", "plain"]),
)
def test_what_is_written_is_read(rows, kind):
    published = PublishedBottleneck.load(GOLDEN / "lossyless-bottleneck.pt")
    symbols = np.array(rows, np.int64).reshape(len(rows), 6)
    np.testing.assert_array_equal(
        published.read_symbols(hub_file(symbols, published, kind)), symbols
    )


def test_a_quad_file_holds_the_same_features_in_less(published, expected):
    codec = published.codec()
    several = np.concatenate([np.repeat(expected[7:], 100, axis=0), expected[:7]])
    data = codec.compress(several)
    np.testing.assert_allclose(codec.decompress(data), several, rtol=2e-7, atol=1e-5)
    assert (
        len(data) < 0.5 * 3307 * 12
    )  # a stream a sample takes 8 to 16 bytes, and 4 for its length


def test_damage_is_named(published, data):
    count = len(data)
    damaged = {
        b"": "whole number of 32-bit words",
        data[:-1]: "whole number of 32-bit words",
        data[:-4]: "reaches beyond the file",
        data + bytes(4): "goes on for 4 bytes",
        struct.pack(">I", 2**32 - 1) + data[4:]: "too few",
        data[:4] + struct.pack(">I", 13) + data[8:]: "sample 0 at byte 4: its length of 13 bytes",
        data[:4] + struct.pack(">I", 4) + data[8:]: "sample 0 at byte 4",
        data[:4] + struct.pack(">I", 2**32 - 4) + data[8:]: "sample 0 at byte 4",
    }
    for wrong, message in damaged.items():
        with pytest.raises(QuadrateError, match=message):
            published.read(wrong)
    caught = 0
    for place in range(4, count, 7):
        flipped = bytearray(data)
        flipped[place] ^= 0x40
        try:
            published.read(bytes(flipped))
        except QuadrateError:
            caught += 1
    assert caught >= 0.97 * len(
        range(4, count, 7)
        # a stream must end in the state it began with, which only bits of an escape can change and
        # keep
    )


@given(st.binary(max_size=200), st.integers(0, 6))
def test_any_bytes_are_read_or_refused(noise, samples):
    published = PublishedBottleneck.load(GOLDEN / "lossyless-bottleneck.pt")
    pieces = [noise[i::samples] for i in range(samples)] if samples else []
    pieces = [piece[: len(piece) // 4 * 4] for piece in pieces]
    made = struct.pack(">I", samples) + b"".join(
        struct.pack(">I", len(piece)) + piece for piece in pieces
    )
    for attack in (noise, made):
        try:
            assert published.read_symbols(attack).shape[1] == 6
        except QuadrateError as error:
            assert str(error)


def test_no_samples_and_no_file(published, tmp_path):
    assert published.read(bytes(4)).shape == (0, 6)
    with pytest.raises(QuadrateError, match=f"no such file: {tmp_path}/none"):
        published.read(tmp_path / "none")


# --- bottlenecks ---


def test_names_of_all_versions_are_the_same_bottleneck(published):
    state = torch.load(GOLDEN / "lossyless-bottleneck.pt", weights_only=True)
    assert "entropy_bottleneck._matrix0" in state
    renamed = {}
    for name, tensor in state.items():
        for old, new in (("_matrix", "matrices."), ("_bias", "biases."), ("_factor", "factors.")):
            name = name.replace(old, new)
        renamed[name] = tensor
    again = PublishedBottleneck(renamed)
    assert (
        "entropy_bottleneck.matrices.0" in renamed
        and again.codec().identities == published.codec().identities
    )


def test_what_is_no_bottleneck(tmp_path):
    state = torch.load(GOLDEN / "lossyless-bottleneck.pt", weights_only=True)
    for name in ("scaling", "entropy_bottleneck.quantiles", "entropy_bottleneck._factor2"):
        with pytest.raises(QuadrateError, match=name.split(".")[-1]):
            PublishedBottleneck({key: tensor for key, tensor in state.items() if key != name})
    with pytest.raises(QuadrateError, match="not the state dict"):
        PublishedBottleneck(state | {"entropy_bottleneck._matrix1": torch.zeros(6, 2, 3)})
    with pytest.raises(QuadrateError, match="no bottleneck at"):
        PublishedBottleneck.load(tmp_path / "none")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(QuadrateError, match="not a file of PyTorch tensors"):
        PublishedBottleneck.load(tmp_path / "text")
    torch.save([1], tmp_path / "list")
    with pytest.raises(QuadrateError, match="holds list"):
        PublishedBottleneck.load(tmp_path / "list")


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40).filter(
        lambda masses: sum(masses) > 0.01
    )
)
def test_cumulative_frequencies_leave_no_symbol_out(masses):
    cumulative = _cumulative(np.array(masses, np.float32))
    assert cumulative[0] == 0 and cumulative[-1] == 1 << 16 and (np.diff(cumulative) >= 1).all()


@pytest.mark.real
@pytest.mark.parametrize(("name", "bits"), [("1e-01", 953.4), ("5e-02", 1369.6), ("1e-02", 2518)])
def test_the_published_bottlenecks_cost_their_entropy_on_disk(name, bits):
    if "QUADRATE_DATA" not in os.environ:
        pytest.skip("needs QUADRATE_DATA")
    published = PublishedBottleneck.load(
        Path(os.environ["QUADRATE_DATA"]) / "lossyless" / f"beta{name}-factorized_rate.pt"
    )
    codec, draw = published.codec(), np.random.default_rng(0)
    numbers = torch.arange(-300, 301, dtype=torch.float64)[:, None]
    medians = published.quantiles[:, 1].double()
    masses = (
        published.bottleneck.density.double()
        .mass(medians + numbers - 0.5, medians + numbers + 0.5)
        .T.numpy()
    )
    assert -(masses * np.log2(masses + 1e-300)).sum() == pytest.approx(bits, abs=0.2)
    symbols = np.stack(
        [
            np.searchsorted(np.cumsum(row) / row.sum(), draw.random(2000), side="right") - 300
            for row in masses
        ],
        axis=1,
    )
    features = codec.reconstruct(codec.dequantize(torch.from_numpy(symbols))).numpy()
    data = codec.compress(features)
    assert 8 * len(data) / 2000 == pytest.approx(bits, rel=2e-3)
    np.testing.assert_array_equal(codec.decompress(data), features)
