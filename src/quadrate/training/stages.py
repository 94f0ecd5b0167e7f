"""Training of a stage: which points run together and where, with checkpoints and metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from quadrate.bottlenecks.collapse import LEAST_STEPS, warn_if_collapsed, warn_if_constant
from quadrate.bottlenecks.counted_entropy import counted_entropy
from quadrate.codecs import Layer, TradeoffCodec
from quadrate.config import OperatingPoint, Stage, to_json
from quadrate.core import draws
from quadrate.core.files import exists, read_rows, write_rows
from quadrate.core.tensor_file import tensor_bytes
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
from quadrate.training.flow_trainer import FlowTrainer
from quadrate.training.layers import FrozenLatents
from quadrate.training.loop import Diverged, run, uses_bfloat16
from quadrate.training.processes import Executor, Report, available_cores, run_jobs
from quadrate.training.task import Task
from quadrate.training.trainer import Trainer

Execution = Literal["auto", "single", "spread", "stacked"]
_TRAINERS: dict[str, Any] = {"flow": FlowTrainer}  # of decoders that the usual one cannot train
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
        terms: Your own terms of the loss.
        readers: The frozen classifiers that labelled decoders write for.
    """

    stage: Stage
    source: Source
    family: Family
    classifier: nn.Module | None
    folder: Path
    details: dict[str, Any]
    terms: tuple[Term, ...] = ()
    readers: tuple[nn.Module, ...] = ()

    def place(self, point: OperatingPoint) -> Path:
        """The folder of one point."""
        return self.folder / self.stage.name / point.key


