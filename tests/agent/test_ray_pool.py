"""The Ray pool with scripted tracers and judges: verdicts, equal plans, dead workers, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.config import RayConfig
from agent.gpu_lease import GpuLease
from agent.pool import MAX_ATTEMPTS, Confirmation, PoolError
from sandbox.judge import ProblemFailed
from sandbox.types import Spend, Status, Verdict
from tests.agent import twin_workers
from tests.agent.twin_workers import PROBLEM, SETTINGS, candidate, noted, open_judge, open_tracer

ray = pytest.importorskip("ray")

from agent.ray_pool import RayPool  # noqa: E402  after the check that Ray is there


def open_pool(folder: Path, *, judges: int = 1, lease: GpuLease | None = None) -> RayPool:
    return RayPool(
        SETTINGS,
        RayConfig(trace_workers=1, judges=judges),
        lease=lease,
        tracer_factory=partial(open_tracer, folder=folder),  # type: ignore[arg-type]  # a twin
        judge_factory=partial(open_judge, folder=folder),
    )


class NotedLease(GpuLease):
    """Counts what had a GPU to itself."""

    num_alone = 0

    @contextlib.asynccontextmanager
    async def timing(self, *, whole: bool = False) -> AsyncIterator[None]:
        async with super().timing(whole=whole):
            self.num_alone += 1
            yield


def judged(folder: Path, *sources: str, judges: int = 1) -> list[Verdict | BaseException]:
    """One verdict or error a source, all in flight at once."""

    async def work() -> list[Verdict | BaseException]:
        pool = open_pool(folder, judges=judges)
        try:
            calls = (pool.judge(PROBLEM, candidate(source)) for source in sources)
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await pool.close()

    return asyncio.run(work())


def verdicts(outcomes: list[Verdict | BaseException]) -> list[Verdict]:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Verdict)]


def children() -> list[str]:
    """The command lines of this process's children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.fixture(scope="module")
def twins_by_value() -> None:
    """Ray's workers cannot import the tests."""
    ray.cloudpickle.register_pickle_by_value(twin_workers)


@pytest.fixture(scope="module")
def cluster(twins_by_value: None) -> Iterator[None]:
    """One Ray for the rest of the module, as it takes seconds to start."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def test_a_cluster_that_is_not_there_is_named_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(PoolError, match=f"connect to 127.0.0.1:{port}: ConnectionRefusedError"):
        RayPool(SETTINGS, RayConfig(address=f"127.0.0.1:{port}"))


def test_a_ray_of_its_own_has_the_cores_of_its_process_and_ends_with_the_pool(
    tmp_path: Path, twins_by_value: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands before the tests that share a Ray, since there is one a process."""
    monkeypatch.setattr("agent.ray_cluster.num_cores", lambda: 3)

    async def work() -> Verdict:
        pool = open_pool(tmp_path)
        try:
            assert ray.cluster_resources()["CPU"] == 3
            return await pool.judge(PROBLEM, candidate("right:a"))
        finally:
            await pool.close()

    assert asyncio.run(work()).passed
    assert not ray.is_initialized()
    assert not [name for name in children() if "ray" in name]


def test_each_candidate_gets_its_verdict(cluster: None, tmp_path: Path) -> None:
    sources = [f"right:{number}" for number in range(12)] + ["right:uncompilable"]
    results = verdicts(judged(tmp_path, *sources))
    assert [verdict.candidate_id for verdict in results] == [candidate(source).id for source in sources]
    assert [verdict.status for verdict in results] == [Status.PASSED] * 12 + [Status.COMPILE_ERROR]
    assert all(verdict.labels == ("",) for verdict in results[:12])  # no GPU in sight of an interpreter
    record = noted(tmp_path)
    assert "judge right:uncompilable" not in record
    assert record.count("trace opened") == record.count("judge opened on None") == 1
    assert record.count("trace closed") == record.count("judge closed") == 1


