"""The section of a run whose points stand alone (invariant compressors, features, contours).

Its charts are the pictures in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from quadrate.core.files import exists, read_bytes
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import Verdict, decide_run
from quadrate.experiments.page.claim_section import claims, paper
from quadrate.experiments.page.markdown import to_html
from quadrate.experiments.page.origin import plain_facts, settings
from quadrate.experiments.page.page_data import checked_config
from quadrate.experiments.page.page_images import data_uri
from quadrate.experiments.reports.row_points import points_markdown, points_note, read_points
from quadrate.experiments.reports.summary import Row

_PICTURES = {
    "trade-off": "What is kept against bits on disk.",
    "samples": "What the codecs make of samples.",
    "contours": "Contours of the rate functions.",
}


@dataclass(frozen=True)
class StandaloneRun:
    """A run as a report needs it.

    Attributes:
        folder: The run's folder.
        config: What `config.json` says.
        rows: What is in results.csv.
    """

    folder: Path
    config: dict[str, Any]
    rows: list[Row]

    @classmethod
    def open(cls, folder: Path | str) -> StandaloneRun:
        """Reads a run folder.

        Raises:
            QuadrateError: If none of its points is scored, or a file is damaged.
        """
        folder = Path(folder)
        config = checked_config(folder / "config.json")
        if not isinstance(config["recipe"].get("points"), list):
            raise QuadrateError(
                f"{folder / 'config.json'}: the recipe has no list of points; `quadrate train`"
                " writes it"
            )
        if not exists(folder / "results.csv"):
            raise QuadrateError(
                f"no point of {folder} is scored yet; run `quadrate evaluate {folder}` first"
            )
        return cls(folder, config, list(read_points(folder / "results.csv")))

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.config["recipe"]["name"])

    @property
    def source(self) -> str:
        """The data's name."""
        return str(self.config["source"]["name"])

    @property
    def points(self) -> int:
        """How many points the recipe has."""
        return len(self.config["recipe"]["points"])

    @property
    def unscored(self) -> int:
        """How many of them are not scored."""
        return max(0, self.points - len(list((self.folder / "rows").glob("*.json"))))

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the scores say of the paper's claims; nothing before every point is scored."""
        return [] if self.unscored else decide_run(self.name, self.source, self.rows)

    @property
    def title(self) -> str:
        """What it shows, in a line."""
        return str(self.config["recipe"].get("title", ""))


def standalone_section(run: StandaloneRun, number: int) -> str:
    """The section as HTML.

    Raises:
        QuadrateError: If its results are of no kind of run, or a picture cannot be read.
    """
    warning = (
        f"{run.unscored} of {run.points} points are not scored yet, and not in this report."
        " <code>quadrate evaluate</code> goes on with them."
    )
    return f"""<section id="run-{number}">
<h2>{escape(run.name)}</h2>
<p>{escape(run.title)}. {paper(run.name, run.source)} Data: {escape(run.source)}; {run.points} operating points with their seeds.</p>
{f'<div class="warning" role="note"><p>{warning}</p></div>' if run.unscored else ""}
{_pictures(run)}
<h3>Scores</h3>
{to_html(points_markdown(run.rows))}
<p>{escape(points_note(run.rows))}</p>
{claims(run.verdicts)}
<h3>How it was made</h3>
<dl>{plain_facts(run.config, run.folder, run.rows)}</dl>
{settings(run.config)}
</section>"""


def _pictures(run: StandaloneRun) -> str:
    figures = []
    for path in sorted(run.folder.glob("*.png"), key=lambda path: path.stem != "trade-off"):
        caption = escape(_PICTURES.get(path.stem, path.stem))
        picture = data_uri(read_bytes(path), "png")
        figures.append(
            f'<figure class="picture"><img src="{picture}"'
            f' alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        )
    return "\n".join(figures)
