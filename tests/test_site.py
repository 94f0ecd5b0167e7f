"""Pages of the documentation: their code runs, their commands parse, their links lead somewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import docs_runner

ROOT = Path(__file__).parents[1]
RUNNER = Path(docs_runner.__file__)
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")],
    key=lambda path: path.as_posix(),
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# The code of these is run by test_cli, test_quad_dataset, test_symmetry_groups and test_docs.
ELSEWHERE = {
    "README.md",
    "docs/extending.md",
    "docs/files.md",
    "docs/symmetry.md",
    "docs/theory.md",
}
RUN = [
    name
    for name, page in zip(NAMES, PAGES, strict=True)
    if name not in ELSEWHERE
    and any(block.mark != "not run" for block in docs_runner.blocks(page.read_text("utf-8")))
]


def test_pages_with_code_are_found():
    assert {"docs/start.md", "docs/training.md", "docs/tutorials/sender.md"} < set(RUN)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_code_of_a_page_runs(name, tmp_path):
    result = subprocess.run(
        [sys.executable, RUNNER, ROOT / name],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]


@pytest.mark.parametrize("name", NAMES)
def test_commands_on_a_page_are_commands(name):
    for line in docs_runner.quadrate_lines((ROOT / name).read_text("utf-8")):
        for words in docs_runner.commands(line.replace("…", "X")):
            docs_runner.check(words)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("quadrate compres x.png", KeyError),
        ("quadrate inspect a.quad --nothing", SystemExit),
        ("quadrate decompress a.quad -o b --layers two", SystemExit),
        ("rm -rf x", ValueError),
    ],
)
def test_a_wrong_command_is_found(line, error, capsys):
    with pytest.raises(error):
        docs_runner.check(next(docs_runner.commands(line)))


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    text = re.sub(r"^```.*?^```", "", (ROOT / name).read_text("utf-8"), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)\s#]*)(#[^)\s]*)?\)", text):
        if ":" in target:
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor[1:] in anchors(path.read_text("utf-8")), f"{name}: {target}{anchor}"


def anchors(text: str) -> set[str]:
    """The anchors that GitHub and MkDocs make of headings, and those that stand in the text."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.fixture(scope="module")
def hooks():
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "tools" / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_of_the_repository_become_links_of_the_site(hooks):
    markdown = (
        "[a](../results/rdc-mnist/results.csv) [b](theory.md#binary) [c](https://x.org) f[0](x)"
    )
    assert hooks.relink(markdown, "docs/gallery.md") == markdown.replace("../results", "results")
    assert hooks.relink("[a](docs/start.md)", "README.md") == "[a](start.md)"
    assert hooks.relink("[a](../../CONTRIBUTING.md)", "docs/tutorials/sender.md") == (
        "[a](../CONTRIBUTING.md)"
    )
    with pytest.raises(Exception, match="not published"):
        hooks.relink("[a](tools/zoo.py)", "README.md")


def test_names_of_papers_lead_to_the_list(hooks):
    class Page:
        class file:
            src_uri = "reference/codecs.md"

    made = hooks.on_page_content("as in Minnen and Singh 2020, not Nobody 1999", Page, None, None)
    assert made == (
        'as in Minnen and <a href="../papers.html#singh-2020">Singh 2020</a>, not Nobody 1999'
    )
