"""Independent jobs over one-thread processes, behind the same call as running them here one after another."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Event, Thread, current_thread, main_thread
from typing import Any

import torch

from quadrate.errors import QuadrateError

Report = Callable[[dict[str, Any]], None]
Work = Callable[[Any, Any, Report], Any]

_worker: dict[str, Any] = {}


def available_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(work: Work, shared: Any, jobs: Sequence[Any], workers: int, report: Report) -> list[Any]:
    """Runs `work(shared, job, report)` for each job and returns the results in the order of the jobs.

    Each job runs on one thread, here if there is one worker, otherwise in one of `workers` processes, so that the numbers are the same either way.
    A job that fails does not stop the others.

    Args:
        work: A function that can be pickled, as `shared` and the jobs can.
        shared: What all jobs need; sent to each process once.
        jobs: What differs.
        workers: How many processes at most.
        report: Takes the progress that the jobs report, in this process.

    Raises:
        QuadrateError: After all the others are done, if a job failed: the first failure, and how many there were. At once, if a process was killed or
            could not be started.
    """
    workers = min(workers, len(jobs))
    failures: list[QuadrateError] = []
    results: list[Any] = [None] * len(jobs)
    if workers <= 1:
        with one_thread():
            for i, job in enumerate(jobs):
                try:
                    results[i] = work(shared, job, report)
                except QuadrateError as error:
                    failures.append(error)
    else:
        with _workers(work, shared, workers, report) as pool:
            with _uninterrupted():
                futures: dict[Future[Any], int] = {pool.submit(_run, job): i for i, job in enumerate(jobs)}
            for future in as_completed(futures):
                try:
                    results[futures[future]] = future.result()
                except QuadrateError as error:
                    failures.append(error)
    if failures:
        more = f" ({len(failures)} of {len(jobs)} failed; the others are done)" if len(jobs) > 1 else ""
        raise QuadrateError(f"{failures[0]}{more}")
    return results


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch's operators: sums split over threads round otherwise, and two processes with two threads each stall each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds signals to end back while processes are started, here until they are: a half-started one would end in a traceback.

    From the processes it holds Ctrl-C and the end of the terminal back for good: these reach all at once, and the parent ends its own.
    """
    if current_thread() is not main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held: list[int] = []
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ours = [number for number in ends if callable(signal.getsignal(number))]  # others kill at once, or are ignored, and stay so
    handlers = {number: signal.signal(number, lambda number, frame: held.append(number)) for number in ours}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})  # new processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


@contextmanager
def _workers(work: Work, shared: Any, count: int, report: Report) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that run `work` on `shared`; whatever happens, none of them outlives this."""
    try:
        pickled = pickle.dumps((work, shared))  # by value: shared memory, torch's own way, is 64 MB in many containers
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise QuadrateError(f"{error}; what several processes share must be defined at the top level of a module, or run with one worker") from None
    context = multiprocessing.get_context("spawn")
    messages, done, failures = context.Queue(), Event(), list[Exception]()
    listener = Thread(target=_listen, args=(messages, report, done, failures), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(count, context, _start, (pickled, messages))
    try:
        yield pool
    except BaseException as error:
        processes = list((pool._processes or {}).values())
        for process in processes:
            process.terminate()
        pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise QuadrateError(_why_broken([process.exitcode for process in processes])) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        done.set()
        listener.join()
        messages.close()
    if failures:
        raise failures[0]


def _why_broken(exit_codes: list[int | None]) -> str:
    """What to tell of a pool that lost a process: one killed from outside has a negative code, one that never got going a positive one."""
    if any(code is not None and code > 0 for code in exit_codes):
        return "the worker processes could not start; a script must do its work below `if __name__ == '__main__':`, or run with one worker"
    return "a worker process was killed (out of memory?); the same command resumes from the last checkpoints"


def _start(pickled: bytes, messages: Any) -> None:
    """Makes a new process ready to work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes at once, and the parent ends its own
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker["report"] = messages.put
    try:
        _worker["work"], _worker["shared"] = pickle.loads(pickled)
    except Exception as error:
        _worker["broken"] = f"{type(error).__name__}: {error}"


def _run(job: Any) -> Any:
    if "broken" in _worker:
        reason = f"a worker process cannot read what it was sent ({_worker['broken']})"
        raise QuadrateError(f"{reason}; define it in a module that can be imported, or run with one worker")
    return _worker["work"](_worker["shared"], job, _worker["report"])


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _listen(messages: Any, report: Report, done: Event, failures: list[Exception]) -> None:
    """Hands on what the workers report, until they are done, or `report` fails; then it only empties the queue, lest the workers wait to fill it.

    It ends by an event and not by a last message, as a process that was killed may hold the queue's lock for writing for ever.
    """
    while True:
        try:
            message = messages.get(timeout=0.1)
        except queue.Empty:
            if done.is_set():
                return
            continue
        try:
            if not failures:
                report(message)
        except Exception as error:
            failures.append(error)
