"""Images, labels, names and codecs that do not fit a .quad file."""

import io
import math

import numpy as np
import pytest
import torch

from codecs_made import TINY, make
from quad_parts import symbols_of, write
from quadrate.codecs import Batch, QuadFile, TradeoffCodec, quad
from quadrate.coding.container import ChunkData, Header, LayerHeader, Writer
from quadrate.errors import QuadrateError

SHAPE = (1, 8, 8)


# --- what does not fit ---


def flawed(images, value):
    floats = images.float() / 255
    floats[50, 0, 3, 3] = value
    return floats


BAD_IMAGES = {
    "two dimensions": (
        lambda x: x.flatten(1),
        r"images come as \(N, C, H, W\); got shape \(100, 64\)",
    ),
    "another size": (
        lambda x: x[..., :7],
        r"takes images of shape \(1, 8, 8\) \(C, H, W\); got \(1, 8, 7\)",
    ),
    "another channel": (lambda x: x.repeat(1, 3, 1, 1), r"got \(3, 8, 8\)"),
    "NaN": (lambda x: flawed(x, math.nan), "floating point in"),
    "infinite": (lambda x: flawed(x, math.inf), "floating point in"),
    "negative": (lambda x: flawed(x, -1e-6), "floating point in"),
    "above one": (lambda x: flawed(x, 1.0001), "floating point in"),
    "0 to 255": (lambda x: x.float(), "floating point in"),
    "int64": (lambda x: x.long(), "got int64"),
    "bool": (lambda x: x > 3, "got bool"),
    "uint16": (lambda x: x.numpy().astype(np.uint16), "got uint16"),
    "complex": (lambda x: x.numpy() * 1j, "got complex128"),
    "text": (lambda x: np.full(x.shape, "a"), "got <U1"),
    "objects": (lambda x: x.numpy().astype(object), "got object"),
    "ragged": (lambda x: [[[[0.0], [0.0, 1.0]]]], "images come as"),
    "a number": (lambda x: 3, "images come as"),
    "nothing": (lambda x: None, "images come as"),
    "empty list": (lambda x: [], r"images come as"),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_bad_images_are_one_line_and_leave_no_file(codec, images, tmp_path, bad):
    change, message = BAD_IMAGES[bad]
    with pytest.raises(QuadrateError, match=message) as caught:
        codec.compress(change(images), to=tmp_path / "a.quad")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_batches_that_do_not_go_together(codec, images, tmp_path):
    ten, more = images[:10], images[10:20]
    labels = np.arange(10)
    cases = [
        ([Batch(ten, labels), Batch(more)], "labels"),
        ([Batch(ten), Batch(more, None, ["a"] * 10)], "names"),
        ([Batch(ten), Batch(more[..., :7])], r"\(1, 8, 7\)"),
        ([Batch(ten), Batch(more.flatten(1))], r"got shape \(10, 64\)"),
        ([Batch(ten), Batch(more.float())], "floating point in"),
    ]
    for batches, message in cases:
        for chunk in (10, 15, 4096):  # in chunks of their own, across a border, together
            with pytest.raises(QuadrateError, match=message):
                quad.compress(codec, batches, tmp_path / "a.quad", chunk=chunk)
    assert list(tmp_path.iterdir()) == []
    bright = (ten > 300).to(torch.uint8)  # bytes that would pass for numbers in [0, 1]
    bright[:] = 1
    target = io.BytesIO()
    quad.compress(codec, [Batch(bright), Batch(more / 255)], target)
    assert target.getvalue() == codec.compress(torch.cat([bright, more]))


@pytest.mark.parametrize("count", [0, 1, 9, 11, 15, 20])
@pytest.mark.parametrize("chunk", [5, 4096])
def test_labels_and_names_of_another_number_are_refused(codec, images, count, chunk):
    for labels, names, word in (
        (list(range(count)), None, "labels"),
        (None, ["n"] * count, "names"),
    ):
        with pytest.raises(QuadrateError, match=word):
            write(codec, images[:10], labels, names, chunk=chunk)


@pytest.mark.parametrize(
    "labels",
    [
        [0.5] * 10,
        ["a"] * 10,
        np.zeros((10, 1), int),
        3,
        [2**70] * 10,
        [None] * 10,
        [[1], [2, 3]] * 5,
    ],
    ids=str,
)
def test_labels_that_are_no_integers_are_refused(codec, images, labels):
    with pytest.raises(QuadrateError, match="labels"):
        codec.compress(images[:10], labels=labels)


@pytest.mark.parametrize(
    "names",
    [
        ["a\nb"] + ["n"] * 9,
        ["\ud800"] + ["n"] * 9,
        ["x" * 5000] + ["n"] * 9,
        [b"n"] * 10,
        [3] * 10,
        7,
    ],
    ids=lambda n: str(n)[:20],
)
def test_names_that_are_no_lines_of_text_are_refused(codec, images, names):
    with pytest.raises(QuadrateError, match="name"):
        codec.compress(images[:10], names=names)


def test_side_data_comes_back(codec, images):
    names = ["", "a/b.png", "ö", "../../etc/passwd", *["n"] * 96]
    labels = torch.arange(100) * 10**15 - 7
    data = codec.compress(images, labels=labels, names=names)
    with QuadFile(data, codec) as file:
        side = file.side(0)
    assert list(side.names) == names and side.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("chunk", [0, -1, (1 << 20) + 1])
def test_chunk_sizes_beyond_the_format_are_refused(codec, images, chunk):
    with pytest.raises(QuadrateError, match=f"a chunk holds 1 to 1048576 samples; got {chunk}"):
        write(codec, images, chunk=chunk)


def test_a_codec_without_tables_says_so(images, codec, tmp_path):
    bare = make(freeze=False)
    data = codec.compress(images)
    for use in (
        lambda: bare.compress(images, to=tmp_path / "a"),
        lambda: bare.decompress(data),
        lambda: bare.identities,
    ):
        with pytest.raises(QuadrateError, match=r"has no tables yet.*Codec.freeze\(source\)"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_codec_says_what_is_needed(codec, images):
    data = codec.compress(images)
    other = make(seed=9)
    with pytest.raises(
        QuadrateError,
        match=(
            f"written by another codec: its layer 0 is {codec.identities[0].hex()}, .*"
            f" {other.identities[0].hex()}"
        ),
    ):
        other.decompress(data)
    taller = TradeoffCodec(
        codec.family, (1, 4, 16), codec.layers, codec.points, codec.states, models=codec.models
    )
    with pytest.raises(
        QuadrateError, match=r"holds samples of shape \(1, 8, 8\); this codec's are \(1, 4, 16\)"
    ):
        taller.decompress(data)
    with pytest.raises(
        QuadrateError, match="no decoder 'sharp'; this codec has faithful, realistic"
    ):
        codec.decompress(data, "sharp")
    with pytest.raises(QuadrateError, match="no decoder 'sharp'"):
        codec.decompress(data, "sharp", samples=slice(0, 0))


@pytest.mark.parametrize("source", ["nothing.quad", ".", "/dev/null", b"", b"PNG"], ids=str)
def test_sources_that_are_no_files(codec, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QuadrateError):
        codec.decompress(source)


def test_a_payload_that_no_encoder_wrote_names_chunk_and_layer(codec, images):
    other = make(TINY, seed=4)
    data = write(codec, images, chunk=50)
    forged = TradeoffCodec(
        TINY, SHAPE, other.layers, other.points, other.states, models=codec.models
    )  # its own networks, the codec's tables
    assert symbols_of(data, forged).shape == (100, 2)  # the encoder is provenance, not identity
    target = io.BytesIO()
    with Writer.create(target, Header(SHAPE, 0, (LayerHeader(codec.identities[0], 2),))) as writer:
        writer.write(ChunkData(100, (b"\xff" * 400,)))
    with pytest.raises(QuadrateError, match="chunk 0, layer 0: the coded stream"):
        codec.decompress(target.getvalue())
