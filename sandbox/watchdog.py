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
    """Calls `on_late` when `running` blocks have together taken longer than was allowed.

    `on_late` ends the process: nothing else can be done about a kernel that does not come back. A block that is over
    its time has `grace_seconds` more to fail by itself, since a driver tells of a fault some time after it; one that
    ends well in them is late all the same.
    """

    def __init__(
        self, on_late: Callable[[], None], *, grace_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`on_late` is called in a thread of its own where the block is still running, else in the block's."""
        self._on_late, self._grace_seconds, self._clock = on_late, grace_seconds, clock
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
        allowed = self._left_seconds
        if allowed is None:
            yield
            return
        start = self._clock()
        with self._change:
            self._due = start + allowed + self._grace_seconds
            self._change.notify()
        try:
            yield
        finally:
            with self._change:
                self._due = None
            taken = self._clock() - start
            self._left_seconds = max(0.0, allowed - taken)
        if taken > allowed:
            self._on_late()

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
