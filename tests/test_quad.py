"""Images to .quad files and back by the Python API.

Codecs, layers, decoders, blends, chunks, slices, and what does not fit.
"""

import io
import math
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from codecs_made import COMPACT, TINY, make, source_of
from quadrate.bottlenecks.contexts import ContextModel
from quadrate.codecs import quad
from quadrate.codecs.codec import Codec
from quadrate.codecs.codec_file import load_pack, save_pack
from quadrate.codecs.quad import Batch, QuadDataset, QuadFile
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.networks.family import Family
from quadrate.sources import from_arrays

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return make(decoders=("faithful", "realistic"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return source_of(seed=1).train.images[:100]


def write(codec, images, labels=None, names=None, seed=0, chunk=quad.CHUNK_SAMPLES) -> bytes:
    target = io.BytesIO()
    assert quad.compress(codec, [Batch(images, labels, names)], target, seed, chunk) == len(images)
    return target.getvalue()


def symbols_of(data, codec) -> np.ndarray:
    with QuadFile(data, codec) as file:
        return np.concatenate([file.symbols(chunk) for chunk in range(len(file.reader.index))])


# --- bytes and back ---


def test_a_file_holds_the_symbols_and_decodes_like_the_codec(codec, images):
    data = codec.compress(images, seed=5)
    symbols = codec.encode(images, seed=5)
    assert len(symbols.unique(dim=0)) > 4  # else little would be shown
    assert (symbols_of(data, codec) == symbols.numpy()).all()
    for name in codec.decoders:
        decoded = codec.decompress(data, name, dtype="float32")
        assert decoded.shape == (100, *SHAPE)
        np.testing.assert_array_equal(decoded, codec.decode(symbols, 5, name).numpy())
    whole = codec.decompress(data)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, np.rint(codec.decode(symbols, 5).numpy() * 255))


def test_the_payload_is_near_the_entropy_under_the_tables_and_below_the_bound():
    codec = make(TINY, levels=((5, 4, 3),))
    images = source_of(count=1200).train.images[:1000]
    symbols = codec.encode(images).numpy()
    with Reader(codec.compress(images)) as reader:
        payload = reader.read(0).payloads[0]
    dither = codec.dither_words(1000, 0)
    (model,) = codec.models
    ideal = sum(
        model.tables.bits(symbols[:, i], model.indices(i, symbols, dither)) for i in range(3)
    )
    assert ideal <= 8 * len(payload) <= ideal + 96
    assert (
        8 * len(payload) < 0.9 * 1000 * codec.rate_bound_bits
    )  # smooth images: the latents' joint entropy is below the bound


def test_every_kind_of_input_gives_the_same_bytes(codec, images):
    expected = codec.compress(images, seed=1)
    floats = images.float() / 255
    array = images.numpy()
    kinds = {
        "array": array,
        "read-only": np.frombuffer(array.tobytes(), np.uint8).reshape(array.shape),
        "strided": np.repeat(array, 2, axis=0)[::2],
        "reversed": array[::-1].copy()[::-1],
        "float32": floats,
        "float64": array / 255,
        "big-endian": (array / 255).astype(">f4"),
        "float array": floats.numpy(),
        "channels last": images.contiguous(memory_format=torch.channels_last),
        "with gradient": floats.clone().requires_grad_(),
        "lists": (array / 255).tolist(),
    }
    for name, kind in kinds.items():
        assert codec.compress(kind, seed=1) == expected, name


def test_batches_of_any_size_and_kind_give_the_same_bytes(codec, images):
    labels, names = np.arange(100), [f"{i}" for i in range(100)]
    expected = write(codec, images, labels, names, chunk=30)
    whole = Batch(images, labels, names)
    for size in (1, 7, 30, 99):
        target = io.BytesIO()
        pieces = (whole[i : i + size] for i in range(0, 100, size))
        assert quad.compress(codec, pieces, target, 0, 30) == 100
        assert target.getvalue() == expected
    mixed = [
        Batch(images[:10], labels[:10], names[:10]),
        Batch(images[10:].numpy() / 255, labels[10:].tolist(), tuple(names[10:])),
    ]
    target = io.BytesIO()
    quad.compress(codec, mixed, target, 0, 30)
    assert target.getvalue() == expected


@pytest.mark.parametrize("chunk", [1, 13, 100, 101, 1 << 20])
def test_symbols_do_not_depend_on_chunks(codec, images, chunk):
    data = write(codec, images, seed=3, chunk=chunk)
    with Reader(data) as reader:
        assert reader.index[:, 1].tolist() == [chunk] * (100 // chunk) + (
            [100 % chunk] if 100 % chunk else []
        )
    assert (symbols_of(data, codec) == codec.encode(images, seed=3).numpy()).all()


def test_no_samples_make_a_file(codec):
    for batches in ([], [Batch(np.zeros((0, *SHAPE), np.uint8))]):
        target = io.BytesIO()
        assert quad.compress(codec, batches, target) == 0
        assert codec.decompress(target.getvalue()).shape == (0, *SHAPE)
        with QuadFile(target.getvalue(), codec) as file:
            assert list(file.pieces()) == []
        assert len(QuadDataset(target.getvalue(), codec)) == 0


def test_a_path_gets_the_file_that_bytes_would_be(codec, images, tmp_path):
    path = tmp_path / "deep" / "a.quad"
    labels = list(range(100))
    assert codec.compress(images, to=path, labels=labels) is None
    assert path.read_bytes() == codec.compress(images, labels=labels)
    for place in (path, str(path), path.read_bytes()):
        np.testing.assert_array_equal(
            codec.decompress(place, samples=slice(3)), codec.decompress(path)[:3]
        )


def test_seeds_of_every_kind(codec, images):
    assert (
        codec.compress(images) == codec.compress(images, seed=0) != codec.compress(images, seed=1)
    )
    for seed in (0, 1, 2**64 - 1, np.int64(7), np.uint64(2**63), True, torch.tensor(9)):
        data = codec.compress(images, seed=seed)
        with Reader(data) as reader:
            assert reader.header.seed == int(seed)
        assert (symbols_of(data, codec) == codec.encode(images, seed=int(seed)).numpy()).all()
    for seed in (-1, 2**64, 1.0, "1", None):
        with pytest.raises(QuadrateError, match="dither seed"):
            codec.compress(images, seed=seed)


def test_dtypes(codec, images):
    data = codec.compress(images)
    reference = codec.decompress(data, dtype="float32")
    assert reference.min() >= 0 and reference.max() <= 1
    for dtype in ("float16", "float64", ">f4"):
        decoded = codec.decompress(data, dtype=dtype)
        assert decoded.dtype == np.dtype(dtype)
        np.testing.assert_allclose(decoded, reference, atol=1e-3)
    assert (np.abs(codec.decompress(data).astype(float) - 255 * reference) <= 0.5 + 1e-4).all()
    for dtype in ("int32", "int8", "complex64", "bool", "object", "nonsense", "U3"):
        with pytest.raises(
            QuadrateError,
            match=(
                "images come as uint8 or a floating point type such as float32; got dtype"
                f" '{dtype}'"
            ),
        ):
            codec.decompress(data, dtype=dtype)


# --- slices ---

SLICES = [
    slice(None),
    slice(5, 6),
    slice(12, 14),
    slice(0, 0),
    slice(50, 40),
    slice(-3, None),
    slice(None, None, 7),
    slice(90, 3, -11),
    slice(None, None, -1),
    slice(2, None, 200),
    slice(95, 1000),
    slice(-1, None, -99),
]


@pytest.mark.parametrize("samples", SLICES, ids=str)
def test_slices_are_those_of_an_array(codec, images, samples):
    data = write(codec, images, np.arange(100), [f"{i}" for i in range(100)], chunk=13)
    whole = codec.decode(codec.encode(images)).numpy()
    np.testing.assert_allclose(
        codec.decompress(data, samples=samples, dtype="float32"), whole[samples], atol=1e-6
    )
    with QuadFile(data, codec) as file:
        pieces = list(file.pieces(samples))
    assert [label for piece in pieces for label in piece.labels] == list(range(100))[samples]
    assert [name for piece in pieces for name in piece.names] == [f"{i}" for i in range(100)][
        samples
    ]
    assert all(0 < len(piece) <= 13 for piece in pieces)


def test_one_sample_costs_one_chunk(codec, images):
    data = write(codec, images.repeat(20, 1, 1, 1), np.zeros(2000, int), chunk=20)
    with QuadFile(data, codec) as file:
        opening = file.reader.bytes_read
        (piece,) = file.pieces(slice(1234, 1235))
        one = file.reader.bytes_read - opening
        list(file.pieces())
        every = file.reader.bytes_read - opening - one
    assert len(piece) == 1
    assert 0 < one < 1.5 * every / 100
    damaged = bytearray(data)
    damaged[120] ^= 1  # in chunk 0
    np.testing.assert_array_equal(
        codec.decompress(bytes(damaged), samples=slice(1234, 1240)),
        codec.decompress(data, samples=slice(1234, 1240)),
    )
    with pytest.raises(QuadrateError, match="chunk 0"):
        codec.decompress(bytes(damaged), samples=slice(0, 1))


# --- appending ---


def test_appending_gives_the_samples_that_one_go_would(codec, images, tmp_path):
    path = tmp_path / "a.quad"
    labels = np.arange(100)
    quad.compress(codec, [Batch(images[:33], labels[:33])], path, seed=8, chunk=20)
    assert (
        quad.append(
            codec,
            [Batch(images[33:40], labels[33:40]), Batch(images[40:], labels[40:])],
            path,
            chunk=50,
        )
        == 67
    )
    once = write(codec, images, labels, seed=8)
    assert (symbols_of(path, codec) == symbols_of(once, codec)).all()
    with QuadFile(path, codec) as file:
        assert file.reader.index[:, 1].tolist() == [20, 13, 50, 17] and file.reader.header.seed == 8
        assert np.concatenate([piece.labels for piece in file.pieces()]).tolist() == labels.tolist()
    before = path.read_bytes()
    assert quad.append(codec, [], path) == 0 and path.read_bytes() == before


def test_an_append_that_fails_changes_nothing(codec, images, tmp_path):
    path = tmp_path / "a.quad"
    codec.compress(images, to=path, labels=range(100))
    before = path.read_bytes()

    def breaks():
        yield Batch(images, np.arange(100))
        raise KeyboardInterrupt

    refused = [
        (codec, [Batch(images)], "labels are missing"),
        (codec, [Batch(images, np.arange(100), ["n"] * 100)], "names are given"),
        (codec, [Batch(images[:, :, :7], np.arange(100))], r"takes images of shape \(1, 8, 8\)"),
        (make(seed=9), [Batch(images, np.arange(100))], "was written by another codec"),
    ]
    for other, batches, message in refused:
        with pytest.raises(QuadrateError, match=message):
            quad.append(other, batches, path)
        assert path.read_bytes() == before
    with pytest.raises(KeyboardInterrupt):
        quad.append(codec, breaks(), path, chunk=10)
    assert path.read_bytes() == before
    with pytest.raises(QuadrateError, match="no such file"):
        quad.append(codec, [], tmp_path / "none.quad")


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
    taller = Codec(
        codec.family, (1, 4, 16), codec.stages, codec.points, codec.states, models=codec.models
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
    forged = Codec(
        TINY, SHAPE, other.stages, other.points, other.states, models=codec.models
    )  # its own networks, the codec's tables
    assert symbols_of(data, forged).shape == (100, 2)  # the encoder is provenance, not identity
    target = io.BytesIO()
    with Writer.create(target, Header(SHAPE, 0, (LayerHeader(codec.identities[0], 2),))) as writer:
        writer.write(ChunkData(100, (b"\xff" * 400,)))
    with pytest.raises(QuadrateError, match="chunk 0, layer 0: the coded stream"):
        codec.decompress(target.getvalue())


# --- codecs and their files ---


def test_tables_survive_the_file(codec, images, tmp_path):
    codec.save(tmp_path / "c")
    again = Codec.load(tmp_path / "c")
    assert (
        again.identities == codec.identities
        and again.encoder_hash == codec.encoder_hash
        and list(again.decoders) == list(codec.decoders)
    )
    data = again.compress(images, seed=2)
    assert data == codec.compress(images, seed=2)
    np.testing.assert_array_equal(
        again.decompress(data, "realistic"), codec.decompress(data, "realistic")
    )


def test_freezing_is_deterministic_and_freezing_for_other_images_is_another_stream(images):
    first, second = make(), make()
    assert first.identities == second.identities
    before = first.compress(images)
    second.freeze(source_of(seed=5))
    assert first.identities != second.identities
    with pytest.raises(QuadrateError, match="another codec"):
        second.decompress(before)


def test_half_a_codec_is_half_the_size_and_the_same_codec(codec, images, tmp_path):
    half = codec.half()
    assert not half.models and half.encoder_hash != codec.encoder_hash
    half.freeze(source_of())
    codec.save(tmp_path / "whole")
    half.save(tmp_path / "half")
    assert (tmp_path / "half").stat().st_size < 0.56 * (tmp_path / "whole").stat().st_size
    again = Codec.load(tmp_path / "half")
    assert again.identities == half.identities and again.encoder_hash == half.encoder_hash
    data = half.compress(images)
    assert again.compress(images) == data
    np.testing.assert_array_equal(again.decompress(data), half.decompress(data))
    assert (
        again.half().freeze(source_of()).identities == half.identities
    )  # rounding again changes nothing
    assert (
        np.abs(
            half.decompress(data).astype(int) - codec.decompress(codec.compress(images)).astype(int)
        ).mean()
        < 20
    )


def test_decoder_packs_open_files_that_were_written_before(codec, images, tmp_path):
    early = make(decoders=("faithful",))
    data = early.compress(images)
    assert early.encoder_hash == codec.encoder_hash and early.identities == codec.identities
    save_pack(codec.pack("realistic"), tmp_path / "pack")
    pack = load_pack(tmp_path / "pack")
    assert pack.encoder_hash == codec.encoder_hash and list(pack.points) == ["realistic"]
    assert (tmp_path / "pack").stat().st_size < 2e6
    assert early.add_decoder(pack, "sharp") is early
    np.testing.assert_array_equal(
        early.decompress(data, "sharp"), codec.decompress(data, "realistic")
    )
    with pytest.raises(QuadrateError, match="there is a decoder 'sharp' already"):
        early.add_decoder(pack, "sharp")
    with pytest.raises(
        QuadrateError,
        match=f"decoder 'realistic' was trained on another encoder \\({codec.encoder_hash[:12]}",
    ):
        make(seed=3).add_decoder(pack)
    with pytest.raises(QuadrateError, match="one name, 'x', for 2 decoders: faithful, realistic"):
        make().add_decoder(codec, "x")
    with pytest.raises(QuadrateError, match="no decoder 'none'"):
        codec.pack("none")
    assert list(codec.pack().points) == ["faithful", "realistic"]


def test_files_that_are_no_packs(codec, tmp_path):
    with pytest.raises(QuadrateError, match="no decoder pack at"):
        load_pack(tmp_path / "none")
    codec.save(tmp_path / "c")
    with pytest.raises(QuadrateError, match="not a decoder pack of Quadrate's"):
        load_pack(tmp_path / "c")
    save_pack(codec.pack(), tmp_path / "p")
    with pytest.raises(QuadrateError, match="not a codec of Quadrate's"):
        Codec.load(tmp_path / "p")
    whole = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(whole[:-5])
    with pytest.raises(QuadrateError, match="not a whole safetensors file"):
        load_pack(tmp_path / "p")


def test_a_decoder_of_another_family_does_not_come_in_halves(codec):
    early = make()
    pack = codec.pack("realistic")
    broken = type(pack)(
        pack.encoder_hash, pack.points, {"realistic": {"0.weight": torch.zeros(2, 2)}}
    )
    with pytest.raises(
        QuadrateError, match="the codec's decoder.realistic is not that of family 'compact'"
    ):
        early.add_decoder(broken)
    assert list(early.decoders) == list(early.points) == ["faithful"] and set(early.states) == {
        "encoder.0",
        "decoder.faithful",
    }


# --- layers ---


@pytest.fixture(scope="module")
def layered() -> tuple[Codec, Codec]:
    """A codec of two layers, and that of its base."""
    refined = make(levels=((3, 4), (3, 3, 2)), freeze=False)
    states = {
        "encoder.0": refined.states["encoder.0"],
        "decoder.faithful": make().states["decoder.faithful"],
    }
    base = Codec(COMPACT, SHAPE, ((3, 4),), {"faithful": OperatingPoint((3, 4))}, states).freeze(
        source_of()
    )
    return base, refined.freeze(source_of(), base=base)


def test_the_base_codec_reads_the_base_layer_and_fewer_bytes(layered, images):
    base, refined = layered
    assert refined.identities[0] == base.identities[0] and len(refined.identities) == 2
    data = write(refined, images, seed=4, chunk=50)
    np.testing.assert_array_equal(symbols_of(data, refined), refined.encode(images, seed=4).numpy())
    np.testing.assert_array_equal(symbols_of(data, base), base.encode(images, seed=4).numpy())
    np.testing.assert_allclose(
        base.decompress(data, dtype="float32"), base.reconstruct(images, 4).numpy(), atol=1e-6
    )
    read = []
    for codec in (base, refined):
        with QuadFile(data, codec) as file:
            list(file.pieces())
            read.append(file.reader.bytes_read)
            refinement = sum(len(file.reader.read(chunk).payloads[1]) for chunk in range(2))
    assert read[1] - read[0] == refinement > 0


def test_layers_that_do_not_fit(layered, images, tmp_path):
    base, refined = layered
    of_base = base.compress(images, to=tmp_path / "base.quad")
    with pytest.raises(
        QuadrateError,
        match="holds 1 of this codec's 2 layers; read it with the codec of the base alone",
    ):
        refined.decompress(tmp_path / "base.quad")
    refined.compress(images, to=tmp_path / "both.quad")
    with pytest.raises(
        QuadrateError,
        match="has 2 layers, this codec writes 1; append with the codec of all layers",
    ):
        quad.append(base, [Batch(images)], tmp_path / "both.quad")
    other = make(levels=((3, 4), (3, 3, 2)), seed=0).freeze(source_of(seed=7), base=base)
    with pytest.raises(QuadrateError, match="its layer 1 is"):
        other.decompress(tmp_path / "both.quad")
    assert of_base is None


def test_a_base_must_be_a_frozen_codec_of_the_same_first_encoders(layered):
    base, refined = layered
    for wrong in (
        make(seed=5),
        make(freeze=False),
        make(levels=((3, 4), (3, 3, 2), (2,))),
        make(levels=((4, 3),)),
    ):
        with pytest.raises(
            QuadrateError, match="the base must be a frozen codec with this one's first encoders"
        ):
            refined.freeze(source_of(), base=wrong)


def test_the_second_layer_is_coded_given_the_first(layered):
    _, refined = layered
    images = source_of(count=2000).train.images
    count = len(images)
    symbols, dither = refined.encode(images).numpy(), refined.dither_words(count, 0)
    model = refined.models[1]
    given = sum(
        model.tables.bits(symbols[:, i], model.indices(i, symbols, dither)) for i in range(2, 5)
    )
    unknown = symbols.copy()
    unknown[:, :2] = np.random.default_rng(0).permutation(symbols[:, :2])
    blind = sum(
        model.tables.bits(symbols[:, i], model.indices(i, unknown, dither)) for i in range(2, 5)
    )
    assert isinstance(model, ContextModel) and given < 0.9 * blind


# --- blends ---


def test_a_blend_is_the_weighted_mean_of_pictures(codec, images):
    data = codec.compress(images)
    faithful, realistic = (
        codec.decompress(data, name, dtype="float32") for name in ("faithful", "realistic")
    )
    for weight in (0.0, 0.3, 0.5, 1.0):
        blended = codec.decompress(
            data, {"faithful": weight, "realistic": 1 - weight}, dtype="float32"
        )
        np.testing.assert_allclose(blended, weight * faithful + (1 - weight) * realistic, atol=1e-6)
    np.testing.assert_array_equal(
        codec.decompress(data, {"realistic": 1.0}), codec.decompress(data, "realistic")
    )
    np.testing.assert_array_equal(
        codec.decompress(data, {"realistic": 1 + 5e-7}, dtype="float32"), realistic
    )


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"faithful": 0.5, "realistic": 0.6}, "sum to 1"),
        ({"faithful": 0.5}, "sum to 1"),
        ({"faithful": -0.5, "realistic": 1.5}, "not negative"),
        ({"faithful": math.nan, "realistic": 1.0}, "sum to 1"),
        ({"faithful": math.inf, "realistic": -math.inf}, "not negative"),
        ({"faithful": 0.5, "sharp": 0.5}, "no decoder 'sharp'"),
        ({"faithful": "much", "realistic": 1.0}, "weights of a blend"),
        ({}, "sum to 1"),
        (("faithful", "realistic"), "decoder"),
        (3, "decoder"),
    ],
    ids=str,
)
def test_blends_that_are_none(codec, images, blend, message):
    data = codec.compress(images[:2])
    with pytest.raises(QuadrateError, match=message):
        codec.decompress(data, blend)