def test_equal_plans_of_a_problem_are_judged_once(cluster: None, tmp_path: Path) -> None:
    async def work() -> list[Verdict]:
        pool = open_pool(tmp_path, judges=2)
        try:
            calls = (pool.judge(PROBLEM, candidate(source)) for source in ("judge_slow:a", "x:a", "y:a", "x:b"))
            first = await asyncio.gather(*calls)
            later = await pool.judge(PROBLEM, candidate("z:a"))
            other = await pool.judge(replace(PROBLEM, source="class Model: other"), candidate("z:a"))
            return [*first, later, other]
        finally:
            await pool.close()

    results = asyncio.run(work())
    names = ["judge_slow:a", "x:a", "y:a", "x:b", "z:a", "z:a"]
    assert [verdict.candidate_id for verdict in results] == [candidate(name).id for name in names]
    assert [verdict.spend.judged for verdict in results] == [1, 0, 0, 1, 0, 1]
    assert results[1].stage_seconds == {"trace": 0.25}
    assert sum(event.startswith("judge ") and event.endswith(":a") for event in noted(tmp_path)) == 2


def test_of_equal_plans_each_candidate_is_told_what_is_wrong_in_its_own_text(cluster: None, tmp_path: Path) -> None:
    """Findings stand at places in a text: those of another candidate's mend nothing, or the wrong thing."""
    sources = ("found:a", "found_again:a")
    results = verdicts(judged(tmp_path, *sources))
    assert [[finding.found for finding in verdict.findings] for verdict in results] == [[one] for one in sources]
    assert [f"{one} is wrong" in verdict.feedback for one, verdict in zip(sources, results, strict=True)] == [True] * 2


@pytest.mark.parametrize("stage", ["trace", "judge"])
def test_a_worker_killed_in_mid_job_is_replaced_and_its_candidate_judged_once(
    cluster: None, tmp_path: Path, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="agent.ray_pool")
    victim = f"{stage}_dies_once:a"
    results = verdicts(judged(tmp_path, victim, "right:b", "right:c"))
    assert [verdict.status for verdict in results] == [Status.PASSED] * 3
    assert results[0].spend == Spend(judged=1)
    assert results[0].failure is None
    record = noted(tmp_path)
    assert record.count(f"{stage} {victim}") == 2
    assert record.count(f"{stage} right:b") == record.count(f"{stage} right:c") == 1  # no bystander is asked again
    events = [line.getMessage().partition(":")[0] for line in caplog.records]
    assert events == ["worker_died", "worker_replaced"]
    assert all("\n" not in line.getMessage() for line in caplog.records)


def test_a_sandbox_that_fails_once_is_opened_anew(cluster: None, tmp_path: Path) -> None:
    results = verdicts(judged(tmp_path, "trace_fails_once:a", "judge_fails_once:b"))
    assert [verdict.status for verdict in results] == [Status.PASSED] * 2
    record = noted(tmp_path)
    assert record.count("trace opened") == record.count("trace closed") == 2
    assert record.count("judge opened on None") == record.count("judge closed") == 2


def test_a_judge_whose_gpu_is_given_up_is_not_replaced_and_the_rest_goes_on(
    cluster: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="agent.ray_pool")
    results = verdicts(judged(tmp_path, "judge_gone_once:a", "right:b", "right:c", judges=2))
    assert [verdict.status for verdict in results] == [Status.PASSED] * 3
    assert noted(tmp_path).count("judge opened on None") <= 2
    assert [line.getMessage() for line in caplog.records] == [
        "worker_not_replaced: one judge fewer: GPU-5f is given up"
    ]


def test_without_a_usable_gpu_it_is_our_error(cluster: None, tmp_path: Path) -> None:
    gone, waiting = judged(tmp_path, "judge_gone_once:a", "right:b")
    assert isinstance(gone, PoolError) and "no judge is left" in str(gone)
    assert isinstance(waiting, PoolError | Verdict)  # it may have been judged before


