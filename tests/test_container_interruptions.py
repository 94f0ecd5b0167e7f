"""The .quad container: files are whole or not there, whatever interrupts the writing.

And they are written and read in little memory.
"""

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from containers import CHUNKS, TWO, appended, content, everything, written
from quadrate.coding.container import ChunkData, Header, Reader, Writer
from quadrate.errors import QuadrateError


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def grown(tmp_path) -> tuple[Path, bytes, bytes]:
    """A file, its bytes before and after an append."""
    path = tmp_path / "x.quad"
    path.write_bytes(old := written(TWO, CHUNKS[:2]))
    return path, old, appended(path, CHUNKS[2:])


def test_an_append_interrupted_at_any_byte_leaves_the_old_file_and_the_next_one_works(
    grown,
):
    path, old, new = grown
    before = content(old)
    for length in range(len(old), len(new)):
        path.write_bytes(new[:length])
        with Reader(path) as reader:
            reader.verify()
            assert everything(reader) == before and reader.ignored_bytes == length - len(old)
        with Writer.append(path):
            pass
        assert path.stat().st_size == length  # nothing to put in its place
        if length % 5 == 1:
            assert appended(path, CHUNKS[2:]) == new


def test_a_file_cut_at_any_byte_is_unfinished_and_says_how_many_chunks_are_whole():
    data = written(TWO, CHUNKS)
    header, sizes = len(TWO.pack()), [60 + len(b"".join(chunk.payloads)) for chunk in CHUNKS]
    ends = np.cumsum([header, *sizes])
    for length in range(len(data)):
        with pytest.raises(QuadrateError) as caught:
            Reader(data[:length])
        message = str(caught.value)
        if length == 0:
            assert "is empty" in message
        elif length < header:
            assert f"the data ends within its header, after {length} bytes" in message
        else:
            assert (
                f"was not finished, or is cut short: it has {(ends <= length).sum() - 1} whole"
                " chunks, and no trailer" in message
            )


def test_an_empty_file_grows_and_an_interruption_leaves_it_empty(tmp_path):
    path = tmp_path / "x.quad"
    path.write_bytes(old := written(TWO, []))
    new = appended(path, CHUNKS)
    for length in range(len(old), len(new)):
        assert content(new[:length]) == content(old)
    assert content(new) == content(written(TWO, CHUNKS))


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 100, b"CHNK" + b"\0" * 100, b"TRLR" + b"x" * 8, b"x"],
    ids=["zeros", "chunk", "trailer", "byte"],
)
def test_what_is_no_beginning_of_an_append_is_damage_and_the_error_says_how_to_keep_the_rest(
    tmp_path, tail
):
    whole = written(TWO, CHUNKS)
    (tmp_path / "x.quad").write_bytes(whole + tail)
    for use in (Reader, lambda path: Writer.append(path).__enter__()):
        with pytest.raises(
            QuadrateError,
            match=(
                f"x.quad: .* at byte {len(whole)}.* the first 6 samples, up to byte {len(whole)},"
                " are whole: cut the file there"
            ),
        ):
            use(tmp_path / "x.quad")
    (tmp_path / "x.quad").write_bytes((tmp_path / "x.quad").read_bytes()[: len(whole)])
    assert content(tmp_path / "x.quad") == content(whole)


