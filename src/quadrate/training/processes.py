"""Independent jobs over one-thread processes, one after another in this one, or elsewhere.

One call for all: what runs them elsewhere, such as `quadrate.training.cluster`, is an `Executor`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from quadrate.core.plugins import load_plugins, loaded_plugins
from quadrate.core.progress import Report
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.training.main_module import importing_main, is_safe_to_import, started_without_main

Work = Callable[[Any, Any, Report], Any]
Outcome = tuple[bool, Any]
"""Whether a job is done, and its result or its error."""


class Executor(Protocol):
    """Runs jobs elsewhere than in processes of this machine."""

    def at(self, folder: Path, on_gpu: bool) -> Executor:
        """Return the executor of jobs that write into a folder, and may compute on a GPU."""

    @property
    def room(self) -> int:
        """How many jobs run at a time, 1 at least."""

    def outcomes(
        self, work: Work, shared: Any, jobs: Sequence[Any], report: Report
    ) -> list[Outcome]:
        """Run `work(shared, job, report)` for each job, on one thread; return what came of each."""


def available_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    work: Work, shared: Any, jobs: Sequence[Any], workers: int | Executor, report: Report
) -> list[Any]:
    """Run `work(shared, job, report)` for each job; return the results in the order of the jobs.

    Each job runs on one thread, here if there is one worker, otherwise in one of `workers`
    processes, so that the numbers are the same either way. Where other processes cannot have what
    the jobs need, a warning says why, and all jobs run here. A job that fails does not stop the
    others. What jobs warn of (`QuadrateWarning`) is warned of in this process.

    Args:
        work: A function that can be pickled, as `shared` and the jobs can.
        shared: What all jobs need; sent to each process once.
        jobs: What differs.
        workers: How many processes at most, or what runs jobs elsewhere.
        report: Takes the progress that the jobs report, in this process.

    Raises:
        QuadrateError: After all the others are done, if a job failed: the first failure, and how
            many there were. At once, if a process was killed, or if this is a new process that is
            still importing the script that it was made for.
    """
    if importing_main():
        raise QuadrateError(
            "a new process that imports this script would run it again; do the work below `if"
            " __name__ == '__main__':`"
        )
    if not isinstance(workers, int):
        return _results(workers.outcomes(work, shared, jobs, report)) if jobs else []
    workers = min(workers, len(jobs))
    if (
        workers > 1 and not multiprocessing.current_process().daemon
    ):  # such a one, as our workers are, may start no others
        try:
            return _results(_run_in_processes(work, shared, jobs, workers, report))
        except _CannotTravel as reason:
            warnings.warn(
                f"all work is done in this process, one job after another: {reason}",
                QuadrateWarning,
                stacklevel=2,
            )
    return _results(_run_here(work, shared, jobs, report))


class _CannotTravel(Exception):
    """Other processes cannot have what the jobs need."""


def _results(outcomes: Sequence[Outcome]) -> list[Any]:
    failures = [error for done, error in outcomes if not done]
    if failures:
        more = (
            f" ({len(failures)} of {len(outcomes)} failed; the others are done)"
            if len(outcomes) > 1
            else ""
        )
        raise QuadrateError(f"{failures[0]}{more}")
    return [result for _, result in outcomes]


def _run_here(work: Work, shared: Any, jobs: Sequence[Any], report: Report) -> list[Outcome]:
    with one_thread():
        return [outcome_of(work, shared, job, report) for job in jobs]


def outcome_of(work: Work, shared: Any, job: Any, report: Report) -> Outcome:
    """Do a job; a `QuadrateError` is an outcome, too."""
    try:
        return True, work(shared, job, report)
    except QuadrateError as error:
        return False, error


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch's operators.

    Sums split over threads round otherwise, and two processes with two threads each stall each
    other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# This side ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Worker:
    """A process, and this end of the pipe to it."""

    process: SpawnProcess
    pipe: Connection

    def send(self, message: bytes) -> None:
        """Sends a message; that nobody is there to read it shows when the answer is awaited."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(message)

    def receive(self) -> tuple[str, Any]:
        """A message: its kind, and what it says."""
        try:
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):  # also in the middle of a message
            self.process.join()
            return "ended", self.process.exitcode


