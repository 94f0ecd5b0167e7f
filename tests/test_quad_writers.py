"""Who else is writing: locks of appends, links, and what killed writers leave behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from codecs_made import make, source_of
from quadrate.cli import main
from quadrate.codecs import Batch, quad
from quadrate.coding.container import Reader, lock
from quadrate.errors import QuadrateError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes, makes links")
TESTS = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def codec():
    return make()


@pytest.fixture(scope="module")
def images():
    return source_of(seed=1).train.images[:40]


@pytest.fixture
def file(codec, images, tmp_path) -> Path:
    codec.compress(images, to=tmp_path / "a.quad", labels=np.zeros(40, int))
    return tmp_path / "a.quad"


def labelled(images, label: int) -> list[Batch]:
    return [Batch(images, np.full(len(images), label))]


def content(path, codec) -> tuple[np.ndarray, list[int]]:
    with Reader(path) as reader:
        reader.verify()
        labels = np.concatenate([reader.read(chunk).labels for chunk in range(len(reader.index))])
    return codec.decompress(path), labels.tolist()


def process(code: str, *arguments) -> subprocess.Popen:
    start = (
        f"import sys; sys.path.insert(0, {TESTS!r})\nfrom codecs_made import *\n"
        "from quadrate.codecs"
        " import quad\nfrom quadrate.codecs import Batch\n"
    )
    start += (
        "import numpy as np, time\nfrom quadrate.errors import QuadrateError\nfrom"
        " quadrate.coding.container import Writer\n"
    )
    start += (
        "torch.set_num_threads(1)\ncodec, images = make(), source_of(seed=1).train.images[:40]\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def line_of(running: subprocess.Popen) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


APPENDS = """
print("ready", flush=True); sys.stdin.readline()
for i in range(30):
    try:
        quad.append(codec, [Batch(images[:3], np.full(3, int(sys.argv[2]) + i))], sys.argv[1])
        print("done", int(sys.argv[2]) + i, flush=True)
    except QuadrateError as error:
        print("refused", error, flush=True)
"""


def test_two_processes_append_thirty_times_each_and_readers_lose_nothing(codec, file):
    both = [process(APPENDS, file, 100), process(APPENDS, file, 200)]
    assert [line_of(each) for each in both] == ["ready", "ready"]
    for each in both:
        each.stdin.write("\n")
        each.stdin.flush()
    sizes = []
    while any(each.poll() is None for each in both):
        with Reader(file) as reader:
            sizes.append(reader.samples)
            assert reader.read(0).samples == 40
    reports = [line for each in both for line in each.communicate()[0].splitlines()]
    done = [int(report.split()[1]) for report in reports if report.startswith("done")]
    assert len(reports) == 60 and len(done) == 60, [
        report for report in reports if "refused" in report
    ]  # they wait for each other
    _, labels = content(file, codec)
    assert sorted(labels) == sorted([0] * 40 + 3 * done) and sizes == sorted(sizes)


HOLDS = """
with Writer.append(sys.argv[1]):
    print("holds", flush=True); sys.stdin.readline()
