"""`quadrate compress --shards`, and the other verbs on a folder of shards."""

import json
import os
import pickle
import signal
import tarfile

import numpy as np
import pytest

import photos_made
from cli_parts import folder_of, save, tree
from quadrate.cli import compress_jobs, main
from quadrate.codecs import PhotoDataset, QuadDataset
from quadrate.coding.container import Reader, open_quad


@pytest.fixture
def array(here, images) -> str:
    np.savez(here / "x.npz", images=images, labels=np.arange(60) % 7)
    return "x.npz"


@pytest.fixture
def shards(quadrate, array) -> str:
    """60 labelled samples in three shards, in chunks of 7."""
    options = ["--shards", "3", "--labels", "--chunk", "7", "--seed", "5"]
    said = quadrate("compress", array, "-o", "out", "--codec", "c.st", *options)
    assert said.startswith("out: 60 samples, ") and said.endswith(", in 3 shards\n")
    return "out"


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_verbs_take_a_folder_of_shards_as_one_file(quadrate, here, shards, codec):
    parts = sorted((here / shards).glob("*.quad"))
    assert [path.name for path in parts] == [f"part-0000{k}.quad" for k in range(3)]
    whole = np.concatenate([codec.decompress(path) for path in parts])
    assert np.array_equal(codec.decompress(shards), whole) and len(whole) == 60
    quadrate("decompress", shards, "-o", "x.npy", "--codec", "c.st")
    assert np.array_equal(np.load("x.npy"), whole)
    quadrate("decompress", shards, "-o", "y.npy", "--codec", "c.st", "--samples", "45:10:-5")
    assert np.array_equal(np.load("y.npy"), whole[45:10:-5])
    said = quadrate("verify", shards, "--codec", "c.st")
    assert "whole: 60 samples in 9 chunks; checksums hold and all layers decode" in said
    facts = json.loads(quadrate("inspect", shards, "--codec", "c.st", "--json"))
    assert (facts["samples"], facts["shards"], facts["chunks"]) == (60, 3, 9)
    assert facts["bytes"]["total"] == sum(len(each) for each in contents(here / shards).values())
    assert facts["codec"]["layers"] == 1
    assert "shards: 3, each with the next seed" in quadrate("inspect", shards)
    for number, path in enumerate(parts):
        with Reader(path) as reader:
            assert (reader.header.seed, reader.samples) == (5 + number, 20)
    listed = json.loads((here / shards / "manifest.json").read_text())
    assert (listed["samples"], listed["labels"], listed["names"]) == (60, True, False)


def test_a_shard_does_not_depend_on_the_others(quadrate, here, array, shards, images):
    """Nor on how its samples come: those of shard 1 alone make the same bytes."""
    np.savez("part.npz", images=images[20:40], labels=np.arange(60)[20:40] % 7)
    options = ["--labels", "--chunk", "7", "--seed", "6"]
    quadrate("compress", "part.npz", "-o", "alone.quad", "--codec", "c.st", *options)
    assert (here / "alone.quad").read_bytes() == (here / shards / "part-00001.quad").read_bytes()


def test_what_was_interrupted_is_finished_by_the_same_command(
    quadrate, here, array, shards, monkeypatch
):
    command = ["compress", array, "-o", "new", "--codec", "c.st", "--shards", "3", "--labels"]
    command += ["--chunk", "7", "--seed", "5"]
    write = compress_jobs.write_shard

    def interrupted(job, codec=None):
        if job.path.name == "part-00002.quad":
            raise KeyboardInterrupt
        return write(job, codec)

    monkeypatch.setattr(compress_jobs, "write_shard", interrupted)
    line = quadrate(*command, status=130)
    assert line == "interrupted; new holds the shards that are whole; the same command goes on"
    assert "has no manifest.json" in quadrate("inspect", "new", status=1)
    monkeypatch.setattr(compress_jobs, "write_shard", write)
    first, second = (here / "new" / f"part-0000{k}.quad" for k in range(2))
    second.write_bytes(second.read_bytes()[:-3])  # as after a power failure
    before = first.stat()
    other = quadrate(*command[:-1], "6", status=1)
    assert "was begun from other samples, or with other options" in other
    quadrate(*command)
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert contents(here / "new") == contents(here / shards)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_command_leaves_no_half_shard_and_is_gone_on_with(
    quadrate, here, array, shards, codec
):
    command = ["compress", array, "-o", "new", "--codec", "c.st", "--shards", "3", "--labels"]
    command += ["--chunk", "7", "--seed", "5"]
    child = os.fork()
    if not child:
        chunks, encode = 0, type(codec).encode

        def killed(self, *args):
            nonlocal chunks
            chunks += 1
            if chunks == 5:  # in the middle of the second shard
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(self, *args)

        type(codec).encode = killed
        main(command)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [path.name for path in (here / "new").glob("*.quad")] == ["part-00000.quad"]
    quadrate(*command)
    assert contents(here / "new") == contents(here / shards)  # and no temporary file


