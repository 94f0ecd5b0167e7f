"""Training of invariant compressors, which keep what invariant tasks need (Dubois et al. 2021)."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quadrate.bottlenecks.by_name import build_bottleneck
from quadrate.codecs import InvariantCodec
from quadrate.config import InvariantConfig
from quadrate.core import draws
from quadrate.core.progress import Showing, shown
from quadrate.core.tensor_file import tensor_bytes
from quadrate.errors import QuadrateError
from quadrate.networks import autoencoders as networks
from quadrate.objectives.invariance import Contrast, Reconstruction
from quadrate.sources.symmetry import OrbitSet, Population
from quadrate.training.batch_size import check_batch
from quadrate.training.bottleneck_fits import FITS
from quadrate.training.checkpoints import (
    check_counter,
    check_tensors,
    damaged,
    read_checkpoint,
    write_checkpoint,
)
from quadrate.training.layers import received
from quadrate.training.loop import (
    Clock,
    Descent,
    autocast,
    check_finite,
    one_cycle,
    ramp,
    run,
    shares,
    uses_bfloat16,
)

_WARMUP = 0.1  # the share of the steps over which learning rates rise
_SAMPLES_TO_FIT = 100_000  # of a staggered bottleneck


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves.

    Attributes:
        encoder: Members (n, ...) to latents (n, d).
        bottleneck: Still in floating point; its `freeze` makes it integer.
        head: A `Reconstruction` with its decoder, or a `Contrast`.
        config: What was asked for.
        cpu_seconds: Processor time of all sessions together, up to their last checkpoints.
        wall_seconds: The clock's time of the same.
    """

    encoder: nn.Module
    bottleneck: Any
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
    """Train an invariant compressor through additive noise.

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
        QuadrateError: If the loss is not finite, or the checkpoint is of another training.
    """
    if isinstance(data, OrbitSet):
        check_batch(config.key, config.batch, len(data))
    training = _Training(data, config).prepare()
    if checkpoint is not None:
        training.load(checkpoint)
    with shown(report, "training", 1) as told, training.clock:

        def advance(step: int) -> None:
            row = training.advance(step)
            if training.at % max(1, config.steps // 100) == 0:
                check_finite(config.key, f"step {training.at}", row)
                told({"step": training.at, "steps": training.steps, **row})

        save = None if checkpoint is None else lambda: training.save(checkpoint)
        run(advance, training.steps, training.at, save)
    return training.finish()


class _Training:
    """An encoder, its bottleneck and its head, with their optimizer, step by step."""

    def __init__(self, data: Population | OrbitSet, config: InvariantConfig) -> None:
        self.data, self.config = data, config
        # Without symbols there is nothing to round, so nothing to polish.
        polishing = config.bottleneck != "unit-gaussian" and int(config.polish * config.steps)
        self.at, self.steps = 0, max(1, config.steps - polishing)
        self.clock = Clock()

    def prepare(self) -> _Training:
        """Build networks, bottleneck and optimizer; return the training."""
        config = self.config
        first, second = self._views(0)
        self.device = first.device
        self.bottleneck, self.encoder, self.head = draws.build_with_seed(
            lambda: _build(config, first.shape[1:], second.shape[1:]),
            draws.key("invariant", config.seed),
        )
        if config.network == "convolutional":
            self.encoder = self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for _, module in self._modules():
            module.to(self.device)
        convolutional = config.network == "convolutional"
        self.bfloat16 = convolutional and uses_bfloat16("auto", self.device)
        networks = [*self.encoder.parameters(), *self.head.parameters()]
        groups = [
            {
                "params": networks,
                "lr": config.learning_rate,
                "weight_decay": config.weight_decay,
            },
            {
                "params": list(self.bottleneck.parameters()),
                "lr": config.bottleneck_learning_rate,
                "weight_decay": 0.0,
            },
        ]
        optimizer = torch.optim.AdamW(groups)
        rates = shares(optimizer, lambda step: one_cycle(max(step / self.steps, 1e-3), _WARMUP))
        self.descent = Descent(optimizer, rates, list(self.encoder.parameters())).prepare()
        return self

    def advance(self, step: int) -> dict[str, float]:
        """Take one step; return the distortion, and the rate in bits a sample."""
        config, coded = self.config, self.config.schedule == "end-to-end"
        generator = draws.generator("invariant noise", config.seed, step)
        first, second = self._views(step)  # (B, ...) each
        code, rate_nats = self._through(first, generator, coded)  # (B, d), (B,)
        if config.objective == "bince":
            second, _ = self._through(second, generator, coded)  # (B, d)
        distortion = self._distortion(code, second)
        weight = config.beta * ramp(step + 1, config.anneal * config.steps)
        self.descent.step(step, distortion + weight * rate_nats.mean())
        self.at = step + 1
        return {
            "distortion": distortion.item(),
            "rate_bits": rate_nats.mean().item() / math.log(2),
        }

    def finish(self) -> Trained:
        """Fit a staggered bottleneck, and train the head alone on codes as they are received.

        These are rounded, which additive noise only stands for.
        """
        with self.clock:
            self.encoder.eval().requires_grad_(False)
            if self.config.schedule == "staggered":
                self.bottleneck = self._staggered().to(self.device)
            self.bottleneck.eval().requires_grad_(False)
            if self.steps < self.config.steps:
                self._polish()
            self.head.eval().requires_grad_(False)
        seconds = self.clock.seconds().tolist()
        return Trained(self.encoder, self.bottleneck, self.head, self.config, *seconds)

    def _staggered(self) -> Any:
        """A bottleneck for the frozen latents of a hundred thousand samples.

        Their spread is the unit of the error that beta is paid in.
        """
        config = self.config
        views = (self._views(step)[0] for step in range(-(-_SAMPLES_TO_FIT // config.batch)))
        latents = torch.cat([self.encoder(view).float().cpu() for view in views])  # (n, d)
        beta = config.beta * float(latents.var(0).mean())
        return FITS[config.bottleneck](latents, beta, seed=config.seed)

    def _polish(self) -> None:
        frozen = copy.deepcopy(self.bottleneck).cpu().freeze()

        def through(view: Tensor, generator: torch.Generator) -> Tensor:
            latent = self.encoder(view)  # (B, d)
            noise = torch.rand((len(latent), frozen.dither_columns), generator=generator) - 0.5
            return received(frozen, latent, noise)

        first, steps = self.steps, self.config.steps
        optimizer = torch.optim.Adam(self.head.parameters(), lr=self.config.learning_rate / 8)
        cosine = shares(
            optimizer, lambda step: 1 + math.cos(math.pi * (step - first) / (steps - first))
        )
        descent = Descent(optimizer, cosine)

        def advance(step: int) -> None:
            generator = draws.generator("invariant dither", self.config.seed, step)
            view, other = self._views(step)
            target = through(other, generator) if self.config.objective == "bince" else other
            descent.step(step, self._distortion(through(view, generator), target))

        run(advance, steps, first)

    def _through(
        self, view: Tensor, generator: torch.Generator, coded: bool
    ) -> tuple[Tensor, Tensor]:
        """A view's latents with the noise of their rounding, and their rate in nats.

        Without a bottleneck, as they are, at no rate.
        """
        with autocast(self.device, self.bfloat16):
            latent = self.encoder(view).float()  # (B, d)
        if not coded:
            return latent, torch.zeros(len(latent), device=self.device)
        shape = (len(latent), self.bottleneck.noise_columns)
        noise = torch.rand(shape, generator=generator) - 0.5  # (B, noise_columns)
        with autocast(self.device, False):
            return self.bottleneck(latent, noise.to(self.device))

    def _distortion(self, received: Tensor, target: Tensor) -> Tensor:
        # Logits of a contrast reach 100, where bfloat16 is no finer than a half.
        with autocast(self.device, self.bfloat16 and self.config.objective != "bince"):
            return self.head(received, target).float().mean()

    def _views(self, step: int) -> tuple[Tensor, Tensor]:
        """What is encoded at a step, and what it is compared with.

        That is the same, its representative, or a second member of its orbit.
        """
        data, config = self.data, self.config
        generator = draws.generator("invariant", config.seed, step)
        if isinstance(data, Population):
            x = data.sample(config.batch, "train", config.seed, step)
        else:
            x = _indices(len(data), config, step).to(data.points.device)
        first = data.sample_orbit(x, generator)
        if config.objective == "vc":
            return first, first
        if config.objective == "bince":
            return first, data.sample_orbit(x, generator)
        representative = (
            data.representative if isinstance(data, Population) else data.representatives
        )
        return first, representative(x)

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on."""
        state = {
            f"{role}.{name}": tensor
            for role, module in self._modules()
            for name, tensor in module.state_dict().items()
        }
        state |= self.descent.state("optimizer")
        return state | {"at": torch.tensor(self.at), "seconds": self.clock.seconds()}

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        write_checkpoint(path, self.state(), self._identity())

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go on from what `save` wrote, if there is something."""
        found = read_checkpoint(path, self._identity())
        if found is None:
            return
        state = found[0]
        try:
            check_tensors(state, self.state())
            self.at = check_counter("at", state["at"], 1, self.steps)
            self.descent.check("optimizer", state, self.at)
        except QuadrateError as error:
            raise damaged(path, error) from None
        for role, module in self._modules():
            module.load_state_dict({n: state[f"{role}.{n}"] for n in module.state_dict()})
        self.descent.load("optimizer", [state])
        self.clock.load([state["seconds"]])

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
                    + tensor_bytes(value)
                )
        return sha.hexdigest()

    def _modules(self) -> list[tuple[str, nn.Module]]:
        return [("encoder", self.encoder), ("head", self.head), ("bottleneck", self.bottleneck)]


def _build(
    config: InvariantConfig, encoded: torch.Size, decoded: torch.Size
) -> tuple[Any, nn.Module, Reconstruction | Contrast]:
    """Bottleneck, encoder and head, for samples of a shape and targets of another."""
    bottleneck = build_bottleneck(config.bottleneck, (config.dims,))
    encoder = networks.encoder(config.network, encoded, bottleneck.latent_shape[0])
    if config.objective == "bince":
        return bottleneck, encoder, Contrast(config.dims)
    decoder = networks.decoder(config.network, decoded, config.dims)
    return bottleneck, encoder, Reconstruction(decoder, config.likelihood)


def _indices(count: int, config: InvariantConfig, step: int) -> Tensor:
    """Which samples a step takes: each once in an epoch, but for the rest that fills no batch."""
    batches = max(1, count // config.batch)
    epoch, place = divmod(step, batches)
    return _order(count, config.seed, epoch)[place * config.batch : (place + 1) * config.batch]


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return draws.permutation("invariant order", seed, epoch, n=count)
