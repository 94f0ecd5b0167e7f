"""Writing a folder of shards: the shards first, one by one, then the manifest."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from quadrate.coding.container.lock import locked
from quadrate.coding.container.manifest import Manifest, Shard, shard_name
from quadrate.coding.container.reader import Reader
from quadrate.core.files import exists, read_json, shown, write_text
from quadrate.core.remote import Place, Url
from quadrate.errors import QuadrateError

_MARK = ".quadrate-unfinished.json"


class ShardFolder:
    """A folder that gets shards, and its manifest when all of them are there; a context manager.

    While it is not finished, a file in it says what is asked for. So the same question finishes it,
    and no other does: the shards in it are whole, since each appears under its name when it is.

    Args:
        root: A folder that does not exist, is empty, or was left unfinished by the same question;
            to append, one with a manifest.
        asked: What decides the shards, as JSON has it.
        append: Whether to add shards to those that are there, which are not touched.

    Attributes:
        first: The number of the first shard to write.

    Raises:
        QuadrateError: If the folder cannot be made, is another one than these, or another program
            is writing to it.
    """

    def __init__(self, root: Place, asked: dict[str, Any], append: bool = False) -> None:
        self._root, self._append = root, append
        self._before = Manifest.read(root) if append else None
        self.first = len(self._before.shards) if self._before else 0
        self._asked = json.loads(json.dumps({**asked, "first": self.first}, default=str))
        self._mark, self._stack, self._made = root / _MARK, ExitStack(), False

    def __enter__(self) -> ShardFolder:
        try:
            self._made = not exists(self._root)
            self._root.mkdir(parents=True, exist_ok=True)
            holds = any(self._root.iterdir())
        except OSError as error:
            raise QuadrateError(
                f"cannot write {shown(self._root)}: {error.strerror}; choose another place"
            ) from None
        if self._mark.is_file():
            if read_json(self._mark) != self._asked:
                raise QuadrateError(
                    f"{self._root} was begun from other samples, or with other options; give the"
                    " same command to finish it, or a new folder"
                )
        elif holds and not self._append:
            raise QuadrateError(f"{self._root} is not empty; give a new folder, or --append")
        else:
            write_text(self._mark, json.dumps(self._asked))
        if not isinstance(self._mark, Url):  # which has no locks
            self._stack.enter_context(locked(self._mark))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if kind is not None and not exists(self.path(self.first)):  # nothing is left of what
            with suppress(OSError, QuadrateError):  # did not begin
                self._mark.unlink()
                if self._made:
                    self._root.rmdir()

    def path(self, number: int) -> Place:
        """Where a shard belongs."""
        return self._root / shard_name(number)

    def finish(self, shards: list[Shard], classes: tuple[str, ...] | None = None) -> None:
        """Write the manifest, which makes the shards count.

        Args:
            shards: All new shards, in order.
            classes: The names of the classes, where labels are numbers of class folders.

        Raises:
            QuadrateError: If shards do not go together, or it cannot be written.
        """
        headers = []
        for number in range(self.first, self.first + len(shards)):
            with Reader(self.path(number)) as reader:
                headers.append(reader.header)
        before = self._before or Manifest(headers[0], (), classes)
        manifest = Manifest(before.header, (*before.shards, *shards), before.classes)
        for number, header in enumerate(headers, self.first):
            if header != manifest.header_of(number):
                raise QuadrateError(
                    f"{self.path(number)} holds other side data or samples than the shards before"
                    " it; compress what does not go together into folders of its own"
                )
        manifest.write(self._root)
        self._mark.unlink(missing_ok=True)
