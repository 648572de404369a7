"""Which idle worker gets which job: by topic, without idling, and not one that failed at it while there is another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent.matching import MAX_PASSED_OVER, Matching, NoneLeft


def nobody(worker: str) -> bool:
    return False


def run(work: Callable[[Matching[str]], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work(Matching()))


async def waiting(matching: Matching[str], *topics: str) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(matching.take(topic, avoid=nobody)) for topic in topics]
    await asyncio.sleep(0)
    return tasks


def test_an_idle_worker_that_has_the_topic_is_preferred_and_a_new_topic_goes_to_who_has_fewest() -> None:
    async def work(matching: Matching[str]) -> None:
        for worker in ("a", "b"):
            matching.give(worker)
        first = await matching.take("x", avoid=nobody)
        other = await matching.take("y", avoid=nobody)
        assert {first, other} == {"a", "b"}
        for worker in (other, first):
            matching.give(worker)
        assert await matching.take("x", avoid=nobody) == first
        matching.give(first)
        assert await matching.take("y", avoid=nobody) == other
        matching.give(other)
        await matching.take("x", avoid=nobody)
        matching.give(first)
        third = await matching.take("z", avoid=nobody)
        matching.give(third)
        assert await matching.take("w", avoid=nobody) != third, "the other has fewer"

    run(work)


def test_a_freed_worker_takes_what_it_has_at_hand_and_leaves_the_other_its_own() -> None:
    async def work(matching: Matching[str]) -> None:
        for worker in ("a", "b"):
            matching.give(worker)
        mine, theirs = await matching.take("x", avoid=nobody), await matching.take("y", avoid=nobody)
        jobs = await waiting(matching, "y", "new", "x")
        matching.give(mine)
        assert await jobs[2] == mine, "its own topic first"
        matching.give(mine)
        assert await jobs[1] == mine, "then one that nobody has"
        matching.give(theirs)
        assert await jobs[0] == theirs

    run(work)


def test_no_worker_idles_while_a_job_waits() -> None:
    async def work(matching: Matching[str]) -> None:
        for worker in ("a", "b"):
            matching.give(worker)
        mine, theirs = await matching.take("x", avoid=nobody), await matching.take("y", avoid=nobody)
        (job,) = await waiting(matching, "y")
        matching.give(mine)
        assert await job == mine, f"{theirs} has it at hand, and is busy"

    run(work)


def test_a_job_is_passed_over_only_so_often() -> None:
    async def work(matching: Matching[str]) -> None:
        matching.give("a")
        await matching.take("x", avoid=nobody)
        (rare,) = await waiting(matching, "rare")
        num_before = 0
        while not rare.done():
            (job,) = await waiting(matching, "x")
            matching.give("a")
            await asyncio.sleep(0)
            num_before += job.done()
            job.cancel()
        assert num_before == MAX_PASSED_OVER

    run(work)


def test_what_failed_at_one_waits_for_another_unless_there_is_none() -> None:
    async def work(matching: Matching[str]) -> None:
        for worker in ("bad", "good"):
            matching.give(worker)
        await matching.take("x", avoid=lambda worker: worker == "bad")
        job = asyncio.create_task(matching.take("x", avoid=lambda worker: worker == "bad"))
        await asyncio.sleep(0)
        assert not job.done(), "bad is idle, and not for this one"
        assert await matching.take("x", avoid=nobody) == "bad"
        matching.give("bad")
        matching.leave("good")
        assert await job == "bad"

    run(work)


def test_a_caller_that_is_cancelled_loses_no_worker() -> None:
    async def work(matching: Matching[str]) -> None:
        matching.give("a")
        await matching.take("x", avoid=nobody)
        (gone,) = await waiting(matching, "x")
        matching.give("a")  # it is handed over, and the caller is cancelled before it hears
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await matching.take("x", avoid=nobody) == "a"

    run(work)


def test_after_the_end_nobody_waits() -> None:
    async def work(matching: Matching[str]) -> None:
        (job,) = await waiting(matching, "x")
        matching.end()
        with pytest.raises(NoneLeft):
            await job
        with pytest.raises(NoneLeft):
            await matching.take("x", avoid=nobody)

    run(work)
