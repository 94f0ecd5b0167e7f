"""What a GPU makes of training and of codecs, and whether it is the same as on the CPU.

    QUADRATE_DATA=… python tools/gpu_check.py

Takes 8 minutes at most; a part that finds no end in its share of them is projected from the steps
that it took. Writes benchmarks/results/gpu-check.json after each part, and prints its tables.

It needs torch, numpy and safetensors; files are checked where constriction is there too. Without
$QUADRATE_DATA/mnist random images of its size stand in, which take as long. The classifier in the
loss has random weights, which take as long, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # nothing can be installed there

from quadrate import __version__
from quadrate.codecs import BaseCodec
from quadrate.codecs.symbol_codec import SymbolCodec
from quadrate.codecs.zoo_index import zoo
from quadrate.config import OperatingPoint, Precision, Stage
from quadrate.core import draws
from quadrate.core.devices import find_device
from quadrate.core.files import write_text
from quadrate.errors import QuadrateWarning
from quadrate.experiments.recipes import find_recipe
from quadrate.networks.family import CLASSIFIERS, find_family
from quadrate.sources import Source, Split, load_source, pixels
from quadrate.sources.source import fingerprint_of
from quadrate.training import Task, Trainer
from quadrate.training.loop import autocast

Row = dict[str, Any]
OUT = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu-check.json"
# As the tests of stacks have it: one gradient in a hundred may be off by more than the tolerance, a
# unit of LeakyReLU that is zero but for rounding.
_TOLERANCE, _WORST, _RARE = 1e-4, 1e-2, 0.01
_WARM_UP = 3  # steps, in which kernels are chosen and loaded
_FILE_SAMPLES = 2000


@dataclass(frozen=True)
class Check:
    """Where, on what and how long.

    Attributes:
        device: The GPU, or the CPU for a try.
        source: The images, on the device.
        seconds: For all parts together.
        steps: In which stacks are compared with single models.
        points: In a stack at most.
        samples: That each codec encodes and decodes.
        batch: Of training, None for the recipe's.
    """

    device: torch.device
    source: Source
    seconds: float
    steps: int
    points: int
    samples: int
    batch: int | None = None

    def task(self, stage: Stage, precision: Precision) -> Task:
        """What the points of a stage have in common."""
        source = self.source
        judge = draws.build_with_seed(lambda: CLASSIFIERS["paper"](source.shape, source.classes), 1)
        config = replace(stage.training, precision=precision)
        config = replace(config, batch=self.batch or config.batch)
        return Task(source, find_family("compact"), judge.to(self.device), config)

    def now(self) -> float:
        """Seconds on the clock, when the GPU has done all it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()

    def seconds_of(self, work: Callable[[], object], most: float) -> float:
        """Seconds that work takes, the mean of as many times as fit into `most` seconds."""
        work()
        start, times = self.now(), 0
        while times == 0 or time.monotonic() - start < most:
            work()
            times += 1
        return (self.now() - start) / times

    def stacks(self, stage: Stage) -> list[list[OperatingPoint]]:
        """The points of a stage that may be stacked with each other."""
        groups: dict[Any, list[OperatingPoint]] = {}
        for point in stage.points:
            groups.setdefault((point.code, point.lambda_p > 0), []).append(point)
        return [group[: self.points] for group in groups.values()]

    @property
    def cases(self) -> dict[str, list[list[OperatingPoint]]]:
        """Stacks without critics, the whole thin grid of a recipe, and one with critics."""
        critics = [stack for stack in self.stacks(_stage("rdp-mnist")) if stack[0].lambda_p > 0]
        return {"rdc-mnist": self.stacks(_stage("rdc-mnist")), "rdp-mnist": critics[:1]}


def _stage(recipe: str) -> Stage:
    stage: Stage = find_recipe(recipe, "quick").stages[0]
    return stage


# --- stacked against single ---