"""


def test_a_second_append_is_refused_in_one_line_whatever_the_files_name(
    codec, images, file, monkeypatch, capsys
):
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.2)
    before = file.read_bytes()
    (file.parent / "link.quad").symlink_to("a.quad")
    (file.parent / "twin.quad").hardlink_to(file)
    codec.save(file.parent / "c.safetensors")
    np.savez(file.parent / "x.npz", images=images.numpy(), labels=np.zeros(40, int))
    with process(HOLDS, file) as holder:
        assert line_of(holder) == "holds"
        for name in ("a.quad", "link.quad", "twin.quad"):
            path = file.parent / name
            with pytest.raises(
                QuadrateError,
                match=(
                    rf"another program is writing to {path}; nothing was changed: try again when it"
                    r" has ended"
                ),
            ):
                quad.append(codec, labelled(images, 1), path)
            with pytest.raises(SystemExit):
                main(
                    [
                        "compress",
                        str(file.parent / "x.npz"),
                        "--codec",
                        str(file.parent / "c.safetensors"),
                        "-o",
                        str(path),
                        "--append",
                    ]
                )
            err = capsys.readouterr().err
            assert f"another program is writing to {path}" in err and len(err.splitlines()) == 1
        with pytest.raises(
            QuadrateError, match="another program is writing to"
        ):  # a new file would make what is appended vanish
            codec.compress(images, to=file)
        assert content(file, codec)[1] == [0] * 40  # readers go on
        holder.kill()
    assert (
        file.read_bytes() == before and sorted(path.name for path in file.parent.glob(".*")) == []
    )
    assert (
        quad.append(codec, labelled(images, 1), file.parent / "link.quad") == 40
    )  # the lock went with its process
    assert (file.parent / "link.quad").is_symlink() and content(file, codec)[1] == [0] * 40 + [
        1
    ] * 40


def test_threads_of_one_process_wait_for_each_other_too(codec, images, file):
    errors: list[BaseException] = []

    def add(label: int) -> None:
        try:
            for _ in range(5):
                quad.append(codec, labelled(images[:2], label), file)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add, args=(label,)) for label in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        not errors and sorted(content(file, codec)[1]) == [0] * 40 + [1] * 10 + [2] * 10 + [3] * 10
    )


def test_an_append_that_waited_sees_the_new_file_that_took_the_name(codec, images, file):
    """Neither is lost: first the new file, then what is appended to it."""
    entered, appended = threading.Event(), []

    def batches():
        yield Batch(images, np.full(40, 7))

    def add() -> None:
        entered.wait()
        appended.append(quad.append(codec, labelled(images, 8), file))

    thread = threading.Thread(target=add)
    thread.start()
    with lock.locked(file):  # what a new file holds while it takes the name
        entered.set()
        time.sleep(0.1)
        codec.compress(images, to=file.parent / "new.quad", labels=np.full(40, 7))
        os.replace(file.parent / "new.quad", file)
    thread.join()
    assert appended == [40] and content(file, codec)[1] == [7] * 40 + [8] * 40
    quad.compress(codec, batches(), file)
    assert content(file, codec)[1] == [7] * 40


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_lock(codec, images, file):
    def batches():
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
        yield from labelled(images, 1)

    children: list[int] = []
    try:
        quad.append(codec, batches(), file)
        assert quad.append(codec, labelled(images, 2), file) == 40
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_a_file_system_without_locks_goes_without(codec, images, file, monkeypatch):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    assert quad.append(codec, labelled(images, 1), file) == 40
    codec.compress(images, to=file)
    assert len(codec.decompress(file)) == 40


# --- links ---


def test_an_output_that_is_a_link_is_followed_by_new_files_and_appends(codec, images, tmp_path):
    (tmp_path / "deep").mkdir()
    for name, target in (
        ("file", "deep/real.quad"),
        ("nowhere", "deep/made.quad"),
        ("chain", "file"),
    ):
        (tmp_path / name).symlink_to(target)
    for name in ("file", "nowhere", "chain"):
        codec.compress(images, to=tmp_path / name, labels=np.zeros(40, int))
        assert (tmp_path / name).is_symlink() and len(codec.decompress(tmp_path / name)) == 40
        quad.append(codec, labelled(images[:5], 1), tmp_path / name)
        assert len(codec.decompress(tmp_path / name)) == 45
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["made.quad", "real.quad"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain", "deep", "file", "nowhere"]


def test_links_that_lead_to_no_file_are_one_line(codec, images, tmp_path):
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("folder", "circle", "null"):
        for write in (
            lambda path: codec.compress(images, to=path),
            lambda path: quad.append(codec, labelled(images, 1), path),
        ):
            with pytest.raises(QuadrateError, match=rf"cannot write .*{name}"):
                write(tmp_path / name)
        assert (tmp_path / name).is_symlink()


# --- what killed writers leave behind ---

WRITES = """
def batches():
    while True:
        yield Batch(images, np.zeros(40, int))
        print("writes", flush=True)
quad.compress(codec, batches(), sys.argv[1], chunk=40)
"""


def test_what_killed_writers_left_is_removed_by_the_next_write_to_that_name(
    codec, images, tmp_path
):
    def hidden() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))

    (tmp_path / "link.quad").symlink_to("a.quad")
    with (
        process(WRITES, tmp_path / "link.quad") as killed,
        process(WRITES, tmp_path / "a.quad") as living,
        process(WRITES, tmp_path / "b.quad") as other,
    ):
        assert [line_of(each) for each in (killed, living, other)] == ["writes"] * 3
        (tmp_path / ".a.quad.notes").write_text("not a writer's")
        assert len(hidden()) == 4
        killed.kill()
        killed.wait()
        other.kill()
        other.wait()
        codec.compress(images, to=tmp_path / "a.quad")
        left = hidden()
        assert (
            len(left) == 3
            and [name for name in left if name.startswith(".b.quad.")]
            and ".a.quad.notes" in left
        )
        assert line_of(living) == "writes"
        living.kill()
    codec.compress(images, to=tmp_path / "a.quad")
    codec.compress(images, to=tmp_path / "b.quad")
    assert hidden() == [".a.quad.notes"]
