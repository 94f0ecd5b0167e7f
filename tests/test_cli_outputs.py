"""Where verbs write.

Nothing is replaced unasked, names say what they make, links are followed, and what was killed is
finished.
"""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codecs_made import make, source_of
from quadrate.cli import main
from quadrate.cli.pictures import PictureFolder
from quadrate.cli.steps import fitted, for_data
from quadrate.codecs import Batch, TradeoffCodec, compress
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import find_recipe
from quadrate.experiments.recipes.subset import Subset

ROOT = Path(__file__).parents[1]
COMPRESS, DECOMPRESS = "compress a.npy --codec c.st -o {}", "decompress a.quad --codec c.st -o {}"
CURVE = "theory curve gaussian --vary distortion --from 0 --to 1 --points 3 --output {}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    codec = make(decoders=("faithful", "realistic"))
    codec.save(tmp_path / "c.st")
    images = source_of(seed=1).train.images[:20].numpy()
    np.save(tmp_path / "a.npy", images)
    names = [f"{'same' if i % 5 == 0 else i}.png" for i in range(20)]
    compress(codec, [Batch(images, None, names)], tmp_path / "a.quad", chunk=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, *more):
    main([*command.split(), *more])


def refused(capsys, command, *more):
    with pytest.raises(SystemExit) as ended:
        run(command, *more)
    err = capsys.readouterr().err
    assert ended.value.code == 1 and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("command", "name"),
    [(COMPRESS, "x.quad"), (DECOMPRESS, "x.npy"), (CURVE, "x.csv"), (CURVE, "x.PNG")],
)
def test_nothing_is_replaced_unasked(here, capsys, command, name):
    (here / name).write_text("mine")
    assert (
        refused(capsys, command.format(name))
        == f"quadrate: {name} exists already; give another name, or --overwrite to replace it\n"
    )
    assert (here / name).read_text() == "mine"
    run(command.format(name), "--overwrite")
    assert (here / name).stat().st_size > 30


@pytest.mark.parametrize(
    "command",
    [
        "plot run --output x.png",
        "report run -o x.html",
        "demo -o x.png",
        "export run -o x.safetensors",
    ],
)
def test_it_is_checked_before_the_work(here, capsys, command):
    (here / command.split()[-1]).write_text("mine")
    assert "exists already" in refused(capsys, command)


@pytest.mark.parametrize(
    "name", ["out.jpg", "out.npz", "out.txt", "-", "", " ", "x.npy/", "out.npy.gz"]
)
def test_a_name_that_makes_nothing_says_what_would(here, capsys, name):
    before = sorted(here.iterdir())
    assert ".npy" in refused(capsys, "decompress a.quad --codec c.st -o", name)
    assert ".quad" in refused(capsys, "compress a.npy --codec c.st -o", name)
    assert ".safetensors" in refused(capsys, "export run -o", name)
    assert ".png" in refused(capsys, "plot run -o", name)
    assert sorted(here.iterdir()) == before


def test_folders_may_have_numbers_in_their_names_or_a_slash_behind_an_ending(here):
    for name in ("v1.0", "lambda_0.5", "mine.d/"):
        run(DECOMPRESS.format(name))
        assert len(list((here / name).iterdir())) == 20


def test_append_makes_nothing(here, capsys):
    assert "leave --append out to make it" in refused(
        capsys, COMPRESS.format("new.quad"), "--append"
    )
    assert "not both" in refused(capsys, COMPRESS.format("a.quad"), "--append", "--overwrite")


@pytest.mark.parametrize(
    ("command", "name"), [(COMPRESS, "x.quad"), (DECOMPRESS, "x.npy"), (CURVE, "x.csv")]
)
def test_a_link_is_followed(here, command, name):
    target = here / "elsewhere" / name
    (here / name).symlink_to(target)  # which is not there yet
    for flags in ([], ["--overwrite"]):
        run(command.format(name), *flags)
        assert (
            (here / name).is_symlink()
            and target.is_file()
            and list(target.parent.iterdir()) == [target]
        )


def test_only_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "loop", "x" * 300, "a\0b"):
        with pytest.raises(QuadrateError, match="cannot write "):
            write_text(tmp_path / name, "x")
    with pytest.raises(QuadrateError, match="cannot write /dev/null: it is not a regular file"):
        write_text(Path("/dev/null"), "x")
    write_text(tmp_path / ("é" * 120), "x")  # its temporary name is no longer than it may be
    assert (tmp_path / ("é" * 120)).read_text() == "x"


# --- what was killed ---


