"""Training a stage.

Which points run together and where, with checkpoints, metrics and resumption.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from quadrate.bottlenecks.collapse import LEAST_STEPS, warn_if_collapsed
from quadrate.bottlenecks.counted_entropy import counted_entropy
from quadrate.codecs import Layer, TradeoffCodec
from quadrate.config import OperatingPoint, Stage, to_json
from quadrate.core import draws
from quadrate.core.files import exists, read_rows, write_rows
from quadrate.errors import QuadrateError
from quadrate.networks.family import Family
from quadrate.objectives import Term
from quadrate.sources.source import Source
from quadrate.training.batch_size import check_batch
from quadrate.training.checkpoints import (
    check_counter,
    check_metrics,
    damaged,
    read_checkpoint,
    write_checkpoint,
)
from quadrate.training.processes import Report, available_cores, run_jobs
from quadrate.training.trainer import Diverged, Frozen, Task, Trainer, precision

Execution = Literal["auto", "single", "spread", "stacked"]
_SECONDS_BETWEEN_CHECKPOINTS = 15.0
_IMAGES_FOR_ENTROPY = 5000  # at most
_DITHERS = 32  # enough for a quick look at the entropy


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


def train_stage(
    assignment: Assignment,
    execution: Execution = "auto",
    workers: int | None = None,
    report: Report = lambda message: None,
) -> None:
    """Trains all points of a stage that are not trained yet, and goes on where an interrupted run
    stopped.

    Args:
        assignment: The stage and what its points share.
        execution: "stacked" runs points of one shape as one batched program, "spread" one point a
            process of one thread, "single" one after another in this process; "auto" stacks on a
            GPU and spreads on a CPU. Spread and single give the same bits.
        workers: How many processes at most; by default one a core.
        report: Takes progress: stage, point, epoch, epochs, losses and validation scores.

    Warns (`QuadrateWarning`) of points that have collapsed (`quadrate.bottlenecks.collapse`).

    Raises:
        QuadrateError: If a point diverged, its base is not trained, or files cannot be written; the
            other points are trained first.
    """
    if execution == "auto":
        execution = "stacked" if assignment.source.train.images.is_cuda else "spread"
    pending = [
        point
        for point in assignment.stage.points
        if not exists(assignment.place(point) / "model.safetensors")
    ]
    if pending:
        check_batch(
            f"stage {assignment.stage.name!r}",
            assignment.stage.training.batch,
            len(assignment.source.train),
        )
    if execution == "stacked":
        groups: dict[Any, list[OperatingPoint]] = {}
        for point in pending:
            groups.setdefault(
                (point.levels, point.lambda_p > 0, _epoch_reached(assignment, point)), []
            ).append(point)
        jobs = list(groups.values())
    else:
        jobs = [[point] for point in pending]
    in_processes = execution == "spread" and not assignment.source.train.images.is_cuda
    run_jobs(
        _train_group,
        assignment,
        jobs,
        (workers or available_cores()) if in_processes else 1,
        report,
    )


def _train_group(assignment: Assignment, points: Sequence[OperatingPoint], report: Report) -> None:
    """Trains points side by side, each with files of its own."""
    stage = assignment.stage
    source = replace(assignment.source, noise_std=stage.noise_std)
    task = Task(
        source,
        assignment.family,
        assignment.classifier,
        stage.training,
        stage.mode != "universal",
        assignment.terms,
    )
    bases = [_load_base(assignment, point) for point in points] if stage.base else []
    trainer = Trainer(
        task,
        points,
        (
            [_freeze(base, source, point.seed) for base, point in zip(bases, points, strict=True)]
            if bases
            else []
        ),
    )
    places = [assignment.place(point) for point in points]
    trainings = [
        _training(assignment, point, bases[k] if bases else None) for k, point in enumerate(points)
    ]
    histories: list[list[dict[str, Any]]] = [[] for _ in points]
    found = [
        resumable
        for place, training in zip(places, trainings, strict=True)
        if (resumable := _resumable(trainer, place, training))
    ]
    if len(found) == len(points):
        trainer.load([state for state, _ in found])
        histories = [rows for _, rows in found]
    saved = time.monotonic()
    while trainer.epoch < stage.training.epochs:
        try:
            rows = trainer.train_epoch()
        except Diverged as error:
            if others := [point for point in points if point != error.point]:
                _train_group(
                    assignment, others, report
                )  # a stack goes on without the point that failed, from the checkpoints
            raise
        for k, (point, row) in enumerate(zip(points, rows, strict=True)):
            histories[k].append(
                {"epoch": trainer.epoch, **row, "cpu_seconds": round(trainer.seconds[k], 3)}
            )
            report(
                {
                    "stage": stage.name,
                    "point": point.key,
                    "epochs": stage.training.epochs,
                    **histories[k][-1],
                }
            )
        if (
            time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS
            and trainer.epoch < stage.training.epochs
        ):
            for k, place in enumerate(places):
                write_rows(place / "metrics.jsonl", histories[k])
                write_checkpoint(
                    place / "checkpoint.safetensors", trainer.state(k), trainings[k], histories[k]
                )
            saved = time.monotonic()
    for k, (point, place) in enumerate(zip(points, places, strict=True)):
        write_rows(place / "metrics.jsonl", histories[k])
        details = {
            **assignment.details,
            "stage": stage.name,
            "noise_std": stage.noise_std,
            "wall_seconds": round(trainer.wall_seconds[k], 2),
        }
        details |= {
            "precision": precision(stage.training, source.train.images.device),
            "cpu_seconds": round(trainer.seconds[k], 2),
        }
        details["stacked_with"] = len(points) - 1
        codec = _codec(assignment, point, trainer.networks(k), bases[k] if bases else None, details)
        codec.save(place / "model.safetensors")
        if trainer.encoder and trainer.total_steps >= LEAST_STEPS:
            _check_alive(codec, point, source, stage.name)
        (place / "checkpoint.safetensors").unlink(missing_ok=True)


def _check_alive(codec: TradeoffCodec, point: OperatingPoint, source: Source, stage: str) -> None:
    """Warns if the encoder that was trained for a point has collapsed."""
    images = source.validation.images[:_IMAGES_FOR_ENTROPY]
    latents = codec.source_latents(
        source, images.to(codec.device), draws.generator(point.seed, point.key, "entropy check")
    )
    own = latents[:, -len(point.levels) :]
    if len(own) > 1:
        warn_if_collapsed(
            f"{point.key} of stage {stage!r}",
            counted_entropy(own, own, point.levels, dithers=_DITHERS).bits,
            point.rate_bound_bits,
        )


def _codec(
    assignment: Assignment,
    point: OperatingPoint,
    networks: dict[str, dict[str, Tensor]],
    base: TradeoffCodec | None,
    details: dict[str, Any],
) -> TradeoffCodec:
    """The trained networks of one point, with the frozen ones they build on."""
    states = {role: state for role, state in networks.items() if role == "critic"} | {
        f"decoder.{point.purpose}": networks["decoder"]
    }
    layers: list[Layer] = []
    if base:
        layers += base.layers
        states |= {f"encoder.{i}": encoder.state_dict() for i, encoder in enumerate(base.encoders)}
    if "encoder" in networks:
        states[f"encoder.{len(layers)}"] = networks["encoder"]
        layers.append(Layer.of(point))
    return TradeoffCodec(
        assignment.family, assignment.source.shape, layers, {point.purpose: point}, states, details
    )


def _load_base(assignment: Assignment, point: OperatingPoint) -> TradeoffCodec:
    """The codec whose encoder is frozen for a point."""
    base = assignment.stage.base_of(point)
    assert base is not None
    path = assignment.folder / assignment.stage.base_stage / base.key / "model.safetensors"
    if not exists(path):
        raise QuadrateError(
            f"stage {assignment.stage.name!r} builds on {base.key} of stage"
            f" {assignment.stage.base_stage!r}, which is not trained"
        )
    return TradeoffCodec.load(
        path, device=assignment.source.train.images.device, family=assignment.family
    )


def _freeze(base: TradeoffCodec, source: Source, seed: int) -> Frozen:
    """The latents of a frozen encoder over the training and validation images.

    With a frozen encoder they never change.
    """
    device = source.train.images.device
    latents: list[Tensor] = []
    for split in (source.train, source.validation):
        generator = draws.generator(
            seed, base.point.key, "frozen noise", len(latents), device=device
        )
        latents.append(base.source_latents(source, split.images, generator))
    critic = (
        {name: tensor.cpu() for name, tensor in base.critic.state_dict().items()}
        if base.critic
        else None
    )
    return Frozen(base.levels, latents[0], latents[1], critic)


def _training(assignment: Assignment, point: OperatingPoint, base: TradeoffCodec | None) -> str:
    """What a checkpoint of a point belongs to: all that decides where its training ends."""
    stage = assignment.stage
    texts = [
        to_json(stage.training),
        to_json(point),
        stage.mode,
        str(stage.noise_std),
        assignment.source.fingerprint,
        assignment.family.name,
    ]
    texts += [f"{term.name} {term.weight} {term.ramp}" for term in assignment.terms]
    sha = hashlib.sha256("\x1f".join(texts).encode())
    for network in (
        assignment.classifier,
        *(base.encoders if base else ()),
        base.critic if base else None,
    ):
        for name, tensor in sorted(network.state_dict().items()) if network else ():
            sha.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _resumable(
    trainer: Trainer, place: Path, training: str
) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
    """A point's state and metrics, where it was interrupted.

    Raises:
        QuadrateError: If its checkpoint is damaged or of another training, or the metrics beside it
            are.
    """
    path = place / "checkpoint.safetensors"
    found = read_checkpoint(path, training)
    if found is None:
        return None
    state, digest = found
    try:
        trainer.check(state)
        rows = read_rows(place / "metrics.jsonl")[
            : int(state["epoch"])
        ]  # those of an epoch whose checkpoint was not written are done again
        check_metrics(rows, digest)
    except QuadrateError as error:
        raise damaged(path, error) from None
    return state, rows


def _epoch_reached(assignment: Assignment, point: OperatingPoint) -> int:
    """How far a point's checkpoint is; 0 without one."""
    path = assignment.place(point) / "checkpoint.safetensors"
    found = read_checkpoint(path)
    try:
        return (
            check_counter("epoch", found[0]["epoch"], 1, assignment.stage.training.epochs)
            if found
            else 0
        )
    except (KeyError, QuadrateError) as error:
        raise damaged(path, error) from None
