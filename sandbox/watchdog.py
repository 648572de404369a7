"""Bounds the time that a candidate's kernels take, apart from what the judge does around them.

A thread that waits for a GPU cannot be interrupted, so another one watches it and ends the process. Knows nothing of
plans or GPUs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls `on_late`, in a thread of its own, when `running` blocks have together taken longer than was allowed.

    `on_late` ends the process: nothing else can be done about a kernel that does not come back.
    """

    def __init__(self, on_late: Callable[[], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_late, self._clock = on_late, clock
        self._change = threading.Condition()
        self._left_seconds: float | None = None
        self._due: float | None = None
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def allow(self, seconds: float | None) -> None:
        """What the `running` blocks from now on may take together; None is no limit."""
        self._left_seconds = seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time of the block."""
        if self._left_seconds is None:
            yield
            return
        start = self._clock()
        with self._change:
            self._due = start + self._left_seconds
            self._change.notify()
        try:
            yield
        finally:
            with self._change:
                self._due = None
            self._left_seconds = max(0.0, self._left_seconds - (self._clock() - start))

    def _watch(self) -> None:
        with self._change:
            while True:
                if self._due is None:
                    self._change.wait()
                elif (left := self._due - self._clock()) > 0:
                    self._change.wait(left)
                else:
                    self._due = None
                    self._on_late()
