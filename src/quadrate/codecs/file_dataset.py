"""What data sets over .quad files share: one open file a process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from operator import index
from typing import Any

import torch

from quadrate.errors import QuadrateError


class FileDataset(torch.utils.data.Dataset[Any]):
    """A data set over an open file, `_file`, which `_open` opens.

    It may be sent to other processes: each opens the file for itself, and keeps what it decodes.
    """

    _file: Any
    _OPENED = frozenset(("_file", "_cache"))  # what a process has for itself

    @abstractmethod
    def _open(self) -> None:
        """Open the file."""

    @abstractmethod
    def __len__(self) -> int: ...

    def batch(self, numbers: Sequence[int]) -> Any:
        """Read some samples together, as a loader's default makes a batch of them.

        Args:
            numbers: Of n samples, in any order.

        Returns:
            A tensor (n, …), or a pair with the labels (n,) where samples have labels.

        Raises:
            IndexError: If there is no such sample.
            QuadrateError: If one is damaged.
        """
        return torch.utils.data.default_collate([self[number] for number in numbers])

    def _checked(self, number: int) -> int:
        """A sample's number, counted from the start."""
        number = index(number)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")  # what ends a for loop
        return number % len(self)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in self.__dict__.keys() - self._OPENED}
        return own | {"_file_id": self._file.reader.file_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        file_id = state.pop("_file_id")
        self.__dict__ |= state
        self._open()
        if self._file.reader.file_id != file_id:
            raise QuadrateError(
                f"{self._file.name} is another file than when the data set was made; open it anew"
            )

    def __del__(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()
