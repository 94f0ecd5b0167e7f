"""`quadrate compress`, `decompress`, `inspect`, `verify`.

End to end, and every way in which they say no.
"""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codecs_made import make, source_of
from quadrate.cli import inputs, main
from quadrate.cli.pictures import safe_parts
from quadrate.cli.quads import find_codec
from quadrate.codecs import codec_file
from quadrate.codecs.codec import Codec
from quadrate.codecs.quad import Batch, QuadFile, append, compress
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.sources import load_source
from quadrate.sources.images import FORMATS

SHAPE = (1, 8, 8)


@pytest.fixture(scope="session")
def codec() -> Codec:
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
def _empty_zoo(monkeypatch):
    """What comes with the package must not decide a test."""
    monkeypatch.setattr(codec_file, "zoo", dict)


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


def save(image: np.ndarray, path: Path, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    (picture.convert(mode) if mode else picture).save(path)


def folder_of(images, root: Path) -> list[str]:
    """Ten images in a folder with sub-folders; their names in the order they are read."""
    names = [
        "z.png",
        "a/0.png",
        "a/1.bmp",
        "a/b/2.png",
        "a/b/3.PNG",
        "c/4.tif",
        "c/5.png",
        "c/6.pgm",
        "c/10.png",
        "c/9.png",
    ]
    order = [
        "z.png",
        "a/0.png",
        "a/1.bmp",
        "a/b/2.png",
        "a/b/3.PNG",
        "c/10.png",
        "c/4.tif",
        "c/5.png",
        "c/6.pgm",
        "c/9.png",
    ]
    for name in names:
        save(images[order.index(name)], root / name)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_text("none either")
    (root / ".cache").mkdir()
    save(images[0], root / ".cache" / "x.png")
    return order


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


def tree(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


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
        line == "pictures/z.png: it lies in no class folder, so it has no label; expected"
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
        "bare.st has no tables yet, so it cannot write files; Codec.freeze(source) fits them",
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


@pytest.mark.parametrize("verb", ["decompress", "inspect", "verify"])
def test_files_that_cannot_be_read(quadrate, here, codec, images, verb):
    whole = codec.compress(images)
    files = {
        "missing.quad": (None, "no such file: missing.quad"),
        "empty.quad": (b"", "empty.quad is empty"),
        "text.quad": (b"hello", "text.quad is not a .quad file: it begins with 68 65"),
        "newer.quad": (
            whole[:8] + b"\x09" + whole[9:],
            "newer.quad was written by a newer version of the format (9;",
        ),
        "cut.quad": (
            whole[:-30],
            "cut.quad was not finished, or is cut short: it has 1 whole chunks, and no trailer",
        ),
        "header.quad": (
            whole[:20] + b"\x07" + whole[21:],
            "header.quad: header: its checksum differs",
        ),
        "trailer.quad": (
            whole[:-20] + b"\x07" + whole[-19:],
            "trailer.quad: trailer: the file's digest differs",
        ),
    }
    for name, (data, message) in files.items():
        if data is not None:
            (here / name).write_bytes(data)
        output = ["--output", "x.npy"] if verb == "decompress" else []
        for flags in ([], ["--codec", "c.st"]):
            assert quadrate(verb, name, *output, *flags, status=1).startswith(message)
    (here / "folder").mkdir()
    assert "is not a regular file" in quadrate(verb, "folder", *output, status=1)
    assert not (here / "x.npy").exists()


@pytest.fixture
def ready(here, codec, images) -> Path:
    """A file with 60 samples in chunks of 7, labels and no names."""
    compress(codec, [Batch(images, np.arange(60))], here / "a.quad", seed=2, chunk=7)
    return here / "a.quad"


DECOMPRESS_REFUSED = [
    (["--decoder", "sharp"], "no decoder 'sharp'; this codec has faithful, realistic"),
    (["--decoder", "faithful", "--blend", "faithful=1"], "give --decoder or --blend, not both"),
    (
        ["--blend", "faithful=.5", "realistic=.6"],
        "the weights of a blend are not negative and sum to 1",
    ),
    (
        ["--blend", "faithful"],
        (
            "a blend is decoders with their weights, each once, such as faithful=.3 realistic=.7;"
            " got 'faithful'"
        ),
    ),
    (["--blend", "faithful=much"], "a blend is decoders with their weights"),
    (["--blend", "faithful=nan", "realistic=1"], "a blend is decoders with their weights"),
    (["--blend", "faithful=.5", "faithful=.5"], "a blend is decoders with their weights"),
    (["--blend", "=1"], "a blend is decoders with their weights"),
    (["--blend", "faithful=.5", "sharp=.5"], "no decoder 'sharp'"),
    (
        ["--samples", "ten"],
        "--samples takes start:stop, start:stop:step or a number, as in 10:20; got 'ten'",
    ),
    (["--samples", ""], "--samples takes"),
    (["--samples", "1:2:0"], "--samples takes"),
    (["--samples", "1:2:3:4"], "--samples takes"),
    (["--samples", "9" * 5000], "--samples takes"),
    (["--samples", "60"], "a.quad has samples 0 to 60, the last not included; 60 is none of them"),
    (
        ["--samples", "9:3"],
        "a.quad has samples 0 to 60, the last not included; 9:3 is none of them",
    ),
    (["--codec", "other.st"], "a.quad was written by another codec"),
    (["--codec", "nothing"], "no codec at nothing"),
    (
        ["--output", "folder", "--dtype", "float32"],
        "PNG files hold bytes; --dtype float32 needs an output that ends in .npy",
    ),
    (["--output", "full"], "full is not empty; give a new folder"),
    (["--output", "c.st"], "c.st is a file; give a folder, or a name that ends in .npy"),
    (["--output", "c.st/deeper"], "cannot write c.st/deeper"),
    (["--output", "c.st/x.npy"], "cannot write c.st/x.npy"),
    (["--output", "folder.npy"], "cannot write folder.npy"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    DECOMPRESS_REFUSED,
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_decompress_refuses(quadrate, here, ready, arguments, message):
    make(seed=9).save("other.st")
    (here / "full").mkdir()
    (here / "full" / "x.png").touch()
    (here / "folder.npy").mkdir()
    before = sorted(path.name for path in here.rglob("*"))
    defaults = [
        word
        for flag, value in (("--codec", "c.st"), ("--output", "x.npy"))
        if flag not in arguments
        for word in (flag, value)
    ]
    assert quadrate("decompress", "a.quad", *arguments, *defaults, status=1).startswith(message)
    assert sorted(path.name for path in here.rglob("*")) == before


def test_usage_errors_exit_with_2(here, capsys):
    for arguments in (
        ["compress", "a.npy"],
        ["decompress", "a.quad"],
        ["verify"],
        ["inspect", "a", "b"],
        ["decompress", "a", "-o", "b", "--dtype", "int8"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert capsys.readouterr().out == ""


# --- what comes out ---


def test_decoders_blends_and_types(quadrate, here, ready, codec):
    cases = [
        ([], None, "uint8"),
        (["--decoder", "realistic"], "realistic", "uint8"),
        (
            ["--blend", "faithful=.3", "realistic=.7", "--dtype", "float32"],
            {"faithful": 0.3, "realistic": 0.7},
            "float32",
        ),
        (["--blend", "realistic=1"], {"realistic": 1.0}, "uint8"),
    ]
    for flags, decoder, dtype in cases:
        assert (
            quadrate(
                "decompress", "a.quad", "-o", "deep/x.npy", "--codec", "c.st", "--overwrite", *flags
            )
            == "deep/x.npy: 60 samples of 1x8x8\n"
        )
        found = np.load("deep/x.npy")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, codec.decompress(ready, decoder, dtype=dtype))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (":", slice(None)),
        ("10:20", slice(10, 20)),
        ("7", slice(7, 8)),
        ("-1", slice(-1, None)),
        ("-3:", slice(-3, None)),
        (":5", slice(5)),
        ("::11", slice(None, None, 11)),
        ("50:2:-7", slice(50, 2, -7)),
        ("55:1000", slice(55, 1000)),
    ],
)
def test_samples(quadrate, here, ready, codec, text, part):
    quadrate("decompress", "a.quad", "-o", "x.npy", "--codec", "c.st", f"--samples={text}")
    np.testing.assert_array_equal(np.load("x.npy"), codec.decompress(ready)[part])
    quadrate("decompress", "a.quad", "-o", "folder", "--codec", "c.st", f"--samples={text}")
    numbers = range(60)[part]
    assert tree(here / "folder") == sorted(
        f"{number:06d}.png" for number in numbers
    )  # pictures keep their numbers
    for number, expected in zip(numbers, codec.decompress(ready)[part], strict=True):
        with Image.open(f"folder/{number:06d}.png", formats=FORMATS) as picture:
            assert (np.asarray(picture) == expected[0]).all()


HOSTILE = [
    "../up.png",
    "../../../../../../../../tmp/quadrate-hostile.png",
    "/etc/passwd",
    "/tmp/quadrate-hostile",
    "a/../../b.png",
    "a/./b.png",
    "a//b.png",
    "..",
    ".",
    "",
    "/",
    "//",
    "...",
    " ",
    "C:\\Windows\\system32\\x.png",
    "\\\\server\\share\\x",
    "..\\..\\up.png",
    "x",
    "x",
    "x.png",
    "x.jpg",
    "X.png",
    "x.png/y.png",
    "x/y.png",
    "x/y.png/z",
    "CON",
    "nul.png",
    "~/.bashrc",
    ".bashrc",
    "-rf",
    "a" * 3000,
    "ö" * 2000,
    "/".join(["d"] * 2000),
    "a:b",
    "a*b?.png",
    "000000",
    "000041.png",
    "x-000018",
    "good/one.png",
    "good/two.tar.gz",
    "naïve/猫.png",
    "fork.png",
    "%2e%2e/x.png",
    "$(touch y)",
]


def test_hostile_names_stay_in_the_folder(quadrate, here, codec, images):
    count = len(HOSTILE)
    compress(codec, [Batch(images[:count], None, HOSTILE)], here / "a.quad", chunk=5)
    before = tree(here)
    quadrate("decompress", "a.quad", "-o", "deep/out", "--codec", "c.st")
    after = tree(here)
    assert [name for name in after if not name.startswith("deep/out/")] == before
    assert not list(Path("/tmp").glob("quadrate-hostile*"))
    files = tree(here / "deep" / "out")
    assert len(files) == count and all(name.endswith(".png") for name in files)
    assert {
        "good/one.png",
        "good/two.tar.gz.png",
        "naïve/猫.png",
        "fork.png",
        "-rf.png",
        "up.png",
        "passwd.png",
    } <= set(files)
    assert {"x.png", "x-000018.png"} <= set(files)  # names that clash get numbers
    decoded = {image.tobytes() for image in codec.decompress(here / "a.quad")}
    found = set()
    for name in files:
        with Image.open(here / "deep" / "out" / name, formats=FORMATS) as picture:
            found.add(np.asarray(picture)[None].tobytes())
    assert found == decoded


@given(
    st.text(
        alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("/\\.:~ \0"),
        max_size=60,
    )
)
def test_no_name_leads_out_of_the_folder(name):
    parts = safe_parts(name)
    if parts is None:
        return
    folders, stem = parts
    for part in (*folders, f"{stem}.png"):
        assert (
            part not in ("", ".", "..")
            and not set(part) & set('/\\:\0\n<>"|?*')
            and len(part.encode()) <= 110
            and not part.startswith(".")
        )
    root = Path("/root/of/all")
    path = Path(os.path.normpath(root.joinpath(*folders, f"{stem}.png")))
    assert root in path.parents


def test_only_gray_and_rgb_become_pictures(quadrate, here):
    five = make(shape=(5, 4, 4), seed=1)
    five.save("five.st")
    five.compress(np.zeros((2, 5, 4, 4), np.uint8), to="a.quad")
    line = quadrate("decompress", "a.quad", "-o", "x", "--codec", "five.st", status=1)
    assert (
        line
        == "PNG files hold 1 or 3 channels; these images are (5, 4, 4) (C, H, W): give an output"
        " that ends in .npy"
    )
    quadrate("decompress", "a.quad", "-o", "x.npy", "--codec", "five.st")
    assert np.load("x.npy").shape == (2, 5, 4, 4)


def test_damage_half_way_keeps_what_came_before(quadrate, here, ready):
    data = bytearray(ready.read_bytes())
    data[len(data) // 2] ^= 1
    ready.write_bytes(data)
    line = quadrate("decompress", "a.quad", "-o", "x.npy", "--codec", "c.st", status=1)
    assert "a.quad: chunk " in line and not (here / "x.npy").exists()
    assert quadrate("decompress", "a.quad", "-o", "folder", "--codec", "c.st", status=1) == line
    assert 7 <= len(tree(here / "folder")) < 60


# --- inspect and verify ---


def test_inspect(quadrate, here, ready, codec):
    facts = json.loads(quadrate("inspect", "a.quad", "--json", "--codec", "c.st"))
    assert (
        facts["samples"] == 60
        and facts["shape"] == [1, 8, 8]
        and facts["seed"] == 2
        and facts["side_data"] == ["labels"]
    )
    assert facts["layers"] == [{"identity": codec.identities[0].hex(), "symbols_per_sample": 2}]
    assert facts["chunks"] == 9 and facts["largest_chunk_samples"] == 7
    known = {"rate_bound_bits": codec.rate_bound_bits, "familiar_samples": None}
    assert facts["codec"] == {
        "name": "c.st",
        "layers": 1,
        "decoders": ["faithful", "realistic"],
        **known,
    }
    with Reader(ready) as reader:
        payload = sum(len(reader.read(chunk).payloads[0]) for chunk in range(9))
    size = facts["bytes"]
    assert (
        size["payloads"] == [payload]
        and size["ignored"] == 0
        and size["total"] == ready.stat().st_size
    )
    assert (
        sum(value for name, value in size.items() if name not in ("payloads", "total")) + payload
        == size["total"]
    )
    assert facts["rate_bits_per_sample"] == 8 * size["total"] / 60

    text = quadrate("inspect", "a.quad", "--codec", "c.st")
    assert (
        text.splitlines()[0] == "a.quad: 60 samples of 1x8x8, seed 2"
        and "chunks: 9, of up to 7 samples" in text
    )
    assert (
        "codec: c.st reads it; bound sum log2 L = 3.5850 bits a sample; decoders faithful,"
        " realistic" in text
    )
    assert f"whole file{size['total']:22d}{facts['rate_bits_per_sample']:16.4f}" in text.replace(
        "payload of layer 0", ""
    )
    assert "codec: none in the package reads it" in quadrate("inspect", "a.quad")
    make(seed=9).save("other.st")
    assert "codec: other.st does not read it" in quadrate(
        "inspect", "a.quad", "--codec", "other.st"
    )


def test_inspect_reads_no_payload(quadrate, here, ready):
    data = bytearray(ready.read_bytes())
    with Reader(ready) as reader:
        payload = reader.read(0).payloads[0]
    place = bytes(data).index(payload)
    data[place] ^= 1
    ready.write_bytes(data)
    assert "60 samples" in quadrate("inspect", "a.quad")
    assert (
        quadrate("verify", "a.quad", status=1)
        == "a.quad: chunk 0 at byte 65: the checksum of its payload of layer 0 differs: the file is"
        " damaged"
    )


def test_verify(quadrate, here, ready):
    out = quadrate("verify", "a.quad")
    assert (
        out
        == "a.quad: whole: 60 samples in 9 chunks; checksums hold; nothing was decoded: no codec in"
        " the package reads it, give one with --codec\n"
    )
    assert (
        quadrate("verify", "a.quad", "--codec", "c.st")
        == "a.quad: whole: 60 samples in 9 chunks; checksums hold and all layers decode with c.st\n"
    )
    make(seed=9).save("other.st")
    assert quadrate("verify", "a.quad", "--codec", "other.st", status=1).startswith(
        "a.quad was written by another codec"
    )
    whole = ready.read_bytes()
    for place in range(0, len(whole), 37):
        ready.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        quadrate("verify", "a.quad", status=1)


def test_verify_decodes_what_checksums_do_not_show(quadrate, here, codec):
    with Writer.create(
        here / "a.quad", Header(SHAPE, 0, (LayerHeader(codec.identities[0], 2),))
    ) as writer:
        writer.write(ChunkData(50, (b"\xff" * 400,)))
    quadrate("verify", "a.quad")
    assert quadrate("verify", "a.quad", "--codec", "c.st", status=1).startswith(
        "chunk 0, layer 0: the coded stream"
    )


def test_an_append_that_did_not_end_is_said(quadrate, here, ready, codec, images):
    whole = ready.read_bytes()
    np.save("x.npy", images)
    quadrate("compress", "x.npy", "-o", "grown.quad", "--codec", "c.st", "--seed", "2")
    compress(codec, [Batch(images, np.arange(60))], here / "long.quad", seed=2, chunk=7)
    append(codec, [Batch(images, np.arange(60))], here / "long.quad", chunk=20)
    longer = (here / "long.quad").read_bytes()
    assert longer.startswith(whole)
    ready.write_bytes(longer[: len(whole) + 100])
    assert quadrate("verify", "a.quad", "--codec", "c.st").endswith(
        "; 100 bytes at its end do not count: an append that did not end\n"
    )
    assert json.loads(quadrate("inspect", "a.quad", "--json"))["bytes"]["ignored"] == 100
    size = json.loads(quadrate("inspect", "long.quad", "--json"))["bytes"]
    assert size["trailers"] > len(longer) - len(whole) - 60 * 2 - 100 and sum(
        size["payloads"]
    ) + sum(value for name, value in size.items() if name not in ("payloads", "total")) == len(
        longer
    )


# --- the codec that fits ---


@pytest.fixture
def zoo(tmp_path_factory, monkeypatch, codec, codec_file_path) -> dict[str, Path]:
    """Codecs in place of those in the package.

    Of a base, of base and refinement, unfrozen, and the tests' own.
    """
    folder = tmp_path_factory.mktemp("zoo")
    refined = make(levels=((3, 4), (2, 2)), seed=5, freeze=False)
    states = {
        "encoder.0": refined.states["encoder.0"],
        "decoder.faithful": make(seed=6).states["decoder.faithful"],
    }
    base = Codec("compact", SHAPE, ((3, 4),), {"faithful": OperatingPoint((3, 4))}, states).freeze(
        source_of()
    )
    refined.freeze(source_of(), base=base)
    for name, each in (
        ("a-base", base),
        ("b-refined", refined),
        ("c-base-again", base),
        ("d-unfrozen", make(freeze=False)),
        ("e-own", codec),
    ):
        each.save(folder / f"{name}.safetensors")
    found = {path.stem: path for path in sorted(folder.iterdir())}
    monkeypatch.setattr(codec_file, "zoo", lambda: found)
    return found


def test_the_codec_in_the_package_that_fits_is_found(quadrate, here, zoo, ready, codec, images):
    quadrate("decompress", "a.quad", "-o", "x.npy")
    np.testing.assert_array_equal(np.load("x.npy"), codec.decompress(ready))
    assert quadrate("verify", "a.quad").endswith("all layers decode with e-own\n")
    assert "codec: e-own reads it" in quadrate("inspect", "a.quad")
    np.save("x.npy", images)
    for name, read in (("b-refined", "b-refined"), ("a-base", "a-base")):
        quadrate("compress", "x.npy", "-o", "r.quad", "--codec", name, "--overwrite")
        assert json.loads(quadrate("inspect", "r.quad", "--json"))["codec"]["name"] == read
    quadrate("compress", "x.npy", "-o", "r.quad", "--codec", "b-refined", "--overwrite")
    assert "codec: a-base reads 1 of 2 layers" in quadrate("inspect", "r.quad", "--codec", "a-base")
    assert "1 of 2 layers decode with a-base" in quadrate("verify", "r.quad", "--codec", "a-base")
    del zoo["b-refined"]
    assert (
        json.loads(quadrate("inspect", "r.quad", "--json"))["codec"]["name"] == "a-base"
    )  # the base at least
    line = quadrate("decompress", "a.quad", "-o", "y.npy", "--codec", "f-none", status=1)
    assert "a-base, c-base-again, d-unfrozen, e-own come with the package" in line
    del zoo["e-own"]
    line = quadrate("decompress", "a.quad", "-o", "y.npy", status=1)
    wanted = codec.identities[0].hex()
    assert (
        line
        == f"a.quad: no codec in the package reads it (its layer 0 is {wanted}); give the codec"
        " that wrote it with --codec"
    )
    assert not (here / "y.npy").exists()


def test_find_codec(zoo, codec):
    found = find_codec(Header(SHAPE, 0, (LayerHeader(codec.identities[0], 2),)))
    assert found is not None and found[0] == "e-own"
    assert find_codec(Header((1, 4, 16), 0, (LayerHeader(codec.identities[0], 2),))) is None
    assert find_codec(Header(SHAPE, 0, (LayerHeader(bytes(16), 2),))) is None
    zoo["a-base"].write_bytes(b"torn")
    with pytest.raises(QuadrateError, match="a-base.safetensors is not a whole safetensors file"):
        find_codec(Header(SHAPE, 0, (LayerHeader(bytes(16), 2),)))


# --- interruptions, terminals, processes ---


def test_ctrl_c_leaves_nothing(quadrate, here, ready, images, monkeypatch):
    folder_of(images, here / "pictures")
    np.savez("x.npz", images=images, labels=np.arange(60))
    read = inputs.read_image

    def interrupted(path, *args):
        if path.name == "4.tif":
            raise KeyboardInterrupt
        return read(path, *args)

    monkeypatch.setattr(inputs, "read_image", interrupted)
    monkeypatch.setattr(inputs, "_BATCH_PIXELS", 1)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    for flags in ([], ["--chunk", "1"]):
        line = quadrate(
            "compress", "pictures", "-o", "new.quad", "--codec", "c.st", *flags, status=130
        )
        assert line == "interrupted; new.quad is as it was before"
        (here / "pictures" / "z.png").rename(here / "z.png")
        quadrate(
            "compress",
            "pictures",
            "-o",
            "a.quad",
            "--codec",
            "c.st",
            "--overwrite",
            *flags,
            status=130,
        )
        (here / "z.png").rename(here / "pictures" / "z.png")
    monkeypatch.setattr(
        "quadrate.codecs.quad.as_bytes", lambda images: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert (
        quadrate("decompress", "a.quad", "-o", "x.npy", "--codec", "c.st", status=130)
        == "interrupted; x.npy is as it was before"
    )
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_a_terminal_shows_a_bar_that_goes_away(here, codec, images, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    np.save("x.npy", images)
    for arguments, word in (
        (["compress", "x.npy", "-o", "a.quad", "--codec", "c.st", "--chunk", "7"], "compressing"),
        (["decompress", "a.quad", "-o", "y.npy", "--codec", "c.st"], "decompressing"),
        (["verify", "a.quad", "--codec", "c.st"], "verifying"),
    ):
        main(arguments)
        out, err = capsys.readouterr()
        assert word in err and "60/60" in err and "\x1b" not in out and len(out.splitlines()) == 1


def process(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", "from quadrate.cli import main; main()", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def test_a_killed_compress_leaves_no_file_under_its_name(here):
    with (here / "x.npy").open("wb") as file:  # 30 million black images, which take no room on disk
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (30_000_000, 8, 8)}
        )
        file.truncate(file.tell() + 30_000_000 * 64)
    with process(
        "compress", "x.npy", "-o", "a.quad", "--codec", "c.st", "--chunk", "500"
    ) as killed:
        deadline = time.monotonic() + 60
        while (
            sum(path.stat().st_size for path in here.glob(".a.quad.*")) < 1000
            and killed.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        assert killed.poll() is None and list(here.glob(".a.quad.*"))
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL and not (here / "a.quad").exists()


def test_help_names_the_verbs_and_needs_no_coder():
    script = "import sys; from quadrate.cli.verbs import VERBS; print(*VERBS); print(*sys.modules)"
    verbs, modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {"compress", "decompress", "inspect", "verify"} <= set(verbs.split())
    assert "tyro" in modules.split() and "constriction" not in modules.split()
