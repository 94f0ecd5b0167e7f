"""The knob's gaps, on curves whose gaps are known."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "blending.py"
LEAST, MOST, SQUARE = 0.05, 0.09, 0.02  # MSEs of the two decoders, and W2² of the faithful one


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("blending", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def law(square: float) -> float:
    return LEAST + (MOST - LEAST) * (1 - (square / SQUARE) ** 0.5) ** 2


def rows(seeds: int, trained: float, blends: float = 1.0) -> list[dict[str, Any]]:
    """Blends on the law's curve, times a factor between the ends, and one decoder off it."""
    found: list[dict[str, Any]] = []
    for seed in range(seeds):
        for tenths in range(11):
            weight = tenths / 10
            best = LEAST + (1 - weight) ** 2 * (MOST - LEAST)
            ends = {"predicted_mse": best, "law_mse": best, "sliced_w2sq": weight**2 * SQUARE}
            mse = best * (blends if 0 < tenths < 10 else 1)
            found.append(
                {"kind": "blend", "seed": seed, "weight": weight, "distortion_mse": mse, **ends}
            )
        square = 0.25 * SQUARE  # on a tenth, so that interpolation adds nothing
        found.append(
            {
                "kind": "trained",
                "seed": seed,
                "lambda_p": 0.01,
                "sliced_w2sq": square,
                "distortion_mse": trained * law(square),
            }
        )
    return found


def test_an_optimal_knob_has_no_gaps(tool: ModuleType) -> None:
    for gap in tool.gaps(rows(3, trained=1.0)):
        assert gap["percent_mse"] == pytest.approx(0, abs=1e-9) and gap["seeds"] == 3


def test_a_better_decoder_opens_a_gap(tool: ModuleType) -> None:
    above, beyond, missed = tool.gaps(rows(2, trained=0.98))
    assert above["percent_mse"] == pytest.approx(100 * (1 / 0.98 - 1))
    assert beyond["percent_mse"] == missed["percent_mse"] == pytest.approx(0, abs=1e-9)
    assert above["low"] == pytest.approx(above["high"])  # seeds that say the same
    worse = tool.gaps(rows(2, trained=1.05))[0]
    assert worse["percent_mse"] == pytest.approx(100 * (1 / 1.05 - 1))  # below it everywhere


def test_bad_blends_lie_above_everything(tool: ModuleType) -> None:
    found = tool.gaps(rows(3, trained=1.0, blends=1.04))
    assert [gap["percent_mse"] for gap in found] == pytest.approx([4, 4, 4])


def test_the_figure_is_drawn(tool: ModuleType, tmp_path: Path) -> None:
    both = [row | {"recipe": name} for name in ("one", "other") for row in rows(2, 1.0)]
    tool.draw(both, tmp_path / "blending.png")
    assert (tmp_path / "blending.png").stat().st_size > 10_000
