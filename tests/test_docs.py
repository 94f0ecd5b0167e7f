"""The code in the documentation runs, and what it asserts holds."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["theory.md"])
def test_the_code_of_a_page_runs_from_top_to_bottom(page):
    blocks = re.findall(
        r"^```python\n(.*?)^```",
        (DOCS / page).read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert len(blocks) >= 3 and all("assert" in block for block in blocks)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
