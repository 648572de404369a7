"""One pool for all cells of an experiment: a program is judged once, and every cell that comes by it is told the same.

Knows nothing of how a pool judges or of where verdicts are kept. Cells take turns in the order in which they ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.pool import Confirmation, Pool
from agent.verdict_cache import Kind, VerdictCache
from sandbox.types import Candidate, Problem, Verdict

Judging = Callable[[Problem, Candidate], Awaitable[Confirmation]]


class SharedPool:
    """Who asks for a program that is being judged waits for that verdict. A fault is told to all who wait, and kept
    nowhere. `close` gives up what is still being judged; the pool is closed by whoever made it."""

    def __init__(self, pool: Pool, *, cache: VerdictCache) -> None:
        self._pool = pool
        self._cache = cache
        self._under_way: dict[tuple[Kind, str, str], asyncio.Task[tuple[Confirmation, bool]]] = {}

    @property
    def capacity(self) -> int:
        return self._pool.capacity

    def of(self, cell: str) -> CellPool:
        return CellPool(self, cell=cell)

    async def judge(self, cell: str, problem: Problem, candidate: Candidate) -> Verdict:
        async def alone(problem: Problem, candidate: Candidate) -> Confirmation:
            return Confirmation(verdict=await self._pool.judge(problem, candidate), plan=None)

        return (await self._told(cell, Kind.SEARCH, problem, candidate, judging=alone)).verdict

    async def confirm(self, cell: str, problem: Problem, candidate: Candidate) -> Confirmation:
        return await self._told(cell, Kind.CONFIRM, problem, candidate, judging=self._pool.confirm)

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _told(
        self, cell: str, kind: Kind, problem: Problem, candidate: Candidate, *, judging: Judging
    ) -> Confirmation:
        key = (kind, problem.key, candidate.id)
        task, first = self._under_way.get(key), False
        if task is None:
            first = True
            task = asyncio.create_task(self._found_or_judged(kind, problem, candidate, judging=judging))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        # Whoever asked first may be stopped; the others still wait.
        found, known = await asyncio.shield(task)
        return await asyncio.to_thread(self._cache.charge, cell, kind, problem, found, hit=known or not first)

    async def _found_or_judged(
        self, kind: Kind, problem: Problem, candidate: Candidate, *, judging: Judging
    ) -> tuple[Confirmation, bool]:
        """And whether it was known."""
        if (found := await asyncio.to_thread(self._cache.find, kind, problem, candidate)) is not None:
            return found, True
        fresh = await judging(problem, candidate)
        return await asyncio.to_thread(self._cache.keep, kind, problem, candidate, fresh), False

    def _forget(self, key: tuple[Kind, str, str], done: asyncio.Task[tuple[Confirmation, bool]]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # told to those who waited, if any still do


class CellPool:
    """The pool as one cell sees it."""

    def __init__(self, shared: SharedPool, *, cell: str) -> None:
        self._shared = shared
        self._cell = cell

    @property
    def capacity(self) -> int:
        return self._shared.capacity

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        """Raises PoolError, ProblemFailed or LedgerError."""
        return await self._shared.judge(self._cell, problem, candidate)

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        """Raises as `judge`. A program stands or falls in all cells alike."""
        return await self._shared.confirm(self._cell, problem, candidate)

    async def close(self) -> None:
        """The shared pool is not ours."""
