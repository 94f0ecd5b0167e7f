"""Curves, scores and pictures for Weights & Biases, a run a point and a group a run's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quadrate.core.digests import digest
from quadrate.core.logs.log import Log, needed
from quadrate.errors import QuadrateError


class WandbLog(Log):
    """Runs of the project "quadrate", or of `WANDB_PROJECT`; `WANDB_MODE=offline` keeps them here.

    A run's identity comes from the folder and the point, so that a training that goes on continues
    its run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._wandb, self._runs = self.check(), dict[str, Any]()
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def check(cls) -> Any:
        """Import wandb."""
        return needed("wandb", "wandb")

    def curve(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
        """Log a step."""
        self._run(name).log(dict(numbers), step=step)

    def scores(self, name: str, numbers: Mapping[str, float]) -> None:
        """Put the scores into the run's summary."""
        self._run(name).summary.update({f"scores/{key}": value for key, value in numbers.items()})

    def picture(self, name: str, title: str, path: Path) -> None:
        """Log a picture."""
        self._run(name).log({title: self._wandb.Image(str(path))})

    def close(self) -> None:
        """Finish the runs."""
        for run in self._runs.values():
            run.finish()

    def _run(self, name: str) -> Any:
        if name not in self._runs:
            group = self.folder.parent.parent.name  # the run's folder
            try:
                self._runs[name] = self._wandb.init(
                    project=os.environ.get("WANDB_PROJECT", "quadrate"),
                    group=group,
                    name=name or group,
                    id=digest(group, name),
                    resume="allow",
                    reinit="create_new",
                    dir=str(self.folder),
                )
            except Exception as error:  # of its own kinds, or of the network
                reason = " ".join(str(error).split())[:300]
                raise QuadrateError(
                    f"Weights & Biases does not start ({reason}): run `wandb login`, or set"
                    " WANDB_MODE=offline"
                ) from None
        return self._runs[name]
