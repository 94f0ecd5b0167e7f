"""Curves, scores and pictures for TensorBoard, which shows each point as a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quadrate.core.logs.log import Log, needed


class TensorboardLog(Log):
    """Event files, a folder a point: `tensorboard --logdir RUN/logs/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from torch.utils.tensorboard import SummaryWriter

        self._make, self._writers = SummaryWriter, dict[str, Any]()

    @classmethod
    def check(cls) -> Any:
        """Import tensorboard."""
        return needed("tensorboard", "tensorboard")

    def curve(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
        """Add a scalar a number."""
        writer = self._writer(name)
        for key, value in numbers.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    def scores(self, name: str, numbers: Mapping[str, float]) -> None:
        """Add a scalar a score, below `scores`; those of a later evaluation stand after them."""
        self.curve(name, 0, {f"scores/{key}": value for key, value in numbers.items()})

    def picture(self, name: str, title: str, path: Path) -> None:
        """Add a picture."""
        from PIL import Image

        with Image.open(path, formats=("PNG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
        writer = self._writer(name)
        writer.add_image(title, pixels, 0, dataformats="HWC")
        writer.flush()

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            self._writers[name] = self._make(str(self.folder / name))
        return self._writers[name]
