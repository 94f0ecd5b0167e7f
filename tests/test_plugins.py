"""What is one's own, from one file.

The code in docs/extending.md through every verb, and what is said where it is missing.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
(SNIPPET,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

MAKE = """
import sys
from functools import partial
import quadrate.bottlenecks, quadrate.training.judges
from quadrate.cli import main
from evaluation_parts import QUICK

for module in ("protocol", "references"):
    setattr(sys.modules[f"quadrate.evaluation.{module}"], "Protocol", lambda: QUICK)
quadrate.training.judges._LEAST_STEPS = 30

if __name__ == "__main__":
    own = ["--module", "mine.py"]
    main(["train", "bars-linear", "--workers", "2", *own])  # in processes that must know it, too
    demo = ["train", "demo", "--epochs", "1", "--workers", "1"]
    linear = ["--family", "linear", "--judge", "one-layer", "--term", "brightness=0.1"]
    main([*demo, "--data", "bars", *linear, *own])
    (run,) = __import__("pathlib").Path("runs").glob("bars-linear-*")
    main(["evaluate", str(run), "--workers", "1", *own])
    main(["export", str(run), "--point", "2x3_d1_p0_c0_s0", "-o", "bars.safetensors", *own])
    main(["judge", "bars", "--architecture", "one-layer", *own])
"""
USE = """
from quadrate.cli import main

own = ["--module", "./mine.py"]
main(["compress", "bars:test", "--codec", "bars.safetensors", "-o", "bars.quad", *own])
main(["inspect", "bars.quad", "--codec", "bars.safetensors", *own])
main(["verify", "bars.quad", "--codec", "bars.safetensors", *own])
main(["decompress", "bars.quad", "--codec", "bars.safetensors", "-o", "bars.npy", *own])
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def quadrate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-c", "from quadrate.cli import main; main()", *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with mine.py, two runs trained with it, one of them scored, and its codec."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(SNIPPET, encoding="utf-8")
    (folder / "make.py").write_text(MAKE, encoding="utf-8")
    done = python(folder, "make.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "judge one-layer-s0 on clean bars: accuracy" in done.stdout and "warning" not in done.stderr
    )
    return folder


