"""Progress of long work: a bar on a terminal and in notebooks.

Elsewhere nothing is shown, or a line for each point where the command line asks for it.
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
"""Where reports of progress go: to a function, to a bar if someone watches ("auto"), or nowhere."""

# Losses and scores by their short names.
_SHOWN = {
    **{"mse": "MSE", "cross_entropy_nats": "CE", "critic_gap": "W1", "validation_accuracy": "acc"},
    **{"distortion_mse": "MSE", "w1_fresh": "W1", "distortion": "D", "rate_bits": "bits"},
    **{"disk_bits": "bits on disk", "bits_per_image": "bits an image", "accuracy": "acc"},
    **{"accuracy_reconstructions": "acc", "accuracy_latents": "acc of latents"},
    "prediction_error": "errors",
}
_BETWEEN_UPDATES = 0.2  # seconds, in notebooks
_lines = ContextVar("lines", default=False)


@contextmanager
def lines_off_terminal() -> Iterator[None]:
    """Within it, work that nobody watches prints a line to stderr after each point."""
    before = _lines.set(True)
    try:
        yield
    finally:
        _lines.reset(before)


@contextmanager
def shown(report: Showing, title: str, total: int) -> Iterator[Report]:
    """A function to send reports to.

    A report is a dictionary. It has "stage" and "point", "epoch" and "epochs" (or "step" and
    "steps") unless the point is done, and losses and scores under their names. Or it has "running"
    alone: how many points run now, where others than those heard of may.

    Args:
        report: Where the caller wants reports to go.
        title: The bar's title.
        total: The number of points.
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


def both(first: Report, second: Report) -> Report:
    """A function that sends reports to two others."""

    def report(message: dict[str, Any]) -> None:
        first(message)
        second(message)

    return report


class _Display(Protocol):
    """Shows progress.

    `points` says how many are done, run and wait, `text` what was reported last, `finished` is a
    line about a point that has just been finished.
    """

    def start(self) -> None: ...

    def update(self, done: float, points: str, text: str, finished: str | None) -> None: ...

    def stop(self) -> None: ...


class _Progress:
    """Adds reports up."""

    def __init__(self, title: str, total: int, display: _Display) -> None:
        self._title = title
        self._total = total
        self._display = display
        self._started = time.monotonic()
        self._shares: dict[tuple[Any, Any], float] = {}  # of each point that has been heard of
        self._running, self._text = 0, ""

    def report(self, message: dict[str, Any]) -> None:
        """Shows one report."""
        if "running" in message:
            self._running = message["running"]
            self._display.update(sum(self._shares.values()), self._points(), self._text, None)
            return
        parts = [str(message[part]) for part in ("stage", "point") if part in message]
        name = "/".join(parts) or self._title
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
        points, self._text = self._points(), f"{message.get('point', name)} {losses}"
        finished = f"{name}: {losses} [{points}; {elapsed:.0f} s, {left:.0f} s left]"
        self._display.update(done, points, self._text, finished if share >= 1 else None)

    def _points(self) -> str:
        """How many points are done, run and wait."""
        done = sum(share >= 1 for share in self._shares.values())
        begun = max(self._running, len(self._shares) - done)
        running = max(0, min(begun, self._total - done))
        waiting = max(0, self._total - done - running)
        return f"{done}/{self._total}, {running} running, {waiting} waiting"


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
    """Whether output is shown below a cell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    kind = type(shell)
    return kind.__name__ == "ZMQInteractiveShell" or kind.__module__.startswith("google.colab")


class _Bar:
    """A bar on a terminal."""

    def __init__(self, title: str, total: int) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[points]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(elapsed_when_finished=False),
            progress.TextColumn("{task.fields[text]}", style="dim", markup=False),
        )
        self._bar = progress.Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(title, total=total, text="", points=f"0/{total}")
        self.start, self.stop = self._bar.start, self._bar.stop

    def update(self, done: float, points: str, text: str, finished: str | None) -> None:
        self._bar.update(self._task, completed=done, text=text, points=points)


class _Cell:
    """A line of text below a cell of a notebook, which changes in place."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._shown = title, total, 0.0
        self._handle: Any = None

    def start(self) -> None:
        from IPython.display import display  # type: ignore[import-not-found]

        self._handle = display(self._line(0.0, ""), raw=True, display_id=True)

    def update(self, done: float, points: str, text: str, finished: str | None) -> None:
        if finished or time.monotonic() - self._shown > _BETWEEN_UPDATES:
            self._handle.update(self._line(done, text), raw=True)
            self._shown = time.monotonic()

    def stop(self) -> None:
        pass

    def _line(self, done: float, text: str) -> dict[str, str]:
        filled = int(24 * done / self._total)
        bar = f"{'█' * filled}{'░' * (24 - filled)}"
        return {"text/plain": f"{self._title} {bar} {done:.1f} of {self._total} {text}"}


class _Lines:
    """A line on stderr for each point."""

    def start(self) -> None:
        pass

    def update(self, done: float, points: str, text: str, finished: str | None) -> None:
        if finished:
            print(finished, file=sys.stderr, flush=True)

    def stop(self) -> None:
        pass
