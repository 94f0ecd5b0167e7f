"""docs/gallery.md is what tools/gallery.py makes from the committed results."""

import importlib.util
import json
import re
import runpy
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from quadrate.config import OperatingPoint, from_json
from quadrate.experiments.reports.grids import mosaic, save_grid
from quadrate.experiments.reports.summary import read_table
from quadrate.sources.images import FORMATS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "tools" / "gallery.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(tool: ModuleType) -> str:
    return str(tool.gallery())


def test_the_committed_page_is_up_to_date(page: str) -> None:
    committed = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert committed == page, "results changed; make the page again: python tools/gallery.py"


def test_all_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 20
    for link in links:
        assert (ROOT / "docs" / link).exists(), link


def test_costs_are_those_of_the_tables(page: str) -> None:
    rows = read_table(ROOT / "results" / "rdp-mnist" / "results.csv")
    minutes = sum(row["train_cpu_seconds"] for row in rows) / 60
    assert re.search(rf"^\| rdp-mnist \| {len(rows)} \| {minutes:.1f} \|", page, re.MULTILINE)


def test_tables_of_every_kind_are_shown(page: str) -> None:
    for name in ("rdpc-contours", "cifar-features", "lossyless-clip"):
        rows = read_table(ROOT / "results" / name / "results.csv")
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert section.count("\n| ") == len(rows) + 2, name


def test_a_changed_number_changes_the_page(tool: ModuleType, page: str, tmp_path: Path) -> None:
    for name in ("results/banana-rotation", "benchmarks/results"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "results" / "rdp-mnist", tmp_path / "results" / "rdp-mnist")
    table = tmp_path / "results" / "banana-rotation" / "results.csv"
    before = tool.gallery(tmp_path)
    assert (
        "| vic | 0.07 | 3 | 2.325 ±0.002 |" in before
        and "| vic | 0.07 | 3 | 2.325 ±0.002 |" in page
    )
    table.write_text(table.read_text().replace("2.32448", "2.22448"))
    assert "| vic | 0.07 | 3 | 2.325 ±0.002 |" not in tool.gallery(tmp_path)


def test_claims_without_results_are_listed(tool: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "rdp-mnist", tmp_path / "results" / "rdp-mnist")
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    page = tool.gallery(tmp_path)
    assert page.count("`quadrate reproduce rdp-mnist` |") == 3
    assert re.search(r"Claims without committed results: .*`rdc-mnist` \(6\)", page)


def test_samples_of_points_stand_below_their_originals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool puts originals once and each point's reconstructions below, as they were."""
    run = tmp_path / "run"
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(3, 4, 3, 8, 8, generator=draw)
    shutil.copytree(ROOT / "results" / "cifar-10-rdc-svhn", run)
    config = json.loads((run / "config.json").read_text())
    config["source"]["shape"] = [3, 8, 8]
    (run / "config.json").write_text(json.dumps(config))
    points = config["recipe"]["stages"][0]["points"]
    row = read_table(run / "results.csv")[0]
    keys = [from_json(OperatingPoint, json.dumps(point)).key for point in points[:2]]
    for key, made in zip(keys, images[1:], strict=True):
        (run / "end-to-end" / key).mkdir(parents=True)
        (run / "end-to-end" / key / "evaluation.json").write_text(json.dumps(row))
        save_grid(run / "end-to-end" / key / "samples.png", [images[0], made])
    command = [
        "samples.py",
        str(run),
        *(f"end-to-end/{key}" for key in keys),
        "-o",
        str(tmp_path / "samples.png"),
    ]
    monkeypatch.setattr("sys.argv", command)
    runpy.run_path(str(ROOT / "tools" / "samples.py"), run_name="__main__")
    with Image.open(tmp_path / "samples.png", formats=FORMATS) as picture:
        assert np.array_equal(np.asarray(picture), mosaic(list(images)))
