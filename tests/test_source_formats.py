"""Readers of IDX, SVHN and CIFAR files, sound and broken."""

import gzip
import struct
import tarfile
import zlib

import numpy as np
import pytest

import formats
from quadrate.errors import QuadrateError
from quadrate.sources import (
    readers,
)
from quadrate.sources.cifar import TEST_FILES, TRAIN_FILES, read_cifar
from quadrate.sources.matlab import matlab_arrays
from quadrate.sources.mnist import read_idx
from quadrate.sources.svhn import read_svhn
from sources_parts import TEST, TRAIN, random_images

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
    monkeypatch.setattr("quadrate.sources.svhn.MAX_BYTES", 1000)
    bomb = zlib.compress(bytes(400))
    element = struct.pack("<II", 15, len(bomb)) + bomb
    for count, message in ((2, "found neither"), (3, "take more bytes")):
        (tmp_path / "a.mat").write_bytes(bytes(124) + b"\x00\x01IM" + element * count)
        with pytest.raises(QuadrateError, match=message):
            read_svhn(tmp_path / "a.mat")


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
        for name in (*TRAIN_FILES, *TEST_FILES):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, str(secret)
            archive.addfile(link)
    with pytest.raises(QuadrateError, match="lacks data_batch_1.bin"):
        read_cifar(tmp_path / "c.tar.gz")
