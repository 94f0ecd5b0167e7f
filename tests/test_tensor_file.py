"""Tensors on disk: what is read is what was written, or nothing."""

import json
from pathlib import Path

import pytest
import torch

from quadrate.core.tensor_file import read_metadata, read_tensors, write_tensors
from quadrate.errors import QuadrateError

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).view(2, 3),
    "b": torch.tensor([1, 2], dtype=torch.uint16),
    "c": torch.tensor(3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "x.safetensors", TENSORS, {"format": "test-2", "more": "é"})
    return tmp_path / "x.safetensors"


def read(path: Path):
    return read_tensors(path, "a test's", ["test-2"], ["test-1"])


def test_gives_back_what_was_written(path):
    metadata, tensors = read(path)
    assert metadata == {"format": "test-2", "more": "é"}
    assert tensors.keys() == TENSORS.keys() and all(
        torch.equal(tensors[name], TENSORS[name]) for name in TENSORS
    )
    assert tensors["b"].dtype == torch.uint16 and tensors["c"].shape == ()
    assert read_metadata(path)["format"] == "test-2"


def test_every_flipped_bit_is_found(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for place in [*range(0, start, 3), *range(start, len(data))]:
        for bit in (0, 6):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            with pytest.raises(QuadrateError, match="x.safetensors"):
                read(path)


def test_what_is_read_does_not_change_with_the_file(path):
    _, tensors = read(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert torch.equal(tensors["a"], TENSORS["a"])


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([float("nan")]),
        torch.tensor([float("inf")]),
        torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(1, dtype=torch.complex64),
    ],
)
def test_numbers_that_quadrate_does_not_write_are_refused(tmp_path, tensor):
    write_tensors(tmp_path / "x", {"a": tensor}, {"format": "test-2"})
    with pytest.raises(QuadrateError, match="damaged: tensor 'a'"):
        read(tmp_path / "x")


def test_older_formats_are_read_without_a_digest_and_others_not(tmp_path):
    from safetensors.torch import save_file

    for form, read_it in (("test-1", True), ("test-2", False), ("test-3", False)):
        save_file({"a": torch.ones(2)}, tmp_path / "x", {"format": form})
        if read_it:
            assert torch.equal(read(tmp_path / "x")[1]["a"], torch.ones(2))
        else:
            with pytest.raises(QuadrateError, match="no digest|not a test's"):
                read(tmp_path / "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\xff" * 100,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        b"\x08" + b"\0" * 7 + b"[[[[[[[[",
    ],
)
def test_other_bytes_are_no_file_of_tensors(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(QuadrateError):
        read(tmp_path / "x")
    assert read_metadata(tmp_path / "x") == {}


def test_names_with_control_characters_are_refused(tmp_path):
    header = json.dumps(
        {
            "__metadata__": {"format": "test-1"},
            "\x1b[31m": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        }
    ).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(QuadrateError) as error:
        read(tmp_path / "x")
    assert "\x1b" not in str(error.value)


def test_a_missing_file_a_folder_and_a_pipe_are_one_line(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for name, text in (
        ("none", "no such file"),
        (".", "Is a directory"),
        ("pipe", "not a regular file"),
        ("x" * 5000, "too long"),
    ):
        with pytest.raises(QuadrateError, match=text):
            read(tmp_path / name)
