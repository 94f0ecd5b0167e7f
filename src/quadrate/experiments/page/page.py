"""The page, assembled: one file with its styles, its script, its numbers and its pictures.

Nothing in it is fetched from anywhere.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

from quadrate import __version__
from quadrate.core.files import write_text
from quadrate.core.table import bits_text
from quadrate.errors import QuadrateError
from quadrate.experiments.page.chart import by_curve, chart
from quadrate.experiments.page.claim_section import claims, in_short, paper
from quadrate.experiments.page.origin import origin
from quadrate.experiments.page.page_data import ReportedRun, ScoredPoint, open_run, weights_text
from quadrate.experiments.page.page_images import data_uri, pictures, strips
from quadrate.experiments.reports.figures import plot_runs
from quadrate.experiments.reports.panels import COLOURS
from quadrate.experiments.reports.result_tables import results_table
from quadrate.experiments.reports.summary import by_point, quick_note
from quadrate.experiments.runs.run_folder import naming

_Pictures = dict[str, tuple[str, str]]  # originals and reconstructions by a point's identifier


def write_report(folders: Sequence[Path | str], path: Path) -> None:
    """Write the report of evaluated runs; see `report_page`.

    Raises:
        QuadrateError: As `report_page`, or if the file cannot be written.
    """
    write_text(path, report_page(folders))


def report_page(folders: Sequence[Path | str]) -> str:
    """The report of evaluated runs as one HTML page that opens without a network.

    Trade-offs on one source share a chart at the top; then each run has its section: chart, scores,
    claims, pictures, and how it was made.

    Args:
        folders: Run folders.

    Raises:
        QuadrateError: If no folder is given, a folder is not a run, no point of it is scored, or a
            file is damaged.
    """
    if not folders:
        raise QuadrateError("name at least one run folder to report on")
    runs = [open_run(folder, number) for number, folder in enumerate(folders)]
    by_source: dict[str, list[ReportedRun]] = {}
    for run in runs:
        if run.points:
            by_source.setdefault(run.fingerprint, []).append(run)
    charts: list[dict[str, Any]] = []
    sections = []
    for shared in by_source.values():
        if len(shared) > 1:
            with naming(*(run.folder for run in shared)):
                sections.append(_together(shared, charts))
    for number, run in enumerate(runs):
        with naming(run.folder):
            sections.append(_section(run, number, charts))
    script = _asset("page.js")
    return Template(_asset("template.html")).substitute(
        title=escape("Quadrate report: " + ", ".join(run.name for run in runs)),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_asset("page.css") + _series_colours(),
        script=script,
        data=_embedded({"charts": charts, "colours": len(COLOURS)}),
        contents="".join(
            f'<li><a href="#run-{i}">{escape(run.name)}</a>:'
            f" {escape(run.title)}{in_short(run.verdicts)}</li>"
            for i, run in enumerate(runs)
        ),
        sections="\n".join(sections),
        made=f"{datetime.date.today():%Y-%m-%d} by Quadrate {__version__}",
    )


def _together(runs: Sequence[ReportedRun], charts: list[dict[str, Any]]) -> str:
    names = ", ".join(run.name for run in runs)
    source = escape(runs[0].source)
    judges = {run.rows[0].get("accuracy_training_clean") for run in runs}
    caution = (
        "<p>The judges in the losses differ, so compare the accuracies of the training judge within"
        " a run only.</p>"
        if len(judges) > 1
        else ""
    )
    return (
        f"<section><h2>All runs on {source}"
        f" together</h2>{caution}{_figure(runs, charts, names)}</section>"
    )


def _section(run: ReportedRun, number: int, charts: list[dict[str, Any]]) -> str:
    points = f"{len(by_point(run.rows))} operating points"
    if run.points:
        points += f", {len(run.points)} codecs with their seeds"
    return f"""<section id="run-{number}">
