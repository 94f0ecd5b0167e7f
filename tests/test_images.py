"""The one policy for images, docs/data.md.

Whatever an image comes in, folders, data sets and `quadrate compress` see the same pixels.
"""

import ast
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codecs_made import make
from quadrate.cli import main
from quadrate.codecs import QuadFile
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.sources import from_arrays, from_dataset, from_folder
from quadrate.sources.images import FORMATS, fitting_profile, read_image, read_photograph


def gray(height: int = 4, width: int = 6) -> np.ndarray:
    return np.arange(height * width, dtype=np.uint8).reshape(height, width) * 5


def colour(height: int = 4, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def folder_of(path: Path) -> Path:
    """A folder of one class whose ten images are all the one at `path`."""
    root = path.parent / f"{path.stem}-folder"
    (root / "0").mkdir(parents=True)
    for number in range(10):
        (root / "0" / f"{number}{path.suffix}").write_bytes(path.read_bytes())
    return root


class Repeated(torch.utils.data.Dataset):
    """Twelve times the same image, opened anew each time if it is a file."""

    def __init__(self, image, label=0):
        self.image, self.label = image, label

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image = self.image
        if isinstance(image, Path):  # a TIFF by its name, as Pillow then maps it into memory
            image = Image.open(
                image if image.suffix == ".tiff" else io.BytesIO(image.read_bytes()),
                formats=FORMATS,
            )
        return image, self.label


def seen(path: Path) -> np.ndarray:
    """What a folder makes of an image, if a data set of PIL images makes the same of it."""
    there = from_folder(folder_of(path)).train.images[0].numpy()
    data = Repeated(path)
    assert np.array_equal(from_dataset("d", data, data).train.images[0].numpy(), there)
    return there


# --- EXIF ---

TURNS = [
    (2, "FLIP_LEFT_RIGHT"),
    (3, "ROTATE_180"),
    (4, "FLIP_TOP_BOTTOM"),
    (5, "TRANSPOSE"),
    (6, "ROTATE_270"),
    (7, "TRANSVERSE"),
    (8, "ROTATE_90"),
]


@pytest.mark.parametrize("size", [(4, 6), (5, 5)])
@pytest.mark.parametrize(("orientation", "turn"), TURNS)
@pytest.mark.parametrize("form", ["png", "webp", "tiff", "jpeg"])
def test_orientation_is_applied(tmp_path, form, orientation, turn, size):
    picture = Image.fromarray(gray(*size))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{form}"
    picture.save(
        path,
        exif=exif,
        **({"lossless": True} if form == "webp" else {"quality": 100} if form == "jpeg" else {}),
    )
    upright = np.asarray(picture.transpose(Image.Transpose[turn]))
    found = seen(path)
    assert found.shape[1:] == upright.shape and np.abs(found - upright.astype(int)).max() <= (
        3 if form == "jpeg" else 0
    )


def test_damaged_exif_says_nothing(tmp_path):
    Image.fromarray(gray()).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnonsense")
    assert np.array_equal(seen(tmp_path / "a.png")[0], gray())


def test_the_command_line_turns_too(tmp_path):
    codec = make()
    codec.save(tmp_path / "c.st")
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "sideways").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / f"sideways/{number:02}.png", exif=exif)
    main(
        [
            "compress",
            str(tmp_path / "sideways"),
            "-o",
            str(tmp_path / "a.quad"),
            "--codec",
            str(tmp_path / "c.st"),
        ]
    )
    upright = np.ascontiguousarray(np.rot90(images, -1, axes=(2, 3)))
    with QuadFile(tmp_path / "a.quad", codec) as file:
        assert np.array_equal(file.symbols(0), codec.encode(torch.from_numpy(upright)).numpy())
    assert not torch.equal(
        codec.encode(torch.from_numpy(upright)), codec.encode(torch.from_numpy(images))
    )


# --- transparency ---


