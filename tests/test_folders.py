"""What counts as an image in a folder, which class it has, and which folders are splits.

The same for `from_folder` and `quadrate compress`.
"""

import os
import socket
import time
from pathlib import Path

import pytest
from PIL import Image

from codecs_made import make
from quadrate.cli import main
from quadrate.codecs import QuadFile
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.sources import from_folder


def fill(folder: Path, count: int = 10, value: int = 0, size: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", (size, size), value + number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def compressed(tmp_path, capsys):
    """Names and labels of what `quadrate compress FOLDER` stores, or its one line of refusal."""
    codec = make()
    codec.save(tmp_path / "c.st")

    def run(root: Path, *flags: str):
        output = tmp_path / "out.quad"
        output.unlink(missing_ok=True)
        try:
            main(
                [
                    "compress",
                    str(root),
                    "-o",
                    str(output),
                    "--codec",
                    str(tmp_path / "c.st"),
                    *flags,
                ]
            )
        except SystemExit:
            return capsys.readouterr().err.removeprefix("quadrate: ").rstrip("\n")
        with QuadFile(output, codec) as file:
            side = file.side(0)
        return list(side.names), None if side.labels is None else side.labels.tolist()

    return run


def labels_of(root: Path) -> dict[int, int]:
    """The class of each image of a source, by the value of its pixels."""
    source = from_folder(root)
    splits = (source.train, source.validation, source.test)
    return {
        int(image[0, 0, 0]): int(label)
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    }


def refused(call) -> str:
    with pytest.raises(QuadrateError) as caught:
        call()
    return str(caught.value)


# --- links ---


def test_linked_classes_and_images_count(tmp_path, compressed):
    fill(tmp_path / "elsewhere", value=0)
    fill(tmp_path / "root/1", value=100)
    (tmp_path / "root/0").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/1/10.png").symlink_to(tmp_path / "elsewhere/3.png")
    names, labels = compressed(tmp_path / "root", "--labels")
    assert len(names) == 21 and labels == [0] * 10 + [1] * 11 and names[0] == "0/0.png"
    (tmp_path / "root/1/10.png").unlink()
    assert labels_of(tmp_path / "root") == {
        value: value // 100 for value in [*range(10), *range(100, 110)]
    }


@pytest.mark.parametrize("target", ["root", "root/0", "root/0/deeper"])
def test_links_in_a_circle_are_refused(tmp_path, compressed, target):
    fill(tmp_path / "root/0/deeper")
    fill(tmp_path / "root/1")
    (tmp_path / "root/0/deeper/up").symlink_to(tmp_path / target)
    expected = (
        f"{tmp_path}/root/0/deeper/up is the same folder as {tmp_path}/{target}, which a link leads"
        " to; remove the link"
    )
    assert (
        compressed(tmp_path / "root") == expected
        and refused(lambda: from_folder(tmp_path / "root")) == expected
    )


def test_links_that_multiply_are_refused(tmp_path, compressed):
    """Forty folders with two links each to the next are a trillion paths."""
    for number in range(40):
        (tmp_path / f"root/{number:02}").mkdir(parents=True)
        for name in "ab":
            (tmp_path / f"root/{number:02}/{name}").symlink_to(f"../{number + 1:02}")
    fill(tmp_path / "root/40")
    assert "is the same folder as" in compressed(tmp_path / "root")
    assert "is the same folder as" in refused(lambda: from_folder(tmp_path / "root"))


@pytest.mark.parametrize("kind", ["dangling", "circular", "pipe", "socket"])
def test_what_only_ends_like_an_image_is_refused(tmp_path, monkeypatch, compressed, kind):
    root = fill(tmp_path / "root/0").parent
    monkeypatch.chdir(root / "0")
    if kind == "pipe":
        os.mkfifo("x.png")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as plug:
            plug.bind("x.png")
    else:
        os.symlink("x.png" if kind == "circular" else "nothing.png", "x.png")
    expected = f"{root}/0/x.png"
    assert expected in compressed(root) and expected in refused(lambda: from_folder(root))
    if kind in ("pipe", "socket"):
        assert (
            compressed(root / "0/x.png") == f"cannot read {root}/0/x.png: it is not a regular file"
        )


# --- droppings ---


def test_what_systems_leave_behind_is_passed_over(tmp_path, compressed):
    root = fill(tmp_path / "root/0").parent
    fill(root / "1", value=100)
    for name in (
        "0/._x.png",
        "0/.hidden.png",
        "0/.DS_Store",
        "0/Thumbs.db",
        ".DS_Store",
        "desktop.ini",
        "1/notes.txt",
    ):
        (root / name).write_bytes(b"\0\5\x16\7")
    for folder in (
        "__MACOSX/0",
        ".cache",
        "@eaDir",
        "1/__MACOSX",
        "0/.ipynb_checkpoints",
        "lost+found",
    ):
        (root / folder).mkdir(parents=True)
        (root / folder / "._0.png").write_bytes(b"no image")
        (root / folder / "y.png").write_bytes(b"no image")
    names, labels = compressed(root, "--labels")
    assert labels == [0] * 10 + [1] * 10 and len(names) == 20
    assert labels_of(root) == {value: value // 100 for value in [*range(10), *range(100, 110)]}


def test_an_empty_class_is_refused_by_both(tmp_path, compressed):
    root = fill(tmp_path / "root/0").parent
    fill(root / "2")
    (root / "1").mkdir()
    expected = f"{root}/1: no images; expected files that end in .bmp"
    assert compressed(root, "--labels").startswith(expected) and refused(
        lambda: from_folder(root)
    ).startswith(expected)
    assert len(compressed(root)[0]) == 20


# --- splits ---


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "valid", "TEST"),
        ("training", "dev", "testing"),
        ("train", "Validation", "test"),
    ],
)
def test_split_folders_by_any_of_their_names(tmp_path, names):
    for number, name in enumerate(names):
        for label in "01":
            fill(tmp_path / name / label, count=5 + number, value=50 * number + 10 * int(label))
    source = from_folder(tmp_path)
    assert [len(split) for split in (source.train, source.validation, source.test)] == [
        10,
        12,
        14,
    ] and source.classes == 2
    assert sorted(source.validation.images[:, 0, 0, 0].tolist()) == [*range(50, 56), *range(60, 66)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("train", "test", "extra"),
            "/extra: a folder next to train and test that is not a known split;"
            " expected validation",
        ),
        (
            ("train", "test", "val", "valid"),
            ": two of test, train, val, valid are the same split; keep one of them",
        ),
        (("train", "Train", "test"), "are the same split"),
        (("train", "val"), ": it has train, val, but no test; a split folder has train and test"),
        (("train",), ": it has train, but no test"),
        (("val", "test"), "but no train"),
    ],
)
def test_split_folders_that_are_not_clear(tmp_path, names, message):
    for name in names:
        fill(tmp_path / name / "0")
        fill(tmp_path / name / "1")
    assert message in refused(lambda: from_folder(tmp_path))


