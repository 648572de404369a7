"""Proposals that ask no model: what they cost, what is recorded of them, and that a run resumes over them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.controller import RunPlan
from agent.events import Event, Outcome, Proposed, Sampled
from agent.ledger import Ledger
from agent.report import report_text, summary_json
from agent.rule_count import RuleCount
from agent.run_record import read_run
from sandbox.types import Budget, Candidate, Finding, Operator, Spend, Status, Verdict
from tests.agent.scripted_run import (
    Bench,
    ScriptedPool,
    ScriptedSampler,
    always_wrong,
    plan_of,
    program,
    repair,
    verdict_on,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "run").mkdir()
    yield Bench(tmp_path / "run")


def fixable(candidate: Candidate, *, word: str, instead: str, rule: str = "spelling") -> Verdict:
    at = candidate.source.index(word)
    finding = Finding(rule=rule, start=at, end=at + len(word), found=word, instead=instead, message="not that")
    return replace(always_wrong(candidate), findings=(finding,))


def judge(candidate: Candidate) -> Verdict:
    """Drafts are `wrong`, which the first rule makes `better` and the second `right`."""
    if "wrong" in candidate.source:
        return fixable(candidate, word="wrong", instead="better")
    if "better" in candidate.source:
        return fixable(candidate, word="better", instead="right", rule="meaning")
    return verdict_on(candidate, status=Status.PASSED)


def fixing(samples: int) -> RunPlan:
    return plan_of(new_strategy=repair(fix=True), budget=Budget(samples=samples))


def test_fixes_ask_no_model_and_cost_a_verdict_each(bench: Bench) -> None:
    sampler, pool = ScriptedSampler(lambda _: program("x = 'wrong'")), ScriptedPool(judge)
    assert bench.run(fixing(1), sampler=sampler, pool=pool).outcome is Outcome.COMPLETED
    assert [request.proposal.operator for request in sampler.requests] == [Operator.DRAFT]
    assert bench.spend() == Spend(samples=1, tokens=10, completion_tokens=3, judged=3, gpu_seconds=1.5), (
        "also when samples are used up"
    )
    drafted, once, twice = pool.candidates
    assert [c.operator for c in pool.candidates] == [Operator.DRAFT, Operator.FIX, Operator.FIX]
    assert (once.source, once.parent_ids) == (drafted.source.replace("wrong", "better"), (drafted.id,))
    assert (twice.source, twice.parent_ids) == (drafted.source.replace("wrong", "right"), (once.id,))
    with Ledger.open_read_only(bench.folder.ledger) as ledger:
        events = [entry.event for entry in ledger.events()]
        fixes = [e for e in events if isinstance(e, Sampled) and e.proposal.operator is Operator.FIX]
        assert [(e.num_tokens, e.finish_reason, e.tokens_estimated) for e in fixes] == [(0, None, False)] * 2
        labels = [ledger.observation(c.id).verdict.labels for c in pool.candidates]
    assert labels == [(), ("fixed_by:spelling",), ("fixed_by:meaning",)]


def test_what_a_fix_gives_again_keeps_its_verdict(bench: Bench) -> None:
    """Two drafts that differ in what the rule takes away become one candidate."""
    sampler = ScriptedSampler(lambda request: program(f"x = 'wrong{request.ordinal}'"))

    def wrong_until_fixed(candidate: Candidate) -> Verdict:
        if "wrong" not in candidate.source:
            return verdict_on(candidate, status=Status.PASSED)
        at = candidate.source.index("wrong")
        return fixable(candidate, word=candidate.source[at : at + 6], instead="right")

    pool = ScriptedPool(wrong_until_fixed)
    bench.run(fixing(2), sampler=sampler, pool=pool)
    assert [c.operator for c in pool.candidates] == [Operator.DRAFT, Operator.FIX, Operator.DRAFT]
    assert bench.spend().judged == 3
    proposed = Counter(e.proposal.operator for e in bench.events if isinstance(e, Proposed))
    assert proposed == {Operator.DRAFT: 2, Operator.FIX: 2}


def test_the_model_repairs_what_a_fix_did_not_mend(bench: Bench) -> None:
    def never_right(candidate: Candidate) -> Verdict:
        fix = "wrong" in candidate.source
        return fixable(candidate, word="wrong", instead="better") if fix else always_wrong(candidate)

    sampler = ScriptedSampler(lambda request: program("x = 'wrong'" if not request.parents else "x = 'other'"))
    bench.run(fixing(2), sampler=sampler, pool=ScriptedPool(never_right))
    repaired = sampler.requests[1]
    assert repaired.proposal.operator is Operator.REPAIR
    assert "better" in repaired.parents[0].source


def stopped_after(bench: Bench, *, num_events: int) -> Outcome:
    async def go() -> Outcome:
        seen: list[Event] = []

        def watch(event: Event) -> None:
            seen.append(event)
            if len(seen) == num_events:
                controller.stop()

        pool = ScriptedPool(judge)
        controller = bench.controller(fixing(3), sampler=numbered(), pool=pool, on_event=watch)
        return (await controller.run()).outcome

    return asyncio.run(go())


def numbered() -> ScriptedSampler:
    return ScriptedSampler(lambda request: program(f"x = 'wrong{request.ordinal}'"))


@pytest.mark.parametrize("num_events", [4, 5, 6, 8, 9, 12])
def test_a_run_stopped_around_a_fix_goes_on_where_it_was(tmp_path: Path, num_events: int) -> None:
    reached = []
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name)
        if name == "broken":
            assert stopped_after(bench, num_events=num_events) is Outcome.STOPPED
        assert bench.run(fixing(3), sampler=numbered(), pool=ScriptedPool(judge)).outcome is Outcome.COMPLETED
        with Ledger.open_read_only(bench.folder.ledger) as ledger:
            judged = ledger._connection.execute("SELECT candidate_id FROM judged ORDER BY candidate_id").fetchall()
        reached.append((judged, bench.spend()))
    assert reached[0] == reached[1]
    assert len(reached[0][0]) == 9


def test_the_report_counts_what_each_rule_mended(bench: Bench) -> None:
    bench.run(fixing(1), sampler=ScriptedSampler(lambda _: program("x = 'wrong'")), pool=ScriptedPool(judge))
    bench.folder.write_config("seed: 0\n")
    record = read_run(bench.folder)
    assert record.rules == (
        RuleCount(rule="spelling", num_applied=1, num_passed=0),
        RuleCount(rule="meaning", num_applied=1, num_passed=1),
    )
    assert "| meaning | 1 | 1 |" in report_text(record)
    assert "solved by fix" in report_text(record)
    told = summary_json(record, outcome="completed", error=None)["rules"]
    assert told == {"spelling": {"mended": 1, "passed": 0}, "meaning": {"mended": 1, "passed": 1}}