def equality(check: Check) -> Iterator[Row]:
    """Losses and gradients of stacked points and of the same alone, step by step, in float32.

    Before each step the single models take over the state of the stacked ones: left to themselves
    they drift apart by rounding, which Adam makes large where a gradient is near zero.
    """
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # rounds to 10 bits, each kernel its own way
    try:
        for recipe, (stack, *_) in check.cases.items():
            points = [stack[0], stack[-1]] if len(stack) > 1 else stack * 2
            yield {"recipe": recipe, "points": len(points), **_compared(check, recipe, points)}
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def _compared(check: Check, recipe: str, points: Sequence[OperatingPoint]) -> Row:
    task = check.task(_stage(recipe), "float32")
    stacked = Trainer(task, points).prepare()
    singles = [Trainer(task, [point]).prepare() for point in points]
    losses_off, gradients_off = [], []
    runs: list[Iterator[dict[str, Tensor]]] = []
    for done in range(check.steps):
        if done % stacked.steps_per_epoch == 0:
            runs = [one.steps() for one in (stacked, *singles)]
        for k, single in enumerate(singles):
            single.load([stacked.state(k)])
        ours, *alone = (next(run) for run in runs)
        for k, theirs in enumerate(alone):
            losses_off += [_off(ours[name][k], loss[0], 1e-3) for name, loss in theirs.items()]
            pairs = [
                (own.grad[k], one.grad if singles[k].decoder.count == 1 else one.grad[0])
                for name in ("encoder", "decoder", "critic")
                if (stack := getattr(stacked, name)) is not None
                for own, one in zip(
                    stack.parameters(), getattr(singles[k], name).parameters(), strict=True
                )
            ]
            largest = max(float(one.norm()) for _, one in pairs)
            gradients_off += [_off(own, one, 1e-3 * largest) for own, one in pairs]
    rare = sum(off > _TOLERANCE for off in gradients_off) / len(gradients_off)
    worst = max(gradients_off)
    return {
        "steps": check.steps,
        "worst_loss": max(losses_off),
        "worst_gradient": worst,
        "gradients_off_percent": 100 * rare,
        "passed": max(losses_off) < _TOLERANCE and worst < _WORST and rare <= _RARE,
    }


def _off(a: Tensor, b: Tensor, floor: float) -> float:
    """How far a is from b, in units of b's norm; below the floor there is but rounding."""
    return float((a - b).norm()) / max(float(b.norm()), floor, 1e-30)


# --- grids ---


def grids(check: Check) -> Iterator[Row]:
    """Time and memory of grids, stacked, and one point at a time."""
    for recipe, share in (("rdc-mnist", 0.3), ("rdp-mnist", 0.12)):
        stacks = check.cases[recipe]
        points = sum(map(len, stacks))
        timed = [_trained(check, recipe, s, share * check.seconds / len(stacks)) for s in stacks]
        alone = _trained(check, recipe, stacks[0][:1], 0.06 * check.seconds)
        stacked = {
            "seconds": sum(one["seconds"] for one in timed),
            "steps": sum(one["steps"] for one in timed),
            "finished": all(one["finished"] for one in timed),
            "memory_gib": max(one["memory_gib"] for one in timed),
            "validation_mse": timed[0]["validation_mse"],
        }
        ways = {"stacked": stacked, "single": alone | {"seconds": alone["seconds"] * points}}
        for way, row in ways.items():
            rate = {"points_a_minute": 60 * points / row["seconds"]}
            stacked_as = {"stacks": len(stacks) if way == "stacked" else points}
            yield {"recipe": recipe, "way": way, "points": points, **stacked_as, **rate, **row}


def _trained(check: Check, recipe: str, points: Sequence[OperatingPoint], seconds: float) -> Row:
    """Train to the end, or for so many seconds and the rest projected."""
    trainer = Trainer(check.task(_stage(recipe), "auto"), points).prepare()
    if check.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(check.device)
    for _ in zip(range(_WARM_UP), trainer.steps(), strict=False):
        pass
    start, steps = check.now(), 0
    while trainer.epoch < trainer.config.epochs:
        for _ in trainer.steps():
            steps += 1
            if time.monotonic() - start > seconds:
                break
        if steps < (trainer.epoch + 1) * trainer.steps_per_epoch:
            break
        trainer.validate()
        trainer.epoch += 1
    took = check.now() - start
    cuda = check.device.type == "cuda"
    return {
        "seconds": took * trainer.total_steps / steps,
        "steps": steps,
        "finished": steps == trainer.total_steps,
        "memory_gib": torch.cuda.max_memory_allocated(check.device) / 2**30 if cuda else 0.0,
        "validation_mse": trainer.validate()[0]["validation_mse"],
    }


