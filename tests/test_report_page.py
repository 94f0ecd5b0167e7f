"""The HTML report, made from a tiny run that is trained and scored here, and read by a parser and, where there is one, by a browser."""

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

from browser import CHROMIUM, Browser
from quadrate.cli import main
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.claims import decide, decide_run
from quadrate.experiments.page import report_page, write_report
from quadrate.experiments.page.chart import chart
from quadrate.experiments.page.claim_section import claims, in_short, paper
from quadrate.experiments.page.markdown import to_html
from quadrate.experiments.page.origin import origin
from quadrate.experiments.page.page_data import ReportedRun, ScoredPoint, open_run
from quadrate.experiments.recipes import RECIPES, with_epochs, with_seeds
from quadrate.experiments.reports.grids import cut_mosaic, mosaic
from quadrate.experiments.reports.summary import mean_over_seeds
from quadrate.experiments.runs import Run
from quadrate.sources.images import FORMATS
from quadrate.training.judges import save_judge
from test_evaluation import QUICK
from test_reports import scored, scored_recipe

HOSTILE = "<img src=x onerror=\"document.title='broken'\">"
NAME = "&lt;img src=x onerror='document.title=0'&gt;"  # as hostile as the name of a folder may be
SCRIPT = "</script><script>document.title='broken'</script>"
VOID = {"meta", "link", "img", "input", "br"}
SETTINGS = TrainingConfig(epochs=1, batch=64)
POINTS = tuple(OperatingPoint((3, 3), 1.0, p, 0.0, seed) for p in (0.0, 0.01) for seed in (0, 1))
BASE = OperatingPoint((3, 3), 1.0, 0.01)


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


def embedded(page: str) -> list[dict]:
    return json.loads(
        re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL).group(1)
    )["charts"]


@pytest.fixture(scope="module")
def run(digits, judge, tmp_path_factory):
    """Two stages, the second on one encoder.

    Λp 0 and .01, two seeds each; scored on quick terms.
    """
    folder = tmp_path_factory.mktemp("runs")
    save_judge(judge, folder / "judge.safetensors")
    stages = (
        Stage("end-to-end", POINTS, training=SETTINGS),
        Stage("universal", POINTS, "universal", BASE, "end-to-end", SETTINGS),
    )
    name = str(folder / "judge.safetensors")
    recipe = Recipe("tiny", "a test", "digits", stages, judge=name, independent_judge=name)
    made = Run(recipe, folder, source=digits).train("single")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("scores", "references"):
            patch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)
        made.evaluate(workers=1)
    return made


