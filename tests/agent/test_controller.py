"""What a run does with searches, budgets, faults and interruptions. Models and judges are scripted."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.allocator import ExpectedGain, Uniform
from agent.confirm import Confirmer
from agent.controller import Controller, RunPlan
from agent.events import EndReason, Event, Outcome, Proposed, RunSummary, Sampled, SearchEnded, Unsampled
from agent.ledger import Ledger, ResumeError
from agent.pool import Confirmation, PoolError
from agent.prompts import PromptTooLong
from agent.run_folder import RunFolder
from agent.sampler import Completion, PromptRefused, SampleRequest, SamplerError, SamplerExhausted, SamplerRefused
from agent.search import Standing, standings
from sandbox.tracer import ProblemFailed
from sandbox.types import (
    Budget,
    Candidate,
    Correctness,
    Failure,
    Observation,
    Operator,
    Performance,
    Problem,
    Proposal,
    Spend,
    Status,
    Verdict,
)
from strategies import BestOfN, Repair, Strategy
from tests.judge_settings import judge_settings

Answer = Callable[[SampleRequest], str]


def program(text: str) -> str:
    return f"```python\nclass ModelNew:\n    {text}\n```"


def own_program(request: SampleRequest) -> str:
    return program(f"made_by = '{request.problem.id} {request.proposal.id}'")


class ScriptedSampler:
    """Answers at once, or raises what the script raises; remembers what it was asked."""

    def __init__(self, answer: Answer = own_program, *, delay_seconds: float = 0.0) -> None:
        self._answer = answer
        self._delay_seconds = delay_seconds
        self.requests: list[SampleRequest] = []
        self.num_open = 0
        self.most_open = 0

    async def sample(self, request: SampleRequest) -> Completion:
        self.requests.append(request)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        try:
            await asyncio.sleep(self._delay_seconds)
            return Completion(text=self._answer(request), finish_reason="stop", prompt_tokens=7, completion_tokens=3)
        finally:
            self.num_open -= 1

    async def close(self) -> None: ...


def verdict_on(candidate: Candidate, *, status: Status, speedup: float = 2.0) -> Verdict:
    passed = status is Status.PASSED
    times = {"runtime_us": 5.0, "baseline_us": {"eager": 5.0 * speedup}, "against": "eager", "repetitions": 20}
    bounds = {"speedup": speedup, "speedup_low": speedup, "speedup_high": speedup}
    return Verdict(
        candidate_id=candidate.id,
        status=status,
        feedback="" if passed else "it is wrong",
        failure=None if passed else Failure(error_class="Wrong", message="it is wrong"),
        correctness=Correctness(
            checked_by="replay", seeds=(11, 12), weights="none", max_error_ratio=0.5, rms_error_ratio=0.5
        )
        if passed
        else None,
        performance=Performance(**times, **bounds) if passed else None,  # type: ignore[arg-type]
        plan_hash="h",
        spend=Spend(gpu_seconds=0.5),
    )


def always_wrong(candidate: Candidate) -> Verdict:
    return verdict_on(candidate, status=Status.WRONG_VALUES)


class ScriptedPool:
    """Confirms what it judged, unless `confirm` says otherwise."""

    capacity = 4

    def __init__(
        self,
        judge: Callable[[Candidate], Verdict] = always_wrong,
        *,
        confirm: Callable[[Candidate], Verdict] | None = None,
        delay_seconds: float = 0.0,
    ) -> None:
        self._judge = judge
        self._confirm = confirm or judge
        self.confirmed: list[Candidate] = []
        self._delay_seconds = delay_seconds
        self.candidates: list[Candidate] = []
        self.num_open = 0
        self.most_open = 0

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        assert problem.id == candidate.problem_id
        self.candidates.append(candidate)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        try:
            await asyncio.sleep(self._delay_seconds)
            return self._judge(candidate)
        finally:
            self.num_open -= 1

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        assert problem.id == candidate.problem_id
        self.confirmed.append(candidate)
        return Confirmation(verdict=self._confirm(candidate), plan=None)

    async def close(self) -> None: ...


def best_of_n(in_flight: int = 1) -> Callable[[int], Strategy]:
    return lambda seed: BestOfN(seed=seed, in_flight=in_flight, stop_when_passed=False, fix=False)


def repair(in_flight: int = 1, *, fix: bool = False) -> Callable[[int], Strategy]:
    return lambda seed: Repair(seed=seed, in_flight=in_flight, max_repairs=2, stop_when_passed=False, fix=fix)


def prompt(problem: Problem, proposal: Proposal, parents: tuple[Observation, ...]) -> str:
    return " ".join([problem.id, proposal.operator, *(parent.verdict.feedback for parent in parents)])


def plan_of(num_problems: int = 1, *, samples: int | None = 4, **changes: object) -> RunPlan:
    problems = [Problem(id=f"p{n}", source=f"# {n}", origin="test") for n in range(num_problems)]
    plan = RunPlan(
        problems=problems,
        new_strategy=best_of_n(),
        render=prompt,
        budget=Budget(samples=samples),
        allocator=Uniform(),
        seed=0,
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


class Bench:
    """A run folder with scripted models and judges beside it; each `run` opens the ledger anew, like a new process."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root)
        self.events: list[Event] = []

    def controller(
        self,
        plan: RunPlan,
        *,
        sampler: ScriptedSampler | None = None,
        pool: ScriptedPool | None = None,
        sampling_slots: int = 8,
        on_event: Callable[[Event], None] | None = None,
        most_confirmed: int = 3,
    ) -> Controller:
        pool, ledger = pool or ScriptedPool(), Ledger.open(self.folder.ledger)
        self.folder.write_environment({"gpu": None})
        return Controller(
            plan,
            sampler=sampler or ScriptedSampler(),
            pool=pool,
            ledger=ledger,
            folder=self.folder,
            confirmer=Confirmer(
                pool=pool, ledger=ledger, folder=self.folder, most=most_confirmed, settings=judge_settings()
            ),
            sampling_slots=sampling_slots,
            on_event=on_event or self.events.append,
            clock=time.monotonic,
        )

    def run(
        self,
        plan: RunPlan,
        *,
        sampler: ScriptedSampler | None = None,
        pool: ScriptedPool | None = None,
        sampling_slots: int = 8,
    ) -> RunSummary:
        async def go() -> RunSummary:
            return await self.controller(plan, sampler=sampler, pool=pool, sampling_slots=sampling_slots).run()

        return asyncio.run(go())

    def standings(self) -> dict[str, Standing]:
        with Ledger.open_read_only(self.folder.ledger) as ledger:
            return standings(ledger.events())

    def spend(self, problem_id: str = "p0") -> Spend:
        return replace(self.standings()[problem_id].spend, wall_seconds=0.0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "run").mkdir()
    yield


