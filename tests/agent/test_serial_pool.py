"""What the pool in this process does when its bench works, breaks, or is closed under a call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from agent.config import JudgeConfig
from agent.pool import MAX_ATTEMPTS, Confirmation, PoolError, SerialPool
from sandbox.gpu_workers import GpuUnusable
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Failure, Operator, Problem, Status, Verdict
from sandbox.zygote import SandboxError

PROBLEM = Problem(id="p", source="", origin="test")
CANDIDATE = Candidate(problem_id="p", source="x = 1", operator=Operator.DRAFT)
SETTINGS = JudgeConfig().settings(0, gpu_available=False)


def verdict_on(candidate: Candidate) -> Verdict:
    failure = Failure(error_class="E", message="m")
    return Verdict(candidate_id=candidate.id, status=Status.COMPILE_ERROR, failure=failure)


class ScriptedBench:
    """Breaks `num_faults` times in all, over every bench that was opened."""

    num_opened = 0
    num_closed = 0

    def __init__(self, *, num_faults: int = 0) -> None:
        self._num_faults = num_faults
        self.work: Callable[[Candidate], Verdict] = verdict_on

    def open(self, _: JudgeSettings) -> ScriptedBench:
        self.num_opened += 1
        return self

    def judge_with_plan(self, problem: Problem, candidate: Candidate) -> tuple[Verdict, bytes | None]:
        if self._num_faults > 0:
            self._num_faults -= 1
            raise SandboxError("the child left no answer")
        return self.work(candidate), b"a plan"

    def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        verdict, plan = self.judge_with_plan(problem, candidate)
        return Confirmation(verdict=verdict, plan=plan)

    def close(self) -> None:
        self.num_closed += 1


def test_a_broken_bench_is_replaced_and_the_candidate_judged() -> None:
    bench = ScriptedBench(num_faults=MAX_ATTEMPTS - 1)

    async def go() -> Verdict:
        return await SerialPool(SETTINGS, open_bench=bench.open).judge(PROBLEM, CANDIDATE)

    assert asyncio.run(go()) == verdict_on(CANDIDATE)
    assert (bench.num_opened, bench.num_closed) == (MAX_ATTEMPTS, MAX_ATTEMPTS - 1)


def test_faults_without_end_are_ours() -> None:
    bench = ScriptedBench(num_faults=100)

    async def go() -> Verdict:
        return await SerialPool(SETTINGS, open_bench=bench.open).judge(PROBLEM, CANDIDATE)

    with pytest.raises(PoolError, match=r"problem p, candidate .*: the child left no answer"):
        asyncio.run(go())
    assert bench.num_opened == bench.num_closed == MAX_ATTEMPTS


def test_a_gpu_that_is_given_up_is_not_tried_again() -> None:
    bench = ScriptedBench()

    def give_up(_: Candidate) -> Verdict:
        raise GpuUnusable("GPU-5f is given up after 3 faults in a row")

    bench.work = give_up

    async def go() -> Verdict:
        return await SerialPool(SETTINGS, open_bench=bench.open).judge(PROBLEM, CANDIDATE)

    with pytest.raises(PoolError, match="GPU-5f is given up"):
        asyncio.run(go())
    assert bench.num_opened == bench.num_closed == 1


def test_one_at_a_time_while_the_loop_stays_live() -> None:
    bench = ScriptedBench()
    num_open = most_open = num_ticks = 0
    told_to_end = threading.Event()

    def work(candidate: Candidate) -> Verdict:
        nonlocal num_open, most_open
        num_open += 1
        most_open = max(most_open, num_open)
        assert told_to_end.wait(timeout=60), "the loop is blocked"
        num_open -= 1
        return verdict_on(candidate)

    async def go() -> None:
        nonlocal num_ticks
        bench.work = work
        pool = SerialPool(SETTINGS, open_bench=bench.open)
        tasks = [asyncio.create_task(pool.judge(PROBLEM, CANDIDATE)) for _ in range(3)]
        for num_ticks in range(1, 6):  # noqa: B007
            await asyncio.sleep(0.005)
        told_to_end.set()
        await asyncio.gather(*tasks)
        await pool.close()

    asyncio.run(go())
    assert (most_open, num_ticks, bench.num_opened, bench.num_closed) == (1, 5, 1, 1)


def test_closing_ends_a_call_that_is_running() -> None:
    bench = ScriptedBench()
    closed = threading.Event()

    def work(candidate: Candidate) -> Verdict:
        assert closed.wait(timeout=60)
        raise SandboxError("killed")

    async def go() -> None:
        bench.work = work
        pool = SerialPool(SETTINGS, open_bench=bench.open)
        task = asyncio.create_task(pool.judge(PROBLEM, CANDIDATE))
        await asyncio.sleep(0.01)
        await pool.close()
        closed.set()
        with pytest.raises(PoolError, match="killed"):
            await task

    asyncio.run(go())
    assert bench.num_opened == 1, "a closed pool does not try again"


def test_closing_while_the_bench_is_being_opened_judges_nothing() -> None:
    bench = ScriptedBench()
    opening, closed = threading.Event(), threading.Event()

    def open_slowly(settings: JudgeSettings) -> ScriptedBench:
        opening.set()
        assert closed.wait(timeout=60)
        return bench.open(settings)

    def judged(_: Candidate) -> Verdict:
        raise AssertionError("the pool is closed")

    async def go() -> None:
        bench.work = judged
        pool = SerialPool(SETTINGS, open_bench=open_slowly)
        tasks = [asyncio.create_task(pool.judge(PROBLEM, CANDIDATE)) for _ in range(2)]
        assert await asyncio.to_thread(opening.wait, 60)
        await pool.close()
        closed.set()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, PoolError) and "the pool is closed" in str(outcome)

    asyncio.run(go())
    assert (bench.num_opened, bench.num_closed) == (1, 1), "who waited for a turn opens no other"


def test_closing_ends_tracing_and_judging_in_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing = threading.Event()

    class EndlessTracer:
        num_closed = 0

        def __init__(self, _: JudgeSettings) -> None: ...

        def trace(self, *_: object) -> None:
            tracing.set()
            while True:
                time.sleep(0.001)

        def close(self) -> None:
            EndlessTracer.num_closed += 1

    monkeypatch.setattr("sandbox.judge.Tracer", EndlessTracer)

    async def go() -> None:
        pool = SerialPool(SETTINGS)
        task = asyncio.create_task(pool.judge(PROBLEM, CANDIDATE))
        assert await asyncio.to_thread(tracing.wait, 60)
        await pool.close()
        with pytest.raises(PoolError, match="the pool is closed"):
            await task

    asyncio.run(go())
    assert EndlessTracer.num_closed == 1


def test_a_confirmation_hands_back_the_plan_and_survives_a_broken_bench() -> None:
    bench = ScriptedBench(num_faults=1)

    async def go() -> Confirmation:
        return await SerialPool(SETTINGS, open_bench=bench.open).confirm(PROBLEM, CANDIDATE)

    assert asyncio.run(go()) == Confirmation(verdict=verdict_on(CANDIDATE), plan=b"a plan")
    assert bench.num_opened == 2
