"""What a run does with searches: turns, budgets, order and what it keeps. Models and judges are scripted."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.allocator import ExpectedGain
from agent.events import EndReason, Outcome, Proposed, Sampled
from agent.ledger import Ledger
from agent.sampler import SampleRequest
from sandbox.types import (
    Candidate,
    Observation,
    Operator,
    Proposal,
    Spend,
    Status,
    Verdict,
)
from strategies import BestOfN
from tests.agent.scripted_run import (
    Bench,
    ScriptedPool,
    ScriptedSampler,
    always_wrong,
    best_of_n,
    own_program,
    plan_of,
    program,
    repair,
    verdict_on,
)

Answer = Callable[[SampleRequest], str]


def test_turns_go_by_expected_gain_and_a_resumed_run_goes_on_with_them(bench: Bench) -> None:
    def run(samples: int) -> list[str]:
        bench.events.clear()
        plan = plan_of(2, samples=samples, new_strategy=best_of_n(4), allocator=ExpectedGain({"p1": 3.0}))
        bench.run(plan, sampling_slots=1)
        return [event.problem_id for event in bench.events if isinstance(event, Proposed)]

    assert run(1) == ["p1", "p0"]
    assert run(4) == ["p1", "p1", "p1", "p0", "p0", "p0"], "p1 had one turn of three before p0 is due for its second"


def test_a_strategy_is_told_what_each_answer_took_and_again_by_a_resume(bench: Bench) -> None:
    """Also of a program that was there before."""
    told: list[int | None] = []

    class Listening(BestOfN):
        def tell(self, proposal: Proposal, observation: Observation | None) -> None:
            assert observation is not None
            told.append(observation.num_tokens)
            super().tell(proposal, observation)

    plan = plan_of(
        samples=5, new_strategy=lambda seed: Listening(seed=seed, in_flight=2, stop_when_passed=False, fix=False)
    )
    for _ in range(2):
        told.clear()
        bench.run(plan, sampler=ScriptedSampler(lambda request: program(f"x = {request.ordinal % 2}")))
        assert told == [10] * 5


def test_every_problem_gets_its_budget_and_its_best(bench: Bench) -> None:
    def judge(candidate: Candidate) -> Verdict:
        good = "draft-2" in candidate.source or "draft-3" in candidate.source
        speedup = 3.0 if "draft-2" in candidate.source else 2.0
        return verdict_on(candidate, status=Status.PASSED if good else Status.TIMEOUT, speedup=speedup)

    summary = bench.run(plan_of(num_problems=3), pool=ScriptedPool(judge))
    assert (summary.outcome, summary.error) == (Outcome.COMPLETED, None)
    for search in summary.searches:
        spend = Spend(samples=4, tokens=40, completion_tokens=12, judged=4, gpu_seconds=2.0)
        assert replace(search.spend, wall_seconds=0.0) == spend
        assert search.num_by_status == {Status.PASSED: 2, Status.TIMEOUT: 2}
        assert (search.end, search.end_detail) == (EndReason.BUDGET, "samples")
        assert search.best is not None
        assert search.best.speedup == 3.0
        path = bench.folder.best(search.problem_id)
        text = path.read_text()
        for fact in ("passed", "3.000", "2 secret input seeds", search.best.candidate_id):
            assert fact in text.split("class")[0]
        spec = importlib.util.spec_from_file_location("best", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.ModelNew.made_by == f"{search.problem_id} draft-2"
        assert bench.folder.candidate(search.problem_id, search.best.candidate_id).is_file()
    assert Counter(type(event).__name__ for event in bench.events) == {
        "RunStarted": 1,
        "Proposed": 12,
        "Sampled": 12,
        "Judged": 12,
        "NewBest": 3,
        "SearchEnded": 3,
        "Confirmed": 3,
        "RunEnded": 1,
    }


def test_nothing_is_acted_on_before_it_is_durable(bench: Bench) -> None:
    def recorded(table: str, column: str, value: str) -> bool:
        with Ledger.open_read_only(bench.folder.ledger) as ledger:
            query = f"SELECT count(*) FROM {table} WHERE {column} = ?"
            return bool(ledger._connection.execute(query, (value,)).fetchone()[0])

    class Watching(BestOfN):
        def tell(self, proposal: Proposal, observation: Observation | None) -> None:
            assert observation is not None
            assert recorded("judged", "candidate_id", observation.candidate.id)
            super().tell(proposal, observation)

    def answer(request: SampleRequest) -> str:
        assert recorded("proposed", "proposal_id", request.proposal.id)
        return own_program(request)

    def judge(candidate: Candidate) -> Verdict:
        assert recorded("sampled", "candidate_id", candidate.id)
        assert bench.folder.candidate("p0", candidate.id).read_text() == candidate.source
        return always_wrong(candidate)

    plan = plan_of(new_strategy=lambda seed: Watching(seed=seed, in_flight=2, stop_when_passed=False, fix=False))
    assert bench.run(plan, sampler=ScriptedSampler(answer), pool=ScriptedPool(judge)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("in_flight", [1, 4])
def test_the_same_program_is_judged_and_charged_once_and_told_each_time(bench: Bench, in_flight: int) -> None:
    told: list[Observation | None] = []

    class Listening(BestOfN):
        def tell(self, proposal: Proposal, observation: Observation | None) -> None:
            told.append(observation)
            super().tell(proposal, observation)

    pool = ScriptedPool(delay_seconds=0.01)
    plan = plan_of(
        new_strategy=lambda seed: Listening(seed=seed, in_flight=in_flight, stop_when_passed=False, fix=False)
    )
    bench.run(plan, sampler=ScriptedSampler(lambda _: program("x = 1")), pool=pool)
    assert len(pool.candidates) == 1
    assert len({o.candidate.id for o in told if o is not None}) == 1
    assert len(told) == 4
    assert bench.spend() == Spend(samples=4, tokens=40, completion_tokens=12, judged=1, gpu_seconds=0.5)


def test_sampling_and_judging_overlap_within_their_bounds(bench: Bench) -> None:
    sampler = ScriptedSampler(delay_seconds=0.03)
    overlapped: set[bool] = set()

    def judge(candidate: Candidate) -> Verdict:
        overlapped.add(sampler.num_open > 0)
        return always_wrong(candidate)

    pool = ScriptedPool(judge, delay_seconds=0.002)
    plan = plan_of(num_problems=40, new_strategy=best_of_n(in_flight=8), samples=8)
    assert bench.run(plan, sampler=sampler, pool=pool, sampling_slots=256).outcome is Outcome.COMPLETED
    assert True in overlapped
    assert sampler.most_open == 256
    assert pool.most_open == pool.capacity
    assert len(sampler.requests) == 320


def test_searches_take_turns(bench: Bench) -> None:
    sampler = ScriptedSampler()
    bench.run(plan_of(num_problems=6, new_strategy=best_of_n(in_flight=4)), sampler=sampler, sampling_slots=3)
    for start in (0, 6):
        assert len({request.problem.id for request in sampler.requests[start : start + 6]}) == 6


def test_a_repair_is_asked_for_with_its_parent_and_feedback(bench: Bench) -> None:
    sampler = ScriptedSampler()
    bench.run(plan_of(new_strategy=repair(), samples=5), sampler=sampler)
    operators = [request.proposal.operator for request in sampler.requests]
    assert operators == [Operator.DRAFT, Operator.REPAIR, Operator.REPAIR, Operator.DRAFT, Operator.REPAIR]
    assert [request.ordinal for request in sampler.requests] == [0, 0, 1, 1, 2]
    first, second = sampler.requests[:2]
    assert first.parents == ()
    assert "draft-0" in second.parents[0].source
    assert second.prompt == "p0 repair it is wrong"
    assert len({request.seed for request in sampler.requests}) == 5


def test_an_answer_without_code_is_judged_like_any_other(bench: Bench) -> None:
    pool = ScriptedPool(lambda candidate: verdict_on(candidate, status=Status.NO_KERNEL))
    bench.run(plan_of(samples=1), sampler=ScriptedSampler(lambda _: "I cannot \udc80 do that."), pool=pool)
    assert [candidate.source for candidate in pool.candidates] == [""]
    assert bench.standings()["p0"].num_by_status == {Status.NO_KERNEL: 1}


def test_transcripts_are_kept(bench: Bench) -> None:
    bench.run(plan_of(samples=1), sampler=ScriptedSampler(lambda _: "prose " + program("x = 1")))
    (event,) = [event for event in bench.events if isinstance(event, Sampled)]
    with Ledger.open_read_only(bench.folder.ledger) as ledger:
        transcript = ledger.transcript("p0", event.proposal)
    assert transcript is not None
    assert transcript.prompt == "p0 draft"
    assert transcript.completion == "prose " + program("x = 1")
