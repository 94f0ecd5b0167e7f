"""Training of trade-off codecs: K operating points of one latent shape, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.bottlenecks.by_name import build_bottleneck
from quadrate.bottlenecks.frozen import FrozenBottleneck
from quadrate.config import WEIGHTS
from quadrate.core import draws
from quadrate.core.shifts import moved, random_shifts
from quadrate.errors import QuadrateError
from quadrate.networks.decoders import DECODERS
from quadrate.objectives import (
    Batch,
    CrossEntropy,
    Reading,
    Term,
    Wasserstein,
    critic_losses,
    estimate_cross_entropy,
    rate_nats,
    squared_error,
)
from quadrate.sources.source import pixels
from quadrate.training.checkpoints import check_counter, check_tensors
from quadrate.training.layers import TrainingLayer, member
from quadrate.training.loop import (
    Clock,
    Descent,
    autocast,
    check_finite,
    one_cycle,
    ramp,
    shares,
    uses_bfloat16,
)
from quadrate.training.stack import Stack
from quadrate.training.task import PointTrainer


class Trainer(PointTrainer):
    """Trains K points side by side; K is 1 where points are run one by one.

    Every number it draws is a function of (seed, point, stream, epoch or step), so the result
    depends neither on the other points nor on interruptions.

    Args:
        task: What the points have in common.
        points: K operating points; how their latents are coded, and whether lambda_p > 0, must be
            the same for all.
        frozen: For each point, what its frozen encoder gives; empty for end-to-end training.

    Attributes:
        layers: What the latents of each layer pass through; the trained encoder's come last.
    """

    decoder: Stack
    critic: Stack | None

    def prepare(self) -> Trainer:
        """Build networks, bottleneck and optimizers; return the trainer.

        Raises:
            QuadrateError: If the points do not fit together, or a classifier is missing.
        """
        task, point, config = self.task, self.points[0], self.config
        if len({(*p.code, p.decoder, p.lambda_p > 0) for p in self.points}) != 1:
            raise QuadrateError(
                "points that are stacked must have the same levels or learned bottleneck, the same"
                " kind of decoder, and all or none of them lambda_p > 0"
            )
        if task.classifier:
            task.classifier.eval().requires_grad_(False)
        self.clock = Clock(len(self.points))
        self._bfloat16 = uses_bfloat16(config.precision, self.device)
        self._frozen = [
            torch.stack([getattr(one, split) for one in self.frozen]).to(self.device)
            for split in (("train", "validation") if self.frozen else ())
        ]  # (K, N, ...)
        soft = config.surrogate == "soft"
        layers = zip(*(one.layers for one in self.frozen), strict=True)
        self.layers = [TrainingLayer.frozen(models, soft) for models in layers]
        self.encoder = bottleneck = None
        shape = task.source.shape
        if task.train_encoder:
            encoder = partial(task.family.encoder, shape, point.latent_dims)
            self.encoder = self._build("encoder", encoder)
            latent_shape = self._latent_shape(self.encoder)
            build = partial(build_bottleneck, point.bottleneck, latent_shape, point.levels)
            self._own = build().to(self.device)
            if self._own.latent_shape != latent_shape:
                raise QuadrateError(
                    f"bottleneck {point.bottleneck!r} takes latents of shape"
                    f" {self._own.latent_shape}; the encoder gives {latent_shape}"
                )
            if self._own.has_learned_rate:
                bottleneck = self._build("bottleneck", build)
                self.layers.append(TrainingLayer.learned(self._own, bottleneck))
            else:
                self.layers.append(TrainingLayer.shared(self._own, soft))
        dims = sum(layer.dims for layer in self.layers)
        build_decoder = DECODERS.find(point.decoder).build
        self.decoder = self._build(
            "decoder", lambda: build_decoder(task.family, shape, dims, task.source.classes)
        )
        self.critic = None
        if point.lambda_p > 0:
            self.critic = self._build("critic", lambda: task.family.critic(shape))
            if critics := [one.critic for one in self.frozen if one.critic]:
                states = {n: torch.stack([c[n] for c in critics]) for n in critics[0]}
                self.critic.load(states)
        roles = {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "bottleneck": bottleneck,
            "critic": self.critic,
        }
        self._stacks = {role: stack for role, stack in roles.items() if stack}
        self._descents = self._optimizers()
        self._takes_labels = self.decoder.has("takes_labels")
        self.terms = self._objective()
        return self

    @torch.no_grad()
    def _latent_shape(self, encoder: Stack) -> tuple[int, ...]:
        """Of one sample's latents, (d,) or (c, h, w)."""
        samples = pixels(self.task.source.train.images[:1])  # (1, C, H, W)
        latents: Tensor = encoder.train(False)(samples.expand(encoder.count, 1, -1, -1, -1))
        return tuple(latents.shape[2:])

    def _build(self, stream: str, factory: Callable[[], nn.Module]) -> Stack:
        """One network a point, each initialized from the point's own key."""
        keys = [draws.key(point.seed, point.key, stream) >> 1 for point in self.points]
        modules = [draws.build_with_seed(factory, key).to(self.device) for key in keys]
        return Stack.of(modules)

    def _optimizers(self) -> dict[str, Descent]:
        config = self.config
        codec = [self.encoder, self.decoder] if self.encoder else [self.decoder]
        groups = [(codec, config.learning_rate)]
        if "bottleneck" in self._stacks:
            groups.append(([self._stacks["bottleneck"]], config.bottleneck_learning_rate))

        def progress(step: int) -> float:
            return (step + 0.5) / self.total_steps

        descents = {
            "codec_optimizer": _descent(
                groups, config.betas, lambda step: one_cycle(progress(step), config.warmup)
            )
        }
        if self.critic:
            descents["critic_optimizer"] = _descent(
                [([self.critic], config.critic_learning_rate)],
                config.critic_betas,
                lambda step: min(1.0, 2 * (1 - progress(step))),
            )
        return descents

    def _objective(self) -> list[Term]:
        """The terms of L = λr·R + λd·D + λp·P + λc·C that any point uses, and your own."""
        losses: dict[str, Callable[[Batch], Tensor]] = {"lambda_d": squared_error}
        if "bottleneck" in self._stacks:
            losses["lambda_r"] = rate_nats
        if self.critic:
            losses["lambda_p"] = Wasserstein(self.critic)
        if self._takes_labels:
            losses["lambda_c"] = estimate_cross_entropy
        elif any(point.lambda_c > 0 for point in self.points):
            if self.task.classifier is None:
                raise QuadrateError(
                    "an operating point with lambda_c > 0 needs a classifier; give the recipe a"
                    " judge"
                )
            losses["lambda_c"] = CrossEntropy(self.task.classifier)
        terms = [
            Term(
                weight.column,
                tuple(getattr(point, weight.name) for point in self.points),
                losses[weight.name],
                weight.ramp,
            )
            for weight in WEIGHTS
            if weight.name in losses
        ]
        if self._takes_labels and self.task.readers:
            weights = tuple(point.lambda_c for point in self.points)
            keys = [(point.seed, point.key) for point in self.points]
            terms.append(Term("reading_nats", weights, Reading(self.task.readers, keys), ramp=True))
        return [*terms, *self.task.terms]

    # One epoch ------------------------------------------------------------------------------------

    def train_epoch(self) -> list[dict[str, float]]:
        """Pass over the training images once.

        Returns:
            The mean losses, and the validation scores after it, one dictionary a point.

        Raises:
            Diverged: If a loss or a score is not finite; it names the point and the epoch.
        """
        with self.clock:
            totals: dict[str, Tensor] = {}
            counts: Counter[str] = Counter()  # with alternation not every step has every loss
            for losses in self.steps():
                counts.update(losses.keys())
                for name, value in losses.items():
                    totals[name] = totals[name] + value if name in totals else value
            rows = self._rows({name: total / counts[name] for name, total in totals.items()})
            self.epoch += 1
            rows = [row | scores for row, scores in zip(rows, self.validate(), strict=True)]
        for point, row, finite in zip(self.points, rows, self._finite(), strict=True):
            check_finite(point.key, f"epoch {self.epoch}", row, finite)
        return rows

    def steps(self) -> Iterator[dict[str, Tensor]]:
        """Take the steps of the current epoch; yield the losses of each, detached, (K,)."""
        for stack in self._stacks.values():
            stack.train()
        images, labels = self.task.source.train.images, self.task.source.train.labels
        order = self._draw(self.order, "order")  # (K, S, B)
        shape = (self.steps_per_epoch, self.batch, self.noise_columns)
        uniform = partial(draws.uniform, shape=shape)
        noise = self._draw(uniform, "dither")  # (K, S, B, columns)
        shift = partial(random_shifts, self.config.shift, self.steps_per_epoch)
        shifts = self._draw(shift, "shift").cpu()  # (K, S, 2)
        for step in range(self.steps_per_epoch):
            indices = order[:, step]  # (K, B)
            clean = moved(pixels(images[indices]), shifts[:, step])  # (K, B, C, H, W)
            number = self.epoch * self.steps_per_epoch + step
            batch = Batch(clean, clean, labels[indices], indices, step=number)
            yield self._step(number, batch, noise[:, step] - 0.5)

    def _draw(self, draw: Callable[..., Tensor], stream: str) -> Tensor:
        """One draw a point for this epoch, stacked."""
        keys = [(point.seed, point.key, stream, self.epoch) for point in self.points]
        return torch.stack([draw(*key) for key in keys]).to(self.device)

    def _step(self, step: int, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        """Take one step of critic and codec on the same batch: reconstructions serve both."""
        critic_turn, codec_turn = self.critic is not None, True
        if self.config.alternate:
            # The published way, in which the critic has its turn even where nothing depends on it.
            codec_turn = step % 2 == 1
            critic_turn = critic_turn and not codec_turn
            if not (critic_turn or codec_turn):
                return {}
        with self._autocast(), torch.set_grad_enabled(codec_turn):
            latents = []
            if self._frozen:
                models = torch.arange(len(self.points), device=self.device)[:, None]
                latents.append(self._frozen[0][models, batch.indices])  # (K, B, ...)
            if self.encoder:
                seen = self._observe(batch.clean, "noise", step)  # (K, B, C, H, W)
                latents.append(self.encoder(seen).float())  # (K, B, ...)
            parts, rates = zip(*self.through(torch.cat(latents, 2), noise), strict=True)
            reconstruction, logits = self._decoded(torch.cat(parts, 2), batch.labels)
        batch = replace(batch, reconstruction=reconstruction, rate_nats=rates[-1], logits=logits)
        losses: dict[str, Tensor] = {}
        if critic_turn:
            clean = batch.clean
            losses["critic_gap"] = self._critic_step(step, clean, reconstruction.detach())
        if codec_turn:
            losses |= self._codec_step(step, batch)
        return losses

    def _decoded(self, received: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reconstructions (K, B, C, H, W), and logits (K, B, classes) where decoders give them."""
        if not self._takes_labels:
            return self.decoder(received).float(), None
        truth = F.one_hot(labels, self.task.source.classes).float()  # (K, B, classes)
        reconstruction, logits = self.decoder(received, truth)
        return reconstruction.float(), logits

    def _observe(self, clean: Tensor, stream: str, counter: int) -> Tensor:
        """What the encoders see of the targets, (K, B, C, H, W)."""
        source = self.task.source
        if not source.noise_std:
            return clean
        keys = [
            draws.generator(point.seed, point.key, stream, counter, device=self.device)
            for point in self.points
        ]
        return torch.stack([source.observe(x, key) for x, key in zip(clean, keys, strict=True)])

    def _critic_step(self, step: int, clean: Tensor, reconstruction: Tensor) -> Tensor:
        assert self.critic is not None
        self.critic.requires_grad_(True)
        gap = torch.zeros(len(self.points), device=self.device)
        for turn in range(self.config.critic_steps):
            keys = [(point.seed, point.key, "mix", step, turn) for point in self.points]
            mix = torch.stack([draws.uniform(*key, shape=(self.batch,)) for key in keys])  # (K, B)
            penalty = self.config.gradient_penalty
            with self._autocast():
                losses, gap = critic_losses(
                    self.critic, clean, reconstruction, mix.to(self.device), penalty
                )  # (K,), (K,)
            self._descents["critic_optimizer"].step(step, losses.sum())
        self.critic.requires_grad_(False)
        return gap.detach()

    def _codec_step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        share = ramp(step, self.config.anneal * self.total_steps)
        losses, total = {}, torch.zeros(len(self.points), device=self.device)
        with self._autocast():
            for term in self.terms:
                losses[term.name] = self._checked(term, term.loss(batch))  # (K,)
                weight = torch.as_tensor(term.weight, device=self.device, dtype=torch.float32)
                total = total + weight * (share if term.ramp else 1.0) * losses[term.name]
        self._descents["codec_optimizer"].step(step, total.sum())
        return {name: value.detach() for name, value in losses.items()}

    def _checked(self, term: Term, loss: Tensor) -> Tensor:
        """The loss of a term, if it is one number a model and its weights are as many."""
        models = len(self.points)
        if loss.shape != (models,):
            raise QuadrateError(
                f"the loss {term.name!r} must give one number a model, shape ({models},); got"
                f" {tuple(loss.shape)}"
            )
        if isinstance(term.weight, tuple) and len(term.weight) != models:
            raise QuadrateError(
                f"the loss {term.name!r} has {len(term.weight)} weights for {models} models; one"
                " weight for all would be right"
            )
        return loss

    def _autocast(self) -> Any:
        return autocast(self.device, self._bfloat16)

    # Between epochs -------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Score the validation images, networks in evaluation mode.

        Returns:
            For each point the MSE, the rate if it is learned, and if there is a classifier in the
            loss its cross-entropy and accuracy.
        """
        for stack in self._stacks.values():
            stack.train(False)
        split, models = self.task.source.validation, len(self.points)
        clean = pixels(split.images).expand(models, -1, -1, -1, -1)  # (K, N, C, H, W)
        labels = split.labels.expand(models, -1)  # (K, N)
        latents = self._frozen[1:]
        keys = [(point.seed, point.key, "validation dither") for point in self.points]
        shape = (len(split), self.noise_columns)
        uniform = torch.stack([draws.uniform(*key, shape=shape) for key in keys])
        noise = uniform.to(self.device) - 0.5  # (K, N, columns)
        with self._autocast():
            if self.encoder:
                seen = self._observe(clean, "validation noise", 0)
                latents = [*latents, self.encoder(seen).float()]
            latent = torch.cat(latents, 2)  # (K, N, ...)
            received = [part for part, _ in self.through(latent, noise, hard=True)]
            reconstruction = self.decoder(torch.cat(received, 2)).float()  # (K, N, C, H, W)
            indices = torch.arange(len(split), device=self.device).expand(models, -1)
            batch = Batch(clean, reconstruction, labels, indices)
            columns = {"validation_mse": squared_error(batch)}
            if "bottleneck" in self._stacks:
                batch = replace(batch, rate_nats=self.through(latent, noise)[-1][1])
                columns["validation_rate_nats"] = rate_nats(batch)
        if self.task.classifier:
            logits = self.task.classifier(reconstruction.flatten(0, 1)).float()
            logits = logits.view(models, len(split), -1)  # (K, N, classes)
            nats = F.cross_entropy(logits.mT, labels, reduction="none").mean(1)
            columns["validation_cross_entropy_nats"] = nats
            columns["validation_accuracy"] = (logits.argmax(-1) == labels).float().mean(1)
        return self._rows(columns)

    def _finite(self) -> list[bool]:
        """Whether the weights of each point are finite.

        What the last update did shows in no loss, and symbols hide what has become of an encoder.
        """
        finite = torch.ones(len(self.points), dtype=torch.bool, device=self.device)
        for stack in self._stacks.values():
            for tensor in stack.state().values():
                finite &= tensor.reshape(len(self.points), -1).isfinite().all(1)
        return finite.tolist()

    def _rows(self, columns: dict[str, Tensor]) -> list[dict[str, float]]:
        """Columns (K,) as one dictionary a point."""
        values = {name: column.tolist() for name, column in columns.items()}
        return [{name: values[name][k] for name in values} for k in range(len(self.points))]

    def networks(self, index: int) -> dict[str, dict[str, Tensor]]:
        """Copy the state dicts of one point's networks to the CPU, by role."""
        return {
            role: stack.member(index)
            for role, stack in self._stacks.items()
            if role != "bottleneck"
        }

    def freeze(self, index: int, before: Sequence[int]) -> FrozenBottleneck | None:
        """Freeze the learned bottleneck of one point; None if no rate is learned.

        Args:
            index: Of the point.
            before: The levels of each column of the layers before, 0 for one without levels.
        """
        stack = self._stacks.get("bottleneck")
        if stack is None:
            return None
        bottleneck = member(self._own, stack, index)
        frozen: FrozenBottleneck = bottleneck.cpu().freeze(before=before)
        return frozen

    def state(self, index: int) -> dict[str, Tensor]:
        """Copy all that one point needs to go on later to the CPU: networks and optimizers."""
        flat = {
            f"{role}.{name}": tensor
            for role, stack in self._stacks.items()
            for name, tensor in stack.member(index).items()
        }
        for role, descent in self._descents.items():
            flat |= descent.state(role, index, len(self.points))
        flat["epoch"] = torch.tensor(self.epoch)
        flat["seconds"] = self.clock.seconds(index)
        return flat

    def check(self, state: dict[str, Tensor]) -> None:
        """Raise a QuadrateError unless a state is one that `state` may give between epochs."""
        check_tensors(state, self.state(0))
        epochs = check_counter("epoch", state["epoch"], 1, self.config.epochs - 1)
        steps = epochs * self.steps_per_epoch
        codec = steps // 2 if self.config.alternate else steps
        critic = steps - codec if self.config.alternate else steps
        taken = (codec, critic * self.config.critic_steps)
        for (role, descent), done in zip(self._descents.items(), taken, strict=False):
            descent.check(role, state, done)

    @torch.no_grad()
    def load(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Go on from the states of the K points, which must stand at the same epoch."""
        for role, stack in self._stacks.items():
            names = stack.state()
            stack.load({n: torch.stack([s[f"{role}.{n}"] for s in states]) for n in names})
        for role, descent in self._descents.items():
            descent.load(role, states)
        self.epoch = int(states[0]["epoch"])
        self.clock.load([state["seconds"] for state in states])


def _descent(
    groups: Sequence[tuple[Sequence[Stack], float]],
    betas: tuple[float, float],
    share: Callable[[int], float],
) -> Descent:
    """Adam on stacks with a peak learning rate for each group."""
    params = [
        {"params": [p for stack in stacks for p in stack.parameters()], "lr": peak}
        for stacks, peak in groups
    ]
    optimizer = torch.optim.Adam(params, betas=betas, fused=True)
    return Descent(optimizer, shares(optimizer, share)).prepare()
