"""A pool of judges in processes of this machine, for where there is no Ray.

Knows nothing of samples. Each process has a serial pool of its own, as torch's random state is one a process.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, util

from agent.pool import SerialPool
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Verdict

_pool: SerialPool | None = None  # a worker process's own: its executor hands it nothing from call to call


class ProcessPool:
    """Judges as many candidates at once as it has workers; equal candidates of a problem are judged once."""

    def __init__(self, settings: JudgeSettings, *, workers: int) -> None:
        """Processes start when first needed."""
        self.capacity = workers
        self._executor = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_open, initargs=(settings,)
        )
        self._asked: dict[str, asyncio.Future[Verdict]] = {}

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        """Raises PoolError, or ProblemFailed when the problem itself is at fault."""
        if candidate.id not in self._asked:
            loop = asyncio.get_running_loop()
            self._asked[candidate.id] = loop.run_in_executor(self._executor, _judge, problem, candidate)
        return await asyncio.shield(self._asked[candidate.id])

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)


def _open(settings: JudgeSettings) -> None:
    global _pool
    _pool = SerialPool(settings)
    util.Finalize(None, _close, exitpriority=10)  # workers of multiprocessing leave without running atexit


def _close() -> None:
    assert _pool is not None
    asyncio.run(_pool.close())


def _judge(problem: Problem, candidate: Candidate) -> Verdict:
    assert _pool is not None
    return asyncio.run(_pool.judge(problem, candidate))
