"""`quadrate compress` in a terminal, and interrupted."""

import signal
import time

import numpy as np

from cli_parts import folder_of, process
from quadrate.cli import inputs, main

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