def png(
    path: Path,
    bits: int,
    kind: int,
    rows: list[bytes],
    key: bytes = b"",
    palette: bytes = b"",
    width: int = 2,
) -> Path:
    """A PNG file written from the format's description.

    Bits a channel, colour type, packed rows, tRNS and PLTE.
    """

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0))]
    parts += [chunk(name, data) for name, data in ((b"PLTE", palette), (b"tRNS", key)) if data]
    parts += [
        chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        chunk(b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    mixed = (values.astype(float) * alpha[..., None] + 255.0 * (255 - alpha[..., None])) / 255
    return np.rint(mixed).astype(np.uint8).transpose(2, 0, 1)


@pytest.mark.parametrize("form", ["png", "webp", "tiff"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_show_white(tmp_path, mode, form):
    values = colour() if mode == "RGBA" else gray()[..., None]
    alpha = np.array([0, 1, 127, 128, 254, 255] * 4, np.uint8).reshape(4, 6)
    if mode == "LA" and form == "webp":
        pytest.skip("WebP has no gray")
    picture = Image.fromarray(np.concatenate([values, alpha[..., None]], -1))
    picture.save(
        tmp_path / f"a.{form}", **({"lossless": True, "exact": True} if form == "webp" else {})
    )
    assert np.array_equal(seen(tmp_path / f"a.{form}"), over_white(values, alpha))


def test_opaque_pixels_stay_as_they_are(tmp_path):
    whole = Image.fromarray(colour())
    whole.save(tmp_path / "a.png")
    whole.convert("RGBA").save(tmp_path / "b.png")
    assert np.array_equal(seen(tmp_path / "a.png"), seen(tmp_path / "b.png"))


PALETTE = bytes([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
KEYED = {
    "gray 8": (8, 0, [b"\x07\x09"], b"\0\x07", b"", [[255, 9]]),
    "gray 4": (4, 0, [b"\x79"], b"\0\x07", b"", [[255, 9 * 17]]),
    "gray 2": (2, 0, [b"\x60"], b"\0\x01", b"", [[255, 170]]),
    "gray 1": (1, 0, [b"\x80"], b"\0\x00", b"", [[255, 255]]),
    "gray 1, white": (1, 0, [b"\x80"], b"\0\x01", b"", [[255, 0]]),
    "gray 16": (16, 0, [b"\x01\x02\x01\x03"], b"\x01\x02", b"", [[255, 1]]),
    "colour 8": (8, 2, [bytes([1, 2, 3, 1, 2, 4])], b"\0\1\0\2\0\3", b"", [[[255] * 3, [1, 2, 4]]]),
    "colour 16": (
        16,
        2,
        [bytes([1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 4, 4])],
        b"\1\1\2\2\3\3",
        b"",
        [[[255] * 3, [1, 2, 4]]],
    ),
    "palette, index": (8, 3, [b"\0\3"], b"\0", PALETTE, [[[255] * 3, [200, 210, 220]]]),
    "palette, bytes": (
        8,
        3,
        [b"\1\3"],
        b"\xff\x80\xff",
        PALETTE,
        [[[147, 152, 157], [200, 210, 220]]],
    ),
    "palette of 2 bits": (2, 3, [b"\x30"], b"\0", PALETTE, [[[255] * 3, [200, 210, 220]]]),
    "palette of grays": (8, 3, [b"\0\1"], b"", bytes([9] * 3 + [8] * 3), [[[9] * 3, [8] * 3]]),
}


@pytest.mark.parametrize("case", KEYED)
def test_png_with_a_transparent_colour(tmp_path, case):
    bits, kind, rows, key, palette, expected = KEYED[case]
    found = seen(png(tmp_path / "a.png", bits, kind, rows, key, palette))
    wanted = np.array(expected, np.uint8)
    assert np.array_equal(found, wanted.reshape(1, 2, -1).transpose(2, 0, 1))


def test_gif_with_a_transparent_index(tmp_path):
    picture = Image.new("P", (2, 2))
    picture.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    picture.putdata([0, 1, 2, 1])
    picture.save(tmp_path / "a.gif", transparency=1)
    assert seen(tmp_path / "a.gif").transpose(1, 2, 0).tolist() == [
        [[250, 0, 0], [255] * 3],
        [[0, 0, 250], [255] * 3],
    ]


# --- depths and modes ---


@pytest.mark.parametrize("form", ["png", "tiff", "pgm"])
def test_sixteen_bits_become_eight(tmp_path, form):
    deep = np.array([[0, 128, 129, 257], [65535, 65407, 65406, 32768]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a.{form}")
    assert seen(tmp_path / f"a.{form}").tolist() == [[[0, 0, 1, 1], [255, 255, 254, 128]]]


def test_sixteen_bits_with_alpha_stay_gray(tmp_path):
    path = png(tmp_path / "a.png", 16, 4, [b"\x10\x10\xff\xff\x20\x20\0\0"])
    assert seen(path).tolist() == [[[16, 255]]]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_sixteen_bit_modes_of_pil(mode):
    kind = {"I;16B": ">u2", "I": "<i4"}.get(mode, "<u2")
    deep = np.array([[0, 257 * 9], [257 * 200, 65535]], kind)
    data = Repeated(Image.frombytes(mode, (2, 2), deep.tobytes()))
    assert from_dataset("d", data, data).test.images[0].tolist() == [[[0, 9], [200, 255]]]


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_sixteen_bit_arrays(convert):
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    data = Repeated(convert(deep))
    assert np.array_equal(
        from_dataset("d", data, data).test.images[0, 0].flatten().numpy(), np.arange(256)
    )
    stack = convert(np.stack([deep] * 12))
    source = from_arrays("a", (stack, np.zeros(12, int)), (stack, np.zeros(12, int)))
    assert np.array_equal(source.train.images[0, 0].flatten().numpy(), np.arange(256))
    with pytest.warns(QuadrateWarning, match="only reach 200: make them uint8 if they are 8 bits"):
        from_arrays(
            "a",
            (np.full((12, 2, 2), 200, np.uint16), np.zeros(12, int)),
            (stack[:, :2, :2], np.zeros(12, int)),
        )


def test_one_bit_and_cmyk_and_first_frames(tmp_path):
    Image.fromarray(gray() > 60).save(tmp_path / "a.png")
    assert np.array_equal(seen(tmp_path / "a.png")[0], np.where(gray() > 60, 255, 0))
    Image.fromarray(colour()).convert("CMYK").save(
        tmp_path / "b.jpg", quality=100, subsampling=0
    )  # Adobe's, inverted
    assert np.abs(seen(tmp_path / "b.jpg").astype(int) - colour().transpose(2, 0, 1)).max() < 12
    frames = [Image.fromarray(gray() + number) for number in range(3)]
    for name in ("c.gif", "d.tif", "e.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert np.array_equal(seen(tmp_path / name)[0], gray())


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.zeros((4, 6), np.float32),
            "gray or colour with 8 bits a channel, or gray with 16; it has floating-point pixels",
        ),
        (np.full((4, 6), 70_000, np.int32), "its pixels span 0..65535; it has pixels"),
        (np.full((4, 6), -1, np.int32), "its pixels span 0..65535; it has pixels"),
    ],
)
def test_pixels_without_an_agreed_range(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    with pytest.raises(QuadrateError, match=message):
        from_folder(folder_of(tmp_path / "a.tiff"))
    data = Repeated(Image.fromarray(pixels))
    with pytest.raises(QuadrateError, match=f"^d, train, sample 0: .*{message}"):
        from_dataset("d", data, data)


# --- hostile files ---


def test_only_the_listed_formats_by_contents(tmp_path, monkeypatch):
    """A file that begins like PostScript would start Ghostscript."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started")
    )
    picture = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n%%EndComments\n%%EOF\n"
    others = {
        "eps": picture,
        "ico": b"\0\0\1\0\1\0" + bytes(60),
        "xbm": b"#define a_width 6\n#define a_height 4\nstatic char a_bits[] = {\n0};",
    }
    make().save(tmp_path / "c.st")
    for kind, data in others.items():
        path = tmp_path / f"{kind}.png"
        path.write_bytes(data)
        with pytest.raises(
            QuadrateError,
            match=f"^{tmp_path}/.*: not a readable image: its contents are not one of PNG, JPEG",
        ):
            from_folder(folder_of(path))
        with pytest.raises(SystemExit):
            main(
                [
                    "compress",
                    str(path),
                    "-o",
                    str(tmp_path / "a.quad"),
                    "--codec",
                    str(tmp_path / "c.st"),
                ]
            )


def test_every_reader_names_the_formats_it_takes():
    """Else Pillow tries all of its own, and a file's contents choose."""
    root = Path(__file__).parent.parent
    sources = [
        path
        for folder in ("src", "tests", "tools", "benchmarks")
        for path in (root / folder).rglob("*.py")
    ]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
                named = any(keyword.arg == "formats" for keyword in node.keywords)
                assert named, f"{path}, line {node.lineno}"


def bomb(path: Path, width: int, height: int) -> Path:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    packed = zlib.compressobj()
    data = b"".join(packed.compress(bytes(1 + width)) for _ in range(height)) + packed.flush()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("size", [(9000, 9000), (10_000, 10_000), (14_000, 14_000)])
def test_large_pictures_are_not_decoded(tmp_path, monkeypatch, size):
    path = bomb(tmp_path / "a.png", *size)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(QuadrateError, match="at most 67108864"):
            from_folder(folder_of(path))
        if size[0] == 9000:  # the others Pillow does not even open without a warning
            with pytest.raises(QuadrateError, match="^d, train, sample 0: .*at most 67108864"):
                from_dataset("d", Repeated(path), Repeated(path))
        with pytest.raises(QuadrateError, match="at most 67108864|its shape is"):
            read_image(path, (1, 28, 28))


def test_a_folder_takes_a_stated_amount_of_memory(tmp_path, monkeypatch):
    for module in ("image_folder", "dataset"):
        monkeypatch.setattr(f"quadrate.sources.{module}.MAX_BYTES", 10 * 24 - 1, raising=False)
    Image.fromarray(gray()).save(tmp_path / "a.png")
    with pytest.raises(
        QuadrateError,
        match="10 images like .*, 1 x 4 x 6, take 240 bytes; a source takes at most 239",
    ):
        from_folder(folder_of(tmp_path / "a.png"))
    with pytest.raises(QuadrateError, match="takes more than 239 bytes"):
        from_dataset("d", Repeated(gray()), Repeated(gray()))


# --- ICC profiles ---


def profile(space: bytes, size: int = 200) -> bytes:
    """The header of a profile of a colour space, and zeros."""
    head = size.to_bytes(4, "big") + bytes(12) + space + bytes(16) + b"acsp"
    return head + bytes(size - len(head))


RGB, GRAY, CMYK = profile(b"RGB "), profile(b"GRAY"), profile(b"CMYK")


@pytest.mark.parametrize(
    ("ending", "mode", "given", "found"),
    [
        ("png", "RGB", RGB, RGB),
        ("jpg", "RGB", RGB, RGB),
        ("tif", "RGB", RGB, RGB),
        ("webp", "RGB", RGB, RGB),
        ("png", "RGBA", RGB, RGB),
        ("png", "P", RGB, RGB),
        ("png", "L", GRAY, GRAY),
        ("png", "LA", GRAY, GRAY),
        ("jpg", "L", GRAY, GRAY),
        ("png", "L", RGB, b""),
        ("png", "RGB", GRAY, b""),
        ("jpg", "CMYK", CMYK, b""),
        ("jpg", "CMYK", RGB, b""),  # it cannot be that of the pixels before they were converted
        ("png", "RGB", b"", b""),
    ],
)
def test_profiles_of_what_pixels_are(tmp_path, ending, mode, given, found):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(colour().transpose(1, 2, 0)).convert(mode).save(path, icc_profile=given)
    pixels, kept = read_photograph(path)
    assert (pixels == read_image(path)).all() and kept == found


def test_profiles_that_are_none():
    assert fitting_profile(RGB, 3) == RGB
    assert fitting_profile(RGB + b"\0", 3) == RGB  # filled up
    large = profile(b"RGB ", 1 << 20)
    assert fitting_profile(large, 3) == large
    for damaged in (
        *(None, "text", b"", b"x", RGB[:127], RGB[:-1], bytes(200)),
        RGB[:36] + b"pcsa" + RGB[40:],
        profile(b"RGB ", (1 << 20) + 1),
        (100).to_bytes(4, "big") + RGB[4:],
    ):
        assert fitting_profile(damaged, 3) == b""


def test_a_photograph_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(QuadrateError, match="a.png: not a readable image: its contents are not"):
        read_photograph(tmp_path / "a.png")
