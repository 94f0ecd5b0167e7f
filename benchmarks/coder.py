"""Symbols a second of the entropy coder alone, each way on one core, and of compressai's rANS.

compressai has an environment of its own. Writes results/coder.json and prints the table.

    python -m venv /tmp/rans && /tmp/rans/bin/pip install --no-deps compressai==1.2.8 "numpy<2"
    OMP_NUM_THREADS=1 python benchmarks/coder.py --compressai /tmp/rans/bin/python
    python benchmarks/coder.py --table results/coder.json

Seconds are processor seconds, the least of several runs; the two coders take turns run by run. Both
code the same symbols under the same integer tables (compressai's hold an escape entry of frequency
1 besides, which its coder cannot do without). What is timed is what a caller waits for: for
Quadrate arrays to bytes and back, sorting by table included; for compressai Python lists, which are
its interface, to bytes and back. A group is what a call is given: Quadrate goes on with the same
stream, compressai makes one of each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.entropy_coder import Decoder, Encoder
from quadrate.coding.tables import TOTAL, Tables, integer_frequencies
from quadrate.core.files import read_json, write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import machine

ENTRIES, TABLES = (3, 10, 30, 100), (64, 512, 4096)
CHUNK = (
    4096  # samples a chunk by default, so the symbols of a column that a .quad file codes at a time
)
WAYS = ("encode", "decode")


def draw_case(
    entries: int, tables: int, symbols: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Frequencies (tables, entries + 1), and symbols and indices under their law, (symbols,)."""
    draw = np.random.default_rng(seed)
    weights = draw.dirichlet(np.ones(entries), tables)
    frequencies = integer_frequencies(weights).astype(np.int64)
    frequencies[np.arange(tables), frequencies.argmax(axis=1)] -= 1  # the escape's
    indices = draw.integers(0, tables, symbols)
    points = draw.integers(0, TOTAL - 1, symbols)
    borders = (frequencies.cumsum(axis=1) + TOTAL * np.arange(tables)[:, None]).ravel()
    values = np.searchsorted(borders, points + TOTAL * indices, side="right") - entries * indices
    return np.append(frequencies, np.ones((tables, 1), np.int64), axis=1), values, indices


def measure_ours(
    frequencies: NDArray[np.int64],
    symbols: NDArray[np.int64],
    indices: NDArray[np.int64],
    group: int,
) -> dict[str, float]:
    """Processor seconds each way, all groups in one stream."""
    whole = frequencies[:, :-1].copy()
    whole[np.arange(len(whole)), whole.argmax(axis=1)] += 1
    tables = Tables(whole.astype(np.uint16), np.zeros(len(whole), np.int32))
    parts = [slice(i, i + group) for i in range(0, len(symbols), group)]
    start = time.process_time()
    encoder = Encoder(tables)
    for part in parts:
        encoder.write(symbols[part], indices[part])
    stream = encoder.bytes()
    middle = time.process_time()
    decoder = Decoder(tables, stream)
    read = [decoder.read(indices[part]) for part in parts]
    decoder.finish()
    end = time.process_time()
    if not np.array_equal(np.concatenate(read), symbols):
        raise AssertionError("Quadrate read other symbols than it wrote")
    return {
        "encode_seconds": middle - start,
        "decode_seconds": end - middle,
        "bytes": len(stream),
        "ideal_bytes": tables.bits(symbols, indices) / 8,
    }


class Peer:
    """compressai in another process: a case's file to what it took."""

    def __init__(self, python: str) -> None:
        command = [python, str(Path(__file__).with_name("compressai_rans.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise QuadrateError("compressai's process ended; what it said stands above")
        return dict(json.loads(line))

    def measure(self, place: Path) -> dict[str, Any]:
        """What the case in a file took."""
        assert self._process.stdin is not None
        print(place, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def measure_case(
    entries: int, tables: int, group: int, options: argparse.Namespace, peer: Peer | None
) -> dict[str, Any]:
    """One row of the results."""
    symbols = options.symbols if group == 0 else options.symbols // group * group
    case = draw_case(entries, tables, symbols, seed=entries * tables)
    group = group or symbols
    contenders: dict[str, Callable[[], dict[str, Any]]] = {
        "quadrate": lambda: measure_ours(*case, group)
    }
    with tempfile.TemporaryDirectory() as folder:
        if peer:
            place = Path(folder) / "case.npz"
            np.savez(place, frequencies=case[0], symbols=case[1], indices=case[2], group=group)
            contenders["compressai"] = lambda: peer.measure(place)
        runs = [{name: run() for name, run in contenders.items()} for _ in range(options.repeats)]
    row: dict[str, Any] = {
        "entries": entries,
        "tables": tables,
        "symbols": symbols,
        "symbols_a_group": group,
    }
    for name in contenders:
        row[name] = {
            f"{way}_million_symbols_a_second": round(
                symbols / min(run[name][f"{way}_seconds"] for run in runs) / 1e6, 2
            )
            for way in WAYS
        } | {"bytes": runs[0][name]["bytes"]}
    return row | {"ideal_bytes": round(runs[0]["quadrate"]["ideal_bytes"], 1)}


def table(result: dict[str, Any]) -> str:
    """The results as a table in Markdown."""
    names = [name for name in ("quadrate", "compressai") if name in result["cases"][0]]
    header = [
        "entries",
        "tables",
        "symbols a group",
        *(f"{name} {way}, M/s" for name in names for way in WAYS),
        *(f"{name}, bytes / ideal" for name in names),
    ]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in result["cases"]:
        speeds = [
            f"{row[name][f'{way}_million_symbols_a_second']:.1f}" for name in names for way in WAYS
        ]
        lengths = [f"{row[name]['bytes'] / row['ideal_bytes']:.5f}" for name in names]
        lines.append(
            "| "
            + " | ".join(
                [
                    str(row["entries"]),
                    str(row["tables"]),
                    f"{row['symbols_a_group']:,}",
                    *speeds,
                    *lengths,
                ]
            )
            + " |"
        )
    where = result["machine"]
    lines += [
        "",
        (
            f"{where['processor']}, one of them; {where['date']}, load"
            f" {where['load_average_before']} before; `{result['command']}`."
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--compressai",
        metavar="PYTHON",
        help="an interpreter that has compressai 1.2.8; without it Quadrate is measured alone",
    )
    parser.add_argument("--symbols", type=int, default=1_000_000, help="a run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent.parent / "results" / "coder.json"
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="measure nothing; print the table of a results' file",
    )
    options = parser.parse_args()
    try:
        if options.table:
            print(table(read_json(options.table)))
            return
        where = machine() | {
            "system": platform.platform(),
            "numpy": np.__version__,
            "load_average_before": round(os.getloadavg()[0], 2),
        }
        peer = Peer(options.compressai) if options.compressai else None
        if peer:
            where |= {f"peer {name}": version for name, version in peer.versions.items()}
        cases = [(entries, tables, 0) for entries in ENTRIES for tables in TABLES] + [
            (4, tables, CHUNK) for tables in TABLES
        ]
        rows = [measure_case(*case, options, peer) for case in cases]
        if peer:
            peer.close()
        result = {
            "command": shlex.join(["python", *sys.argv]),
            "machine": where,
            "repeats": options.repeats,
            "cases": rows,
        }
        write_text(options.results, json.dumps(result, indent=1) + "\n")
    except QuadrateError as error:
        sys.exit(f"error: {error}")
    print(f"{table(result)}\n\nwritten to {options.results}")


if __name__ == "__main__":
    main()