def test_equal_candidates_are_traced_once(cluster: None, tmp_path: Path) -> None:
    results = verdicts(judged(tmp_path, *["right:a"] * 4, "right:b"))
    assert len({verdict.candidate_id for verdict in results}) == 2
    assert noted(tmp_path).count("trace right:a") == 1


def test_after_a_bounded_number_of_attempts_it_is_our_error_and_the_rest_goes_on(cluster: None, tmp_path: Path) -> None:
    sources = ["judge_dies:a", "judge_fails:b", "trace_bug:c", "right:d"]
    died, failed, bug, right = judged(tmp_path, *sources)
    assert isinstance(right, Verdict)
    for error, says in ((died, "WorkerDied"), (failed, "the disk is full"), (bug, "KeyError: 'oops'")):
        assert isinstance(error, PoolError)
        assert says in str(error)
        assert "\n" not in str(error)
    record = noted(tmp_path)
    assert record.count("judge judge_dies:a") == record.count("judge judge_fails:b") == MAX_ATTEMPTS
    assert record.count("trace trace_bug:c") == 1


def test_a_plan_whose_judging_was_our_error_may_be_asked_again(cluster: None, tmp_path: Path) -> None:
    async def work() -> Verdict:
        pool = open_pool(tmp_path)
        try:
            with pytest.raises(PoolError):
                await pool.judge(PROBLEM, candidate("judge_bug:a"))
            return await pool.judge(PROBLEM, candidate("right:a"))
        finally:
            await pool.close()

    assert asyncio.run(work()).passed


def test_a_problem_that_cannot_be_judged_is_told_as_such_at_once(cluster: None, tmp_path: Path) -> None:
    for error in judged(tmp_path, "trace_problem:a", "judge_problem:b"):
        assert isinstance(error, ProblemFailed)
        assert str(error) == "the problem has no get_inputs"
    assert len([event for event in noted(tmp_path) if "judge_problem" in event]) == 2  # traced once, judged once


def test_cancelling_one_caller_leaves_the_shared_verdict_to_the_other(cluster: None, tmp_path: Path) -> None:
    async def work() -> Verdict:
        pool = open_pool(tmp_path)
        try:
            first = asyncio.create_task(pool.judge(PROBLEM, candidate("judge_slow:a")))
            second = asyncio.create_task(pool.judge(PROBLEM, candidate("x:a")))
            while "trace x:a" not in noted(tmp_path):
                await asyncio.sleep(0.02)
            first.cancel()
            return await second
        finally:
            await pool.close()

    assert asyncio.run(work()).candidate_id == candidate("x:a").id


def test_closing_ends_every_worker_and_fails_what_waits(cluster: None, tmp_path: Path) -> None:
    async def work() -> list[BaseException | Verdict]:
        pool = open_pool(tmp_path)
        calls = [asyncio.create_task(pool.judge(PROBLEM, candidate(f"trace_slow:{n}"))) for n in range(5)]
        while not noted(tmp_path):
            await asyncio.sleep(0.02)
        await pool.close()
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(work())
    assert any(isinstance(outcome, PoolError) for outcome in outcomes)
    assert ray.is_initialized()  # not the pool's to end
    deadline = time.monotonic() + 60.0
    while ray.available_resources().get("CPU") != 2.0:
        assert time.monotonic() < deadline, "a closed pool's workers still hold their cores"
        time.sleep(0.05)


def test_a_confirmation_is_traced_and_judged_anew_on_more_seeds(cluster: None, tmp_path: Path) -> None:
    async def work() -> tuple[Verdict, Confirmation]:
        pool = open_pool(tmp_path)
        try:
            return await pool.judge(PROBLEM, candidate("right:a")), await pool.confirm(PROBLEM, candidate("right:a"))
        finally:
            await pool.close()

    verdict, confirmation = asyncio.run(work())
    assert verdict.labels != ("anew",) and confirmation.verdict.labels == ("anew",), "not the verdict that was known"
    assert confirmation.plan == b"a"
    events = noted(tmp_path)
    assert events.count("trace right:a") == 2
    assert events.count(f"confirm on {SETTINGS.num_seeds + 2} seeds, racing False") == 1


