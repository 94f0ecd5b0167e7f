"""A small run, hostile names, and a parser of pages."""

import json
import re
from pathlib import Path

from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.core.files import write_text

HOSTILE = "<img src=x onerror=\"document.title='broken'\">"


NAME = "&lt;img src=x onerror='document.title=0'&gt;"  # as hostile as the name of a folder may be


SCRIPT = "</script><script>document.title='broken'</script>"


SETTINGS = TrainingConfig(epochs=1, batch=64)


POINTS = tuple(OperatingPoint((3, 3), 1.0, p, 0.0, seed) for p in (0.0, 0.01) for seed in (0, 1))


BASE = OperatingPoint((3, 3), 1.0, 0.01)


def embedded(page: str) -> list[dict]:
    return json.loads(
        re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL).group(1)
    )["charts"]


def change(path: Path, **values) -> None:
    write_text(path, json.dumps(json.loads(path.read_text()) | values))


def hostile(folder: Path) -> Path:
    """Everything that names something, renamed."""
    config = json.loads((folder / "config.json").read_text())
    config["recipe"] |= {"name": NAME, "title": SCRIPT}
    config["source"]["name"], config["command"], config["terms"], config["processor"] = (
        SCRIPT,
        HOSTILE,
        [HOSTILE],
        SCRIPT,
    )
    config["recipe"]["stages"][0]["name"] = config["recipe"]["stages"][1]["base_stage"] = NAME
    write_text(folder / "config.json", json.dumps(config))
    (folder / "end-to-end").rename(folder / NAME)
    for path in (folder / NAME).glob("*/evaluation.json"):
        change(path, stage=HOSTILE)
    return folder
