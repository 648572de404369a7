"""How searches end: each limit, and every fault that ends one search or the run. Models and judges are scripted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.events import EndReason, Outcome, SearchEnded, Unsampled
from agent.prompts import PromptTooLong
from agent.sampler import PromptRefused, SampleRequest, SamplerExhausted, SamplerRefused
from sandbox.tracer import ProblemFailed
from sandbox.types import (
    MAX_UNSPENT,
    Budget,
    Candidate,
    Observation,
    Operator,
    Problem,
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
    prompt,
    repair,
    run_and_stop,
)

Answer = Callable[[SampleRequest], str]


@pytest.mark.parametrize(
    ("budget", "spend"),
    [
        (Budget(samples=3), Spend(samples=3, tokens=30, completion_tokens=9, judged=3, gpu_seconds=1.5)),
        (Budget(tokens=25), Spend(samples=3, tokens=30, completion_tokens=9, judged=3, gpu_seconds=1.5)),
        (Budget(judged=2), Spend(samples=2, tokens=20, completion_tokens=6, judged=2, gpu_seconds=1.0)),
        (Budget(gpu_seconds=0.9), Spend(samples=2, tokens=20, completion_tokens=6, judged=2, gpu_seconds=1.0)),
    ],
)
def test_each_limit_ends_a_search(bench: Bench, budget: Budget, spend: Spend) -> None:
    bench.run(plan_of(budget=budget))
    assert bench.spend() == spend


def test_samples_and_verdicts_in_flight_are_reserved(bench: Bench) -> None:
    for limits, num_samples in ((Budget(samples=3), 3), (Budget(judged=2), 2)):
        sampler = ScriptedSampler()
        root = bench.folder.root / str(num_samples)
        root.mkdir()
        Bench(root).run(plan_of(new_strategy=best_of_n(in_flight=8), budget=limits), sampler=sampler)
        assert len(sampler.requests) == num_samples


def test_a_wall_limit_ends_the_search_and_counts_over_resumes(bench: Bench) -> None:
    plan = plan_of(budget=Budget(wall_seconds=0.1))
    (search,) = bench.run(plan, sampler=ScriptedSampler(delay_seconds=0.01)).searches
    assert search.end_detail == "wall_seconds"
    sampler = ScriptedSampler()
    bench.run(plan, sampler=sampler)
    assert len(sampler.requests) <= 1


def test_used_up_answers_end_the_search_after_its_last_repairs(bench: Bench) -> None:
    def answer(request: SampleRequest) -> str:
        if request.proposal.operator is Operator.DRAFT and request.ordinal >= 2:
            raise SamplerExhausted("two drafts are recorded")
        return own_program(request)

    summary = bench.run(plan_of(new_strategy=repair(in_flight=4), samples=20), sampler=ScriptedSampler(answer))
    assert summary.outcome is Outcome.COMPLETED
    (search,) = summary.searches
    assert (search.end, search.end_detail) == (EndReason.EXHAUSTED, "two drafts are recorded")
    assert search.spend.samples == 6, "two drafts with two repairs each"
    assert len([event for event in bench.events if isinstance(event, SearchEnded)]) == 1


def test_a_problem_too_long_for_a_prompt_ends_its_own_search_only(bench: Bench) -> None:
    def render(problem: Problem, proposal: Proposal, parents: tuple[Observation, ...]) -> str:
        if problem.id == "p0":
            raise PromptTooLong("p0 is too long")
        return prompt(problem, proposal, parents)

    summary = bench.run(plan_of(num_problems=2, render=render))
    assert summary.outcome is Outcome.COMPLETED
    assert [search.spend.samples for search in summary.searches] == [0, 4]
    assert summary.searches[0].end is EndReason.EXHAUSTED


def test_a_problem_at_fault_ends_its_own_search_only(bench: Bench) -> None:
    def judge(candidate: Candidate) -> Verdict:
        if candidate.problem_id == "p0" and "draft-0" not in candidate.source:
            raise ProblemFailed("p0 passes nothing")
        return always_wrong(candidate)

    plan = plan_of(num_problems=2, samples=20, new_strategy=best_of_n(in_flight=6))
    for _ in range(2):  # a resume finds the same
        summary = bench.run(plan, pool=ScriptedPool(judge))
        assert summary.outcome is Outcome.COMPLETED
        faulty, healthy = summary.searches
        assert (faulty.end, faulty.end_detail) == (EndReason.INADMISSIBLE, "p0 passes nothing")
        assert faulty.num_by_status == {Status.WRONG_VALUES: 1}
        assert healthy.spend.judged == 20
    ended = [event.problem_id for event in bench.events if isinstance(event, SearchEnded)]
    assert sorted(ended) == ["p0", "p0", "p1", "p1"], "once a run"
    assert bench.run(plan).searches[0].spend.judged == 20, "once mended, the search goes on"


def unspent(candidate: Candidate) -> Verdict:
    """A failure that never reached the GPU."""
    return replace(always_wrong(candidate), spend=Spend())


@pytest.mark.parametrize(
    ("budget", "run_budget"), [(Budget(gpu_seconds=1.0), Budget()), (Budget(), Budget(gpu_seconds=1.0))]
)
def test_a_budget_that_nothing_spends_ends_the_search(bench: Bench, budget: Budget, run_budget: Budget) -> None:
    plan, sampler = plan_of(budget=budget, run_budget=run_budget), ScriptedSampler()
    summary = bench.run(plan, sampler=sampler, pool=ScriptedPool(unspent))
    assert (summary.outcome, len(sampler.requests)) == (Outcome.COMPLETED, MAX_UNSPENT)
    (search,) = summary.searches
    assert search.end is EndReason.UNSPENT
    assert search.end_detail == "nothing of its budget spent by the last 200 answers (gpu_seconds)"
    again = ScriptedSampler()
    bench.run(plan, sampler=again, pool=ScriptedPool(unspent))
    assert again.requests == [], "a resume counts the same"
    bench.run(replace(plan, budget=Budget(samples=MAX_UNSPENT + 3)), sampler=again, pool=ScriptedPool(unspent))
    assert len(again.requests) == 3, "a limit that is spent lets it go on"


def test_the_same_program_again_and_again_spends_no_verdicts(bench: Bench) -> None:
    sampler = ScriptedSampler(lambda request: program("made_by = 'nobody'"))
    (search,) = bench.run(plan_of(budget=Budget(judged=2), new_strategy=best_of_n(4)), sampler=sampler).searches
    assert search.end is EndReason.UNSPENT
    assert MAX_UNSPENT <= search.spend.samples <= MAX_UNSPENT + 4


def test_one_answer_that_reaches_the_gpu_begins_the_count_anew(bench: Bench) -> None:
    def judge(candidate: Candidate) -> Verdict:
        return always_wrong(candidate) if "draft-150'" in candidate.source else unspent(candidate)

    (search,) = bench.run(plan_of(budget=Budget(gpu_seconds=1.0)), pool=ScriptedPool(judge)).searches
    assert (search.end, search.spend.samples) == (EndReason.UNSPENT, 151 + MAX_UNSPENT)


def test_where_any_limit_is_spent_a_search_goes_on_to_it(bench: Bench) -> None:
    budget = Budget(samples=MAX_UNSPENT + 50, gpu_seconds=1.0)
    (search,) = bench.run(plan_of(budget=budget), pool=ScriptedPool(unspent)).searches
    assert (search.end, search.end_detail) == (EndReason.BUDGET, "samples")


def test_a_strategy_that_goes_idle_ends_its_search(bench: Bench) -> None:
    class Silent(BestOfN):
        def ask(self) -> Proposal | None:
            return None

    plan = plan_of(new_strategy=lambda seed: Silent(seed=seed, in_flight=1, stop_when_passed=False, fix=False))
    (search,) = bench.run(plan).searches
    assert search.end is EndReason.IDLE


def test_how_searches_ended_is_on_record_until_they_go_on(bench: Bench) -> None:
    def judge(candidate: Candidate) -> Verdict:
        if candidate.problem_id == "p0":
            raise ProblemFailed("p0 passes nothing")
        return always_wrong(candidate)

    bench.run(plan_of(num_problems=2, samples=2, new_strategy=best_of_n(in_flight=2)), pool=ScriptedPool(judge))
    p0 = SearchEnded(problem_id="p0", end=EndReason.INADMISSIBLE, detail="p0 passes nothing")
    p1 = SearchEnded(problem_id="p1", end=EndReason.BUDGET, detail="samples")
    assert {id: standing.ended for id, standing in bench.standings().items()} == {"p0": p0, "p1": p1}
    larger = plan_of(num_problems=2, samples=9, new_strategy=best_of_n(in_flight=2))
    run_and_stop(bench, larger, sampler=ScriptedSampler(), num_events=8)
    assert [standing.ended for standing in bench.standings().values()] == [None, None]
    bench.run(larger)
    assert [standing.ended and standing.ended.end for standing in bench.standings().values()] == [EndReason.BUDGET] * 2


def test_a_prompt_that_the_server_finds_too_long_has_no_answer_and_the_run_goes_on(bench: Bench) -> None:
    def answer(request: SampleRequest) -> str:
        if request.problem.id == "p0" and request.proposal.operator is Operator.REPAIR:
            raise PromptRefused("the context is 4096 tokens long")
        return own_program(request)

    plan = plan_of(num_problems=2, new_strategy=repair(), samples=3)
    assert bench.run(plan, sampler=ScriptedSampler(answer)).outcome is Outcome.COMPLETED
    assert [bench.spend(id).samples for id in ("p0", "p1")] == [3, 3], "drafts go on where repairs do not fit"
    reasons = [event.reason for event in bench.events if isinstance(event, Unsampled)]
    assert reasons == ["the context is 4096 tokens long"] * 2


def test_a_server_that_refuses_what_is_asked_of_it_ends_the_run_as_the_users_to_mend(bench: Bench) -> None:
    def answer(request: SampleRequest) -> str:
        raise SamplerRefused("status 401:\nno such key")

    plan = plan_of(num_problems=2)
    summary = bench.run(plan, sampler=ScriptedSampler(answer))
    assert (summary.outcome, summary.error) == (Outcome.REFUSED, "status 401: no such key")
    assert bench.run(plan).outcome is Outcome.COMPLETED
