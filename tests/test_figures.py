"""Figures of synthetic rows: pictures that are not blank, and what they draw."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quadrate.errors import QuadrateError
from quadrate.experiments.reports import (
    demo_figure,
    plot_run,
    plot_runs,
    save_grid,
)
from quadrate.experiments.reports.grids import mosaic
from quadrate.sources.images import FORMATS
from rows_made import TRADE_OFFS, scored, scored_recipe


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path, formats=FORMATS) as image:
        return {
            tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)[::7].tolist()
        }


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


@pytest.mark.parametrize("name", TRADE_OFFS)
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
        [row for row in rows if row["stage"] in stages]
        for stages in (("end-to-end",), ("universal", "realistic"))
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
