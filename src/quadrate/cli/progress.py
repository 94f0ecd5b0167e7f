"""What the command line shows of long work: a bar with losses and time left on a terminal, a line a point elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from quadrate.config import OperatingPoint, Stage
from quadrate.runs import Run

# Off a terminal rich would assume 80 columns and cut tables.
CONSOLE = Console(width=max(110, Console().width))

_SHOWN = {
    **{"mse": "MSE", "cross_entropy_nats": "CE", "critic_gap": "W1", "validation_accuracy": "acc", "distortion_mse": "MSE", "w1_fresh": "W1"},
    **{"distortion": "D", "rate_bits": "bits", "disk_bits": "bits on disk", "bits_per_image": "bits an image", "accuracy": "acc"},
    **{"accuracy_reconstructions": "acc", "accuracy_latents": "acc of latents", "prediction_error": "errors"},
}


class Progress:
    """Takes reports of training or evaluation and shows them.

    Args:
        title: What the bar is called.
        total: How many reports there will be.
    """

    def __init__(self, title: str, total: int) -> None:
        self._console, self._total, self._done, self._started = Console(stderr=True), total, 0, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[losses]}", style="dim"),
        )
        self._bar = Bar(*columns, console=self._console) if self._console.is_terminal else None
        self._task = self._bar.add_task(title, total=total, losses="") if self._bar else None

    @classmethod
    def of_training(cls, run: Run) -> Progress:
        """A bar over the epochs that are still to do."""
        return cls("training", sum(stage.training.epochs for stage, place in _places(run) if not (place / "model.safetensors").exists()))

    @classmethod
    def of_evaluation(cls, run: Run, quick: bool = False) -> Progress:
        """A bar over the points that are still to score."""
        return cls("scoring", sum(not run.is_scored(stage, point, quick) for stage in run.recipe.stages for point in stage.points))

    def __enter__(self) -> Progress:
        if self._bar and self._total:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def report(self, message: dict[str, Any]) -> None:
        """Shows one report."""
        self._done += 1
        losses = " ".join(f"{short} {message[name]:.4f}" for name, short in _SHOWN.items() if message.get(name) is not None)
        if self._bar and self._task is not None:
            self._bar.update(self._task, advance=1, losses=f"{message['point']} {losses}")
        elif message.get("epoch") == message.get("epochs"):
            elapsed = time.monotonic() - self._started
            left = elapsed / self._done * max(self._total - self._done, 0)
            self._console.print(
                f"{message['stage']}/{message['point']}: {losses} [{elapsed:.0f} s, {left:.0f} s left]", highlight=False, soft_wrap=True
            )


class PointProgress(Progress):
    """A bar over points that stand alone, each of which may report on its way."""

    def report(self, message: dict[str, Any]) -> None:
        """Shows one report; it counts if it is the point's last."""
        whole = message.get("epoch") == message.get("epochs")
        self._done -= not whole
        super().report(message)
        if not whole and self._bar and self._task is not None:
            self._bar.update(self._task, advance=-1)


def _places(run: Run) -> list[tuple[Stage, Path]]:
    pairs: list[tuple[Stage, OperatingPoint]] = [(stage, point) for stage in run.recipe.stages for point in stage.points]
    return [(stage, run.place(stage, point)) for stage, point in pairs]