def test_a_confirmation_that_finds_no_plan_or_dies_is_told_as_any_verdict(cluster: None, tmp_path: Path) -> None:
    async def work() -> tuple[Confirmation, Confirmation]:
        pool = open_pool(tmp_path)
        try:
            return (
                await pool.confirm(PROBLEM, candidate("right:uncompilable")),
                await pool.confirm(PROBLEM, candidate("judge_dies_once:b")),
            )
        finally:
            await pool.close()

    unplanned, survived = asyncio.run(work())
    assert (unplanned.verdict.status, unplanned.plan) == (Status.COMPILE_ERROR, None)
    assert survived.verdict.passed


def test_beside_engines_only_what_needs_it_has_a_gpu_to_itself(cluster: None, tmp_path: Path) -> None:
    async def work() -> tuple[list[Verdict], int]:
        lease = NotedLease(batch=3, patience_seconds=60.0, idle_seconds=0.01)
        pool = open_pool(tmp_path, lease=lease)
        try:
            sources = ("wrong:a", "right:b", "crowded:c", "problem:d")
            results = await asyncio.gather(*(pool.judge(PROBLEM, candidate(source)) for source in sources))
            return results, lease.num_alone
        finally:
            await pool.close()

    (wrong, right, crowded, problem), num_alone = asyncio.run(work())
    assert wrong.status is Status.WRONG_VALUES
    assert (right.status, crowded.status, problem.status) == (Status.PASSED,) * 3
    assert num_alone == 3, "what was wrong beside an engine is wrong"
    assert right.spend == Spend(judged=1, gpu_seconds=0.25), "both times on the GPU are charged"
    assert noted(tmp_path).count("judge wrong:a") == 0


def test_what_finds_too_little_memory_beside_a_frozen_engine_is_judged_where_engines_sleep(
    cluster: None, tmp_path: Path
) -> None:
    sleeps: list[bool] = []

    async def sleep(deep: bool) -> None:
        sleeps.append(deep)
        if deep:
            (tmp_path / "room").touch()

    async def wake_up() -> None: ...

    async def work() -> list[Verdict]:
        lease = GpuLease(batch=2, patience_seconds=0.5, idle_seconds=60.0, freezes=True)
        lease.attach(sleep=sleep, wake_up=wake_up)
        pool = open_pool(tmp_path, lease=lease)
        try:
            sources = ("right:b", "cramped:c")
            async with asyncio.timeout(60):
                return list(await asyncio.gather(*(pool.judge(PROBLEM, candidate(source)) for source in sources)))
        finally:
            await pool.close()

    right, cramped = asyncio.run(work())
    assert sleeps == [False, True]
    assert right.passed and cramped.passed
    assert "not_timed" not in cramped.labels
    assert cramped.spend == Spend(judged=1, gpu_seconds=0.75), "beside the engine, too little room, and alone"


def test_engines_that_cannot_be_put_to_sleep_are_the_pools_trouble(cluster: None, tmp_path: Path) -> None:
    async def fail(*_: bool) -> None:
        raise OSError("no such device")

    async def work() -> None:
        lease = GpuLease(batch=1, patience_seconds=60.0)
        lease.attach(sleep=fail, wake_up=fail)
        pool = open_pool(tmp_path, lease=lease)
        try:
            with pytest.raises(PoolError, match="OSError: no such device"):
                await asyncio.wait_for(pool.judge(PROBLEM, candidate("right:a")), timeout=60)
        finally:
            await pool.close()

    asyncio.run(work())
