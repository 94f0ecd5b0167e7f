"""Images in tar archives and in Parquet files, one after another."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from quadrate.errors import QuadrateError
from quadrate.sources.image_files import find_images
from quadrate.sources.images import read_image


def png(value: int, size: int = 4) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((size, size), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


def write_tar(path, members, mode="w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def web(count: int) -> list[tuple[str, bytes]]:
    """A WebDataset of images whose pixels are 3 times their numbers, and labels from -1 on."""
    return [
        each
        for k in range(count)
        for each in (
            (f"a/{k:04d}.cls", f"{k - 1}\n".encode()),
            (f"a/{k:04d}.json", b"{}"),
            (f"a/{k:04d}.png", png(3 * k)),
        )
    ]


def seen(images, start=0, stop=None) -> list[tuple[str, int | None, int]]:
    files = images.part(start, images.count if stop is None else stop)
    return [(each.name, each.label, int(read_image(each.file)[0, 0, 0])) for each in files]


def test_a_tar_gives_its_images_with_their_labels(tmp_path):
    write_tar(tmp_path / "a.tar", web(20))
    labelled = find_images(tmp_path / "a.tar", labels=True)
    expected = [(f"a/{k:04d}.png", k - 1, 3 * k) for k in range(20)]
    assert labelled.count == 20 and labelled.classes is None
    assert seen(labelled) == expected and seen(labelled, 5, 9) == expected[5:9]
    plain = find_images(tmp_path / "a.tar", labels=False)
    assert seen(plain, 18) == [(name, None, value) for name, _, value in expected[18:]]


def test_other_members_of_a_tar_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("d.png", tarfile.DIRTYPE), ("l.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name in ("._x.png", "note.txt", "x" * 200 + ".png", "ö.JPG", "end.txt"):
            member = tarfile.TarInfo(name)
            member.size = len(png(7))
            archive.addfile(member, io.BytesIO(png(7)))
    found = seen(find_images(tmp_path / "a.tar", False))
    assert found == [("x" * 200 + ".png", None, 7), ("ö.JPG", None, 7)]


@pytest.mark.parametrize(
    ("members", "labels", "said"),
    [
        ([("a.txt", b"")], False, "no images; expected files that end in .bmp"),
        ([("a.png", png(1)), ("a.jpg", png(1))], False, "a.png and a.jpg are images of one sample"),
        ([("a.png", png(1)), ("b.cls", b"1")], True, "a.png has no label; expected a.cls"),
        ([("a\n.png", png(1))], False, "is not a printable name"),
    ],
)
def test_a_tar_that_is_no_set_of_images_is_refused(tmp_path, members, labels, said):
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(QuadrateError, match=said):
        find_images(tmp_path / "a.tar", labels)


def test_a_damaged_tar_is_one_line(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, web(3))
    whole = path.read_bytes()
    for data in (b"", whole[:700], b"\x00" * 2000, whole[:512] + b"x" * 3000):
        path.write_bytes(data)
        with pytest.raises(QuadrateError) as caught:
            seen(find_images(path, True))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole), size=8):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            seen(find_images(path, True))
        except QuadrateError as error:
            assert "\n" not in str(error)
    write_tar(path, [("a.cls", b"one"), ("a.png", png(1))])
    with pytest.raises(QuadrateError, match=r"a.tar: a.cls: a label is a whole number as text"):
        seen(find_images(path, True))
    write_tar(path, [("a.png", b"nothing")])
    with pytest.raises(QuadrateError, match=r"a.tar: a.png: not a readable image"):
        seen(find_images(path, False))
    write_tar(path, web(2), "w:gz")
    with pytest.raises(QuadrateError, match=r"a.tar: not a readable tar archive"):
        find_images(path, False)


def test_a_long_tar_takes_no_more_memory(tmp_path, monkeypatch):
    kept = []
    after = tarfile.TarFile.next

    def watched(self):
        kept.append(len(self.members))
        return after(self)

    write_tar(tmp_path / "a.tar", web(50))
    monkeypatch.setattr(tarfile.TarFile, "next", watched)
    assert find_images(tmp_path / "a.tar", True).count == 50
    assert len(kept) > 150 and max(kept) <= 1


# --- Parquet ---


def write_parquet(path, columns, **options) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, **options)


def test_parquet_files_of_hugging_face_give_their_images(tmp_path):
    images = [{"bytes": png(k), "path": f"{k}.png" if k % 2 else None} for k in range(150)]
    labels = [k % 7 for k in range(150)]
    path = tmp_path / "a.parquet"
    write_parquet(path, {"image": images, "label": labels}, row_group_size=40)
    expected = [(f"{k}.png" if k % 2 else f"{k:08d}", k % 7, k) for k in range(150)]
    found = find_images(path, labels=True)
    assert (
        found.count == 150 and seen(found) == expected and seen(found, 39, 121) == expected[39:121]
    )
    write_parquet(path, {"id": labels, "png": [png(k) for k in range(150)]})
    assert seen(find_images(path, False), 3, 5) == [("00000003", None, 3), ("00000004", None, 4)]


@pytest.mark.parametrize(
    ("columns", "labels", "said"),
    [
        ({"id": [1]}, False, "expected one column of images, .* it has none among 'id'"),
        ({"a": [b"x"], "b": [b"x"]}, False, "it has 'a', 'b' among 'a', 'b'"),
        ({"a": [png(1)], "label": ["cat"]}, True, "no labels; expected a column of integers"),
        ({"a": [b"x"]}, False, "row 0: not a readable image"),
        ({"a": [png(1), None]}, False, "row 1: it has no image"),
    ],
)
def test_a_table_that_is_no_set_of_images_is_refused(tmp_path, columns, labels, said):
    write_parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(QuadrateError, match=said):
        seen(find_images(tmp_path / "a.parquet", labels))


def test_a_damaged_parquet_file_is_one_line(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, {"a": [png(k) for k in range(9)]})
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for count in (*[4] * 40, None, 9):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole), size=count or 0):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged if count else whole[:-9])
        try:
            seen(find_images(path, False))
        except QuadrateError as error:
            assert "\n" not in str(error)


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(QuadrateError, match=r"missing: pip install 'quadrate\[parquet\]'"):
        find_images(tmp_path / "a.parquet", False)
