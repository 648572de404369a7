"""Brings jobs and idle workers together: a worker gets a job of a topic that it has at hand, if one waits.

Opening a problem on a GPU takes a good part of a second, and compiling its baselines many, so each GPU had better stay
with some of the problems. No worker idles while a job waits that it may have, and no job is passed over for ever. Knows
nothing of Ray or of what jobs do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sandbox.bounded import Recent

MAX_PASSED_OVER = 16  # times: then a job comes first wherever it is new
MAX_TOPICS = 32  # that a worker has at hand, the last ones: as many problems as a GPU's processes keep open

WorkerT = TypeVar("WorkerT", bound=Hashable)


class NoneLeft(RuntimeError):
    """There is no worker, and there will be none."""


Avoid = Callable[[WorkerT], bool]


@dataclass(slots=True, eq=False)
class _Waiting(Generic[WorkerT]):
    topic: str | None
    avoid: Avoid[WorkerT]
    future: asyncio.Future[WorkerT]
    num_passed_over: int = field(default=0)


class Matching(Generic[WorkerT]):
    """Idle workers, jobs that wait, and the topics that each worker has had last."""

    def __init__(self) -> None:
        self._idle: list[WorkerT] = []
        self._waiting: list[_Waiting[WorkerT]] = []
        self._topics: dict[WorkerT, Recent[str, None]] = {}  # of every worker that there is
        self._ended = False

    async def take(self, topic: str | None, *, avoid: Avoid[WorkerT]) -> WorkerT:
        """A worker for a job, taken until it is given back. Raises NoneLeft.

        One to `avoid` only where all are: what failed at one waits for another, or a worker that fails at once would
        have every job first. A job without a topic goes to any worker.
        """
        if self._ended:
            raise NoneLeft
        future: asyncio.Future[WorkerT] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(topic=topic, avoid=avoid, future=future)
        self._waiting.append(waiting)
        if fit := [worker for worker in self._idle if self._may(worker, waiting)]:
            self._assign(min(fit, key=lambda one: (not self._has(one, topic), len(self._topics[one]))), waiting)
        try:
            return await future
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif future.done() and not future.cancelled() and future.exception() is None:
                self.give(future.result())  # it came in the same instant
            raise

    def give(self, worker: WorkerT) -> None:
        """The worker is new, or done with its job."""
        self._topics.setdefault(worker, Recent(limit=MAX_TOPICS))
        self._idle.append(worker)
        self._match()

    def leave(self, worker: WorkerT) -> None:
        """It is not to be had any more."""
        self._topics.pop(worker, None)
        if worker in self._idle:
            self._idle.remove(worker)
        self._match()  # what waited for it may have to make do with another

    def end(self) -> None:
        """Whoever waits or asks later gets NoneLeft."""
        self._ended = True
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(NoneLeft())
        self._waiting.clear()

    def _match(self) -> None:
        for worker in tuple(self._idle):
            if fit := [one for one in self._waiting if not one.future.done() and self._may(worker, one)]:
                chosen = self._chosen(worker, fit)
                for passed_over in fit[: fit.index(chosen)]:
                    passed_over.num_passed_over += 1
                self._assign(worker, chosen)

    def _assign(self, worker: WorkerT, waiting: _Waiting[WorkerT]) -> None:
        self._idle.remove(worker)
        self._waiting.remove(waiting)
        if waiting.topic is not None:
            self._topics[worker][waiting.topic] = None
        waiting.future.set_result(worker)

    def _may(self, worker: WorkerT, waiting: _Waiting[WorkerT]) -> bool:
        return not waiting.avoid(worker) or all(waiting.avoid(other) for other in self._topics)

    def _chosen(self, worker: WorkerT, fit: list[_Waiting[WorkerT]]) -> _Waiting[WorkerT]:
        """The oldest of those whose topic this worker has at hand; else of those whose topic no worker has, so that one
        that another has is left to it; else of all."""
        if fit[0].num_passed_over >= MAX_PASSED_OVER:
            return fit[0]
        mine = (one for one in fit if self._has(worker, one.topic))
        new = (one for one in fit if not any(self._has(other, one.topic) for other in self._topics))
        return next(mine, None) or next(new, None) or fit[0]

    def _has(self, worker: WorkerT, topic: str | None) -> bool:
        return topic is None or topic in self._topics[worker]
