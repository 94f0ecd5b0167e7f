"""Rows of runs as if they were trained and scored."""

import math
from typing import Any

from quadrate.experiments.recipes import RECIPES

TRADE_OFFS = [name for name, make in RECIPES.items() if make().kind == "trade-off"]


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
    row |= {"w1_fresh_gradient_norm": 1.2, "train_cpu_seconds": 95.0, "train_wall_seconds": 50.0}
    row |= other
    # Below the fresh critic's bound, so that a test that sets that one alone sets the better one.
    row.setdefault("w1_certified", row["w1_fresh"] / 2)
    return {"w1_certified_floor": 0.0} | row


def scored_recipe(name: str) -> list[dict[str, Any]]:
    """A row for each point of a recipe."""
    rows = []
    recipe = RECIPES[name]()
    for stage in recipe.stages:
        for point in stage.points:
            levels = point.levels * 2 if stage.mode == "refinement" else point.levels
            weights = {
                "p": point.lambda_p,
                "c": point.lambda_c,
                "seed": point.seed,
                "lambda_d": point.lambda_d,
            }
            row = scored(
                stage.name, "x".join(map(str, levels)), noise_std=stage.noise_std, **weights
            )
            if point.decoder != "direct":
                row["decoder"] = point.decoder
            for stranger in recipe.strangers:
                row[f"accuracy_stranger.{stranger}-s2"] = row["accuracy_independent"]
            rows.append(row)
    return rows
