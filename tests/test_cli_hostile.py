"""Every verb with every kind of path that cannot work.

One line, a status that is not 0, and nothing left behind.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photos_made
from codecs_made import make, source_of
from quadrate.cli import main
from quadrate.cli.verbs import VERBS
from quadrate.codecs import Photograph, Rate, photo_quad
from quadrate.errors import QuadrateWarning

HOSTILE = {
    "a file as a folder": "file/below",
    "a long name": "n" * 300,
    "a long path": "/".join(["folder"] * 1000),
    "a loop of links": "loop",
    "a folder": "folder",
    "a pipe": "pipe",
    "two lines": "one\ntwo",
    "escapes": "\x1b[31mred\u2028",
    "not UTF-8": os.fsdecode(b"\xff\xfe"),
    "no name": "",
    "nowhere": "missing/deeper/x",
}
COMMANDS = [
    "evaluate {}",
    "plot {}",
    "report {}",
    "export {}",
    "export {} -o x.safetensors",
    "inspect {}",
    "verify {}",
    "inspect a.quad --codec {}",
    "verify a.quad --codec {}",
    "decompress {} -o x.npy",
    "decompress {} -o x",
    "decompress a.quad --codec {} -o x.npy",
    "decompress a.quad --codec {} -o x",
    "compress {} --codec c.st -o x.quad",
    "compress a.npy --codec {} -o x.quad",
    "compress a.npy --codec c.st -o {}",
    "compress a.npy --codec c.st -o {}/x.jpg",
    "compress a.npy --codec c.st --append -o {}.quad",
    "compress {} --codec p.st -o x.quad",
    "compress a.png --codec p.st -o {}",
    "compress a.png --codec p.st --append -o {}.quad",
    "decompress p.quad --codec p.st -o {}/x.jpg",
    "decompress p.quad --codec {} -o x",
    "verify p.quad --codec {} --idempotent",
    "train demo --data {}",
    "train demo --judge {}",
    "reproduce demo --data {}",
    "judge {}",
    "demo --data {}",
    "demo -o {}",
    "plot run -o {}",
    "report run -o {}",
    "export run -o {}",
    "theory contours --output {}",
    "theory rate discrete {} --distortion .1",
    "app --codec {}",
]


def test_every_verb_is_tried():
    assert {command.split()[0] for command in COMMANDS} == VERBS.keys() - {
        *("recipes", "completion")
    }  # which take no name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that commands name, and with every path that cannot work."""
    folder = tmp_path_factory.mktemp("hostile")
    codec = make(decoders=("faithful",))
    codec.save(folder / "c.st")
    images = source_of(seed=1).train.images[:5].numpy()
    np.save(folder / "a.npy", images)
    codec.compress(images, to=folder / "a.quad")
    photographs = photos_made.codec()
    photographs.save(folder / "p.st")
    photograph = Photograph(photos_made.picture(8, 8))
    photo_quad.compress(photographs, [photograph], folder / "p.quad", Rate(quality=50))
    Image.fromarray(photograph.pixels.transpose(1, 2, 0)).save(folder / "a.png")
    (folder / "file").write_text("hello")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_cannot_work_is_one_line(place, monkeypatch, capsys, command, kind):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main([word.format(HOSTILE[kind]) for word in command.split(" ")])
    err = capsys.readouterr().err
    assert ended.value.code in (1, 2) and "Traceback" not in err
    if ended.value.code == 1:
        assert (
            err.startswith("quadrate: ")
            and err.count("\n") == 1
            and err.endswith("\n")
            and err[:-1].isprintable()
            and len(err) < 2000
        ), err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(13, "Permission denied", "/root/secret"),
            "quadrate: cannot use /root/secret: Permission denied\n",
        ),
        (
            OSError(30, "Read-only file system", "/cdrom/x"),
            "quadrate: cannot use /cdrom/x: Read-only file system\n",
        ),
        (
            OSError(28, "No space left on device"),
            "quadrate: cannot write the output: No space left on device\n",
        ),
        (MemoryError(), "quadrate: not enough memory\n"),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            "quadrate: not enough memory: ",
        ),
        (RecursionError(), "quadrate: a file or an option is nested too deeply\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(place, monkeypatch, capsys, error, said):
    def fail(*_):
        raise error

    monkeypatch.chdir(place)
    monkeypatch.setattr("quadrate.cli.inspect_quad.open_quad", fail)
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "a.quad"])
    err = capsys.readouterr().err
    assert ended.value.code == 1 and err.startswith(said) and err.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("quadrate.cli.inspect_quad.open_quad", lambda file: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "a.quad"])


def test_doubts_are_one_line_each_and_said_once(place, monkeypatch, capsys):
    def doubt(file):
        for text in ("twice", "twice", "on\ntwo lines"):
            warnings.warn(text, QuadrateWarning, stacklevel=2)
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.chdir(place)
    monkeypatch.setattr("quadrate.cli.inspect_quad.open_quad", doubt)
    with pytest.raises(SystemExit):
        main(["inspect", "a.quad"])
    assert capsys.readouterr().err.splitlines() == [
        "quadrate: warning: twice",
        "quadrate: warning: on\\ntwo lines",
        "quadrate: cannot use x: Permission denied",
    ]


@pytest.mark.parametrize("text", [":-", "-", "--", "1:-:2", "²", "1:2:-", "+1", " 1"])
def test_a_slice_that_is_none_is_one_line(place, monkeypatch, capsys, text):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as ended:
        main(["decompress", "a.quad", "-o", "x.npy", f"--samples={text}"])
    err = capsys.readouterr().err
    assert ended.value.code == 1 and "--samples takes start:stop" in err and err.count("\n") == 1
    assert not Path("x.npy").exists()
