"""A codec, images and a folder for `quadrate compress` and its siblings."""

import os
from pathlib import Path

import numpy as np
import pytest

from codecs_made import make, source_of
from quadrate.cli import main
from quadrate.codecs import Batch, TradeoffCodec, compress, zoo_index


@pytest.fixture(scope="session")
def codec() -> TradeoffCodec:
    return make(decoders=("faithful", "realistic"))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return source_of(seed=1).train.images[:60].numpy()


@pytest.fixture(scope="session")
def codec_file_path(codec, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("codec") / "c.safetensors"
    codec.save(path)
    return path


@pytest.fixture(autouse=True)
def _empty_zoo(monkeypatch, tmp_path_factory):
    """What comes with the package must not decide a test."""
    monkeypatch.setattr(zoo_index, "FOLDER", tmp_path_factory.mktemp("zoo"))
    zoo_index.write_index(TradeoffCodec.load)


@pytest.fixture
def here(tmp_path, monkeypatch, codec_file_path) -> Path:
    """An empty folder to work in, but for the codec."""
    monkeypatch.chdir(tmp_path)
    os.symlink(codec_file_path, "c.st")
    return tmp_path


@pytest.fixture
def quadrate(here, capsys):
    def run(*arguments, status=0) -> str:
        """The output of a command that ends with a status.

        Where it fails, the one line of its error.
        """
        try:
            main([str(argument) for argument in arguments])
            ended = 0
        except SystemExit as error:
            ended = error.code
        out, err = capsys.readouterr()
        assert ended == status, err
        if not status:
            assert err == ""
            return out
        lines = err.splitlines()
        assert out == "" and len(lines) == 1 and lines[0].startswith("quadrate: "), err
        return lines[0].removeprefix("quadrate: ")

    return run


@pytest.fixture
def ready(here, codec, images) -> Path:
    """A file with 60 samples in chunks of 7, labels and no names."""
    compress(codec, [Batch(images, np.arange(60))], here / "a.quad", seed=2, chunk=7)
    return here / "a.quad"
