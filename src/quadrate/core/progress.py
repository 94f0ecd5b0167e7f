"""What long work shows of itself: a bar on a terminal and in notebooks.

Elsewhere nothing, or a line a point where the command line asks for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol

Report = Callable[[dict[str, Any]], None]
Showing = Report | Literal["auto"] | None
"""What takes reports of progress: a function of one's own.

"auto", a bar where there is someone to see it; None, nothing.
"""

_SHOWN = {
    **{
        "mse": "MSE",
        "cross_entropy_nats": "CE",
        "critic_gap": "W1",
        "validation_accuracy": "acc",
        "distortion_mse": "MSE",
        "w1_fresh": "W1",
    },
    **{
        "distortion": "D",
        "rate_bits": "bits",
        "disk_bits": "bits on disk",
        "bits_per_image": "bits an image",
        "accuracy": "acc",
    },
    **{
        "accuracy_reconstructions": "acc",
        "accuracy_latents": "acc of latents",
        "prediction_error": "errors",
    },
}
_BETWEEN_UPDATES = 0.2  # seconds, in notebooks
_lines = ContextVar("lines", default=False)


@contextmanager
def lines_off_terminal() -> Iterator[None]:
    """Within it, work that nobody watches prints a line to stderr as each point is done."""
    before = _lines.set(True)
    try:
        yield
    finally:
        _lines.reset(before)


@contextmanager
def shown(report: Showing, title: str, total: int) -> Iterator[Report]:
    """Where to send reports.

    A report is a dictionary: "stage" and "point" say what it is of, "epoch" and "epochs" (or "step"
    and "steps") how far it is, if it is not done; losses and scores stand beside them under their
    names.

    Args:
        report: What the caller gave.
        title: What the bar is called.
        total: How many points there are to do.
    """
    if callable(report):
        yield report
        return
    display = _display(title, total) if report == "auto" and total else None
    if display is None:
        yield lambda message: None
        return
    progress = _Progress(title, total, display)
    display.start()
    try:
        yield progress.report
    finally:
        display.stop()


class _Display(Protocol):
    """Something to see progress on."""

    def start(self) -> None:
        """Appears."""

    def update(self, done: float, text: str, finished: str | None) -> None:
        """Shows that so many points are done, a text, and a line about a point that has just been finished."""

    def stop(self) -> None:
        """Stays as it is."""


class _Progress:
    """Adds reports up."""

    def __init__(self, title: str, total: int, display: _Display) -> None:
        self._title = title
        self._total = total
        self._display = display
        self._started = time.monotonic()
        self._shares: dict[tuple[Any, Any], float] = {}  # of each point that has been heard of

    def report(self, message: dict[str, Any]) -> None:
        """Shows one report."""
        name = (
            "/".join(str(message[part]) for part in ("stage", "point") if part in message)
            or self._title
        )
        unit = next((unit for unit in ("epoch", "step") if unit in message), None)
        share = message[unit] / message[f"{unit}s"] if unit else 1.0
        self._shares[message.get("stage"), message.get("point")] = share
        done, elapsed = sum(self._shares.values()), time.monotonic() - self._started
        losses = " ".join(
            f"{short} {message[key]:.4f}"
            for key, short in _SHOWN.items()
            if message.get(key) is not None
        )
        left = elapsed / done * max(self._total - done, 0) if done else 0.0
        finished = f"{name}: {losses} [{elapsed:.0f} s, {left:.0f} s left]" if share >= 1 else None
        self._display.update(done, f"{message.get('point', name)} {losses}", finished)


def _display(title: str, total: int) -> _Display | None:
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            return _Bar(title, total)
        except ImportError:  # machines to train on may lack rich
            return _Lines()
    if _in_notebook():
        return _Cell(title, total)
    return _Lines() if _lines.get() else None


def _in_notebook() -> bool:
    """Whether this is a kernel whose output is shown below a cell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell" or type(shell).__module__.startswith(
        "google.colab"
    )


class _Bar:
    """On a terminal."""

    def __init__(self, title: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[points]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[text]}", style="dim", markup=False),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._points, self._total = 0, total
        self._task = self._bar.add_task(title, total=total, text="", points=f"0/{total}")

    def start(self) -> None:
        """Appears."""
        self._bar.start()

    def update(self, done: float, text: str, finished: str | None) -> None:
        """Moves on."""
        self._points += finished is not None
        self._bar.update(
            self._task, completed=done, text=text, points=f"{self._points}/{self._total}"
        )

    def stop(self) -> None:
        """Stays as it is."""
        self._bar.stop()


class _Cell:
    """In a notebook, without widgets: a line of text that changes in its place."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._shown = title, total, 0.0
        self._handle: Any = None

    def start(self) -> None:
        """Appears."""
        from IPython.display import display  # type: ignore[import-not-found]

        self._handle = display(self._line(0.0, ""), raw=True, display_id=True)

    def update(self, done: float, text: str, finished: str | None) -> None:
        """Moves on, but not at each of many reports."""
        if finished or time.monotonic() - self._shown > _BETWEEN_UPDATES:
            self._handle.update(self._line(done, text), raw=True)
            self._shown = time.monotonic()

    def stop(self) -> None:
        """Stays as it is."""

    def _line(self, done: float, text: str) -> dict[str, str]:
        filled = int(24 * done / self._total)
        return {
            "text/plain": (
                f"{self._title} {'█' * filled}{'░' * (24 - filled)} {done:.1f} of {self._total}"
                f" {text}"
            )
        }


class _Lines:
    """A line a point on stderr."""

    def start(self) -> None:
        """Appears only with the first line."""

    def update(self, done: float, text: str, finished: str | None) -> None:
        """Prints what is finished."""
        if finished:
            print(finished, file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Nothing is left to print."""
