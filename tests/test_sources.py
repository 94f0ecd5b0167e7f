"""Sources: readers, the catalogue, folders, PyTorch data sets, fixed splits and the noisy observation."""

import gzip
import hashlib
import http.server
import os
import struct
import tarfile
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import formats
from quadrate.errors import QuadrateError
from quadrate.sources import (
    SOURCE_NAMES,
    Source,
    Split,
    catalog,
    from_arrays,
    from_dataset,
    from_folder,
    load_source,
    pixels,
    readers,
)
from quadrate.sources.catalog import DataFile, DataSet
from quadrate.sources.matlab import matlab_arrays
from quadrate.sources.readers import read_cifar, read_idx, read_svhn
from quadrate.sources.source import to_uint8


def random_images(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 10, shape[0])


def tiny(noise_std: float = 0.0) -> Source:
    split = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))
    return Source("tiny", split, split, split, classes=4, fingerprint="", noise_std=noise_std)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Every request fails as it does without a network, and the download cache is empty."""
    import requests

    asked = []

    def refuse(url, **_):
        asked.append(url)
        raise requests.ConnectionError("HTTPConnectionPool: a paragraph\nover two lines")

    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("QUADRATE_DATA", raising=False)
    return asked


# --- Split, Source, pixels, observe ---


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(0, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_split_refuses_other_shapes_and_dtypes(images, labels):
    with pytest.raises(QuadrateError, match="of a split must be uint8|must be int64"):
        Split(images, labels)


def test_source_refuses_mismatched_splits_labels_and_noise():
    a = Split(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    b = Split(torch.zeros(2, 1, 2, 3, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(
        QuadrateError, match=r"one shape .* train has \(1, 2, 2\), test \(1, 2, 3\)"
    ):
        Source("s", a, a, b, 2, "")
    with pytest.raises(QuadrateError, match=r"must lie in 0\.\.0; train has 0\.\.1"):
        Source("s", a, a, a, 1, "")
    for noise_std in (-0.1, float("nan"), float("inf")):
        with pytest.raises(QuadrateError, match="noise_std"):
            Source("s", a, a, a, 2, "", noise_std)


def test_source_shape_len_and_device():
    source = tiny(0.5)
    assert source.shape == (1, 2, 2) and len(source.train) == 4
    moved = source.to("cpu")
    assert moved.noise_std == 0.5 and torch.equal(moved.test.labels, source.test.labels)
    assert source.train.to(torch.device("meta")).images.device.type == "meta"


def test_pixels_scales_once():
    levels = torch.arange(256, dtype=torch.uint8)
    assert pixels(levels).dtype == torch.float32 and pixels(levels)[[0, 255]].tolist() == [0.0, 1.0]
    assert torch.equal((pixels(levels) * 255).round().to(torch.uint8), levels)
    with pytest.raises(QuadrateError, match="uint8"):
        pixels(pixels(levels))


def test_observe_is_the_identity_without_noise_and_draws_nothing():
    x, generator = torch.rand(3, 1, 2, 2), torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert tiny().observe(x, generator) is x
    assert torch.equal(generator.get_state(), state)


def test_observe_is_decided_by_the_generator():
    x = torch.rand(2, 3, 1, 2, 2)
    first, again, other = (
        tiny(0.3).observe(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == x.shape and first.dtype == x.dtype


def test_observe_adds_unclipped_unbiased_gaussian_noise():
    x = torch.cat([torch.zeros(50_000), torch.ones(50_000)]).reshape(
        -1, 1, 10, 10
    )  # the values at which clipping would bias
    noise = (tiny(0.4).observe(x, torch.Generator().manual_seed(0)) - x).flatten()
    for half in noise.split(50_000):
        assert abs(half.mean()) < 5 * 0.4 / 50_000**0.5
        assert abs(half.std() - 0.4) < 0.01
        assert abs((half / 0.4).pow(4).mean() - 3) < 0.2  # a Gaussian's kurtosis


def test_observe_refuses_integer_images():
    with pytest.raises(QuadrateError, match="floating-point"):
        tiny(0.1).observe(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.Generator())


# --- arrays, splits, fingerprints ---


def test_validation_is_a_twelfth_and_disjoint():
    images = np.arange(120, dtype=np.uint8).reshape(120, 1, 1, 1)  # each image is its own number
    labels = np.arange(120) % 10
    source = from_arrays("s", (images, labels), (images, labels))
    train = source.train.images.flatten().tolist()
    validation = source.validation.images.flatten().tolist()
    assert len(validation) == 10 and sorted(train + validation) == list(range(120))
    assert source.validation.labels.tolist() == [number % 10 for number in validation]
    assert torch.equal(source.test.images, torch.from_numpy(images))
    # The fixed split of everything published: if this line fails, every number published before is
    # void.
    assert validation == [27, 50, 105, 16, 119, 107, 99, 49, 23, 62]


def test_fingerprint_follows_the_contents():
    images, labels = random_images((24, 1, 4, 4))
    splits = dict(
        train=(images, labels), validation=(images[:4], labels[:4]), test=(images[4:8], labels[4:8])
    )
    first = from_arrays("a", **splits).fingerprint
    assert len(first) == 64 and first == from_arrays("b", **splits).fingerprint
    assert (
        first
        == from_arrays(
            "a", **{name: (torch.tensor(x), torch.tensor(y)) for name, (x, y) in splits.items()}
        ).fingerprint
    )
    changed_image, changed_label = images.copy(), labels.copy()
    changed_image[0, 0, 0, 0] ^= 1
    changed_label[0] ^= 1
    swapped = dict(splits, validation=splits["test"], test=splits["validation"])
    reshaped = {name: (x.reshape(-1, 1, 2, 8), y) for name, (x, y) in splits.items()}
    others = [
        dict(splits, train=(changed_image, labels)),
        dict(splits, train=(images, changed_label)),
        swapped,
        reshaped,
    ]
    assert len({first, *(from_arrays("a", **other).fingerprint for other in others)}) == 5


def test_from_arrays_copies_and_takes_any_layout_in_memory():
    images, labels = random_images((12, 3, 5))
    backwards = images[::-1, :, ::-1]
    source = from_arrays("s", (backwards, labels[::-1]), (images, labels), (images, labels))
    expected = backwards.copy()[:, np.newaxis]
    images[:] = 0
    assert (
        np.array_equal(source.train.images.numpy(), expected)
        and source.train.images.is_contiguous()
    )


def test_from_arrays_rounds_floats_to_levels():
    images, labels = random_images((12, 1, 4, 4))
    for scaled in (images / 255, (images / 255).astype(np.float32), torch.tensor(images) / 255):
        source = from_arrays("s", (scaled, labels), (scaled, labels), (scaled, labels))
        assert np.array_equal(source.test.images.numpy(), images)
    assert np.array_equal(
        to_uint8(np.array([0.0, 0.0019, 0.0020, 0.9979, 0.9981]), "here"), [0, 0, 1, 254, 255]
    )


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.full((12, 2, 2), 1.5), np.zeros(12, int), "must lie in"),
        (np.full((12, 2, 2), np.nan), np.zeros(12, int), "must lie in"),
        (np.zeros((12, 2, 2), np.int64), np.zeros(12, int), "got int64"),
        (np.zeros((12, 2), np.uint8), np.zeros(12, int), r"\(N, C, H, W\)"),
        (np.zeros((12, 2, 2), np.uint8), np.zeros(11, int), "must be 12 integers"),
        (np.zeros((12, 2, 2), np.uint8), np.zeros(12), "must be 12 integers; got float64"),
        (np.zeros((12, 2, 2), np.uint8), np.full(12, -1), "must lie in 0"),
        (np.zeros((11, 2, 2), np.uint8), np.zeros(11, int), "at least 12"),
    ],
)
def test_from_arrays_refuses(images, labels, message):
    with pytest.raises(QuadrateError, match=message):
        from_arrays("s", (images, labels), (images, labels))


# --- idx ---


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_idx_round_trip(tmp_path, pack):
    images, labels = random_images((5, 3, 4))
    (tmp_path / "images").write_bytes(pack(formats.idx_bytes(images)))
    (tmp_path / "labels").write_bytes(pack(formats.idx_bytes(labels)))
    read_images, read_labels = read_idx(tmp_path / "images", tmp_path / "labels", 10)
    assert np.array_equal(read_images, images[:, np.newaxis]) and np.array_equal(
        read_labels, labels
    )
    assert read_images.dtype == np.uint8 and read_labels.dtype == np.int64


IDX = formats.idx_bytes(np.zeros((2, 3, 4), np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "magic number 00000803, found "),
        (b"\0\0\x0d\x03" + IDX[4:], "found 00000d03"),
        (formats.idx_bytes(np.zeros(2, np.uint8)), "found 00000801"),
        (IDX[:10], "truncated: 10 bytes"),
        (IDX[:-1], r"truncated: the header promises \(2, 3, 4\), 24 bytes, and 23 follow"),
        (IDX + b"\0", "wrong size"),
        (struct.pack(">4I", 0x803, 0, 3, 4), "wrong size"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "truncated"),
        (gzip.compress(IDX, mtime=0)[:-12], "cannot be read"),
        (gzip.compress(IDX, mtime=0)[:20] + b"\xff" * 20, "cannot be read"),
    ],
)
def test_broken_idx(tmp_path, data, message):
    (tmp_path / "images").write_bytes(data)
    (tmp_path / "labels").write_bytes(formats.idx_bytes(np.zeros(2, np.uint8)))
    with pytest.raises(QuadrateError, match=f"^{tmp_path}/images: .*{message}"):
        read_idx(tmp_path / "images", tmp_path / "labels", 10)


def test_idx_labels_must_fit(tmp_path):
    (tmp_path / "images").write_bytes(IDX)
    for labels, message in (
        ([0, 1, 2], "3 labels for the 2 images"),
        ([0, 10], r"0\.\.9; found 10"),
    ):
        (tmp_path / "labels").write_bytes(formats.idx_bytes(np.array(labels)))
        with pytest.raises(QuadrateError, match=f"^{tmp_path}/labels: .*{message}"):
            read_idx(tmp_path / "images", tmp_path / "labels", 10)
    with pytest.raises(QuadrateError, match="^no such file: .*/none"):
        read_idx(tmp_path / "none", tmp_path / "labels", 10)


def test_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_BYTES", 1000)
    (tmp_path / "images").write_bytes(gzip.compress(bytes(1001)))
    with pytest.raises(QuadrateError, match="more than 1000 bytes"):
        read_idx(tmp_path / "images", tmp_path / "images", 10)


# --- SVHN ---


@pytest.mark.parametrize("compressed", [True, False])
def test_svhn_round_trip(tmp_path, compressed):
    from scipy.io import loadmat, savemat

    images, _ = random_images((12, 3, 32, 32))
    labels = np.arange(12) % 10
    formats.write_svhn(tmp_path / "a.mat", images, labels)
    if not compressed:
        arrays = loadmat(tmp_path / "a.mat")
        extra = {
            "extra": np.arange(6.0).reshape(2, 3),
            "cells": np.array([["a"], [1.0]], object),
            "text": "abc",
        }
        savemat(tmp_path / "a.mat", {**extra, "X": arrays["X"], "y": arrays["y"].astype(float)})
    read_images, read_labels = read_svhn(tmp_path / "a.mat")
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)
    assert read_images.flags.c_contiguous and read_labels.dtype == np.int64


@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_arrays_as_scipy_writes_them(tmp_path, compressed):
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    arrays = {
        f"an_array_of_{kind}"[:length]: rng.integers(0, 100, (3, 2, 1 + length % 5)).astype(kind)
        for length, kind in enumerate(kinds, 7)
    }
    savemat(
        tmp_path / "a.mat",
        {**arrays, "text": "abc", "cells": np.array([["a", 1.0]], object), "other": 1.0},
        do_compression=compressed,
    )
    read = matlab_arrays((tmp_path / "a.mat").read_bytes(), (*arrays, "cells"), 10_000)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(read[name], array) and read[name].dtype == array.dtype


def test_svhn_with_other_arrays(tmp_path):
    from scipy.io import savemat

    x, y = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)
    path = tmp_path / "a.mat"
    for arrays in (
        {"X": x},
        {"y": y},
        {"X": x[:31], "y": y},
        {"X": x, "y": y[:3]},
        {"X": x, "y": y.T},
        {"X": x.astype(float), "y": y},
        {"X": "x", "y": y},
    ):
        savemat(path, arrays)
        with pytest.raises(QuadrateError, match=f"^{path}: expected the arrays X"):
            read_svhn(path)
    for label in (0, 11):
        savemat(path, {"X": x, "y": np.full((4, 1), label)})
        with pytest.raises(QuadrateError, match=rf"1\.\.10; found {label}"):
            read_svhn(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_broken_svhn_never_crashes(tmp_path, compressed):
    """A truncation anywhere is an error.

    Changed bytes give an error or other values, and never another exception.
    """
    from scipy.io import savemat

    x, y = random_images((4, 3, 32, 32))[0].transpose(2, 3, 1, 0), np.ones((4, 1), np.uint8)
    path = tmp_path / "a.mat"
    savemat(path, {"X": x, "y": y}, do_compression=compressed)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for length in (0, 100, 128, 130, 200, len(data) // 2, len(data) - 9):
        path.write_bytes(data[:length])
        with pytest.raises(QuadrateError, match=f"^{path}: "):
            read_svhn(path)
    refused = 0
    for _ in range(200):
        changed = bytearray(data)
        for position in rng.integers(100, 400, 3):
            changed[position] = rng.integers(256)
        path.write_bytes(changed)
        try:
            read_svhn(path)
        except QuadrateError:
            refused += 1
    assert refused > 20


def test_svhn_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_BYTES", 1000)
    bomb = zlib.compress(bytes(400))
    element = struct.pack("<II", 15, len(bomb)) + bomb
    for count, message in ((2, "found neither"), (3, "take more bytes")):
        (tmp_path / "a.mat").write_bytes(bytes(124) + b"\x00\x01IM" + element * count)
        with pytest.raises(QuadrateError, match=message):
            read_svhn(tmp_path / "a.mat")


# --- CIFAR-10 ---

TRAIN, TEST = random_images((15, 3, 32, 32), 1), random_images((4, 3, 32, 32), 2)


@pytest.mark.parametrize(
    "tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]
)
def test_cifar_archive_round_trip(tmp_path, tar_format):
    formats.write_tar(tmp_path / "c.tar.gz", formats.cifar_batches(TRAIN, TEST), tar_format)
    for (images, labels), (read_images, read_labels) in zip(
        (TRAIN, TEST), read_cifar(tmp_path / "c.tar.gz"), strict=True
    ):
        assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)


def test_cifar_folder_is_read_like_the_archive(tmp_path):
    for name, data in formats.cifar_batches(TRAIN, TEST).items():
        (tmp_path / name).write_bytes(data)
    (images, labels), (test_images, _) = read_cifar(tmp_path)
    assert (
        np.array_equal(images, TRAIN[0])
        and np.array_equal(labels, TRAIN[1])
        and np.array_equal(test_images, TEST[0])
    )
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(QuadrateError, match=f"^{tmp_path}: lacks data_batch_3.bin$"):
        read_cifar(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda batch: batch[:-1],
            "data_batch_2.bin is truncated .* 9218 bytes .* 3073-byte records",
        ),
        (lambda batch: b"", "data_batch_2.bin is truncated .* 0 bytes"),
        (lambda batch: b"\x0a" + batch[1:], r"0\.\.9; found 10"),
    ],
)
def test_broken_cifar_batch(tmp_path, change, message):
    batches = formats.cifar_batches(TRAIN, TEST)
    batches["data_batch_2.bin"] = change(batches["data_batch_2.bin"])
    formats.write_tar(tmp_path / "c.tar.gz", batches)
    with pytest.raises(QuadrateError, match=f"^{tmp_path}/c.tar.gz: .*{message}"):
        read_cifar(tmp_path / "c.tar.gz")


def test_broken_cifar_archive(tmp_path):
    path = tmp_path / "c.tar.gz"
    formats.write_tar(path, formats.cifar_batches(TRAIN, TEST))
    packed = path.read_bytes()
    data = gzip.decompress(packed)
    backwards = bytearray(
        data
    )  # a negative size, under a right checksum: a reader that follows it goes round in circles
    backwards[512 + 124 : 512 + 136] = b"-0000001000\0"
    backwards[512 + 148 : 512 + 156] = b" " * 8
    backwards[512 + 148 : 512 + 156] = b"%06o\0 " % sum(backwards[512:1024])
    for broken, message in (
        (packed[: len(packed) // 2], "cannot be read"),
        (data[: len(data) // 2], "truncated"),
        (b"no archive" * 100, "not a tar archive"),
        (bytes(backwards), "bad header at byte 512"),
        (data[:600] + b"x" + data[601:], "bad header at byte 512"),
        (b"", "lacks data_batch_1.bin, .*test_batch.bin"),
    ):
        path.write_bytes(broken)
        with pytest.raises(QuadrateError, match=f"^{path}: .*{message}"):
            read_cifar(path)


def test_cifar_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(3073))
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        for name in (*readers.CIFAR_TRAIN, *readers.CIFAR_TEST):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, str(secret)
            archive.addfile(link)
    with pytest.raises(QuadrateError, match="lacks data_batch_1.bin"):
        read_cifar(tmp_path / "c.tar.gz")


# --- the catalogue ---


def test_digits(no_network):
    from sklearn.datasets import load_digits

    source = load_source("digits")
    splits = (source.train, source.validation, source.test)
    assert [len(split) for split in splits] == [1197, 200, 400]
    assert (
        source.shape == (1, 8, 8)
        and source.classes == 10
        and source.name == "digits"
        and source.noise_std == 0
    )
    assert all(
        len(split.labels.bincount(minlength=10)) == 10 and split.labels.bincount().min() > 10
        for split in splits
    )
    levels = torch.cat([split.images for split in splits]).unique().tolist()
    assert levels == [round(value * 255 / 16) for value in range(17)]
    # All of scikit-learn's digits, each once, with its own label.
    ours = sorted(
        (bytes(image.numpy()), int(label))
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    )
    bunch = load_digits()
    theirs = sorted(
        (bytes(np.rint(image * 255 / 16).astype(np.uint8)), int(label))
        for image, label in zip(bunch.images, bunch.target, strict=True)
    )
    assert ours == theirs
    assert source.fingerprint == load_source("digits").fingerprint
    assert not no_network


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_sets_from_a_local_folder(tmp_path, monkeypatch, no_network, name, zipped):
    train, test = random_images((60, 28, 28), 1), random_images((10, 28, 28), 2)
    formats.write_mnist(tmp_path / name, train, test, zipped)
    monkeypatch.setenv("QUADRATE_DATA", str(tmp_path))
    source = load_source(name)
    assert source.shape == (1, 28, 28) and source.classes == 10
    assert [len(split) for split in (source.train, source.validation, source.test)] == [55, 5, 10]
    assert (
        np.array_equal(source.test.images[:, 0].numpy(), test[0])
        and source.test.labels.tolist() == test[1].tolist()
    )
    monkeypatch.setenv("QUADRATE_DATA", str(tmp_path / "elsewhere"))
    assert (
        load_source(name, data_dir=tmp_path).fingerprint == source.fingerprint
    )  # the argument goes before the variable
    assert not no_network


def test_colour_sets_from_a_local_folder(tmp_path, no_network):
    formats.write_svhn(tmp_path / "svhn/train_32x32.mat", *TRAIN)
    formats.write_svhn(tmp_path / "svhn/test_32x32.mat", *TEST)
    formats.write_tar(
        tmp_path / "cifar-10/cifar-10-binary.tar.gz", formats.cifar_batches(TRAIN, TEST)
    )
    svhn, cifar = load_source("svhn", tmp_path), load_source("cifar-10", tmp_path)
    assert svhn.shape == (3, 32, 32) and svhn.fingerprint == cifar.fingerprint
    assert (
        np.array_equal(svhn.test.images.numpy(), TEST[0])
        and svhn.test.labels.tolist() == TEST[1].tolist()
    )
    assert not no_network


def test_fashion_mnist_from_the_system(tmp_path, monkeypatch, no_network):
    assert catalog.DOWNLOADS["fashion-mnist"].system_folder == "/usr/share/datasets/fashion-mnist"
    formats.write_mnist(tmp_path, random_images((60, 28, 28)), random_images((10, 28, 28)))
    data_set = catalog.DOWNLOADS["fashion-mnist"]
    moved = DataSet(data_set.files, data_set.addresses, data_set.read, str(tmp_path))
    monkeypatch.setitem(catalog.DOWNLOADS, "fashion-mnist", moved)
    assert len(load_source("fashion-mnist").test) == 10 and not no_network


def test_missing_data_without_a_network(tmp_path, no_network, capfd):
    formats.write_mnist(tmp_path / "mnist", random_images((12, 28, 28)), random_images((2, 28, 28)))
    (tmp_path / "mnist/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(QuadrateError) as caught:
        load_source("mnist", tmp_path)
    message = str(caught.value)
    for part in (
        "mnist: missing t10k-labels-idx1-ubyte.gz;",
        str(tmp_path / "mnist"),
        "ossci-datasets.s3.amazonaws.com: no connection",
        "QUADRATE_DATA=",
    ):
        assert part in message
    assert "\n" not in message and "train-images" not in message
    assert no_network == [
        address + "t10k-labels-idx1-ubyte.gz" for address in catalog.DOWNLOADS["mnist"].addresses
    ]
    assert capfd.readouterr() == ("", "")  # pooch says nothing
    with pytest.raises(QuadrateError, match="train_32x32.mat, test_32x32.mat; looked in no folder"):
        load_source("svhn")


def test_missing_data_folder(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("QUADRATE_DATA", str(tmp_path / "none"))
    with pytest.raises(
        QuadrateError, match=f"mnist: the data folder {tmp_path}/none does not exist"
    ):
        load_source("mnist")
    assert not no_network


def test_download_checks_and_tries_mirrors(tmp_path, monkeypatch):
    """Against a server on this machine.

    The first address lacks the file, the second has another, the third the right one.
    """
    formats.write_mnist(tmp_path / "right", random_images((12, 28, 28)), random_images((2, 28, 28)))
    names = [file.name for file in catalog.DOWNLOADS["mnist"].files]
    (tmp_path / "wrong").mkdir()
    for name in names:
        (tmp_path / "wrong" / name).write_bytes(b"another file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("QUADRATE_DATA", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        addresses = tuple(
            f"http://127.0.0.1:{server.server_port}/{folder}/"
            for folder in ("none", "wrong", "right")
        )
        files = tuple(
            DataFile(
                name, f"md5:{hashlib.md5((tmp_path / 'right' / name).read_bytes()).hexdigest()}"
            )
            for name in names
        )
        read = catalog.DOWNLOADS["mnist"].read
        try:
            monkeypatch.setitem(catalog.DOWNLOADS, "mnist", DataSet(files, addresses, read))
            downloaded = load_source("mnist")
            assert (
                downloaded.fingerprint
                == load_source("mnist", tmp_path_with(tmp_path, "right")).fingerprint
            )
            asked.clear()
            assert (
                load_source("mnist").fingerprint == downloaded.fingerprint and not asked
            )  # the cache serves the second time
            files = tuple(DataFile(file.name, "md5:" + "0" * 32) for file in files)
            monkeypatch.setitem(catalog.DOWNLOADS, "mnist", DataSet(files, addresses, read))
            with pytest.raises(
                QuadrateError,
                match=(
                    r"127\.0\.0\.1: HTTP status 404, 127\.0\.0\.1: wrong checksum, 127\.0\.0\.1:"
                    r" wrong checksum"
                ),
            ):
                load_source("mnist")
        finally:
            server.shutdown()
            thread.join()


def tmp_path_with(tmp_path: Path, folder: str) -> Path:
    """A data folder in which mnist/ is `folder`."""
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/mnist").symlink_to(tmp_path / folder)
    return tmp_path / "data"


def test_published_files_have_addresses_and_checksums():
    for data_set in catalog.DOWNLOADS.values():
        assert data_set.addresses and all(
            address.startswith("http") and address.endswith("/") for address in data_set.addresses
        )
        assert all(
            file.checksum.startswith("md5:") and len(file.checksum) == 36 for file in data_set.files
        )
    assert SOURCE_NAMES == ("digits", "mnist", "fashion-mnist", "svhn", "cifar-10")


# --- load_source ---


def test_load_source_takes_paths(tmp_path, no_network):
    formats.write_folder(tmp_path / "shapes")
    for asked in (str(tmp_path / "shapes"), tmp_path / "shapes"):
        assert load_source(asked).name == "shapes"


@pytest.mark.parametrize("asked", ["mnits", Path("digits"), "/no/such/folder"])
def test_unknown_source(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        QuadrateError,
        match=(
            f"unknown source '{asked}': expected one of digits, mnist, .*cifar-10, or the path of a"
            " folder"
        ),
    ):
        load_source(asked)


# --- folders ---


def test_folder_of_classes(tmp_path):
    formats.write_folder(tmp_path / "data")
    (tmp_path / "data/circle/notes.txt").write_text("no image")
    (tmp_path / "data/.hidden").mkdir()
    (tmp_path / "data/readme.md").write_text("no class")
    source = from_folder(tmp_path / "data")
    splits = (source.train, source.validation, source.test)
    assert source.name == "data" and source.shape == (1, 5, 6) and source.classes == 2
    assert [len(split) for split in splits] == [16, 2, 2]
    numbers = [split.images[:, 0, 0, 0].tolist() for split in splits]
    assert sorted(sum(numbers, [])) == list(range(20))
    assert all(
        split.labels.tolist() == [number // 10 for number in part]
        for split, part in zip(splits, numbers, strict=True)
    )
    assert source.fingerprint == from_folder(tmp_path / "data").fingerprint


@pytest.mark.parametrize("with_validation", [True, False])
def test_folder_with_splits(tmp_path, with_validation):
    formats.write_folder(tmp_path / "train", count=12, mode="RGB")
    formats.write_folder(tmp_path / "test", classes=("square",), count=3, mode="RGB")
    if with_validation:
        formats.write_folder(tmp_path / "validation", count=2, mode="RGBA")
    source = from_folder(tmp_path)
    assert source.shape == (3, 5, 6) and source.classes == 2
    assert [len(split) for split in (source.train, source.validation, source.test)] == (
        [24, 4, 3] if with_validation else [22, 2, 3]
    )
    assert source.test.labels.tolist() == [1, 1, 1]
    assert source.test.images[:, :, 4, 5].tolist() == [[0, 1, 2], [1, 1, 2], [2, 1, 2]]
    (tmp_path / "test/triangle").mkdir()
    with pytest.raises(
        QuadrateError,
        match=(
            f"^{tmp_path}/test/triangle: a class that the training set lacks; it has circle, square"
        ),
    ):
        from_folder(tmp_path)


def test_folder_names_the_first_image_that_differs(tmp_path):
    formats.write_folder(tmp_path)
    Image.new("L", (6, 4)).save(tmp_path / "circle/007.png")
    with pytest.raises(
        QuadrateError,
        match=(
            rf"^{tmp_path}/circle/007.png: its shape is \(1, 4, 6\) \(C, H, W\); the first has \(1,"
            r" 5, 6\)"
        ),
    ):
        from_folder(tmp_path)
    Image.new("RGB", (6, 5)).save(tmp_path / "circle/007.png")
    with pytest.raises(
        QuadrateError, match=rf"^{tmp_path}/circle/007.png: its shape is \(3, 5, 6\)"
    ):
        from_folder(tmp_path)


def test_unreadable_images(tmp_path):
    formats.write_folder(tmp_path)
    path = tmp_path / "square/004.png"
    whole = path.read_bytes()
    for data in (b"", b"no image", whole[:40], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(QuadrateError, match=f"^{path}: not a readable image"):
            from_folder(tmp_path)


def test_folders_without_enough(tmp_path):
    with pytest.raises(QuadrateError, match="no images; expected files"):
        from_folder(tmp_path)
    with pytest.raises(QuadrateError, match="/none: no such folder"):
        from_folder(tmp_path / "none")
    formats.write_folder(tmp_path, count=4)
    with pytest.raises(QuadrateError, match="at least 10 images; found 8"):
        from_folder(tmp_path)
    (tmp_path / "triangle").mkdir()
    with pytest.raises(
        QuadrateError, match=f"^{tmp_path}/triangle: no images; expected files that end in .bmp, "
    ):
        from_folder(tmp_path)


# --- PyTorch data sets ---


class Pairs(torch.utils.data.Dataset):
    """Samples from a list; like many data sets, it does not end in an IndexError."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index % max(1, len(self.samples))]


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


