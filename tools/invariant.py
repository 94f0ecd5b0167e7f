"""Invariant compressors on sources whose bounds are exact: the banana, and patterns under a finite group (Dubois et al. 2021).

    python tools/invariant.py banana
    python tools/invariant.py group-exact

Each writes results/<name>/results.csv: bits on disk (the whole .quad file of 100,000 samples) beside the bounds; and `banana` its curve. A run that
was interrupted goes on after the rows that are there.
"""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quadrate import draws
from quadrate.features import FeatureCodec
from quadrate.files import write_text
from quadrate.objectives.invariance import Contrast, Reconstruction, information_bound_bits
from quadrate.runs import machine, to_csv
from quadrate.sources.symmetry import Banana, PermutedPatterns, dihedral_patterns
from quadrate.theory import banana as theory
from quadrate.training.invariant import InvariantConfig, Trained, multilayer_perceptron, train_invariant

RESULTS = Path(__file__).parents[1] / "results"
TEST = 100_000
CANDIDATES = 4096


def coded(trained: Trained, fit: Tensor, test: Tensor) -> tuple[FeatureCodec, bytes, float]:
    """A codec with joint tables fitted to training members, the file of test members, and bits a sample on disk with factorized tables."""
    codec = FeatureCodec.from_factorized(trained.bottleneck)
    latents = trained.encoder(test)
    factorized = codec.compress(latents, chunk=TEST)
    codec = FeatureCodec.from_factorized(trained.bottleneck, latents=trained.encoder(fit))
    data = codec.compress(latents, chunk=TEST)
    assert data is not None and factorized is not None
    return codec, data, 8 * len(factorized) / len(test)


def banana_row(config: InvariantConfig) -> dict[str, Any]:
    """VIC under rotation, or VC, which knows of none."""
    source = Banana("rotation" if config.objective == "vic" else "none")
    trained = train_invariant(source, config, partial(multilayer_perceptron, 2, config.dims), partial(multilayer_perceptron, config.dims, 2))
    fit, test = (source.sample(TEST, name, config.seed) for name in ("fit", "test"))
    generator = draws.generator("banana members", config.seed)
    fit_members, members = source.member(fit, generator), source.member(test, generator)
    codec, data, factorized_bits = coded(trained, fit_members, members)
    assert isinstance(trained.head, Reconstruction)
    received = torch.from_numpy(codec.decompress(data)).float()
    distortion = float(trained.head(received, source.representative(test)).mean())
    bits = 8 * len(data) / TEST
    return {
        "distortion": distortion,
        "disk_bits": bits,
        "factorized_disk_bits": factorized_bits,
        "objective_disk": distortion + config.beta * bits * math.log(2),
    }


class _PatternEncoder(nn.Module):
    def __init__(self, positions: int, dims: int) -> None:
        super().__init__()
        self.body = multilayer_perceptron(positions, dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(1).float() * 2 - 1)


def _pattern_decoder(source: PermutedPatterns, dims: int) -> nn.Module:
    return nn.Sequential(multilayer_perceptron(dims, source.positions), nn.Unflatten(1, source.shape))


def group_row(config: InvariantConfig) -> dict[str, Any]:
    """3×3 binary images under rotations and reflections: H[X] = 9 bits, H[M] = 6.5."""
    source = dihedral_patterns(3, [0.5, 0.5])
    decoder = None if config.objective == "bince" else partial(_pattern_decoder, source, config.dims)
    trained = train_invariant(source, config, partial(_PatternEncoder, source.positions, config.dims), decoder)
    fit, test = (source.sample(TEST, name, config.seed) for name in ("fit", "test"))
    generator = draws.generator("group members", config.seed)
    fit_members, members, others = (source.member(x, generator) for x in (fit, test, test))
    codec, data, factorized_bits = coded(trained, fit_members, members)
    received = torch.from_numpy(codec.decompress(data)).float()
    exact = source.entropies()
    symbols, orbits = codec.encode(trained.encoder(members)).numpy(), source.invariant(members).numpy().reshape(TEST, -1)
    information = _entropy(symbols) + _entropy(orbits) - _entropy(np.concatenate([symbols, orbits], axis=1))
    row = {
        "disk_bits": 8 * len(data) / TEST,
        "factorized_disk_bits": factorized_bits,
        "entropy_source_bits": exact.source,
        "entropy_invariant_bits": exact.invariant,
        "prediction_error": _prediction_error(
            codec.encode(trained.encoder(fit_members)).numpy(), source.invariant(fit_members).numpy(), symbols, orbits
        ),
        "information_bits": information,
    }
    if isinstance(trained.head, Contrast):
        other = torch.from_numpy(codec.decompress(codec.compress(trained.encoder(others)) or b"")).float()
        count = TEST // CANDIDATES * CANDIDATES
        bound, error = information_bound_bits(trained.head, received[:count], other[:count], CANDIDATES)
        row |= {"bound_bits": bound, "bound_stderr": error}
    else:
        target = source.representative(test) if config.objective == "vic" else members
        row["pattern_error"] = float(((trained.head.decoder(received) > 0) != (target > 0)).flatten(1).any(dim=1).float().mean())
    return row


