"""Sources from folders of images and from PyTorch data sets."""

import numpy as np
import pytest
import torch
from PIL import Image

import formats
from quadrate.errors import QuadrateError
from quadrate.sources import (
    from_dataset,
    from_folder,
)
from sources_parts import COLOUR

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
        ((COLOUR[0] / 127.5 - 1, 1), "must lie in .* not be normalized"),
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
