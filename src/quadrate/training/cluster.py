"""Jobs on a Ray cluster, one of the ways behind `quadrate.training.processes.run_jobs`."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quadrate import __version__
from quadrate.core.files import exists, shown
from quadrate.core.plugins import load_plugins, loaded_plugins
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.training.processes import (
    Outcome,
    Report,
    Work,
    available_cores,
    doubts_told,
    one_thread,
    outcome_of,
    portable,
)

_LOSSES = 10  # of a job with its node, each resumed; more often the job itself ends its process
_SECONDS = 0.5  # between looks at what was reported
_FIRST_REPORT = "started"


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, for `workers=` of what trains and scores.

    All its machines have the same versions of Quadrate and PyTorch, and see the run's folder under
    the same path. Jobs are sent to it one by one, what they share once. When a machine is lost, its
    jobs run again on another, from their last checkpoints.

    Attributes:
        address: "auto" for the cluster that this machine is part of (or the environment variable
            RAY_ADDRESS names), "local" for one of this machine alone, which ends with this process,
            or the cluster's address: HOST:PORT, or ray://HOST:PORT from outside.
        gpus: The share of a GPU that a job takes where data lie on one: 0.5 puts two jobs on each.
        folder: The run's folder, set by `at`.
        on_gpu: Whether jobs compute on a GPU, set by `at`.
    """

    address: str = "auto"
    gpus: float = 1.0
    folder: Path | None = None
    on_gpu: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.gpus <= 1 or (self.gpus > 1 and self.gpus == int(self.gpus))):
            raise QuadrateError(
                f"a job takes a share of a GPU, as 0.25, or whole ones, not {self.gpus:g}"
            )

    def at(self, folder: Path, on_gpu: bool) -> Cluster:
        """Return the executor of jobs that write into a folder, and may compute on a GPU."""
        return replace(self, folder=folder, on_gpu=on_gpu)

    @property
    def room(self) -> int:
        """How many jobs run at a time on the machines that the cluster has now, 1 at least.

        Raises:
            QuadrateError: As `outcomes`.
        """
        resources = _connected(self.address).cluster_resources()
        have, takes = ("GPU", self.gpus) if self.on_gpu else ("CPU", 1)
        return max(1, int(resources.get(have, 0) / takes))

    def outcomes(
        self, work: Work, shared: Any, jobs: Sequence[Any], report: Report
    ) -> list[Outcome]:
        """Run `work(shared, job, report)` for each job, on one thread; return what came of each.

        Besides the jobs' reports, `report` gets {"running": points} whenever a job starts or ends.
        What was interrupted is stopped on all machines.

        Raises:
            QuadrateError: If Ray or its cluster is not there, is lost, or its machines cannot do
                the jobs.
        """
        ray = _connected(self.address)
        if self.on_gpu and not ray.cluster_resources().get("GPU"):
            warnings.warn(
                "the cluster has no GPU now; jobs wait until it has one",
                QuadrateWarning,
                stacklevel=2,
            )
        with self._witness() as witness, _lost_cluster(ray):
            setting = _Setting.of_this_process(witness)
            common = ray.put(ray.cloudpickle.dumps((work, shared)))
            queue = _queue(ray)
            task = ray.remote(_do).options(
                num_cpus=1,
                num_gpus=self.gpus if self.on_gpu else 0,
                max_retries=_LOSSES,
                scheduling_strategy="SPREAD",
            )
            waiting: dict[Any, int] = {}
            try:
                for number, job in enumerate(jobs):
                    # In a list, for Ray would read the object anew for each job
                    waiting[task.remote(setting, [common], number, job, queue)] = number
                return _collect(ray, waiting, queue, jobs, report)
            finally:
                for ref in waiting:  # none, unless this was interrupted
                    with suppress(Exception):
                        ray.cancel(ref, force=True)
                with suppress(Exception):
                    queue.shutdown(force=True)

    @contextmanager
    def _witness(self) -> Iterator[Path | None]:
        """A file by which other machines see that they share the folder, while jobs run."""
        if self.folder is None:
            yield None
            return
        path = self.folder.absolute() / f".cluster-{secrets.token_hex(8)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise QuadrateError(f"cannot write {shown(path)}: {error.strerror}") from None
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink()


# This side ----------------------------------------------------------------------------------------


