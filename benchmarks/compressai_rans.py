"""compressai's rANS, timed at the request of `coder.py`.

Runs in an environment of its own, with numpy and without Quadrate or PyTorch.

Reads one case a line from stdin, the path of an npz file and the repeat, and answers with one line
of JSON.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np


def load_extension() -> ModuleType:
    """`compressai.ans` without `compressai`, which would import PyTorch."""
    (place,) = (
        path
        for path in importlib.metadata.files("compressai") or ()
        if path.name.startswith("ans.") and path.suffix == ".so"
    )
    spec = importlib.util.spec_from_file_location("ans", Path(str(place.locate())))
    if spec is None or spec.loader is None:
        raise ImportError("compressai has no extension `ans`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(ans: ModuleType, place: str) -> dict[str, float]:
    """Processor seconds each way for the groups of a case, one stream a group.

    Lists are made beforehand, so that only the coder is timed.
    """
    with np.load(place) as case:
        frequencies = case["frequencies"]
        symbols = case["symbols"]
        indices = case["indices"]
        group = int(case["group"])
    cdfs = np.concatenate(
        [np.zeros((len(frequencies), 1), np.int64), frequencies.cumsum(axis=1)], axis=1
    ).tolist()
    sizes, offsets = [len(cdfs[0])] * len(cdfs), [0] * len(cdfs)
    groups = [
        (symbols[i : i + group].tolist(), indices[i : i + group].tolist())
        for i in range(0, len(symbols), group)
    ]
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()
    start = time.process_time()
    streams = [
        encoder.encode_with_indexes(values, tables, cdfs, sizes, offsets)
        for values, tables in groups
    ]
    middle = time.process_time()
    read = [
        decoder.decode_with_indexes(stream, tables, cdfs, sizes, offsets)
        for stream, (_, tables) in zip(streams, groups, strict=True)
    ]
    end = time.process_time()
    if read != [values for values, _ in groups]:
        raise AssertionError("compressai read other symbols than it wrote")
    return {
        "encode_seconds": middle - start,
        "decode_seconds": end - middle,
        "bytes": sum(map(len, streams)),
    }


def main() -> None:
    """Answers until stdin ends."""
    ans = load_extension()
    print(
        json.dumps(
            {"compressai": importlib.metadata.version("compressai"), "numpy": np.__version__}
        ),
        flush=True,
    )
    for line in sys.stdin:
        print(json.dumps(measure(ans, line.strip())), flush=True)


if __name__ == "__main__":
    main()
