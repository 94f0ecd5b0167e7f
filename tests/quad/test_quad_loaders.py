"""Data sets over .quad files, in data loaders and in constant memory."""

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from codecs_made import TINY, make, source_of
from quadrate.codecs import Batch, QuadDataset, QuadFile, quad
from quadrate.errors import QuadrateError

SHAPE = (1, 8, 8)


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
    expected = codec.dequantize(codec.encode(images, seed=6), 6)
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
