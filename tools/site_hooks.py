"""Hooks of MkDocs: what stands beside docs/ is part of the site, too, and nothing stands twice.

README.md is the first page. Pages may link to anything in the repository that is published, by the
path that GitHub needs; here each link becomes the path within the site. In the reference, names of
papers lead to the page of papers.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ZOO = "src/quadrate/codecs/zoo"
PUBLISHED = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE"),
    *("results/**/*.md", "results/**/*.png", "results/**/*.csv", "results/**/*.json"),
    *("benchmarks/README.md", "benchmarks/results/*.json", f"{ZOO}/*.md"),
)
_LINK = re.compile(r"(\]\(|src=\")([^)\s\"#]+)(#[^)\s\"]*)?(?=[)\"])")
_CITED = re.compile(r"([A-Z]\w+)(?: et al\.,?)? \(?((?:19|20)\d\d)")


def place(path: str) -> str:
    """Where a file of the repository stands in the site."""
    if path == "README.md":
        return "index.md"
    for folder, there in (("docs/", ""), (f"{ZOO}/", "codecs/")):
        if path.startswith(folder):
            return there + path.removeprefix(folder)
    return path


def published() -> list[str]:
    """Return the files beside docs/ that the site has, by their paths in the repository."""
    found = (path for pattern in PUBLISHED for path in ROOT.glob(pattern) if path.is_file())
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands beside docs/."""
    for path in published():
        files.append(File.generated(config, place(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the repository links of the site."""
    source = Path(str(page.file.abs_src_path)).relative_to(ROOT).as_posix()
    return relink(markdown, source)


def relink(markdown: str, source: str) -> str:
    """Return a page with links within the site.

    Args:
        markdown: The page.
        source: Its path in the repository.

    Raises:
        PluginError: If a link leads to a file that the site does not have.
    """
    known = {*published(), *(f.relative_to(ROOT).as_posix() for f in ROOT.glob("docs/**/*"))}

    def replaced(match: re.Match[str]) -> str:
        start, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if ":" in target or not (ROOT / path).exists():
            return match[0]  # an address, or code; MkDocs says so if it is a broken link
        if (ROOT / path).is_dir():  # a site has no pages of folders
            path += "/README.md" if (ROOT / path / "README.md").is_file() else "/results.csv"
        if path not in known:
            raise PluginError(f"{source}: {target} is not published: PUBLISHED in {__file__}")
        here = posixpath.dirname(place(source))
        return f"{start}{posixpath.relpath(place(path), here or '.')}{anchor}"

    return _LINK.sub(replaced, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In the reference, let names of papers lead to the page of papers."""
    if not page.file.src_uri.startswith("reference/"):
        return html
    papers = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    known = set(re.findall(r'<a id="([a-z]+-\d{4})">', papers))

    def linked(match: re.Match[str]) -> str:
        name = unicodedata.normalize("NFKD", match[1]).encode("ascii", "ignore").decode()
        key = f"{name.lower()}-{match[2]}"
        return f'<a href="../papers.html#{key}">{match[0]}</a>' if key in known else match[0]

    return _CITED.sub(linked, html)
