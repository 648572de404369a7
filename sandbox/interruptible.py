"""Work in a thread that another thread can end, as Ctrl-C ends the main thread's: by an exception at its next step.

Knows nothing of the work. What waits in C is reached when it comes back to Python, so a long wait is done in slices.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

_AGAIN_SECONDS = 0.2  # an exception may be lost, as it is in parts of the import system that take any error for a no


class Interrupted(BaseException):
    """Raised in the work that is ended. No Exception, so that nothing takes it for a failure to be coped with."""


class Interruptible:
    """Calls of one thread at a time, until `end`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held while the thread is noted, forgotten or interrupted
        self._idle = threading.Event()
        self._idle.set()
        self._thread: int | None = None
        self._ended = False

    def call(self, work: Callable[[], ResultT]) -> ResultT:
        """What `work` gives. Raises Interrupted where `end` is called meanwhile, or was called before."""
        try:
            with self._lock:
                if self._ended:
                    raise Interrupted
                self._idle.clear()
                self._thread = threading.get_ident()
            return work()
        finally:
            # No function is called in here that could be interrupted itself: `_thread` must not outlive the call.
            while self._thread is not None:
                try:
                    with self._lock:
                        self._thread = None
                except Interrupted:  # sent while the work was ending
                    pass
            self._idle.set()

    def end(self) -> None:
        """Interrupts what runs and lets nothing more run."""
        self._ended = True
        with self._lock:
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Interrupted))

    def join(self, *, seconds: float) -> bool:
        """Waits, after `end`, until nothing runs; whether that was so in `seconds`."""
        deadline = time.monotonic() + seconds
        while not self._idle.wait(min(_AGAIN_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
            if not _is_unwinding(self._thread):  # or it would hit what the first one has the work clean up
                self.end()
        return True


def _is_unwinding(thread: int | None) -> bool:
    """Whether a thread is in a `finally` or `except` that an interrupt brought it to."""
    handled: Any = sys._current_exceptions().get(thread or 0)
    error = handled[1] if isinstance(handled, tuple) else handled  # a tuple up to Python 3.11
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None
