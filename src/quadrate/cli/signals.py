"""What the command line makes of Ctrl-C, of a terminal that is closed, and of being asked to end.

It cleans up, and says so in one line.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_PATIENCE_SECONDS = 2.0  # that cleaning up may take before a second signal ends it


class Interruptions:
    """Turns the first signal that asks to end into KeyboardInterrupt, so that work cleans up.

    Further ones are ignored for two seconds, in which cleaning up must not be disturbed, and then
    end the process at once. Signals that are ignored when it begins (nohup, jobs in the background)
    stay ignored.

    Args:
        own: Whether the process is the command line's own. Then a signal during the imports, when
            there is nothing to clean up, ends it at once: an exception could be lost in an import.
            And what comes after the end kills it without a word.

    Attributes:
        number: The first signal that came, None if none did.
    """

    def __init__(self, own: bool) -> None:
        self.number: int | None = None
        self._own, self._importing, self._since = own, own, 0.0
        self._before: dict[int, Any] = {}

    @property
    def status(self) -> int:
        """The exit status: 128 and the number of the signal, as shells expect."""
        return 128 + (self.number or signal.SIGINT)

    def imported(self) -> None:
        """From here on there may be something to clean up."""
        self._importing = False

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if self._own else handler)

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self._importing or self.number is not None:
            if self._importing or time.monotonic() - self._since > _PATIENCE_SECONDS:
                os.write(2, b"quadrate: interrupted\n")
                os._exit(128 + number)
            return
        self.number, self._since = number, time.monotonic()
        raise KeyboardInterrupt
