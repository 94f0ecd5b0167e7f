"""The training loop: K operating points of one latent shape, side by side, step by step."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.networks.family import Family
from quadrate.objectives import Batch, CrossEntropy, Term, Wasserstein, critic_losses, squared_error
from quadrate.sources.source import Source, pixels
from quadrate.training.checkpoints import check_counter, check_tensors
from quadrate.training.stack import Stack


class Diverged(QuadrateError):
    """The training of `point` came to a number that is not finite."""

    def __init__(self, point: OperatingPoint, message: str) -> None:
        super().__init__(message)
        self.point = point

    def __reduce__(self) -> tuple[type[Diverged], tuple[OperatingPoint, str]]:
        """How it travels between processes."""
        return Diverged, (self.point, str(self))


@dataclass(frozen=True)
class Frozen:
    """What a frozen encoder gives a point, computed once.

    Attributes:
        levels: The levels of its latent dimensions.
        train: Its latents of the training images, (N, d).
        validation: Its latents of the validation images.
        critic: The state of a critic to start from, if any.
    """

    levels: tuple[int, ...]
    train: Tensor
    validation: Tensor
    critic: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Task:
    """What the points of a stage have in common.

    Everything but their weights, their seed and what is frozen for them.

    Attributes:
        source: The images; `source.noise_std` is the noise that encoders see.
        family: The networks.
        classifier: The frozen classifier of the cross-entropy term; needed where a point has
            lambda_c > 0.
        config: The settings.
        own_encoder: Whether an encoder is trained (not in the universal mode).
        terms: Terms of the user's own, added to the objective.
    """

    source: Source
    family: Family
    classifier: nn.Module | None
    config: TrainingConfig
    own_encoder: bool = True
    terms: tuple[Term, ...] = ()


class Trainer:
    """Trains K points side by side; K is 1 where points are run one by one.

    Every number it draws is a function of (seed, point, stream, epoch or step), so the result
    depends neither on the other points nor on interruptions.

    Args:
        task: What the points have in common.
        points: K operating points; levels, and whether lambda_p > 0, must be the same for all.
        frozen: For each point, what its frozen encoder gives; empty for end-to-end training.

    Raises:
        QuadrateError: If the points do not fit together, or a classifier is missing.
    """

    def __init__(
        self, task: Task, points: Sequence[OperatingPoint], frozen: Sequence[Frozen] = ()
    ) -> None:
        self.task, self.points, self.config = task, list(points), task.config
        self.device = task.source.train.images.device
        levels = {(point.levels, point.lambda_p > 0) for point in points}
        if len(levels) != 1:
            raise QuadrateError(
                "points that are stacked must have the same levels, and all or none of them"
                " lambda_p > 0"
            )
        own = points[0].levels
        if task.classifier is None and any(point.lambda_c > 0 for point in points):
            raise QuadrateError(
                "an operating point with lambda_c > 0 needs a classifier; give the recipe a judge"
            )
        if task.classifier:
            task.classifier.eval().requires_grad_(False)
        base_levels = frozen[0].levels if frozen else ()
        all_levels = base_levels + own if task.own_encoder else base_levels
        self.quantizer = DitheredQuantizer(all_levels, self.device)
        self._frozen_train = (
            torch.stack([f.train for f in frozen]).to(self.device) if frozen else None
        )  # (K, N, d0)
        self._frozen_validation = (
            torch.stack([f.validation for f in frozen]).to(self.device) if frozen else None
        )

        shape = task.source.shape
        self.encoder = (
            self._build("encoder", lambda: task.family.encoder(shape, len(own)))
            if task.own_encoder
            else None
        )
        self.decoder = self._build("decoder", lambda: task.family.decoder(shape, len(all_levels)))
        self.critic = (
            self._build("critic", lambda: task.family.critic(shape))
            if points[0].lambda_p > 0
            else None
        )
        critics = [f.critic for f in frozen if f.critic]
        if self.critic and critics and len(critics) == len(frozen):
            self.critic.load({name: torch.stack([c[name] for c in critics]) for name in critics[0]})

        stacks = {"encoder": self.encoder, "decoder": self.decoder, "critic": self.critic}
        self._stacks = {role: stack for role, stack in stacks.items() if stack}
        codec = [
            p
            for role, stack in self._stacks.items()
            if role != "critic"
            for p in stack.parameters()
        ]
        self._codec_optimizer = _adam(codec, self.config.learning_rate, self.config.betas)
        self._critic_optimizer = (
            _adam(
                self.critic.parameters(), self.config.critic_learning_rate, self.config.critic_betas
            )
            if self.critic
            else None
        )
        self.terms = self._objective()

        self.batch = min(self.config.batch, len(task.source.train))
        self.steps_per_epoch = len(task.source.train) // self.batch
        self.total_steps = self.steps_per_epoch * self.config.epochs
        self.epoch = 0
        self.seconds = [0.0] * len(
            points
        )  # processor time so far; K stacked points share it evenly
        self.wall_seconds = [0.0] * len(
            points
        )  # the clock's time so far, which each of them waits for
        self._bfloat16 = precision(self.config, self.device) == "bfloat16"

    def _build(self, stream: str, factory: Callable[[], nn.Module]) -> Stack:
        """One network a point, each initialized from the point's own key and not from the global generator."""
        modules = []
        for point in self.points:
            module = draws.build_with_seed(factory, draws.key(point.seed, point.key, stream) >> 1)
            modules.append(module.to(self.device))
        return Stack(modules)

    def _objective(self) -> list[Term]:
        """The terms of L = λd·MSE + λp·W1 + λc·CE that any point uses, and the user's own."""
        terms = [Term("mse", tuple(point.lambda_d for point in self.points), squared_error)]
        if self.critic:
            terms.append(
                Term(
                    "wasserstein",
                    tuple(point.lambda_p for point in self.points),
                    Wasserstein(self.critic),
                    ramp=True,
                )
            )
        if any(point.lambda_c > 0 for point in self.points):
            assert self.task.classifier is not None
            terms.append(
                Term(
                    "cross_entropy_nats",
                    tuple(p.lambda_c for p in self.points),
                    CrossEntropy(self.task.classifier),
                    ramp=True,
                )
            )
        return [*terms, *self.task.terms]

    # One epoch ------------------------------------------------------------------------------------

    def train_epoch(self) -> list[dict[str, float]]:
        """One pass over the training images.

        The mean losses and the validation scores after it, one dictionary a point.

        Raises:
            Diverged: If a loss or a score is not finite; it names the point and the epoch.
        """
        started, clock = time.process_time(), time.monotonic()
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
            if not (finite and all(map(math.isfinite, row.values()))):
                raise Diverged(
                    point,
                    f"training of {point.key} diverged in epoch {self.epoch}: {row}; a smaller"
                    " learning rate would be right",
                )
        spent = (time.process_time() - started) / len(self.points)
        self.seconds = [seconds + spent for seconds in self.seconds]
        self.wall_seconds = [seconds + time.monotonic() - clock for seconds in self.wall_seconds]
        return rows

    def steps(self) -> Iterator[dict[str, Tensor]]:
        """The steps of the current epoch, one by one; yields the losses of each, detached, (K,)."""
        for stack in self._stacks.values():
            stack.train()
        images, labels = self.task.source.train.images, self.task.source.train.labels
        used = self.steps_per_epoch * self.batch
        order = self._draw(
            lambda *k: draws.permutation(*k, n=len(images))[:used].view(-1, self.batch), "order"
        )  # (K, S, B)
        dither = self._draw(
            lambda *k: draws.uniform(
                *k, shape=(self.steps_per_epoch, self.batch, len(self.quantizer.levels))
            ),
            "dither",
        )
        for step in range(self.steps_per_epoch):
            indices = order[:, step]  # (K, B)
            clean = pixels(images[indices])  # (K, B, C, H, W)
            yield self._step(
                self.epoch * self.steps_per_epoch + step,
                clean,
                labels[indices],
                indices,
                dither[:, step] - 0.5,
            )

    def _draw(self, draw: Callable[..., Tensor], stream: str) -> Tensor:
        """One draw a point for this epoch, stacked."""
        return torch.stack(
            [draw(point.seed, point.key, stream, self.epoch) for point in self.points]
        ).to(self.device)

    def _step(
        self, step: int, clean: Tensor, labels: Tensor, indices: Tensor, dither: Tensor
    ) -> dict[str, Tensor]:
        """One step of critic and codec on the same batch: the reconstructions serve both."""
        self._set_learning_rates(step)
        critic_turn = self.critic is not None
        codec_turn = True
        if (
            self.config.alternate
        ):  # the published way, in which the critic has its turn even where nothing depends on it
            codec_turn = step % 2 == 1
            critic_turn = critic_turn and not codec_turn
            if not (critic_turn or codec_turn):
                return {}
        with self._autocast(), torch.set_grad_enabled(codec_turn):
            reconstruction = self._reconstruct(step, clean, indices, dither)
        losses: dict[str, Tensor] = {}
        if critic_turn:
            losses["critic_gap"] = self._critic_step(step, clean, reconstruction.detach())
        if codec_turn:
            batch = Batch(clean, reconstruction, labels, indices)
            losses |= self._codec_step(step, batch)
        return losses

    def _reconstruct(self, step: int, clean: Tensor, indices: Tensor, dither: Tensor) -> Tensor:
        """(K, B, C, H, W) to the same, through the surrogate of the quantizer."""
        parts = []
        if self._frozen_train is not None:
            models = torch.arange(len(self.points), device=self.device)[:, None]
            parts.append(self._frozen_train[models, indices])
        if self.encoder:
            parts.append(self.encoder(self._observe(clean, "noise", step)).float())
        latent = torch.cat(parts, dim=-1)  # (K, B, d)
        if self.config.surrogate == "perturb":
            received, _ = self.quantizer(latent, dither)
        else:
            received = self.quantizer.soft(latent, dither)
        return self.decoder(received).float()

    def _observe(self, clean: Tensor, stream: str, counter: int) -> Tensor:
        """What the encoders see of the targets."""
        source = self.task.source
        if not source.noise_std:
            return clean
        keys = [
            draws.generator(point.seed, point.key, stream, counter, device=self.device)
            for point in self.points
        ]
        return torch.stack([source.observe(x, key) for x, key in zip(clean, keys, strict=True)])

    def _critic_step(self, step: int, clean: Tensor, reconstruction: Tensor) -> Tensor:
        assert self.critic is not None and self._critic_optimizer is not None
        self.critic.requires_grad_(True)
        gap = torch.zeros(len(self.points), device=self.device)
        for turn in range(self.config.critic_steps):
            keys = [(point.seed, point.key, "mix", step, turn) for point in self.points]
            mix = torch.stack([draws.uniform(*key, shape=(self.batch,)) for key in keys]).to(
                self.device
            )
            with self._autocast():
                losses, gap = critic_losses(
                    self.critic, clean, reconstruction, mix, self.config.gradient_penalty
                )
            self._critic_optimizer.zero_grad()
            losses.sum().backward()
            self._critic_optimizer.step()
        self.critic.requires_grad_(False)
        return gap.detach()

    def _codec_step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        ramp = (
            min(1.0, step / (self.config.anneal * self.total_steps)) if self.config.anneal else 1.0
        )
        losses, total = {}, torch.zeros(len(self.points), device=self.device)
        with self._autocast():
            for term in self.terms:
                losses[term.name] = self._checked(term, term.loss(batch))
                weight = torch.as_tensor(term.weight, device=self.device, dtype=torch.float32) * (
                    ramp if term.ramp else 1.0
                )
                total = total + weight * losses[term.name]
        self._codec_optimizer.zero_grad()
        total.sum().backward()
        self._codec_optimizer.step()
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

    def _set_learning_rates(self, step: int) -> None:
        progress = (step + 0.5) / self.total_steps
        warmup = self.config.warmup
        if progress < warmup:
            factor = progress / warmup
        else:
            factor = 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))
        for group in self._codec_optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        if self._critic_optimizer:
            for group in self._critic_optimizer.param_groups:
                group["lr"] = self.config.critic_learning_rate * min(1.0, 2 * (1 - progress))

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            yield

    # Between epochs -------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """MSE, and the cross-entropy and accuracy of the classifier in the loss, on the validation images; networks in evaluation mode."""
        for stack in self._stacks.values():
            stack.train(False)
        split = self.task.source.validation
        models, size = len(self.points), len(split)
        clean = pixels(split.images).expand(models, -1, -1, -1, -1)
        parts = [self._frozen_validation] if self._frozen_validation is not None else []
        with self._autocast():
            if self.encoder:
                parts.append(self.encoder(self._observe(clean, "validation noise", 0)).float())
            latent = torch.cat(parts, dim=-1)
            keys = [(point.seed, point.key, "validation dither") for point in self.points]
            uniform = [draws.uniform(*key, shape=tuple(latent.shape[1:])) for key in keys]
            dither = torch.stack(uniform).to(self.device) - 0.5
            reconstruction = self.decoder(
                self.quantizer.dequantize(self.quantizer.quantize(latent, dither), dither)
            ).float()
        indices = torch.arange(size, device=self.device).expand(models, -1)
        columns = {
            "validation_mse": squared_error(
                Batch(clean, reconstruction, split.labels.expand(models, -1), indices)
            )
        }
        if self.task.classifier:
            logits = (
                self.task.classifier(reconstruction.flatten(0, 1)).float().view(models, size, -1)
            )
            labels = split.labels.expand(models, -1)
            columns["validation_cross_entropy_nats"] = F.cross_entropy(
                logits.mT, labels, reduction="none"
            ).mean(1)
            columns["validation_accuracy"] = (logits.argmax(-1) == labels).float().mean(1)
        return self._rows(columns)

    def _finite(self) -> list[bool]:
        """Whether each point's weights are finite.

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
        """The state dicts of one point's networks, by role, on the CPU."""
        return {role: stack.member(index) for role, stack in self._stacks.items()}

    def state(self, index: int) -> dict[str, Tensor]:
        """All that one point needs to go on later.

        Networks and both optimizers, flat, on the CPU.
        """
        flat = {
            f"{role}.{name}": tensor
            for role, state in self.networks(index).items()
            for name, tensor in state.items()
        }
        flat |= self._optimizer_state(index)
        flat["epoch"] = torch.tensor(self.epoch)
        flat["seconds"] = torch.tensor(self.seconds[index], dtype=torch.float64)
        flat["wall_seconds"] = torch.tensor(self.wall_seconds[index], dtype=torch.float64)
        return flat

    def check(self, state: dict[str, Tensor]) -> None:
        """Raises a QuadrateError unless a state is one that `state` may give after an epoch, and before the last one."""
        check_tensors(state, self.state(0))
        steps = (
            check_counter("epoch", state["epoch"], 1, self.config.epochs - 1) * self.steps_per_epoch
        )
        critic, codec = (
            (steps - steps // 2, steps // 2) if self.config.alternate else (steps, steps)
        )
        for (role, optimizer), done in zip(
            self._optimizers(), (codec, critic * self.config.critic_steps), strict=False
        ):
            names = [f"{role}.{i}.step" for i in range(len(optimizer.state))]
            if done != max(
                check_counter(name, state[name], 0, done) for name in names
            ):  # networks may have weights that are not used
                raise QuadrateError(
                    f"its {role} has not taken the {done} steps that it should have taken"
                )

    @torch.no_grad()
    def load(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Goes on from the states of the K points, which must stand at the same epoch."""
        for role, stack in self._stacks.items():
            stack.load(
                {
                    name: torch.stack([state[f"{role}.{name}"] for state in states])
                    for name in stack.state()
                }
            )
        self.epoch = int(states[0]["epoch"])
        self.seconds = [float(state["seconds"]) for state in states]
        self.wall_seconds = [float(state["wall_seconds"]) for state in states]
        for role, optimizer in self._optimizers():
            for i, (p, slots) in enumerate(optimizer.state.items()):
                slots["step"].copy_(states[0][f"{role}.{i}.step"])
                for slot in _MOMENTS:
                    slots[slot].copy_(
                        torch.stack([state[f"{role}.{i}.{slot}"] for state in states]).view_as(p)
                    )

    def _optimizers(self) -> list[tuple[str, torch.optim.Adam]]:
        optimizers = [("codec_optimizer", self._codec_optimizer)]
        return (
            [*optimizers, ("critic_optimizer", self._critic_optimizer)]
            if self._critic_optimizer
            else optimizers
        )

    def _optimizer_state(self, index: int) -> dict[str, Tensor]:
        """One point's share of the optimizers' moments, flat."""
        flat: dict[str, Tensor] = {}
        for role, optimizer in self._optimizers():
            for i, slots in enumerate(optimizer.state.values()):
                flat[f"{role}.{i}.step"] = slots["step"].cpu().clone()
                flat |= {
                    f"{role}.{i}.{slot}": (
                        slots[slot].reshape(len(self.points), -1)[index].cpu().clone()
                    )
                    for slot in _MOMENTS
                }
        return flat


_MOMENTS = ("exp_avg", "exp_avg_sq")


def _adam(
    params: list[Tensor], learning_rate: float, betas: tuple[float, float]
) -> torch.optim.Adam:
    """Adam that has its moments from the start, so that a checkpoint lacks none, however few steps were taken."""
    optimizer = torch.optim.Adam(params, lr=learning_rate, betas=betas, fused=True)
    for p in params:
        optimizer.state[p] = {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            **{slot: torch.zeros_like(p) for slot in _MOMENTS},
        }
    return optimizer


def precision(config: TrainingConfig, device: torch.device) -> str:
    """The precision that "auto" stands for here.

    Bfloat16 on a GPU and on a CPU with bfloat16 instructions, where it halves the time.
    """
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if native_bfloat16(device) else "float32"


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 instructions, without which it would be slower than float32."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