def killed_while(
    folder: Path, ready: str, arguments: list[str], number: int
) -> subprocess.CompletedProcess:
    """A command that gets a signal as soon as a file of a name is there."""
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        " signal.signal(signal.SIGHUP, signal.SIG_DFL); from"
        f" quadrate.cli import main; main({arguments})"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 100
        while (
            not list(folder.glob(ready)) and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(arguments, process.returncode, None, err)


def much(here, count=2_000_000):
    with (here / "much.npy").open("wb") as file:  # black images, which take no room on disk
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, 8, 8)}
        )
        file.truncate(file.tell() + count * 64)
    return ["compress", "much.npy", "--codec", "c.st", "-o", "x.quad", "--chunk", "500"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whoever_is_asked_to_end_cleans_up(here, number):
    ended = killed_while(here, ".x.quad.*", much(here), number)
    assert (
        ended.returncode == 128 + number
        and ended.stderr == "quadrate: interrupted; x.quad is as it was before\n"
    )
    assert not list(here.glob("*x.quad*"))


def test_what_the_killed_left_goes_with_the_next_run(here):
    command = much(here)
    assert killed_while(here, ".x.quad.*", command, signal.SIGKILL).returncode == -signal.SIGKILL
    (left,) = here.glob(".x.quad.*")
    living = here / left.name.replace(f"-{left.name.split('-')[1]}-", f"-{os.getpid()}-")
    living.touch()
    foreign = here / ".x.quad.0123abcd-1-01234567"
    foreign.touch()
    run("compress a.npy --codec c.st -o x.quad")
    assert not left.exists() and living.exists() and foreign.exists()


class Killed(BaseException):
    pass


def test_a_folder_that_was_not_finished_is_finished(here, monkeypatch, capsys):
    run(DECOMPRESS.format("whole"))
    whole = {path.name: path.read_bytes() for path in (here / "whole").iterdir()}
    count, put, leave = 0, PictureFolder._put, PictureFolder.__exit__

    def killed(self, *picture):
        nonlocal count
        count += 1
        if count == 13:
            raise Killed
        return put(self, *picture)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(PictureFolder, "_put", killed)
        patched.setattr(PictureFolder, "__exit__", lambda self, *error: self._lock.close())
        run(DECOMPRESS.format("part"))
    assert leave is PictureFolder.__exit__
    part = {path.name: path.stat().st_mtime_ns for path in (here / "part").glob("*.png")}
    assert 5 < len(part) < 20
    assert "was begun from another file, or with another codec, decoder" in refused(
        capsys, DECOMPRESS.format("part"), "--decoder", "realistic"
    )
    assert "was begun from another file" in refused(
        capsys, DECOMPRESS.format("part"), "--samples", ":9"
    )
    run(DECOMPRESS.format("part"))
    assert {
        path.name: path.read_bytes() for path in (here / "part").glob("[!.]*")
    } == whole  # this process lives, so its temporary file stays
    assert not list((here / "part").glob("*.json"))
    assert all(
        (here / "part" / name).stat().st_mtime_ns == written for name, written in part.items()
    )
    assert "part is not empty; give a new folder" in refused(capsys, DECOMPRESS.format("part"))


def test_two_do_not_write_into_one_folder(here, capsys):
    asked = []

    class Second(PictureFolder):
        pass

    with (
        PictureFolder(here / "out", {"asked": 1}),
        pytest.raises(QuadrateError, match="another process is writing into"),
    ):
        with Second(here / "out", {"asked": 1}):
            asked.append("never")
    assert not asked


def test_what_does_not_begin_leaves_no_folder(here, monkeypatch):
    def fail(*_):
        raise QuadrateError("no")

    monkeypatch.setattr("quadrate.cli.decompress._write_pictures", fail)
    with pytest.raises(SystemExit):
        run(DECOMPRESS.format("deep/out"))
    assert not (here / "deep").exists()


# --- streams, locales and imports ---


def quadrate(here, command, shell="", **environment):
    script = f"{sys.executable} -c 'from quadrate.cli import main; main()' {command} {shell}"
    return subprocess.run(
        script,
        shell=True,
        cwd=here,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
@pytest.mark.parametrize(
    ("shell", "status", "err"),
    [
        ("> /dev/full", 1, "quadrate: cannot write the output: No space left on device\n"),
        (">&-", 1, "quadrate: cannot write the output: Bad file descriptor\n"),
    ],
)
def test_output_that_is_lost_is_said(here, shell, status, err):
    ended = quadrate(here, "inspect a.quad", shell)
    assert (ended.returncode, ended.stderr) == (status, err)


def test_without_a_place_to_complain_there_is_the_status(here):
    for shell in ("2>&-", "2> /dev/full"):
        ended = quadrate(here, "inspect nothing.quad", shell)
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")


def test_any_name_in_any_locale(here):
    make(decoders=("faithful",)).compress(
        np.zeros((2, 1, 8, 8), np.uint8), to=here / "n.quad", names=["犬/猫.png", "ü"]
    )
    for environment in ({"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}):
        ended = quadrate(here, "decompress n.quad --codec c.st -o 犬", **environment)
        assert ended.returncode == 0 and ended.stderr == "" and "2 samples of 1x8x8" in ended.stdout
        found = sorted(path.relative_to(here).as_posix() for path in (here / "犬").rglob("*.png"))
        assert found == ["犬/ü.png", "犬/犬/猫.png"]
        with Image.open(here / "犬" / "ü.png", formats=["PNG"]) as picture:
            assert picture.size == (8, 8)
        subprocess.run(["rm", "-r", here / "犬"], check=True)


def test_ctrl_c_during_imports_is_one_line(here):
    late = (
        "import sys, importlib.abc, os, signal\nclass Late(importlib.abc.MetaPathFinder):\n    def"
        " find_spec(self, name, *_):\n"
    )
    late += (
        "        if name == 'tyro': os.kill(os.getpid(), signal.{})\nsys.meta_path.insert(0,"
        " Late())\n"
    )
    for name, status in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)):
        script = (
            "import signal; signal.signal(signal.SIGINT,"
            f" signal.default_int_handler)\n{late.format(name)}"
        )
        script += "from quadrate.cli import main\nmain()"
        ended = subprocess.run(
            [sys.executable, "-c", script, "recipes"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (
            status,
            "",
            "quadrate: interrupted\n",
        )


# --- parts of recipes, and networks that fit ---


def test_a_part_of_a_recipe_keeps_what_it_builds_on():
    recipe = find_recipe("rdp-mnist")
    assert Subset().of(recipe) == recipe
    part = Subset(lambda_p=(0.0025,), batch=64, learning_rate=0.001).of(recipe)
    assert all(
        stage.training.batch == 64 and stage.training.learning_rate == 0.001
        for stage in part.stages
    )
    for stage in part.stages:
        own = {point for point in stage.points if point.lambda_p == 0.0025}
        bases = {
            other.base_of(point)
            for other in part.stages
            for point in other.points
            if other.base_stage == stage.name
        }
        assert set(stage.points) == own | bases
    key = recipe.stages[0].points[0].key
    assert [
        point.key
        for point in (
            Subset(points=(key,), rate=(4.75,)).of(find_recipe("rdc-mnist")).stages[0].points
        )
    ] == [key]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Subset(rate=(5.0,)), "no point has --rate 5; there are 4.75, 6, 8, 10"),
        (Subset(lambda_c=(0.5,)), "no point has --lambda-c 0.5; there are 0, 0.0018"),
        (Subset(points=("x",)), "no point has --points x; there are 3x3_d1_p0_c0"),
        (
            Subset(points=("3x3_d1_p0_c0_s0",), rate=(10.0,)),
            "no point of rdc-mnist has all that is asked for",
        ),
        (Subset(batch=0), "batch must be at least 1"),
        (Subset(learning_rate=0.0), "learning_rate must be finite and above 0"),
    ],
)
def test_a_part_that_is_not_there_lists_what_there_is(part, message):
    with pytest.raises(QuadrateError, match=message):
        part.of(find_recipe("rdc-mnist"))


def test_points_that_stand_alone_have_no_parts(here, capsys):
    for verb in ("train", "reproduce"):
        assert "leave --lambda-c out" in refused(capsys, f"{verb} group-exact --lambda-c 0.1")


@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [
        ("rdc-mnist", (3, 32, 32), ("compact-colour", "conv", "residual")),
        ("rdc-mnist", (3, 31, 32), ("compact", "conv", "residual")),
        ("rdc-mnist", (1, 28, 28), ("compact", "dense", "conv")),
        ("rdc-mnist", (3, 6, 6), ("compact", "dense", "dense")),
        ("rdc-svhn", (3, 32, 32), ("compact-colour", "conv", "residual")),
        ("rdc-svhn", (1, 28, 28), ("compact", "dense", "conv")),
    ],
)
def test_other_data_get_networks_that_fit(name, shape, found):
    recipe = find_recipe(name)
    fitting = fitted(recipe, shape)
    assert (fitting.family, fitting.judge, fitting.independent_judge) == found
    assert fitted(recipe, shape, "paper", "mine.ckpt") == replace(
        fitting, family="paper", judge="mine.ckpt"
    )
    assert fitting.strangers == ()
    strangers = fitted(replace(recipe, strangers=("lenet", "residual")), shape).strangers
    assert strangers == (("lenet", "residual") if min(shape[1:]) >= 8 else ("dense",))


