"""Scores are declared once, and one table renders text, Markdown and HTML."""

import io
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from evaluation_parts import QUICK
from quadrate.core import registry
from quadrate.core.table import Column, Table, words_table
from quadrate.errors import QuadrateError
from quadrate.evaluation import columns_of, evaluate
from quadrate.evaluation.score import SCORES, Score, register_score
from quadrate.experiments.reports import mean_over_seeds, results_table
from quadrate.experiments.reports.panels import name_axes, new_figure
from quadrate.sources import Source, Split, pixels
from rows_made import scored

TABLE = Table([Column("name", ["a|b", "<c>"], True), Column("MSE\n×10³", ["1 ±2", "10"])], "Why.")


def test_a_table_as_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "| name | MSE ×10³ |",
        "| --- | ---: |",
        "| a\\|b | 1 ±2 |",
        "| <c> | 10 |",
        "",
        "Why.",
    ]


def test_a_table_as_html() -> None:
    html = TABLE.html()
    cells = re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", html)
    assert cells == ["name", "MSE ×10³", "a|b", "1 ±2", "&lt;c&gt;", "10"]
    assert html.endswith("<p>Why.</p>") and 'class="words"' not in html
    words = words_table(("claim", "verdict"), [("it is so", "holds")]).html()
    assert 'class="words"' in words and '<td data-heading="verdict">holds</td>' in words


def test_a_table_as_text_shows_the_name_of_a_section_once() -> None:
    stages = Column("stage", ["end-to-end-wasserstein", "end-to-end-wasserstein", "b"], True)
    table = Table([stages, Column("MSE", ["1 ±2", "3", "4"])], sections=True)
    stream = io.StringIO()
    Console(file=stream, width=100, color_system=None).print(table.text())
    lines = [line.split() for line in stream.getvalue().splitlines() if line.strip("─ ")]
    assert lines == [
        ["stage", "MSE"],
        ["end-to-end-", "1", "±2"],
        ["wasserstein"],
        ["3"],
        ["b", "4"],
    ]


def test_your_own_score_is_in_tables_figures_and_intervals_by_one_registration() -> None:
    before = registry.contents()
    try:
        edges = Score("edges", "edges", "%", 100, 1, axis="error at edges", better="lower")
        register_score(edges)
        rows = [scored(seed=seed, edges=0.25 + 0.01 * seed) for seed in (0, 1)]
        assert mean_over_seeds(rows)[0]["edges_high"] > 0.255
        assert "| 25.5 ±6.4 |" in results_table(rows).markdown()
        assert "edges %" in results_table(rows).markdown().splitlines()[0]
        _, ((axes,),) = new_figure(1, 1)
        name_axes(axes, "edges", "distortion_mse")
        assert axes.get_xlabel() == "error at edges"
        with pytest.raises(QuadrateError, match="there is a score 'edges' already"):
            register_score(replace(edges, label="others"))
    finally:
        registry.restore(before)


def test_your_own_score_is_measured_with_the_others() -> None:
    draw = torch.Generator().manual_seed(0)
    splits = [
        Split(
            torch.randint(256, (n, 1, 4, 4), generator=draw).to(torch.uint8), torch.zeros(n).long()
        )
        for n in (60, 20, 60)
    ]
    source = Source("plain", *splits, 1, "0123456789abcdef" * 4)
    before = registry.contents()
    try:
        register_score(
            Score(
                "largest",
                "largest error",
                better="lower",
                measure=lambda originals, decoded: float((pixels(originals) - decoded).abs().max()),
            )
        )
        judges: dict[str, None] = {"training": None, "independent": None}
        scores = evaluate(lambda x, _: (pixels(x) - 0.5).clamp(0, 1), source, judges, QUICK)
        assert scores["largest"] == 0.5 and "largest" in columns_of(source)
        known = evaluate(lambda x, _: pixels(x), source, judges, QUICK, known=scores)
        assert known["largest"] == 0.5  # taken over
    finally:
        registry.restore(before)
    assert "largest" not in columns_of(source)


def test_scores_of_the_protocol_say_what_real_images_score_and_which_way_is_better() -> None:
    floors = {score.floor for score in SCORES.values() if score.floor}
    assert {"w1_fresh_floor", "accuracy_training_clean", "cross_entropy_retrained_clean_nats"} <= (
        floors
    )
    assert {score.better for score in SCORES.values()} == {"lower", "higher", ""}