def images_as(convert, images):
    return Pairs([(convert(image), label % 3) for label, image in enumerate(images)])


COLOUR, _ = random_images((12, 3, 5, 6))


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image,
        lambda image: image.transpose(1, 2, 0),
        lambda image: image / 255,
        lambda image: torch.tensor(image),
        lambda image: torch.tensor(image) / 255,
        lambda image: Image.fromarray(image.transpose(1, 2, 0)),
    ],
    ids=["numpy CHW", "numpy HWC", "float64", "tensor", "float tensor", "PIL"],
)
def test_dataset_forms_agree(convert):
    data = images_as(convert, COLOUR)
    source = from_dataset("pairs", data, data, data)
    assert source.shape == (3, 5, 6) and source.classes == 3 and source.name == "pairs"
    assert (
        np.array_equal(source.train.images.numpy(), COLOUR)
        and source.test.labels.tolist() == [0, 1, 2] * 4
    )


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image,
        lambda image: Image.fromarray(image),
        lambda image: torch.tensor(image)[None],
    ],
)
def test_gray_datasets_and_streams(convert):
    gray = COLOUR[:, 0]
    data = images_as(convert, gray)
    source = from_dataset("gray", data, Stream(data.samples), classes=5)
    assert source.shape == (1, 5, 6) and source.classes == 5 and len(source.validation) == 1
    assert np.array_equal(source.test.images[:, 0].numpy(), gray)


