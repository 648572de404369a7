"""Where candidates are judged: the protocol, and the trivial pool that judges one at a time in this process's threads.

Knows nothing of Ray, strategies or the ledger. A verdict blames the candidate; a PoolError blames us.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from agent.call_figure import with_python_call
from sandbox.gpu_workers import GpuUnusable
from sandbox.interruptible import Interrupted, Interruptible
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Verdict
from sandbox.zygote import SandboxError

if TYPE_CHECKING:
    from sandbox.judge import Judge, Traced, Tracer

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

MAX_ATTEMPTS = 3
CLOSED = "the pool is closed"
STARTING = "starting the sandbox and tracing"
CONFIRM_EXTRA_SEEDS = 2  # a confirmation draws this many more than a search does
MAX_PLAN_BYTES = 64 << 20  # what a confirmation hands back for the evidence; larger plans are left out
INTERRUPT_SECONDS = 5.0  # after which a call that cannot be interrupted loses its processes all the same


class PoolError(RuntimeError):
    """No verdict after a bounded number of attempts: our fault, the run can be resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A verdict reached anew. `plan` has the canonical bytes of what was judged; None if there is none, or too much."""

    verdict: Verdict
    plan: bytes | None


def confirming(settings: JudgeSettings) -> JudgeSettings:
    """How a confirmation is judged: on more seeds, and timed to the end."""
    return replace(settings, num_seeds=settings.num_seeds + CONFIRM_EXTRA_SEEDS, racing=False)


def confirmation_of(
    judge: Judge, *, problem: Problem, candidate: Candidate, traced: Traced, settings: JudgeSettings
) -> Verdict:
    """What a judge that has a plan does to confirm it; with a GPU, also one real call from Python."""
    verdict = judge.confirm(problem, candidate, traced, settings=settings)
    return with_python_call(verdict, problem=problem, candidate=candidate, settings=settings)


def kept_plan(traced: Traced) -> bytes | None:
    return traced.plan if traced.plan is not None and len(traced.plan) <= MAX_PLAN_BYTES else None


class Pool(Protocol):
    """Gives one verdict a candidate. May be called many times at once; more than `capacity` at once gains nothing."""

    @property
    def capacity(self) -> int:
        """The useful number of candidates in flight."""
        ...

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        """Raises PoolError, or ProblemFailed when the problem itself is at fault."""
        ...

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        """Judges it once more as if it had never been seen: traced anew, fresh secret seeds and processes, under
        `confirming` settings. Raises as `judge` does."""
        ...

    async def close(self) -> None: ...


class Bench(Protocol):
    """A tracer and a judge of `sandbox.judge`, as one thing that works and breaks together."""

    def judge_with_plan(self, problem: Problem, candidate: Candidate) -> tuple[Verdict, bytes | None]:
        """Raises SandboxError or ProblemFailed."""
        ...

    def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        """Raises SandboxError or ProblemFailed."""
        ...

    def close(self) -> None: ...


class SerialPool:
    """One candidate at a time. The event loop stays live: the work is done in a thread."""

    def __init__(
        self,
        settings: JudgeSettings,
        *,
        open_bench: Callable[[JudgeSettings], Bench] | None = None,
        on_stage: Callable[[str], None] | None = None,
    ) -> None:
        """The bench is opened for the first candidate, and again after it broke. `on_stage` hears, in another thread,
        what the sandbox's bench is about to do."""
        self._settings = settings
        self._open_bench = open_bench or partial(_SandboxBench.open, on_stage=on_stage or _unheard)
        self._bench: Bench | None = None
        self._turn = asyncio.Lock()
        self._closing = False

    @property
    def capacity(self) -> int:
        return 1

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        return (await self.judge_with_plan(problem, candidate))[0]

    async def judge_with_plan(self, problem: Problem, candidate: Candidate) -> tuple[Verdict, bytes | None]:
        """What `judge` says, and the plan that it says it of, as a confirmation hands it back."""
        async with self._turn:
            return await asyncio.to_thread(self._do, lambda bench: bench.judge_with_plan(problem, candidate), candidate)

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        async with self._turn:
            return await asyncio.to_thread(self._do, lambda bench: bench.confirm(problem, candidate), candidate)

    async def close(self) -> None:
        """Ends the sandbox processes, also under a call that is still running. None may follow."""
        self._closing = True
        await asyncio.to_thread(self._drop_bench)

    def _do(self, work: Callable[[Bench], ResultT], candidate: Candidate) -> ResultT:
        for number in range(1, MAX_ATTEMPTS + 1):
            try:
                return work(self._opened())
            except Interrupted as error:
                raise PoolError(f"problem {candidate.problem_id}, candidate {candidate.id}: {CLOSED}") from error
            except GpuUnusable as error:  # there is no other GPU to go on with
                self._drop_bench()
                raise PoolError(f"problem {candidate.problem_id}, candidate {candidate.id}: {error}") from error
            except SandboxError as error:
                self._drop_bench()
                if self._closing or number == MAX_ATTEMPTS:
                    raise PoolError(f"problem {candidate.problem_id}, candidate {candidate.id}: {error}") from error
                log.warning("judging %s failed, attempt %d of %d: %s", candidate.id, number, MAX_ATTEMPTS, error)
        raise AssertionError("the last attempt returns or raises")

    def _opened(self) -> Bench:
        """Raises Interrupted where the pool was closed, also while the bench was being opened: `close` saw none."""
        if self._bench is None and not self._closing:
            self._bench = self._open_bench(self._settings)
        if self._closing or self._bench is None:
            self._drop_bench()
            raise Interrupted
        return self._bench

    def _drop_bench(self) -> None:
        bench, self._bench = self._bench, None
        if bench is not None:
            bench.close()


