"""A codec taken apart for its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from quadrate.codecs.familiarity import Familiarity

States = dict[str, dict[str, Tensor]]
"""State dicts by role."""


@dataclass
class Parts:
    """A codec taken apart for its file.

    Attributes:
        metadata: Texts by name; "format" and "kind" are the file's own.
        states: Tensors by role and name.
        familiarity: The codec's.
    """

    metadata: dict[str, str]
    states: States = field(repr=False)
    familiarity: Familiarity | None = None

    def arrays(self, role: str) -> dict[str, NDArray[Any]]:
        """The tensors of a role, which are no network's, as arrays."""
        return {name: tensor.numpy() for name, tensor in self.states.pop(role).items()}
