"""Limits on the whole run, and what things cost: held over all searches, overrun by what is in flight at most, and
raised by a resume. Models and judges are scripted: a sample takes 7 + 3 tokens, a verdict half a GPU second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.account import Account
from agent.allocator import ExpectedGain
from agent.controller import RunPlan
from agent.events import EndReason, Outcome, Proposed, RunStarted, Sampled
from agent.ledger import Ledger
from agent.ledger_rows import Entry
from agent.sampler import SampleRequest, SamplerExhausted
from agent.search import Standing
from sandbox.spend import amount
from sandbox.tracer import ProblemFailed
from sandbox.types import Budget, Candidate, Finding, Operator, Prices, Spend, Status, Verdict
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
    run_and_stop,
    verdict_on,
)

# A sample is 19 dollars, a verdict 9; numbers that floats hold exactly.
PRICES = Prices(gpu_hour=64800.0, prompt_tokens_per_million=1e6, completion_tokens_per_million=4e6)
NUM_PROBLEMS = 4
IN_FLIGHT = 3  # of each search
MOST_OF_ONE = {"samples": 1, "tokens": 10, "judged": 1, "gpu_seconds": 0.5, "usd": 28.0}  # what a proposal may come to


def events(bench: Bench) -> Sequence[Entry]:
    with Ledger.open_read_only(bench.folder.ledger) as ledger:
        return list(ledger.events())


def run_spend(bench: Bench) -> Spend:
    account = Account()
    for entry in events(bench):
        account.charge(entry.event, epoch=entry.epoch, seconds=entry.seconds)
    return account.spend


def budget_of(currency: str, limit: float) -> Budget:
    return Budget(**{currency: limit})  # type: ignore[arg-type]


def bounded(run_budget: Budget, **changes: object) -> RunPlan:
    plan: dict[str, object] = {"samples": None, "prices": PRICES, "new_strategy": best_of_n(IN_FLIGHT)}
    return plan_of(NUM_PROBLEMS, run_budget=run_budget, **(plan | changes))  # type: ignore[arg-type]


def good(candidate: Candidate) -> Verdict:
    return verdict_on(candidate, status=Status.PASSED)


@pytest.mark.parametrize(
    ("currency", "limit"), [("samples", 9), ("tokens", 85), ("judged", 9), ("gpu_seconds", 4.0), ("usd", 200.0)]
)
def test_each_limit_of_the_run_is_overrun_by_what_is_in_flight_at_most(
    bench: Bench, currency: str, limit: float
) -> None:
    plan, pool = bounded(budget_of(currency, limit)), ScriptedPool(good, delay_seconds=0.002)
    summary = bench.run(plan, sampler=ScriptedSampler(delay_seconds=0.001), pool=pool)
    assert (summary.outcome, summary.error) == (Outcome.COMPLETED, None)
    assert {(s.end, s.end_detail) for s in summary.searches} == {(EndReason.RUN_BUDGET, currency)}
    assert len(pool.confirmed) == NUM_PROBLEMS, "winners are confirmed as ever"
    account = Account()
    for entry in events(bench):
        if isinstance(entry.event, Proposed):
            spent = amount(currency, account.spend, prices=PRICES)
            assert spent is not None and spent < limit, "nothing is asked for once the limit is reached"
        account.charge(entry.event, epoch=entry.epoch, seconds=entry.seconds)
    total = amount(currency, account.spend, prices=PRICES)
    assert total is not None
    if currency in ("samples", "judged"):
        assert total == limit, "what is reserved is known beforehand"
    assert limit <= total < limit + NUM_PROBLEMS * IN_FLIGHT * MOST_OF_ONE[currency]


@pytest.mark.parametrize("currency", ["samples", "tokens", "judged", "gpu_seconds", "usd"])
def test_a_larger_limit_goes_on_and_spends_nothing_twice(bench: Bench, currency: str) -> None:
    first, second, third = ScriptedSampler(), ScriptedSampler(), ScriptedSampler()
    small, large = (MOST_OF_ONE[currency] * n for n in (8, 32))
    bench.run(bounded(budget_of(currency, small)), sampler=first)
    spent = amount(currency, run_spend(bench), prices=PRICES)
    assert spent is not None and small <= spent < large
    bench.run(bounded(budget_of(currency, small)), sampler=third)
    assert third.requests == [], "the ledger alone gives what was spent"
    bench.run(bounded(budget_of(currency, large)), sampler=second)
    total = amount(currency, run_spend(bench), prices=PRICES)
    assert total is not None and total >= large
    asked = [(r.problem.id, r.proposal.id) for r in (*first.requests, *second.requests)]
    assert len(asked) == len(set(asked)) == run_spend(bench).samples
    assert all(s.ended is not None and s.ended.end is EndReason.RUN_BUDGET for s in bench.standings().values())


def test_a_problems_dollars_end_its_search(bench: Bench) -> None:
    plan = plan_of(2, budget=Budget(usd=57.0), prices=PRICES, new_strategy=best_of_n())
    summary = bench.run(plan)
    assert {(s.end, s.end_detail) for s in summary.searches} == {(EndReason.BUDGET, "usd")}
    assert [PRICES.usd(bench.spend(id)) for id in ("p0", "p1")] == [84.0, 84.0], "three of 28 each: the third was open"


@pytest.mark.parametrize("num_events", [1, 7, 20, 33])
def test_a_run_stopped_anywhere_keeps_to_its_limit(bench: Bench, num_events: int) -> None:
    plan = bounded(Budget(samples=12), new_strategy=repair(in_flight=2))
    first, second = ScriptedSampler(delay_seconds=0.001), ScriptedSampler()
    assert run_and_stop(bench, plan, sampler=first, num_events=num_events).outcome is Outcome.STOPPED
    sampled = {(e.event.problem_id, e.event.proposal.id) for e in events(bench) if isinstance(e.event, Sampled)}
    assert bench.run(plan, sampler=second).outcome is Outcome.COMPLETED
    assert not sampled & {(r.problem.id, r.proposal.id) for r in second.requests}
    assert (run_spend(bench).samples, run_spend(bench).judged) == (12, 12)


def test_what_one_search_gives_back_another_may_spend(bench: Bench) -> None:
    def answer(request: SampleRequest) -> str:
        if request.problem.id == "p0":
            raise SamplerExhausted("nothing for p0")
        return own_program(request)

    gain = ExpectedGain({"p0": 1000.0})  # p0 reserves all four before p1 has a turn
    plan = bounded(Budget(samples=4), allocator=gain, new_strategy=best_of_n(4))
    plan = replace(plan, problems=plan.problems[:2])
    summary = bench.run(plan, sampler=ScriptedSampler(answer, delay_seconds=0.001))
    assert [e.problem_id for e in bench.events if isinstance(e, Proposed)][:5] == ["p0"] * 4 + ["p1"]
    assert [(s.end, s.spend.samples) for s in summary.searches] == [
        (EndReason.EXHAUSTED, 0),
        (EndReason.RUN_BUDGET, 4),
    ]


def test_a_problem_at_fault_gives_back_what_it_reserved(bench: Bench) -> None:
    def judge(candidate: Candidate) -> Verdict:
        if candidate.problem_id == "p0":
            raise ProblemFailed("p0 passes nothing")
        return always_wrong(candidate)

    plan = bounded(Budget(judged=6), new_strategy=best_of_n(1))
    summary = bench.run(plan, pool=ScriptedPool(judge))
    ends = Counter(search.end for search in summary.searches)
    assert ends == {EndReason.INADMISSIBLE: 1, EndReason.RUN_BUDGET: NUM_PROBLEMS - 1}
    assert sum(search.spend.judged for search in summary.searches) == 6


def test_a_strategy_that_is_done_did_not_end_by_the_limit(bench: Bench) -> None:
    plan = bounded(
        Budget(samples=NUM_PROBLEMS),
        new_strategy=lambda seed: BestOfN(seed=seed, in_flight=1, stop_when_passed=True, fix=False),
    )

    def judge(candidate: Candidate) -> Verdict:
        return good(candidate) if candidate.problem_id == "p0" else always_wrong(candidate)

    first, *others = bench.run(plan, pool=ScriptedPool(judge)).searches
    assert first.end is EndReason.FINISHED
    assert {search.end for search in others} == {EndReason.RUN_BUDGET}


def test_fixes_go_on_when_the_runs_samples_are_used_up(bench: Bench) -> None:
    def judge(candidate: Candidate) -> Verdict:
        if "wrong" not in candidate.source:
            return good(candidate)
        at = candidate.source.index("wrong")
        finding = Finding(rule="r", start=at, end=at + 5, found="wrong", instead="right", message="not that")
        return replace(always_wrong(candidate), findings=(finding,))

    sampler, pool = ScriptedSampler(lambda r: program(f"x = 'wrong {r.problem.id}'")), ScriptedPool(judge)
    bench.run(bounded(Budget(samples=NUM_PROBLEMS), new_strategy=repair(fix=True)), sampler=sampler, pool=pool)
    assert Counter(c.operator for c in pool.candidates) == {Operator.DRAFT: NUM_PROBLEMS, Operator.FIX: NUM_PROBLEMS}


def test_the_runs_wall_time_counts_over_resumes(bench: Bench) -> None:
    plan = bounded(Budget(wall_seconds=0.15))
    summary = bench.run(plan, sampler=ScriptedSampler(delay_seconds=0.01))
    assert {(s.end, s.end_detail) for s in summary.searches} == {(EndReason.RUN_BUDGET, "wall_seconds")}
    again = ScriptedSampler()
    bench.run(plan, sampler=again)
    assert again.requests == []
    bench.run(bounded(Budget(wall_seconds=60.0, samples=run_spend(bench).samples + 3)), sampler=again)
    assert len(again.requests) == 3


def test_a_machine_is_paid_by_the_run_and_not_by_its_problems(bench: Bench) -> None:
    prices = Prices(machine_hour=36000.0)  # ten dollars a second
    plan = bounded(Budget(usd=1.0), prices=prices)
    summary = bench.run(plan, sampler=ScriptedSampler(delay_seconds=0.01))
    assert {(s.end, s.end_detail) for s in summary.searches} == {(EndReason.RUN_BUDGET, "usd")}
    spend = run_spend(bench)
    assert prices.usd(spend) == pytest.approx(10.0 * spend.wall_seconds)
    assert prices.of_a_problem.usd(spend) is None
    again = ScriptedSampler()
    bench.run(plan, sampler=again)
    assert again.requests == []


def test_a_run_tells_its_limits_and_what_it_spent_before(bench: Bench) -> None:
    plan = bounded(Budget(samples=4))
    bench.run(plan)
    bench.events.clear()
    bench.run(plan)
    (started,) = [event for event in bench.events if isinstance(event, RunStarted)]
    assert (started.run_budget, started.prices) == (plan.run_budget, PRICES)
    assert (started.spend.samples, started.spend.tokens) == (4, 40)


def test_a_searchs_dollars_are_derived_from_its_events(bench: Bench) -> None:
    bench.run(bounded(Budget(samples=8)))
    standing = Standing("p0")
    for entry in events(bench):
        if entry.event.problem_id == "p0":
            standing.add(entry.event, epoch=entry.epoch, seconds=entry.seconds)
    spend = standing.spend
    assert PRICES.usd(spend) == 19.0 * spend.samples + 9.0 * spend.judged