def test_turns_go_by_expected_gain_and_a_resumed_run_goes_on_with_them(bench: Bench) -> None:
    def run(samples: int) -> list[str]:
        bench.events.clear()
        plan = plan_of(2, samples=samples, new_strategy=best_of_n(4), allocator=ExpectedGain({"p1": 3.0}))
        bench.run(plan, sampling_slots=1)
        return [event.problem_id for event in bench.events if isinstance(event, Proposed)]

    assert run(1) == ["p1", "p0"]
    assert run(4) == ["p1", "p1", "p1", "p0", "p0", "p0"], "p1 had one turn of three before p0 is due for its second"


def test_every_problem_gets_its_budget_and_its_best(bench: Bench) -> None:
    def judge(candidate: Candidate) -> Verdict:
        good = "draft-2" in candidate.source or "draft-3" in candidate.source
        speedup = 3.0 if "draft-2" in candidate.source else 2.0
        return verdict_on(candidate, status=Status.PASSED if good else Status.TIMEOUT, speedup=speedup)

    summary = bench.run(plan_of(num_problems=3), pool=ScriptedPool(judge))
    assert (summary.outcome, summary.error) == (Outcome.COMPLETED, None)
    for search in summary.searches:
        assert replace(search.spend, wall_seconds=0.0) == Spend(samples=4, tokens=40, judged=4, gpu_seconds=2.0)
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
    assert bench.spend() == Spend(samples=4, tokens=40, judged=1, gpu_seconds=0.5)


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


@pytest.mark.parametrize(
    ("budget", "spend"),
    [
        (Budget(samples=3), Spend(samples=3, tokens=30, judged=3, gpu_seconds=1.5)),
        (Budget(tokens=25), Spend(samples=3, tokens=30, judged=3, gpu_seconds=1.5)),
        (Budget(judged=2), Spend(samples=2, tokens=20, judged=2, gpu_seconds=1.0)),
        (Budget(gpu_seconds=0.9), Spend(samples=2, tokens=20, judged=2, gpu_seconds=1.0)),
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
        assert bench.spend(problem.id) == Spend(samples=4, tokens=40, judged=4, gpu_seconds=2.0)


def test_a_mistake_of_ours_is_not_swallowed(bench: Bench) -> None:
    def judge(_: Candidate) -> Verdict:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.run(plan_of(), pool=ScriptedPool(judge))
    assert bench.run(plan_of()).outcome is Outcome.COMPLETED, "the ledger was closed and the run goes on"


def run_and_stop(bench: Bench, plan: RunPlan, *, sampler: ScriptedSampler, num_events: int) -> RunSummary:
    async def go() -> RunSummary:
        seen: list[Event] = []

        def watch(event: Event) -> None:
            seen.append(event)
            if len(seen) == num_events:
                controller.stop()

        controller = bench.controller(plan, sampler=sampler, on_event=watch)
        return await controller.run()

    return asyncio.run(go())


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
