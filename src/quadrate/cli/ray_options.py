"""Options of `train`, `evaluate` and `reproduce` for a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quadrate.errors import UsageError

if TYPE_CHECKING:
    from quadrate.experiments.runs.kind import Workers


@dataclass(frozen=True)
class RayOptions:
    """Which cluster, and what a job takes of its machines.

    Attributes:
        address: With --execution ray: auto (the default: the cluster that this machine is part of),
            local (one of this machine alone), HOST:PORT, or ray://HOST:PORT.
        gpus: With --execution ray and --device cuda: the share of a GPU that a job takes (1 by
            default); at 0.5 each GPU has two.
    """

    address: str | None = None
    gpus: float | None = None

    def workers(self, execution: str, workers: int | None) -> Workers:
        """Return where jobs run, as `workers` of `Run.train`.

        Raises:
            UsageError: If options do not go together.
        """
        if execution != "ray":
            for name in ("address", "gpus"):
                if getattr(self, name) is not None:
                    raise UsageError(f"--{name} goes with --execution ray; give both or neither")
            return workers
        if workers is not None:
            raise UsageError(
                "--workers counts processes of this machine, and a cluster runs as many jobs as it"
                " has room for: leave --workers out"
            )
        from quadrate.training import Cluster

        return Cluster(self.address or "auto", 1.0 if self.gpus is None else self.gpus)


def on_one_machine(execution: str) -> Any:
    """Return how points run, as `execution` of `Run.train`; on a cluster the device decides."""
    return "auto" if execution == "ray" else execution