def train_stage(
    assignment: Assignment,
    execution: Execution = "auto",
    workers: int | Executor | None = None,
    report: Report = lambda message: None,
) -> None:
    """Train the points of a stage that are not trained yet, from where an interrupted run stopped.

    Warns (`QuadrateWarning`) of points that have collapsed (`quadrate.bottlenecks.collapse`).

    Args:
        assignment: The stage and what its points share.
        execution: "stacked" runs points of one shape as one batched program, "spread" one point a
            process of one thread, "single" one after another in this process; "auto" stacks on a
            GPU and spreads on a CPU. Spread and single give the same bits.
        workers: How many processes at most; by default one a core. Or what runs points elsewhere,
            such as `quadrate.training.Cluster`: stacks are then as many as run at a time.
        report: Takes progress: stage, point, epoch, epochs, losses and validation scores.

    Raises:
        QuadrateError: If a point diverged, its base is not trained, or files cannot be written; the
            other points are trained first.
    """
    on_gpu = assignment.source.train.images.is_cuda
    if execution == "auto":
        execution = "stacked" if on_gpu else "spread"
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
    where: int | Executor
    if workers is None or isinstance(workers, int):
        where = (workers or available_cores()) if execution == "spread" and not on_gpu else 1
    else:
        where = workers.at(assignment.folder, on_gpu)
    jobs = [[point] for point in pending]
    if pending and execution == "stacked":
        stacks = _stacks(assignment, pending)
        parts = 1 if isinstance(where, int) else max(1, where.room // len(stacks))
        jobs = [stack[i::parts] for stack in stacks for i in range(min(parts, len(stack)))]
    run_jobs(_train_points, assignment, jobs, where, report)


def _train_points(assignment: Assignment, points: Sequence[OperatingPoint], report: Report) -> None:
    """Train those of a stack that are not trained yet.

    Where it was lost with its machine, some may be, and others may be an epoch further.
    """
    pending = [p for p in points if not exists(assignment.place(p) / "model.safetensors")]
    for stack in _stacks(assignment, pending) if len(points) > 1 else [pending] * bool(pending):
        _train_group(assignment, stack, report)


def _stacks(assignment: Assignment, points: Sequence[OperatingPoint]) -> list[list[OperatingPoint]]:
    """Points by what they must have in common to be stacked."""
    groups: dict[Any, list[OperatingPoint]] = {}
    for point in points:
        groups.setdefault(_stack_of(point, _epoch_reached(assignment, point)), []).append(point)
    return list(groups.values())


def _stack_of(point: OperatingPoint, epoch: int) -> Any:
    """What points that are stacked have in common; each flow decoder is trained by itself."""
    alone = point.key if point.decoder in _TRAINERS else ""
    return *point.code, point.decoder, alone, point.lambda_p > 0, epoch


def _train_group(assignment: Assignment, points: Sequence[OperatingPoint], report: Report) -> None:
    """Train points side by side, each with files of its own."""
    stage = assignment.stage
    source = replace(assignment.source, noise_std=stage.noise_std)
    bases = [_load_base(assignment, point) if stage.base else None for point in points]
    frozen = [
        FrozenLatents.of(base, source, point.seed)
        for base, point in zip(bases, points, strict=True)
        if base
    ]
    task = Task(
        source,
        assignment.family,
        assignment.classifier,
        stage.training,
        stage.mode != "universal",
        assignment.terms,
        assignment.readers,
    )
    trainer = _TRAINERS.get(points[0].decoder, Trainer)(task, points, frozen).prepare()
    files = [_Files(assignment, point, base) for point, base in zip(points, bases, strict=True)]
    found = [resumable for one in files if (resumable := one.resumable(trainer))]
    if len(found) == len(points):
        trainer.load([state for state, _ in found])
        for one, (_, rows) in zip(files, found, strict=True):
            one.rows = rows

    def advance(epoch: int) -> None:
        for k, row in enumerate(trainer.train_epoch()):
            cpu_seconds = round(float(trainer.clock.seconds(k)[0]), 3)
            files[k].rows.append({"epoch": epoch + 1, **row, "cpu_seconds": cpu_seconds})
            where = {"stage": stage.name, "point": points[k].key, "epochs": stage.training.epochs}
            report({**where, **files[k].rows[-1]})

    def save() -> None:
        for k, one in enumerate(files):
            one.save(trainer, k)

    try:
        run(advance, stage.training.epochs, trainer.epoch, save)
    except Diverged as error:
        # A stack goes on without the point that failed, from the checkpoints.
        if others := [point for point in points if point.key != error.what]:
            _train_group(assignment, others, report)
        raise
    for k, (point, base) in enumerate(zip(points, bases, strict=True)):
        codec = _codec(assignment, trainer, k, base)
        place = assignment.place(point)
        codec.save(place / "model.safetensors")
        if trainer.encoder and trainer.total_steps >= LEAST_STEPS:
            _check_alive(codec, point, source, stage.name)
        (place / "checkpoint.safetensors").unlink(missing_ok=True)


class _Files:
    """The metrics and the checkpoint of one point."""

    def __init__(
        self, assignment: Assignment, point: OperatingPoint, base: TradeoffCodec | None
    ) -> None:
        self.place = assignment.place(point)
        self.training = _training(assignment, point, base)
        self.rows: list[dict[str, Any]] = []

    def save(self, trainer: Trainer, index: int) -> None:
        """Write the metrics, and a checkpoint unless all epochs are done."""
        write_rows(self.place / "metrics.jsonl", self.rows)
        if trainer.epoch < trainer.config.epochs:
            path = self.place / "checkpoint.safetensors"
            write_checkpoint(path, trainer.state(index), self.training, self.rows)

    def resumable(self, trainer: Trainer) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
        """Read a point's state and metrics, where it was interrupted.

        Raises:
            QuadrateError: If its checkpoint is damaged or of another training, or the metrics with
                it are.
        """
        path = self.place / "checkpoint.safetensors"
        found = read_checkpoint(path, self.training)
        if found is None:
            return None
        state, digest = found
        try:
            trainer.check(state)
            # Those of an epoch whose checkpoint was not written are done again.
            rows = read_rows(self.place / "metrics.jsonl")[: int(state["epoch"])]
            check_metrics(rows, digest)
        except QuadrateError as error:
            raise damaged(path, error) from None
        return state, rows


def _check_alive(codec: TradeoffCodec, point: OperatingPoint, source: Source, stage: str) -> None:
    """Warn if the encoder that was trained for a point has collapsed."""
    images = source.validation.images[:_IMAGES_FOR_ENTROPY].to(codec.device)
    generator = draws.generator(point.seed, point.key, "entropy check")
    latents = codec.source_latents(source, images, generator)  # (n, ...)
    what = f"{point.key} of stage {stage!r}"
    if point.has_learned_rate:
        earlier = len(codec.levels_before(len(codec.layers) - 1))
        warn_if_constant(what, codec.quantize(latents)[:, earlier:].cpu().numpy())
    elif len(own := latents[:, -len(point.levels) :]) > 1:
        bits = counted_entropy(own, own, point.levels, dithers=_DITHERS).bits
        warn_if_collapsed(what, bits, point.rate_bound_bits)


def _codec(
    assignment: Assignment, trainer: Trainer, index: int, base: TradeoffCodec | None
) -> TradeoffCodec:
    """The trained networks of one point, with the frozen ones they build on."""
    point, networks = trainer.points[index], trainer.networks(index)
    states = {f"decoder.{point.purpose}": networks["decoder"]}
    if "critic" in networks:
        states = {"critic": networks["critic"]} | states
    layers, models = list(base.layers if base else ()), list(base.layer_models if base else ())
    for i, encoder in enumerate(base.encoders if base else ()):
        states[f"encoder.{i}"] = encoder.state_dict()
    if "encoder" in networks:
        states[f"encoder.{len(layers)}"] = networks["encoder"]
        before = base.levels_before(len(layers)) if base else ()
        models.append(trainer.freeze(index, before))
        layers.append(Layer.of(point))
    stage, source = assignment.stage, assignment.source
    cpu_seconds, wall_seconds = trainer.clock.seconds(index).tolist()
    bfloat16 = uses_bfloat16(stage.training.precision, source.train.images.device)
    details = {
        **assignment.details,
        "stage": stage.name,
        "noise_std": stage.noise_std,
        "wall_seconds": round(wall_seconds, 2),
        "precision": "bfloat16" if bfloat16 else "float32",
        "cpu_seconds": round(cpu_seconds, 2),
        "stacked_with": len(trainer.points) - 1,
    }
    return TradeoffCodec(
        assignment.family,
        source.shape,
        layers,
        {point.purpose: point},
        states,
        details,
        models=models,
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
    device = assignment.source.train.images.device
    return TradeoffCodec.load(path, device=device, family=assignment.family)


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
        *assignment.readers,
        *(base.encoders if base else ()),
        base.critic if base else None,
        next(iter(base.decoders.values())) if base and point.decoder in _TRAINERS else None,
    ):
        for name, tensor in sorted(network.state_dict().items()) if network else ():
            sha.update(name.encode() + tensor_bytes(tensor))
    for layer, model in zip(base.layers, base.layer_models, strict=True) if base else ():
        if model and not layer.levels:
            sha.update(model.identity)
    return sha.hexdigest()


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
