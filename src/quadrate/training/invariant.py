"""Training of invariant compressors: an encoder and a bottleneck that keep what invariant tasks need (Dubois et al. 2021)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from quadrate import draws
from quadrate.bottlenecks.factorized import FactorizedBottleneck, fit_factorized
from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck, fit_hyperprior
from quadrate.bottlenecks.learned import BOTTLENECKS
from quadrate.bottlenecks.unit_gaussian import UnitGaussianBottleneck
from quadrate.config import InvariantConfig
from quadrate.errors import QuadrateError
from quadrate.files import write_atomically
from quadrate.networks import invariant as networks
from quadrate.objectives.invariance import Contrast, Reconstruction
from quadrate.sources.symmetry import OrbitSet, Population
from quadrate.training.trainer import native_bfloat16

LearnedBottleneck = FactorizedBottleneck | HyperpriorBottleneck | UnitGaussianBottleneck
_SECONDS_BETWEEN_CHECKPOINTS = 15.0


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
    bottleneck: LearnedBottleneck
    head: Reconstruction | Contrast
    config: InvariantConfig


Report = Callable[[dict[str, Any]], None]


def train_invariant(
    data: Population | OrbitSet, config: InvariantConfig, report: Report = lambda row: None, checkpoint: Path | None = None
) -> Trained:
    """Trains an invariant compressor through additive noise; the same arguments give the same weights, interrupted or not.

    Args:
        data: Where samples and the members of their orbits come from; a population gives fresh ones at each step.
        config: The settings.
        report: Called every hundredth of the steps with step, distortion and rate_bits.
        checkpoint: A file to go on from if it exists, written every quarter of a minute; the caller removes it.

    Raises:
        QuadrateError: If the loss is not finite, or the checkpoint is another training's.
    """
    training = _Training(data, config)
    if checkpoint is not None and checkpoint.exists():
        training.load(checkpoint)
    saved = time.monotonic()
    while training.step < training.steps:
        row = training.advance()
        if training.step % max(1, config.steps // 100) == 0:
            if not math.isfinite(row["distortion"] + row["rate_bits"]):
                raise QuadrateError(f"training diverged at step {training.step}; take a smaller learning rate")
            report(row)
        if checkpoint is not None and (time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS or training.step == training.steps):
            training.save(checkpoint)
            saved = time.monotonic()
    return training.finish()


class _Training:
    """An encoder, its bottleneck and its head, with their optimizer, step by step."""

    def __init__(self, data: Population | OrbitSet, config: InvariantConfig) -> None:
        self.data, self.config = data, config
        first, second = self._views(0)
        self.device = first.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.key("invariant", config.seed))
            self.bottleneck: LearnedBottleneck = BOTTLENECKS.find(config.bottleneck)(config.dims)
            self.encoder = networks.encoder(config.network, first.shape[1:], config.dims * (2 if config.bottleneck == "unit-gaussian" else 1))
            self.head: Reconstruction | Contrast = (
                Contrast(config.dims)
                if config.objective == "bince"
                else Reconstruction(networks.decoder(config.network, second.shape[1:], config.dims), config.likelihood)
            )
        if config.network == "convolutional":
            self.encoder = self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in (self.encoder, self.head, self.bottleneck):
            module.to(self.device)
        self.bfloat16 = config.network == "convolutional" and native_bfloat16(self.device)
        groups = [
            {"params": [*self.encoder.parameters(), *self.head.parameters()], "weight_decay": config.weight_decay},
            {"params": list(self.bottleneck.parameters()), "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0)
        polishing = 0 if config.bottleneck == "unit-gaussian" else int(config.polish * config.steps)  # there is nothing to round
        self.step, self.steps = 0, max(1, config.steps - polishing)

    def advance(self) -> dict[str, float]:
        """One step; the report's row."""
        config, coded = self.config, self.config.schedule == "end-to-end"
        for group, peak in zip(self.optimizer.param_groups, (config.learning_rate, config.bottleneck_learning_rate), strict=True):
            group["lr"] = peak * _schedule(self.step / self.steps)
        generator = draws.generator("invariant noise", config.seed, self.step)
        first, second = self._views(self.step)
        received, rate_nats = self._through(first, generator, coded)
        if config.objective == "bince":
            second, _ = self._through(second, generator, coded)
        distortion = self._distortion(received, second)
        weight = config.beta * min(1.0, (self.step + 1) / (config.anneal * config.steps)) if config.anneal else config.beta
        loss = distortion + weight * rate_nats.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 3.0)
        self.optimizer.step()
        self.step += 1
        return {"step": self.step, "steps": self.steps, "distortion": distortion.item(), "rate_bits": rate_nats.mean().item() / math.log(2)}

    def finish(self) -> Trained:
        """Fits a staggered bottleneck, and trains the head alone on codes as they are received, rounded, which additive noise only stands for."""
        self.encoder.eval().requires_grad_(False)
        if self.config.schedule == "staggered":
            self.bottleneck = self._staggered().to(self.device)
        self.bottleneck.eval().requires_grad_(False)
        if self.steps < self.config.steps:
            self._polish()
        return Trained(self.encoder, self.bottleneck, self.head.eval().requires_grad_(False), self.config)

    def _staggered(self) -> LearnedBottleneck:
        """A bottleneck for the frozen latents of a hundred thousand samples; their spread is the unit of the error that beta is paid in."""
        count = -(-100_000 // self.config.batch)
        latents = torch.cat([self.encoder(self._views(step)[0]).float().cpu() for step in range(count)])
        beta, seed = self.config.beta * float(latents.var(0).mean()), self.config.seed
        if self.config.bottleneck == "hyperprior":
            return fit_hyperprior(latents, beta, seed=seed)
        return fit_factorized(latents, beta, learning_rate=0.03, seed=seed)

    def _polish(self) -> None:
        frozen = copy.deepcopy(self.bottleneck).cpu().freeze()

        def received(view: Tensor) -> Tensor:
            return torch.from_numpy(frozen.dequantize(frozen.quantize(self.encoder(view).cpu().numpy()))).float().to(self.device)

        optimizer = torch.optim.Adam(self.head.parameters(), lr=0.0)
        for step in range(self.steps, self.config.steps):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate / 8 * (1 + math.cos(math.pi * (step - self.steps) / (self.config.steps - self.steps)))
            first, second = self._views(step)
            target = received(second) if self.config.objective == "bince" else second
            loss = self._distortion(received(first), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def _through(self, view: Tensor, generator: torch.Generator, coded: bool) -> tuple[Tensor, Tensor]:
        """A view's latents with the noise of their rounding, and their rate in nats; without a bottleneck, as they are, at no rate."""
        with self._autocast():
            latent = self.encoder(view).float()
        if not coded:
            return latent, torch.zeros(len(latent), device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            return self.bottleneck(latent, (torch.rand((len(latent), self.bottleneck.noise_columns), generator=generator) - 0.5).to(self.device))

    def _distortion(self, received: Tensor, target: Tensor) -> Tensor:
        if self.config.objective == "bince":  # whose logits reach 100, where bfloat16 is no finer than a half
            return self.head(received, target).mean()
        with self._autocast():
            return self.head(received, target).float().mean()

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            yield

    def _views(self, step: int) -> tuple[Tensor, Tensor]:
        """What is encoded at a step, and what it is compared with: itself, the representative, or a second member."""
        data, config = self.data, self.config
        generator = draws.generator("invariant", config.seed, step)
        if isinstance(data, Population):
            x = data.sample(config.batch, "train", config.seed, step)
            first = data.member(x, generator)
            if config.objective == "vc":
                return first, first
            return first, data.representative(x) if config.objective == "vic" else data.member(x, generator)
        indices = _indices(len(data), config, step).to(data.points.device)
        first = data.members(indices, generator)
        if config.objective == "vc":
            return first, first
        return first, data.representatives(indices) if config.objective == "vic" else data.members(indices, generator)

    def save(self, path: Path) -> None:
        """Writes all that is needed to go on."""
        state = {f"{role}.{name}": tensor for role, module in self._modules() for name, tensor in module.state_dict().items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{name}": tensor for name, tensor in slots.items()}
        state["at"] = torch.tensor(self.step)
        state = {name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}
        write_atomically(path, lambda place: safetensors.torch.save_file(state, place, {"config": repr(self.config)}))

    def load(self, path: Path) -> None:
        """Goes on from what `save` wrote."""
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("config") != repr(self.config):
                    raise QuadrateError(f"checkpoint {path} is of another configuration; delete it to train from the start")
            state = safetensors.torch.load_file(path)
            for role, module in self._modules():
                module.load_state_dict({name.removeprefix(f"{role}."): tensor for name, tensor in state.items() if name.startswith(f"{role}.")})
            slots: dict[int, dict[str, Tensor]] = {}
            for name, tensor in state.items():
                if name.startswith("optimizer."):
                    _, number, slot = name.split(".")
                    slots.setdefault(int(number), {})[slot] = tensor
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})
            self.step = int(state["at"])
        except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            raise QuadrateError(f"checkpoint {path} is damaged ({error}); delete it to train from the start") from None

    def _modules(self) -> list[tuple[str, nn.Module]]:
        return [("encoder", self.encoder), ("head", self.head), ("bottleneck", self.bottleneck)]


def _schedule(done: float) -> float:
    """The share of the peak learning rate after a share of the steps: up over a tenth, then down along a cosine."""
    return max(done, 1e-3) / 0.1 if done < 0.1 else (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2


def _indices(count: int, config: InvariantConfig, step: int) -> Tensor:
    """Which samples a step takes: each once in an epoch, but for the rest that fills no batch."""
    batches = max(1, count // config.batch)
    epoch, place = divmod(step, batches)
    return _order(count, config.seed, epoch)[place * config.batch : (place + 1) * config.batch]


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return draws.permutation("invariant order", seed, epoch, n=count)
