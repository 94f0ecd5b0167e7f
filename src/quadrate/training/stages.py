"""Training a stage: which points run together and where, with checkpoints, metrics and resumption."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor, nn

from quadrate import draws
from quadrate.bottlenecks.collapse import LEAST_STEPS, cheap_entropy_bits, warn_if_collapsed
from quadrate.codec import Codec
from quadrate.config import OperatingPoint, Stage
from quadrate.errors import QuadrateError
from quadrate.files import read_rows, write_atomically, write_rows
from quadrate.networks.family import Family
from quadrate.objectives import Term
from quadrate.sources.source import Source
from quadrate.training.processes import Report, available_cores, run_jobs
from quadrate.training.trainer import Diverged, Frozen, Task, Trainer, precision

Execution = Literal["auto", "single", "spread", "stacked"]
_SECONDS_BETWEEN_CHECKPOINTS = 15.0
_IMAGES_FOR_ENTROPY = 5000  # at most


@dataclass(frozen=True)
class Assignment:
    """A stage and all that its points share, in a form that travels to worker processes.

    Attributes:
        stage: What to train.
        source: On which images.
        family: With which networks.
        classifier: The frozen classifier of the loss, if any.
        folder: The run's folder; a point's files are in `folder/stage/point`.
        details: What goes into the codecs' files.
        terms: The user's own terms of the loss.
    """

    stage: Stage
    source: Source
    family: Family
    classifier: nn.Module | None
    folder: Path
    details: dict[str, Any]
    terms: tuple[Term, ...] = ()

    def place(self, point: OperatingPoint) -> Path:
        """The folder of one point."""
        return self.folder / self.stage.name / point.key


def train_stage(assignment: Assignment, execution: Execution = "auto", workers: int | None = None, report: Report = lambda message: None) -> None:
    """Trains all points of a stage that are not trained yet, and goes on where an interrupted run stopped.

    Args:
        assignment: The stage and what its points share.
        execution: "stacked" runs points of one shape as one batched program, "spread" one point a process of one thread, "single" one after another
            in this process; "auto" stacks on a GPU and spreads on a CPU. Spread and single give the same bits.
        workers: How many processes at most; by default one a core.
        report: Takes progress: stage, point, epoch, epochs, losses and validation scores.

    Warns (`QuadrateWarning`) of points that have collapsed (`quadrate.bottlenecks.collapse`).

    Raises:
        QuadrateError: If a point diverged, its base is not trained, or files cannot be written; the other points are trained first.
    """
    if execution == "auto":
        execution = "stacked" if assignment.source.train.images.is_cuda else "spread"
    pending = [point for point in assignment.stage.points if not (assignment.place(point) / "model.safetensors").exists()]
    if execution == "stacked":
        groups: dict[Any, list[OperatingPoint]] = {}
        for point in pending:
            groups.setdefault((point.levels, point.lambda_p > 0, _epoch_reached(assignment, point)), []).append(point)
        jobs = list(groups.values())
    else:
        jobs = [[point] for point in pending]
    in_processes = execution == "spread" and not assignment.source.train.images.is_cuda
    run_jobs(_train_group, assignment, jobs, (workers or available_cores()) if in_processes else 1, report)


def _train_group(assignment: Assignment, points: Sequence[OperatingPoint], report: Report) -> None:
    """Trains points side by side, each with files of its own."""
    stage, started = assignment.stage, time.monotonic()
    source = replace(assignment.source, noise_std=stage.noise_std)
    task = Task(source, assignment.family, assignment.classifier, stage.training, stage.mode != "universal", assignment.terms)
    bases = [_load_base(assignment, point) for point in points] if stage.base else []
    trainer = Trainer(task, points, [_freeze(base, source, point.seed) for base, point in zip(bases, points, strict=True)] if bases else [])
    histories: list[list[dict[str, Any]]] = [[] for _ in points]
    places = [assignment.place(point) for point in points]
    states = [state for state in map(_read_checkpoint, places) if state]
    if len(states) == len(points):
        try:
            trainer.load(states)
        except (KeyError, RuntimeError) as error:
            raise _damaged(places[0] / "checkpoint.safetensors", error) from None
        histories = [read_rows(place / "metrics.jsonl")[: trainer.epoch] for place in places]
    saved = time.monotonic()
    while trainer.epoch < stage.training.epochs:
        try:
            rows = trainer.train_epoch()
        except Diverged as error:
            if others := [point for point in points if point != error.point]:
                _train_group(assignment, others, report)  # a stack goes on without the point that failed, from the checkpoints
            raise
        for k, (point, row) in enumerate(zip(points, rows, strict=True)):
            histories[k].append({"epoch": trainer.epoch, **row, "cpu_seconds": round(trainer.seconds[k], 3)})
            report({"stage": stage.name, "point": point.key, "epochs": stage.training.epochs, **histories[k][-1]})
        if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS and trainer.epoch < stage.training.epochs:
            for k, place in enumerate(places):
                write_rows(place / "metrics.jsonl", histories[k])
                state = trainer.state(k)
                write_atomically(place / "checkpoint.safetensors", lambda path, state=state: safetensors.torch.save_file(state, path))  # type: ignore[misc]
            saved = time.monotonic()
    for k, (point, place) in enumerate(zip(points, places, strict=True)):
        write_rows(place / "metrics.jsonl", histories[k])
        details = {**assignment.details, "stage": stage.name, "noise_std": stage.noise_std, "wall_seconds": round(time.monotonic() - started, 2)}
        details |= {"precision": precision(stage.training, source.train.images.device), "cpu_seconds": round(trainer.seconds[k], 2)}
        details["stacked_with"] = len(points) - 1
        codec = _codec(assignment, point, trainer.networks(k), bases[k] if bases else None, details)
        codec.save(place / "model.safetensors")
        if trainer.encoder and trainer.total_steps >= LEAST_STEPS:
            _check_alive(codec, point, source, stage.name)
        (place / "checkpoint.safetensors").unlink(missing_ok=True)


def _check_alive(codec: Codec, point: OperatingPoint, source: Source, stage: str) -> None:
    """Warns if the encoder that was trained for a point has collapsed."""
    images = source.validation.images[:_IMAGES_FOR_ENTROPY]
    latents = codec.source_latents(source, images.to(codec.device), draws.generator(point.seed, point.key, "entropy check"))
    own = latents[:, -len(point.levels) :]
    if len(own) > 1:
        warn_if_collapsed(f"{point.key} of stage {stage!r}", cheap_entropy_bits(own, point.levels), point.rate_bound_bits)


def _codec(
    assignment: Assignment, point: OperatingPoint, networks: dict[str, dict[str, Tensor]], base: Codec | None, details: dict[str, Any]
) -> Codec:
    """The trained networks of one point, with the frozen ones they build on."""
    states = {role: state for role, state in networks.items() if role == "critic"} | {f"decoder.{point.purpose}": networks["decoder"]}
    levels: list[tuple[int, ...]] = []
    if base:
        levels += base.stages
        states |= {f"encoder.{i}": encoder.state_dict() for i, encoder in enumerate(base.encoders)}
    if "encoder" in networks:
        states[f"encoder.{len(levels)}"] = networks["encoder"]
        levels.append(point.levels)
    return Codec(assignment.family, assignment.source.shape, levels, {point.purpose: point}, states, details)


def _load_base(assignment: Assignment, point: OperatingPoint) -> Codec:
    """The codec whose encoder is frozen for a point."""
    base = assignment.stage.base_of(point)
    assert base is not None
    path = assignment.folder / assignment.stage.base_stage / base.key / "model.safetensors"
    if not path.exists():
        raise QuadrateError(f"stage {assignment.stage.name!r} builds on {base.key} of stage {assignment.stage.base_stage!r}, which is not trained")
    return Codec.load(path, assignment.family, assignment.source.train.images.device)


def _freeze(base: Codec, source: Source, seed: int) -> Frozen:
    """The latents of a frozen encoder over the training and validation images: with a frozen encoder they never change."""
    device = source.train.images.device
    latents: list[Tensor] = []
    for split in (source.train, source.validation):
        generator = draws.generator(seed, base.point.key, "frozen noise", len(latents), device=device)
        latents.append(base.source_latents(source, split.images, generator))
    critic = {name: tensor.cpu() for name, tensor in base.critic.state_dict().items()} if base.critic else None
    return Frozen(base.levels, latents[0], latents[1], critic)


def _epoch_reached(assignment: Assignment, point: OperatingPoint) -> int:
    """How far a point's checkpoint is; 0 without one."""
    state = _read_checkpoint(assignment.place(point))
    return int(state["epoch"]) if state else 0


def _read_checkpoint(place: Path) -> dict[str, Tensor] | None:
    path = place / "checkpoint.safetensors"
    if not path.exists():
        return None
    try:
        state = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from None
    if "epoch" not in state:
        raise _damaged(path, "it holds no epoch")
    return state


def _damaged(path: Path, reason: object) -> QuadrateError:
    return QuadrateError(f"checkpoint {path} is damaged ({reason}); delete it to train the point from the start")
