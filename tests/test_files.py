"""Files are whole or not there, and failures are one line."""

import errno
import os
import resource
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch

from quadrate.core.files import read_json, read_rows, write_atomically, write_rows, write_text
from quadrate.errors import QuadrateError


@contextmanager
def room_for(size_bytes: int):
    """A disk that is full after so many bytes, as this process sees it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_rows_come_back(tmp_path):
    path = tmp_path / "deep" / "down" / "rows.jsonl"
    rows = [{"a": 1, "b": "ü\n\u2028"}, {"a": 2.5}]
    write_rows(path, rows)
    assert read_rows(path) == rows and names(path.parent) == ["rows.jsonl"]
    write_rows(path, rows[:1])
    assert read_rows(path) == rows[:1]
    write_text(tmp_path / "x.json", '{"a": [1, null]}')
    assert read_json(tmp_path / "x.json") == {"a": [1, None]}
    assert read_rows(tmp_path / "none.jsonl") == []


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "other").touch()
    write_text(tmp_path / "text", "x")
    write_atomically(
        tmp_path / "tensors", lambda path: safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    )
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}
    assert modes == {name: modes["other"] for name in modes}


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("y" * 100_000),
        lambda path: safetensors.torch.save_file({"a": torch.ones(100_000)}, path),
    ],
    ids=["text", "safetensors"],
)
def test_a_full_disk_is_one_line_and_the_old_file_stands(tmp_path, write):
    path = tmp_path / "file"
    write_text(path, "old")
    with room_for(10_000), pytest.raises(QuadrateError) as caught:
        write_atomically(path, write)
    assert str(caught.value).startswith(f"cannot write {path}: ") and "File too large" in str(
        caught.value
    )
    assert "untouched: make room or choose another folder" in str(caught.value) and "\n" not in str(
        caught.value
    )
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


def test_no_space_left_is_told_as_such(tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(
        QuadrateError,
        match=r"cannot write .*file: No space left on device; what stood there before is untouched",
    ):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        QuadrateError, match=r"cannot write .*file/below/x: (Not a directory|File exists);"
    ):
        write_text(tmp_path / "file" / "below" / "x", "new")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_whatever_else_goes_wrong_while_writing_is_passed_on_and_leaves_nothing(tmp_path, error):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise error

    write_text(tmp_path / "file", "old")
    with pytest.raises(error):
        write_atomically(tmp_path / "file", fail)
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("line", [b"{", b"3", b"", b'{"a": "\xff\xfe"', b"\x00", b"[" * 100_000])
def test_a_damaged_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(
        QuadrateError,
        match=r"rows.jsonl, line 2: not a JSON object; delete the file to have it written anew",
    ):
        read_rows(path)


def test_json_that_is_none_or_not_there_is_one_line(tmp_path):
    with pytest.raises(QuadrateError, match=r"no such file: .*x.json"):
        read_json(tmp_path / "x.json")
    for content in (b"", b"{'a': 1}", b"\xff\xfe\x00"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(
            QuadrateError, match=r"x.json is not JSON; delete it to have it written anew"
        ):
            read_json(tmp_path / "x.json")
    (tmp_path / "folder").mkdir()
    for read in (read_json, read_rows):
        with pytest.raises(QuadrateError, match=r"cannot read .*folder: Is a directory"):
            read(tmp_path / "folder")
