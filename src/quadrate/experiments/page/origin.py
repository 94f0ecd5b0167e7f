"""How a run was made.

Settings, judges, commands, machine, cost, and the hashes of data and models.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from quadrate.config import Stage
from quadrate.experiments.page.markdown import table
from quadrate.experiments.page.page_data import ReportedRun, model_hashes
from quadrate.experiments.recipes import RECIPES, with_seeds
from quadrate.experiments.reports.summary import Row

_STAGE_COLUMNS = [
    "stage",
    "mode",
    "codecs",
    "epochs",
    "batch",
    "learning rate",
    "critic's rate",
    "surrogate",
    "input noise σ",
]


def origin(run: ReportedRun) -> str:
    """The section as HTML.

    Raises:
        QuadrateError: If a model file cannot be read.
    """
    stages = table(_STAGE_COLUMNS, [_stage(stage) for stage in run.recipe.stages])
    hashes = model_hashes(run)
    lines = escape("\n".join(f"{digest}  {name}/model.safetensors" for name, digest in hashes))
    return f"""<dl>{_listed(_facts(run), run.config, _remake(run))}</dl>
{stages}
{settings(run.config)}
<details><summary>SHA-256 of the {len(hashes)} model files</summary>
<p>A file holds its recipe's name and what training took, so equal codecs of two runs differ in their hashes.</p>
<pre tabindex="0">{lines}</pre></details>"""


def settings(config: dict[str, Any]) -> str:
    """A run's config.json, folded."""
    # The innermost objects (a point, a stage's training) on a line each.
    text = re.sub(
        r"\{[^{}]*\}",
        lambda found: " ".join(found[0].split()),
        json.dumps(config, indent=1, ensure_ascii=False),
    )
    return (
        "<details><summary>all settings, resolved (config.json)</summary><pre"
        f' tabindex="0">{escape(text)}</pre></details>'
    )


def plain_facts(config: dict[str, Any], folder: Path, rows: Sequence[Row]) -> str:
    """What is to be said of a run of any kind, as the inside of a list of definitions."""
    plain = {
        "data": _text(config["source"]["name"]),
        "machine": _text(config.get("processor")),
        "software": _software(config),
        "made on": _text(config.get("date")),
        "training took": (
            f"{seconds:,.0f} CPU-seconds"
            if (seconds := math.fsum(row.get("train_cpu_seconds", 0) for row in rows))
            else ""
        ),
    }
    name, command = _text(config["recipe"]["name"]), _text(config.get("command"))
    if (
        not command.startswith(("quadrate train ", "quadrate reproduce "))
        and name in RECIPES.built_in
    ):
        command = f"quadrate reproduce {name}"
    return _listed(
        plain,
        config,
        [_code(command), _code(f"quadrate report runs/{folder.resolve().name} -o report.html")],
    )


def _listed(plain: dict[str, str], config: dict[str, Any], remake: list[str]) -> str:
    """Names and what stands beside them, plain text first, then what is to be typed or compared, as HTML; what is empty is left out."""
    facts = {name: escape(text) for name, text in plain.items()}
    facts["fingerprint of the data"] = _code(_text(config["source"].get("fingerprint")))
    facts["made by"] = _code(_text(config.get("command")))
    facts["to make it again"] = "<br>".join(remake)
    return "".join(
        f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in facts.items() if value
    )


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>" if text else ""


def _software(config: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {_text(config[key])}" for key, name in _VERSIONS.items() if key in config
    )


def _facts(run: ReportedRun) -> dict[str, str]:
    """Names and what stands beside them."""
    config, rows = run.config, run.rows
    source, shape = config["source"], "×".join(map(str, run.shape))
    return {
        "data": f"{source['name']}, images of {shape} (channels, height, width)",
        "networks": (
            _text(config.get("family"))
            + "".join(f", own term {_text(term)}" for term in config.get("terms", []))
        ),
        "judge in the loss": _judge(config["judge"], run.recipe.judge),
        "independent judge": _independent(run),
        "machine": _text(config.get("processor")),
        "software": _software(config),
        "trained on": _text(config.get("date")),
        "training took": (
            f"{math.fsum(row.get('train_cpu_seconds', 0) for row in rows):,.0f} CPU-seconds for the"
            " scored codecs together"
        ),
    }


def _remake(run: ReportedRun) -> list[str]:
    """The commands that make the run anew, as HTML.

    A sentence where flags or a program of the user's own decided it.
    """
    name, command = run.recipe.name, _text(run.config.get("command"))
    place = f"runs/{run.folder.resolve().name}"
    after = [_code(f"quadrate evaluate {place}"), _code(f"quadrate report {place} -o report.html")]
    if name in RECIPES.built_in and not run.config.get("terms"):
        known = RECIPES[name]()
        seeds = len({point.seed for stage in run.recipe.stages for point in stage.points})
        if known == run.recipe:
            return [_code(f"quadrate train {name}"), *after]
        if with_seeds(known, seeds) == run.recipe:
            return [_code(f"quadrate train {name} --seeds {seeds}"), *after]
    if command.startswith(("quadrate train ", "quadrate reproduce ")):
        return [_code(command), *after]
    return [
        (
            "these settings are not those of a recipe that comes with Quadrate; they stand below in"
            " full"
        ),
        *after,
    ]


def _judge(judge: dict[str, Any], name: str) -> str:
    scores = (
        [f"accuracy {judge['accuracy']:.4f}"] if isinstance(judge.get("accuracy"), float) else []
    )
    scores += (
        [f"cross-entropy {judge['cross_entropy_nats']:.4f} nats"]
        if isinstance(judge.get("cross_entropy_nats"), float)
        else []
    )
    return f"{_text(judge.get('name', name))}" + (
        f"; on clean images {', '.join(scores)}" if scores else ""
    )


def _independent(run: ReportedRun) -> str:
    clean = {
        row["accuracy_independent_clean"] for row in run.rows if "accuracy_independent_clean" in row
    }
    if not clean:
        return "none"
    return run.recipe.independent_judge + "".join(
        f"; on clean images accuracy {value:.4f}" for value in sorted(clean)
    )


def _stage(stage: Stage) -> list[str]:
    training = stage.training
    base = f" on {stage.base_stage}/{stage.base.key}, each seed on its own" if stage.base else ""
    critic = (
        f"{training.critic_learning_rate:g}"
        if any(point.lambda_p > 0 for point in stage.points)
        else "no critic"
    )
    settings = [
        f"{training.epochs}",
        f"{training.batch}",
        f"{training.learning_rate:g}",
        critic,
        training.surrogate,
        f"{stage.noise_std:g}",
    ]
    return [stage.name, stage.mode + base, f"{len(stage.points)}", *settings]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


_VERSIONS = {"quadrate": "Quadrate", "torch": "PyTorch", "python": "Python"}