class Curve(nn.Module):
    """A decoder of one number: a value for each bin of what is received."""

    def __init__(self, shape, dim) -> None:
        super().__init__()
        self.register_buffer("edges", torch.zeros(499))
        self.register_buffer("values", torch.zeros(500))

    def forward(self, received):
        return self.values[torch.bucketize(received[:, 0].contiguous(), self.edges)].reshape(
            -1, 1, 1, 1
        )


def clipped_line(shape, dim) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.Hardtanh())


def test_blends_of_a_gaussian_source_trace_the_curve_that_theory_gives():
    """With faithful E[X|Y] and realistic its optimal transport to the source.

    D = mmse + (1-a)^2 (D_b - mmse) and P = a^2 W2^2, Freirich et al.
    """
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(400_000, generator=generator, dtype=torch.float64)
    pictures = (
        (0.5 + numbers / 12).clamp(0, 1).float().reshape(-1, 1, 1, 1)
    )  # a picture is one number; none is clipped
    train, test = pictures.split(200_000)
    family = Family("line", clipped_line, Curve, COMPACT.critic)
    states = {
        "encoder.0": {"1.weight": torch.tensor([[12 / 3.5]]), "1.bias": torch.tensor([-6 / 3.5])}
    }  # 3.5 standard deviations to [-1, 1]
    points = {name: OperatingPoint((3,)) for name in ("faithful", "realistic")}
    states |= {f"decoder.{name}": Curve(None, 1).state_dict() for name in points}
    untrained = Codec(family, (1, 1, 1), ((3,),), points, states)

    received = untrained.received(untrained.encode(train), 0)[:, 0]
    order = received.argsort()
    edges = received[order][400::400][:499]
    means = train.flatten()[order].reshape(500, 400).mean(dim=1)  # E[X | Y in the bin]
    target = train.flatten().sort().values.reshape(500, 400).mean(dim=1)  # the source's quantiles
    transported = target[means.argsort().argsort()]
    for name, values in (("faithful", means), ("realistic", transported)):
        states[f"decoder.{name}"] = {"edges": edges, "values": values}
    images = (train * 255).round().to(torch.uint8)[:1000]
    source = from_arrays(
        "line", (images, np.zeros(1000, int)), (images, np.zeros(1000, int)), classes=1
    )
    codec = Codec(family, (1, 1, 1), ((3,),), points, states).freeze(source)

    data = codec.compress(test, seed=1)
    x = 12 * test.flatten().numpy().astype(np.float64)

    def measured(weight: float) -> tuple[float, float]:
        y = 12 * codec.decompress(
            data, {"faithful": weight, "realistic": 1 - weight}, dtype="float32"
        ).ravel().astype(np.float64)
        return float(np.mean((x - y) ** 2)), float(np.mean((np.sort(x) - np.sort(y)) ** 2))

    (mmse, squared_w2), (transport_mse, floor) = measured(1.0), measured(0.0)
    assert 0.4 < mmse < 0.6 and squared_w2 == pytest.approx(
        (1 - math.sqrt(1 - mmse)) ** 2, rel=0.2
    )  # nearly Gaussian, so nearly this
    assert transport_mse == pytest.approx(mmse + squared_w2, rel=0.01) and floor < 0.02 * squared_w2
    for weight in (0.2, 0.4, 0.6, 0.8):
        distortion, perception = measured(weight)
        assert distortion == pytest.approx(
            mmse + (1 - weight) ** 2 * (transport_mse - mmse), rel=0.005
        )
        assert perception == pytest.approx(weight**2 * squared_w2, abs=0.02 * squared_w2)


