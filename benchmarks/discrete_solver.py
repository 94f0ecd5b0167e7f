"""Times the solver for discrete sources on one core, beside plain Blahut-Arimoto iterations.

Writes results/discrete-solver.json.

The source is a Gaussian on a grid with a two-valued label. Run as `OMP_NUM_THREADS=1
OPENBLAS_NUM_THREADS=1 python benchmarks/discrete_solver.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from quadrate.core.files import write_text
from quadrate.experiments.runs import machine
from quadrate.theory.discrete import Discrete, solve
from quadrate.theory.functions import rate

GAP = 1e-6  # nats
RESULTS = Path(__file__).parents[1] / "results" / "discrete-solver.json"
DIVERGENCES = ("kl", "chi2", "hellinger", "tv", "w2")


def gaussian(letters: int) -> Discrete:
    """N(0,1) on ±4 under squared error, the noisy sign of X as label, and a biased classifier."""
    x = np.linspace(-4, 4, letters)
    pmf = np.exp(-(x**2) / 2)
    label, guess = 1 / (1 + np.exp(-3 * x)), 1 / (1 + np.exp(0.5 - 2 * x))
    return Discrete(
        pmf / pmf.sum(),
        (x[:, None] - x) ** 2,
        np.stack([label, 1 - label], 1),
        np.stack([guess, 1 - guess], 1),
    )


def timed(run: Callable[[], object], repeats: int) -> float:
    """The least wall time of several runs, seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def blahut_arimoto(source: Discrete, slope: float, most: int) -> dict[str, float]:
    """Iterates q ← p W for the rate-distortion function until the dual bound is within the gap."""
    kernel = np.exp(-slope * source.distortion)
    output = np.full(kernel.shape[1], 1 / kernel.shape[1])
    start, iterations, gap = time.perf_counter(), 0, math.inf
    while gap >= GAP and iterations < most:
        factors = (source.pmf / (kernel @ output)) @ kernel
        gap = float(np.log(factors.max()) - (output * factors) @ np.log(factors))
        output = output * factors
        iterations += 1
    return {"iterations": iterations, "gap_nats": gap, "seconds": time.perf_counter() - start}


def main() -> None:
    """Runs all cases and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--blahut-arimoto",
        type=int,
        default=1000000,
        metavar="N",
        help="at most so many iterations of the baseline",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(__file__).parents[1] / "results" / "discrete-solver.json",
        help="where to write the result",
    )
    arguments = parser.parse_args()
    source = gaussian(arguments.letters)

    weights = {
        "rd": (2.0, 0.0, 0.0, "kl"),
        **{f"rdp {name}": (2.0, 1.0, 0.0, name) for name in DIVERGENCES},
        "rdpc kl": (2.0, 1.0, 1.0, "kl"),
    }
    multipliers = {}
    for case, (*prices, divergence) in weights.items():
        found = solve(source, *prices, divergence=divergence, tolerance=GAP)
        seconds = timed(
            lambda p=prices, d=divergence: solve(source, *p, divergence=d, tolerance=GAP),
            arguments.repeats,
        )
        multipliers[case] = {
            "seconds": seconds,
            "iterations": found.iterations,
            "gap_nats": found.gap,
        }

    bounds = {
        "rd": (0.3,),
        **{f"rdp {name}": (0.5, 0.02) for name in DIVERGENCES},
        "rdpc kl": (0.5, 0.02, 0.65),
    }
    constrained = {}
    for case, limits in bounds.items():
        divergence = case.split()[-1] if " " in case else "kl"
        constrained[case] = {
            "seconds": timed(
                lambda b=limits, d=divergence: rate(source, *b, divergence=d), arguments.repeats
            )
        }

    result = {
        "letters": arguments.letters,
        "multipliers": multipliers,
        "constrained": constrained,
        "blahut_arimoto rd": blahut_arimoto(source, 2.0, arguments.blahut_arimoto),
        "machine": machine(),
    }
    text = json.dumps(result)
    print(text)
    write_text(arguments.results, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
