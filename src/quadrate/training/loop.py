"""The core of every training: steps by a schedule, a guard, clocks, and checkpoints on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from quadrate.config import Precision
from quadrate.errors import QuadrateError
from quadrate.training.checkpoints import check_counter

SECONDS_BETWEEN_CHECKPOINTS = 15.0
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Diverged(QuadrateError):
    """The training of `what` came to a number that is not finite."""

    def __init__(self, what: str, when: str, details: str = "") -> None:
        super().__init__(
            f"training of {what} diverged in {when}{details}; a smaller learning rate would be"
            " right"
        )
        self.what, self._parts = what, (what, when, details)

    def __reduce__(self) -> tuple[type[Diverged], tuple[str, str, str]]:
        """How it travels between processes."""
        return Diverged, self._parts


def check_finite(
    what: str, when: str, losses: Mapping[str, float], weights_are_finite: bool = True
) -> None:
    """Raise Diverged unless losses, and what else is asked for, are finite."""
    if not (weights_are_finite and all(map(math.isfinite, losses.values()))):
        raise Diverged(what, when, f": {dict(losses)}")


def run(
    advance: Callable[[int], object],
    units: int,
    first: int = 0,
    save: Callable[[], object] | None = None,
) -> None:
    """Train, unit by unit.

    Args:
        advance: Trains one unit, an epoch or a step, given its number.
        units: How many there are.
        first: Which one to go on with.
        save: Writes a checkpoint; called every quarter of a minute and after the last unit.
    """
    saved = time.monotonic()
    with torch.inference_mode(False), torch.enable_grad():
        for unit in range(first, units):
            advance(unit)
            due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
            if save and (due or unit + 1 == units):
                save()
                saved = time.monotonic()


class Descent:
    """An optimizer, and the learning rates of each of its steps.

    Args:
        optimizer: Of Adam's kind.
        rates: Sets the learning rates of a step, given its number; see `shares` and `scheduled`.
        clipped: Parameters whose joint gradient is clipped to the norm 3.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rates: Callable[[int], object],
        clipped: Sequence[Tensor] = (),
    ) -> None:
        self.optimizer, self.rates, self.clipped = optimizer, rates, clipped

    def step(self, step: int, loss: Tensor) -> None:
        """Take the step of a number down a loss."""
        self.rates(step)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clipped:
            torch.nn.utils.clip_grad_norm_(self.clipped, 3.0)
        self.optimizer.step()

    def prepare(self) -> Descent:
        """Make the moments at the start, so that a checkpoint has all, however few the steps."""
        for p in self._parameters():
            step = torch.zeros(
                (), dtype=torch.float32, device=p.device if self._is_fused else "cpu"
            )
            moments = {slot: torch.zeros_like(p) for slot in _MOMENTS}
            self.optimizer.state[p] = {"step": step, **moments}
        return self

    @property
    def _is_fused(self) -> bool:
        return bool(self.optimizer.defaults["fused"])

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def state(self, role: str, index: int = 0, models: int = 1) -> dict[str, Tensor]:
        """The moments of one of the models that are stacked, flat and on the CPU."""
        flat: dict[str, Tensor] = {}
        for i, p in enumerate(self._parameters()):
            slots = self.optimizer.state[p]
            flat[f"{role}.{i}.step"] = slots["step"].cpu().clone()
            for slot in _MOMENTS:
                own = slots[slot].reshape(models, -1)[index]
                flat[f"{role}.{i}.{slot}"] = own.cpu().clone()
        return flat

    def check(self, role: str, state: Mapping[str, Tensor], steps: int) -> None:
        """Raise a QuadrateError unless a state was written after so many steps."""
        names = [f"{role}.{i}.step" for i in range(len(self._parameters()))]
        # Networks may have weights that are not used, so the most counts.
        if steps != max(check_counter(name, state[name], 0, steps) for name in names):
            raise QuadrateError(
                f"its {role} has not taken the {steps} steps that it should have taken"
            )

    @torch.no_grad()
    def load(self, role: str, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Go on from the states of all models that are stacked."""
        for i, p in enumerate(self._parameters()):
            slots = self.optimizer.state[p]
            slots["step"].copy_(states[0][f"{role}.{i}.step"])
            for slot in _MOMENTS:
                slots[slot].copy_(
                    torch.stack([state[f"{role}.{i}.{slot}"] for state in states]).view_as(p)
                )


def shares(
    optimizer: torch.optim.Optimizer, share: Callable[[int], float]
) -> Callable[[int], None]:
    """Learning rates as a share of those that the optimizer's groups have at first."""
    peaks = [group["lr"] for group in optimizer.param_groups]

    def rates(step: int) -> None:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * share(step)

    return rates


def scheduled(
    scheduler: torch.optim.lr_scheduler.LRScheduler, every: int = 1
) -> Callable[[int], None]:
    """Learning rates of one of PyTorch's schedulers, which goes on every so many steps."""
    return lambda step: scheduler.step() if step and step % every == 0 else None


def one_cycle(done: float, warmup: float) -> float:
    """The share of the peak after a share of the steps: a linear rise, then a cosine to zero."""
    if done < warmup:
        return done / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))


def ramp(step: int, steps: float) -> float:
    """The share of a weight that grows linearly over so many steps; 1 if there are none."""
    return min(1.0, step / steps) if steps else 1.0


class Clock:
    """Seconds that a training has taken over all its sessions; it runs in a `with` block.

    Args:
        models: How many models are stacked; each pays its share of the processor's time, and waits
            for all of the clock's.
    """

    def __init__(self, models: int = 1) -> None:
        self._share = torch.tensor([1 / models, 1.0], dtype=torch.float64)
        self._seconds = torch.zeros(models, 2, dtype=torch.float64)
        self._started: Tensor | None = None

    def __enter__(self) -> None:
        self._started = self._now()

    def __exit__(self, *exception: object) -> None:
        self._seconds, self._started = self._all(), None

    def _now(self) -> Tensor:
        return torch.tensor([time.process_time(), time.monotonic()], dtype=torch.float64)

    def _all(self) -> Tensor:
        if self._started is None:
            return self._seconds
        return self._seconds + (self._now() - self._started) * self._share

    def seconds(self, index: int = 0) -> Tensor:
        """Seconds of a model so far: the processor's and the clock's, float64 (2,)."""
        return self._all()[index]

    def load(self, seconds: Sequence[Tensor]) -> None:
        """Go on from the seconds of earlier sessions, one (2,) for each model."""
        self._seconds = torch.stack(list(seconds))


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether networks compute in bfloat16, as "auto" has it where it is faster than float32.

    That is on a GPU and on processors with bfloat16 instructions, where it halves the time.
    """
    if precision == "auto":
        return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return precision == "bfloat16"


def autocast(device: torch.device, bfloat16: bool) -> Any:
    """A context in which networks compute in bfloat16, or as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
