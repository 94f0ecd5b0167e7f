"""Tables of synthetic rows: numbers by hand, two widths, one clear line for what is missing."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from quadrate.errors import QuadrateError
from quadrate.experiments.reports import (
    mean_over_seeds,
    plot_run,
    plot_runs,
    results_table,
)
from rows_made import TRADE_OFFS, scored, scored_recipe

T_975_1 = 12.706204736  # Student's t, one degree of freedom


def printed(rows: list[dict[str, Any]], width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(results_table(rows).text())
    return stream.getvalue()


# Means over seeds


def test_mean_over_seeds_groups_by_all_but_the_seed() -> None:
    rows = [
        scored(c=c, seed=seed, distortion_mse=mse)
        for c, seed, mse in ((0.0, 0, 0.04), (0.0, 1, 0.05), (0.01, 0, 0.06))
    ]
    first, second = mean_over_seeds(rows)
    assert (first["seeds"], second["seeds"]) == (2, 1) and "seed" not in first
    assert first["distortion_mse"] == pytest.approx(0.045)
    reach = T_975_1 * 0.005  # the standard error of two values is half their distance
    assert (first["distortion_mse_low"], first["distortion_mse_high"]) == pytest.approx(
        (0.045 - reach, 0.045 + reach)
    )
    assert "distortion_mse_low" not in second and second["distortion_mse"] == 0.06
    assert first["rate_entropy_method"] == "plug-in"


def test_mean_over_seeds_keeps_noise_levels_apart_and_drops_what_a_seed_lacks() -> None:
    rows = [
        scored(noise_std=0.0, w1_legacy=1.0),
        scored(noise_std=0.0, seed=1),
        scored(noise_std=0.5),
    ]
    means = mean_over_seeds(rows)
    assert [mean["noise_std"] for mean in means] == [0.0, 0.5]
    assert "w1_legacy" not in means[0]


# Tables


@pytest.mark.parametrize("name", TRADE_OFFS)
@pytest.mark.parametrize("width", [100, 140])
def test_table_cuts_nothing_off(name: str, width: int) -> None:
    rows = scored_recipe(name)
    text = printed(rows, width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    words = text.split()
    for mean in mean_over_seeds(rows):
        assert any(
            f"{1000 * mean['distortion_mse']:.{digits}f}" in words for digits in (2, 3)
        )  # three where all are below 10
        for word in (f"{100 * mean['accuracy_independent']:.2f}", f"{mean['rate_bound_bits']:.2f}"):
            assert word in words
    for stage in {row["stage"] for row in rows}:
        assert stage in text or all(
            part in text
            for part in (f"{stage[: stage.rindex('-')]}-", stage[stage.rindex("-") + 1 :])
        )


def test_table_states_intervals_clean_accuracies_and_floors() -> None:
    rows = [
        scored(c=c, seed=seed, distortion_mse=0.04 + 0.0002 * seed, w1_fresh_floor=0.25)
        for c in (0.0, 0.01)
        for seed in (0, 1)
    ]
    text = printed(rows, 180)
    assert "40.10 ±1.27" in text  # 12.706 · 0.0001
    assert "clean 97.65" in text and "clean 99.11" in text and "clean 98.10" in text
    assert "floor 0.250" in text and "λd 1, λp 0 throughout" in text and "2 seeds" in text


def test_table_of_one_seed_uses_the_error_over_test_images_and_needs_no_training_judge() -> None:
    row = {
        name: value
        for name, value in scored(w1_fresh=2.0, w1_fresh_stderr=0.1).items()
        if "_training" not in name
    }
    text = printed([row], 140)
    assert (
        "2.000 ±0.196" in text and "train." not in text and "indep." in text and "One seed" in text
    )


def test_markdown_table_has_a_line_a_point() -> None:
    table = results_table([scored(c=c, seed=seed) for c in (0.0, 0.01, 0.02) for seed in (0, 1)])
    lines = table.markdown().splitlines()
    assert (
        len(lines) == 2 + 3 + 2
        and len({line.replace("\\|", "").count("|") for line in lines[:5]}) == 1
    )
    assert lines[0].startswith(
        "| stage | λc | rate bits | H(Z\\|U) bits | MSE ×10³ | acc. train. % clean 97.65 |"
    )
    assert lines[4].startswith("| end-to-end | 0.02 | 4.75 | 4.56 |")


# What is missing


@pytest.mark.parametrize(
    ("use", "name", "column"),
    [
        (lambda rows, _: results_table(rows), "rdc-mnist", "kid"),
        (lambda rows, _: results_table(rows), "rdc-mnist", "train_cpu_seconds"),
        (lambda rows, _: mean_over_seeds(rows), "rdc-mnist", "noise_std"),
        (lambda rows, path: plot_run("rdc-mnist", rows, path), "rdc-mnist", "distortion_mse"),
        (lambda rows, path: plot_run("rdp-mnist", rows, path), "rdp-mnist", "sliced_w2sq"),
        (
            lambda rows, path: plot_run("restore-mnist", rows, path),
            "restore-mnist",
            "cross_entropy_training_nats",
        ),
    ],
)
def test_a_missing_column_is_named_in_one_line(
    use: Any, name: str, column: str, tmp_path: Path
) -> None:
    rows = scored_recipe(name)
    for row in rows:
        del row[column]
    with pytest.raises(
        QuadrateError, match=f"no column '{column}' in the results of stage"
    ) as caught:
        use(rows, tmp_path / "figure.png")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_no_points_are_named_in_one_line(tmp_path: Path) -> None:
    for use in (
        results_table,
        mean_over_seeds,
        lambda rows: plot_run("rdc-mnist", rows, tmp_path / "x.png"),
    ):
        with pytest.raises(QuadrateError, match="there are no scored points"):
            use([])
    with pytest.raises(QuadrateError, match="there are no scored points"):
        plot_runs([("rdp-mnist", [scored()]), ("rdp-mnist", [])], tmp_path / "x.png")


def test_importing_reports_imports_neither_pictures_nor_consoles() -> None:
    code = (
        "import sys, quadrate.experiments.reports; print([name for name in ('matplotlib', 'PIL',"
        " 'rich', 'scipy') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
