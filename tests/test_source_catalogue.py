"""Data sets by name: from folders, from the system, downloaded, or not there."""

import hashlib
import http.server
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import formats
from quadrate.errors import QuadrateError
from quadrate.sources import SOURCES, load_source, pixels
from quadrate.sources.downloads import DataFile
from quadrate.sources.mnist import FASHION_MNIST, MNIST
from sources_parts import TEST, TRAIN, random_images


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
    assert FASHION_MNIST.system_folder == "/usr/share/datasets/fashion-mnist"
    formats.write_mnist(tmp_path, random_images((60, 28, 28)), random_images((10, 28, 28)))
    moved = replace(FASHION_MNIST, system_folder=str(tmp_path))
    monkeypatch.setitem(SOURCES, "fashion-mnist", moved)
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
    assert no_network == [address + "t10k-labels-idx1-ubyte.gz" for address in MNIST.addresses]
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
    names = [file.name for file in MNIST.files]
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
        try:
            local = replace(MNIST, files=files, addresses=addresses)
            monkeypatch.setitem(SOURCES, "mnist", local)
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
            monkeypatch.setitem(SOURCES, "mnist", replace(local, files=files))
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
    assert list(SOURCES) == ["digits", "mnist", "fashion-mnist", "svhn", "cifar-10"]
    for data_set in list(SOURCES.values())[1:]:
        assert data_set.addresses and all(
            address.startswith("http") and address.endswith("/") for address in data_set.addresses
        )
        assert all(
            file.checksum.startswith("md5:") and len(file.checksum) == 36 for file in data_set.files
        )


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