<h2>{escape(run.name)}</h2>
<p>{escape(run.title)}. {paper(run.name, run.source)} Data: {escape(run.source)}; {points}.</p>
{_cautions(run)}
{_figure([run], charts, run.name) if run.points else pictures(run.folder)}
<h3>Scores</h3>
{results_table(run.rows).html()}
{claims(run.verdicts)}
{_grids(run) if run.points else ""}
<h3>How it was made</h3>
{origin(run)}
</section>"""


def _cautions(run: ReportedRun) -> str:
    lines = [
        f"<p><strong>{len(points)} points are {what}</strong>, and not in this report"
        f"{escape(': ' + ', '.join(points) if any(points) else '')}."
        f" <code>quadrate {verb}</code> goes on with them.</p>"
        for points, what, verb in (
            (run.unscored, "trained but not scored" if run.points else "not scored", "evaluate"),
            (run.untrained, "not trained yet", "train"),
        )
        if points
    ]
    if note := quick_note(run.rows):
        lines.append(
            f"<p><strong>{note}</strong> <code>quadrate evaluate</code> without --quick replaces"
            " them.</p>"
        )
    return f'<div class="warning" role="note">{"".join(lines)}</div>' if lines else ""


def _figure(runs: Sequence[ReportedRun], charts: list[dict[str, Any]], names: str) -> str:
    """A chart's place: the figure of `quadrate plot`, which the script replaces."""
    charts.append(chart(runs))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        plot_runs([(run.name, run.rows) for run in runs], path)
        picture = data_uri(path.read_bytes(), "png")
    label = escape(f"Trade-off of {names}")
    return (
        f'<figure class="chart" data-chart="{len(charts) - 1}" aria-label="{label}"><img'
        f' class="still" src="{picture}" alt="{label}"></figure>'
    )


def _grids(run: ReportedRun) -> str:
    """A block for each curve: the originals, and below them a row for each point.

    The first seed is in sight, the others are one click away.
    """
    heading = "<h3>The same test images through every codec</h3>\n"
    pictures = {
        point.identifier: found for point in run.points if (found := strips(point.place, run.shape))
    }
    if not pictures:
        return f"{heading}<p>This run has no samples.png, so there are no pictures.</p>"
    blocks = []
    for points, _ in by_curve(run):
        row = points[0][0].row
        by_seed: dict[int, list[ScoredPoint]] = {}
        for point in (point for group in points for point in group):
            by_seed.setdefault(point.row["seed"], []).append(point)
        noise = f", input noise σ = {row['noise_std']:g}" if row["noise_std"] else ""
        (seed, shown), *others = sorted(by_seed.items())
        weight = (
            f", λp {row['lambda_p']:g}"
            if len(points) > 1 and len({group[0].row["lambda_p"] for group in points}) == 1
            else ""
        )
        title = (
            f"<h4>{escape(str(row['stage']))}, {bits_text(row['rate_bound_bits'])}{weight}{noise},"
            f" seed {seed}</h4>"
        )
        more = "".join(
            f"<details><summary>seed {seed}</summary>{_grid(rest, pictures)}</details>"
            for seed, rest in others
        )
        blocks.append(f'<div class="block">{title}{_grid(shown, pictures)}{more}</div>')
    return heading + "\n".join(blocks)


def _grid(points: Sequence[ScoredPoint], pictures: _Pictures) -> str:
    known = [point for point in points if point.identifier in pictures]
    lines = [_strip("originals", pictures[known[0].identifier][0])] if known else []
    for point in points:
        label = f"{weights_text(point.row)}\nMSE {point.row['distortion_mse']:.4f}"
        lines.append(_strip(label, pictures.get(point.identifier, ("", ""))[1], point.identifier))
    return f'<div class="grid">{"".join(lines)}</div>'


def _strip(label: str, picture: str, identifier: str = "") -> str:
    name = f'id="strip-{identifier}"' if identifier else 'class="originals"'
    image = (
        f'<img {name} src="{picture}" alt="{escape(label)}">'
        if picture
        else "<span>no pictures</span>"
    )
    return f'<div class="row"><span>{escape(label)}</span>{image}</div>'


def _series_colours() -> str:
    """The figures' colours as classes; black is ink, which is light on dark paper."""
    return "".join(
        f".c{i} {{ --series: {'var(--ink)' if colour == '#000000' else colour}; }}\n"
        for i, colour in enumerate(COLOURS)
    )


def _embedded(data: Any) -> str:
    """JSON whose texts cannot end the script element."""
    return (
        json.dumps(data, allow_nan=False, separators=(",", ":"))
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )


def _asset(name: str) -> str:
    return (resources.files("quadrate.experiments.page") / name).read_text(encoding="utf-8")
