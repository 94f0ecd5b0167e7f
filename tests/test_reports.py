"""Reports on synthetic rows.

Numbers by hand, tables at two widths, pictures that are not blank, one clear line for what is
missing.
"""

import io
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy.stats import linregress

from quadrate.errors import QuadrateError
from quadrate.evaluation.intervals import pareto_set
from quadrate.experiments.recipes import RECIPES as ALL_RECIPES
from quadrate.experiments.reports import (
    against_published_front,
    demo_figure,
    findings_markdown,
    markdown_table,
    mean_over_seeds,
    perception_price,
    plot_run,
    plot_runs,
    published_fig9a,
    refinement,
    restoration,
    results_table,
    save_grid,
    universal_penalty,
    urdc_finding,
)
from quadrate.experiments.reports.grids import mosaic
from quadrate.sources.images import FORMATS

T_975_1 = 12.706204736  # Student's t, one degree of freedom

RECIPES = {name: make for name, make in ALL_RECIPES.items() if make().kind == "trade-off"}


def scored(
    stage: str = "end-to-end",
    levels: str = "3x3x3",
    p: float = 0.0,
    c: float = 0.0,
    seed: int = 0,
    **other: Any,
) -> dict[str, Any]:
    """A row as `Run.results` has it, with smooth made-up scores that `other` overrides."""
    bits = sum(math.log2(int(level)) for level in levels.split("x"))
    noise = other.get("noise_std", 0.0)
    cross_entropy = 1.2 * math.exp(-c / 0.004) + 0.1 + 0.01 * seed
    row = {
        "stage": stage,
        "levels": levels,
        "lambda_d": 1.0,
        "lambda_p": p,
        "lambda_c": c,
        "seed": seed,
        "noise_std": noise,
    }
    row |= {
        "rate_bound_bits": bits,
        "rate_entropy_bits": 0.96 * bits,
        "rate_entropy_stderr": 0.003,
        "rate_entropy_method": "plug-in",
    }
    row |= {
        "distortion_mse": 0.2 / bits + c / 3 + p + 1e-4 * seed,
        "distortion_mse_stderr": 2e-4,
        "psnr_db": 13.0,
    }
    for judge, clean in (("training", 0.9765), ("independent", 0.9911), ("retrained", 0.981)):
        row |= {f"accuracy_{judge}": 1 - cross_entropy / 5, f"accuracy_{judge}_clean": clean}
        row |= {
            f"cross_entropy_{judge}_nats": cross_entropy,
            f"cross_entropy_{judge}_clean_nats": 0.07,
        }
    for name, value in (
        ("w1_fresh", 6 * math.exp(-p / 0.006) + 0.5),
        ("sliced_w2sq", 0.015 * math.exp(-p / 0.006) + 0.002),
        ("kid", 0.04),
    ):
        row |= {
            name: value + value * 0.01 * seed,
            f"{name}_stderr": value / 50,
            f"{name}_floor": value / 40,
        }
    return (
        row
        | {"w1_fresh_gradient_norm": 1.2, "train_cpu_seconds": 95.0, "train_wall_seconds": 50.0}
        | other
    )


def scored_recipe(name: str) -> list[dict[str, Any]]:
    """A row for each point of a recipe."""
    rows = []
    for stage in RECIPES[name]().stages:
        for point in stage.points:
            levels = point.levels * 2 if stage.mode == "refinement" else point.levels
            weights = {
                "p": point.lambda_p,
                "c": point.lambda_c,
                "seed": point.seed,
                "lambda_d": point.lambda_d,
            }
            rows.append(
                scored(stage.name, "x".join(map(str, levels)), noise_std=stage.noise_std, **weights)
            )
    return rows


def printed(rows: list[dict[str, Any]], width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(results_table(rows))
    return stream.getvalue()


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path, formats=FORMATS) as image:
        return {
            tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)[::7].tolist()
        }


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