# --- precision, and what else may make a step quicker ---


def precision(check: Check) -> Iterator[Row]:
    """A step in bfloat16 and in float32, and where their losses are after the same steps."""
    for recipe, (stack, *_) in check.cases.items():
        found = {}
        for name in ("float32", "bfloat16"):
            trainer = Trainer(check.task(_stage(recipe), name), stack).prepare()
            steps = trainer.steps()
            losses = [next(steps) for _ in range(min(_WARM_UP, trainer.steps_per_epoch - 1))]
            start = check.now()
            count = min(check.steps, trainer.steps_per_epoch - len(losses))
            losses += [next(steps) for _ in range(count)]
            mse = torch.stack([each["mse"] for each in losses[-count:]]).mean(0)  # (K,)
            found[name] = (check.now() - start) / count, mse
        (slow, exact), (quick, rounded) = found.values()
        yield {
            "recipe": recipe,
            "points": len(stack),
            "float32_ms": 1000 * slow,
            "bfloat16_ms": 1000 * quick,
            "ratio": slow / quick,
            "mse_off_percent": 100 * float(((rounded - exact) / exact).abs().max()),
        }


def compiled(check: Check) -> Iterator[Row]:
    """The codec's gradients, as they are, as a CUDA graph, and compiled.

    That is encoder, quantizer, decoder, squared error and backward of one stack; a whole step has
    the optimizer and the drawing of its batch, too. The ratio says what a step can gain at most.
    """
    for recipe, (stack, *_) in check.cases.items():
        trainer = Trainer(check.task(_stage(recipe), "auto"), stack).prepare()
        loss, parameters = _codec_loss(check, trainer)
        seconds = check.seconds / 100

        def plain(
            loss: Callable[[], Tensor] = loss, parameters: list[Tensor] = parameters
        ) -> list[Tensor]:
            return list(torch.autograd.grad(loss(), parameters))

        usual, wanted = check.seconds_of(plain, seconds), [each.clone() for each in plain()]
        row = {"recipe": recipe, "points": len(stack)}
        yield row | {"way": "as it is", "ms": 1000 * usual, "ratio": 1.0, "off": 0.0}
        for way, make in (("CUDA graph", _as_graph), ("torch.compile", _compiled)):
            if check.device.type != "cuda":
                yield row | {"way": way, "failed": "is for a GPU"}
                continue
            try:
                work = make(loss, parameters)
                took, got = check.seconds_of(work, seconds), work()
            except Exception as error:  # whatever a compiler does not know
                yield row | {"way": way, "failed": f"{type(error).__name__}: {error}"[:200]}
                continue
            off = max(_off(a, b, 1e-6) for a, b in zip(got, wanted, strict=True))
            yield row | {"way": way, "ms": 1000 * took, "ratio": usual / took, "off": off}


def _codec_loss(check: Check, trainer: Trainer) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """A stack's squared error on a batch that stays, and the parameters that it depends on."""
    models, batch = len(trainer.points), trainer.batch
    clean = pixels(check.source.train.images[:batch]).expand(models, -1, -1, -1, -1)  # (K, B, …)
    noise = torch.rand(models, batch, trainer.noise_columns, device=check.device) - 0.5
    bfloat16 = check.device.type == "cuda"
    encoder = trainer.encoder
    assert encoder is not None
    encoder.train()
    trainer.decoder.train()

    def loss() -> Tensor:
        with autocast(check.device, bfloat16):
            latents = encoder(clean).float()  # (K, B, d)
            received = torch.cat([part for part, _ in trainer.through(latents, noise)], 2)
            return (trainer.decoder(received).float() - clean).square().mean()

    return loss, [*encoder.parameters(), *trainer.decoder.parameters()]