def test_a_class_may_be_called_train(tmp_path):
    for number, name in enumerate(("bus", "car", "train")):
        fill(tmp_path / name, value=50 * number)
    assert from_folder(tmp_path).classes == 3 and labels_of(tmp_path)[101] == 2


# --- no classes ---


@pytest.mark.parametrize("places", [("",), ("2019/05", "2019/06"), ("only",)])
def test_images_in_no_classes_have_no_labels(tmp_path, places):
    for number, place in enumerate(places):
        fill(tmp_path / "photos" / place, value=50 * number)
    source = from_folder(tmp_path / "photos")
    assert not source.is_labelled and source.classes == 1 and not source.train.labels.any()
    assert len(source.train) + len(source.validation) + len(source.test) == 10 * len(places)


def test_images_beside_class_folders_are_doubtful(tmp_path, compressed):
    root = fill(tmp_path / "root/0").parent
    fill(root / "1")
    fill(root, count=1)
    with pytest.warns(
        QuadrateWarning, match="/0.png is not in a class folder, so the images of .* have no labels"
    ):
        assert not from_folder(root).is_labelled
    assert "it is not in a class folder, so it has no label" in compressed(root, "--labels")


def test_splits_without_classes(tmp_path):
    fill(tmp_path / "train", count=12)
    fill(tmp_path / "test", count=3)
    source = from_folder(tmp_path)
    assert not source.is_labelled and [
        len(split) for split in (source.train, source.validation, source.test)
    ] == [11, 1, 3]
    fill(tmp_path / "val/0")
    assert "it has class folders, and" in refused(lambda: from_folder(tmp_path))


# --- many folders ---


def test_time_is_linear_in_the_number_of_classes(tmp_path):
    """30,000 classes took 22 times what 7,500 take."""
    image = fill(tmp_path / "one", count=1) / "0.png"
    seconds = []
    for count in (500, 2000):
        root = tmp_path / str(count)
        for number in range(count):
            (root / str(number)).mkdir(parents=True)
            os.link(image, root / str(number) / "0.png")
        started = time.process_time()
        assert from_folder(root).classes == count
        seconds.append(time.process_time() - started)
    assert seconds[1] < 8 * seconds[0]
