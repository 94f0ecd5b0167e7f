"""The HTML report of a tiny run that is trained and scored here, read by a parser."""

import base64
import hashlib
import io
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from page_parts import HOSTILE, NAME, POINTS, SCRIPT, change, embedded, hostile
from quadrate.cli import main
from quadrate.config import OperatingPoint
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import decide, decide_run
from quadrate.experiments.page import report_page
from quadrate.experiments.page.chart import chart
from quadrate.experiments.page.claim_section import claims, in_short, paper
from quadrate.experiments.page.origin import origin
from quadrate.experiments.page.page_data import ReportedRun, ScoredPoint, open_run
from quadrate.experiments.recipes import RECIPES, with_epochs, with_seeds
from quadrate.experiments.reports.grids import cut_mosaic, mosaic
from quadrate.experiments.reports.summary import mean_over_seeds
from quadrate.sources.images import FORMATS
from rows_made import scored, scored_recipe

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """A page's elements and texts; complains where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def by_id(self) -> dict[str, dict[str, str | None]]:
        named = [attributes for _, attributes in self.elements if "id" in attributes]
        found = {str(attributes["id"]): attributes for attributes in named}
        assert len(found) == len(named), "an id stands twice"
        return found


def made_up(name: str, rows: list[dict]) -> ReportedRun:
    """A run of a recipe with made-up scores, without files."""
    points = [ScoredPoint(f"r0p{i}", row, Path()) for i, row in enumerate(rows)]
    recipe = RECIPES[name]()
    config = {
        "recipe": {"name": recipe.name, "title": recipe.title},
        "source": {"name": "mnist", "fingerprint": "f", "shape": [1, 28, 28]},
        "judge": {},
    }
    return ReportedRun(Path(), config, recipe, rows, points, [], [])


# The page


def test_page_is_whole_and_asks_for_nothing(page):
    parsed = Page(page)
    ids = parsed.by_id()
    assert all(
        str(image["src"]).startswith("data:image/") and image["alt"] for image in parsed.all("img")
    )
    links = [link["href"] for tag in ("a", "link") for link in parsed.all(tag)]
    assert links and all(link == "data:," or link[1:] in ids for link in links)
    assert not re.search(
        r"https?:|//www|@import|url\((?!#clip-)", re.sub(r"data:image/[^\"]*", "", page)
    )
    assert [script.get("id") for script in parsed.all("script")] == ["data", None] and not any(
        "src" in script for script in parsed.all("script")
    )
    policy = next(meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv"))
    assert (
        policy.startswith("default-src 'none'; img-src data:;") and "script-src 'sha256-" in policy
    )


def test_every_point_shows_what_its_codec_makes(run, page):
    parsed = Page(page).by_id()
    [drawn] = embedded(page)
    seeds = [
        (curve, point, seed)
        for curve in drawn["curves"]
        for point in curve["points"]
        for seed in point["seeds"]
    ]
    assert len(seeds) == 8
    for curve, point, seed in seeds:
        weight = float(re.search(r"λp ([\d.]+)", point["label"]).group(1))
        codec = run.codec(
            curve["tags"]["stage"], OperatingPoint((3, 3), 1.0, weight, 0.0, seed["seed"])
        )
        content = base64.b64decode(parsed[f"strip-{seed['id']}"]["src"].partition(",")[2])
        with Image.open(io.BytesIO(content), formats=FORMATS) as strip:
            pictures = np.asarray(strip).reshape(8, 16, 8).transpose(1, 0, 2)
        expected = (
            (codec.round_trip(run.source.test.images[:16], 0) * 255).round().byte().numpy()[:, 0]
        )
        assert np.array_equal(pictures, expected)


def test_page_says_where_it_comes_from(run, page):
    text = Page(page).text
    for fact in (
        run.source.fingerprint,
        "1×8×8",
        "CPU-seconds",
        f"quadrate evaluate runs/{run.folder.name}",
        "SHA-256 of the 8",
    ):
        assert fact in text
    model = run.place("universal", POINTS[0]) / "model.safetensors"
    assert f"{hashlib.sha256(model.read_bytes()).hexdigest()}  universal/{POINTS[0].key}" in text
    assert json.loads((run.folder / "config.json").read_text())["processor"] in text
    assert str(run.folder.parent) not in text.replace(run.recipe.judge, "")


def test_hostile_names_stay_text(copy):
    text = report_page([hostile(copy)])
    parsed = Page(text)
    assert len(parsed.all("script")) == 2 and not any(
        "onerror" in attributes for _, attributes in parsed.elements
    )
    assert (
        parsed.text.count(HOSTILE) >= 4 and parsed.text.count(NAME) >= 4 and SCRIPT in parsed.text
    )
    assert embedded(text)[0]["curves"][0]["tags"]["stage"] == HOSTILE


def test_missing_points_are_named(copy):
    stage = copy / "end-to-end"
    (stage / POINTS[0].key / "evaluation.json").unlink()
    shutil.rmtree(stage / POINTS[1].key)
    text = " ".join(Page(report_page([copy])).text.split())
    assert (
        f"1 points are trained but not scored, and not in this report: end-to-end/{POINTS[0].key}."
        in text
    )
    assert (
        f"1 points are not trained yet, and not in this report: end-to-end/{POINTS[1].key}." in text
    )
    assert "The paper's claims" not in text


def test_a_point_without_pictures_is_still_reported(copy):
    (copy / "end-to-end" / POINTS[0].key / "samples.png").unlink()
    parsed = Page(report_page([copy]))
    assert (
        "no pictures" in parsed.text
        and sum(name.startswith("strip-") for name in parsed.by_id()) == 7
    )


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (
            lambda folder: [path.unlink() for path in folder.glob("*/*/evaluation.json")],
            "quadrate evaluate",
        ),
        (lambda folder: (folder / "config.json").unlink(), "no run at"),
        (
            lambda folder: change(folder / "config.json", source={"name": "x", "fingerprint": "y"}),
            "shape",
        ),
        (
            lambda folder: write_text(next(folder.glob("*/*/samples.png")), "no picture"),
            "is not a grid of images of 8x8",
        ),
        (
            lambda folder: change(next(folder.glob("*/*/evaluation.json")), w1_fresh=math.inf),
            "w1_fresh is inf",
        ),
        (
            lambda folder: change(next(folder.glob("*/*/evaluation.json")), distortion_mse="a"),
            "distortion_mse is 'a'",
        ),
        (
            lambda folder: write_text(next(folder.glob("*/*/evaluation.json")), "[]"),
            "holds no scores",
        ),
    ],
)
def test_damage_is_one_clear_line(copy, spoil, part, capsys):
    spoil(copy)
    with pytest.raises(SystemExit) as left:
        main(["report", str(copy), "-o", str(copy / "report.html")])
    lines = capsys.readouterr().err.splitlines()
    assert (
        left.value.code == 1
        and len(lines) == 1
        and part in lines[0]
        and not (copy / "report.html").exists()
    )


def test_several_runs_on_one_source_share_a_chart(run, copy, tmp_path, capsys):
    main(["report", str(run.folder), str(copy), "-o", str(tmp_path / "both.html")])
    assert "both.html" in capsys.readouterr().out
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    together, *single = embedded(text)
    assert [len(drawn["curves"]) for drawn in (together, *single)] == [4, 2, 2]
    assert (
        together["tags"] == ["run", "stage"]
        and [curve["tags"]["run"] for curve in together["curves"]]
        == ["tiny (1)"] * 2 + ["tiny (2)"] * 2
    )
    assert len([name for name in Page(text).by_id() if name.startswith("strip-")]) == 16
    change(
        copy / "config.json", source={"name": "other", "fingerprint": "other", "shape": [1, 8, 8]}
    )
    assert len(embedded(report_page([run.folder, copy]))) == 2


# The chart's numbers


def test_chart_shows_means_with_intervals_and_floors(run):
    drawn = chart([open_run(run.folder)])
    means = mean_over_seeds(open_run(run.folder).rows)
    points = [point for curve in drawn["curves"] for point in curve["points"]]
    assert len(points) == len(means) == 4
    for point, mean in zip(points, means, strict=True):
        assert point["mean"]["distortion_mse"] == pytest.approx(
            [mean["distortion_mse"], mean["distortion_mse_low"], mean["distortion_mse_high"]]
        )
    assert (drawn["x"], drawn["y"], drawn["tags"]) == ("distortion_mse", "w1_fresh", ["stage"])
    lines = {line["score"]: line["value"] for line in drawn["references"]}
    assert lines["w1_fresh"] == pytest.approx(means[0]["w1_fresh_floor"], rel=1e-5)
    assert lines["accuracy_independent"] == pytest.approx(
        means[0]["accuracy_independent_clean"], rel=1e-5
    )
    faithful = [
        row["distortion_mse"]
        for row in open_run(run.folder).rows
        if row["stage"] == "universal" and row["lambda_p"] == 0
    ]
    assert lines["distortion_mse"] == pytest.approx(sum(faithful))  # twice the mean of two


RATES, PATH = ("3x3x3", "4x4x4x4x4"), ((0.02, 0.002), (0.01, 0.01), (0.002, 0.02))


@pytest.mark.parametrize(
    ("rows", "axes", "tags", "joined"),
    [
        (
            [scored(levels=r, c=c) for r in RATES for c in (0.0, 0.01)],
            ("distortion_mse", "accuracy_training"),
            ["rate"],
            [True] * 2,
        ),
        (
            [scored(p=p, c=c) for p in (0.0, 0.01) for c in (0.0, 0.01)],
            ("distortion_mse", "accuracy_training"),
            ["weight"],
            [True] * 2,
        ),
        (
            [scored(p=p, c=c) for p, c in ((0.0, 0.0), (0.01, 0.0), (0.0, 0.02))],
            ("distortion_mse", "accuracy_training"),
            ["stage"],
            [False],
        ),
        (
            [scored(f"noise-{s}", p=p, c=c, noise_std=s) for s in (0.0, 0.5) for p, c in PATH],
            ("w1_fresh", "accuracy_training"),
            ["noise"],
            [True] * 2,
        ),
        (
            [scored("first")]
            + [
                scored(stage, "3x3x3x3x3x3", p=p)
                for stage in ("refined", "single")
                for p in (0.0, 0.01)
            ],
            ("rate_bound_bits", "distortion_mse"),
            ["rate", "stage"],
            [False, True, True],
        ),
    ],
)
def test_chart_draws_what_a_run_varies(rows, axes, tags, joined):
    drawn = chart([made_up("demo", rows)])
    assert (drawn["x"], drawn["y"]) == axes and drawn["tags"] == tags
    assert [curve["joined"] for curve in drawn["curves"]] == joined
    assert len({curve["label"] for curve in drawn["curves"]}) == len(joined)


def test_published_points_lie_under_their_recipe_alone():
    rows = [scored(levels=levels, c=c) for levels in RATES for c in (0.0, 0.01)]
    [published] = chart([made_up("rdc-mnist", rows)])["published"]
    assert (published["x"], published["y"], len(published["points"])) == (
        "distortion_mse",
        "accuracy_training",
        124,
    )
    assert {rate for _, _, rate in published["points"]} == {
        "4.75 bits",
        "6 bits",
        "8 bits",
        "10 bits",
    }
    assert not chart([made_up("demo", rows)])["published"]


# Claims, and runs whose points stand alone


def test_claims_are_decided_where_a_paper_makes_them():
    rows = scored_recipe("rdp-mnist")
    found = decide_run("rdp-mnist", "mnist", rows)
    html, short = claims(found), in_short(found)
    assert found == decide("rdp-mnist", rows, "") and len(found) == 3 and html.count("<tr>") == 4
    assert all(
        verdict.word in html and verdict.claim.rule in html and verdict.here in short
        for verdict in found
    )
    other = decide_run("digits-rdp-mnist", "digits", rows)
    assert [verdict.here.endswith("(3 seeds, digits)") for verdict in other] == [
        True
    ] * 3 and "digits" not in html
    assert (
        decide_run("demo", "digits", scored_recipe("demo"))
        == decide_run("tiny", "digits", rows)
        == []
    )
    assert claims([]) == in_short([]) == ""
    assert (
        "NeurIPS 2021" in paper("digits-rdp-mnist", "digits")
        and paper("demo", "digits") == paper("tiny", "digits") == ""
    )


def test_a_run_whose_points_stand_alone_has_its_section(contours, run):
    page = Page(report_page([contours, run.folder]))
    ids, headings = page.by_id(), [name for name, _ in page.elements if name == "h2"]
    assert {"run-0", "run-1"} <= ids.keys() and len(headings) == 3
    section = page.text.split("rdpc-contours", 2)[2]
    assert (
        "0.54881" in section
        and "contours of R(D, C) of a Gaussian source, by the closed form" in section
        and "holds" in section
    )
    assert "quadrate reproduce rdpc-contours" in section
    assert [image["alt"] for image in page.all("img")][0] == "Contours of the rate functions."


def test_standing_alone_unscored_or_damaged_it_is_one_clear_line(contours):
    (contours / "rows" / "rate0.3.json").unlink()
    page = report_page([contours])
    assert "1 points are not scored" in page and "The paper's claims" not in page
    for name, text, message in (
        ("results.csv", "a,b\n1,2\n", "not the results of a run"),
        ("config.json", '{"recipe": {"points": []}}', "lacks the recipe or the source"),
    ):
        kept = (contours / name).read_text()
        (contours / name).write_text(text)
        with pytest.raises(QuadrateError, match=message):
            report_page([contours])
        (contours / name).write_text(kept)
    (contours / "results.csv").unlink()
    with pytest.raises(QuadrateError, match="no point of .* is scored yet; run `quadrate evaluate"):
        report_page([contours])


def test_what_is_no_number_in_a_table_is_one_clear_line(contours, tmp_path):
    table = contours / "results.csv"
    table.write_text(table.read_text().replace("0.548812", "much"))
    with pytest.raises(
        QuadrateError, match="a table of results holds 'much' where a number should stand"
    ):
        report_page([contours])
    table.write_text(table.read_text().splitlines()[0] + "\n")
    for verb in (
        ["report", str(contours), "-o", str(tmp_path / "page.html")],
        ["plot", str(contours), "--output", str(tmp_path / "p.png")],
    ):
        with pytest.raises(SystemExit):
            main(verb)


def test_it_says_with_which_seeds_to_make_it_again():
    rows = scored_recipe("rdp-mnist")
    made = made_up("rdp-mnist", rows)
    assert "<code>quadrate train rdp-mnist</code>" in origin(made)
    assert "<code>quadrate train rdp-mnist --seeds 2</code>" in origin(
        replace(made, recipe=with_seeds(made.recipe, 2))
    )
    other = origin(replace(made, recipe=with_epochs(made.recipe, 1)))
    assert "quadrate train" not in other and "not those of a recipe" in other


# Parts


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 20, 32), (1, 70, 50)])
def test_a_grid_is_cut_into_the_images_that_made_it(channels, height, width):
    images = torch.randint(
        0,
        256,
        (2, 5, channels, height, width),
        generator=torch.Generator().manual_seed(1),
        dtype=torch.uint8,
    )
    cut = cut_mosaic(mosaic([row.float() / 255 for row in images]), height, width)
    assert np.array_equal(cut, images.expand(-1, -1, 3, -1, -1).permute(0, 1, 3, 4, 2).numpy())
    with pytest.raises(QuadrateError, match="not a grid"):
        cut_mosaic(mosaic([row.float() / 255 for row in images]), height + 1, width)
