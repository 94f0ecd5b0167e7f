"""A folder of photographs of any kind to one .quad file and back, by two commands."""

import io
import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import photos_made
from cli_parts import process, save, tree
from photos_made import picture
from quadrate.cli import main, pictures
from quadrate.codecs import PhotoCodec, PhotoFile, Photograph, Rate, photo_quad, zoo_index
from quadrate.codecs.base_codec import BaseCodec
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.sources.images import FORMATS, read_photograph

RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]
CMYK_PROFILE = RGB_PROFILE[:16] + b"CMYK" + RGB_PROFILE[20:]


@pytest.fixture(scope="session")
def photo() -> PhotoCodec:
    return photos_made.codec()


@pytest.fixture(scope="session")
def photo_path(photo, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "p.st"
    photo.save(path)
    return path


@pytest.fixture
def here(here, photo_path) -> Path:
    (here / "p.st").symlink_to(photo_path)
    return here


@pytest.fixture
def zoo(tmp_path_factory, monkeypatch, photo) -> None:
    """The codec as if it came with the package."""
    folder = tmp_path_factory.mktemp("zoo")
    photo.save(folder / "photo.safetensors")
    monkeypatch.setattr(zoo_index, "FOLDER", folder)
    zoo_index.write_index(BaseCodec.load)


def a_persons_folder(root: Path) -> dict[str, np.ndarray]:
    """Pictures of every kind; what each shows, upright, by its name without ending."""
    shown = {
        "one": picture(1, 1),
        "row": picture(1, 90, seed=1),
        "column": picture(70, 1, seed=2),
        "holiday/beach": picture(17, 31, seed=3),
        "holiday/phone": picture(48, 64, seed=4),
        "holiday/2019/scan": picture(40, 33, seed=5),
        "print/cmyk": picture(48, 32, seed=6),
        "print/palette": picture(32, 48, seed=7),
        "gray/plain": picture(33, 47, channels=1, seed=8),
        "gray/deep": picture(20, 64, channels=1, seed=9),
        "cut out": picture(64, 48, seed=10),
    }
    images = {
        name: Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        for name, pixels in shown.items()
    }
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    for name in ("one", "row", "column"):
        images[name].save(root / f"{name}.png")
    images["holiday/beach"].save(root / "holiday/beach.PNG", icc_profile=RGB_PROFILE)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    images["holiday/phone"].rotate(90, expand=True).save(
        root / "holiday/phone.jpg", quality=97, exif=turned, icc_profile=RGB_PROFILE
    )
    images["holiday/2019/scan"].save(root / "holiday/2019/scan.tif")
    images["print/cmyk"].convert("CMYK").save(
        root / "print/cmyk.jpeg", quality=97, icc_profile=CMYK_PROFILE
    )
    palette = images["print/palette"].quantize(32)
    palette.save(root / "print/palette.gif")
    shown["print/palette"] = np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    images["gray/plain"].save(root / "gray/plain.webp", lossless=True)
    images["gray/plain"].save(root / "gray/plain.png", icc_profile=GRAY_PROFILE)
    (root / "gray/plain.webp").unlink()
    deep = shown["gray/deep"][0].astype(np.uint16) * 257
    Image.fromarray(deep).save(root / "gray/deep.png")
    alpha = np.full((64, 48), 255, np.uint8)
    alpha[:20] = 0
    images["cut out"].putalpha(Image.fromarray(alpha))
    images["cut out"].save(root / "cut out.png")
    shown["cut out"] = shown["cut out"].copy()
    shown["cut out"][:, :20] = 255  # white shows through
    (root / "notes.txt").write_text("no picture")
    return shown


def opened(path: Path) -> tuple[np.ndarray, bytes]:
    with Image.open(path, formats=FORMATS) as image:
        pixels = np.asarray(image)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return pixels, image.info.get("icc_profile") or b""


def test_a_persons_folder_goes_in_and_comes_out(quadrate, here, zoo):
    shown = a_persons_folder(here / "mine")
    said = quadrate("compress", "mine", "-o", "mine.quad", "--codec", "photo", "--quality", "90")
    size = (here / "mine.quad").stat().st_size
    pixels = sum(each[0].size for each in shown.values())
    rate = f"{8 * size / pixels:.4f}"
    assert said == f"mine.quad: 11 photographs, {size} bytes, {rate} bits a pixel\n"
    assert quadrate("decompress", "mine.quad", "-o", "back") == "back: 11 photographs\n"
    assert tree(here / "back") == sorted(f"{name}.png" for name in shown)
    profiles = {}
    for name, original in shown.items():
        decoded, profiles[name] = opened(here / "back" / f"{name}.png")
        assert decoded.shape == original.shape, name
        # The codec of the tests is fitted to eight made pictures; a picture that came out turned
        # or of other colours would be several times further away.
        assert np.abs(decoded.astype(int) - original).mean() < 6, name
    assert profiles.pop("holiday/beach") == profiles.pop("holiday/phone") == RGB_PROFILE
    assert profiles.pop("gray/plain") == GRAY_PROFILE
    assert not any(profiles.values())  # neither made up nor kept where pixels were converted
    assert sorted(path.name for path in here.iterdir()) == [
        *("back", "c.st", "mine", "mine.quad", "p.st")
    ]


@pytest.mark.parametrize(("kind", "ending"), [("jpeg", ".jpg"), ("webp", ".webp")])
def test_other_formats(quadrate, here, photo, kind, ending):
    save(picture(33, 50), here / "in/a.png")
    save(picture(20, 20, channels=1, seed=1), here / "in/b/c.png")
    quadrate("compress", "in", "-o", "a.quad", "--codec", "p.st")
    quadrate("decompress", "a.quad", "-o", "out", "--codec", "p.st", "--format", kind)
    assert tree(here / "out") == [f"a{ending}", f"b/c{ending}"]
    with PhotoFile("a.quad", photo) as file:
        for name, expected in zip(("a", "b/c"), file.photographs(), strict=True):
            decoded = read_photograph(here / "out" / f"{name}{ending}")[0]
            away = np.abs(decoded.astype(int) - expected.pixels).mean()
            assert away == 0 if kind == "webp" else 0 < away < 3


def test_what_a_format_does_not_hold_is_said_before_anything_is_made(quadrate, here):
    save(picture(1, 16384), here / "a.png")
    quadrate("compress", "a.png", "-o", "a.quad", "--codec", "p.st", "--quality", "0")
    flags = ("-o", "out", "--codec", "p.st", "--format", "webp")
    assert quadrate("decompress", "a.quad", *flags, status=1) == (
        "WebP files hold up to 16383 pixels a side; an image has 16384 x 1: give --format png"
    )
    assert not (here / "out").exists()
    quadrate("decompress", "a.quad", "-o", "out", "--codec", "p.st")
    assert opened(here / "out/a.png")[0].shape == (3, 1, 16384)


# --- rates ---


def sizes(path: str) -> list[int]:
    """The bytes of each photograph's payloads."""
    with Reader(path) as reader:
        return [sum(map(len, reader.read(chunk).payloads)) for chunk in range(len(reader.index))]


def test_rates(quadrate, here, photo):
    photographs = [picture(90, 120, seed=seed) for seed in (20, 21)]
    for number, pixels in enumerate(photographs):
        save(pixels, here / f"in/{number}.png")
    names = [f"{number}.png" for number in range(2)]
    for flags, rate in (
        ([], Rate(quality=50)),
        (["--quality", "50"], Rate(quality=50)),
        (["--bpp", "1.5"], Rate(bits_per_pixel=1.5)),
        (["--size", "2kB"], Rate(size=2000)),
        (["--size", "1.5 KiB"], Rate(size=1536)),
        (["--size", "1800"], Rate(size=1800)),
        (["--psnr", "33"], Rate(psnr=33)),
    ):
        quadrate("compress", "in", "-o", "a.quad", "--codec", "p.st", "--overwrite", *flags)
        target = io.BytesIO()
        given = [Photograph(*each) for each in zip(photographs, names, strict=True)]
        photo_quad.compress(photo, given, target, rate)
        assert (here / "a.quad").read_bytes() == target.getvalue(), flags
        for bytes_, pixels in zip(sizes("a.quad"), photographs, strict=True):
            if rate.bits_per_pixel:
                assert 8 * bytes_ <= 1.5 * pixels[0].size
            if rate.size:
                assert bytes_ <= rate.size


REFUSED = [
    (["--quality", "50", "--bpp", "1"], "give one of --quality, --bpp, --size and --psnr; got"),
    (["--quality", "101"], "a quality is 0 to 100; got 101"),
    (["--quality", "nan"], "a quality is 0 to 100; got nan"),
    (["--bpp", "0"], "bits_per_pixel is a positive number; got 0"),
    (["--size", "much"], "--size takes a number of bytes, such as 100000, 100kB or 97KiB; got"),
    (["--size", "-5kB"], "--size takes a number of bytes"),
    (["--size", "5 parsecs"], "--size takes a number of bytes"),
    (["--size", "0"], "size is a positive number; got 0"),
    (["--size", "9"], "a.png does not fit into 9 bytes: with the coarsest step it takes"),
    (["--psnr", "99"], "a.png does not reach 99.0 dB: with the finest step it reaches"),
    (["--chunk", "5"], "p.st is a codec of photographs, each of which is a chunk; leave --chunk"),
    (["--strict"], "p.st is a codec of photographs, to which none is unlike its own; leave --st"),
    (["--labels"], "in/a.png: it is not in a class folder, so it has no label"),
    (["--append"], "no such file: a.quad; there is nothing to append to"),
    (["--seed", "-1"], "header: dither seed is -1"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_compress_refuses(quadrate, here, flags, message):
    save(picture(30, 40), here / "in/a.png")
    line = quadrate("compress", "in", "-o", "a.quad", "--codec", "p.st", *flags, status=1)
    assert line.startswith(message)
    assert tree(here) == ["c.st", "in/a.png", "p.st"]


def test_rates_are_of_photographs(quadrate, here, images):
    np.save("x.npy", images)
    for flags, given in ((["--quality", "5"], "--quality"), (["--size", "5kB"], "--size")):
        line = quadrate("compress", "x.npy", "-o", "a.quad", "--codec", "c.st", *flags, status=1)
        assert line == f"c.st is not a codec of photographs, and has one rate; leave {given} out"


BROKEN = [
    ("torn.png", "torn.png: not a readable image ("),
    ("torn.jpg", "torn.jpg: not a readable image ("),
    ("text.png", "text.png: not a readable image: its contents are not one of PNG, JPEG"),
    ("a.npy", "a.npy: a codec of photographs takes folders and image files"),
    ("note.txt", "note.txt: a codec of photographs takes folders and image files"),
    ("nothing.png", "nothing.png: no such file or folder"),
    ("mnist:test", "mnist:test: no such file or folder"),
    ("empty", "empty: no images"),
    (None, "name at least one folder of photographs, or photograph"),
]


@pytest.mark.parametrize(("name", "message"), BROKEN)
def test_pictures_that_cannot_be_read(quadrate, here, name, message):
    save(picture(64, 64), here / "good.png")
    save(picture(64, 64), here / "good.jpg")
    for ending in ("png", "jpg"):
        whole = (here / f"good.{ending}").read_bytes()
        (here / f"torn.{ending}").write_bytes(whole[: len(whole) // 2])
    (here / "text.png").write_text("hello")
    (here / "note.txt").write_text("hello")
    np.save("a.npy", picture(64, 64))
    (here / "empty").mkdir()
    before = tree(here)
    given = ["good.png", name] if name else []
    line = quadrate("compress", *given, "-o", "a.quad", "--codec", "p.st", status=1)
    assert line.startswith(message) and tree(here) == before
    quadrate("compress", "good.png", "-o", "a.quad", "--codec", "p.st")
    whole = (here / "a.quad").read_bytes()
    flags = ["-o", "a.quad", "--codec", "p.st", "--append"]
    assert quadrate("compress", *given, *flags, status=1) == line
    assert (here / "a.quad").read_bytes() == whole


# --- appending, labels ---


def test_append_and_labels(quadrate, here, photo):
    for number, name in enumerate(("cat/1", "cat/2", "dog/1")):
        save(picture(20 + number, 30, seed=number), here / f"in/{name}.png")
    quadrate(
        *("compress", "in", "-o", "a.quad", "--codec", "p.st", "--labels", "--seed", "3"),
        *("--quality", "70"),
    )
    said = quadrate("compress", "in", "-o", "a.quad", "--codec", "p.st", "--append", "--bpp", "2")
    size, pixels = (here / "a.quad").stat().st_size, 2 * 30 * (20 + 21 + 22)
    assert said == (
        f"a.quad: 3 photographs added; 6 photographs, {size} bytes, {8 * size / pixels:.4f} bits a"
        " pixel\n"
    )
    with PhotoFile("a.quad", photo) as file:
        sides = [file.side(number) for number in range(6)]
        assert file.reader.header.seed == 3
    assert [side.labels[0] for side in sides] == [0, 0, 1] * 2
    assert [side.names[0] for side in sides] == ["cat/1.png", "cat/2.png", "dog/1.png"] * 2
    quadrate("decompress", "a.quad", "-o", "out", "--codec", "p.st")  # names that clash
    assert tree(here / "out") == sorted(
        f"{name}{again}.png"
        for name, number in (("cat/1", 3), ("cat/2", 4), ("dog/1", 5))
        for again in ("", f"-{number:06d}")
    )
    line = quadrate(
        "compress", "in/cat/1.png", *"-o a.quad --codec p.st --append".split(), status=1
    )
    assert line.startswith("in/cat/1.png: an image alone has no label")
    unnamed = [Photograph(picture(5, 5))]
    photo_quad.compress(photo, unnamed, here / "b.quad", Rate(quality=50))
    quadrate("compress", "in", "-o", "b.quad", "--codec", "p.st", "--append")
    quadrate("decompress", "b.quad", "-o", "numbers", "--codec", "p.st")
    assert tree(here / "numbers") == [f"{number:06d}.png" for number in range(4)]


# --- decompress ---


@pytest.fixture
def ready(here, photo) -> Path:
    """A file of five photographs, the last two of one shape."""
    shapes = ((3, 17, 31), (1, 40, 20), (3, 1, 1), (3, 32, 48), (3, 32, 48))
    photographs = [
        Photograph(picture(height, width, channels, seed), f"{seed}.jpg", None, b"")
        for seed, (channels, height, width) in enumerate(shapes)
    ]
    photo_quad.compress(photo, photographs, here / "a.quad", Rate(quality=60))
    return here / "a.quad"


def test_decoders_layers_and_samples(quadrate, here, ready, photo):
    for flags, decoder, layers in (
        ([], None, 2),
        (["--decoder", "plain"], "plain", 2),
        (["--blend", "faithful=.25", "plain=.75"], {"faithful": 0.25, "plain": 0.75}, 2),
        (["--layers", "1"], None, 1),
        (["--layers", "2"], None, 2),
    ):
        out = f"out{len(flags)}{''.join(flags)}"
        quadrate("decompress", "a.quad", "-o", f"{out}/", "--codec", "p.st", *flags)
        with PhotoFile(ready, photo, layers) as file:
            for number, expected in enumerate(file.photographs(decoder=decoder)):
                assert (opened(here / out / f"{number}.png")[0] == expected.pixels).all()
    quadrate("decompress", "a.quad", "-o", "some", "--codec", "p.st", "--samples=-1:0:-2")
    assert tree(here / "some") == ["2.png", "4.png"]


def test_arrays_are_of_one_shape(quadrate, here, ready, photo):
    line = quadrate("decompress", "a.quad", "-o", "x.npy", "--codec", "p.st", status=1)
    assert line == (
        "a.quad holds photographs of 4 shapes; an array has one: give a folder, or --samples of"
        " one shape"
    )
    assert not (here / "x.npy").exists()
    flags = ("-o", "x.npy", "--codec", "p.st", "--samples", "3:", "--overwrite")
    assert quadrate("decompress", "a.quad", *flags) == "x.npy: 2 photographs of 3x32x48\n"
    with PhotoFile(ready, photo) as file:
        expected = np.stack([each.pixels for each in file.photographs(slice(3, None))])
    np.testing.assert_array_equal(np.load("x.npy"), expected)
    quadrate("decompress", "a.quad", *flags, "--dtype", "float32")
    assert np.load("x.npy").dtype == np.float32
    np.testing.assert_allclose(np.load("x.npy"), expected / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--decoder", "sharp"], "no decoder 'sharp'; this codec has faithful, plain"),
        (["--blend", "faithful=.5"], "the weights of a blend are not negative and sum to 1"),
        (["--samples", "9"], "a.quad has samples 0 to 5, the last not included; 9 is none of them"),
        (["--layers", "3"], "a.quad has 2 layers; --layers takes 1 to 2, got 3"),
        (["--layers", "0"], "a.quad has 2 layers; --layers takes 1 to 2, got 0"),
        (["--latents", "-o", "x.npy"], "--latents are not built yet for photographs"),
        (["--format", "webp", "-o", "x.npy"], "--format is of pictures, and needs a folder"),
        (["--codec", "c.st"], "a.quad was written by another codec"),
    ],
)
def test_what_decompress_refuses(quadrate, here, ready, flags, message):
    defaults = {"-o": "out", "--codec": "p.st"}
    more = [word for each in defaults.items() if each[0] not in flags for word in each]
    assert quadrate("decompress", "a.quad", *flags, *more, status=1).startswith(message)
    assert tree(here) == ["a.quad", "c.st", "p.st"] and not (here / "out").exists()


def test_a_codec_of_one_shape_does_not_write_photographs_files(quadrate, here, ready, images):
    np.save("x.npy", images)
    whole = ready.read_bytes()
    line = quadrate("compress", "x.npy", "-o", "a.quad", "--codec", "c.st", "--append", status=1)
    assert line.startswith("a.quad was written by another codec") and ready.read_bytes() == whole


def test_hostile_names_and_profiles(quadrate, here, photo):
    names = ["../up.png", "/etc/passwd", "a/../../b", "CON", "a" * 3000, "x.png", "x.jpg", ""]
    profiles = [b"", b"x", bytes(1 << 22), RGB_PROFILE[:-1], GRAY_PROFILE, CMYK_PROFILE, b"", b""]
    photographs = [
        Photograph(picture(8, 8, seed=i), name, None, profile)
        for i, (name, profile) in enumerate(zip(names, profiles, strict=True))
    ]
    photo_quad.compress(photo, photographs, here / "a.quad", Rate(quality=50))
    before = tree(here)
    for kind in ("png", "jpeg", "webp"):
        quadrate("decompress", "a.quad", "-o", f"d/{kind}", "--codec", "p.st", "--format", kind)
        files = tree(here / "d" / kind)
        assert len(files) == len(names)
        for name in files:  # a profile that describes no RGB pixels is not written
            assert read_photograph(here / "d" / kind / name)[1] == b""
            assert opened(here / "d" / kind / name)[1] == b""
    assert [name for name in tree(here) if not name.startswith("d/")] == before


def test_the_code_in_the_documentation(here, photo):
    page = (Path(__file__).parents[2] / "docs" / "photographs.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "photographs.md", "exec"), names)
    names["there_and_back"](photo, "a.quad")


# --- interruptions ---


def test_ctrl_c_leaves_nothing_half(quadrate, here, ready, monkeypatch):
    for number in range(3):
        save(picture(20, 20, seed=number), here / f"in/{number}.png")
    read = read_photograph

    def interrupted(path):
        if path.name == "2.png":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr("quadrate.cli.photo_files.read_photograph", interrupted)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    for name, flags in (("b.quad", []), ("a.quad", ["--append"]), ("a.quad", ["--overwrite"])):
        line = quadrate("compress", "in", "-o", name, "--codec", "p.st", *flags, status=130)
        assert line == f"interrupted; {name} is as it was before"
        assert {path: path.read_bytes() for path in before} == before
        assert len(tree(here)) == len(before)


def test_an_interrupted_folder_goes_on(quadrate, here, ready, monkeypatch):
    write = pictures.PictureFolder.write

    def interrupted(folder, image, number, *more):
        if number == 3:
            raise KeyboardInterrupt
        write(folder, image, number, *more)

    command = ("decompress", "a.quad", "-o", "out", "--codec", "p.st")
    with monkeypatch.context() as patch:
        patch.setattr(pictures.PictureFolder, "write", interrupted)
        line = quadrate(*command, status=130)
    assert line == "interrupted; out holds what was written so far; the same command goes on"
    assert tree(here / "out") == [".quadrate-unfinished.json", "0.png", "1.png", "2.png"]
    for other in (["--layers", "1"], ["--format", "jpeg"], ["--decoder", "plain"]):
        assert quadrate(*command, *other, status=1).startswith("out was begun from another file")
    times = {path: path.stat().st_mtime_ns for path in (here / "out").glob("?.png")}
    quadrate(*command)
    assert tree(here / "out") == [f"{number}.png" for number in range(5)]
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_killed_compress_leaves_no_file_under_its_name(here):
    for number in range(200):
        save(picture(64, 64, seed=number % 3), here / f"in/{number}.png")
    with process("compress", "in", "-o", "a.quad", "--codec", "p.st", "--psnr", "30") as killed:
        deadline = time.monotonic() + 60
        while (
            sum(path.stat().st_size for path in here.glob(".a.quad.*")) < 100
            and killed.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        assert killed.poll() is None and list(here.glob(".a.quad.*"))
        killed.send_signal(signal.SIGTERM)
        out, err = killed.communicate(timeout=60)
    assert (out, err) == ("", "quadrate: interrupted; a.quad is as it was before\n")
    assert killed.returncode == 128 + signal.SIGTERM
    assert not list(here.glob("*a.quad*")) and not list(here.glob(".a.quad*"))


def test_a_terminal_shows_a_bar(here, ready, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    save(picture(9, 9), here / "b.png")
    for arguments, word in (
        (["compress", "b.png", "-o", "b.quad", "--codec", "p.st"], "compressing"),
        (["decompress", "a.quad", "-o", "out", "--codec", "p.st"], "decompressing"),
        (["verify", "a.quad", "--codec", "p.st"], "verifying"),
    ):
        main(arguments)
        out, err = capsys.readouterr()
        assert word in err and re.search("1/1|5/5", err) and len(out.splitlines()) == 1
        assert "\x1b" not in out


# --- inspect and verify ---


def test_inspect(quadrate, here, ready, zoo, photo):
    pixels = 17 * 31 + 40 * 20 + 1 + 2 * 32 * 48
    size = ready.stat().st_size
    facts = json.loads(quadrate("inspect", "a.quad", "--json"))
    assert facts["pixels"] == pixels and facts["rate_bits_per_pixel"] == 8 * size / pixels
    assert facts["codec"]["name"] == "photo" and facts["codec"]["layers"] == 2
    lines = quadrate("inspect", "a.quad").splitlines()
    assert f"pixels: {pixels}, {8 * size / pixels:.4f} bits each" in lines
    assert "codec: photo reads it; decoders faithful, plain" in lines
    assert not any("unlike its own" in line for line in lines)
    base = json.loads(quadrate("inspect", "a.quad", "--json", "--layers", "1"))
    assert base["codec"]["name"] == "photo"
    assert base["first_layers"]["bytes"] == size - facts["bytes"]["payloads"][1]
    named = json.loads(quadrate("inspect", "a.quad", "--json", "--codec", "p.st"))
    assert named["codec"]["name"] == "p.st"
    quadrate("decompress", "a.quad", "-o", "base", "--layers", "1")
    with PhotoFile(ready, photo, 1) as file:
        assert (opened(here / "base/3.png")[0] == file.photograph(3).pixels).all()


def test_inspect_counts_pixels_of_some_thousand_photographs(quadrate, here, ready, monkeypatch):
    monkeypatch.setattr("quadrate.cli.inspect_quad._MOST_CHUNKS", 4)
    facts = json.loads(quadrate("inspect", "a.quad", "--json"))
    assert facts["samples"] == 5 and facts["pixels"] is facts["rate_bits_per_pixel"] is None
    assert "pixels: " not in quadrate("inspect", "a.quad")


def test_verify(quadrate, here, ready, photo):
    whole = "a.quad: whole: 5 samples in 5 chunks; checksums hold and"
    assert "nothing was decoded" in quadrate("verify", "a.quad")
    said = quadrate("verify", "a.quad", "--codec", "p.st")
    assert said == f"{whole} all layers decode with p.st\n"
    said = quadrate("verify", "a.quad", "--codec", "p.st", "--layers", "1")
    assert said == f"{whole} 1 of 2 layers decode with p.st\n"
    data = ready.read_bytes()
    for place in range(0, len(data), 101):
        ready.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        quadrate("verify", "a.quad", "--codec", "p.st", status=1)


def test_damage_half_way_keeps_what_came_before(quadrate, here, ready):
    data = bytearray(ready.read_bytes())
    with Reader(ready) as reader:
        payload = reader.read(4).payloads[1]
    data[bytes(data).index(payload) + 5] ^= 1
    ready.write_bytes(data)
    flags = ("--codec", "p.st", "--samples", "3:")
    line = quadrate("decompress", "a.quad", "-o", "x.npy", *flags, status=1)
    assert line.startswith("a.quad: chunk 4 at byte ") and not (here / "x.npy").exists()
    assert quadrate("decompress", "a.quad", "-o", "out", *flags, status=1) == line
    assert tree(here / "out") == [".quadrate-unfinished.json", "3.png"]


def test_verify_idempotent(quadrate, here, ready, photo):
    said = quadrate("verify", "a.quad", "--codec", "p.st", "--idempotent")
    facts = json.loads(quadrate("verify", "a.quad", "--codec", "p.st", "--idempotent", "--json"))
    again = facts["coded_again"]
    with PhotoFile(ready, photo) as file:
        old, new = [], []
        for number in range(5):
            chunk = file.reader.read(number)
            shape = chunk.shapes[0].tolist()
            _, exponent = photo.coefficients(chunk.payloads, shape)
            decoded = photo.decode(chunk.payloads, shape)
            old += photo.symbols(chunk.payloads, shape)
            new += photo.symbols(photo.encode(decoded, exponent), shape)
    old, new = (np.concatenate([each.ravel() for each in maps]) for maps in (old, new))
    assert again == {
        "symbols": old.size,
        "nonzero": ((old != 0) | (new != 0)).sum(),
        "changed": (old != new).sum(),
    }
    assert 0 < again["changed"] < again["nonzero"] < again["symbols"]
    assert said.endswith(
        f"; decoded and compressed again, {again['changed']} of {again['symbols']} symbols differ"
        f" ({again['nonzero']} of them are not 0 before or after)\n"
    )
    plain = ("verify", "a.quad", "--codec", "p.st", "--idempotent", "--decoder")
    quadrate(*plain, "plain")
    assert quadrate(*plain, "sharp", status=1).startswith("no decoder 'sharp'")


def test_symbols_that_stay_the_same_are_told(quadrate, here, photo):
    """Blocks of one colour each decode to themselves, so nothing differs."""
    gray = np.full((3, 32, 32), 128, np.uint8)
    photo_quad.compress(photo, [Photograph(gray)], here / "a.quad", Rate(quality=0))
    facts = json.loads(quadrate("verify", "a.quad", "--codec", "p.st", "--idempotent", "--json"))
    assert facts["coded_again"]["changed"] == 0 < facts["coded_again"]["symbols"]


def test_what_verify_refuses(quadrate, here, ready, codec, images):
    codec.compress(images, to="b.quad")
    for flags, message in (
        (["a.quad", "--decoder", "plain"], "--decoder is of --idempotent"),
        (["a.quad", "--idempotent"], "a.quad: no codec in the package reads it; --idempotent"),
        (["b.quad", "--idempotent", "--codec", "c.st"], "c.st is not a codec of photographs"),
    ):
        assert quadrate("verify", *flags, status=1).startswith(message)


def test_verify_bounds_its_work_by_declared_pixels(quadrate, here, photo):
    """Few bytes may claim many pixels: those beyond the bound are decoded only if asked for."""
    layers = tuple(LayerHeader(identity, 0) for identity in photo.identities)
    payloads = photo.encode(np.zeros((3, 16, 16), np.uint8), 511)
    small, huge = (np.array([(3, side, side)]) for side in (16, 1 << 13))
    with Writer.create(here / "a.quad", Header((0, 0, 0), 0, layers, ("shapes",))) as writer:
        writer.write(ChunkData(1, payloads, shapes=small))
        writer.write(ChunkData(1, payloads, shapes=huge))
    start = time.monotonic()
    assert quadrate("verify", "a.quad", "--codec", "p.st").endswith(
        "all layers decode with p.st in the first 1 of 2 chunks; the others claim too many pixels"
        " for the file's bytes: --all decodes them, too\n"
    )
    assert time.monotonic() - start < 20
    line = quadrate("verify", "a.quad", "--codec", "p.st", "--all", status=1)
    assert line.startswith("a.quad: chunk 1: ")
