"""Folders of shards in the container: read as one file, whatever happened to them."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from containers import TWO
from quadrate.coding.container import (
    ChunkData,
    Manifest,
    Reader,
    ShardReader,
    Writer,
    open_quad,
    read_shard,
    shard_reader,
)
from quadrate.coding.container.manifest import seed_of
from quadrate.coding.container.shard_folder import ShardFolder
from quadrate.errors import QuadrateError

IDENTITIES = [layer.identity for layer in TWO.layers]
COUNTS = [[2, 3], [1], [4, 4, 2]]  # samples of each chunk of each shard


def chunk(shard: int, number: int, count: int) -> ChunkData:
    return ChunkData(count, (f"base {shard} {number}".encode(), b"more" * number))


def write_shards(folder: ShardFolder, counts=COUNTS) -> list:
    shards = []
    for k, chunks in enumerate(counts):
        number = folder.first + k
        seed = seed_of(TWO.seed, number)
        with Writer.create(folder.path(number), replace(TWO, seed=seed)) as writer:
            for i, count in enumerate(chunks):
                writer.write(chunk(number, i, count))
        shards.append(read_shard(folder.path(number), seed, IDENTITIES, sum(chunks)))
    return shards


@pytest.fixture
def shards(tmp_path) -> Path:
    with ShardFolder(tmp_path / "s", {"what": 1}) as folder:
        folder.finish(write_shards(folder))
    return tmp_path / "s"


def test_a_folder_reads_as_one_file(shards):
    names = ["manifest.json", *(f"part-0000{k}.quad" for k in range(3))]
    assert sorted(path.name for path in shards.iterdir()) == names
    with open_quad(str(shards)) as reader:
        assert isinstance(reader, ShardReader) and reader.header == TWO
        assert (reader.samples, reader.chunks, reader.ignored_bytes) == (16, 6, 0)
        assert reader.index.tolist() == [[0, 2], [2, 3], [5, 1], [6, 4], [10, 4], [14, 2]]
        assert [reader.span(k) for k in range(6)] == [tuple(row) for row in reader.index.tolist()]
        seeds = [7, 7, 8, 9, 9, 9]
        firsts = [0, 2, 0, 0, 4, 8]
        assert [reader.origin(k) for k in range(6)] == list(zip(seeds, firsts, strict=True))
        places = [(s, i) for s, chunks in enumerate(COUNTS) for i in range(len(chunks))]
        for number, (s, i) in enumerate(places):
            assert reader.read(number).payloads == chunk(s, i, 1).payloads
            assert reader.read(number, layers=1).payloads == chunk(s, i, 1).payloads[:1]
        checked = [number for part in reader.verified() for number in part]
        assert checked == list(range(16))
        sizes = reader.sizes()
        assert sizes["total"] == sum(path.stat().st_size for path in shards.iterdir())
        assert sizes["total"] == reader.size
        flat = [value for name, value in sizes.items() if name not in ("total", "payloads")]
        assert sum(flat) + sum(sizes["payloads"]) == sizes["total"]


def test_samples_are_found_without_opening_other_shards(shards):
    with ShardReader(shards) as reader:
        for first, count in [[0, 2], [2, 3], [5, 1], [6, 4], [10, 4], [14, 2]]:
            found = reader.chunks_of(first, first + count)
            assert len(found) == 1 and reader.span(found.start) == (first, count)
        assert reader.chunks_of(4, 11) == range(1, 5) and reader.chunks_of(3, 3) == range(0)
        with pytest.raises(QuadrateError, match="has samples 0 to 16, .* asked for 4 to 17"):
            reader.chunks_of(4, 17)
        with pytest.raises(QuadrateError, match="has chunks 0 to 6, .* asked for 6"):
            reader.read(6)
    for other in ("part-00000.quad", "part-00002.quad"):
        (shards / other).unlink()
    with ShardReader(shards) as reader:
        assert reader.read(reader.chunks_of(5, 6).start).payloads[0] == b"base 1 0"
        with pytest.raises(QuadrateError, match="no such file: .*part-00002.quad"):
            reader.read(3)
    with pytest.raises(QuadrateError, match="is closed; open it again"):
        reader.read(2)


def test_threads_read_many_shards_with_few_open(shards, monkeypatch):
    monkeypatch.setattr(shard_reader, "_MOST_OPEN", 2)
    with ShardReader(shards) as reader, ThreadPoolExecutor(4) as pool:
        wanted = [number % 6 for number in range(300)]
        found = [each.payloads for each in pool.map(reader.read, wanted)]
        assert len(reader._idle) <= 2 + 4 and reader.bytes_read > 0
        alone = [reader.read(number).payloads for number in range(6)]
        assert found == [alone[number] for number in wanted]
    assert not reader._idle


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, b: os.replace(a, b), "no such file"),
        (lambda a, b: a.write_bytes(b.read_bytes()), "not the shard that manifest.json lists"),
        (lambda a, b: a.write_bytes(a.read_bytes() + b"x"), "the file is damaged"),
        (lambda a, b: a.write_bytes(b""), "is empty"),
    ],
    ids=["moved", "another", "longer", "emptied"],
)
def test_a_shard_that_is_not_the_one_listed_is_refused(shards, change, said):
    change(shards / "part-00000.quad", shards / "part-00001.quad")
    with ShardReader(shards) as reader, pytest.raises(QuadrateError, match=said):
        reader.read(0)


def test_a_shard_of_the_same_sizes_with_other_contents_is_found_by_its_digest(shards):
    header = replace(TWO, seed=8)
    with Writer.create(shards / "part-00001.quad", header) as writer:
        writer.write(replace(chunk(1, 0, 1), payloads=(b"BASE 1 0", b"")))
    with ShardReader(shards) as reader:
        assert reader.read(2).payloads[0] == b"BASE 1 0"
        with pytest.raises(QuadrateError, match=r"part-00001.quad: its SHA-256 is another"):
            reader.verify()


BAD = {
    "format": "quadrate-shards-2",
    "samples": 17,
    "shape": [1, 2, -3],
    "seed": 2**64,
    "fields": ["colour"],
    "layers": [{"identity": "xx", "columns": 1}],
    "shards": [],
    "classes": 3,
}


@pytest.mark.parametrize(("name", "value"), BAD.items(), ids=str)
@pytest.mark.parametrize("drop", [False, True])
def test_a_damaged_manifest_is_one_line(shards, name, value, drop):
    path = shards / "manifest.json"
    facts = json.loads(path.read_text())
    if drop:
        del facts[name]
    else:
        facts[name] = value
    path.write_text(json.dumps(facts))
    with pytest.raises(QuadrateError) as caught:
        Manifest.read(shards)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "../part-00001.quad"),
        ("samples", -1),
        ("samples", 1e3),
        ("samples", True),
        ("samples", 2**80),
        ("chunks", 2**40),
        ("bytes", "many"),
        ("sha256", "12"),
        ("sha256", 12),
    ],
)
def test_a_damaged_entry_of_the_manifest_is_one_line(shards, name, value):
    path = shards / "manifest.json"
    facts = json.loads(path.read_text())
    facts["shards"][1][name] = value
    path.write_text(json.dumps(facts))
    with pytest.raises(QuadrateError, match=r"manifest.json is damaged"):
        Manifest.read(shards)
    for text in ("[]", "{}", "[" * 100_000, "nothing"):
        path.write_text(text)
        with pytest.raises(QuadrateError, match=r"manifest.json is (damaged|not JSON)"):
            Manifest.read(shards)


def test_an_unfinished_folder_is_finished_by_the_same_question_alone(tmp_path):
    root = tmp_path / "s"
    with pytest.raises(ZeroDivisionError), ShardFolder(root, {"what": 1}):
        raise ZeroDivisionError
    assert not root.exists()  # nothing was begun
    with pytest.raises(ZeroDivisionError), ShardFolder(root, {"what": 1}) as folder:
        write_shards(folder, COUNTS[:1])
        raise ZeroDivisionError
    with pytest.raises(QuadrateError, match=r"has no manifest.json: .* was not finished"):
        open_quad(root)
    with (
        pytest.raises(QuadrateError, match="was begun from other samples, or with other options"),
        ShardFolder(root, {"what": 2}),
    ):
        pass
    with ShardFolder(root, {"what": 1}) as folder:
        folder.finish(write_shards(folder))
    with pytest.raises(QuadrateError, match="is not empty; give a new folder, or --append"):
        ShardFolder(root, {"what": 1}).__enter__()
    assert open_quad(root).samples == 16


def test_shards_are_added_and_those_that_were_there_stay(shards):
    before = {path.name: path.read_bytes() for path in shards.glob("*.quad")}
    with open_quad(shards) as old:
        file_id = old.file_id
        with pytest.raises(ZeroDivisionError), ShardFolder(shards, {}, append=True) as folder:
            write_shards(folder, [[5]])
            raise ZeroDivisionError
        assert open_quad(shards).samples == 16  # what was not finished does not count
        with ShardFolder(shards, {}, append=True) as folder:
            assert folder.first == 3
            folder.finish(write_shards(folder, [[5], [1, 1]]))
        assert old.samples == 16 and old.read(5).samples == 2
    with open_quad(shards) as reader:
        assert (reader.samples, reader.chunks) == (23, 9) and reader.file_id == file_id
        assert reader.origin(6) == (10, 0) and reader.origin(8) == (11, 1)
        reader.verify()
    after = {path.name: path.read_bytes() for path in shards.glob("*.quad")}
    assert len(after) == 5 and after.items() >= before.items()


def test_shards_with_other_side_data_do_not_go_together(shards):
    with ShardFolder(shards, {}, append=True) as folder:
        seed = seed_of(TWO.seed, 3)
        labelled = replace(TWO, seed=seed, fields=("labels",))
        with Writer.create(folder.path(3), labelled) as writer:
            writer.write(ChunkData(1, (b"", b""), labels=np.zeros(1, np.int64)))
        shard = read_shard(folder.path(3), seed, IDENTITIES, 1)
        with pytest.raises(QuadrateError, match="holds other side data or samples than"):
            folder.finish([shard])
    assert open_quad(shards).samples == 16


def test_a_shard_is_listed_only_if_it_is_the_one_described(shards):
    path = shards / "part-00001.quad"
    assert read_shard(path, 8, IDENTITIES, 1).chunks == 1
    for wrong in ((7, IDENTITIES, 1), (8, IDENTITIES[:1], 1), (8, IDENTITIES, 2)):
        with pytest.raises(QuadrateError, match="is another shard than the one that belongs there"):
            read_shard(path, *wrong)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(QuadrateError):
        read_shard(path, 8, IDENTITIES, 1)
    with Reader(shards / "part-00000.quad") as reader:
        assert reader.origin(1) == (7, 2)