def test_ambiguous_images_follow_custom():
    image = COLOUR[0][:, :3, :3]  # (3, 3, 3)
    for convert, expected in ((torch.tensor, image), (np.array, image.transpose(2, 0, 1))):
        data = images_as(convert, [image] * 12)
        assert np.array_equal(from_dataset("s", data, data).test.images[0].numpy(), expected)


def test_labels_of_any_integer_type():
    data = Pairs(
        [(COLOUR[0], label) for label in (1, np.uint8(1), np.int64(1), torch.tensor(1))] * 3
    )
    assert from_dataset("s", data, data).test.labels.tolist() == [1] * 12


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (
            (COLOUR[0], 1.5),
            r"expected a pair \(image, integer label\), or \(image, None\); got \(ndarray, float\)",
        ),
        (COLOUR[0], "expected a pair .* got ndarray"),
        ((COLOUR[0], 1, 2), r"got \(ndarray, int, int\)"),
        ((COLOUR[0][:, 1:], 1), r"its shape is \(3, 4, 6\) \(C, H, W\); the first has \(3, 5, 6\)"),
        ((COLOUR[0][:2], 1), r"1 or 3 channels; got \(2, 5, 6\)"),
        ((COLOUR[0] / 127.5 - 1, 1), "must lie in .* not normalized"),
        ((COLOUR[0].astype(int), 1), "got int64"),
        (("an image", 1), "a PIL image, a tensor or an array; got str"),
    ],
)
def test_dataset_names_the_sample_at_fault(sample, message):
    data = Pairs([(COLOUR[0], 0)] * 3 + [sample])
    with pytest.raises(QuadrateError, match=f"^pairs, test, sample 3: .*{message}"):
        from_dataset("pairs", Pairs([(COLOUR[0], 0)] * 12), data)


def test_empty_dataset():
    data = Pairs([(COLOUR[0], 0)] * 12)
    with pytest.raises(QuadrateError, match="^s, validation: the data set is empty"):
        from_dataset("s", data, data, Pairs([]))


# --- the real thing ---


@pytest.mark.real
@pytest.mark.skipif(
    not Path(os.environ.get("QUADRATE_DATA", "/none"), "mnist").is_dir(),
    reason="needs MNIST under QUADRATE_DATA",
)
def test_real_mnist():
    source = load_source("mnist")
    assert [len(split) for split in (source.train, source.validation, source.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    published = torch.cat([source.train.labels, source.validation.labels]).bincount().tolist()
    assert published == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert source.test.labels.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    both = torch.cat([source.train.images, source.validation.images])
    assert abs(pixels(both).mean() - 0.1307) < 1e-4 and source.shape == (
        1,
        28,
        28,
    )  # the mean that everyone normalizes by