@contextmanager
def room_for(size_bytes: int):
    """A disk that is full after so many bytes, as far as this process can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullDisk(io.RawIOBase):
    """Takes so many bytes, the last write in part, as a real disk does."""

    def __init__(self, room: int) -> None:
        self.data, self.room = b"", room

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        piece = bytes(data[: self.room - len(self.data)])
        if not piece:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.data += piece
        return len(piece)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, grown):
    path, old, new = grown
    for room in range(0, len(old), 7):
        with (
            room_for(room),
            pytest.raises(
                QuadrateError,
                match=r"cannot write .*y.quad: File too large; make room, or choose another place",
            ),
        ):
            with Writer.create(tmp_path / "y.quad", TWO) as writer:
                writer.write(CHUNKS[0])
                writer.write(CHUNKS[1])
        assert listing(tmp_path) == ["x.quad"]
    for room in range(len(old), len(new), 7):
        path.write_bytes(old)
        with (
            room_for(room),
            pytest.raises(QuadrateError, match="File too large"),
            Writer.append(path) as writer,
        ):
            writer.write(CHUNKS[2])
        assert path.read_bytes() == old
    for room in range(len(old)):
        disk = FullDisk(room)
        with (
            pytest.raises(QuadrateError, match="cannot write the output: No space left on device"),
            Writer.create(disk, TWO) as writer,
        ):
            writer.write(CHUNKS[0])
            writer.write(CHUNKS[1])
        assert disk.data == old[:room]
        with pytest.raises(QuadrateError):
            Reader(disk.data)
    disk = FullDisk(len(old))
    with Writer.create(disk, TWO) as writer:
        writer.write(CHUNKS[0])
        writer.write(CHUNKS[1])
    assert disk.data == old


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_is_written_to_as_an_open_file_and_never_replaced():
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(QuadrateError, match=r"cannot write /dev/full: No space left on device"),
    ):
        with Writer.create(full, TWO):
            pass
    with (
        pytest.raises(QuadrateError, match=r"cannot write /dev/full: it is not a regular file"),
        Writer.create(Path("/dev/full"), TWO),
    ):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, FileNotFoundError])
def test_whatever_goes_wrong_meanwhile_is_passed_on_and_the_files_are_as_before(
    tmp_path, grown, error
):
    path, old, _ = grown
    path.write_bytes(old)
    for write in (
        lambda: Writer.create(path, TWO),
        lambda: Writer.create(tmp_path / "y.quad", TWO),
        lambda: Writer.append(path),
    ):
        with pytest.raises(error), write() as writer:
            writer.write(CHUNKS[2])
            raise error
        assert path.read_bytes() == old and listing(tmp_path) == ["x.quad"]


def test_an_error_of_the_caller_can_be_swallowed_a_hole_cannot(tmp_path, grown):
    path, old, new = grown
    path.write_bytes(old)
    with Writer.append(path) as writer:
        with pytest.raises(
            QuadrateError, match="chunk 2: there are 1 payloads; the header announces 2 layers"
        ):
            writer.write(ChunkData(1, (b"x",)))
        writer.write(CHUNKS[2])
    assert path.read_bytes() == new
    path.write_bytes(old)
    with (
        pytest.raises(
            QuadrateError,
            match="an earlier write failed, so the file would have a hole; begin again",
        ),
        Writer.append(path) as writer,
    ):
        with room_for(len(old) + 20), pytest.raises(QuadrateError, match="File too large"):
            writer.write(CHUNKS[2])
    assert path.read_bytes() == old


def test_a_new_file_replaces_the_old_one_only_at_the_end_and_folders_are_made(tmp_path):
    path = tmp_path / "deep" / "x.quad"
    with Writer.create(path, TWO) as writer:
        assert not path.exists()
        writer.write(CHUNKS[0])
    with Writer.create(path, TWO) as writer:
        writer.write(CHUNKS[2])
        assert content(path)[1] == 2
    assert content(path)[1] == 3 and listing(path.parent) == ["x.quad"]
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


KILLED = """
import sys
from pathlib import Path
from quadrate.coding.container import ChunkData, Header, LayerHeader, Writer
path = Path(sys.argv[1])
header = Header((1, 2, 3), 7, (LayerHeader(b"a" * 16, 3), LayerHeader(b"b" * 16, 2)))
with Writer.append(path) if path.exists() else Writer.create(path, header) as writer:
    while True:
        writer.write(ChunkData(3, (b"x" * 1000, b"y" * 1000)))
        print(writer.samples, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_writer_leaves_nothing_under_the_final_name_and_a_killed_append_the_old_file(
    tmp_path,
):
    def kill(path: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(5):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    kill(tmp_path / "new.quad")
    assert not (tmp_path / "new.quad").exists()
    old = written(TWO, CHUNKS)
    (tmp_path / "old.quad").write_bytes(old)
    kill(tmp_path / "old.quad")
    with Reader(tmp_path / "old.quad") as reader:
        assert everything(reader) == content(old) and reader.ignored_bytes > 5 * 2000
    appended(tmp_path / "old.quad", CHUNKS[:1])  # less than what is ignored
    with Reader(tmp_path / "old.quad") as reader:
        reader.verify()
        assert reader.samples == 8 and reader.ignored_bytes == 0


# --- size and memory


def test_one_sample_of_100_000_touches_one_chunk(tmp_path):
    header = Header((1, 28, 28), 0, TWO.layers, ("labels",))
    with Writer.create(tmp_path / "x.quad", header) as writer:
        for start in range(0, 100_000, 1000):
            writer.write(ChunkData(1000, (b"b" * 600, b"r" * 700), np.arange(start, start + 1000)))
    with Reader(tmp_path / "x.quad") as reader:
        opened = reader.bytes_read
        assert opened < 100 * 20 + 400  # header, index, footer
        (number,) = reader.chunks_of(54_321, 54_322)
        assert number == 54
        reader.read(number, 1, side=False)
        assert reader.bytes_read - opened == 60 + 600  # a chunk's header and its base layer
        opened = reader.bytes_read
        assert reader.read(number, 0).labels[321] == 54_321
        assert 60 < reader.bytes_read - opened < 60 + 1000 * 2


def test_a_million_samples_take_constant_memory(tmp_path):
    payload = (bytes(3000), bytes(3000))

    def run(chunks: int) -> int:
        path = tmp_path / f"{chunks}.quad"
        tracemalloc.start()
        try:
            with Writer.create(path, TWO) as writer:
                for _ in range(chunks):
                    writer.write(ChunkData(1000, payload))
            with Reader(path) as reader:
                for number in range(chunks):
                    assert reader.read(number).payloads == payload
                reader.verify()
                assert reader.samples == chunks * 1000
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = run(100), run(1000)
    assert many < 500_000 and (tmp_path / "1000.quad").stat().st_size > 6_000_000
    assert many - few < 900 * 20 * 10  # a few copies of the index's 20 bytes a chunk
