"""Writes docs/gallery.md.

The papers' claims with verdicts, what it all cost, and a table and a figure for each recipe, from
results/ alone.

python tools/gallery.py
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quadrate.core.files import read_json, write_text
from quadrate.evaluation.intervals import mean_interval
from quadrate.experiments.claims import CHECKS, Verdict, decide_run
from quadrate.experiments.recipes import RECIPES
from quadrate.experiments.reports.result_tables import markdown, number
from quadrate.experiments.reports.row_points import points_markdown
from quadrate.experiments.reports.summary import POINT, mean_over_seeds, read_table

ROOT = Path(__file__).parents[1]
PUBLISHED_EPOCHS = {"uRDP": 30, "RDPC": 30, "URDC": 25}
SETTINGS = {
    "stage": "stage",
    "rate_bound_bits": "bits",
    "noise_std": "noise σ",
    "lambda_d": "λd",
    "lambda_p": "λp",
    "lambda_c": "λc",
}
SCORES = {  # heading, factor, decimals
    "distortion_mse": ("MSE ×10³", 1000, 2),
    "accuracy_training": ("accuracy %, judge in the loss", 100, 2),
    "accuracy_independent": ("accuracy %, independent judge", 100, 2),
    "w1_fresh": ("W1, fresh critic", 1, 3),
    "w1_certified": ("W1, certified", 1, 3),
}
_JUDGES = (("training", "the one in the loss"), ("independent", "independent"))
INVARIANT_SETTINGS = {
    "objective": "objective",
    "beta": "β",
    "predictor_augmentation": "predictor's changes",
}
INVARIANT_SCORES = {
    "disk_bits": ("bits on disk", 1, 3),
    "entropy_source_bits": ("H[X]", 1, 1),
    "entropy_invariant_bits": ("H[M]", 1, 1),
    "prediction_error": ("prediction error %", 100, 2),
    "distortion": ("MSE", 1, 4),
    "accuracy_reconstructions": ("accuracy % on reconstructions", 100, 2),
    "accuracy_latents": ("accuracy % on latents", 100, 2),
    "bound_bits": ("InfoNCE bound", 1, 2),
}
PLAIN = ("rdpc-contours", "cifar-features", "lossyless-clip")  # shown row by row
Rows = list[dict[str, Any]]


def gallery(root: Path = ROOT) -> str:
    """The page, from `root`/results and the benchmark of the published loop."""
    paths = [path.parent for path in sorted(root.glob("results/*/results.csv"))]
    tables = {path.name: read_table(path / "results.csv") for path in paths}
    codecs = {
        name: rows for name, rows in tables.items() if all(set(POINT) <= row.keys() for row in rows)
    }
    invariant = [
        name
        for name, rows in tables.items()
        if all({"objective", "disk_bits"} <= row.keys() for row in rows)
    ]
    shown = {name: tables[name] for name in [*CHECKS, *codecs, *invariant] if name in tables}
    sections = [section(root / "results" / name, rows) for name, rows in shown.items()]
    parts = [
        _HEAD,
        claims(root, shown),
        cost(
            root, {name: rows for name, rows in shown.items() if name in CHECKS and name in codecs}
        ),
        *sections,
        _REST,
    ]
    return "\n\n".join(parts) + "\n"


def claims(root: Path, tables: dict[str, Rows]) -> str:
    """The checklist."""
    verdicts = [
        verdict
        for name, rows in tables.items()
        for verdict in decided(root / "results" / name, rows)
    ]
    words = [verdict.word for verdict in verdicts]
    counts = (
        f"{len(words)} claims: {words.count('holds')} hold, {words.count('does not hold')} do not,"
        f" {words.count('undecided')} are undecided."
    )
    columns = {
        "paper": [verdict.claim.paper for verdict in verdicts],
        "claim": [verdict.claim.text for verdict in verdicts],
        "verdict": [f"**{word}**" for word in words],
        "published": [verdict.claim.published for verdict in verdicts],
        "here": [verdict.here for verdict in verdicts],
        "again with": [f"`{verdict.command}`" for verdict in verdicts],
    }
    missing = [f"`{name}` ({len(checks)})" for name, checks in CHECKS.items() if name not in tables]
    lacking = f"\n\nClaims without committed results: {', '.join(missing)}." if missing else ""
    table = markdown(list(columns), list(columns.values()), words=True)
    return f"## The claims\n\n{counts} {_UNDECIDED}\n\n{table}\n\n{rules(verdicts)}{lacking}"


def decided(folder: Path, rows: Rows) -> list[Verdict]:
    """What one folder of results decides, on the paper's data or others."""
    about = read_json(folder / "config.json")
    return decide_run(folder.name, about["source"]["name"], rows, command(folder.name, about))


