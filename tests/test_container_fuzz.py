"""The .quad reader against damaged files.

Every case ends in a QuadrateError or in a valid answer.
"""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_attacks import survives
from containers import (
    CHUNKS,
    TWO,
    Chunk,
    Forgery,
    appended,
    content,
    header_bytes,
    vector,
    written,
)
from quadrate.coding.container import Reader
from quadrate.errors import QuadrateError


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict[str, bytes]:
    """Small files: as written at once, with an append, with side data, and with own shapes."""
    path = tmp_path_factory.mktemp("small") / "x.quad"
    path.write_bytes(written(TWO, CHUNKS[:2]))
    one, grown = written(TWO, CHUNKS), appended(path, CHUNKS[2:])
    return {"one": one, "grown": grown, "side": vector(), "own": vector(2)}


# --- raw damage


@pytest.mark.parametrize("name", ["one", "grown", "side", "own"])
def test_every_flipped_bit_is_an_error(small, name):
    data = small[name]
    header, trailer = Reader(data).header.pack(), data.rindex(b"TRLR")
    assert survives(data)
    for position in range(len(data)):
        for bit in range(8):
            flipped = data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
            with pytest.raises(QuadrateError):
                content(flipped)
            survives(flipped)
            if (
                position < len(header) or position >= trailer
            ):  # what holds for the whole file is checked when it is opened
                with pytest.raises(QuadrateError):
                    Reader(flipped)


@pytest.mark.parametrize("name", ["one", "grown", "side", "own"])
def test_every_cut_and_every_missing_or_doubled_byte_is_an_error_or_the_file_before_the_append(
    small, name
):
    data = small[name]
    before = content(written(TWO, CHUNKS[:2]))
    for position in range(len(data)):
        try:
            assert content(data[:position]) == before and name == "grown"
        except QuadrateError:
            pass
        for damaged in (
            data[:position] + data[position + 1 :],
            data[:position] + data[position : position + 1] + data[position:],
        ):
            if damaged != data[:-1]:
                with pytest.raises(QuadrateError):
                    content(damaged)


def test_random_bytes_are_an_error():
    generator = random.Random(0)
    starts = (
        b"",
        header_bytes(),
        written(TWO, []),
        written(TWO, CHUNKS)[:-20],
        written(TWO, CHUNKS),
        vector(2),
        vector(2)[:-20],
    )
    for _ in range(300):
        for start in starts:
            for end in (b"", b"QUADEND\n"):
                tail = generator.randbytes(generator.choice([1, 3, 12, 60, 300])) + end
                assert not survives(start + tail) or tail in (
                    b"C",
                    b"T",
                )  # the beginning of an append


@settings(max_examples=300)
@given(st.sampled_from(["one", "grown", "side", "own"]), st.data())
def test_files_that_are_cut_up_and_put_together_again_survive(small, name, data):
    files = list(small.values())
    whole = small[name]
    pieces = []
    for _ in range(data.draw(st.integers(1, 4))):
        source = data.draw(st.sampled_from(files))
        start = data.draw(st.integers(0, len(source)))
        pieces.append(source[start : data.draw(st.integers(start, len(source)))])
    start = data.draw(st.integers(0, len(whole)))
    spliced = whole[:start] + b"".join(pieces) + whole[data.draw(st.integers(start, len(whole))) :]
    if survives(spliced):
        assert any(content(spliced) == content(file) for file in [*files, written(TWO, CHUNKS[:2])])


def spans(data: bytes, header: int) -> list[slice]:
    """Where the chunks of a file with two layers and one trailer stand."""
    count = (struct.unpack_from("<I", data, len(data) - 12)[0] - 52) // 20
    entries = len(data) - 32 - 20 * count + 4
    starts = [struct.unpack_from("<Q", data, entries - 0 + 20 * i - 0)[0] for i in range(count)]
    assert starts[0] == header
    return [
        slice(start, end) for start, end in zip(starts, [*starts[1:], entries - 24], strict=True)
    ]


def test_chunks_swapped_within_a_file_or_between_files_are_errors():
    def file(seed: int, first: bytes, second: bytes) -> bytes:
        return Forgery(
            header_bytes(seed=seed), (Chunk(1, (first, b"x")), Chunk(1, (second, b"y")))
        ).build()

    header = len(header_bytes())
    mine = file(0, b"aaaa", b"bbbb")
    a, b = spans(mine, header)
    assert a.stop - a.start == b.stop - b.start and survives(mine)
    swapped = mine[: a.start] + mine[b] + mine[a] + mine[b.stop :]
    with pytest.raises(
        QuadrateError,
        match=(
            "chunk 0 at byte 84: it is chunk 1 with samples from 1, not from 0: chunks were swapped"
        ),
    ):
        Reader(swapped).read(0)
    assert not survives(swapped[:-1])  # nor does the walk take them
    for other, message in (
        (file(1, b"aaaa", b"bbbb"), "it comes from another file"),  # another seed
        (file(0, b"AAAA", b"bbbb"), "it comes from another file"),  # another first chunk
        (
            file(0, b"aaaa", b"BBBB"),
            "it is not the chunk that was written there: its checksum is another in the index",
        ),
    ):
        for span in (a, b):
            mixed = mine[: span.start] + other[span] + mine[span.stop :]
            if mixed == mine:
                continue
            with pytest.raises(QuadrateError, match=message):
                content(mixed)
        with pytest.raises(QuadrateError):  # another file's trailer
            content(mine[: b.stop] + other[b.stop :])
