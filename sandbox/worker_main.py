"""The main loop of a worker process: reads requests, answers them, and ends with the process that started it.

Knows nothing of what the requests mean.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sandbox import syscalls
from sandbox.cuda_fault import StickyFault
from sandbox.worker_process import read_message, write_message

_PARENT_POLL_SECONDS = 1.0


class Worker(Protocol):
    """Answers requests. Each answer is plain data; "dead" in it says that this process must not be used again."""

    def answer(self, body: dict[str, Any], blobs: Sequence[memoryview]) -> dict[str, Any]: ...


def serve(make: Callable[[Callable[[], None]], Worker], *, load: Callable[[], object] | None = None) -> None:
    """Answers requests until there are none, or one leaves the process unfit. Does not return.

    `make` is called at the first request but `load`, which shows that the imports are done: those of this process and,
    with `load`, what else it does before there is a worker. What `make` is given ends the process from another thread,
    saying that the answer is late.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # One that stands still, as spares do while something is timed, would never see that it is alone.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGCONT)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    worker: Worker | None = None

    def give_up() -> None:
        write_message(replies, {"json": json.dumps({"late": True, "dead": True})})
        os._exit(0)

    while (message := read_message(requests)) is not None:
        try:
            if message[0]["do"] == "load":
                reply: dict[str, Any] = {}
                if load is not None:
                    load()
            else:
                worker = worker or make(give_up)
                reply = worker.answer(*message)
        except StickyFault as error:
            reply = {"error": f"the CUDA context is dead: {error}", "dead": True}
        except Exception as error:  # noqa: BLE001  the outermost frame: whatever it is, it is ours, and the judge is to hear of it
            reply = {"error": f"{type(error).__name__}: {error}"[:2000], "dead": True}
        # Failures may hold NaN and infinities, which Python's JSON carries and the wire's own refuses.
        write_message(replies, {"json": json.dumps(reply)})
        if reply.get("dead"):
            break
    sys.stderr.flush()
    os._exit(0)  # a dead context makes an orderly exit fail


def _leave_with(parent: int) -> None:
    """Ends this process when the one that started it is gone, even while a kernel runs."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)
