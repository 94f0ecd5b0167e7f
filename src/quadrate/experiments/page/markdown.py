"""The little Markdown that tables and findings are written in, as HTML.

Paragraphs, tables and `code`.
"""

from __future__ import annotations

import re
from html import escape


def to_html(text: str) -> str:
    """Markdown as HTML; whatever else it holds is shown as it is, escaped."""
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
    return "\n".join(
        (
            _table(block.splitlines())
            if re.match(r"\|.*\n\|[ :|-]+(\n|$)", block)
            else f"<p>{_inline(block)}</p>"
        )
        for block in blocks
    )


def table(headings: list[str], lines: list[list[str]], words: bool = False) -> str:
    """A table from plain texts, of numbers or of words.

    It scrolls sideways where it is too wide.
    """
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in headings)
    # On a narrow screen a line of words is read from top to bottom, each cell under its heading.
    names = [f' data-heading="{escape(heading)}"' if words else "" for heading in headings]
    body = "\n".join(
        f"<tr>{''.join(f'<td{name}>{_inline(cell)}</td>' for name, cell in zip(names, line, strict=True))}</tr>"
        for line in lines
    )
    kind = ' class="words"' if words else ""
    whole = f"<table{kind}><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="scroller" tabindex="0" role="group" aria-label="table">{whole}</div>'


def _table(lines: list[str]) -> str:
    head, _, *body = [_cells(line) for line in lines]
    return table(head, body)


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _inline(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
