"""Files behind URLs: every verb takes them, and only what is wanted is fetched."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cli_parts import folder_of
from quadrate.cli import compress_jobs
from quadrate.codecs import QuadDataset, QuadFile, ShardDataset
from quadrate.core.remote import Url, place_of
from quadrate.errors import QuadrateError

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory(monkeypatch):
    """An empty file system in memory, which counts what is fetched of .quad files."""
    from fsspec.implementations.memory import MemoryFileSystem

    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    fetched: list[int] = []
    cat, opened = MemoryFileSystem.cat_file, MemoryFileSystem._open

    def counted(self, path, start=None, end=None, **more):
        data = cat(self, path, start=start, end=end, **more)
        fetched.append(len(data))
        return data

    def streamed(self, path, mode="rb", **more):
        assert "w" in mode or not path.endswith(".quad") or streamed.allowed, path
        return opened(self, path, mode=mode, **more)

    streamed.allowed = True
    monkeypatch.setattr(MemoryFileSystem, "cat_file", counted)
    monkeypatch.setattr(MemoryFileSystem, "_open", streamed)
    system.fetched, system.streamed = fetched, streamed
    yield system
    system.store.clear()


COMMAND = ["--codec", "c.st", "--chunk", "5", "--labels"]


def test_verbs_take_urls_and_the_bytes_are_those_of_local_files(
    quadrate, here, memory, images, codec
):
    np.savez("x.npz", images=images, labels=np.arange(60))
    memory.put_file("x.npz", "/in/x.npz")
    quadrate("compress", "x.npz", "-o", "a.quad", *COMMAND)
    said = quadrate("compress", "memory://in/x.npz", "-o", "memory://out/a.quad", *COMMAND)
    assert said.startswith("memory://out/a.quad: 60 samples, ")
    assert memory.cat("/out/a.quad") == (here / "a.quad").read_bytes()
    line = quadrate("compress", "x.npz", "-o", "memory://out/a.quad", *COMMAND, status=1)
    assert line.startswith("memory://out/a.quad exists already; give another name")
    quadrate("compress", "x.npz", "-o", "memory://out/a.quad", *COMMAND, "--overwrite")
    assert "60 samples in 12 chunks" in quadrate("verify", "memory://out/a.quad", *COMMAND[:2])
    facts = json.loads(quadrate("inspect", "memory://out/a.quad", "--json"))
    assert facts["bytes"]["total"] == (here / "a.quad").stat().st_size
    options = [*COMMAND[:2], "--samples", "7:9"]
    said = quadrate(
        "decompress", "memory://out/a.quad", "-o", "memory://out/x.npy", *options, "--json"
    )
    assert json.loads(said)["output"] == "memory://out/x.npy"
    memory.get_file("/out/x.npy", "y.npy")
    assert np.array_equal(np.load("y.npy"), codec.decompress("a.quad")[7:9])
    line = quadrate("decompress", "memory://out/a.quad", "-o", "memory://p", *options, status=1)
    assert "its name must end in .npy" in line
    append = ["compress", "x.npz", "-o", "memory://out/a.quad", "--append", *COMMAND[:2]]
    assert "files behind URLs do not grow" in quadrate(*append, status=1)
    memory.put_file("c.st", "/c.st")
    quadrate("decompress", "a.quad", "-o", "z.npy", "--codec", "memory://c.st")
    assert np.array_equal(np.load("z.npy"), codec.decompress("a.quad"))


def test_shards_behind_a_url(quadrate, here, memory, images, codec, monkeypatch):
    names = folder_of(images, here / "pictures")
    for name in names:
        memory.put_file(str(here / "pictures" / name), f"/in/{name}")
    options = ["--codec", "c.st", "--shards", "3"]
    quadrate("compress", "pictures", "-o", "local", *options)
    write = compress_jobs.write_shard

    def interrupted(job, codec=None):
        if job.path.name == "part-00002.quad":
            raise KeyboardInterrupt
        return write(job, codec)

    monkeypatch.setattr(compress_jobs, "write_shard", interrupted)
    quadrate("compress", "memory://in", "-o", "memory://out/s", *options, status=130)
    assert "has no manifest.json" in quadrate("verify", "memory://out/s", status=1)
    monkeypatch.setattr(compress_jobs, "write_shard", write)
    quadrate("compress", "memory://in", "-o", "memory://out/s/", *options)
    remote = {path.rpartition("/")[2]: memory.cat(path) for path in memory.ls("/out/s", False)}
    local = {path.name: path.read_bytes() for path in (here / "local").iterdir()}
    assert remote == local
    assert "10 samples in 3 chunks" in quadrate("verify", "memory://out/s", "--codec", "c.st")
    assert np.array_equal(codec.decompress("memory://out/s"), codec.decompress("local"))
    quadrate("compress", "memory://in", "-o", "memory://out/s", "--append", "--codec", "c.st")
    assert len(QuadDataset("memory://out/s", codec)) == 20
    assert sum(len(batch) for batch in ShardDataset("memory://out/s", codec, 4)) == 20


def test_one_sample_costs_one_chunk(quadrate, memory, images, codec):
    np.save("x.npy", images)
    quadrate("compress", "x.npy", "-o", "memory://s", "--shards", "2", "--chunk", "1", *COMMAND[:2])
    memory.streamed.allowed = False  # .quad files are fetched by ranges alone
    memory.fetched.clear()
    with QuadFile("memory://s", codec) as file:
        (batch,) = file.pieces(slice(40, 41))
        opened = sum(memory.fetched)
        (again,) = file.pieces(slice(41, 42))
        more = sum(memory.fetched) - opened
        size = file.reader.size
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda k: next(file.pieces(slice(k, k + 1))).images, range(60)))
    whole = codec.decompress("memory://s", dtype="float32")
    assert np.array_equal(np.concatenate(found), whole)
    assert np.array_equal(batch.images, whole[40:41])
    assert np.array_equal(again.images, whole[41:42])
    chunk = size / 60
    assert more < 3 * chunk and opened < size / 2  # the index of one shard, and one chunk
    with pytest.raises(QuadrateError, match="asked for, and 0 came; it was changed, or its server"):
        Url("memory://s/part-00000.quad").read(1 << 20, 5)


def test_what_cannot_be_reached_is_one_line(quadrate, memory, monkeypatch):
    assert quadrate("inspect", "memory://none.quad", status=1) == "no such file: memory://none.quad"
    line = quadrate("inspect", "nothing://x.quad", status=1)
    assert line.startswith("cannot read nothing://x.quad: Protocol not known: nothing")
    line = quadrate("compress", "memory://none", "-o", "a.quad", *COMMAND, status=1)
    assert line.startswith("memory://none: no such file, folder or data set")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    line = quadrate("inspect", "memory://x.quad", status=1)
    assert line == "memory://x.quad needs fsspec, which is missing: pip install 'quadrate[remote]'"


def test_what_is_a_url(tmp_path):
    for text in ("s3://bucket/a.quad", "memory://a", "simplecache::https://host/a.quad"):
        assert place_of(text) == Url(text)
    assert place_of("s3://bucket/folder/") == Url("s3://bucket/folder")
    assert place_of(f"file://{tmp_path}/a.quad") == tmp_path / "a.quad"
    for text in ("a.quad", "C:/a.quad", "mnist:test", "a//b", "./x:y"):
        assert not isinstance(place_of(text), Url)
