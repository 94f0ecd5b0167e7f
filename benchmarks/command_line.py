"""Processor time of the command line's help next to `python -c "import tyro"`.

Writes results/command-line.json. The two take turns, pair by pair, each in a process of its own, so
that what else the machine does falls on both; a ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from quadrate.core.files import write_text
from quadrate.experiments.runs import machine

RESULTS = Path(__file__).parents[1] / "results" / "command-line.json"
TYRO = ["-c", "import tyro"]
CASES = ["--help", "train --help", "recipes", "theory rate gaussian --distortion .1"]


def processor_seconds(arguments: list[str]) -> float:
    """Return what a Python process takes, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(case: str, pairs: int) -> dict[str, float]:
    """Return the medians of a command and of the import, and of their ratio."""
    command = ["-c", "from quadrate.cli import main; main()", *case.split()]
    times = [(processor_seconds(command), processor_seconds(TYRO)) for _ in range(pairs + 1)][1:]
    return {
        "seconds": statistics.median(ours for ours, _ in times),
        "tyro_seconds": statistics.median(tyro for _, tyro in times),
        "ratio": statistics.median(ours / tyro for ours, tyro in times),
    }


def main() -> None:
    """Measure all cases, write them and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    cases = {case: measure(case, options.pairs) for case in CASES}
    found = {"pairs": options.pairs, "cases": cases, "machine": machine()}
    write_text(options.results, json.dumps(found, indent=1) + "\n")
    for case, numbers in cases.items():
        print(
            f"quadrate {case}: {numbers['seconds']:.3f} s, {numbers['ratio']:.2f} times the"
            f" {numbers['tyro_seconds']:.3f} s of `import tyro`"
        )


if __name__ == "__main__":
    main()