@pytest.mark.parametrize("name", RECIPES)
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
    lines = markdown_table(
        [scored(c=c, seed=seed) for c in (0.0, 0.01, 0.02) for seed in (0, 1)]
    ).splitlines()
    assert (
        len(lines) == 2 + 3 + 2
        and len({line.replace("\\|", "").count("|") for line in lines[:5]}) == 1
    )
    assert lines[0].startswith(
        "| stage | rate bits | H(Z\\|U) bits | λc | MSE ×10³ | acc. % train. clean 97.65 |"
    )
    assert lines[4].startswith("| end-to-end | 4.75 | 4.56 | 0.02 |")


# Pictures


def test_grid_enlarges_by_whole_factors_and_separates() -> None:
    images = torch.linspace(0, 1, 2 * 8 * 8).reshape(2, 1, 8, 8)
    grid = mosaic([images, 1 - images])
    assert grid.shape == (2 * 64 + 2, 2 * 64 + 2, 3)
    assert (
        (grid[:8, :8] == 0).all() and (grid[64:66] == 160).all() and (grid[:, 64:66] == 160).all()
    )
    assert grid[-1, -1, 0] == 0 and grid[66, 0, 0] == 255  # the inverted second row
    assert mosaic([torch.zeros(1, 3, 28, 28)]).shape == (84, 84, 3) and mosaic(
        [torch.zeros(1, 3, 96, 80)]
    ).shape == (96, 80, 3)