def rules(verdicts: Sequence[Verdict]) -> str:
    """What decides each claim, folded."""
    texts: dict[str, list[str]] = {}
    for verdict in verdicts:
        texts.setdefault(verdict.claim.rule, []).append(verdict.claim.text)
    lines = "\n".join(f"- {'; '.join(dict.fromkeys(own))}: {rule}." for rule, own in texts.items())
    return f"<details><summary>When a claim holds</summary>\n\n{lines}\n\n</details>"


def cost(root: Path, tables: dict[str, Rows]) -> str:
    """What training all points took, beside what the published loop needs for as many."""
    path = root / "benchmarks" / "results" / "execution-cpu.json"
    benchmark = read_json(path)
    loops = [run for case in benchmark["cases"].values() for run in case["runs"]["published loop"]]
    steps, passes = (
        statistics.median(run[name] for run in loops)
        for name in ("cpu_seconds_per_step", "cpu_seconds_test_pass")
    )
    epoch = loops[0]["steps_per_epoch"] * steps + passes
    counts = {name: len(rows) for name, rows in tables.items()}
    ours = {name: sum(row["train_cpu_seconds"] for row in rows) for name, rows in tables.items()}
    theirs = {
        name: count * PUBLISHED_EPOCHS[CHECKS[name][0].claim.paper] * epoch
        for name, count in counts.items()
    }
    for column in (counts, ours, theirs):
        column["all"] = sum(column.values())
    columns = {
        "recipe": list(counts),
        "points": [str(count) for count in counts.values()],
        "training here, CPU minutes": [f"{seconds / 60:.1f}" for seconds in ours.values()],
        "published loop, CPU hours (projected)": [
            f"{seconds / 3600:.0f}" for seconds in theirs.values()
        ],
        "published ÷ here": [f"{theirs[name] / ours[name]:.0f}" for name in counts],
    }
    where = f"{benchmark['machine']['processor']}, {benchmark['machine']['date']}"
    loop = (
        f"The published loop, re-created from its description, takes {steps:.3f} s a step of 128"
        f" images, {loops[0]['steps_per_epoch']} steps an epoch, and {passes:.1f} s for the pass"
        f" over the test set after each: {epoch:.0f} s an epoch on one thread ([medians of"
        f" {len(loops)} measurements](../benchmarks/results/{path.name}), {where}). A point takes"
        " 30 epochs in uRDP and RDPC, 25 in URDC; nobody ran them all here."
    )
    return "\n\n".join(
        [
            "## What it cost",
            markdown(list(columns), list(columns.values())),
            _COST,
            loop,
            _NOT_COUNTED,
        ]
    )


def section(folder: Path, rows: Rows) -> str:
    """One folder of results."""
    name = folder.name
    codecs = "stage" in rows[0]
    about = read_json(folder / "config.json")
    facts = [f"{about['processor']}, {about['date']}"]
    if name not in PLAIN:
        seeds = sorted({row["seed"] for row in rows})
        trained = f"{sum('train_cpu_seconds' in row for row in rows)} codecs"
        facts = [trained, f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}", *facts]
        facts.append(
            f"training {sum(row.get('train_cpu_seconds', 0) for row in rows) / 60:.1f} CPU minutes"
        )
    if codecs:
        epochs = sorted({stage["training"]["epochs"] for stage in about["recipe"]["stages"]})
        scores = [
            (100 * rows[0][f"accuracy_{judge}_clean"], where)
            for judge, where in _JUDGES
            if f"accuracy_{judge}_clean" in rows[0]
        ]
        clean = ", ".join(f"{percent:.2f} % ({where})" for percent, where in scores)
        facts += [
            f"{' and '.join(map(str, epochs))} epochs",
            f"the judges read {clean} of clean images",
        ]
    links = [f"[{path.name}](../results/{name}/{path.name})" for path in [folder / "results.csv"]]
    figures = [
        f"![{path.stem} of {name}](../results/{name}/{path.name})"
        for path in sorted(folder.glob("*.png"))
    ]
    table = (
        points_markdown(rows)
        if name in PLAIN
        else codec_table(rows)
        if codecs
        else invariant_table(rows)
    )
    title = about["recipe"]["title"]
    return "\n\n".join(
        [
            f"## {name}",
            f"{title[0].upper()}{title[1:]}.",
            f"`{command(name, about)}`: {'; '.join(facts)}. {', '.join(links)}",
            *figures,
            table,
        ]
    )


