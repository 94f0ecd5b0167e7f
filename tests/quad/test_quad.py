"""Images to .quad files and back by the Python API: chunks, slices, appending."""

import io

import numpy as np
import pytest
import torch

from codecs_made import TINY, make, source_of
from quad_parts import symbols_of, write
from quadrate.codecs import Batch, QuadDataset, QuadFile, quad
from quadrate.coding.container import Reader
from quadrate.errors import QuadrateError

SHAPE = (1, 8, 8)


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
