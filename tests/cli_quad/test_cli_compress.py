"""`quadrate compress`: every kind of input, and every way in which it says no."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli_parts import folder_of, save, tree
from codecs_made import make, source_of
from quadrate.cli import inputs
from quadrate.codecs import QuadFile
from quadrate.sources import load_source
from quadrate.sources.images import FORMATS

SHAPE = (1, 8, 8)


def contents(path, codec):
    """Symbols, labels, names of a file."""
    with QuadFile(path, codec) as file:
        chunks = range(len(file.reader.index))
        sides = [file.side(chunk) for chunk in chunks]
        symbols = np.concatenate([file.symbols(chunk) for chunk in chunks])
    labels = (
        None
        if sides[0].labels is None
        else np.concatenate([side.labels for side in sides]).tolist()
    )
    return (
        symbols,
        labels,
        None if sides[0].names is None else [name for side in sides for name in side.names],
    )


# --- what goes in ---


def test_a_folder_there_and_back(quadrate, here, codec, images):
    names = folder_of(images, here / "pictures")
    size = len(codec.compress(images[:10], names=names))
    out = quadrate("compress", "pictures", "-o", "a.quad", "--codec", "c.st")
    assert (
        out
        == f"a.quad: 10 samples, {size} bytes, {8 * size / 10:.4f} bits a sample (bound: sum log2 L"
        " = 3.5850)\n"
    )
    assert (here / "a.quad").read_bytes() == codec.compress(images[:10], names=names)
    assert (
        quadrate("decompress", "a.quad", "-o", "back", "--codec", "c.st")
        == "back: 10 samples of 1x8x8\n"
    )
    assert tree(here / "back") == sorted(str(Path(name).with_suffix(".png")) for name in names)
    for name, expected in zip(names, codec.decompress(here / "a.quad"), strict=True):
        with Image.open((here / "back" / name).with_suffix(".png"), formats=FORMATS) as picture:
            assert picture.mode == "L" and (np.asarray(picture) == expected[0]).all()
    assert sorted(path.name for path in here.iterdir()) == [
        "a.quad",
        "back",
        "c.st",
        "pictures",
    ]  # nothing temporary


def test_class_folders_become_numbers(quadrate, here, codec, images):
    names = folder_of(images, here / "pictures")
    line = quadrate("compress", "pictures", "-o", "a.quad", "--codec", "c.st", "--labels", status=1)
    assert (
        line == "pictures/z.png: it is not in a class folder, so it has no label; expected"
        " pictures/<class>/<image>"
    )
    (here / "pictures" / "z.png").unlink()
    quadrate("compress", "pictures", "-o", "a.quad", "--codec", "c.st", "--labels")
    _, labels, stored = contents("a.quad", codec)
    assert stored == names[1:] and labels == [0] * 4 + [1] * 5
    save(images[0], here / "other" / "c" / "0.png")
    line = quadrate(
        "compress", "pictures", "other", "-o", "b.quad", "--codec", "c.st", "--labels", status=1
    )
    assert (
        line == "other has the classes c; pictures has a, c: their numbers would not mean the same"
    )
    assert not (here / "b.quad").exists()


@pytest.mark.parametrize("pixels", [1, 300, 1 << 22])
def test_arrays_of_every_kind(quadrate, here, codec, images, monkeypatch, pixels):
    monkeypatch.setattr(
        inputs, "_BATCH_PIXELS", pixels
    )  # how much is read at a time changes nothing
    labels = np.arange(60) % 7
    np.save("a.npy", images)
    np.save("b.npy", images[:, 0])
    np.save("c.npy", images.astype(">f8") / 255)
    np.savez("d.npz", images=images, labels=labels)
    np.savez_compressed("e.npz", pictures=images[:, 0])
    expected = codec.compress(images)
    for name in ("a.npy", "b.npy", "c.npy", "d.npz", "e.npz"):
        quadrate("compress", name, "--output", f"{name}.quad", "--codec", "c.st")
        assert (here / f"{name}.quad").read_bytes() == expected, name
    quadrate(
        "compress",
        "d.npz",
        "-o",
        "d.quad",
        "--codec",
        "c.st",
        "--labels",
        "--seed",
        "5",
        "--chunk",
        "7",
    )
    with QuadFile("d.quad", codec) as file:
        assert file.reader.header.seed == 5 and file.reader.index[:, 1].tolist() == [7] * 8 + [4]
    assert contents("d.quad", codec)[1] == labels.tolist()
    quadrate("compress", "a.npy", "b.npy", "-o", "two.quad", "--codec", "c.st")
    assert (here / "two.quad").read_bytes() == codec.compress(np.concatenate([images, images]))


def test_no_samples(quadrate, here):
    np.save("a.npy", np.zeros((0, *SHAPE), np.uint8))
    assert quadrate("compress", "a.npy", "-o", "a.quad", "--codec", "c.st").startswith(
        "a.quad: 0 samples, "
    )
    assert "whole: 0 samples in 0 chunks" in quadrate("verify", "a.quad", "--codec", "c.st")
    assert "0 samples of 1x8x8" in quadrate("inspect", "a.quad")
    assert json.loads(quadrate("inspect", "a.quad", "--json"))["rate_bits_per_sample"] is None
    quadrate("decompress", "a.quad", "-o", "a2.npy", "--codec", "c.st")
    assert np.load("a2.npy").shape == (0, *SHAPE)
    quadrate("decompress", "a.quad", "-o", "folder", "--codec", "c.st")
    assert tree(here / "folder") == []


def test_a_data_set_by_name(quadrate, here, codec):
    test = load_source("digits").test
    quadrate("compress", "digits:test", "-o", "a.quad", "--codec", "c.st", "--labels")
    symbols, labels, names = contents("a.quad", codec)
    assert (
        (symbols == codec.encode(test.images).numpy()).all()
        and labels == test.labels.tolist()
        and names is None
    )
    for name in ("digits", "digits:", "digits:tset"):
        line = quadrate("compress", name, "-o", "b.quad", "--codec", "c.st", status=1)
        assert (
            line
            == f"{name}: name a split of the data set: digits:train, digits:validation, digits:test"
        )


def test_colour_and_single_images(quadrate, here):
    colour = make(shape=(3, 6, 5), seed=2)
    colour.save("rgb.st")
    picture = np.random.default_rng(0).integers(0, 256, (3, 6, 5), np.uint8)
    save(picture, here / "a.png")
    save(picture, here / "alpha.png", "RGBA")
    save(picture, here / "gray.png", "L")
    quadrate("compress", "a.png", "alpha.png", "-o", "a.quad", "--codec", "rgb.st")
    assert (here / "a.quad").read_bytes() == colour.compress(
        np.stack([picture] * 2), names=["a.png", "alpha.png"]
    )
    quadrate("decompress", "a.quad", "-o", "back", "--codec", "rgb.st")
    assert tree(here / "back") == ["a.png", "alpha.png"]
    with Image.open("back/a.png", formats=FORMATS) as decoded:
        assert (
            decoded.mode == "RGB"
            and (
                np.asarray(decoded).transpose(2, 0, 1) == colour.decompress(here / "a.quad")[0]
            ).all()
        )
    line = quadrate("compress", "gray.png", "-o", "b.quad", "--codec", "rgb.st", status=1)
    assert (
        line == "gray.png: its shape is (1, 6, 5) (C, H, W); the codec takes (3, 6, 5): resize or"
        " convert them first"
    )
    line = quadrate("compress", "a.png", "-o", "b.quad", "--codec", "c.st", status=1)
    assert (
        line
        == "a.png: its shape is (3, 6, 5) (C, H, W); the codec takes (1, 8, 8): resize or convert"
        " them first"
    )


def test_append(quadrate, here, codec, images):
    np.save("a.npy", images[:20])
    np.savez("b.npz", images=images[20:], labels=np.arange(40))
    line = quadrate("compress", "a.npy", "-o", "a.quad", "--codec", "c.st", "--append", status=1)
    assert (
        line == "no such file: a.quad; there is nothing to append to: leave --append out to make it"
        and tree(here) == ["a.npy", "b.npz", "c.st"]
    )
    quadrate("compress", "a.npy", "-o", "a.quad", "--codec", "c.st", "--seed", "3")
    before = (here / "a.quad").read_bytes()
    for flag, value, message in (
        ("--seed", ["4"], "a.quad has seed 3, which holds"),
        ("--labels", [], "a.quad holds no labels"),
    ):
        assert quadrate(
            "compress",
            "b.npz",
            "-o",
            "a.quad",
            "--codec",
            "c.st",
            "--append",
            flag,
            *value,
            status=1,
        ).startswith(message)
    assert (here / "a.quad").read_bytes() == before
    out = quadrate("compress", "b.npz", "-o", "a.quad", "--codec", "c.st", "--append")
    assert out.startswith("a.quad: 40 samples added; 60 samples, ")
    symbols, labels, _ = contents("a.quad", codec)
    assert (
        symbols == codec.encode(source_of(seed=1).train.images[:60], seed=3).numpy()
    ).all() and labels is None
    folder_of(images, here / "pictures")  # has names, but the file stores none
    quadrate("compress", "pictures", "-o", "a.quad", "--codec", "c.st", "--append")
    assert len(contents("a.quad", codec)[0]) == 70
    quadrate("compress", "b.npz", "-o", "l.quad", "--codec", "c.st", "--labels")
    quadrate(
        "compress", "b.npz", "-o", "l.quad", "--codec", "c.st", "--append"
    )  # labels follow, as the file has some
    assert contents("l.quad", codec)[1] == [*range(40), *range(40)]
    line = quadrate("compress", "a.npy", "-o", "l.quad", "--codec", "c.st", "--append", status=1)
    assert line.startswith("a.npy: an .npy file holds no labels")
    assert len(contents("l.quad", codec)[1]) == 80


# --- what is refused ---


def bad_inputs(images):
    """Files that cannot be compressed, made in the current folder."""
    Path("empty").mkdir()
    Path("note.txt").write_text("hello")
    Path("torn.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    save(images[0][:, :7], Path("small/a/1.png"))
    Path("deep.png").symlink_to("nowhere.png")
    Image.fromarray(np.zeros((8, 8), np.float32)).save("float.tif")
    np.save("small.npy", images[..., :7])
    np.save("flat.npy", images.reshape(60, 64))
    np.save("ints.npy", images.astype(np.int32))
    np.save("objects.npy", images.astype(object))
    np.save("bright.npy", images.astype(np.float32))
    np.save("nan.npy", np.full((3, 8, 8), np.nan))
    np.save("fortran.npy", np.asfortranarray(images))
    np.save("good.npy", images)
    Path("torn.npy").write_bytes(Path("good.npy").read_bytes()[:-100])
    Path("torn2.npy").write_bytes(Path("good.npy").read_bytes()[:50])
    Path("text.npy").write_text("hello")
    Path("text.npz").write_text("hello")
    np.savez("many.npz", a=images, b=images)
    np.savez("few.npz", images=images, labels=np.arange(59))
    np.savez("soft.npz", images=images, labels=np.arange(60) / 2)
    np.savez("unlabelled.npz", images=images)
    with zipfile.ZipFile("odd.npz", "w") as archive:
        archive.writestr("images.npy", b"hello")
    Path("pictures").mkdir()
    save(images[0], Path("pictures/a.png"))


REFUSED = [
    (["nothing"], "nothing: no such file, folder or data set; data sets are digits, mnist"),
    (["nothing.npy"], "nothing.npy: no such file"),
    (["deep.png"], "deep.png: no such file"),
    (
        [],
        (
            "name at least one folder of images, image, .npy or .npz file, or data set such as"
            " mnist:test"
        ),
    ),
    (["empty"], "empty: no images; expected files that end in .bmp"),
    (["note.txt"], "note.txt: neither an image nor an array; expected a name that ends in .bmp"),
    (["torn.png"], "torn.png: not a readable image"),
    (
        ["float.tif"],
        (
            "float.tif: an image must be gray or colour with 8 bits a channel, or gray with 16; it"
            " has floating-point pixels"
        ),
    ),
    (["small"], "small/a/1.png: its shape is (1, 7, 8) (C, H, W); the codec takes (1, 8, 8)"),
    (["small.npy"], "small.npy: its images are (1, 8, 7) (C, H, W); the codec takes (1, 8, 8)"),
    (
        ["flat.npy"],
        "flat.npy: expected images (N, C, H, W) or (N, H, W); it holds an array (60, 64)",
    ),
    (
        ["ints.npy"],
        "ints.npy: images are uint8, uint16, or floating point in [0, 1]; it holds int32",
    ),
    (
        ["objects.npy"],
        "objects.npy: not a readable array file (it holds Python objects and not numbers)",
    ),
    (
        ["bright.npy"],
        (
            "bright.npy: not a readable array file (floating-point images lie in [0, 1]; images 0"
            " to 59 reach beyond"
        ),
    ),
    (
        ["nan.npy"],
        (
            "nan.npy: not a readable array file (floating-point images lie in [0, 1]; images 0 to 2"
            " reach beyond, or are not numbers)"
        ),
    ),
    (
        ["fortran.npy"],
        (
            "fortran.npy: not a readable array file (it is in Fortran's order; save"
            " numpy.ascontiguousarray of it)"
        ),
    ),
    (
        ["torn.npy"],
        (
            "torn.npy: not a readable array file (it is cut short: its header says uint8 (60, 1, 8,"
            " 8), and 3740 bytes follow)"
        ),
    ),
    (["torn2.npy"], "torn2.npy: not a readable array file"),
    (["text.npy"], "text.npy: not a readable array file"),
    (["text.npz"], "text.npz: not a readable array file"),
    (["odd.npz"], "odd.npz: not a readable array file"),
    (
        ["many.npz"],
        "many.npz: not a readable array file (it holds 'a', 'b'; expected an array images)",
    ),
    (["few.npz", "--labels"], "few.npz: its labels are int64 (59,); 60 images take 60 integers"),
    (
        ["soft.npz", "--labels"],
        "soft.npz: its labels are float64 (60,); 60 images take 60 integers",
    ),
    (
        ["unlabelled.npz", "--labels"],
        "unlabelled.npz: not a readable array file (it holds no array labels, but 'images')",
    ),
    (["good.npy", "--labels"], "good.npy: an .npy file holds no labels"),
    (["pictures/a.png", "--labels"], "pictures/a.png: an image alone has no label"),
    (["pictures", "good.npy"], "the images of pictures have names, those of good.npy have none"),
    (["good.npy", "pictures"], "the images of pictures have names, those of good.npy have none"),
    (["good.npy", "--seed", "-1"], "header: dither seed is -1"),
    (["good.npy", "--seed", str(2**64)], "header: dither seed is 18446744073709551616"),
    (["good.npy", "--chunk", "0"], "a chunk holds 1 to 1048576 samples; got 0"),
    (["good.npy", "--codec", "mnist-66bit"], "no codec at mnist-66bit"),
    (["good.npy", "--codec", "good.npy"], "good.npy is not a whole safetensors file"),
    (
        ["good.npy", "--codec", "bare.st"],
        "this codec has no tables yet, so it cannot write or read files; Codec.freeze(source)",
    ),
    (["good.npy", "--output", "good.npy"], "cannot write good.npy: its name must end in .quad"),
    (["good.npy", "--output", "note.txt/a.quad"], "cannot write note.txt/a.quad"),
    (["good.npy", "--output", "pictures"], "cannot write pictures: its name must end in .quad"),
    (["good.npy", "--output", "/proc/none/a.quad"], "cannot write /proc/none/a.quad"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    REFUSED,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_compress_refuses(quadrate, here, images, arguments, message):
    bad_inputs(images)
    make(freeze=False).save("bare.st")
    (here / "out.quad").write_text("what stood here before")
    before = sorted(path.name for path in here.rglob("*"))
    defaults = [
        word
        for flag, value in (("--codec", "c.st"), ("--output", "out.quad"))
        if flag not in arguments
        for word in (flag, value)
    ]
    assert quadrate("compress", *arguments, *defaults, "--overwrite", status=1).startswith(message)
    assert (here / "out.quad").read_text() == "what stood here before"
    assert sorted(path.name for path in here.rglob("*")) == before  # nothing temporary is left
