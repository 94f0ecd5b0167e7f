"""One table, rendered as text for a console, as Markdown and as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.table

_LONGEST_NAME = 12  # characters of a section's name on a line


@dataclass(frozen=True)
class Column:
    """A heading, and a cell for each row.

    Attributes:
        heading: The heading, in lines that a console keeps apart.
        cells: The cells.
        words: Whether the cells are words, aligned left, rather than numbers.
    """

    heading: str
    cells: Sequence[str]
    words: bool = False


@dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Attributes:
        columns: The columns; the first one names the rows.
        caption: What the columns do not say.
        sections: Whether rows with an equal first cell form a section of the text.
    """

    columns: Sequence[Column]
    caption: str = ""
    sections: bool = False

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The rows."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    def text(self) -> rich.table.Table:
        """For consoles of 100 characters or more: no word is ever cut."""
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=0,
            caption=self.caption or None,
            caption_justify="left",
        )
        for i, column in enumerate(self.columns):
            # Cells that are too long break between words, such as a number and its ±.
            words = [word for text in (column.heading, *column.cells) for word in text.split()]
            table.add_column(
                column.heading,
                justify="left" if column.words else "right",
                no_wrap=i == 0,
                min_width=None if i == 0 else max(map(len, words), default=0),
            )
        last = None
        for line in self.lines:
            name, *cells = line
            begins = not self.sections or name != last
            if self.sections and begins and last is not None:
                table.add_section()
            table.add_row(*([_broken(name) if self.sections else name] if begins else [""]), *cells)
            last = name
        return table

    def markdown(self) -> str:
        """As Markdown, with the caption below."""
        headings = [" ".join(column.heading.split()) for column in self.columns]
        rule = ["---" if column.words else "---:" for column in self.columns]
        lines = [[cell.replace("|", "\\|") for cell in line] for line in (headings, *self.lines)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
        return f"{table}\n\n{self.caption}" if self.caption else table

    def html(self) -> str:
        """As HTML that scrolls sideways if it is too wide, with the caption below.

        On a narrow screen a line of words is read from top to bottom, each cell under its heading.
        """
        headings = [escape(" ".join(column.heading.split())) for column in self.columns]
        words = all(column.words for column in self.columns)
        names = [f' data-heading="{heading}"' if words else "" for heading in headings]
        head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
        body = "</tr>\n<tr>".join(
            "".join(
                f"<td{name}>{escape(cell)}</td>" for name, cell in zip(names, line, strict=True)
            )
            for line in self.lines
        )
        kind = ' class="words"' if words else ""
        table = (
            f"<table{kind}><thead><tr>{head}</tr></thead>\n<tbody><tr>{body}</tr></tbody></table>"
        )
        caption = f"\n<p>{escape(self.caption)}</p>" if self.caption else ""
        scroller = '<div class="scroller" tabindex="0" role="group" aria-label="table">'
        return f"{scroller}{table}</div>{caption}"


def words_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    """A table of words from its lines."""
    return Table(
        [Column(name, [line[i] for line in lines], True) for i, name in enumerate(headings)]
    )


def number(value: Any, decimals: int = 4, sign: str = "") -> str:
    """A number for a reader: `–` if it is missing, `∞` if there is no limit."""
    if value in (None, "") or math.isnan(value):
        return "–"
    return f"{value:{sign}.{decimals}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def bits_text(bits: float) -> str:
    """A rate for a reader: `4.75 bits`, `12,544 bits`."""
    return f"{bits:.3g} bits" if bits < 1000 else f"{bits:,.0f} bits"


def _broken(name: str) -> str:
    """The name of a section, in two lines at a hyphen if it is long."""
    head = name[:_LONGEST_NAME].rfind("-") + 1
    return f"{name[:head]}\n{name[head:]}" if len(name) > _LONGEST_NAME and head else name
