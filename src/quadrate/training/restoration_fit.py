"""Trains decoders of photographs: networks that restore what was decoded, each for a purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from quadrate.core import draws
from quadrate.core.progress import Report
from quadrate.errors import QuadrateError
from quadrate.networks.backbones import Backbone, load_backbone, load_lpips
from quadrate.networks.block_transform import BLOCK
from quadrate.networks.feature_critic import FeatureCritic
from quadrate.networks.restoration import CELL, Restoration
from quadrate.photo_config import RestorationConfig
from quadrate.training.checkpoints import (
    check_counter,
    check_tensors,
    damaged,
    read_checkpoint,
    write_checkpoint,
)
from quadrate.training.loop import Descent, check_finite, one_cycle, run, shares

_WARMUP = 0.05  # of the steps: learning rates rise
_BETAS = (0.5, 0.99)  # of Adam, where there is a critic
_ALONE = 0.05  # of the steps: the critic learns before it is listened to
# Added to errors and to what they are shares of, so that perfect crops do not count beyond measure.
_LEAST = 1e-2
_REPORTED = 50  # steps


class Pool:
    """Crops of photographs and what a codec decodes of them.

    Args:
        decoded: Float (n, 3, H, W), 0 to 255, in whole blocks.
        originals: uint8, of the same shape.
        steps: (n,), with which each was coded.
    """

    def __init__(self, decoded: Tensor, originals: Tensor, steps: Tensor) -> None:
        self.decoded, self.originals, self.steps = decoded, originals, steps

    def draw(
        self, batch: int, crop: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw smaller crops.

        Returns:
            Decoded and original pixels (batch, 3, crop, crop), and steps (batch,).
        """
        blocks = self.decoded.shape[2] // BLOCK, self.decoded.shape[3] // BLOCK
        rows = torch.randint(len(self.decoded), (batch,), generator=generator)
        corners = [
            torch.randint(size - crop // BLOCK + 1, (batch,), generator=generator) * BLOCK
            for size in blocks
        ]
        parts = [
            (row, slice(None), slice(top, top + crop), slice(left, left + crop))
            for row, top, left in zip(rows.tolist(), *(c.tolist() for c in corners), strict=True)
        ]
        given, wanted = (
            torch.stack([pixels[part] for part in parts]).float()
            for pixels in (self.decoded, self.originals)
        )
        return given, wanted, self.steps[rows].float()


@dataclass(frozen=True)
class Measure:
    """A distance of pictures by what something sees in them.

    Attributes:
        see: Pictures (n, 3, H, W), 0 to 255, to what is seen in them.
        between: What is seen in pictures and in their originals, to distances (n,).
    """

    see: Callable[[Tensor], Any]
    between: Callable[[Any, Any], Tensor]


class RestorationFit:
    """The training of one decoder.

    Args:
        config: The settings.
        pool: What it learns from.
        seed: Of weights, crops and noise.
        report: Is told of the progress.
        device: Where it runs.

    Attributes:
        network: What is trained.

    Raises:
        QuadrateError: If weights of a network that guides it cannot be had.
    """

    def __init__(
        self,
        config: RestorationConfig,
        pool: Pool,
        seed: int,
        report: Report,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.pool, self.seed, self.report = config, pool, seed, report
        self.device = torch.device(device)
        self._measures: dict[str, Measure] = {}
        if config.distortion:
            self._measures["distortion"] = Measure(lambda pixels: pixels, _squared_error)
        if config.lpips or config.realism:
            looks = load_lpips("alex").to(self.device)
            self._measures["lpips"] = Measure(looks.activations, looks.between)
        if config.features:
            backbone = load_backbone(config.backbone).to(self.device)
            self._measures["features"] = Measure(partial(_features, backbone), _feature_error)
        self.network = draws.build_with_seed(
            lambda: Restoration(config.width, config.depth, config.noise),
            draws.key(seed, "restoration", *self._named),
        ).to(self.device)
        self._descent = self._adam(self.network)
        self.critic: FeatureCritic | None = None
        if config.realism:
            channels = [weight.shape[1] for weight in looks.weights]
            self.critic = draws.build_with_seed(
                lambda: FeatureCritic(channels), draws.key(seed, "critic", config.name)
            ).to(self.device)
            self._critic_descent = self._adam(self.critic)
        self.step = 0
        self._terms: dict[str, list[float]] = {}  # since the last report

    @property
    def _named(self) -> tuple[str, ...]:
        # The first decoder was there before there were names, and keeps its draws.
        return () if self.config.name == "faithful" else (self.config.name,)

    def _adam(self, network: torch.nn.Module) -> Descent:
        betas = _BETAS if self.config.realism else (0.9, 0.999)
        optimizer = torch.optim.Adam(
            network.parameters(), lr=self.config.learning_rate, betas=betas
        )
        rates = shares(optimizer, lambda step: one_cycle(step / self.config.steps, _WARMUP))
        return Descent(optimizer, rates, list(network.parameters())).prepare()

    def run(self, checkpoint: Path | None = None, training: str = "") -> Restoration:
        """Train to the end, and return the frozen network.

        Args:
            checkpoint: A file to go on from, if it is there, and to write to on the way.
            training: What tells this training from others, for the checkpoint.

        Raises:
            Diverged: If a loss is not finite.
            QuadrateError: If the checkpoint is damaged, or of another training.
        """
        if checkpoint is not None and (found := read_checkpoint(checkpoint, training)):
            try:
                self.load(found[0])
            except QuadrateError as error:
                raise damaged(checkpoint, error) from None

        def save() -> None:
            if checkpoint is not None:
                write_checkpoint(checkpoint, self.state(), training)

        run(self._advance, self.config.steps, self.step, save)
        return self.network.eval().requires_grad_(False).cpu()

    def _advance(self, step: int) -> None:
        config = self.config
        generator = draws.generator(self.seed, "restored crops", *self._named, step)
        parts = self.pool.draw(config.batch, config.crop, generator)
        given, wanted, unit = (part.to(self.device) for part in parts)
        noise = None
        if config.noise:
            shape = (config.batch, config.noise, config.crop // CELL, config.crop // CELL)
            noise = torch.randn(shape, generator=generator).to(self.device)
        restored = self.network(given, unit, noise)
        seen = {name: measure.see(restored) for name, measure in self._measures.items()}
        with torch.no_grad():
            real = {name: measure.see(wanted) for name, measure in self._measures.items()}
        terms = {}
        for name, measure in self._measures.items():
            if not getattr(config, name):  # LPIPS without a weight, which is seen for the critic
                continue
            after = measure.between(seen[name], real[name])
            with torch.no_grad():
                before = measure.between(measure.see(given), real[name])
            terms[name] = ((after + _LEAST) / (before + _LEAST)).mean()
        loss = sum(
            (getattr(config, name) * term for name, term in terms.items()),
            torch.zeros((), device=self.device),
        )
        if self.critic is not None and step >= _ALONE * config.steps:
            terms["realism"] = -_mean(self.critic(seen["lpips"]))
            loss = loss + config.realism * terms["realism"]
        self._descent.step(step, loss)
        if self.critic is not None:
            fake = [own.detach() for own in seen["lpips"]]
            terms["critic"] = self._teach(step, real["lpips"], fake)
        self.step = step + 1
        self._tell({name: float(term.detach()) for name, term in terms.items()})

    def _teach(self, step: int, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Take a step of the critic; return its hinge loss, 2 if it sees no difference."""
        assert self.critic is not None
        loss = _mean([relu(1 - scores) for scores in self.critic(real)]) + _mean(
            [relu(1 + scores) for scores in self.critic(fake)]
        )
        self._critic_descent.step(step, loss)
        return loss

    def _tell(self, terms: Mapping[str, float]) -> None:
        """Keep the terms of a step; report their means now and then."""
        for name, value in terms.items():
            self._terms.setdefault(name, []).append(value)
        if self.step % _REPORTED == 0 or self.step == self.config.steps:
            means = {name: sum(values) / len(values) for name, values in self._terms.items()}
            check_finite(self.config.name, f"step {self.step}", means)
            message = {"stage": "restoration", "point": self.config.name, "step": self.step}
            self.report(message | {"steps": self.config.steps} | means)
            self._terms = {}

    # --- checkpoints ---

    def state(self) -> dict[str, Tensor]:
        """Copy all that the training needs to go on to the CPU."""
        flat = {"step": torch.tensor(self.step)}
        for role, network, descent in self._trained():
            for name, p in network.named_parameters():
                flat[f"{role}.{name}"] = p.detach().cpu().contiguous().clone()
            flat |= descent.state(f"{role} optimizer")
        return flat

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state.

        Raises:
            QuadrateError: If it is not one of this training.
        """
        check_tensors(state, self.state())
        step = check_counter("step", state["step"], 1, self.config.steps)
        for role, network, descent in self._trained():
            descent.check(f"{role} optimizer", state, step)
            for name, p in network.named_parameters():
                p.copy_(state[f"{role}.{name}"])
            descent.load(f"{role} optimizer", [state])
        self.step = step

    def _trained(self) -> list[tuple[str, torch.nn.Module, Descent]]:
        own: list[tuple[str, Any, Descent]] = [("network", self.network, self._descent)]
        if self.critic is not None:
            own.append(("critic", self.critic, self._critic_descent))
        return own


def _mean(scores: Sequence[Tensor]) -> Tensor:
    """The mean over stages of their mean scores."""
    return torch.stack([own.mean() for own in scores]).mean()


def _squared_error(pixels: Tensor, other: Tensor) -> Tensor:
    return (pixels - other).square().mean((1, 2, 3))


def _features(backbone: Backbone, pixels: Tensor) -> Tensor:
    """A backbone's features of pictures in their own size, with gradients."""
    x = backbone.preprocessing.normalized(pixels).contiguous(memory_format=torch.channels_last)
    features: Tensor = backbone.network.features(x)  # type: ignore[operator]
    return features


def _feature_error(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared differences, as a share of the mean square of what is wanted, (n,)."""
    return (features - wanted).square().mean(1) / (wanted.square().mean(1) + 1e-6)
