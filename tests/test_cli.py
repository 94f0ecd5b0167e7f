"""The command line, as a user meets it: in a process of its own, in an empty folder."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from quadrate.sources import load_source

README = Path(__file__).parents[1] / "README.md"
EXTENDING = Path(__file__).parents[1] / "docs" / "extending.md"


def quadrate(*arguments, folder, **environment):
    command = [sys.executable, "-c", "from quadrate.cli import main; main()", *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "QUADRATE_DATA"}
    return subprocess.run(
        command, cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=500
    )


def fails_with_one_line(result, *parts):
    assert result.returncode == 1, result.stderr
    lines = [
        line for line in result.stderr.strip().splitlines() if not line.startswith("judge/")
    ]  # a judge that was trained on the way
    assert len(lines) == 1 and lines[0].startswith("quadrate: "), result.stderr
    for part in parts:
        assert part in lines[0]


def test_recipes_are_listed(tmp_path):
    result = quadrate("recipes", folder=tmp_path)
    assert result.returncode == 0
    for name in ("demo", "rdc-mnist", "rdp-mnist", "urdc-mnist", "refine-mnist", "restore-mnist"):
        assert re.search(rf"^ *{name} ", result.stdout, re.MULTILINE)


def test_help_names_the_verbs(tmp_path):
    text = quadrate("--help", folder=tmp_path).stdout
    assert all(
        verb in text
        for verb in (
            "recipes",
            "train",
            "evaluate",
            "plot",
            "judge",
            "demo",
            "theory",
            "export",
            "compress",
            "decompress",
            "inspect",
            "verify",
        )
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "rdc-mnits"], ["unknown recipe 'rdc-mnits'", "rdc-mnist"]),
        (["train", "demo", "--data", "mnits"], ["unknown source 'mnits'", "digits"]),
        (["train", "demo", "--judge", "oracle"], ["oracle"]),
        (["train", "demo", "--epochs", "0"], ["epochs must be at least 1"]),
        (["train", "demo", "--family", "paper", "--epochs", "1"], ["family", "compact"]),
        (["evaluate", "runs/nothing"], ["no run at runs/nothing"]),
        (["plot", "runs/nothing"], ["no run at runs/nothing"]),
        (["plot"], ["at least one run"]),
        (["judge", "no-such-folder"], ["unknown source"]),
    ],
)
def test_bad_input_is_one_line(arguments, parts, tmp_path):
    fails_with_one_line(quadrate(*arguments, folder=tmp_path), *parts)


def test_missing_data_without_a_network(tmp_path):
    empty = tmp_path / "data"
    empty.mkdir()
    # Every proxy address here refuses at once, as a machine without a network does.
    blocked = {
        name: "http://127.0.0.1:9"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    }
    result = quadrate(
        "train",
        "rdc-mnist",
        folder=tmp_path,
        QUADRATE_DATA=str(empty),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        **blocked,
    )
    fails_with_one_line(result, "mnist", "QUADRATE_DATA")
    assert not (tmp_path / "runs").exists()


def test_cuda_where_there_is_none(tmp_path):
    fails_with_one_line(
        quadrate("train", "demo", "--device", "cuda", folder=tmp_path, CUDA_VISIBLE_DEVICES=""),
        "cuda",
        "--device cpu",
    )


@pytest.mark.slow
def test_train_evaluate_plot(tmp_path):
    trained = quadrate("train", "demo", "--epochs", "2", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    folder = re.search(r"trained: (\S+)", trained.stdout).group(1)
    fails_with_one_line(quadrate("plot", folder, folder=tmp_path), "quadrate evaluate")
    evaluated = quadrate("evaluate", folder, folder=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    header, *rows = (tmp_path / folder / "results.csv").read_text().splitlines()
    assert len(rows) == 10 and {
        "distortion_mse",
        "rate_entropy_bits",
        "w1_fresh_floor",
        "accuracy_retrained",
    } <= set(header.split(","))
    plotted = quadrate("plot", folder, "--output", "front.png", folder=tmp_path)
    assert plotted.returncode == 0 and (tmp_path / "front.png").stat().st_size > 5000
    # The trained codec goes on to files; without --stage the last one, one encoder with three
    # decoders.
    exported = quadrate("export", folder, "-o", "mine.safetensors", folder=tmp_path)
    assert (
        exported.returncode == 0 and "decoders faithful, recognizable, realistic" in exported.stdout
    ), exported.stderr
    np.save(tmp_path / "images.npy", load_source("digits").test.images[:50].numpy())
    compressed = quadrate(
        "compress",
        "images.npy",
        "--codec",
        "mine.safetensors",
        "-o",
        "images.quad",
        folder=tmp_path,
    )
    assert compressed.returncode == 0, compressed.stderr
    several = quadrate(
        "export", folder, "-o", "x.safetensors", "--stage", "end-to-end", folder=tmp_path
    )
    fails_with_one_line(several, "nothing was exported", "--point")
    assert re.search(
        r"end-to-end +3x3_d1_p0_c0_s0 +4.75 +0\.\d{4} +0\.\d{4} +\d", several.stdout
    )  # with its scores
    fails_with_one_line(
        quadrate("export", folder, "-o", "x.safetensors", "--stage", "nope", folder=tmp_path),
        "no stage 'nope'",
        "universal",
    )
    best = quadrate("export", folder, "-o", "best.safetensors", "--best", "mse", folder=tmp_path)
    assert best.returncode == 0 and (tmp_path / "best.safetensors").exists(), best.stderr
    before = (tmp_path / folder / "results.csv").read_bytes()
    again = quadrate("train", "demo", "--epochs", "2", folder=tmp_path)
    assert again.returncode == 0 and (tmp_path / folder / "results.csv").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(tmp_path):
    command = [
        sys.executable,
        "-c",
        "from quadrate.cli import main; main()",
        "train",
        "demo",
        "--epochs",
        "3000",
    ]
    # A shell starts background jobs with SIGINT ignored, and the tests may run in one.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/demo-*/config.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        errors.strip().splitlines()[-1]
        == "quadrate: interrupted; the same command goes on from the last checkpoint"
    )
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, EXTENDING], ids=["README", "extending"])
def test_python_in_the_documentation_runs(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        script = tmp_path / "script.py"
        script.write_text(block)
        result = subprocess.run(
            [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=500
        )
        assert result.returncode == 0, result.stderr


def test_training_imports_torch_numpy_and_safetensors_only():
    script = (
        "import sys, quadrate.experiments.runs, quadrate.experiments.recipes; print(*sys.modules)"
    )
    modules = set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert "torch" in modules
    assert not modules & {
        "scipy",
        "sklearn",
        "tyro",
        "rich",
        "matplotlib",
        "PIL",
        "pooch",
        "requests",
    }


def test_theory_imports_numpy_and_scipy_only():
    script = (
        "import sys, quadrate.theory; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100
    ).stdout.split()
    assert {"numpy", "scipy"} <= set(modules)
    assert not {
        "torch",
        "sklearn",
        "matplotlib",
        "constriction",
        "safetensors",
        "cvxpy",
        "tyro",
    } & set(modules)