def _run_in_processes(
    work: Work, shared: Any, jobs: Sequence[Any], workers: int, report: Report
) -> list[Outcome]:
    """The outcomes of the jobs; each process takes the next job when it is done with one.

    Raises:
        _CannotTravel: If the processes cannot read what they need, or cannot start.
        QuadrateError: If a process was killed.
    """
    try:
        common = pickle.dumps(
            (work, shared)
        )  # by value: shared memory, torch's own way, is 64 MB in many containers
        messages = [pickle.dumps(job) for job in jobs]
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _CannotTravel(
            f"{error}; define it at the top level of a module to have it done in several"
        ) from None
    with_main = any(
        b"__main__" in message for message in (common, *messages)
    )  # as the module of something that pickle refers to by name
    if with_main and not is_safe_to_import():
        raise _CannotTravel(
            "it needs what is defined in this script; to have it done in several, do the work below"
            " `if __name__ == '__main__':`"
        )
    outcomes: list[Outcome] = [(False, None)] * len(jobs)
    waiting, busy = list(enumerate(messages)), dict[Connection, tuple[_Worker, int]]()
    with _started(workers, with_main) as started:
        for worker in started:
            worker.send(common)
            busy[worker.pipe] = (worker, -1)
        del common  # it may be as large as the data
        while busy:
            for pipe in wait(list(busy)):
                worker, number = busy[pipe]  # type: ignore[index]
                kind, content = worker.receive()
                if kind in ("report", "doubt"):
                    (
                        report(content)
                        if kind == "report"
                        else warnings.warn(content, QuadrateWarning, stacklevel=1)
                    )
                    continue
                if kind == "outcome":
                    outcomes[number] = content
                elif kind != "ready":
                    raise _failure(kind, content, started=number >= 0)
                del busy[worker.pipe]
                if waiting:
                    number, message = waiting.pop(0)
                    worker.send(message)
                    busy[worker.pipe] = (worker, number)
    return outcomes


def _failure(kind: str, content: Any, started: bool) -> Exception:
    """What to raise when a process tells of anything but an outcome, or ends."""
    if kind == "raised":
        return content
    if kind == "unreadable":
        return _CannotTravel(
            f"other processes cannot read what they are sent ({content}); define it in a module"
            " that can be imported"
        )
    if not started and content is not None and content > 0:
        return _CannotTravel("other processes do not start; their own messages stand above")
    ended = (
        "was killed (out of memory?)"
        if content is None or content < 0
        else f"ended with exit code {content}"
    )
    return QuadrateError(
        f"a worker process {ended}; the same command resumes from the last checkpoints"
    )


@contextmanager
def _started(count: int, with_main: bool) -> Iterator[list[_Worker]]:
    """Processes that wait for what they shall do; whatever happens, none of them outlives this."""
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        with _uninterrupted(), started_without_main(not with_main):
            for _ in range(count):
                pipe, theirs = context.Pipe()
                process = context.Process(
                    target=_serve, args=(theirs, loaded_plugins()), daemon=True
                )
                workers.append(_Worker(process, pipe))
                process.start()
                theirs.close()  # the process has its own, and the pipe breaks when that is gone
        yield workers
    except BaseException:
        for worker in workers:
            if worker.process.pid is not None:
                worker.process.terminate()
        raise
    finally:
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            if worker.process.pid is not None:
                worker.process.join(5)
                worker.process.kill()  # one that does not end of itself
                worker.process.join()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds signals to end back while processes are started, here until they are.

    A half-started one would end in a traceback.

    From the processes it holds Ctrl-C and the end of the terminal back for good: these reach all at
    once, and the parent ends its own.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Python starts it with the first process, and lets Ctrl-C through again when it has
    resource_tracker.ensure_running()
    held: list[int] = []
    handlers = {}
    if (
        threading.current_thread() is threading.main_thread()
    ):  # others may take a signal, but its handler runs in this one
        ours = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if callable(signal.getsignal(number))
        ]
        handlers = {
            number: signal.signal(number, lambda number, frame: held.append(number))
            for number in ours
        }
    mask = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP}
    )  # new processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


# The other side -----------------------------------------------------------------------------------


def _serve(pipe: Connection, plugins: tuple[str, ...]) -> None:
    """The life of a worker.

    Loads the plug-ins that its parent has, reads what all jobs share, then does one job after
    another.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes at once, and the parent ends its own
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)

    def tell(kind: str, content: Any) -> None:
        try:
            pipe.send_bytes(pickle.dumps((kind, content)))
        except OSError:  # the parent is gone, and nobody reads
            os._exit(1)

    with doubts_told(lambda doubt: tell("doubt", doubt)):
        try:
            load_plugins(plugins)
            work, shared = pickle.loads(pipe.recv_bytes())
        except Exception as error:
            tell("unreadable", f"{type(error).__name__}: {error}")
            return
        tell("ready", None)
        while True:
            try:
                job = pickle.loads(pipe.recv_bytes())
            except (EOFError, OSError):  # nothing is left to do, or the parent is gone
                return
            try:
                done = outcome_of(work, shared, job, lambda message: tell("report", message))
                tell("outcome", done)
            except Exception as error:
                tell("raised", portable(error))


@contextmanager
def doubts_told(tell: Callable[[str], object]) -> Iterator[None]:
    """Hand Quadrate's warnings over, to be shown where the caller sees them; show others here."""
    with warnings.catch_warnings():
        others: Any = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, QuadrateWarning):
                tell(str(message))
            else:
                others(message, category, *place)

        setattr(warnings, "showwarning", show)  # noqa: B010 (its declared type is more than it is called with)
        warnings.simplefilter("always", QuadrateWarning)  # the caller's filters decide
        yield


def portable(error: Exception) -> Exception:
    """Return an error with its traceback as a note, as it can be sent."""
    error.add_note(f"in a worker process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    """A worker whose parent was killed would work on for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
