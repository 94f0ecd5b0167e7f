"""Training of invariant compressors: an encoder and a factorized bottleneck that keep what invariant tasks need (Dubois et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quadrate import draws
from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture
from quadrate.errors import QuadrateError
from quadrate.objectives.invariance import Contrast, Likelihood, Objective, Reconstruction
from quadrate.sources.symmetry import OrbitSet, Population


@dataclass(frozen=True)
class InvariantConfig:
    """What to train; the loss is D + beta · R with R in nats a sample.

    Attributes:
        objective: "vc" decodes the encoded member itself, "vic" the representative of its orbit, "bince" contrasts two members.
        beta: What a nat costs; the larger, the fewer.
        dims: Latent dimensions.
        steps: Training steps.
        batch: Samples a step.
        learning_rate: Peak of encoder's and decoder's one-cycle schedule.
        bottleneck_learning_rate: The same for steps and densities.
        anneal: Share of the steps in which beta grows linearly from 0.
        polish: Share of the steps that are spent on the decoder (or critic) alone at the end, on latents that are rounded as they will be.
        likelihood: What a reconstruction is measured by; see `Reconstruction`.
        seed: Of initial weights, samples, members and noise.
    """

    objective: Objective = "vic"
    beta: float = 0.1
    dims: int = 1
    steps: int = 20_000
    batch: int = 1024
    learning_rate: float = 2e-3
    bottleneck_learning_rate: float = 1e-2
    anneal: float = 0.1
    polish: float = 0.1
    likelihood: Likelihood = "gaussian"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("beta", "learning_rate", "bottleneck_learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise QuadrateError(f"{name} must be finite and above 0; got {getattr(self, name)}")
        for name in ("dims", "steps", "batch"):
            if getattr(self, name) < 1:
                raise QuadrateError(f"{name} must be at least 1; got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves.

    Attributes:
        encoder: Members (n, ...) to latents (n, d).
        bottleneck: Still in floating point; `FactorizedBottleneck.freeze` makes it integer.
        head: A `Reconstruction` with its decoder, or a `Contrast`.
        config: What was asked for.
    """

    encoder: nn.Module
    bottleneck: FactorizedBottleneck
    head: Reconstruction | Contrast
    config: InvariantConfig


Report = Callable[[dict[str, Any]], None]


def multilayer_perceptron(fan_in: int, fan_out: int, widths: Sequence[int] = (256, 256)) -> nn.Module:
    """Vectors (n, fan_in) to vectors (n, fan_out)."""
    layers: list[nn.Module] = []
    for a, b in zip((fan_in, *widths[:-1]), widths, strict=True):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], fan_out))


def train_invariant(
    data: Population | OrbitSet,
    config: InvariantConfig,
    encoder: Callable[[], nn.Module],
    decoder: Callable[[], nn.Module] | None = None,
    report: Report = lambda row: None,
) -> Trained:
    """Trains an invariant compressor end to end through additive noise; the same arguments give the same weights.

    Args:
        data: Where samples and the members of their orbits come from; a population gives fresh ones at each step.
        config: The settings.
        encoder: Makes the encoder, to latents (n, dims).
        decoder: Makes the decoder, for "vc" and "vic".
        report: Called every hundredth of the steps with step, distortion and rate_bits.

    Raises:
        QuadrateError: If a decoder is missing, or the loss is not finite.
    """
    if (decoder is None) != (config.objective == "bince"):
        raise QuadrateError(f"objective {config.objective!r} takes {'no' if decoder else 'a'} decoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draws.key("invariant", config.seed))
        network = encoder()
        head = Contrast(config.dims) if decoder is None else Reconstruction(decoder(), config.likelihood)
        bottleneck = FactorizedBottleneck(LogisticMixture(config.dims), torch.zeros(config.dims), torch.ones(config.dims))
    groups: list[dict[str, Any]] = [
        {"params": [*network.parameters(), *head.parameters()], "max_lr": config.learning_rate},
        {"params": list(bottleneck.parameters()), "max_lr": config.bottleneck_learning_rate},
    ]
    optimizer = torch.optim.Adam([{"params": group["params"], "lr": group["max_lr"]} for group in groups])
    polishing = int(config.polish * config.steps)
    peaks = [group["max_lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peaks, total_steps=max(1, config.steps - polishing), pct_start=0.1, cycle_momentum=False
    )
    for step in range(config.steps - polishing):
        generator = draws.generator("invariant", config.seed, step)
        first, second = _views(data, config, step, generator)
        weight = config.beta * min(1.0, (step + 1) / (config.anneal * config.steps)) if config.anneal else config.beta
        received, rate_nats = _through(network, bottleneck, first, generator)
        if config.objective == "bince":
            second, _ = _through(network, bottleneck, second, generator)
        distortion = head(received, second).mean()
        loss = distortion + weight * rate_nats.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, config.steps // 100) == 0:
            row = {"step": step + 1, "distortion": distortion.item(), "rate_bits": rate_nats.mean().item() / math.log(2)}
            if not math.isfinite(row["distortion"] + row["rate_bits"]):
                raise QuadrateError(f"training diverged at step {step + 1}; take a smaller learning rate")
            report(row)
    for module in (network, bottleneck):
        module.eval().requires_grad_(False)
    _polish(data, config, network, bottleneck, head, polishing)
    return Trained(network, bottleneck, head.eval().requires_grad_(False), config)


def _polish(
    data: Population | OrbitSet, config: InvariantConfig, network: nn.Module, bottleneck: FactorizedBottleneck, head: nn.Module, steps: int
) -> None:
    """Trains the head alone on codes as they are received, rounded, which additive noise only stands for."""
    frozen = bottleneck.freeze()

    def received(view: Tensor) -> Tensor:
        return torch.from_numpy(frozen.dequantize(frozen.quantize(network(view).numpy()))).float()

    optimizer = torch.optim.Adam(head.parameters(), lr=config.learning_rate / 4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for step in range(config.steps - steps, config.steps):
        first, second = _views(data, config, step, draws.generator("invariant", config.seed, step))
        loss = head(received(first), received(second) if config.objective == "bince" else second).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def _through(network: nn.Module, bottleneck: FactorizedBottleneck, view: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    latent = network(view)
    return bottleneck(latent, torch.rand(latent.shape, generator=generator) - 0.5)


def _views(data: Population | OrbitSet, config: InvariantConfig, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is encoded, and what it is compared with: itself, the representative, or a second member."""
    if isinstance(data, Population):
        x = data.sample(config.batch, "train", config.seed, step)
        first = data.member(x, generator)
        if config.objective == "vc":
            return first, first
        return first, data.representative(x) if config.objective == "vic" else data.member(x, generator)
    indices = torch.randint(len(data), (config.batch,), generator=generator)
    first = data.members(indices, generator)
    if config.objective == "vc":
        return first, first
    return first, data.representatives(indices) if config.objective == "vic" else data.members(indices, generator)
