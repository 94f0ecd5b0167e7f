"""The check of a GPU, on the CPU and small: all its parts run, and it sees what is not equal."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quadrate.training import Trainer

SCRIPT = Path(__file__).parents[1] / "tools" / "gpu_check.py"
WITHOUT = """
import runpy, sys
for name in ("scipy", "sklearn", "tyro", "rich", "PIL", "matplotlib", "pooch", "constriction"):
    sys.modules[name] = None  # a machine on which nothing can be installed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.delenv("QUADRATE_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(gpu_check):
    return gpu_check.Check(*(torch.device("cpu"), gpu_check._source(100), 1.0, 3, 2, 20), batch=16)


@pytest.mark.slow
def test_all_of_it_needs_torch_numpy_and_safetensors_alone(tmp_path):
    out = tmp_path / "gpu-check.json"
    words = [sys.executable, "-c", WITHOUT, SCRIPT, "--device", "cpu", "--small", "--out", out]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 of 2 comparisons passed" in ended.stdout and "points_a_minute" in ended.stdout
    parts = json.loads(out.read_text())["parts"]
    assert [row["passed"] for row in parts["stacked against single"]] == [True, True]
    grids = {(row["recipe"], row["way"]): row for row in parts["grids"]}
    assert set(grids) == {(r, w) for r in ("rdc-mnist", "rdp-mnist") for w in ("stacked", "single")}
    assert grids["rdc-mnist", "stacked"]["stacks"] == 4
    for row in grids.values():
        assert row["points_a_minute"] == pytest.approx(60 * row["points"] / row["seconds"])
        assert 0 < row["validation_mse"] < 1 and not row["finished"]
    assert {row["recipe"] for row in parts["precision"]} == {"rdc-mnist", "rdp-mnist"}
    coded = {(row["codec"], row.get("work")) for row in parts["codecs"]}
    assert {("mnist-10bit", "encode"), ("mnist-10bit", "decode realistic")} <= coded
    assert all("constriction is missing" in row["failed"] for row in parts["files"])


def test_files_of_both_sides_are_read_on_both(gpu_check, check):
    rows = list(gpu_check.files(check))
    assert {row["codec"] for row in rows} == {"mnist-10bit", "mnist-4.75bit"}
    assert all(row["passed"] and row["symbols_that_differ"] == 0 for row in rows)


def test_a_stack_that_is_not_its_points_is_seen(gpu_check, check, monkeypatch, tmp_path):
    class Wrong(Trainer):
        def steps(self):
            for losses in super().steps():
                wrong = 1.001 if len(self.points) > 1 else 1.0
                yield {name: wrong * loss for name, loss in losses.items()}

    monkeypatch.setattr(gpu_check, "Trainer", Wrong)
    monkeypatch.setattr(gpu_check, "PARTS", {"stacked": gpu_check.equality})
    results = gpu_check.run(check, tmp_path / "out.json")
    assert [row["passed"] for row in results["stacked"]] == [False, False]


def test_a_part_that_fails_leaves_the_others(gpu_check, check, monkeypatch, tmp_path):
    def fails(check):
        yield {"a": 1.5}
        raise MemoryError("no room")

    parts = {"first": fails, "second": lambda check: iter([{"b": None, "passed": True}])}
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    results = gpu_check.run(check, tmp_path / "out.json")
    assert results["first"] == [{"a": 1.5}, {"failed": "MemoryError: no room", "passed": False}]
    assert results == json.loads((tmp_path / "out.json").read_text())["parts"]
