"""What a run does with trouble of ours, and how it goes on after an interruption. Models and judges are scripted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from agent.events import EndReason, Event, Outcome, RunSummary, Sampled, SearchEnded
from agent.ledger import Ledger, ResumeError
from agent.pool import PoolError
from agent.run_folder import RunFolder
from agent.run_record import read_run
from agent.sampler import Completion, SampleRequest, SamplerError
from sandbox.types import (
    Candidate,
    Spend,
    Status,
    Verdict,
)
from tests.agent.scripted_run import (
    Bench,
    ScriptedPool,
    ScriptedSampler,
    always_wrong,
    best_of_n,
    own_program,
    plan_of,
    repair,
    run_and_stop,
    verdict_on,
)

Answer = Callable[[SampleRequest], str]


def trouble_at(number: int, error: Exception) -> Callable[[], None]:
    calls = iter(range(1, 1000))

    def check() -> None:
        if next(calls) == number:
            raise error

    return check


@pytest.mark.parametrize("who", ["sampler", "pool"])
def test_our_trouble_fails_the_run_charges_nobody_and_is_resumed(bench: Bench, who: str) -> None:
    sampler_check = trouble_at(5 if who == "sampler" else 0, SamplerError("the server\nis down"))
    pool_check = trouble_at(5 if who == "pool" else 0, PoolError("a worker\nis dead"))

    def answer(request: SampleRequest) -> str:
        sampler_check()
        return own_program(request)

    def judge(candidate: Candidate) -> Verdict:
        pool_check()
        return always_wrong(candidate)

    plan = plan_of(num_problems=3, new_strategy=repair())
    summary = bench.run(plan, sampler=ScriptedSampler(answer), pool=ScriptedPool(judge))
    assert summary.outcome is Outcome.FAILED
    assert summary.error in ("the server is down", "a worker is dead")
    assert all(set(s.num_by_status) <= {Status.WRONG_VALUES} for s in summary.searches)
    assert bench.run(plan).outcome is Outcome.COMPLETED
    for problem in plan.problems:
        assert bench.spend(problem.id) == Spend(samples=4, tokens=40, completion_tokens=12, judged=4, gpu_seconds=2.0)


class OneFails(ScriptedSampler):
    """The first draft fails at once and the last of four hangs, if so told; the others come a little later."""

    def __init__(self, *, last_hangs: bool = False) -> None:
        super().__init__(delay_seconds=0.02)
        self._last_hangs = last_hangs

    async def sample(self, request: SampleRequest) -> Completion:
        if request.ordinal == 0:
            self.requests.append(request)
            raise SamplerError("the server is down")
        if request.ordinal == 3 and self._last_hangs:
            await asyncio.Event().wait()
        return await super().sample(request)


def test_answers_in_flight_are_kept_when_one_fails_and_no_more_are_asked_for(bench: Bench) -> None:
    plan = plan_of(new_strategy=best_of_n(4), samples=8)
    first, second, pool = OneFails(), ScriptedSampler(), ScriptedPool()
    summary = bench.run(plan, sampler=first, pool=pool)
    assert (summary.outcome, summary.error) == (Outcome.FAILED, "the server is down")
    assert [request.ordinal for request in first.requests] == [0, 1, 2, 3]
    assert [event.proposal.id for event in sampled_events(bench)] == ["draft-1", "draft-2", "draft-3"]
    assert pool.candidates == [], "nothing is begun any more"
    assert bench.run(plan, sampler=second).outcome is Outcome.COMPLETED
    assert [request.ordinal for request in second.requests] == [0, 4, 5, 6, 7]


def test_an_answer_that_does_not_come_holds_up_no_failed_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.controller.LAST_ANSWERS_SECONDS", 0.5)
    summary = bench.run(plan_of(new_strategy=best_of_n(4)), sampler=OneFails(last_hangs=True))
    assert (summary.outcome, summary.error) == (Outcome.FAILED, "the server is down")
    assert len(sampled_events(bench)) == 2


def test_a_stop_ends_the_wait_for_the_last_answers(bench: Bench) -> None:
    async def go() -> RunSummary:
        def stop_at_the_second(event: Event) -> None:
            if isinstance(event, Sampled) and event.proposal.id == "draft-2":
                controller.stop()

        plan = plan_of(new_strategy=best_of_n(4))
        controller = bench.controller(plan, sampler=OneFails(last_hangs=True), on_event=stop_at_the_second)
        return await asyncio.wait_for(controller.run(), timeout=30)

    assert asyncio.run(go()).error == "the server is down"
    assert len(sampled_events(bench)) == 2


def test_a_mistake_of_ours_is_not_swallowed(bench: Bench) -> None:
    def judge(_: Candidate) -> Verdict:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.run(plan_of(), pool=ScriptedPool(judge))
    assert bench.run(plan_of()).outcome is Outcome.COMPLETED, "the ledger was closed and the run goes on"


@pytest.mark.parametrize("num_events", [1, 2, 13, 30, 50])
def test_a_stopped_run_goes_on_where_it_was(bench: Bench, num_events: int) -> None:
    sampler = ScriptedSampler(delay_seconds=0.001)
    plan = plan_of(num_problems=3, new_strategy=repair(in_flight=2), samples=10)
    assert run_and_stop(bench, plan, sampler=sampler, num_events=num_events).outcome is Outcome.STOPPED
    sampled_before = {(e.problem_id, e.proposal.id) for e in sampled_events(bench)}
    second = ScriptedSampler()
    assert bench.run(plan, sampler=second).outcome is Outcome.COMPLETED
    assert not sampled_before & {(request.problem.id, request.proposal.id) for request in second.requests}
    for problem in plan.problems:
        assert bench.spend(problem.id).samples == 10
    third, pool = ScriptedSampler(), ScriptedPool()
    assert bench.run(plan, sampler=third, pool=pool).outcome is Outcome.COMPLETED
    assert (third.requests, pool.candidates) == ([], []), "a finished run has nothing to do"


def test_an_answer_that_came_while_others_were_written_is_kept_by_a_stop(bench: Bench) -> None:
    async def go() -> RunSummary:
        writing, answered = asyncio.Event(), threading.Event()

        class Second(ScriptedSampler):
            async def sample(self, request: SampleRequest) -> Completion:
                if request.ordinal == 1:
                    await writing.wait()
                    controller.stop()
                    loop.call_soon(answered.set)
                return await super().sample(request)

        class SlowFolder(RunFolder):
            def write_candidate(self, candidate: Candidate) -> None:
                loop.call_soon_threadsafe(writing.set)
                answered.wait(10.0)
                super().write_candidate(candidate)

        loop = asyncio.get_running_loop()
        bench.folder = SlowFolder(bench.folder.root)
        controller = bench.controller(plan_of(samples=2, new_strategy=best_of_n(2)), sampler=Second())
        return await controller.run()

    assert asyncio.run(go()).outcome is Outcome.STOPPED
    assert len(sampled_events(bench)) == 2


def sampled_events(bench: Bench) -> Sequence[Sampled]:
    with Ledger.open_read_only(bench.folder.ledger) as ledger:
        return [entry.event for entry in ledger.events() if isinstance(entry.event, Sampled)]


def test_a_larger_budget_goes_on_from_a_finished_run(bench: Bench) -> None:
    bench.run(plan_of(samples=2))
    sampler = ScriptedSampler()
    bench.run(plan_of(samples=3), sampler=sampler)
    assert [request.ordinal for request in sampler.requests] == [2]


def test_another_strategy_or_problem_cannot_resume(bench: Bench) -> None:
    bench.run(plan_of(new_strategy=repair()))
    with pytest.raises(ResumeError, match="problem p0: the ledger holds proposal repair-1"):
        bench.run(plan_of(new_strategy=best_of_n()))
    with pytest.raises(ResumeError, match="p1"):
        bench.run(plan_of(num_problems=2, new_strategy=repair()))


def test_a_lost_best_file_is_written_again(bench: Bench) -> None:
    pool = ScriptedPool(lambda candidate: verdict_on(candidate, status=Status.PASSED))
    bench.run(plan_of(), pool=pool)
    text = bench.folder.best("p0").read_text()
    bench.folder.best("p0").unlink()
    bench.run(plan_of())
    assert bench.folder.best("p0").read_text() == text


def test_the_time_before_a_stop_counts_though_nothing_came_of_it(bench: Bench) -> None:
    async def stopped_while_it_waits() -> RunSummary:
        controller = bench.controller(plan_of(2, samples=1), sampler=ScriptedSampler(delay_seconds=60.0))
        asyncio.get_running_loop().call_later(0.2, controller.stop)
        return await controller.run()

    bench.folder.write_config("seed: 0\n")
    for times in (1, 2):
        assert asyncio.run(stopped_while_it_waits()).outcome is Outcome.STOPPED
        record = read_run(bench.folder)
        assert record.wall_seconds >= 0.2 * times
        assert [result.spend.wall_seconds for result in record.results] == [record.wall_seconds] * 2
        assert [result.word for result in record.results] == ["not done"] * 2
    before = record.wall_seconds
    assert bench.run(plan_of(2, samples=1)).outcome is Outcome.COMPLETED
    record = read_run(bench.folder)
    assert record.wall_seconds > before
    assert [result.end for result in record.results] == [EndReason.BUDGET] * 2


def test_a_stop_leaves_a_search_that_is_over_as_it_was(bench: Bench) -> None:
    bench.run(plan_of(samples=1))
    before = bench.standings()["p0"]
    with Ledger.open(bench.folder.ledger) as ledger:
        ledger.append([SearchEnded(problem_id="p0", end=EndReason.STOPPED, detail=None)], seconds=9.0)
    after = bench.standings()["p0"]
    assert (after.ended, after.spend) == (before.ended, before.spend)
