"""Compare the numbers of two checkouts, bit for bit: the demo and a short recipe of each kind.

    python tools/compare_checkouts.py OLD NEW --work /tmp/compared

Each checkout trains, evaluates and codes the same things in a folder of its own; then every weight,
loss, score and file of the old one is looked for in the new one. Times and folder names are left
out. Exits with status 1 if a number differs. An interrupted comparison resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

SHORT = "--epochs 1 --seeds 1 --data digits"
COMMANDS = {
    "demo": "demo --data digits --output demo.png",
    "end-to-end, all weights": f"reproduce rdpc-mnist {SHORT} --lambda-d 1",
    "universal": f"reproduce urdc-mnist {SHORT}",
    "refinement": f"reproduce refine-mnist {SHORT}",
    "restoration": f"train restore-mnist {SHORT}",
    "invariant, samples": "reproduce banana-x-translation",
    "invariant, exact": "reproduce group-exact --seeds 1",
    "published bottlenecks": "train lossyless-clip",
    "contours": "reproduce rdpc-contours",
    "theory": "theory rate --distortion 0.3 --perception 0.1 gaussian",
    "files": "compress DIGITS --codec mnist-4.75bit --output digits.quad --seed 3",
    "pixels": "decompress digits.quad --decoder realistic --output pixels.npy",
}
TIMES = re.compile(
    r"seconds|_a_second|made_with|^date$|^quadrate$|codec_bytes|codec_file_bytes|^protocol$"
)
CODECS = """
import hashlib, json, numpy
try:
    from quadrate.codecs import FeatureCodec
except ImportError:
    from quadrate.features import FeatureCodec
random = numpy.random.default_rng(0)
features = random.normal(size=(4000, 16)) @ random.normal(size=(16, 16))
rows = {}
for options in (
    {"mse": 0.3}, {"rate_bits": 20.0, "klt": True}, {"mse": 0.1, "optimize_rate": False}
):
    codec = FeatureCodec(**options).fit(features)
    data = codec.compress(features[:500])
    back = codec.decompress(data)
    rows[str(options)] = [len(data), hashlib.sha256(back.tobytes()).hexdigest()]
print(json.dumps(rows))
"""


def main() -> None:
    """Run both checkouts and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="the checkout whose numbers are right")
    parser.add_argument("new", type=Path, help="the checkout to test")
    parser.add_argument("--work", type=Path, default=Path("compared"), help="where runs are kept")
    parser.add_argument("--only", nargs="*", default=list(COMMANDS), help="some of the commands")
    arguments = parser.parse_args()
    found = [
        run(checkout.resolve(), arguments.work.resolve() / side, arguments.only)
        for side, checkout in (("old", arguments.old), ("new", arguments.new))
    ]
    faults = compare(*found)
    sizes = Counter(place.split(":")[0] for place in found[0])
    for name, count in sizes.items():
        wrong = sum(place.split(":")[0] == name for place in faults)
        print(f"{name:28} {count:5} records, {wrong} differ")
    for place in faults[:40]:
        print(f"differs: {place}")
    sys.exit(bool(faults))


def run(checkout: Path, work: Path, only: list[str]) -> dict[str, Any]:
    """Run what is not yet run in a checkout; return its records by place."""
    work.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    records: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        if name not in only:
            continue
        kept = work / f"{re.sub('[^a-z]', '-', name)}.json"
        if not kept.exists():
            print(f"{work.name}: {name}", flush=True)
            kept.write_text(json.dumps(_outcome(name, command, work, environment)))
        records |= {
            f"{name}: {place}": value for place, value in json.loads(kept.read_text()).items()
        }
    output = subprocess.run(
        [sys.executable, "-c", CODECS], env=environment, check=True, capture_output=True, text=True
    )
    return records | {f"features: {k}": v for k, v in json.loads(output.stdout).items()}


def _outcome(name: str, command: str, work: Path, environment: dict[str, str]) -> dict[str, Any]:
    words = command.replace("DIGITS", str(_digits(work))).split()
    place = work / re.sub("[^a-z]", "-", name)
    if words[0] in ("demo", "reproduce", "train"):
        words += ["--runs", str(place)]
    if words[0] != "theory":
        words += ["--overwrite"] if words[0] not in ("reproduce", "train") else []
    code = "from quadrate.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed in {work}: {done.stderr[-2000:]}")
    if words[0] == "theory":
        return {"output": done.stdout}
    if words[0] in ("compress", "decompress"):
        file = work / words[words.index("--output") + 1]
        return {file.name: _arrays(file) if file.suffix == ".npy" else _sha(file.read_bytes())}
    return dict(_records(place))


def _records(folder: Path) -> Any:
    """Every weight, loss and score under a folder, by its place without digests."""
    for path in sorted(folder.rglob("*")):
        place = re.sub(r"-[0-9a-f]{12}(?=/)|-[0-9a-f]{8}(?=-)", "", str(path.relative_to(folder)))
        if path.suffix == ".safetensors":
            yield place, sorted(_tensors(path))
        elif path.suffix == ".jsonl":
            yield place, [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "evaluation.json" or path.parent.name == "rows":
            yield place, _timeless(json.loads(path.read_text()))


def _tensors(path: Path) -> list[str]:
    from safetensors.numpy import load_file

    return [f"{_sha(array.tobytes())} {array.shape}" for array in load_file(path).values()]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not TIMES.search(k)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _digits(work: Path) -> Path:
    """Write some images of 28 × 28 pixels that both checkouts code."""
    import numpy as np
    from sklearn.datasets import load_digits

    path = work / "digits.npy"
    if not path.exists():
        small = (load_digits().images[:200] * 15.9).astype(np.uint8)
        np.save(path, np.pad(small.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))[:, None])
    return path


def _arrays(path: Path) -> list[str]:
    import numpy as np

    return [_sha(np.load(path).tobytes())]


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:20]


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the places of the old records that the new ones lack or contradict."""
    return [place for place, value in old.items() if not _holds(value, new.get(place))]


def _holds(old: Any, new: Any) -> bool:
    """Whether every number of the old record stands in the new one, which may say more."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(k in new and _holds(v, new[k]) for k, v in old.items())
    if isinstance(old, list) and old and isinstance(old[0], str):
        return isinstance(new, list) and not Counter(old) - Counter(new)
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(_holds, old, new))
    return bool(old == new)


if __name__ == "__main__":
    main()