def _as_graph(
    loss: Callable[[], Tensor], parameters: list[Tensor]
) -> Callable[[], Sequence[Tensor]]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            torch.autograd.grad(loss(), parameters)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gradients = torch.autograd.grad(loss(), parameters)

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return gradients

    return replay


def _compiled(
    loss: Callable[[], Tensor], parameters: list[Tensor]
) -> Callable[[], Sequence[Tensor]]:
    quick = torch.compile(loss)
    return lambda: torch.autograd.grad(quick(), parameters)


# --- codecs ---


def codecs(check: Check) -> Iterator[Row]:
    """How much the codecs of the package encode and decode a second; bytes are not coded here."""
    for name, path in zoo().items():
        try:
            codec = BaseCodec.load(path, check.device)
        except Exception as error:
            yield {"codec": name, "failed": str(error)[-200:]}
            continue
        if not isinstance(codec, SymbolCodec):
            yield from _photographs(check, name, codec)
            continue
        images, seconds = _images(check, codec.shape), check.seconds / 120
        took = check.seconds_of(lambda: codec.encode(images), seconds)  # noqa: B023 (called now)
        yield {"codec": name, "work": "encode", "a_second": len(images) / took, "unit": "images"}
        symbols = codec.encode(images)
        for decoder in codec.decoders:
            took = check.seconds_of(
                lambda: codec.decode(symbols, decoder=decoder),  # noqa: B023
                seconds,
            )
            work = f"decode {decoder}"
            yield {"codec": name, "work": work, "a_second": len(images) / took, "unit": "images"}


def _photographs(check: Check, name: str, codec: Any) -> Iterator[Row]:
    """A made photograph, waves on waves, with bytes and all."""
    side = 1024 if check.samples > 1000 else 64
    grid = np.arange(side) / side
    waves = sum(np.sin(2**i * 7 * (grid[:, None] + 0.3 * i * grid)) / (1 + i) for i in range(6))
    made = np.stack([np.clip(127 + 60 * np.roll(waves, 9 * c), 0, 255) for c in range(3)])
    photograph, seconds = made.astype(np.uint8), check.seconds / 120
    took = check.seconds_of(lambda: codec.encode(photograph, 0), seconds)
    unit, pixels_in = "megapixels", side**2 / 1e6
    yield {"codec": name, "work": "encode", "a_second": pixels_in / took, "unit": unit}
    payloads = codec.encode(photograph, 0)
    for decoder in codec.decoders:
        took = check.seconds_of(
            lambda: codec.decode(payloads, photograph.shape, decoder),  # noqa: B023
            seconds,
        )
        work = f"decode {decoder}"
        yield {"codec": name, "work": work, "a_second": pixels_in / took, "unit": unit}