def test_grid_is_written_in_colour(tmp_path: Path) -> None:
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = 2.0  # clipped
    save_grid(tmp_path / "new" / "samples.png", [red, torch.zeros(1, 3, 32, 32)])
    assert colours(tmp_path / "new" / "samples.png") == {(255, 0, 0), (0, 0, 0), (160, 160, 160)}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [torch.zeros(2, 1, 8, 8), torch.zeros(3, 1, 8, 8)],
        [torch.zeros(2, 2, 8, 8)],
        [torch.zeros(8, 8)],
    ],
)
def test_grid_of_no_images(rows: list[torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(QuadrateError, match="a grid takes rows of one shape"):
        save_grid(tmp_path / "samples.png", rows)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_picture(name: str, tmp_path: Path) -> None:
    plot_run(name, scored_recipe(name), tmp_path / "figure.png")
    seen = colours(tmp_path / "figure.png")
    assert (0x00, 0x72, 0xB2) in seen and (
        (0xD5, 0x5E, 0x00) in seen or name == "large-rate-mnist"
    )  # a colour a rate or stage


def test_what_varies_decides_what_is_drawn() -> None:
    from quadrate.experiments.reports.figures import _panels

    def axes(name: str) -> list[list[tuple[str, str]]]:
        rows = scored_recipe(name)
        return [[(panel.x, panel.y) for panel in row] for row in _panels([(name, rows)], rows)]

    mse = "distortion_mse"
    w1 = "w1_fresh"
    sliced = "sliced_w2sq"
    accuracy = "accuracy_training"
    nats = "cross_entropy_training_nats"
    assert axes("rdc-mnist") == [[(mse, accuracy), (mse, "accuracy_independent")]]
    assert axes("rdp-mnist") == [[(mse, w1), (mse, sliced)]]
    assert axes("urdc-mnist") == [[(mse, accuracy)] * 2, [(mse, nats)] * 2]
    assert axes("refine-mnist") == [[("rate_bound_bits", mse), ("rate_bound_bits", w1)]]
    assert axes("restore-mnist") == [
        [(w1, accuracy), (sliced, accuracy)],
        [(w1, nats), (sliced, nats)],
    ]
    assert axes("demo") == [[(mse, accuracy), (mse, w1)]]
    own_critic = ("published_w1", "published_accuracy")
    assert axes("rpc-mnist") == [[(w1, accuracy), (w1, "accuracy_independent"), own_critic]]
    assert axes("rdpc-mnist") == [
        [(mse, accuracy), (w1, accuracy)],
        [(w1, "accuracy_independent"), own_critic],
    ]


def test_curves_are_labelled_by_what_differs() -> None:
    from quadrate.experiments.reports.figures import _panels

    def labels(*runs: tuple[str, list[dict[str, Any]]]) -> list[list[str]]:
        rows = [row for _, own in runs for row in own]
        return [[series.label for series in panel.series] for panel in _panels(runs, rows)[0]]

    rdp, urdc = scored_recipe("rdp-mnist"), scored_recipe("urdc-mnist")
    assert labels(("rdc-mnist", scored_recipe("rdc-mnist")))[0] == [
        "4.75 bits",
        "6 bits",
        "8 bits",
        "10 bits",
    ]
    assert labels(("rdp-mnist", rdp))[0] == ["end-to-end", "universal"]
    assert labels(("mine", rdp), ("yours", rdp))[0] == [
        "mine, end-to-end",
        "mine, universal",
        "yours, end-to-end",
        "yours, universal",
    ]
    assert labels(("urdc-mnist", urdc)) == [["end-to-end", "universal"]] * 2
    assert labels(("restore-mnist", scored_recipe("restore-mnist")))[0] == [
        "noise σ = 0",
        "noise σ = 0.5",
        "noise σ = 1",
    ]


@pytest.mark.parametrize(
    ("name", "more"), [("rdc-mnist", 124), ("rdpc-mnist", 16 + 36 - 18), ("rpc-mnist", 132)]
)
def test_published_points_stand_beside_their_own_recipe_only(
    name: str, more: int, tmp_path: Path
) -> None:
    rows = scored_recipe(name)
    plot_run(name, rows, tmp_path / "with.svg")
    plot_run(f"cifar-10-{name}", rows, tmp_path / "without.svg")
    sizes = [
        (tmp_path / file).read_text().count("<use ") for file in ("with.svg", "without.svg")
    ]  # a use a marker
    assert (
        sizes[0] - sizes[1] >= more
    )  # without them `rdpc-mnist` has another panel of ours, with 18 points
    assert "not comparable" in (tmp_path / "with.svg").read_text() or name == "rdc-mnist"
    assert "published" not in (tmp_path / "without.svg").read_text()


def test_one_curve_a_perception_weight_and_rate() -> None:
    from quadrate.experiments.reports.figures import _panels

    rows = scored_recipe("rdpc-mnist")
    series = _panels([("rdpc-mnist", rows)], rows)[0][0].series
    assert [one.label for one in series[:2]] == [
        "λp = 0.0025, 4.75 bits",
        "λp = 0.0075, 4.75 bits",
    ] and len(series) == 6
    for one in series:
        assert (
            len({group[0]["lambda_p"] for group in one.points})
            == len({group[0]["levels"] for group in one.points})
            == 1
        )
        assert [group[0]["lambda_c"] for group in one.points] == [0, 0.0072, 0.0217] and all(
            len(group) == 3 for group in one.points
        )


def test_runs_can_be_overlaid_and_equal_names_are_numbered(tmp_path: Path) -> None:
    rows = scored_recipe("rdp-mnist")
    plot_runs(
        [
            ("rdp-mnist", rows),
            ("rdp-mnist", [row | {"w1_fresh": 0.8 * row["w1_fresh"]} for row in rows]),
        ],
        tmp_path / "figure.svg",
    )
    text = (tmp_path / "figure.svg").read_text()
    assert (
        "<!-- rdp-mnist (1), universal -->" in text and "<!-- rdp-mnist (2), universal -->" in text
    )


def test_an_unknown_picture_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuadrateError, match=r"no picture format 'docx'; a name may end in .*\.png"):
        plot_run("rdp-mnist", [scored(), scored(p=0.01)], tmp_path / "figure.docx")


def test_demo_figure(tmp_path: Path) -> None:
    rows = scored_recipe("demo")
    sweep, decoders = (
        [row for row in rows if row["stage"] == stage] for stage in ("end-to-end", "universal")
    )
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    views = {
        "faithful": images / 2,
        "realistic": images.roll(1, 0),
        "recognizable": (images > 0.5).float(),
    }
    demo_figure(sweep, decoders, images, views, tmp_path / "demo.png")
    demo_figure(sweep, decoders, images, views, tmp_path / "demo.svg")
    assert len(colours(tmp_path / "demo.png")) > 50
    text = (tmp_path / "demo.svg").read_text()
    assert all(
        f"<!-- {name} -->" in text for name in ("Original", "Faithful", "Realistic", "Recognizable")
    )
    assert "<!-- one encoder, realistic decoder (W1 " in text


# The findings as numbers


def test_published_points_are_the_figures() -> None:
    points = published_fig9a()
    assert len(points) == 124 and {point["rate_bits"] for point in points} == {4.75, 6.0, 8.0, 10.0}
    assert {"rate_bits": 6.0, "mse": 0.0426, "accuracy": 0.9675} in points


def test_pareto_set() -> None:
    assert pareto_set([(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7), (1, 0.4), (4, 0.9)]) == [
        (1, 0.5),
        (2, 0.7),
        (3, 0.9),
    ]


def front_rows(
    points: list[tuple[float, float]], seeds: int = 1, spread: float = 0.0
) -> list[dict[str, Any]]:
    """Ours at 4.75 bits.

    (mse, accuracy) pairs, by λc, with the MSE of seed s multiplied by 1 + s·spread.
    """
    return [
        scored(
            c=0.001 * i,
            seed=seed,
            distortion_mse=mse * (1 + seed * spread),
            accuracy_training=accuracy,
        )
        for i, (mse, accuracy) in enumerate(points)
        for seed in range(seeds)
    ]


PUBLISHED = [
    {"rate_bits": 4.75, "mse": mse, "accuracy": accuracy}
    for mse, accuracy in ((0.040, 0.90), (0.050, 0.95), (0.060, 0.94), (0.060, 0.972))
]


def test_front_is_compared_at_equal_accuracy() -> None:
    # Ours: constant .038 up to accuracy .92, then 1/3 MSE an accuracy to (.056, .974); the third
    # point is dominated.
    ours = front_rows([(0.038, 0.92), (0.056, 0.974), (0.057, 0.96)])
    found = against_published_front(ours, PUBLISHED)
    accuracies = [point["accuracy"] for point in found["points"]]
    assert accuracies == [
        0.90,
        0.91,
        0.92,
        0.93,
        0.94,
        0.95,
        0.96,
        0.97,
    ]  # .975 is beyond the published points
    by_accuracy = {point["accuracy"]: point for point in found["points"]}
    assert (by_accuracy[0.90]["mse_ours"], by_accuracy[0.90]["mse_published"]) == pytest.approx(
        (0.038, 0.040)
    )
    assert by_accuracy[0.90]["percent_lower"] == pytest.approx(5.0)
    assert (by_accuracy[0.93]["mse_ours"], by_accuracy[0.93]["mse_published"]) == pytest.approx(
        (0.038 + 0.01 / 3, 0.046)
    )
    assert by_accuracy[0.96]["mse_published"] == pytest.approx(0.050 + 0.010 * 0.010 / 0.022)
    percents = [point["percent_lower"] for point in found["points"]]
    assert found["min_percent_lower"] == min(percents) and found[
        "mean_percent_lower"
    ] == pytest.approx(sum(percents) / 8)


def test_front_of_means_over_seeds_with_an_interval() -> None:
    found = against_published_front(
        front_rows([(0.036, 0.89), (0.054, 0.973)], seeds=2, spread=0.02), PUBLISHED
    )
    alone = [
        against_published_front(front_rows([(0.036 * f, 0.89), (0.054 * f, 0.973)]), PUBLISHED)
        for f in (1.0, 1.01, 1.02)
    ]
    assert found["mean_percent_lower"] == pytest.approx(alone[1]["mean_percent_lower"])
    middle = alone[1]["mean_percent_lower"]
    half = T_975_1 * (alone[0]["mean_percent_lower"] - alone[2]["mean_percent_lower"]) / 2
    assert found["seeds_mean_percent_lower"] == pytest.approx(middle)
    assert (
        found["seeds_mean_percent_lower_low"],
        found["seeds_mean_percent_lower_high"],
    ) == pytest.approx((middle - half, middle + half))


def test_an_accuracy_that_we_do_not_reach_is_no_gain() -> None:
    found = against_published_front(front_rows([(0.030, 0.92), (0.031, 0.965)]), PUBLISHED)
    assert found["points"][-1]["mse_ours"] == math.inf and found["min_percent_lower"] == -math.inf
    assert "∞" in findings_markdown("rdc-mnist", front_rows([(0.030, 0.8), (0.031, 0.9)]))


def test_equal_fronts_differ_by_nothing() -> None:
    ours = [
        scored(
            levels=levels,
            c=1e-4 * i,
            distortion_mse=point["mse"],
            accuracy_training=point["accuracy"],
        )
        for bits, levels in ((4.75, "3x3x3"), (6, "4x4x4"), (8, "4x4x4x4"), (10, "4x4x4x4x4"))
        for i, point in enumerate(
            point for point in published_fig9a() if point["rate_bits"] == bits
        )
    ]
    found = against_published_front(ours)
    assert {point["rate_bits"] for point in found["points"]} == {4.75, 6, 8, 10}
    assert found["min_percent_lower"] == found["mean_percent_lower"] == 0


def test_front_needs_a_published_rate() -> None:
    with pytest.raises(QuadrateError, match="none of our rates"):
        against_published_front([scored(levels="2x2")])


def test_perception_price() -> None:
    rows = [
        scored(p=p, seed=seed, distortion_mse=mse * (1 + 0.1 * seed * p / 0.015))
        for p, mse in ((0.0, 0.04), (0.005, 0.9), (0.015, 0.06))
        for seed in (0, 1)
    ]
    price = perception_price(rows)
    assert (price["lambda_p_low"], price["lambda_p_high"]) == (0.0, 0.015)
    assert price["distortion_mse_ratio"] == pytest.approx(1.575)  # of 1.5 and 1.65
    assert price["distortion_mse_ratio_high"] == pytest.approx(1.575 + T_975_1 * 0.075)
    assert price["w1_fresh_ratio"] == pytest.approx((6 * math.exp(-2.5) + 0.5) / 6.5)


def test_universal_penalty_pools_within_seeds_first() -> None:
    ratios = {(0.0, 0): 1.02, (0.0, 1): 1.04, (0.01, 0): 1.06, (0.01, 1): 1.12}
    rows = [scored(p=p, seed=seed, distortion_mse=0.05, w1_fresh=2.0) for p, seed in ratios]
    rows += [
        scored("universal", p=p, seed=seed, distortion_mse=0.05 * ratio, w1_fresh=2.0 * ratio**2)
        for (p, seed), ratio in ratios.items()
    ]
    rows += [scored("universal", p=0.5, distortion_mse=9.0)]  # has no partner
    found = universal_penalty(rows, "end-to-end", "universal", "w1_fresh")
    assert found["seeds"] == 2 and [entry["lambda_p"] for entry in found["weights"]] == [0.0, 0.01]
    assert found["weights"][0]["mse_ratio"] == pytest.approx(1.03)
    assert found["weights"][1]["mse_ratio_high"] == pytest.approx(1.09 + T_975_1 * 0.03)
    assert found["pooled"]["mse_ratio"] == pytest.approx(1.06)  # of 1.04 and 1.08
    assert found["pooled"]["mse_ratio_low"] == pytest.approx(1.06 - T_975_1 * 0.02)
    assert found["pooled"]["score_ratio"] == pytest.approx(
        np.mean([ratio**2 for ratio in ratios.values()])
    )
    assert found["pooled"]["score_difference"] == pytest.approx(
        2 * found["pooled"]["score_ratio"] - 2
    )


def test_scores_below_zero_have_no_ratio() -> None:
    rows = [scored(stage, kid=kid) for stage, kid in (("end-to-end", -0.001), ("universal", 0.002))]
    pooled = universal_penalty(rows, "end-to-end", "universal", "kid")["pooled"]
    assert pooled["score_difference"] == pytest.approx(0.003) and "score_ratio" not in pooled
    assert math.isnan(pooled["score_difference_low"])  # one seed


def test_universal_penalty_needs_partners() -> None:
    with pytest.raises(QuadrateError, match="have no weights and seed in common"):
        universal_penalty(
            [scored(p=0.1), scored("universal", p=0.2)], "end-to-end", "universal", "w1_fresh"
        )
    with pytest.raises(
        QuadrateError, match="no scored points of stage 'universal'; there are end-to-end"
    ):
        universal_penalty([scored()], "end-to-end", "universal", "w1_fresh")


def test_refinement() -> None:
    rows = [scored("first", seed=seed, distortion_mse=0.05) for seed in (0, 1)]
    for p, w1 in ((0.0, 3.0), (0.015, 1.0)):
        for seed in (0, 1):
            rows.append(
                scored(
                    "refined",
                    "3x3x3x3x3x3",
                    p=p,
                    seed=seed,
                    distortion_mse=0.04 + 0.002 * seed,
                    w1_fresh=1.2 * w1,
                )
            )
            rows.append(
                scored("single", "3x3x3x3x3x3", p=p, seed=seed, distortion_mse=0.04, w1_fresh=w1)
            )
    plain, realistic = refinement(rows)
    assert (plain["lambda_p"], realistic["lambda_p"]) == (0.0, 0.015)
    assert (plain["first_mse"], plain["refined_mse"], plain["single_mse"]) == pytest.approx(
        (0.05, 0.041, 0.04)
    )
    assert plain["refined_to_single_mse"] == pytest.approx(1.025) and plain[
        "refined_to_first_mse"
    ] == pytest.approx(0.82)
    assert plain["refined_to_single_mse_high"] == pytest.approx(1.025 + T_975_1 * 0.025)
    assert (realistic["refined_to_single_w1"], realistic["single_w1"]) == pytest.approx((1.2, 1.0))
    assert (plain["first_bits"], plain["refined_bits"]) == pytest.approx(
        (3 * math.log2(3), 6 * math.log2(3))
    )


def restored(slope: float, noise: float, scatter: float) -> list[dict[str, Any]]:
    """Five points a seed along a line of cross-entropy over W1, with some scatter.

    Each seed has its own level.
    """
    rows = []
    for seed in (0, 1):
        for i, jitter in enumerate((0.3, -0.5, 0.1, 0.4, -0.3)):
            w1, sign = 1.0 + 0.1 * i, 1 - 2 * seed
            nats = 0.5 + seed + slope * w1 + scatter * jitter * sign
            rows.append(
                scored(
                    p=0.01 * i,
                    seed=seed,
                    noise_std=noise,
                    w1_fresh=w1,
                    sliced_w2sq=w1**2,
                    cross_entropy_training_nats=nats,
                )
            )
    return rows


def test_restoration_tells_a_trade_off_from_none() -> None:
    found = restoration(
        restored(0.0, 0.0, 0.05) + restored(-0.8, 0.5, 0.01) + restored(0.8, 1.0, 0.01)
    )
    verdicts = {entry["noise_std"]: entry for entry in found if entry["judge"] == "training"}
    assert [verdicts[noise]["trade_off_w1_fresh"] for noise in (0.0, 0.5, 1.0)] == [
        "not seen",
        "appears",
        "reversed",
    ]
    assert [verdicts[noise]["trade_off_sliced_w2sq"] for noise in (0.5, 1.0)] == [
        "appears",
        "reversed",
    ]
    assert verdicts[0.5]["rank_correlation_w1_fresh"] == pytest.approx(-1)
    assert (verdicts[0.5]["w1_fresh_min"], verdicts[0.5]["w1_fresh_max"]) == pytest.approx(
        (1.0, 1.4)
    )
    assert {entry["judge"] for entry in found} == {"training", "independent", "retrained"}


def test_restoration_price_of_the_best_classification() -> None:
    base = restored(0.0, 0.0, 0.0)[0]
    ends = [(0.1, 3.0, 0.01), (0.5, 1.5, 0.002), (2.0, 2.0, 0.001)]  # cross-entropy, W1, sliced W2²
    rows = [
        base
        | {
            "lambda_c": 0.01 * i,
            "seed": 0,
            "cross_entropy_training_nats": ce,
            "w1_fresh": w1,
            "sliced_w2sq": w2,
        }
        for i, (ce, w1, w2) in enumerate(ends)
    ]
    (entry,) = (found for found in restoration(rows) if found["judge"] == "training")
    assert entry["price_w1_fresh"] == pytest.approx(2.0) and entry[
        "price_sliced_w2sq"
    ] == pytest.approx(10.0)


def test_restoration_slope_is_that_of_least_squares() -> None:
    rows = [row for row in restored(-0.8, 0.5, 0.1) if row["seed"] == 0]
    entry = restoration(rows)[0]
    line = linregress(
        [row["w1_fresh"] for row in rows], [row["cross_entropy_training_nats"] for row in rows]
    )
    assert entry["slope_w1_fresh"] == pytest.approx(line.slope)
    assert entry["slope_w1_fresh_high"] - line.slope == pytest.approx(
        3.182446305 * line.stderr
    )  # t of 3 degrees of freedom


def test_urdc_finding() -> None:
    rows = []
    for end, factor in (("", 1.0), ("-wasserstein", 2.0)):
        for c, single, shared in (
            (0.0, 0.047, 0.0519),
            (0.0033, 0.0467, 0.0521),
            (0.015, 0.0526, 0.0522),
        ):
            rows.append(
                scored(f"end-to-end{end}", p=factor - 1, c=c, distortion_mse=factor * single)
            )
            rows.append(
                scored(f"universal{end}", p=factor - 1, c=c, distortion_mse=factor * shared)
            )
    without, wasserstein = urdc_finding(rows)
    assert (without["lambda_p"], wasserstein["lambda_p"]) == (0.0, 1.0)
    assert (without["encoder_mse"], without["best_end_to_end_mse"]) == (0.0526, 0.0467)
    assert (wasserstein["universal_mse_min"], wasserstein["universal_mse_max"]) == pytest.approx(
        (0.1038, 0.1044)
    )
    for found in (without, wasserstein):
        assert found["lowest_above_best_percent"] == pytest.approx(11.1349, abs=1e-4)
        assert found["highest_above_encoder_percent"] == pytest.approx(-0.7605, abs=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_findings_as_markdown(name: str) -> None:
    text = findings_markdown(name, scored_recipe(name))
    assert (text == "") == (
        name in ("demo", "zoo-mnist", "rdc-svhn", "large-rate-mnist", "urdc-mnist-rates")
    )  # which have none
    if text:
        tables = [line for line in text.splitlines() if line.startswith("|")]
        assert len(tables) >= 3 and "nan" not in text
    if name == "rdp-mnist":
        assert "| pooled |" in text and "λp = 0 to 0.015" in text
    if name == "urdc-mnist":
        assert "universal-wasserstein" in text


# What is missing


@pytest.mark.parametrize(
    ("use", "name", "column"),
    [
        (lambda rows, _: results_table(rows), "rdc-mnist", "kid"),
        (lambda rows, _: markdown_table(rows), "rdc-mnist", "train_cpu_seconds"),
        (lambda rows, _: mean_over_seeds(rows), "rdc-mnist", "noise_std"),
        (lambda rows, path: plot_run("rdc-mnist", rows, path), "rdc-mnist", "distortion_mse"),
        (lambda rows, path: plot_run("rdp-mnist", rows, path), "rdp-mnist", "sliced_w2sq"),
        (
            lambda rows, path: plot_run("restore-mnist", rows, path),
            "restore-mnist",
            "cross_entropy_training_nats",
        ),
        (lambda rows, _: against_published_front(rows), "rdc-mnist", "accuracy_training"),
        (lambda rows, _: findings_markdown("rdp-mnist", rows), "rdp-mnist", "w1_fresh"),
        (
            lambda rows, _: findings_markdown("refine-mnist", rows),
            "refine-mnist",
            "rate_bound_bits",
        ),
        (
            lambda rows, _: findings_markdown("restore-mnist", rows),
            "restore-mnist",
            "cross_entropy_retrained_nats",
        ),
        (lambda rows, _: findings_markdown("urdc-mnist", rows), "urdc-mnist", "distortion_mse"),
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
        markdown_table,
        mean_over_seeds,
        lambda rows: plot_run("rdc-mnist", rows, tmp_path / "x.png"),
        restoration,
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