def codec_table(rows: Rows) -> str:
    """One line a point: what varies, and the main scores."""
    means = mean_over_seeds(rows)
    settings = [name for name in SETTINGS if len({row[name] for row in means}) > 1]
    columns = {
        SETTINGS[name]: [row[name] if name == "stage" else f"{row[name]:.4g}" for row in means]
        for name in settings
    }
    for name, (heading, factor, decimals) in SCORES.items():
        if not all(name in row for row in means):
            continue
        spreads = [(row[name], row.get(f"{name}_low"), row.get(f"{name}_high")) for row in means]
        columns[heading] = [_cell(mean, low, high, factor, decimals) for mean, low, high in spreads]
    return markdown(list(columns), list(columns.values()))


def invariant_table(rows: Rows) -> str:
    """One line an objective and weight."""
    groups: dict[tuple[Any, ...], Rows] = {}
    settings = [name for name in INVARIANT_SETTINGS if name in rows[0]]
    for row in rows:
        groups.setdefault(tuple(row[name] for name in settings), []).append(row)
    columns = {
        INVARIANT_SETTINGS[name]: [str(key[i]) for key in groups] for i, name in enumerate(settings)
    }
    columns["seeds"] = [str(len(own)) for own in groups.values()]
    for name, (heading, factor, decimals) in INVARIANT_SCORES.items():
        if any(name in row for row in rows):
            columns[heading] = [
                _mean([row[name] for row in own if name in row], factor, decimals)
                for own in groups.values()
            ]
    return markdown(list(columns), list(columns.values()))


def _mean(values: list[float], factor: float, decimals: int) -> str:
    return _cell(*mean_interval(values), factor, decimals) if values else "–"


def _cell(mean: float, low: float | None, high: float | None, factor: float, decimals: int) -> str:
    """A mean and half its interval, if that is there and does not round to nothing."""
    half = (
        number(factor * (high - low) / 2, decimals) if low is not None and high is not None else "–"
    )
    value = number(factor * mean, decimals)
    return value if half in ("–", number(0, decimals)) else f"{value} ±{half}"


def command(name: str, about: dict[str, Any]) -> str:
    """What makes the results of that name again.

    The recipe of that name, or else the command that they were made by.
    """
    return f"quadrate reproduce {name}" if name in RECIPES else str(about["command"])


_HEAD = (
    "# Gallery\n\nEvery number on this page comes from the tables committed in"
    " [results/](../results/README.md); `python tools/gallery.py` makes it, and a test says\n"
    "when it is out of date. Means over seeds, ± half the 95 % t-interval. Scores by"
    " [the protocol](evaluation.md)."
)
_COST = (
    "Training alone, in CPU seconds of one core as each run recorded them, on a machine that other"
    " work shared."
)
_NOT_COUNTED = (
    "What differs between the two ways, and what does not, stands in"
    " [benchmarks](../benchmarks/README.md). Scoring is not counted: runs do not record its time;"
    " one codec takes about 17 CPU seconds ([the protocol](evaluation.md))."
)
_UNDECIDED = (
    "Undecided: the 95 % interval holds both answers. More seeds narrow it (`--seeds`; what was"
    " trained for fewer is taken over)."
)
_REST = "More results (files, blends, features, speed): [results/](../results/README.md)."


if __name__ == "__main__":
    write_text(ROOT / "docs" / "gallery.md", gallery())
