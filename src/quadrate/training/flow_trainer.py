"""Training of flow decoders on frozen codes: posterior-mean rectified flow, a point at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.networks.decoders import DECODERS
from quadrate.networks.filled import filled
from quadrate.networks.flow import FlowDecoder
from quadrate.sources.source import pixels
from quadrate.training.checkpoints import check_counter, check_tensors
from quadrate.training.layers import TrainingLayer
from quadrate.training.loop import (
    Clock,
    Descent,
    autocast,
    check_finite,
    one_cycle,
    shares,
    uses_bfloat16,
)
from quadrate.training.task import PointTrainer

_DECAY = 0.999  # of the weights' moving average, which is what the decoder keeps
_VALIDATED = 1000  # validation images, at most: each takes all steps of the flow


class FlowTrainer(PointTrainer):
    """Trains the velocity network of one flow decoder; the faithful decoder before it is frozen.

    The loss is the mean of ‖v(x_t, t) - (x - x0)‖² over times t uniform on [0, 1], where x0 is the
    faithful picture plus noise, x the real one and x_t the point between them (Ohayon, Michaeli and
    Elad, ICLR 2025). Draws are functions of (seed, point, stream, epoch or step), as in `Trainer`.

    Args:
        task: What the points of a stage have in common.
        points: One operating point.
        frozen: What its base gives: latents, and the faithful decoder.
    """

    def prepare(self) -> FlowTrainer:
        """Build the network and its optimizer; return the trainer.

        Raises:
            QuadrateError: If there is more than one point, or no base with a faithful decoder.
        """
        if len(self.points) != 1 or len(self.frozen) != 1:
            raise QuadrateError(
                "flow decoders are trained one by one, each on the decoder of its stage's base"
            )
        ((point,), (frozen,)) = self.points, self.frozen
        source, family = self.task.source, self.task.family
        self.layers = [TrainingLayer.frozen([layer]) for layer in frozen.layers]
        dims = sum(layer.dims for layer in self.layers)
        build = partial(
            DECODERS.find(point.decoder).build, family, source.shape, dims, source.classes
        )
        self._key = (point.seed, point.key)
        decoder = draws.build_with_seed(build, draws.key(*self._key, "decoder") >> 1)
        assert isinstance(decoder, FlowDecoder)
        mean = filled(partial(family.decoder, source.shape, dims), frozen.decoder or {})
        decoder.mean.load_state_dict(mean.state_dict())
        decoder.mean.eval().requires_grad_(False)
        self.decoder = decoder.to(self.device)
        self._weights = dict(decoder.velocity.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self._weights.items()}
        optimizer = torch.optim.Adam(
            list(self._weights.values()),
            lr=self.config.learning_rate,
            betas=self.config.betas,
            fused=True,
        )
        rates = shares(
            optimizer,
            lambda step: one_cycle((step + 0.5) / self.total_steps, self.config.warmup),
        )
        self._descent = Descent(optimizer, rates).prepare()
        self._bfloat16 = uses_bfloat16(self.config.precision, self.device)
        self.clock = Clock()
        return self

    def train_epoch(self) -> list[dict[str, float]]:
        """Pass over the training images once.

        Returns:
            One dictionary: the mean loss, and the validation scores after it.

        Raises:
            Diverged: If a loss, a score or a weight is not finite.
        """
        with self.clock:
            total = torch.zeros((), device=self.device)
            for loss in self.steps():
                total = total + loss
            row = {"velocity_loss": float(total) / self.steps_per_epoch}
            self.epoch += 1
            row |= self.validate()
        finite = all(bool(p.isfinite().all()) for p in self._weights.values())
        check_finite(self.points[0].key, f"epoch {self.epoch}", row, finite)
        return [row]

    def steps(self) -> Any:
        """Take the steps of the current epoch; yield the loss of each, detached."""
        split, latents = self.task.source.train, self.frozen[0].train
        order = self.order(*self._key, "order", self.epoch)  # (S, B)
        shape = (*order.shape, self.noise_columns)
        dither = draws.uniform(*self._key, "dither", self.epoch, shape=shape) - 0.5
        for i in range(self.steps_per_epoch):
            step = self.epoch * self.steps_per_epoch + i
            own = order[i].to(self.device)  # (B,)
            clean = pixels(split.images[own])  # (B, C, H, W)
            loss = self._loss(clean, latents[own], dither[i].to(self.device), "flow", step)
            self._descent.step(step, loss)
            share = min(_DECAY, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, p in self._weights.items():
                    self.average[name].lerp_(p, 1 - share)
            yield loss.detach()

    def _loss(
        self, clean: Tensor, latents: Tensor, dither: Tensor, stream: str, number: int
    ) -> Tensor:
        """The loss of a batch of images (B, C, H, W) with their latents (B, …)."""
        generator = draws.generator(*self._key, stream, number, device=self.device)
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        uniform = torch.rand(len(clean), generator=generator, device=self.device)
        # One time in each of B equal parts of [0, 1], so that the loss varies less.
        places = torch.arange(len(clean), device=self.device)
        time = (places + uniform) / len(clean)  # (B,)
        with torch.no_grad():
            start = self.decoder.start(self._received(latents, dither), noise).float()
        share = time[:, None, None, None]
        between = (1 - share) * start + share * clean  # (B, C, H, W)
        with autocast(self.device, self._bfloat16):
            velocity = self.decoder.velocity(between, time).float()
        return (velocity - (clean - start)).square().mean()

    def _received(self, latents: Tensor, dither: Tensor) -> Tensor:
        """What decoders read of latents (B, …), with dither (B, columns) on [-1/2, 1/2)."""
        parts = self.through(latents[None], dither[None])
        return torch.cat([part[0] for part, _ in parts], 1)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Score validation images by the averaged weights: the loss, and the MSE of pictures."""
        images = self.task.source.validation.images[:_VALIDATED]
        clean, latents = pixels(images), self.frozen[0].validation[:_VALIDATED]
        shape = (len(clean), self.noise_columns)
        dither = draws.uniform(*self._key, "validation dither", shape=shape).to(self.device) - 0.5
        generator = draws.generator(*self._key, "validation", device=self.device)
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        trained = {name: p.detach().clone() for name, p in self._weights.items()}
        self._take(self.average)
        loss = self._loss(clean, latents, dither, "validation flow", 0)
        with autocast(self.device, self._bfloat16):
            pictures = self.decoder(self._received(latents, dither), noise).float()
        self._take(trained)
        mse = (pictures - clean).square().mean()
        return {"validation_velocity_loss": float(loss), "validation_mse": float(mse)}

    @torch.no_grad()
    def _take(self, weights: dict[str, Tensor]) -> None:
        for name, p in self._weights.items():
            p.copy_(weights[name])

    def networks(self, index: int) -> dict[str, dict[str, Tensor]]:
        """Copy the decoder's state dict, with the averaged weights, to the CPU."""
        state = self.decoder.state_dict()
        state |= {f"velocity.{name}": tensor for name, tensor in self.average.items()}
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        return {"decoder": own}

    def state(self, index: int) -> dict[str, Tensor]:
        """Copy all that the point needs to go on later to the CPU."""
        flat: dict[str, Tensor] = {}
        for role, weights in (("velocity", self._weights), ("average", self.average)):
            for name, tensor in weights.items():
                flat[f"{role}.{name}"] = tensor.detach().cpu().contiguous().clone()
        flat |= self._descent.state("optimizer")
        flat["epoch"] = torch.tensor(self.epoch)
        flat["seconds"] = self.clock.seconds()
        return flat

    def check(self, state: dict[str, Tensor]) -> None:
        """Raise a QuadrateError unless a state is one that `state` may give between epochs."""
        check_tensors(state, self.state(0))
        epochs = check_counter("epoch", state["epoch"], 1, self.config.epochs - 1)
        self._descent.check("optimizer", state, epochs * self.steps_per_epoch)

    @torch.no_grad()
    def load(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Go on from the state of the point."""
        (state,) = states
        self._take({name: state[f"velocity.{name}"] for name in self._weights})
        for name, tensor in self.average.items():
            tensor.copy_(state[f"average.{name}"])
        self._descent.load("optimizer", states)
        self.epoch = int(state["epoch"])
        self.clock.load([state["seconds"]])
