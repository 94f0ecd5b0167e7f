"""Photographs of a file for PyTorch: pixels, latents, labels, and loaders."""

import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from photos_made import codec, picture
from quadrate.codecs import PhotoDataset, PhotoFile, Photograph, Rate
from quadrate.codecs.photo_quad import compress
from quadrate.errors import QuadrateError
from quadrate.networks.backbones import Backbone, Preprocessing

SHAPES = ((3, 40, 50), (1, 17, 31), (3, 33, 16))


def file(labels: bool = True) -> bytes:
    target = io.BytesIO()
    photographs = [
        Photograph(picture(*shape[1:], channels=shape[0], seed=i), label=7 * i if labels else None)
        for i, shape in enumerate(SHAPES)
    ]
    compress(codec(), photographs, target, Rate(quality=40))
    return target.getvalue()


def middle(pixels: torch.Tensor) -> torch.Tensor:
    return pixels[:1, :16, :16].float()


def test_samples_are_those_of_the_file():
    data = file()
    dataset = PhotoDataset(data, codec())
    assert [tuple(pixels.shape) for pixels, _ in dataset] == list(SHAPES)
    with PhotoFile(data, codec()) as opened:
        for number, (pixels, label) in enumerate(dataset):
            assert label == 7 * number
            np.testing.assert_array_equal(pixels.numpy(), opened.photograph(number).pixels)
    assert list(PhotoDataset(data, codec(), "labels")) == [0, 7, 14]
    assert (dataset[-1][0] == dataset[2][0]).all()
    with pytest.raises(IndexError):
        dataset[3]


def test_latents_are_coefficients_of_blocks():
    dataset = PhotoDataset(file(labels=False), codec(), "latents")
    (first, gray, _) = dataset
    assert first.shape == (28, 3, 4) and gray.shape == (28, 2, 2) and first.dtype == torch.float32
    base = PhotoDataset(file(labels=False), codec(), "latents", layers=1)[0]
    known = codec().model.ends[codec().model.base - 1]
    assert (base[:known] == first[:known]).all() and not base[known:].any()
    assert first[known:].any()


class MeanColours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.mean((2, 3))


def mean_colours() -> Backbone:
    return Backbone("colours", 3, Preprocessing(16, (0.0,) * 3, (1.0,) * 3), MeanColours())


def test_features_are_of_the_decoded_pixels():
    dataset = PhotoDataset(file(), codec(), "features", backbone=mean_colours())
    pixels = PhotoDataset(file(), codec())
    for (features, label), (whole, same) in zip(dataset, pixels, strict=True):
        assert features.shape == (3,) and features.dtype == torch.float32 and label == same
        assert torch.equal(features, mean_colours().features(whole[None])[0])
    gray = dataset[1][0]
    assert gray.std() < 1e-3  # one channel counts as three
    assert (pickle.loads(pickle.dumps(dataset))[0][0] == dataset[0][0]).all()
    base = PhotoDataset(file(), codec(), "features", layers=1, backbone=mean_colours())
    assert 0 < (base[0][0] - dataset[0][0]).abs().max() < 20  # blurred, but much the same colours


def test_a_loader_with_workers_makes_batches_of_crops():
    dataset = PhotoDataset(file(), codec(), transform=middle)
    loader = torch.utils.data.DataLoader(dataset, batch_size=3, num_workers=1)
    ((pixels, labels),) = loader
    assert pixels.shape == (3, 1, 16, 16) and labels.tolist() == [0, 7, 14]
    again = pickle.loads(pickle.dumps(dataset))
    assert (again[1][0] == pixels[1]).all()


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(QuadrateError, match="an item is"):
        PhotoDataset(file(), codec(), "logits")
    for item, backbone in (("features", None), ("pixels", mean_colours())):
        with pytest.raises(QuadrateError, match="come from a backbone"):
            PhotoDataset(file(), codec(), item, backbone=backbone)
    with pytest.raises(QuadrateError, match="no labels"):
        PhotoDataset(file(labels=False), codec(), "labels")
    with pytest.raises(QuadrateError, match="no decoder"):
        PhotoDataset(file(), codec(), decoder="pretty")
    path = tmp_path / "a.quad"
    path.write_bytes(file())
    stored = pickle.dumps(PhotoDataset(path, codec()))
    path.write_bytes(file(labels=False))
    with pytest.raises(QuadrateError, match="another file"):
        pickle.loads(stored)
