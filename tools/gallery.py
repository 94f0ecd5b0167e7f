"""Write docs/gallery.md.

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
from quadrate.core.table import Column, Table, words_table
from quadrate.experiments.claims import CHECKS, Verdict, decide_run
from quadrate.experiments.recipes import RECIPES
from quadrate.experiments.reports import results_table
from quadrate.experiments.reports.summary import POINT, read_table

ROOT = Path(__file__).parents[1]
PUBLISHED_EPOCHS = {"uRDP": 30, "RDPC": 30, "URDC": 25}
_JUDGES = (("training", "the one in the loss"), ("independent", "independent"))
PLAIN = ("rdpc-contours", "cifar-features", "lossyless-clip", "photo-kodak")  # shown row by row
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
        cost(root, {name: rows for name, rows in shown.items() if name in codecs and paper(name)}),
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
    lines = [
        (
            verdict.claim.paper,
            verdict.claim.text,
            f"**{verdict.word}**",
            verdict.claim.published,
            verdict.here,
            f"`{verdict.command}`",
        )
        for verdict in verdicts
    ]
    table = words_table(("paper", "claim", "verdict", "published", "here", "again with"), lines)
    missing = [f"`{name}` ({len(checks)})" for name, checks in CHECKS.items() if name not in tables]
    lacking = f"\n\nClaims without committed results: {', '.join(missing)}." if missing else ""
    head = f"## The claims\n\n{counts} {_UNDECIDED}"
    return f"{head}\n\n{table.markdown()}\n\n{rules(verdicts)}{lacking}"


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


def paper(name: str) -> str | None:
    """The paper whose loop trained what a recipe trains; None where there is none."""
    papers = [check.claim.paper for check in CHECKS.get(name, ())]
    return next((paper for paper in papers if paper in PUBLISHED_EPOCHS), None)


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
        name: count * PUBLISHED_EPOCHS[str(paper(name))] * epoch for name, count in counts.items()
    }
    for column in (counts, ours, theirs):
        column["all"] = sum(column.values())
    table = Table(
        [
            Column("recipe", list(counts), words=True),
            Column("points", [str(count) for count in counts.values()]),
            Column(
                "training here, CPU minutes", [f"{seconds / 60:.1f}" for seconds in ours.values()]
            ),
            Column(
                "published loop, CPU hours (projected)",
                [f"{seconds / 3600:.0f}" for seconds in theirs.values()],
            ),
            Column("published ÷ here", [f"{theirs[name] / ours[name]:.0f}" for name in counts]),
        ]
    )
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
            table.markdown(),
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
    figures = [
        f"![{path.stem} of {name}](../results/{name}/{path.name})"
        for path in sorted(folder.glob("*.png"))
    ]
    title = about["recipe"]["title"]
    table = f"[results.csv](../results/{name}/results.csv)"
    return "\n\n".join(
        [
            f"## {name}",
            f"{title[0].upper()}{title[1:]}.",
            f"`{command(name, about)}`: {'; '.join(facts)}. {table}",
            *figures,
            results_table(rows).markdown(),
        ]
    )


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