def test_the_code_of_the_page_goes_through_every_verb(made):
    (run,) = (made / "runs").glob("bars-linear-*")
    assert '"brightness"' in (run / "config.json").read_text() and (run / "results.csv").exists()
    rows = (run / "end-to-end" / "2x3_d1_p0_c0_s0" / "metrics.jsonl").read_text()
    assert '"brightness": ' in rows
    (made / "use.py").write_text(USE, encoding="utf-8")
    done = python(made, "use.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "bars.safetensors reads it" in done.stdout
        and "all layers decode with bars.safetensors" in done.stdout
    )
    assert np.load(made / "bars.npy").shape == (300, 1, 8, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "compress bars:test --codec bars.safetensors -o x.quad",
            (
                "bars.safetensors: unknown network family 'linear'; known: compact, .*; .* is"
                " registered by --module"
            ),
        ),
        (
            "judge bars",
            "unknown source 'bars': expected .* register your own with --module",
        ),
        ("train bars-linear", "unknown recipe 'bars-linear'; .*--module"),
        (
            "train demo --term edges=1 --epochs 1",
            "unknown loss term 'edges'; known: none; one of your own is registered by --module",
        ),
        (
            "train demo --term edges",
            "--term takes a registered loss and its weight, .*; got 'edges'",
        ),
        ("train demo --family linear", "unknown network family 'linear'; .*--module"),
        (
            "train demo --module gone.py",
            "plug-in gone.py cannot be loaded: FileNotFoundError: .*gone.py",
        ),
        (
            "train demo --module gone",
            (
                "plug-in gone cannot be loaded: ModuleNotFoundError: No module named 'gone'; a"
                " plug-in is a path"
            ),
        ),
        (
            "inspect x.quad --module broken.py",
            "plug-in broken.py cannot be loaded: SyntaxError: .*broken.py, line 2",
        ),
        (
            "verify x.quad --module taken.py",
            (
                "plug-in taken.py cannot be loaded: there is a network family 'paper' already; give"
                " yours another name"
            ),
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(made, words, said, capsys, monkeypatch):
    from quadrate.cli import main

    monkeypatch.chdir(made)
    Path("broken.py").write_text("import quadrate\ndef (\n")
    Path("taken.py").write_text(
        "from quadrate.networks import *\nregister_family(Family('paper', None, None, None))\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    error = capsys.readouterr().err
    assert (
        stop.value.code == 1 and error.count("\n") == 1 and re.match(f"quadrate: {said}", error)
    ), error


def test_a_judge_whose_architecture_is_unknown_is_not_to_be_deleted(made, tmp_path):
    script = """
import torch
import mine
from quadrate.errors import QuadrateError
from quadrate.networks import CLASSIFIERS, register_classifier
from quadrate.training import find_judge, judge_of, load_judge, save_judge

source = mine.bars()
save_judge(judge_of(mine.OneLayer((1, 8, 8), 8), source, "one-layer"), "one-layer.st.safetensors")
FILE = "one-layer.st.safetensors"
assert load_judge(FILE, source).name == "one-layer" == find_judge(FILE, source, "judges").name
build = CLASSIFIERS.pop("one-layer")
for read in (lambda: load_judge(FILE), lambda: find_judge(FILE, source, "judges")):
    try:
        read()
    except QuadrateError as error:
        print(error)
try:
    judge_of(torch.nn.Identity(), source, "one-layer")
except QuadrateError as error:
    print(error)
"""
    done = python(made, "-c", script)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 3, done.stdout + done.stderr
    assert (
        lines[0] == lines[1]
        and "of architecture 'one-layer', which is not registered" in lines[0]
        and "register_classifier" in lines[0]
    )
    assert "delete" not in done.stdout and lines[2].startswith(
        "unknown classifier 'one-layer'; known: conv"
    )


def test_installed_packages_are_found_by_their_entry_points_and_broken_ones_named(made, tmp_path):
    for name, text in (("good", SNIPPET), ("bad", "1 / 0\n")):
        (tmp_path / f"{name}_plugin.py").write_text(text, encoding="utf-8")
        information = tmp_path / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        (information / "entry_points.txt").write_text(
            f"[quadrate.plugins]\n{name} = {name}_plugin\n"
        )
    script = f"""
import sys, warnings
sys.path.append({str(tmp_path)!r})
from quadrate.networks import find_family
assert "good_plugin" not in sys.modules, "before it is needed"
with warnings.catch_warnings(record=True) as doubts:
    warnings.simplefilter("always")
    assert find_family("linear").name == "linear" and find_family("linear").name == "linear"
print(*(doubt.message for doubt in doubts), sep="\\n")
"""
    done = python(tmp_path, "-c", script)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout
        == "plug-in bad (bad_plugin) cannot be loaded: ZeroDivisionError: division by zero\n"
    )


def test_a_bottleneck_of_ones_own_is_trained_and_saved(made):
    script = """
import torch
from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture
from quadrate.bottlenecks.by_name import register_bottleneck
from quadrate.config import InvariantConfig
from quadrate.errors import QuadrateError
from quadrate.codecs import InvariantCodec
from quadrate.sources.symmetry import Banana
from quadrate.training.invariant_trainer import train_invariant


def wide(shape):
    (dims,) = shape
    return FactorizedBottleneck(LogisticMixture(dims), torch.zeros(dims), torch.full(shape, 2.0))

register_bottleneck("wide", wide)
config = InvariantConfig("vic", 0.02, bottleneck="wide", steps=300, batch=256)
trained = train_invariant(Banana("rotation"), config)
members = Banana("rotation").sample(2000, "train", 0, 0).float()
trained.codec(members).save("wide.st")
assert InvariantCodec.load("wide.st").config.key == "vic_b0.02_d1_wide_s0"
for settings in (dict(bottleneck="narrow"), dict(bottleneck="wide", schedule="staggered")):
    try:
        InvariantConfig(**settings)
    except QuadrateError as error:
        print(error)
"""
    done = python(made, "-c", script)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert (
        first.startswith("unknown bottleneck 'narrow'; known: dithered, factorized, hyperprior")
        and "train it end-to-end" in second
    )
