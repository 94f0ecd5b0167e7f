"""The HTML report in a browser, where there is one."""

import pytest

from browser import CHROMIUM, Browser
from page_parts import HOSTILE, embedded, hostile
from quadrate.cli import main
from quadrate.core.files import write_text
from quadrate.experiments.page import write_report

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
    assert browser.value(shown) and "distortion (MSE per pixel)" in browser.value(live)
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