def _unheard(_: str) -> None:
    """For stages that nobody wants to know of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _SandboxBench:
    """`sandbox.judge`, loaded when first needed because it starts processes that import torch."""

    settings: JudgeSettings
    tracer: Tracer
    verdicts: Judge
    on_stage: Callable[[str], None]
    running: Interruptible = field(default_factory=Interruptible)

    @classmethod
    def open(cls, settings: JudgeSettings, *, on_stage: Callable[[str], None]) -> _SandboxBench:
        from sandbox.judge import Tracer, open_judge

        device = 0 if settings.mode == "replay" else None
        verdicts = open_judge(settings, device=device)
        return cls(settings=settings, tracer=Tracer(settings), verdicts=verdicts, on_stage=on_stage)

    def judge_with_plan(self, problem: Problem, candidate: Candidate) -> tuple[Verdict, bytes | None]:
        return self.running.call(lambda: self._judge_with_plan(problem, candidate))

    def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        return self.running.call(lambda: self._confirm(problem, candidate))

    def _judge_with_plan(self, problem: Problem, candidate: Candidate) -> tuple[Verdict, bytes | None]:
        traced = self._traced(problem, candidate)
        return self.verdicts.judge(problem, candidate, traced), kept_plan(traced)

    def _confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        traced = self._traced(problem, candidate)
        verdict = confirmation_of(
            self.verdicts, problem=problem, candidate=candidate, traced=traced, settings=confirming(self.settings)
        )
        return Confirmation(verdict=verdict, plan=kept_plan(traced))

    def _traced(self, problem: Problem, candidate: Candidate) -> Traced:
        self.on_stage(STARTING)
        traced = self.tracer.trace(problem, candidate)
        self.on_stage("judging")
        return traced

    def close(self) -> None:
        """Interrupts the call that is running. On a GPU the end of its processes alone ends it."""
        if self.settings.mode == "interpret":
            self.running.end()
            self.running.join(seconds=INTERRUPT_SECONDS)
        self.tracer.close()
        self.verdicts.close()
