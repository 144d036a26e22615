"""What ends a run early and in good order: SIGINT, SIGTERM and ``max_minutes``."""

import math
import os
import signal
import threading
import time
from types import FrameType
from typing import Self

from agents import distributed


class StopRequest:
    """A context that remembers the first signal, so that the step under way ends; a second one ends the process.

    After ``max_minutes`` of training, the run stops too.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self._number: int | None = None
        self._limit = math.inf if max_minutes is None else 60 * max_minutes
        self._started: float | None = None

    def __enter__(self) -> Self:
        """Take over SIGINT and SIGTERM, which only the main thread can do. In other threads they keep their meaning."""
        ours = threading.current_thread() is threading.main_thread()
        self._previous = {s: signal.signal(s, self._remember) for s in (signal.SIGINT, signal.SIGTERM) if ours}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def request(self) -> None:
        """Ask the run to stop after the step under way, as SIGINT does. Any thread may call it."""
        self._number = signal.SIGINT

    def pending(self) -> bool:
        """Return whether a signal arrived, if this is the only process of the run: others could not stop with it."""
        return self._number is not None and distributed.size() == 1

    def received(self) -> int | None:
        """Return the signal that any process of the run received."""
        return next((number for number in distributed.all_gather(self._number) if number is not None), None)

    def due(self) -> bool:
        """Return whether to stop now: a signal arrived, or the time since the first call is up."""
        if self._started is None:
            self._started = time.monotonic()
        is_late = time.monotonic() - self._started >= self._limit
        return self.received() is not None or any(distributed.all_gather(is_late))

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._number = number
        signal.signal(number, signal.SIG_DFL)
        # Not through the tracker: it may be printing right now.
        advice = "saving after this step (again: stop at once, without what follows the last checkpoint)"
        os.write(2, f"\n{signal.Signals(number).name}: {advice}.\n".encode())