def _entropy(rows: np.ndarray) -> float:
    """The entropy of rows as they are distributed here, bits."""
    _, counts = np.unique(rows, axis=0, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _prediction_error(fit_codes: np.ndarray, fit_orbits: np.ndarray, codes: np.ndarray, orbits: np.ndarray) -> float:
    """How often the orbit that a code had most often in training is not the test sample's: the worst invariant task, from codes alone."""
    votes: dict[bytes, dict[int, int]] = {}
    for code, orbit in zip(np.ascontiguousarray(fit_codes), fit_orbits.ravel().tolist(), strict=True):
        own = votes.setdefault(code.tobytes(), {})
        own[orbit] = own.get(orbit, 0) + 1
    best = {code: max(own, key=lambda orbit: own[orbit]) for code, own in votes.items()}
    guesses = [best.get(code.tobytes(), -1) for code in np.ascontiguousarray(codes)]
    return float(np.mean(np.array(guesses) != orbits.ravel()))


def _banana_configs() -> list[InvariantConfig]:
    base = InvariantConfig(steps=3000)
    at = [replace(base, objective=o, dims=d, beta=0.07, seed=s, steps=5000) for s in range(3) for o, d in (("vic", 1), ("vc", 2))]
    return at + [replace(base, objective=o, dims=d, beta=b) for b in (0.02, 0.2) for o, d in (("vic", 1), ("vc", 2))]


def _group_configs() -> list[InvariantConfig]:
    base = InvariantConfig(dims=4, steps=3000, batch=512, likelihood="bernoulli")
    settings = [("vic", 0.02), ("vc", 0.02), ("bince", 0.02)]
    return [replace(base, objective=o, beta=b, seed=s, batch=1024 if o == "bince" else 512) for s in range(3) for o, b in settings]


EXPERIMENTS = {"banana": (_banana_configs, banana_row), "group-exact": (_group_configs, group_row)}


def draw_banana(rows: list[dict[str, Any]], path: Path) -> None:
    """Rate against the error of the representative, with the Shannon lower bound and the entropy-coded scalar quantizer."""
    from quadrate.reports.panels import COLOURS, new_figure, save_figure

    figure, ((axis,),) = new_figure(1, 1, 6.5, 4.5)
    points = [theory.best_quantizer("rotation", float(weight)) for weight in np.geomspace(0.005, 0.9, 30)]  # weights on MSE of |x|
    axis.plot([p.mse / 2 for p in points], [p.rate for p in points], color=COLOURS[2], label="entropy-coded scalar quantizer of |x|")
    grid = np.geomspace(0.002, 0.6, 60)
    axis.plot(grid, theory.shannon_lower_bound("rotation", 2 * grid), "--", color=COLOURS[6], label="Shannon lower bound, |x|")
    axis.plot(grid, theory.shannon_lower_bound("none", grid), ":", color=COLOURS[6], label="Shannon lower bound, x")
    for objective, label, colour in (("vic", "VIC, on disk", COLOURS[0]), ("vc", "VC, on disk", COLOURS[1])):
        own = [row for row in rows if row["objective"] == objective]
        axis.plot([float(r["distortion"]) for r in own], [float(r["disk_bits"]) for r in own], "o", color=colour, label=label)
    axis.set_xscale("log")
    axis.set_xlabel("MSE, mean of the two coordinates")
    axis.set_ylabel("bits a sample")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    save_figure(figure, path)


def main(name: str) -> None:
    """Runs what is not in the table yet."""
    torch.set_num_threads(1)
    configs, run = EXPERIMENTS[name]
    path = RESULTS / name / "results.csv"
    rows: list[dict[str, Any]] = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    done = {(row["objective"], float(row["beta"]), int(row["seed"])) for row in rows}
    for config in configs():
        if (config.objective, config.beta, config.seed) in done:
            continue
        settings = {key: getattr(config, key) for key in ("objective", "beta", "dims", "steps", "batch", "seed")}
        rows.append({**settings, **run(config), **{key: machine()[key] for key in ("processor", "date")}})
        print(rows[-1], flush=True)
        write_text(path, to_csv(rows))
    if name == "banana":
        draw_banana(rows, RESULTS / name / "rate-distortion.png")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in EXPERIMENTS:
        sys.exit(f"usage: python tools/invariant.py {'|'.join(EXPERIMENTS)}")
    main(sys.argv[1])