# --- the data set ---


@pytest.fixture(scope="module")
def labelled(codec, images, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("quad") / "a.quad"
    quad.compress(codec, [Batch(images, np.arange(100) % 10)], path, seed=6, chunk=13)
    return path


def test_a_data_set_gives_pixels_latents_or_labels(codec, images, labelled):
    pixels, latents, labels = (
        QuadDataset(labelled, codec, item) for item in ("pixels", "latents", "labels")
    )
    whole = codec.decompress(labelled)
    expected = codec.received(codec.encode(images, seed=6), 6)
    for i in (0, 12, 13, 99, -1, -100, 57):
        picture, label = pixels[i]
        assert (
            picture.dtype == torch.uint8
            and label == labels[i] == (i % 100) % 10
            and isinstance(label, int)
        )
        assert (
            np.abs(picture.numpy().astype(int) - whole[i]).max() <= 1
        )  # batches of another size round differently
        latent, again = latents[i]
        assert again == label and torch.equal(latent, expected[i])
    for i in (100, -101):
        with pytest.raises(IndexError):
            pixels[i]
    assert len(list(labels)) == len(pixels) == 100
    realistic = QuadDataset(labelled, codec, decoder="realistic")[3][0].numpy()
    assert np.abs(realistic.astype(int) - codec.decompress(labelled, "realistic")[3]).max() <= 1


def test_a_data_set_without_labels_gives_the_item_alone(codec, images):
    data = codec.compress(images)
    assert QuadDataset(data, codec)[0].shape == SHAPE and QuadDataset(data, codec, "latents")[
        0
    ].shape == (2,)
    with pytest.raises(QuadrateError, match="holds no labels"):
        QuadDataset(data, codec, "labels")
    with pytest.raises(QuadrateError, match="an item is pixels, latents, labels; got 'sounds'"):
        QuadDataset(data, codec, "sounds")
    with pytest.raises(QuadrateError, match="no decoder 'sharp'"):
        QuadDataset(data, codec, decoder="sharp")


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_loaders_read_in_processes_of_their_own(codec, labelled, context):
    data_set = QuadDataset(labelled, codec)
    data_set[50]
    loader = torch.utils.data.DataLoader(
        data_set, batch_size=32, shuffle=False, num_workers=2, multiprocessing_context=context
    )
    batches = list(loader)
    assert torch.cat([labels for _, labels in batches]).tolist() == [i % 10 for i in range(100)]
    pictures = torch.cat([pictures for pictures, _ in batches]).numpy().astype(int)
    assert np.abs(pictures - codec.decompress(labelled)).max() <= 1


def test_a_data_set_can_be_pickled(codec, labelled):
    data_set = QuadDataset(labelled, codec, "latents")
    expected = data_set[20]
    again = pickle.loads(pickle.dumps(data_set))
    assert torch.equal(again[20][0], expected[0]) and again[21][1] == 1


# --- many samples ---


def resident_mebibytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages / 256


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="reads the memory in use from /proc"
)
def test_a_million_samples_in_constant_memory(tmp_path):
    """All of them at once would take 250 MiB as numbers, 16 MiB as symbols of one dimension."""
    shape, count, batch = (1, 8, 8), 1_000_000, 8000
    codec = make(TINY, shape, levels=((3, 4),))
    block = source_of(shape, 8800).train.images[:batch]
    assert len(block) == batch
    used: list[float] = []

    def batches():
        for i in range(count // batch):
            used.append(resident_mebibytes())
            yield Batch(block.roll(i, 0))

    started = time.monotonic()
    assert quad.compress(codec, batches(), tmp_path / "a.quad") == count
    assert max(used) - used[10] < 40
    assert 8 * (tmp_path / "a.quad").stat().st_size / count < codec.rate_bound_bits + 0.2
    del used[:]
    with QuadFile(tmp_path / "a.quad", codec) as file:
        total = 0
        for piece in file.pieces():
            used.append(resident_mebibytes())
            total += len(piece)
        assert total == count and max(used) - used[10] < 40
        before = file.reader.bytes_read
        (one,) = file.pieces(slice(777_777, 777_778))
        assert file.reader.bytes_read - before < 4096
    np.testing.assert_allclose(
        one.images.numpy(),
        codec.decode(
            codec.encode(block.roll(97, 0)[777_777 % batch :][:1], first=777_777), first=777_777
        ),
        atol=1e-5,
    )
    assert time.monotonic() - started < 60
