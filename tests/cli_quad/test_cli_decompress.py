"""`quadrate decompress`: decoders, blends, parts, hostile names, and refusals."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cli_parts import tree
from codecs_made import make
from quadrate.cli import main
from quadrate.cli.pictures import safe_parts
from quadrate.codecs import Batch, compress
from quadrate.sources.images import FORMATS


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
    assert "folder has no manifest.json" in quadrate(verb, "folder", *output, status=1)
    assert not (here / "x.npy").exists()


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
        "pictures hold bytes; --dtype float32 needs an output that ends in .npy",
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
