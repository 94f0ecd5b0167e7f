"""What coding photographs takes: time beside classical codecs, and memory for a large one.

export QUADRATE_DATA=…                       # a folder with photographs/kodak
OMP_NUM_THREADS=1 python benchmarks/photographs.py   # writes results/photographs.json
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from quadrate.codecs import PhotoCodec, PhotoFile, Photograph, Rate
from quadrate.codecs.photo_quad import compress
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.evaluation.classical import CLASSICAL
from quadrate.experiments.runs import machine
from quadrate.sources.photographs import Photographs
from stopwatch import timed

PLACE = Path(__file__).parent.parent / "results" / "photographs.json"
QUALITY = 30.0  # about half a bit a pixel on Kodak
_COUNT = 8  # photographs of Kodak
_LARGE = 4000, 6000
_OTHERS = {"webp": 45.0, "jpegxl": 4.0}


def main() -> None:
    """Time every codec on the same photographs, and measure the memory of a large one."""
    torch.set_num_threads(1)
    codec, kodak = PhotoCodec.load("photo"), Photographs("kodak")
    pictures = [kodak.read(number) for number in range(_COUNT)]
    megapixels = sum(picture[0].size for picture in pictures) / 1e6
    files = [_written(codec, picture) for picture in pictures]  # and what is loaded at first use
    opened = [PhotoFile(file, codec) for file in files]
    rows = [
        {
            "codec": "photo",
            "bits_per_pixel": 8 * sum(map(len, files)) / megapixels / 1e6,
            "encode": timed(lambda: [_written(codec, each) for each in pictures]).cpu,
            "decode": timed(lambda: [each.photograph(0) for each in opened]).cpu,
        }
    ]
    for name, quality in _OTHERS.items():
        method = CLASSICAL[name]
        arrays = [np.ascontiguousarray(picture.transpose(1, 2, 0)) for picture in pictures]
        coded = [method.encode(array, quality) for array in arrays]
        row = {
            "codec": name,
            "bits_per_pixel": 8 * sum(map(len, coded)) / megapixels / 1e6,
            "encode": timed(lambda: [method.encode(a, quality) for a in arrays]).cpu,  # noqa: B023
            "decode": timed(lambda: [method.decode(file) for file in coded]).cpu,  # noqa: B023
        }
        rows.append(row)
    for row in rows:
        for what in ("encode", "decode"):
            seconds = row.pop(what)
            row[f"{what}_megapixels_a_cpu_second"] = round(megapixels / seconds, 2)
        print(row, flush=True)
    result = {
        "command": "python benchmarks/photographs.py",
        "machine": machine(),
        "photographs": f"{_COUNT} of Kodak, {megapixels:.1f} megapixels, one thread",
        "rows": rows,
        "memory": _memory(),
    }
    write_text(PLACE, json.dumps(result, indent=1) + "\n")


def _written(codec: PhotoCodec, picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    compress(codec, [Photograph(picture)], file, Rate(quality=QUALITY))
    return file.getvalue()


def _memory() -> dict[str, object]:
    """The most memory of a process that codes a large photograph, and what of it is the start."""
    found = subprocess.run(
        [sys.executable, __file__, "large"], capture_output=True, text=True, check=True
    )
    return dict(json.loads(found.stdout))


def _large() -> None:
    """Code a photograph of 24 megapixels, put together from Kodak's."""
    codec, kodak = PhotoCodec.load("photo"), Photographs("kodak")
    tile = np.concatenate([kodak.read(0), kodak.read(4)], axis=1)
    height, width = _LARGE
    times = (1, -(-height // tile.shape[1]), -(-width // tile.shape[2]))
    picture = np.tile(tile, times)[:, :height, :width].copy()
    start = _peak()
    file = _written(codec, picture)
    encoded = _peak()
    with PhotoFile(file, codec) as opened:
        assert opened.photograph(0).pixels.shape == picture.shape
    print(
        json.dumps(
            {
                "megapixels": height * width / 1e6,
                "bytes": len(file),
                "peak_megabytes_before": start,
                "peak_megabytes_encoded": encoded,
                "peak_megabytes_decoded": _peak(),
            }
        )
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    try:
        _large() if sys.argv[1:] == ["large"] else main()
    except QuadrateError as error:
        sys.exit(f"error: {error}")