@pytest.fixture(scope="module")
def page(run):
    return report_page([run.folder])


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run to spoil."""
    return Path(shutil.copytree(run.folder, tmp_path / "runs" / run.folder.name))


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


def made_up(name: str, rows: list[dict]) -> ReportedRun:
    """A run of a recipe with made-up scores, without files."""
    points = [ScoredPoint(f"r0p{i}", row, Path()) for i, row in enumerate(rows)]
    config = {"source": {"name": "mnist", "fingerprint": "f", "shape": [1, 28, 28]}, "judge": {}}
    return ReportedRun(Path(), config, RECIPES[name](), points, [], [])


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
            (codec.reconstruct(run.source.test.images[:16], 0) * 255).round().byte().numpy()[:, 0]
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
    assert "None yet: they are drawn when every point is scored." in text


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


@pytest.fixture
def contours(tmp_path):
    main(["reproduce", "rdpc-contours", "--runs", str(tmp_path / "contours")])
    (folder,) = (tmp_path / "contours").glob("rdpc-contours-*")
    return folder


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
    assert "1 of 7 points are not scored yet" in page and "The paper's claims" not in page
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


def test_markdown():
    text = "A `code` & <b>.\n\n| a\\|b | c |\n| --- | ---: |\n| 1 | `2` |\n\n| no table"
    html = to_html(text)
    assert "<p>A <code>code</code> &amp; &lt;b&gt;.</p>" in html and "<p>| no table</p>" in html
    assert re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", html) == [
        "a|b",
        "c",
        "1",
        "<code>2</code>",
    ]


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
    with pytest.raises(QuadrateError, match="no grid"):
        cut_mosaic(mosaic([row.float() / 255 for row in images]), height + 1, width)


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium here")
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def report(page, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_text(path, page)
    return path


def look(browser, path):
    browser.problems.clear()
    browser.requests.clear()
    browser.resize(1100, 800)
    browser.open(path)


def test_pointing_and_keys_show_the_pictures(browser, report):
    look(browser, report)
    shown = "document.querySelector('.tooltip').checkVisibility()"
    live = "document.querySelector('.live').textContent"
    drawn = (
        "[...document.querySelectorAll('.point, .seed')].map(mark =>"
        " mark.className.baseVal).sort().join(' ')"
    )
    assert browser.value(drawn) == " ".join(["point"] * 4 + ["seed"] * 8) and not browser.value(
        shown
    )
    browser.hover(".point")
    assert browser.value(shown) and "MSE per pixel" in browser.value(live)
    pictures = (
        "[...document.querySelectorAll('.tooltip img')].filter(image => image.naturalWidth === 128"
        " && image.clientWidth > 100).length"
    )
    assert browser.value(pictures) == 4
    browser("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert not browser.value(shown)

    browser.value("document.querySelector('[data-role=intervals]').focus()")
    browser.press("Tab")
    here = "document.activeElement.getAttribute('aria-label')"
    assert browser.value(here) == "end-to-end; λp 0, λc 0; mean of 2 seeds" and browser.value(shown)
    visited = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Home", "ArrowUp", "End"):
        browser.press(key)
        visited.append(browser.value(here).partition("; mean")[0])
    first, second = "λp 0, λc 0", "λp 0.01, λc 0"
    assert visited == [
        *(f"end-to-end; {second}", f"end-to-end; {second}", f"universal; {second}"),
        *(f"universal; {first}", f"end-to-end; {first}", f"end-to-end; {second}"),
    ]
    assert second in browser.value(live)
    browser.press("Escape")
    assert not browser.value(shown)
    assert not browser.problems and [
        address for address in browser.requests if not address.startswith("data:")
    ] == [report.as_uri()]


def test_axes_and_curves_can_be_chosen(browser, page, report):
    look(browser, report)
    choose = (
        "(s => {{ s.value = '{}'; s.dispatchEvent(new Event('change'));"
        " }})(document.querySelector('[data-role={}]'))"
    )
    for column in embedded(page)[0]["scores"]:
        for role in ("x", "y"):
            browser.value(choose.format(column, role))
            assert "NaN" not in browser.value("document.querySelector('.plot').outerHTML")
    browser.value(choose.format("seed", "shape"))
    assert (
        browser.value(
            "new Set([...document.querySelectorAll('.seed .mark')].map(mark =>"
            " mark.getAttribute('d'))).size"
        )
        == 2
    )
    browser.value("document.querySelector('.legend button').click()")
    assert browser.value("document.querySelectorAll('.point').length") == 2
    assert not browser.problems


def test_a_phone_shows_it_without_scrolling_sideways(browser, report):
    look(browser, report)
    browser.resize(390, 800, phone=True)
    assert browser.value("document.documentElement.scrollWidth") == 390
    browser.tap(".point")
    inside = "(box => box.left >= 0 && box.right <= 390 && box.bottom <= 800)"
    assert browser.value(
        f"{inside}(document.querySelector('.tooltip:not([hidden])').getBoundingClientRect())"
    )
    browser.tap("h1")
    assert browser.value("document.querySelector('.tooltip:not([hidden])')") is None
    assert not browser.problems


def test_a_page_without_charts_opens_without_errors(browser, contours, tmp_path):
    main(["report", str(contours), "-o", str(tmp_path / "page.html")])
    look(browser, tmp_path / "page.html")
    assert browser.problems == [] and browser.value("document.images.length") == 1
    browser.resize(380, 800)
    assert browser.value("document.documentElement.scrollWidth") <= 380


def test_hostile_names_do_nothing_in_a_browser(browser, copy, tmp_path):
    write_report([hostile(copy)], tmp_path / "report.html")
    look(browser, tmp_path / "report.html")
    browser.hover(".point")
    assert HOSTILE in browser.value("document.querySelector('.tooltip').textContent")
    assert (
        "broken" not in browser.value("document.title").replace(HOSTILE, "")
        and not browser.problems
    )
