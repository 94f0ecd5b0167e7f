"""Features on disk: samples a second, and the closed form beside the learned bottleneck.

    export QUADRATE_DATA=…  # a folder with mnist/ and lossyless/
    OMP_NUM_THREADS=1 python benchmarks/features.py speed  # writes results/features/speed.json
    OMP_NUM_THREADS=1 python benchmarks/features.py fit  # half an hour: results/features/fit.json
    python benchmarks/features.py fit --features my.npz  # float arrays `train`, `test`: (n, D)

Bits are the size of a .quad file, header, index and checksums included, a sample; the codec file,
with tables and transform, has a column of its own. Seconds are processor seconds on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.bottlenecks.factorized import FactorizedBottleneck
from quadrate.codecs import FeatureCodec, PublishedBottleneck
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import machine
from quadrate.experiments.runs.clip_kind import draw_symbols
from quadrate.sources import load_source
from quadrate.training.bottleneck_fits import fit_factorized

Array = NDArray[Any]
FOLDER = Path(__file__).parent.parent / "results" / "features"
RELATIVE_ERRORS = (
    0.01,
    0.1,
)  # of the features' mean variance, about: what the learned bottleneck's beta is set for
REPEATS = 5


def codec_bytes(codec: FeatureCodec) -> int:
    """The size of the codec's file."""
    with tempfile.TemporaryDirectory() as folder:
        codec.save(Path(folder) / "codec")
        return (Path(folder) / "codec").stat().st_size


