"""What all logs share: which numbers of a report they get, and each number once.

A log is a view of a run's folder: it says nothing that the folder does not hold. Next to what it
has written stands how far it is, so that a training that was interrupted draws no curve twice.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from quadrate.core.digests import digest
from quadrate.core.fields import is_number
from quadrate.core.files import Closing, exists, read_bytes, read_json, write_text
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError

_PLACES = (
    "epoch",
    "epochs",
    "step",
    "steps",
    "stage",
    "point",
)  # of a report; the rest is measured


class Log(Closing):
    """One destination, below a folder of its own.

    Args:
        folder: Where its files go, inside a run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def check(cls) -> Any:
        """Raise a QuadrateError if the package that it needs is not installed."""

    @abstractmethod
    def curve(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
        """Add a step to the curves of a point, "stage/point", for good before it returns."""

    def scores(self, name: str, numbers: Mapping[str, float]) -> None:  # noqa: B027
        """Take the scores of a point."""

    def picture(self, name: str, title: str, path: Path) -> None:  # noqa: B027
        """Take a PNG of a point, or of the run (`name` is empty then)."""

    def close(self) -> None:
        """End it."""


def _named(module: str, name: str) -> Callable[[], type[Log]]:
    """A class that is imported, with the package that it needs, when it is asked for."""
    return lambda: getattr(import_module(f"quadrate.core.logs.{module}"), name)


LOGS: Registry[Callable[[], type[Log]]] = Registry(
    "log",
    {
        "csv": _named("csv_log", "CsvLog"),
        "tensorboard": _named("tensorboard_log", "TensorboardLog"),
        "wandb": _named("wandb_log", "WandbLog"),
    },
)


def find_logs(names: Sequence[str]) -> dict[str, type[Log]]:
    """The classes of logs by name, in the order given, each once.

    Raises:
        QuadrateError: If there is no such log, or the package that it needs is not installed.
    """
    found = {name: LOGS.find(name)() for name in names}
    for kind in found.values():
        kind.check()
    return found


def needed(package: str, extra: str) -> Any:
    """Import a package that a log needs.

    Raises:
        QuadrateError: If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise QuadrateError(
            f"--log {extra} needs {package}, which cannot be imported ({error}): pip install"
            f" 'quadrate[{extra}]' -c constraints.txt"
        ) from None


class Logs(Closing):
    """Several logs of a run, each told every step once.

    Args:
        classes: What `find_logs` gave.
        folder: The run's folder; the logs are in its folder `logs`.
    """

    def __init__(self, classes: Mapping[str, type[Log]], folder: Path) -> None:
        self._logs = [_Once(kind(folder / "logs" / name)) for name, kind in classes.items()]

    def report(self, message: Mapping[str, Any]) -> None:
        """Take a report of progress (`quadrate.core.progress`)."""
        name = "/".join(str(message[part]) for part in ("stage", "point") if message.get(part))
        step = message.get("epoch", message.get("step"))
        numbers = {key: float(value) for key, value in message.items() if _is_measured(key, value)}
        if name and numbers:
            for log in self._logs:
                log.scores(name, numbers) if step is None else log.curve(name, step, numbers)

    def picture(self, name: str, path: Path) -> None:
        """Take a PNG of a point, "stage/point", or of the run, "", unless they have it."""
        for log in self._logs:
            log.picture(name, path)

    def close(self) -> None:
        """End them."""
        for log in self._logs:
            log.log.close()


def _is_measured(name: str, value: Any) -> bool:
    return name not in _PLACES and is_number(value)


class _Once:
    """A log that is told only what it does not have."""

    def __init__(self, log: Log) -> None:
        self.log, self._path = log, log.folder / "written.json"
        self._written: dict[str, Any] = {}
        if exists(self._path):
            found = read_json(self._path)
            self._written = found if isinstance(found, dict) else {}

    def curve(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
        key = f"curve {name}"
        if step > self._written.get(key, -1):
            self.log.curve(name, step, numbers)
            self._keep(key, step)

    def scores(self, name: str, numbers: Mapping[str, float]) -> None:
        key, content = f"scores {name}", digest(json.dumps(numbers, sort_keys=True))
        if self._written.get(key) != content:
            self.log.scores(name, numbers)
            self._keep(key, content)

    def picture(self, name: str, path: Path) -> None:
        key, content = f"picture {name}/{path.stem}", digest(read_bytes(path).hex())
        if self._written.get(key) != content:
            self.log.picture(name, path.stem, path)
            self._keep(key, content)

    def _keep(self, key: str, value: Any) -> None:
        self._written[key] = value
        write_text(self._path, json.dumps(self._written, indent=1) + "\n")
