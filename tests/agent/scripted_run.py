"""A run whose models and judges are scripted: what the tests of the controller start from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.allocator import Uniform
from agent.confirm import Confirmer
from agent.controller import Controller, RunPlan
from agent.events import Event, RunSummary
from agent.ledger import Ledger
from agent.pool import Confirmation
from agent.run_folder import RunFolder
from agent.sampler import Completion, SampleRequest
from agent.search import Standing, standings
from agent.tuning_points import choose_point
from sandbox.types import (
    Budget,
    Candidate,
    Correctness,
    Failure,
    Observation,
    Performance,
    Prices,
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


def repair(in_flight: int = 1, *, fix: bool = False, tune: int = 0) -> Callable[[int], Strategy]:
    return lambda seed: Repair(
        seed=seed, in_flight=in_flight, max_repairs=2, stop_when_passed=False, fix=fix, tune=tune
    )


def prompt(problem: Problem, proposal: Proposal, parents: tuple[Observation, ...]) -> str:
    return " ".join([problem.id, proposal.operator, *(parent.verdict.feedback for parent in parents)])


def plan_of(num_problems: int = 1, *, samples: int | None = 4, **changes: object) -> RunPlan:
    problems = [Problem(id=f"p{n}", source=f"# {n}", origin="test") for n in range(num_problems)]
    plan = RunPlan(
        problems=problems,
        new_strategy=best_of_n(),
        render=prompt,
        choose_point=choose_point,
        budget=Budget(samples=samples),
        run_budget=Budget(),
        prices=Prices(),
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
