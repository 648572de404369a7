"""A program is judged once for all cells of an experiment, and every cell is charged as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.pool import Confirmation, PoolError
from agent.shared_pool import SharedPool
from agent.verdict_cache import Asked, Kind, VerdictCache
from sandbox.types import Candidate, Operator, Problem, Spend, Status, Verdict
from tests.agent.scripted_run import ScriptedPool, always_wrong, verdict_on
from tests.judge_settings import judge_settings

PROBLEM = Problem(id="p0", source="# 0", origin="test")


def candidate(text: str) -> Candidate:
    return Candidate(problem_id="p0", source=text, operator=Operator.DRAFT)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VerdictCache]:
    opened = VerdictCache.open(tmp_path / "verdicts.sqlite", settings=judge_settings())
    yield opened
    opened.close()


def test_the_same_verdict_is_told_to_who_comes_later_and_charged_alike(cache: VerdictCache) -> None:
    inner = ScriptedPool()
    pool = SharedPool(inner, cache=cache)

    async def go() -> list[Verdict]:
        return [await pool.of(cell).judge(PROBLEM, candidate("a")) for cell in ("one", "two", "two")]

    first, second, third = asyncio.run(go())
    assert first == second == third
    assert first.spend.gpu_seconds == 0.5
    assert len(inner.candidates) == 1
    assert cache.asked(Kind.SEARCH) == {"one": Asked(num=1, num_hits=0), "two": Asked(num=1, num_hits=1)}


def test_who_asks_for_what_is_being_judged_waits_for_it(cache: VerdictCache) -> None:
    inner = ScriptedPool(delay_seconds=0.05)
    pool = SharedPool(inner, cache=cache)

    async def go() -> list[Verdict]:
        return await asyncio.gather(*(pool.of(cell).judge(PROBLEM, candidate("a")) for cell in "abc"))

    assert len(set(map(str, asyncio.run(go())))) == 1
    assert len(inner.candidates) == 1
    assert sum(asked.num_hits for asked in cache.asked(Kind.SEARCH).values()) == 2


def test_who_asked_first_may_leave_while_others_wait(cache: VerdictCache) -> None:
    inner = ScriptedPool(delay_seconds=0.1)
    pool = SharedPool(inner, cache=cache)

    async def go() -> Verdict:
        first = asyncio.create_task(pool.of("one").judge(PROBLEM, candidate("a")))
        second = asyncio.create_task(pool.of("two").judge(PROBLEM, candidate("a")))
        await asyncio.sleep(0.02)
        first.cancel()
        return await second

    assert asyncio.run(go()).status is Status.WRONG_VALUES
    assert len(inner.candidates) == 1


def test_our_trouble_is_told_to_all_who_wait_and_kept_nowhere(cache: VerdictCache) -> None:
    troubles = iter([PoolError("the worker died")])

    def judge(judged: Candidate) -> Verdict:
        if (trouble := next(troubles, None)) is not None:
            raise trouble
        return always_wrong(judged)

    pool = SharedPool(ScriptedPool(judge, delay_seconds=0.02), cache=cache)

    async def go() -> tuple[list[Verdict | BaseException], Verdict]:
        asking = [pool.of(cell).judge(PROBLEM, candidate("a")) for cell in ("one", "two")]
        together = await asyncio.gather(*asking, return_exceptions=True)
        return together, await pool.of("one").judge(PROBLEM, candidate("a"))

    together, later = asyncio.run(go())
    assert all(isinstance(found, PoolError) for found in together)
    assert later.status is Status.WRONG_VALUES


def test_verdicts_last_and_are_of_one_problem_and_one_way_of_judging(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    found = Confirmation(verdict=verdict_on(candidate("a"), status=Status.PASSED), plan=b"plan" * 1000)
    first = VerdictCache.open(path, settings=judge_settings())
    first.keep(Kind.CONFIRM, PROBLEM, candidate("a"), found)
    first.close()
    again = VerdictCache.open(path, settings=judge_settings())
    assert again.find(Kind.CONFIRM, PROBLEM, candidate("a")) == found
    assert again.find(Kind.SEARCH, PROBLEM, candidate("a")) is None
    assert again.find(Kind.CONFIRM, replace(PROBLEM, source="# other"), candidate("a")) is None
    again.close()
    other = VerdictCache.open(path, settings=judge_settings(num_seeds=5))
    assert other.find(Kind.CONFIRM, PROBLEM, candidate("a")) is None
    other.close()


def test_an_equal_plan_costs_each_cell_what_it_would_cost_it_alone(cache: VerdictCache) -> None:
    """Judges tell the second program with a plan the first one's verdict, at no cost. Which cell was first is luck."""
    costs = {"a": 0.5, "b": 0.0, "c": 0.0}  # all of one plan

    def judge(judged: Candidate) -> Verdict:
        return replace(always_wrong(judged), plan_hash="same", spend=Spend(gpu_seconds=costs[judged.source]))

    pool = SharedPool(ScriptedPool(judge), cache=cache)

    async def charged(cell: str, *texts: str) -> list[float]:
        return [(await pool.of(cell).judge(PROBLEM, candidate(text))).spend.gpu_seconds for text in texts]

    async def go() -> list[list[float]]:
        return [await charged("one", "a", "b"), await charged("two", "b", "a"), await charged("three", "c")]

    assert asyncio.run(go()) == [[0.5, 0.0], [0.5, 0.0], [0.5]]


def test_a_confirmation_stands_or_falls_for_all_cells_alike(cache: VerdictCache) -> None:
    inner = ScriptedPool()
    pool = SharedPool(inner, cache=cache)

    async def go() -> list[Confirmation]:
        return [await pool.of(cell).confirm(PROBLEM, candidate("a")) for cell in ("one", "two")]

    first, second = asyncio.run(go())
    assert first == second
    assert len(inner.confirmed) == 1
    assert inner.candidates == []
