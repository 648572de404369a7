"""A small run over any sampler: real searches, controller and ledger, and a pool to which everything is wrong."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from agent.allocator import Uniform
from agent.confirm import Confirmer
from agent.controller import Controller, RunPlan
from agent.events import Outcome, RunSummary, Sampled
from agent.ledger import Ledger
from agent.pool import Confirmation
from agent.run_folder import RunFolder
from agent.sampler import Sampler
from agent.tuning_points import choose_point
from sandbox.types import Budget, Candidate, Failure, Observation, Prices, Problem, Proposal, Status, Verdict
from strategies import Repair
from tests.judge_settings import judge_settings

NUM_PROBLEMS, NUM_SAMPLES = 6, 8


class WrongPool:
    """Whatever it is given is wrong, at once, so that repairs are asked for."""

    capacity = 4

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        failure = Failure(error_class="Wrong", message="it is wrong")
        return Verdict(candidate_id=candidate.id, status=Status.WRONG_VALUES, failure=failure)

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        return Confirmation(verdict=await self.judge(problem, candidate), plan=None)

    async def close(self) -> None: ...


def prompt(problem: Problem, proposal: Proposal, parents: tuple[Observation, ...]) -> str:
    return f"{problem.id} {proposal.id}"


async def run(root: Path, sampler: Sampler, *, until: Callable[[], bool] = lambda: True) -> RunSummary:
    """One run, or the rest of one, in `root`; the sampler is closed once `until` holds, or after 30 s."""
    ledger, folder, pool = Ledger.open(root / "ledger.sqlite"), RunFolder(root), WrongPool()
    folder.write_environment({"gpu": None})
    controller = Controller(
        RunPlan(
            problems=[Problem(id=f"p{n}", source=f"# {n}", origin="test") for n in range(NUM_PROBLEMS)],
            new_strategy=lambda seed: Repair(
                seed=seed, in_flight=3, max_repairs=2, stop_when_passed=False, fix=False, tune=0
            ),
            render=prompt,
            choose_point=choose_point,
            budget=Budget(samples=NUM_SAMPLES),
            run_budget=Budget(),
            prices=Prices(),
            seed=0,
            allocator=Uniform(),
        ),
        sampler=sampler,
        pool=pool,
        ledger=ledger,
        folder=folder,
        confirmer=Confirmer(pool=pool, ledger=ledger, folder=folder, most=0, settings=judge_settings()),
        sampling_slots=8,
        on_event=lambda event: None,
        clock=time.monotonic,
    )
    try:
        summary = await controller.run()
        deadline = time.monotonic() + 30.0
        while not until() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return summary
    finally:
        await sampler.close()


def sampled_in(root: Path) -> list[Sampled]:
    with Ledger.open(root / "ledger.sqlite") as ledger:
        return [entry.event for entry in ledger.events() if isinstance(entry.event, Sampled)]


def assert_whole(root: Path, summary: RunSummary) -> None:
    """Every proposal has one completion in the ledger, and each search was charged for those and no more."""
    assert (summary.outcome, summary.error) == (Outcome.COMPLETED, None)
    events = sampled_in(root)
    asked = Counter((event.problem_id, event.proposal.id) for event in events)
    assert set(asked.values()) == {1}
    assert len(asked) == NUM_PROBLEMS * NUM_SAMPLES
    for search in summary.searches:
        assert search.spend.samples == NUM_SAMPLES
        assert search.spend.tokens == sum(e.num_tokens for e in events if e.problem_id == search.problem_id)
