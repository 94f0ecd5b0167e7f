"""Arrays from elsewhere.

A hostile .npy or .npz file is one line, whoever reads it, and takes no memory for what it only
claims to hold.
"""

import io
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from codecs_made import make
from quadrate.cli import main
from quadrate.core.array_file import array_names, open_array, read_array
from quadrate.errors import QuadrateError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)


def npy(header: str, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    text = header.encode("latin-1")
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
        + text
        + data
    )


def described(shape: str = "(10, 1, 8, 8)", kind: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


WHOLE = IMAGES.tobytes()
HOSTILE = {
    "brackets": npy(described("[[[")),
    "parentheses": npy(described("(" * 3000 + ")" * 3000)),
    "minus signs": npy(described("-" * 8000 + "1")),
    "negative": npy(described("(-10, 1, 8, 8)")),
    "huge": npy(described("(10000000000000, 1, 8, 8)"), WHOLE),
    "beyond 64 bits": npy(described(f"({10**30}, 1, 8, 8)"), WHOLE),
    "many digits": npy(described(f"({'9' * 6000}, 1, 8, 8)"), WHOLE),
    "many dimensions": npy(described(f"({'1, ' * 200})"), WHOLE),
    "short": npy(described(), WHOLE[:-1]),
    "no shape": npy("{'descr': '|u1', 'fortran_order': False, }", WHOLE),
    "another key": npy(described()[:-3] + "'x': (1,), }", WHOLE),
    "code": npy("__import__('os').abort()", WHOLE),
    "call in the shape": npy(described("(len('ab'), 1, 8, 8)"), WHOLE),
    "null": npy("\0" * 100, WHOLE),
    "objects": npy(described(kind="'|O'"), WHOLE),
    "table": npy(described(kind="[('a', '<f4'), ('b', '<f4')]"), WHOLE),
    "table as text": npy(described(kind="'f4,f4'"), WHOLE),
    "many in one": npy(described(kind="'(1000000,1000000)f4'"), WHOLE),
    "text": npy(described(kind="'<U3'"), WHOLE),
    "dates": npy(described(kind="'<M8[ns]'"), WHOLE),
    "complex": npy(described(kind="'<c16'"), WHOLE),
    "no such type": npy(described(kind="'<f3'"), WHOLE),
    "version 9": npy(described(), WHOLE, version=9),
    "long header": npy(described(), WHOLE, version=2, length=2**32 - 1),
    "header cut short": npy(described(), length=500),
    "empty": b"",
    "magic": b"\x93NUMPY",
    "pickle": b"\x80\x04N.",
}


def stored(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def line(tmp_path, capsys):
    """The one line that a command ends with."""
    make().save(tmp_path / "c.st")

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert (
            caught.value.code == 1 and error.startswith("quadrate: ") and error.count("\n") == 1
        ), error
        return error.removeprefix("quadrate: ")

    return run


def compress(tmp_path: Path, path: Path, *flags: str) -> tuple[str, ...]:
    return (
        "compress",
        str(path),
        "-o",
        str(tmp_path / "out.quad"),
        "--codec",
        str(tmp_path / "c.st"),
        *flags,
    )


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_arrays_are_one_line(tmp_path, line, case):
    path = tmp_path / "a.npy"
    path.write_bytes(HOSTILE[case])
    assert line(*compress(tmp_path, path)).startswith(f"{path}: not a readable array file (")
    packed = stored(
        tmp_path / "a.npz", {"images.npy": HOSTILE[case], "labels.npy": saved(np.arange(10))}
    )
    assert line(*compress(tmp_path, packed, "--labels")).startswith(
        f"{packed}: not a readable array file ("
    )
    labels = stored(tmp_path / "b.npz", {"images.npy": saved(IMAGES), "labels.npy": HOSTILE[case]})
    assert line(*compress(tmp_path, labels, "--labels")).startswith(f"{labels}: ")
    source = stored(
        tmp_path / "c.npz", {"pmf.npy": HOSTILE[case], "distortion.npy": saved(np.eye(2))}
    )
    assert line("theory", "rate", "discrete", source).startswith(
        f"{source}: not a readable array file ("
    )
    (tmp_path / "source").mkdir()
    (tmp_path / "source/pmf.npy").write_bytes(HOSTILE[case])
    assert line("theory", "rate", "discrete", tmp_path / "source").startswith(
        f"{tmp_path}/source/pmf.npy: not a readable array file ("
    )


def test_hostile_archives_are_one_line(tmp_path, line):
    good = saved(IMAGES)
    broken = bytearray(
        stored(tmp_path / "good.npz", {"images.npy": good}, zipfile.ZIP_DEFLATED).read_bytes()
    )
    broken[60:90] = bytes(30)
    (tmp_path / "zlib.npz").write_bytes(broken)
    encrypted = bytearray((tmp_path / "good.npz").read_bytes())
    encrypted[6] |= 1
    encrypted[encrypted.rindex(b"PK\1\2") + 8] |= 1
    (tmp_path / "encrypted.npz").write_bytes(encrypted)
    (tmp_path / "cut.npz").write_bytes(bytes(broken[:-30]))
    stored(tmp_path / "bare.npz", {"images": good})
    stored(tmp_path / "lzma.npz", {"images.npy": good}, zipfile.ZIP_LZMA)
    stored(tmp_path / "bzip2.npz", {"images.npy": good}, zipfile.ZIP_BZIP2)
    stored(tmp_path / "nothing.npz", {})
    for name in ("zlib", "encrypted", "cut", "bare", "lzma", "bzip2", "nothing"):
        path = tmp_path / f"{name}.npz"
        assert line(*compress(tmp_path, path)).startswith(f"{path}: not a readable array file ("), (
            name
        )
        assert str(path) in line("theory", "rate", "discrete", path)
    assert "it holds nothing; expected an array images" in line(
        *compress(tmp_path, tmp_path / "bare.npz")
    )


def test_labels_are_as_many_as_images(tmp_path, line):
    for labels, message in (
        (np.arange(11), "its labels are int64 (11,)"),
        (np.eye(10), "its labels are float64 (10, 10)"),
        (np.array(1), "its labels are"),
    ):
        np.savez(tmp_path / "a.npz", images=IMAGES, labels=labels)
        assert message in line(*compress(tmp_path, tmp_path / "a.npz", "--labels"))


def test_no_memory_is_taken_for_what_is_claimed(tmp_path):
    """A member that says it holds 2 GiB, and packs little."""
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy(described("(1000000, 1, 8, 8)")))
        for _ in range(64):
            member.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_array(path, "images") as array:
        assert array.shape == (10**6, 1, 8, 8) and not array.read(64).any()
    with pytest.raises(QuadrateError, match="2 GiB|takes at most|cut short"):
        path.write_bytes(npy(described(f"({2**33},)"), b"x"))
        read_array(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_pipes_are_not_opened(tmp_path, line):
    import os

    for name in ("a.npy", "a.npz", "a.png"):
        os.mkfifo(tmp_path / name)
        assert (
            line(*compress(tmp_path, tmp_path / name))
            == f"cannot read {tmp_path / name}: it is not a regular file\n"
        )
    assert "it is not a regular file" in line("theory", "rate", "discrete", tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["<u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_come_back_as_numpy_saved_them(tmp_path, kind, order):
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 5, kind, order)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(
        tmp_path / "b.npz",
        first=array,
        second=array[..., 0],
        empty=array[:0],
        single=array[0, 0, 0],
    )
    assert np.array_equal(read_array(tmp_path / "a.npy"), array) and read_array(
        tmp_path / "a.npy"
    ).dtype == array.dtype.newbyteorder("=")
    with np.load(tmp_path / "b.npz") as archive:
        assert array_names(tmp_path / "b.npz") == tuple(archive.files)
        for name in archive.files:
            found = read_array(tmp_path / "b.npz", name)
            assert np.array_equal(found, archive[name]) and found.shape == archive[name].shape


def test_headers_of_other_programs(tmp_path):
    for header in (
        '{"descr":"<f4","fortran_order":False,"shape":(2,)}',
        "{'shape': (2L,), 'fortran_order': False, 'descr': '<f4'}   \n",
    ):
        for version in (1, 2, 3):
            (tmp_path / "a.npy").write_bytes(
                npy(header, np.array([1, 2], "<f4").tobytes(), version)
            )
            assert read_array(tmp_path / "a.npy").tolist() == [1, 2]


def test_sixteen_bit_arrays_are_compressed_as_eight(tmp_path):
    codec = make()
    codec.save(tmp_path / "c.st")
    np.save(tmp_path / "a.npy", IMAGES.astype(np.uint16) * 257)
    main(list(compress(tmp_path, tmp_path / "a.npy")))
    assert (tmp_path / "out.quad").read_bytes() == codec.compress(IMAGES)
