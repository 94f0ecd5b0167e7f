"""How a run was made.

Settings, judges, commands, machine, cost, and the hashes of data and models.
"""

from __future__ import annotations

import json
import math
import re
from html import escape
from typing import Any

from quadrate.config import Recipe, Stage
from quadrate.core.table import Column, Table
from quadrate.evaluation.roles import STRANGER
from quadrate.experiments.page.page_data import ReportedRun, model_hashes
from quadrate.experiments.recipes import RECIPES, with_seeds

_STRANGERS = f"accuracy_{STRANGER}"
_COMMANDS = ("quadrate train ", "quadrate reproduce ")
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
    facts = _facts(run, run.recipe) if run.recipe else {"data": run.source}
    remake = _remake(run, run.recipe) if run.recipe else _remake_points(run)
    whole = f"<dl>{_listed(facts | _machine(run), run.config, remake)}</dl>"
    if not run.recipe:
        return f"{whole}\n{settings(run.config)}"
    stages = Table(
        [
            Column(heading, cells, words=i == 0)
            for i, (heading, cells) in enumerate(
                zip(_STAGE_COLUMNS, zip(*map(_stage, run.recipe.stages), strict=True), strict=True)
            )
        ]
    )
    hashes = model_hashes(run.folder, run.recipe)
    lines = escape("\n".join(f"{digest}  {name}/model.safetensors" for name, digest in hashes))
    return f"""{whole}
{stages.html()}
{settings(run.config)}
<details><summary>SHA-256 of the {len(hashes)} model files</summary>
<p>A file holds its recipe's name and what training took, so equal codecs of two runs differ in
their hashes.</p>
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


def _listed(plain: dict[str, str], config: dict[str, Any], remake: list[str]) -> str:
    """Names and values as HTML: plain text first, then commands and digests; no empty values."""
    facts = {name: escape(text) for name, text in plain.items()}
    facts["fingerprint of the data"] = _code(_text(config["source"].get("fingerprint")))
    facts["made by"] = _code(_text(config.get("command")))
    facts["to make it again"] = "<br>".join(remake)
    return "".join(
        f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in facts.items() if value
    )


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>" if text else ""


def _facts(run: ReportedRun, recipe: Recipe) -> dict[str, str]:
    """The data, networks and judges of a trade-off."""
    config, shape = run.config, "×".join(map(str, run.shape))
    terms = "".join(f", own term {_text(term)}" for term in config.get("terms", []))
    return {
        "data": f"{run.source}, images of {shape} (channels, height, width)",
        "networks": _text(config.get("family")) + terms,
        "judge in the loss": _judge(config["judge"], recipe.judge),
        "independent judge": _clean(run, "independent", recipe.independent_judge),
        "judges never in the loss": ", ".join(
            _clean(run, role, role.removeprefix(STRANGER)) for role in _strangers(run)
        ),
    }


def _machine(run: ReportedRun) -> dict[str, str]:
    """Where and when a run was made, and what it cost."""
    config = run.config
    seconds = math.fsum(row.get("train_cpu_seconds", 0) for row in run.rows)
    return {
        "machine": _text(config.get("processor")),
        "software": ", ".join(
            f"{name} {_text(config[key])}" for key, name in _VERSIONS.items() if key in config
        ),
        "made on": _text(config.get("date")),
        "training took": (
            f"{seconds:,.0f} CPU-seconds for the scored points together" if seconds else ""
        ),
    }


def _remake_points(run: ReportedRun) -> list[str]:
    command = _text(run.config.get("command"))
    if not command.startswith(_COMMANDS) and run.name in RECIPES.built_in:
        command = f"quadrate reproduce {run.name}"
    return [_code(command), _code(f"quadrate report {_place(run)} -o report.html")]


def _place(run: ReportedRun) -> str:
    return f"runs/{run.folder.resolve().name}"


def _remake(run: ReportedRun, recipe: Recipe) -> list[str]:
    """The commands that make the run again, as HTML.

    A sentence instead if your own options or program decided it.
    """
    name, command, place = run.name, _text(run.config.get("command")), _place(run)
    after = [_code(f"quadrate evaluate {place}"), _code(f"quadrate report {place} -o report.html")]
    if name in RECIPES.built_in and not run.config.get("terms"):
        known = RECIPES[name]()
        seeds = len({point.seed for stage in recipe.stages for point in stage.points})
        if known == recipe:
            return [_code(f"quadrate train {name}"), *after]
        if with_seeds(known, seeds) == recipe:
            return [_code(f"quadrate train {name} --seeds {seeds}"), *after]
    if command.startswith(_COMMANDS):
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


def _strangers(run: ReportedRun) -> list[str]:
    """The roles of the strangers that scored a run."""
    names = dict.fromkeys(name for row in run.rows for name in row)
    own = (name.removeprefix("accuracy_") for name in names if name.startswith(_STRANGERS))
    return [role for role in own if not role.endswith("_clean")]


def _clean(run: ReportedRun, role: str, name: str) -> str:
    """A judge's name and its accuracy on clean images."""
    column = f"accuracy_{role}_clean"
    clean = {row[column] for row in run.rows if column in row}
    if not clean:
        return "none"
    return name + "".join(f"; on clean images accuracy {value:.4f}" for value in sorted(clean))


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