def _connected(address: str) -> Any:
    """The module `ray`, connected to a cluster; a connection that is there is used."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local cluster would tell its makers
    try:
        import ray
    except ImportError:
        raise QuadrateError(
            "a cluster needs ray, which is missing: pip install 'quadrate[ray]' -c constraints.txt"
        ) from None
    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {}
    if address == "local":
        options = {"num_cpus": available_cores(), "include_dashboard": False}
    with _signals_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to developers of Ray programs
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise QuadrateError(
                f"no Ray cluster at {address!r} ({reason[:200]}); `ray start --head` starts one,"
                " and the address 'local' makes one of this machine alone"
            ) from None
    return ray


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it connects; whoever had it cleans up, Ray included."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _queue(ray: Any) -> Any:
    """What jobs report travels through it; it lies on this side, or all would be lost with it."""
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


@contextmanager
def _lost_cluster(ray: Any) -> Iterator[None]:
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise QuadrateError(
            f"the Ray cluster failed ({type(error).__name__}: {reason[:200]}); the same command"
            " goes on from the last checkpoints, on a cluster or without"
        ) from None


def _collect(
    ray: Any, waiting: dict[Any, int], queue: Any, jobs: Sequence[Any], report: Report
) -> list[Outcome]:
    """Take what comes of jobs until none is left in `waiting`; hand on what they report."""
    outcomes: list[Outcome] = [(False, None)] * len(jobs)
    running: set[int] = set()
    while waiting:
        ended, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=_SECONDS)
        before = set(running)
        for kind, number, content in queue.get_nowait_batch(queue.qsize()):
            if kind == _FIRST_REPORT:
                running.add(number)
            elif kind == "report":
                report(content)
            else:
                warnings.warn(content, QuadrateWarning, stacklevel=2)
        for ref in ended:
            number = waiting.pop(ref)
            running.discard(number)
            outcomes[number] = _outcome(ray, ref)
        if running != before:
            report({"running": sum(_points(jobs[number]) for number in running)})
    return outcomes


def _points(job: Any) -> int:
    """How many points a job has: those that are stacked, or one."""
    return len(job) if isinstance(job, list) else 1


def _outcome(ray: Any, ref: Any) -> Outcome:
    """What came of a job that has ended.

    Raises:
        QuadrateError: If a machine cannot read what it is sent.
        Exception: A fault in the job.
    """
    try:
        kind, content = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError):
            raise error.cause from None
        kind, content = "unreadable", error.cause
    except ray.exceptions.RayError as error:
        reason = f"{type(error).__name__}; out of memory?"
        return False, QuadrateError(f"a job was lost {_LOSSES + 1} times ({reason})")
    if kind == "raised":
        raise content
    if kind == "unreadable":
        raise QuadrateError(
            f"machines of the cluster cannot read what they are sent ({content}); install on each"
            " what this one has"
        )
    return content


# The other side -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Setting:
    """What a process of the cluster must have like the one that sends jobs.

    Attributes:
        folder: The working folder, which relative paths start from.
        variables: Environment variables of Quadrate.
        plugins: The plug-ins.
        versions: Those that decide numbers.
        processor: What decides the last bits of numbers.
        witness: A file that stands in the run's folder, if there is one.
    """

    folder: str
    variables: dict[str, str]
    plugins: tuple[str, ...]
    versions: str
    processor: str
    witness: Path | None

    @classmethod
    def of_this_process(cls, witness: Path | None) -> _Setting:
        variables = {n: v for n, v in os.environ.items() if n.startswith("QUADRATE_")}
        return cls(os.getcwd(), variables, loaded_plugins(), _versions(), _processor(), witness)

    def take(self, tell: Callable[[str], object]) -> None:
        """Make this process like the one that sends jobs; tell of doubts.

        Raises:
            QuadrateError: If that cannot be.
        """
        here = f"the machine {os.uname().nodename if hasattr(os, 'uname') else 'of a job'}"
        if (found := _versions()) != self.versions:
            raise QuadrateError(
                f"{here} has {found}, and not {self.versions}: results would depend on where they"
                " are computed; install the same versions"
            )
        if self.witness and not exists(self.witness):
            raise QuadrateError(
                f"{here} does not see {self.witness.parent}; put the run's folder on storage that"
                " all machines share (--runs)"
            )
        if (processor := _processor()) != self.processor:
            tell(
                f"{here} computes with {processor}, the machine that sends jobs with"
                f" {self.processor}: the last bits of results depend on which of them computed them"
            )
        with suppress(OSError):  # a cluster's machine needs none unless paths are relative
            os.chdir(self.folder)
        os.environ.update(self.variables)
        load_plugins(self.plugins)


def _versions() -> str:
    return f"quadrate {__version__}, torch {torch.__version__} and numpy {np.__version__}"


def _processor() -> str:
    has = torch.cpu._is_avx512_bf16_supported()
    return f"{torch.backends.cpu.get_cpu_capability()} {'with' if has else 'without'} bfloat16"


_known: tuple[str, Any] = "", None  # what the jobs of a call share, kept from job to job


def _do(
    setting: _Setting, common: Sequence[Any], number: int, job: Any, queue: Any
) -> tuple[str, Any]:
    """Do a job in a process of the cluster; its reports are in the queue when it ends."""
    import ray

    global _known

    def tell(kind: str, content: Any) -> None:
        queue.put_nowait((kind, number, content))

    tell(_FIRST_REPORT, None)
    with one_thread(), doubts_told(lambda doubt: tell("doubt", doubt)):
        try:
            setting.take(lambda doubt: tell("doubt", doubt))
        except QuadrateError as error:
            return "outcome", (False, error)
        if _known[0] != (name := common[0].hex()):
            _known = "", None  # two at once may be too large
            try:
                _known = name, ray.cloudpickle.loads(ray.get(common[0]))
            except ray.exceptions.RayError:
                raise
            except Exception as error:
                return "unreadable", f"{type(error).__name__}: {error}"
        work, shared = _known[1]
        try:
            return "outcome", outcome_of(work, shared, job, lambda row: tell("report", row))
        except Exception as error:
            return "raised", portable(error)