def _images(check: Check, shape: Sequence[int]) -> Tensor:
    """Images of a codec's shape, uint8 (n, C, H, W), on the device."""
    test = check.source.test.images
    if tuple(shape) != tuple(test.shape[1:]):
        test = torch.randint(256, (check.samples, *shape), dtype=torch.uint8, device=check.device)
    times = -(-check.samples // len(test))
    return test.repeat(times, 1, 1, 1)[: check.samples]


def files(check: Check) -> Iterator[Row]:
    """The symbols of one file written on each side, read on the other.

    Encoders are floating point, so two machines may quantize a borderline value differently, which
    is counted. Each file must decode to what was coded on any machine.
    """
    for name, path in zoo().items():
        if importlib.util.find_spec("constriction") is None:
            yield {"codec": name, "failed": "constriction is missing, so no files are written"}
            continue
        sides = {side: BaseCodec.load(path, side) for side in (check.device, torch.device("cpu"))}
        if not all(isinstance(codec, SymbolCodec) for codec in sides.values()):
            continue  # symbols of photographs are computed on the CPU anyway
        images = _images(check, next(iter(sides.values())).shape)[:_FILE_SAMPLES].cpu()
        coded = {side: codec.encode(images).cpu().numpy() for side, codec in sides.items()}
        here, there = coded.values() if len(coded) == 2 else [next(iter(coded.values()))] * 2
        read = []
        for writer, codec in sides.items():
            data = _file(codec, images)
            read += [
                np.array_equal(_symbols(data, other), coded[writer]) for other in sides.values()
            ]
        yield {
            "codec": name,
            "samples": len(images),
            "bytes": len(data),
            "symbols_that_differ": int((here != there).sum()),
            "symbols": here.size,
            "passed": all(read),
        }


def _file(codec: Any, images: Tensor) -> bytes:
    from quadrate.codecs import Batch, compress

    file = io.BytesIO()
    with warnings.catch_warnings():  # random images are unlike those of any codec
        warnings.simplefilter("ignore", QuadrateWarning)
        compress(codec, [Batch(images)], file)
    return file.getvalue()


def _symbols(data: bytes, codec: Any) -> Any:
    from quadrate.codecs import QuadFile

    with QuadFile(data, codec) as opened:
        return np.concatenate([opened.symbols(i) for i in range(len(opened.reader.index))])


# --- all of it ---

PARTS: dict[str, Callable[[Check], Iterator[Row]]] = {
    "stacked against single": equality,
    "codecs": codecs,
    "files": files,
    "precision": precision,
    "grids": grids,
    "CUDA graphs and torch.compile": compiled,  # last, for a compiler may take long
}


def run(check: Check, out: Path) -> dict[str, list[Row]]:
    """Do all parts; write what is known after each, and print it."""
    torch.manual_seed(0)
    cuda = check.device.type == "cuda"
    machine = {
        "device": torch.cuda.get_device_name(check.device) if cuda else platform.processor(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "quadrate": __version__,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,  # where precision is float32
        "images": check.source.name,
        "seconds": check.seconds,
    }
    results: dict[str, list[Row]] = {}
    rows: list[Row]
    for name, part in PARTS.items():
        start = check.now()
        rows = results[name] = []
        try:
            rows.extend(part(check))
        except Exception as error:  # the other parts are worth having, as machines are lent shortly
            rows.append({"failed": f"{type(error).__name__}: {error}"[:300], "passed": False})
        print(f"\n{name} ({check.now() - start:.0f} s)\n{table(results[name])}", flush=True)
        write_text(out, json.dumps({"machine": machine, "parts": results}, indent=1) + "\n")
    return results


def table(rows: Sequence[Row]) -> str:
    """Rows as text in columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _source(samples: int | None) -> Source:
    """MNIST, or random images of its size; some of them for a try."""
    folder = os.environ.get("QUADRATE_DATA")
    if folder and (Path(folder) / "mnist").is_dir():
        source = load_source("mnist", folder)
        splits = {name: getattr(source, name) for name in ("train", "validation", "test")}
    else:
        draw = torch.Generator().manual_seed(0)
        splits = {
            name: Split(
                torch.randint(256, (size, 1, 28, 28), dtype=torch.uint8, generator=draw),
                torch.randint(10, (size,), generator=draw),
            )
            for name, size in (("train", 55_000), ("validation", 5000), ("test", 10_000))
        }
        source = Source("random", **splits, classes=10, fingerprint="random")
    if samples is not None:
        splits = {n: Split(s.images[:samples], s.labels[:samples]) for n, s in splits.items()}
        source = replace(source, **splits, fingerprint=fingerprint_of(**splits))
    return source


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; 1 if something is not equal that should be."""
    parser = argparse.ArgumentParser(description="What a GPU makes of training and of codecs.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--small", action="store_true", help="a try of some seconds, on any device")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    device = find_device(options.device)
    source = _source(100 if options.small else None).to(device)
    check = Check(device, source, 54 * options.minutes, 50, 10**6, 10_000)  # the rest is loading
    if options.small:
        check = Check(device, source, 2.0, 3, 2, 20, batch=16)
    results = run(check, options.out)
    passed = [row["passed"] for rows in results.values() for row in rows if "passed" in row]
    print(f"\n{sum(passed)} of {len(passed)} comparisons passed; {options.out}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
