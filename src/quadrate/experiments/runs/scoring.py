"""The scores of one point of a run.

Measured, written with what they were made with, and read again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from quadrate.codecs import TradeoffCodec
from quadrate.config import WEIGHTS, OperatingPoint, Stage
from quadrate.core import draws
from quadrate.core.digests import digest
from quadrate.core.files import read_bytes
from quadrate.core.tensor_file import read_metadata
from quadrate.errors import QuadrateError
from quadrate.evaluation.score import QUICK
from quadrate.experiments.runs.rows import read_made_with, read_rows, write_row
from quadrate.networks.family import Family
from quadrate.sources import Source, pixels
from quadrate.training.judges import Judge
from quadrate.training.processes import Report

ROWS = "evaluation.json"  # in a point's folder
_LONG = 100  # dimensions
_ENTROPY = ("rate_entropy_bits", "rate_entropy_stderr", "rate_entropy_method")
_PICTURED = (1, 3)  # channels
_SAME_SCORE = 1e-3  # by which a judge's score on clean images may differ between machines


@dataclass(frozen=True)
class Scoring:
    """On what, by whom and on which terms points are scored; worker processes receive it.

    Attributes:
        source: The images.
        family: The networks.
        judges: By role; None where a judge is not at hand.
        floors: Where references are kept.
        device: Where all runs.
        quick: Whether on quick terms.
    """

    source: Source
    family: Family
    judges: Mapping[str, Judge | None]
    floors: Path
    device: str
    quick: bool = False

    def made_with(self, place: Path) -> dict[str, str]:
        """What decides the scores of the codec in a point's folder.

        What is not known is left out.
        """
        from quadrate.evaluation import Protocol
        from quadrate.evaluation.protocol import VERSION

        terms = Protocol.quick() if self.quick else Protocol()
        known = {role: judge.identity for role, judge in self.judges.items() if judge}
        return {
            "codec": hashlib.sha256(read_bytes(place / "model.safetensors")).hexdigest(),
            "source": self.source.fingerprint,
            "protocol": digest(str(VERSION), json.dumps(asdict(terms), sort_keys=True)),
            **{f"{role} judge": text for role, text in known.items()},
        }

    def differs(self, place: Path) -> bool:
        """Whether the scores in a point's folder were made with something else than is found now.

        Scores of version 0.1 do not say what they were made with; they differ if a judge's score on
        clean images does, or the time of training.
        """
        made = read_made_with(place / ROWS)
        if made is not None:
            return any(made.get(name) != value for name, value in self.made_with(place).items())
        (row,) = read_rows(place / ROWS)
        details = _details(place / "model.safetensors")
        spent = (
            (row.get(f"train_{name}"), details.get(name))
            for name in ("cpu_seconds", "wall_seconds")
        )
        clean = (
            (row.get(f"{score}_{role}_clean{end}"), getattr(judge, score + end))
            for role, judge in self.judges.items()
            for score, end in (("accuracy", ""), ("cross_entropy", "_nats"))
            if judge
        )
        return any(None not in pair and pair[0] != pair[1] for pair in spent) or any(
            seen is not None
            and not math.isclose(seen, now, rel_tol=_SAME_SCORE, abs_tol=_SAME_SCORE)
            for seen, now in clean
        )


def score_point(scoring: Scoring, job: tuple[Stage, OperatingPoint, Path], report: Report) -> None:
    """Scores one point and writes its row.

    What was measured before with the same codec, images, judges and terms is kept.
    """
    from quadrate.evaluation import Protocol, evaluate
    from quadrate.experiments.reports.grids import save_grid

    stage, point, place = job
    source = replace(scoring.source, noise_std=stage.noise_std)
    codec = TradeoffCodec.load(
        place / "model.safetensors", device=scoring.device, family=scoring.family
    )
    reconstruct = _Reconstruction(codec, source)
    rows = read_rows(place / ROWS)
    known = {} if not rows or scoring.differs(place) else rows[0]
    row: dict[str, Any] = {
        "stage": stage.name,
        **({"protocol": QUICK} if scoring.quick else {}),
        "levels": _levels_text(codec.levels) or point.key.partition("_")[0],
        **({"decoder": point.decoder} if point.decoder != "direct" else {}),
        **{
            weight.name: getattr(point, weight.name)
            for weight in WEIGHTS
            if weight.name != "lambda_r" or point.has_learned_rate
        },
        "seed": point.seed,
        "noise_std": stage.noise_std,
        "rate_bound_bits": codec.rate_bound_bits,
    }
    protocol = Protocol.quick() if scoring.quick else None
    steps = {"steps": protocol.entropy_steps} if protocol else {}
    row |= (
        {name: known[name] for name in _ENTROPY}
        if set(_ENTROPY) <= known.keys()
        else _entropy(codec, source, point.seed, scoring.device, steps)
    )
    if codec.rate_bound_bits is None:  # nothing bounds a learned rate, so its mean stands here
        row["rate_bound_bits"] = row["rate_entropy_bits"]
    row |= evaluate(
        reconstruct, source, scoring.judges, protocol, codec.critic, scoring.floors, known
    )
    row |= {
        f"train_{name}": codec.details[name]
        for name in ("cpu_seconds", "wall_seconds")
        if name in codec.details
    }
    if source.shape[0] in _PICTURED:
        shown = source.test.images[:16]
        save_grid(place / "samples.png", [pixels(shown), reconstruct(shown, 0)])
    write_row(place / ROWS, row, scoring.made_with(place))
    report({"stage": stage.name, "point": point.key, **row})


@dataclass(frozen=True)
class _Reconstruction:
    """A codec on what its encoder sees, as the evaluation calls it."""

    codec: TradeoffCodec
    source: Source

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        generator = draws.generator(seed, "evaluation noise", device=images.device)
        observed = self.source.observe(pixels(images), generator)  # noise may leave [0, 1]
        symbols = self.codec.quantize(self.codec.latents(observed), seed)
        return self.codec.decode(symbols, seed)


def _entropy(
    codec: TradeoffCodec, source: Source, seed: int, device: str, steps: dict[str, int]
) -> dict[str, Any]:
    """H(Z|U) of the codec's symbols."""
    import numpy as np

    from quadrate.codecs.watch import code_lengths
    from quadrate.evaluation import conditional_entropy_bits

    latents = []
    for split in (source.train, source.validation):
        generator = draws.generator(seed, "entropy noise", device=device)
        latents.append(codec.source_latents(source, split.images, generator))
    if codec.rate_bound_bits is None:  # a learned rate: what its tables make of validation images
        lengths = code_lengths(codec, codec.quantize(latents[1]).cpu().numpy())
        bits = np.sum(lengths, axis=0)  # (n,)
        values = float(bits.mean()), float(bits.std() / len(bits) ** 0.5), "code length"
    else:
        entropy = conditional_entropy_bits(latents[0], latents[1], codec.levels, **steps)
        values = entropy.bits, entropy.stderr, entropy.method
    return dict(zip(_ENTROPY, values, strict=True))


def _levels_text(levels: tuple[int, ...]) -> str:
    """Levels as 3x3x3, and those of a long code as 256^1568."""
    return (
        f"{levels[0]}^{len(levels)}"
        if len(levels) > _LONG and len(set(levels)) == 1
        else "x".join(map(str, levels))
    )


def _details(path: Path) -> dict[str, Any]:
    """What a codec's file says of its training; nothing if it cannot be read."""
    try:
        details = json.loads(read_metadata(path)["details"])
    except (QuadrateError, ValueError, KeyError, RecursionError):
        return {}
    return details if isinstance(details, dict) else {}
