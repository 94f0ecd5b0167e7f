"""Wall and processor seconds of a piece of work, its child processes included."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Seconds:
    """What a piece of work took.

    Attributes:
        wall: Seconds on the clock.
        cpu: Processor seconds, user and system, of all threads of this process and of the child
            processes that the work started and waited for. A child counts from its very start, so
            its interpreter and its imports are in it.
    """

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Seconds:
    """Does the work and says what it took; work that was left to a GPU is waited for."""
    _wait_for_gpu()
    wall, cpu = time.monotonic(), _cpu_seconds()
    work()
    _wait_for_gpu()
    return Seconds(time.monotonic() - wall, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
