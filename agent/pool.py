"""Where candidates are judged: the protocol, and the trivial pool that judges one at a time in this process's threads.

Knows nothing of Ray, strategies or the ledger. A verdict blames the candidate; a PoolError blames us.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sandbox.gpu_workers import GpuUnusable
from sandbox.types import Candidate, JudgeSettings, Problem, Verdict
from sandbox.zygote import SandboxError

if TYPE_CHECKING:
    from sandbox.judge import Judge, Tracer

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3


class PoolError(RuntimeError):
    """No verdict after a bounded number of attempts: our fault, the run can be resumed."""


class Pool(Protocol):
    """Gives one verdict a candidate. May be called many times at once; more than `capacity` at once gains nothing."""

    @property
    def capacity(self) -> int:
        """The useful number of candidates in flight."""
        ...

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        """Raises PoolError, or ProblemFailed when the problem itself is at fault."""
        ...

    async def close(self) -> None: ...


class Bench(Protocol):
    """A tracer and a judge of `sandbox.judge`, as one thing that works and breaks together."""

    def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        """Raises SandboxError or ProblemFailed."""
        ...

    def close(self) -> None: ...


class SerialPool:
    """One candidate at a time. The event loop stays live: the work is done in a thread."""

    def __init__(self, settings: JudgeSettings, *, open_bench: Callable[[JudgeSettings], Bench] | None = None) -> None:
        """The bench is opened for the first candidate, and again after it broke."""
        self._settings = settings
        self._open_bench = open_bench or _SandboxBench.open
        self._bench: Bench | None = None
        self._turn = asyncio.Lock()
        self._closing = False

    @property
    def capacity(self) -> int:
        return 1

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        async with self._turn:
            return await asyncio.to_thread(self._judge, problem, candidate)

    async def close(self) -> None:
        """Ends the sandbox processes, also under a call that is still running."""
        self._closing = True
        await asyncio.to_thread(self._drop_bench)

    def _judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        for number in range(1, MAX_ATTEMPTS + 1):
            try:
                if self._bench is None:
                    self._bench = self._open_bench(self._settings)
                return self._bench.judge(problem, candidate)
            except GpuUnusable as error:  # there is no other GPU to go on with
                self._drop_bench()
                raise PoolError(f"problem {problem.id}, candidate {candidate.id}: {error}") from error
            except SandboxError as error:
                self._drop_bench()
                if self._closing or number == MAX_ATTEMPTS:
                    raise PoolError(f"problem {problem.id}, candidate {candidate.id}: {error}") from error
                log.warning("judging %s failed, attempt %d of %d: %s", candidate.id, number, MAX_ATTEMPTS, error)
        raise AssertionError("the last attempt returns or raises")

    def _drop_bench(self) -> None:
        bench, self._bench = self._bench, None
        if bench is not None:
            bench.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _SandboxBench:
    """`sandbox.judge`, loaded when first needed because it starts processes that import torch."""

    tracer: Tracer
    verdicts: Judge

    @classmethod
    def open(cls, settings: JudgeSettings) -> _SandboxBench:
        from sandbox.judge import Tracer, open_judge

        device = 0 if settings.mode == "replay" else None
        return cls(tracer=Tracer(settings), verdicts=open_judge(settings, device=device))

    def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        traced = self.tracer.trace(problem, candidate)
        return self.verdicts.judge(problem, candidate, traced)

    def close(self) -> None:
        self.tracer.close()
        self.verdicts.close()
