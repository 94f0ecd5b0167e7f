"""Training of invariant compressors.

An encoder and a bottleneck that keep what invariant tasks need (Dubois et al. 2021).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quadrate.bottlenecks.bottleneck import build_bottleneck
from quadrate.bottlenecks.factorized import FactorizedBottleneck
from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck
from quadrate.bottlenecks.unit_gaussian import UnitGaussianBottleneck
from quadrate.codecs import InvariantCodec
from quadrate.coding.symbols import NO_DITHER
from quadrate.config import InvariantConfig
from quadrate.core import draws
from quadrate.core.progress import Showing, shown
from quadrate.errors import QuadrateError
from quadrate.networks import autoencoders as networks
from quadrate.objectives.invariance import Contrast, Reconstruction
from quadrate.sources.symmetry import OrbitSet, Population
from quadrate.training.batch_size import check_batch
from quadrate.training.bottleneck_fits import fit_factorized, fit_hyperprior
from quadrate.training.checkpoints import (
    check_counter,
    check_tensors,
    damaged,
    read_checkpoint,
    write_checkpoint,
)
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
        cpu_seconds: Processor time of all sessions together, up to their last checkpoints.
        wall_seconds: The clock's time of the same.
    """

    encoder: nn.Module
    bottleneck: LearnedBottleneck
    head: Reconstruction | Contrast
    config: InvariantConfig
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def codec(
        self,
        members: Tensor,
        details: dict[str, Any] | None = None,
        held_out: Tensor | None = None,
    ) -> InvariantCodec:
        """Build the codec and freeze it; warnings and errors as of `InvariantCodec.freeze`.

        Args:
            members: Training members, (n, ...), that tables are fitted to.
            details: Extra metadata to store in the codec's file.
            held_out: Members that were not trained on, by which `compress` will know samples that
                are like them; by default the training members.
        """
        networks: dict[str, nn.Module] = {"encoder": self.encoder, "critic": self.head}
        if isinstance(self.head, Reconstruction):
            networks = {"encoder": self.encoder, "decoder": self.head.decoder}
        states = {
            role: {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
            for role, network in networks.items()
        }
        model = self.bottleneck.freeze()
        codec = InvariantCodec(self.config, members.shape[1:], states, model, details)
        return codec.freeze(members, held_out)


def train_invariant(
    data: Population | OrbitSet,
    config: InvariantConfig,
    report: Showing = "auto",
    checkpoint: Path | None = None,
) -> Trained:
    """Trains an invariant compressor through additive noise.

    The same arguments give the same weights, interrupted or not.

    Args:
        data: Where samples and the members of their orbits come from; a population gives fresh ones
            at each step.
        config: The settings.
        report: Takes the progress, as `quadrate.core.progress.shown` says: every hundredth of the
            steps step, steps, distortion and rate_bits.
        checkpoint: A file to go on from if it exists, written every quarter of a minute; the caller
            removes it.

    Raises:
        QuadrateError: If the loss is not finite, or the checkpoint is another training's.
    """
    if isinstance(data, OrbitSet):
        check_batch(config.key, config.batch, len(data))
    training = _Training(data, config)
    if checkpoint is not None:
        training.load(checkpoint)
    with shown(report, "training", 1) as told:
        saved = time.monotonic()
        while training.step < training.steps:
            row = training.advance()
            if training.step % max(1, config.steps // 100) == 0:
                if not math.isfinite(row["distortion"] + row["rate_bits"]):
                    raise QuadrateError(
                        f"training diverged at step {training.step}; take a smaller learning rate"
                    )
                told(row)
            if checkpoint is not None and (
                time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS
                or training.step == training.steps
            ):
                training.save(checkpoint)
                saved = time.monotonic()
    return training.finish()


class _Training:
    """An encoder, its bottleneck and its head, with their optimizer, step by step."""

    def __init__(self, data: Population | OrbitSet, config: InvariantConfig) -> None:
        self.data, self.config = data, config
        first, second = self._views(0)
        self.device = first.device
        build = partial(_build, config, first.shape[1:], second.shape[1:])
        self.bottleneck, self.encoder, self.head = draws.build_with_seed(
            build, draws.key("invariant", config.seed)
        )
        if config.network == "convolutional":
            self.encoder = self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in (self.encoder, self.head, self.bottleneck):
            module.to(self.device)
        self.bfloat16 = config.network == "convolutional" and native_bfloat16(self.device)
        groups = [
            {
                "params": [*self.encoder.parameters(), *self.head.parameters()],
                "weight_decay": config.weight_decay,
            },
            {"params": list(self.bottleneck.parameters()), "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for p in self._parameters:  # from the start, so that a checkpoint lacks none
            zero = torch.zeros((), dtype=torch.float32)
            self.optimizer.state[p] = {
                "step": zero,
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
        polishing = (
            0 if config.bottleneck == "unit-gaussian" else int(config.polish * config.steps)
        )  # there is nothing to round
        self.step, self.steps = 0, max(1, config.steps - polishing)
        self._before, self._started = (
            torch.zeros(2, dtype=torch.float64),
            _clocks(),
        )  # seconds of earlier sessions: the processor's, the clock's

    def advance(self) -> dict[str, float]:
        """One step; the report's row."""
        config, coded = self.config, self.config.schedule == "end-to-end"
        for group, peak in zip(
            self.optimizer.param_groups,
            (config.learning_rate, config.bottleneck_learning_rate),
            strict=True,
        ):
            group["lr"] = peak * _schedule(self.step / self.steps)
        generator = draws.generator("invariant noise", config.seed, self.step)
        first, second = self._views(self.step)
        received, rate_nats = self._through(first, generator, coded)
        if config.objective == "bince":
            second, _ = self._through(second, generator, coded)
        distortion = self._distortion(received, second)
        weight = (
            config.beta * min(1.0, (self.step + 1) / (config.anneal * config.steps))
            if config.anneal
            else config.beta
        )
        loss = distortion + weight * rate_nats.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 3.0)
        self.optimizer.step()
        self.step += 1
        return {
            "step": self.step,
            "steps": self.steps,
            "distortion": distortion.item(),
            "rate_bits": rate_nats.mean().item() / math.log(2),
        }

    def finish(self) -> Trained:
        """Fits a staggered bottleneck, and trains the head alone on codes as they are received, rounded, which additive noise only stands for."""
        self.encoder.eval().requires_grad_(False)
        if self.config.schedule == "staggered":
            self.bottleneck = self._staggered().to(self.device)
        self.bottleneck.eval().requires_grad_(False)
        if self.steps < self.config.steps:
            self._polish()
        cpu_seconds, wall_seconds = self._seconds().tolist()
        return Trained(
            self.encoder,
            self.bottleneck,
            self.head.eval().requires_grad_(False),
            self.config,
            cpu_seconds,
            wall_seconds,
        )

    def _staggered(self) -> LearnedBottleneck:
        """A bottleneck for the frozen latents of a hundred thousand samples.

        Their spread is the unit of the error that beta is paid in.
        """
        count = -(-100_000 // self.config.batch)
        latents = torch.cat(
            [self.encoder(self._views(step)[0]).float().cpu() for step in range(count)]
        )
        beta, seed = self.config.beta * float(latents.var(0).mean()), self.config.seed
        if self.config.bottleneck == "hyperprior":
            return fit_hyperprior(latents, beta, seed=seed)
        return fit_factorized(latents, beta, learning_rate=0.03, seed=seed)

    def _polish(self) -> None:
        frozen = copy.deepcopy(self.bottleneck).cpu().freeze()

        def received(view: Tensor) -> Tensor:
            return (
                torch.from_numpy(
                    frozen.dequantize(
                        frozen.quantize(self.encoder(view).cpu().numpy(), NO_DITHER), NO_DITHER
                    )
                )
                .float()
                .to(self.device)
            )

        optimizer = torch.optim.Adam(self.head.parameters(), lr=0.0)
        for step in range(self.steps, self.config.steps):
            for group in optimizer.param_groups:
                group["lr"] = (
                    self.config.learning_rate
                    / 8
                    * (
                        1
                        + math.cos(math.pi * (step - self.steps) / (self.config.steps - self.steps))
                    )
                )
            first, second = self._views(step)
            target = received(second) if self.config.objective == "bince" else second
            loss = self._distortion(received(first), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def _through(
        self, view: Tensor, generator: torch.Generator, coded: bool
    ) -> tuple[Tensor, Tensor]:
        """A view's latents with the noise of their rounding, and their rate in nats.

        Without a bottleneck, as they are, at no rate.
        """
        with self._autocast():
            latent = self.encoder(view).float()
        if not coded:
            return latent, torch.zeros(len(latent), device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            return self.bottleneck(
                latent,
                (
                    torch.rand((len(latent), self.bottleneck.noise_columns), generator=generator)
                    - 0.5
                ).to(self.device),
            )

    def _distortion(self, received: Tensor, target: Tensor) -> Tensor:
        if (
            self.config.objective == "bince"
        ):  # whose logits reach 100, where bfloat16 is no finer than a half
            return self.head(received, target).mean()
        with self._autocast():
            return self.head(received, target).float().mean()

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            yield

    def _views(self, step: int) -> tuple[Tensor, Tensor]:
        """What is encoded at a step, and what it is compared with.

        Itself, the representative, or a second member.
        """
        data, config = self.data, self.config
        generator = draws.generator("invariant", config.seed, step)
        if isinstance(data, Population):
            x = data.sample(config.batch, "train", config.seed, step)
            first = data.sample_orbit(x, generator)
            if config.objective == "vc":
                return first, first
            return first, (
                data.representative(x)
                if config.objective == "vic"
                else data.sample_orbit(x, generator)
            )
        indices = _indices(len(data), config, step).to(data.points.device)
        first = data.sample_orbit(indices, generator)
        if config.objective == "vc":
            return first, first
        return first, (
            data.representatives(indices)
            if config.objective == "vic"
            else data.sample_orbit(indices, generator)
        )

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on."""
        state = {
            f"{role}.{name}": tensor
            for role, module in self._modules()
            for name, tensor in module.state_dict().items()
        }
        for i, p in enumerate(self._parameters):
            state |= {
                f"optimizer.{i}.{name}": tensor for name, tensor in self.optimizer.state[p].items()
            }
        return state | {"at": torch.tensor(self.step), "seconds": self._seconds()}

    def save(self, path: Path) -> None:
        """Writes a checkpoint."""
        write_checkpoint(path, self.state(), self._identity())

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Goes on from what `save` wrote, if there is something."""
        found = read_checkpoint(path, self._identity())
        if found is None:
            return
        state = found[0]
        try:
            check_tensors(state, self.state())
            step = check_counter("at", state["at"], 1, self.steps)
            if step != max(
                check_counter(name, state[name], 0, step)
                for name in (f"optimizer.{i}.step" for i in range(len(self._parameters)))
            ):
                raise QuadrateError(
                    f"its optimizer has not taken the {step} steps that it should have taken"
                )
        except QuadrateError as error:
            raise damaged(path, error) from None
        for role, module in self._modules():
            module.load_state_dict(
                {
                    name.removeprefix(f"{role}."): tensor
                    for name, tensor in state.items()
                    if name.startswith(f"{role}.")
                }
            )
        for i, p in enumerate(self._parameters):
            for name, slot in self.optimizer.state[p].items():
                slot.copy_(state[f"optimizer.{i}.{name}"])
        self.step, self._before = step, state["seconds"]

    def _identity(self) -> str:
        """What a checkpoint belongs to: the settings and the data."""
        sha = hashlib.sha256(repr(self.config).encode())
        group = self.data.group if isinstance(self.data, OrbitSet) else self.data
        for thing in (self.data, group):
            sha.update(type(thing).__qualname__.encode())
        if dataclasses.is_dataclass(group):  # others print where they lie in memory
            sha.update(repr(group).encode())
        for field in dataclasses.fields(self.data) if dataclasses.is_dataclass(self.data) else ():
            if isinstance(value := getattr(self.data, field.name), Tensor):
                sha.update(
                    f"{field.name} {value.dtype} {tuple(value.shape)}".encode()
                    + value.cpu().contiguous().numpy().tobytes()
                )
        return sha.hexdigest()

    def _seconds(self) -> Tensor:
        """Processor time and the clock's time, of this session and those before."""
        return self._before + _clocks() - self._started

    def _modules(self) -> list[tuple[str, nn.Module]]:
        return [("encoder", self.encoder), ("head", self.head), ("bottleneck", self.bottleneck)]


def _clocks() -> Tensor:
    return torch.tensor([time.process_time(), time.monotonic()], dtype=torch.float64)


def _build(
    config: InvariantConfig, encoded: torch.Size, decoded: torch.Size
) -> tuple[LearnedBottleneck, nn.Module, Reconstruction | Contrast]:
    """Bottleneck, encoder and head, for samples of a shape and targets of another."""
    bottleneck: LearnedBottleneck = build_bottleneck(config.bottleneck, (config.dims,))
    encoder = networks.encoder(config.network, encoded, bottleneck.latent_shape[0])
    if config.objective == "bince":
        return bottleneck, encoder, Contrast(config.dims)
    return (
        bottleneck,
        encoder,
        Reconstruction(networks.decoder(config.network, decoded, config.dims), config.likelihood),
    )


def _schedule(done: float) -> float:
    """The share of the peak learning rate after a share of the steps.

    Up over a tenth, then down along a cosine.
    """
    return max(done, 1e-3) / 0.1 if done < 0.1 else (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2


def _indices(count: int, config: InvariantConfig, step: int) -> Tensor:
    """Which samples a step takes: each once in an epoch, but for the rest that fills no batch."""
    batches = max(1, count // config.batch)
    epoch, place = divmod(step, batches)
    return _order(count, config.seed, epoch)[place * config.batch : (place + 1) * config.batch]


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return draws.permutation("invariant order", seed, epoch, n=count)