def processor_seconds(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """The least of some runs, and what the last of them returned."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def measure_speed() -> list[dict[str, Any]]:
    """Samples a second each way, features of 512 dimensions to a file's bytes and back."""
    published = PublishedBottleneck.load(_data() / "lossyless" / "beta5e-02-factorized_rate.pt")
    codec = published.codec()
    symbols, _ = draw_symbols(published, 1 << 15, seed=0)
    features = codec.reconstruct(codec.dequantize(torch.from_numpy(symbols))).numpy()
    projected = next(test for name, _, test in feature_sets() if name == "mnist-projected-512")
    cases: list[tuple[str, FeatureCodec, Array]] = [("published, beta 5e-02", codec, features)]
    error = 0.01 * projected.var(axis=0).mean()
    for klt in (False, True):
        for optimize in (False, True):
            name = (
                "closed"
                f" form{', klt' if klt else ''}{', rate-distortion optimized' if optimize else ''}"
            )
            cases.append(
                (
                    name,
                    FeatureCodec(mse=error, klt=klt, optimize_rate=optimize).fit(projected),
                    projected,
                )
            )
    rows = []
    for name, codec, features in cases:
        encode, data = processor_seconds(
            lambda codec=codec, features=features: codec.compress(features), REPEATS
        )
        decode, _ = processor_seconds(
            lambda codec=codec, data=data: codec.decompress(data), REPEATS
        )
        row = {
            "codec": name,
            "samples": len(features),
            "columns": codec.models[0].columns,
            "disk_bits": round(8 * len(data) / len(features), 1),
        }
        rows.append(
            row
            | {
                "encoded_a_second": round(len(features) / encode),
                "decoded_a_second": round(len(features) / decode),
            }
        )
    return rows


def feature_sets() -> Iterator[tuple[str, Array, Array]]:
    """Real features, (name, train, test).

    MNIST's pixels, through a random projection and plain, and scikit-learn's digits.
    """
    mnist, digits = load_source("mnist"), load_source("digits")
    train, test = (
        split.images.reshape(len(split.images), -1).numpy() / np.float32(255)
        for split in (mnist.train, mnist.test)
    )
    draw = np.random.default_rng(0)
    for size in (128, 512):
        projection = (
            draw.standard_normal((train.shape[1], size)) / np.sqrt(train.shape[1])
        ).astype(np.float32)
        yield f"mnist-projected-{size}", train @ projection, test @ projection
    yield "mnist-pixels", train, test
    yield (
        "digits",
        *(
            split.images.reshape(len(split.images), -1).numpy() / np.float32(255)
            for split in (digits.train, digits.test)
        ),
    )


def score(codec: FeatureCodec, test: Array) -> tuple[float, float]:
    """Squared error a coordinate, and bits on disk a sample."""
    data = codec.compress(test)
    assert isinstance(data, bytes)
    return float(np.square(codec.decompress(data) - test, dtype=np.float64).mean()), 8 * len(
        data
    ) / len(test)


def compare_fits(name: str, train: Array, test: Array) -> Iterator[dict[str, Any]]:
    """The learned bottleneck, and the closed form at its error."""
    spread = float(train.var(axis=0, dtype=np.float64).mean())
    for relative in RELATIVE_ERRORS:
        beta = (
            2 * relative * spread
        )  # at small cells the error is step^2/12, and a nat is worth step^2/6
        for density in ("logistics", "network"):
            features = torch.from_numpy(train)
            learning, bottleneck = processor_seconds(
                partial(fit_factorized, features, beta, density=density)
            )
            yield from _beside(
                name, (train, test), (f"learned, {density}", beta, learning, bottleneck)
            )


def _beside(
    name: str,
    features: tuple[Array, Array],
    learned: tuple[str, float, float, FactorizedBottleneck],
) -> Iterator[dict[str, Any]]:
    train, test = features
    called, beta, learning, bottleneck = learned
    codec = FeatureCodec.from_bottleneck(bottleneck.freeze())
    error, bits = score(codec, test)
    common = {
        "features": name,
        "dimensions": train.shape[1],
        "train": len(train),
        "test": len(test),
        "learned": called,
        "beta": beta,
    }
    common |= {
        "test_variance": float(test.var(axis=0, dtype=np.float64).mean()),
        "mse": error,
        "learned_disk_bits": bits,
    }
    common |= {"learned_codec_bytes": codec_bytes(codec), "learned_seconds": learning}
    wanted = float(np.square(codec.transform(train) - train, dtype=np.float64).mean())
    for klt in (False, True):
        for optimize in (False, True):
            # Fitted to training features, a codec errs a little more or less on others; so bits at
            # the learned one's error are read off a line through two codecs on either side of it.
            codec = FeatureCodec(mse=wanted, klt=klt, optimize_rate=optimize)
            seconds, first = processor_seconds(partial(codec.fit, train))
            near = score(first, test)
            other = score(
                FeatureCodec(
                    mse=wanted * (error / near[0]) ** 2 * (1.02 if error > near[0] else 0.98),
                    klt=klt,
                    optimize_rate=optimize,
                ).fit(train),
                test,
            )
            slope = (other[1] - near[1]) / np.log(other[0] / near[0])
            equal = near[1] + slope * np.log(error / near[0])
            row = {
                "klt": klt,
                "optimize_rate": optimize,
                "closed_mse": near[0],
                "closed_disk_bits": near[1],
                "closed_bits_at_equal_mse": float(equal),
            }
            row |= {
                "more_bits_percent": float(100 * (equal / bits - 1)),
                "closed_codec_bytes": codec_bytes(first),
                "closed_seconds": seconds,
            }
            yield common | row | {"times_faster": learning / seconds}


def measure_fit(place: Path | None, names: list[str] | None) -> list[dict[str, Any]]:
    """All comparisons, printed as they come."""
    sets: Any = feature_sets()
    if place:
        with np.load(place) as arrays:
            sets = [(place.stem, np.float32(arrays["train"]), np.float32(arrays["test"]))]
    rows = []
    for name, train, test in sets:
        if names and name not in names:
            continue
        for row in compare_fits(name, train, test):
            rows.append(
                {
                    key: float(f"{value:.6g}") if isinstance(value, float) else value
                    for key, value in row.items()
                }
            )
            print(rows[-1], flush=True)
    return rows


def _data() -> Path:
    if "QUADRATE_DATA" not in os.environ:
        raise QuadrateError("set QUADRATE_DATA to a folder with lossyless/ and mnist/")
    return Path(os.environ["QUADRATE_DATA"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "fit"))
    parser.add_argument("--features", type=Path, metavar="NPZ", help="fit: features of your own")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="fit: only these")
    parser.add_argument("--results", type=Path, help="by default results/features/WHAT.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        where = machine() | {
            "numpy": np.__version__,
            "load_average_before": round(os.getloadavg()[0], 2),
        }
        measures = {
            "speed": measure_speed,
            "fit": lambda: measure_fit(options.features, options.sets),
        }
        rows = measures[options.what]()
        result = {"command": shlex.join(["python", *sys.argv]), "machine": where, "rows": rows}
        write_text(
            options.results or FOLDER / f"{options.what}.json", json.dumps(result, indent=1) + "\n"
        )
    except QuadrateError as error:
        sys.exit(f"error: {error}")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