def test_small_data_get_a_batch_that_makes_sense(digits, monkeypatch, capsys):
    monkeypatch.setattr(
        "quadrate.cli.steps.load_source", lambda name: digits
    )  # 256 training images
    recipe = find_recipe("rdc-mnist")
    for asked, batch, said in ((256, 32, True), (100, 32, True), (64, 64, False)):
        own = replace(
            recipe,
            stages=tuple(
                replace(stage, training=replace(stage.training, batch=asked))
                for stage in recipe.stages
            ),
        )
        chosen = for_data(own, replace(own, source="small"))
        assert {stage.training.batch for stage in chosen.stages} == {batch}
        assert ("for 256 training images: batches of 32" in capsys.readouterr().out) == said
        assert for_data(recipe, replace(own, source="small")).stages[0].training.batch == (
            32 if asked == 256 else asked
        )  # what was asked for stays


def test_a_folder_of_colours_trains_and_its_codecs_are_listed(here, capsys, monkeypatch):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 2)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(24):
            path = here / "data" / split / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    part = ["--rate", "4.75", "--lambda-c", "0", "0.0018", "--seeds", "1", "--batch", "4"]
    run("train rdc-mnist --data data --epochs 1 --workers 1", *part)
    out = capsys.readouterr().out
    assert (
        "for images of 3x8x8: family compact-colour, judge conv, independent judge residual" in out
    )
    folder = out.split("trained: ")[1].split()[0]
    run(f"export {folder}")
    assert f"next:   quadrate export {folder} -o " in (listed := capsys.readouterr().out)
    assert "3x3_d1_p0_c0_s0" in listed and "3x3_d1_p0_c0.0018_s0" in listed
    assert "name a file with -o" in refused(capsys, f"export {folder} --best mse")
    run(f"export {folder} --json --quiet")
    first, _ = json.loads(capsys.readouterr().out)
    assert (first["point"], first["trained"], first["w1_fresh"]) == ("3x3_d1_p0_c0_s0", True, None)
    with pytest.raises(SystemExit) as ended:
        run(f"export {folder} -o x.safetensors")
    listed, err = capsys.readouterr()
    assert ended.value.code == 1 and err.startswith("quadrate: nothing was exported: ")
    assert err.count("\n") == 1 and "3x3_d1_p0_c0.0018_s0" in listed
    assert "has a score accuracy_independent yet; run `quadrate evaluate" in refused(
        capsys, f"export {folder} -o x.safetensors --best accuracy"
    )
    for key, accuracy, mse in (("3x3_d1_p0_c0_s0", 0.5, 0.01), ("3x3_d1_p0_c0.0018_s0", 0.9, 0.02)):
        row = f'{{"accuracy_independent": {accuracy}, "distortion_mse": {mse}, "w1_fresh": {mse}}}'
        path = here / folder / "end-to-end" / key / "evaluation.json"
        path.write_text(row)
    for best, key in (("accuracy", "c0.0018"), ("mse", "c0"), ("w1", "c0")):
        run(f"export {folder} -o {best}.safetensors --best {best}")
        assert f"end-to-end/3x3_d1_p0_{key}_s0; " in capsys.readouterr().out
        kept = TradeoffCodec.load(here / f"{best}.safetensors").details["scores"]
        mse = 0.02 if best == "accuracy" else 0.01
        assert [scores["distortion_mse"] for scores in kept.values()] == [mse]
    path.write_text(row[:-1] + ', "protocol": "quick"}')  # rough scores are not published
    run(f"export {folder} -o quick.safetensors --stage end-to-end --best accuracy")
    assert "scores" not in TradeoffCodec.load(here / "quick.safetensors").details
    assert not (here / "x.safetensors").exists()


# --- what is published ---


def test_the_source_distribution_has_what_makes_the_package_and_little_more():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]
    assert build["wheel"]["packages"] == ["src/quadrate"]
    places = [ROOT / pattern.strip("/") for pattern in build["sdist"]["include"]]
    files = [
        path
        for place in places
        for path in (place.rglob("*") if place.is_dir() else [place])
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert ROOT / "src" / "quadrate" / "__init__.py" in files
    weights = {"zoo", "judges"}
    assert sum(path.stat().st_size for path in files if not weights & set(path.parts)) < 3_000_000