def test_shards_are_appended(quadrate, here, array, shards, codec, images):
    before, old = contents(here / shards), codec.decompress(shards)
    said = quadrate("compress", array, "-o", shards, "--codec", "c.st", "--append", "--chunk", "7")
    assert said.startswith("out: 60 samples added; 120 samples, ") and "in 4 shards" in said
    more = ["--append", "--shards", "2"]
    quadrate("compress", array, "-o", shards, "--codec", "c.st", *more)
    after = contents(here / shards)
    assert (
        len(after) == 7
        and (after | {"manifest.json": b""}).items()
        >= {
            **before,
            "manifest.json": b"",
        }.items()
    )
    with open_quad(here / shards) as reader:
        reader.verify()
        assert reader.samples == 180 and reader.manifest.header_of(5).seed == 10
    assert np.array_equal(codec.decompress(shards, samples=slice(60)), old)
    np.save("y.npy", images)
    assert "an .npy file holds no labels" in quadrate(
        "compress", "y.npy", "-o", shards, "--codec", "c.st", "--append", status=1
    )
    part = f"{shards}/part-00000.quad"
    quadrate("compress", array, "-o", part, "--codec", "c.st", "--append")
    assert "part-00000.quad is not the shard that manifest.json lists" in quadrate(
        "verify", shards, status=1
    )


def test_what_cannot_become_shards_is_refused_before_anything_is_made(quadrate, here, array):
    command = ["compress", array, "--codec", "c.st"]
    for count in ("0", "61"):
        line = quadrate(*command, "-o", "out", "--shards", count, status=1)
        assert line == f"--shards takes 1 to 60, the number of samples; got {count}"
    line = quadrate(*command, "-o", "out", "--shards", "2", "--overwrite", status=1)
    assert line.startswith("--overwrite replaces a file; shards are written to a new folder")
    line = quadrate(*command, "-o", "out.quad", "--shards", "2", status=1)
    assert "--shards takes a folder" in line
    line = quadrate(*command, "-o", "out", "--append", "--shards", "2", status=1)
    assert line.startswith("no such file: out; there is nothing to append to")
    (here / "full").mkdir()
    (here / "full" / "x").touch()
    line = quadrate(*command, "-o", "full", "--shards", "2", status=1)
    assert line == "full is not empty; give a new folder, or --append"
    assert tree(here) == ["c.st", "full/x", "x.npz"]


def test_folders_keep_names_and_classes(quadrate, here, images):
    names = folder_of(images, here / "pictures")
    (here / "pictures" / "z.png").rename(here / "pictures" / "a" / "z.png")
    names = [*names[1:5], "a/z.png", *names[5:]]
    command = ["compress", "pictures", "-o", "out", "--codec", "c.st", "--shards", "4", "--labels"]
    quadrate(*command)
    names = ["a/0.png", "a/1.bmp", "a/z.png", "a/b/2.png", "a/b/3.PNG", *names[5:]]
    with open_quad(here / "out") as reader:
        assert reader.manifest.classes == ("a", "c")
        sides = [reader.read(number, layers=0) for number in range(reader.chunks)]
    assert [name for side in sides for name in side.names] == names
    assert np.concatenate([side.labels for side in sides]).tolist() == [0] * 5 + [1] * 5


def test_photographs_become_shards(quadrate, here):
    photos_made.codec().save(here / "p.st")
    shown = [photos_made.picture(20 + 3 * k, 30 + k, seed=k) for k in range(5)]
    for number, picture in enumerate(shown):
        save(picture, here / "photos" / f"{'ab'[number % 2]}" / f"{number}.png")
    options = ["--codec", "p.st", "--shards", "2", "--labels", "--quality", "60"]
    said = quadrate("compress", "photos", "-o", "out", *options)
    assert said.startswith("out: 5 photographs, ") and said.endswith(", in 2 shards\n")
    quadrate("decompress", "out", "-o", "back", "--codec", "p.st")
    assert tree(here / "back") == tree(here / "photos")
    assert "all layers decode" in " ".join(
        quadrate("verify", "out", "--codec", "p.st").split()
    ).replace("2 of 2", "all")
    dataset = PhotoDataset(here / "out", photos_made.codec())
    assert len(dataset) == 5 and [label for _, label in dataset] == [0, 0, 0, 1, 1]
    assert dataset[4][0].shape == shown[3].shape
    quadrate("compress", "photos", "-o", "out", *options[:2], "--append", *options[4:])
    assert open_quad(here / "out").samples == 10


def test_a_data_set_reads_shards(here, shards, codec):
    dataset = QuadDataset(shards, codec)
    whole = codec.decompress(shards)
    assert len(dataset) == 60 and "60 samples in 9 chunks" in repr(dataset)
    images, labels = zip(*[dataset[k] for k in range(60)], strict=True)
    assert np.array_equal(np.stack([image.numpy() for image in images]), whole)
    assert list(labels) == [k % 7 for k in range(60)]
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again[59][0], whole[59])
    order = list(dataset.sampler(seed=1))
    assert sorted(order) == list(range(60)) and order != sorted(order)


def test_a_tar_makes_the_bytes_of_the_folder_that_it_was_made_from(quadrate, here, images):
    for number, image in enumerate(images[:9]):
        save(image, here / "pictures" / f"{number}.png")
    with tarfile.open("pictures.tar", "w") as archive:
        for path in sorted((here / "pictures").iterdir()):
            archive.add(path, path.name)
    for source in ("pictures", "pictures.tar"):
        options = ["-o", f"{source}-out/", "--codec", "c.st", "--shards", "2"]
        quadrate("compress", source, *options)
    assert contents(here / "pictures-out") == contents(here / "pictures.tar-out")
