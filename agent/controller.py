"""Runs many searches at once: keeps samplers and judges busy, and writes every event down before acting on it.

Knows nothing of how completions or verdicts come about, nor of how progress is drawn. One coroutine decides: searches,
strategies and the ledger are touched by it alone, in the order in which the ledger holds the events. Sampling and
judging are tasks that return the event to be recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.allocator import Allocator
from agent.answer import sampled, seed_of
from agent.confirm import Confirmer
from agent.events import (
    Attempt,
    Confirmed,
    DurableEvent,
    EndReason,
    Event,
    Judged,
    NewBest,
    Outcome,
    Proposed,
    RunEnded,
    RunStarted,
    RunSummary,
    Sampled,
    SearchEnded,
    Unsampled,
)
from agent.jobs import Abandoned, JudgeJob, Result, SampleJob
from agent.ledger import Ledger, LedgerError, judging, sampling
from agent.mending import fixed, labelled
from agent.pool import Pool, PoolError
from agent.prompts import PromptTooLong
from agent.run_budget import RunBudget
from agent.run_folder import RunFolder, RunFolderError
from agent.sampler import PromptRefused, Sampler, SampleRequest, SamplerError, SamplerExhausted, SamplerRefused
from agent.search import Search
from agent.tuning import ChoosePoint, Tuner
from sandbox.tracer import ProblemFailed
from sandbox.types import Budget, Observation, Operator, Prices, Problem, Proposal
from strategies.base import Strategy

log = logging.getLogger(__name__)

# Most answers that are being written come within it; one that hangs holds up the end no longer.
LAST_ANSWERS_SECONDS = 60.0

Render = Callable[[Problem, Proposal, tuple[Observation, ...]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run is to do. `new_strategy` makes a fresh strategy from a seed; `render` writes a proposal's prompt;
    `choose_point` says what to try next of a candidate's launch parameters. `budget` limits each problem's search,
    `run_budget` all of them together."""

    problems: Sequence[Problem]
    new_strategy: Callable[[int], Strategy]
    render: Render
    choose_point: ChoosePoint
    budget: Budget
    run_budget: Budget
    prices: Prices
    allocator: Allocator
    seed: int


def searches_of(plan: RunPlan, *, run_budget: RunBudget, ledger: Ledger) -> dict[str, Search]:
    """A search for each problem, by its id; `ledger` is asked for what was judged."""
    return {
        problem.id: Search(
            problem,
            strategy=plan.new_strategy(seed_of(plan.seed, problem.id)),
            budget=plan.budget,
            prices=plan.prices.of_a_problem,
            run_budget=run_budget,
            observation_of=ledger.observation,
        )
        for problem in plan.problems
    }


def replay(ledger: Ledger, *, searches: Mapping[str, Search]) -> None:
    """Brings every search to where the ledger stands. Raises ResumeError if it does not fit them."""
    for entry in ledger.events():
        searches[entry.event.problem_id].replay(entry)


class Controller:
    """One run, from wherever its ledger stands to its end. Used once.

    Searches take turns as the plan's allocator says. At most `sampling_slots` answers are asked for at a time, and at
    most `pool.capacity` candidates are judged at a time; each side works while the other does.
    """

    def __init__(
        self,
        plan: RunPlan,
        *,
        sampler: Sampler,
        pool: Pool,
        ledger: Ledger,
        folder: RunFolder,
        confirmer: Confirmer,
        sampling_slots: int,
        on_event: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds from any origin. Sampler and pool are closed by whoever made them."""
        self._plan = plan
        self._sampler = sampler
        self._pool = pool
        self._ledger = ledger
        self._folder = folder
        self._confirmer = confirmer
        self._sampling_slots = sampling_slots
        self._on_event = on_event
        self._clock = clock
        self._started_at = clock()
        self._tuner = Tuner(plan.choose_point)
        self._run_budget = RunBudget(plan.run_budget, prices=plan.prices)
        self._searches = searches_of(plan, run_budget=self._run_budget, ledger=ledger)
        self._ready: dict[str, Search] = {}  # those that may propose, in the order of their turns
        self._held_back: dict[str, Search] = {}  # those that wait for what others have reserved of the run's budget
        self._going_on = set(self._searches)  # whose end has not been told
        self._to_sample: deque[SampleJob] = deque()
        self._to_judge: deque[JudgeJob] = deque()
        self._sampling: set[asyncio.Task[Result]] = set()
        self._judging: set[asyncio.Task[Result]] = set()
        self._finished: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()
        self._stopping = False

    async def run(self) -> RunSummary:
        """Replays the ledger, works until every search is done, and closes the ledger.

        Trouble with sampler, pool, ledger or disk ends the run with outcome `failed`, a server that will not do what is
        asked of it with `refused`; answers in flight are waited for first, if sampler or pool is the trouble, and kept.
        Raises ResumeError, before any work, if the ledger does not fit the plan.
        """
        outcome, error = Outcome.STOPPED, None
        try:
            self._resume()
            try:
                outcome = await self._work()
            except (SamplerError, PoolError, LedgerError, RunFolderError) as trouble:
                outcome = Outcome.REFUSED if isinstance(trouble, SamplerRefused) else Outcome.FAILED
                error = " ".join(str(trouble).split())
            await self._cancel()
            if outcome is not Outcome.COMPLETED:
                self._record_stop()
        finally:
            await self._cancel()
            self._ledger.close()
        searches = tuple(search.summary() for search in self._searches.values())
        summary = RunEnded(outcome=outcome, error=error, searches=searches, wall_seconds=self._seconds())
        self._on_event(summary)
        return summary

    def stop(self) -> None:
        """Ends the run soon, to be resumed: begins nothing, cancels what is in flight. Call it in the loop's thread."""
        self._stopping = True
        self._finished.put_nowait(None)

    def _resume(self) -> None:
        """Brings every search to where the ledger stands, and queues what was asked for but has no result."""
        self._ledger.record_problems({problem.id: problem.key for problem in self._plan.problems})
        replay(self._ledger, searches=self._searches)
        asked = [(search, asked) for search in self._searches.values() for asked in search.unsampled]
        unjudged = [(search, candidate) for search in self._searches.values() for candidate in search.unjudged]
        sample_works = [sampling(search.problem.id, item.proposal) for search, item in asked]
        judge_works = [judging(candidate.id) for _, candidate in unjudged]
        attempts = iter(self._ledger.begin_attempts([*sample_works, *judge_works]))
        self._to_sample.extend(SampleJob(search=s, asked=a, attempt=next(attempts)) for s, a in asked)
        self._to_judge.extend(JudgeJob(search=s, candidate=c, attempt=next(attempts)) for s, c in unjudged)
        self._ready.update(self._searches)

    async def _work(self) -> Outcome:
        searches = tuple(search.summary() for search in self._searches.values())
        plan, spend = self._plan, self._run_budget.spend
        budgets = {"budget": plan.budget, "run_budget": plan.run_budget}
        self._on_event(RunStarted(**budgets, prices=plan.prices, spend=spend, searches=searches))
        for search in self._searches.values():  # a kill may have come before the file was written
            self._write_best(search)
        while not self._stopping:
            await self._propose()
            self._start_tasks()
            if not self._sampling and not self._judging:
                return Outcome.COMPLETED
            try:
                await self._take_in(await self._next_finished())
            except (SamplerError, PoolError):
                await self._take_in_last_answers()
                raise
        await self._take_in_done()
        return Outcome.STOPPED

    async def _propose(self) -> None:
        """Asks searches, each when its turn comes, until the sampling slots are taken or no search proposes."""
        num_free = self._sampling_slots - len(self._sampling) - len(self._to_sample)
        first_attempt = Attempt(epoch=self._ledger.epoch, number=1)
        jobs: list[SampleJob] = []
        ended: list[SearchEnded] = []
        if self._held_back and self._run_budget.settled:
            self._ready |= self._held_back
            self._held_back.clear()
        while self._ready and len(jobs) < num_free:
            problem_id = self._plan.allocator.choose(self._ready)
            search = self._ready.pop(problem_id)
            asked = search.propose(epoch=self._ledger.epoch, seconds=self._seconds())
            if asked is not None:
                self._ready[problem_id] = search  # to the end of the queue: it may have more
                jobs.append(SampleJob(search=search, asked=asked, attempt=first_attempt))
            elif search.ended is not None and search.done and problem_id in self._going_on:
                self._going_on.remove(problem_id)
                ended.append(search.ended)
            elif search.held_back:
                self._held_back[problem_id] = search
        proposed = [Proposed(problem_id=job.search.problem.id, proposal=job.asked.proposal) for job in jobs]
        await self._record([*proposed, *ended])
        self._to_sample.extend(jobs)
        for end in ended:
            await self._confirmer.consider(self._searches[end.problem_id])

    def _start_tasks(self) -> None:
        while self._to_sample and len(self._sampling) < self._sampling_slots:
            job = self._to_sample.popleft()
            parents = tuple(self._ledger.observation(parent) for parent in job.asked.proposal.parents)
            self._start(self._sample(job, parents=parents), among=self._sampling)
        while self._to_judge and len(self._judging) < self._pool.capacity:
            judge_job = self._to_judge.popleft()
            mended_from = judge_job.candidate.parent_ids[0] if judge_job.candidate.operator is Operator.FIX else None
            parent = None if mended_from is None else self._ledger.observation(mended_from)
            self._start(self._judge(judge_job, mended_from=parent), among=self._judging)
        while self._confirmer.waiting and len(self._judging) < self._pool.capacity:
            self._start(self._confirmer.confirm(self._confirmer.waiting.popleft()), among=self._judging)

    def _start(self, work: Coroutine[Any, Any, Result], *, among: set[asyncio.Task[Result]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(self._finished.put_nowait)

    async def _sample(self, job: SampleJob, *, parents: tuple[Observation, ...]) -> Sampled | Unsampled:
        problem, proposal = job.search.problem, job.asked.proposal
        if proposal.operator is Operator.FIX:
            return fixed(proposal, parent=parents[0], attempt=job.attempt)
        if proposal.operator is Operator.TUNE:
            seed = seed_of(self._plan.seed, problem.id, proposal.id)
            tried = self._ledger.tuned_from(problem.id, proposal.parents[0])
            return self._tuner.tuned(proposal, parent=parents[0], tried=tried, attempt=job.attempt, seed=seed)
        try:
            request = SampleRequest(
                problem=problem,
                proposal=proposal,
                ordinal=job.asked.ordinal,
                repeat=job.asked.repeat,
                prompt=self._plan.render(problem, proposal, parents),
                parents=tuple(parent.candidate for parent in parents),
                seed=seed_of(self._plan.seed, problem.id, proposal.id),
            )
            completion = await self._sampler.sample(request)
        except (SamplerExhausted, PromptRefused, PromptTooLong) as error:
            return Unsampled(problem_id=problem.id, proposal=proposal, attempt=job.attempt, reason=str(error))
        return sampled(request, completion=completion, attempt=job.attempt)

    async def _judge(self, job: JudgeJob, *, mended_from: Observation | None) -> Judged | Abandoned:
        try:
            verdict = await self._pool.judge(job.search.problem, job.candidate)
        except ProblemFailed as error:
            return Abandoned(problem_id=job.search.problem.id, reason=str(error))
        if mended_from is not None:
            verdict = labelled(verdict, parent=mended_from)
        return Judged(problem_id=job.search.problem.id, verdict=verdict, attempt=job.attempt)

    async def _next_finished(self) -> list[asyncio.Task[Result]]:
        """Every task that has finished, at least one unless the run is being stopped."""
        batch = [await self._finished.get()]
        while not self._finished.empty():
            batch.append(self._finished.get_nowait())
        return [task for task in batch if task is not None]

    async def _take_in(self, tasks: Sequence[asyncio.Task[Result]]) -> None:
        """Records the tasks' results, then acts on them. Raises the first trouble, but only when the rest is safe."""
        events: list[Result] = []
        trouble: SamplerError | PoolError | None = None
        for task in tasks:
            self._sampling.discard(task)
            self._judging.discard(task)
            try:
                events.append(task.result())
            except (SamplerError, PoolError) as error:
                trouble = trouble or error
        await self._record([event for event in events if not isinstance(event, Abandoned)])
        for event in events:
            if isinstance(event, Confirmed):
                await self._act_on_confirmed(event)
            else:
                self._act_on(event)
        if trouble is not None:
            raise trouble

    async def _take_in_done(self) -> None:
        """What has come by now: it is paid for."""
        await self._take_in([task for task in (*self._sampling, *self._judging) if task.done()])

    async def _take_in_last_answers(self) -> None:
        """Waits for the answers in flight, until it is stopped or takes too long. Begins nothing."""
        until = asyncio.get_running_loop().time() + LAST_ANSWERS_SECONDS
        if self._sampling:
            log.warning("ending: up to %g s for %d answers in flight", LAST_ANSWERS_SECONDS, len(self._sampling))
        while self._sampling and not self._stopping:
            try:
                async with asyncio.timeout_at(until):
                    finished = await self._next_finished()
            except TimeoutError:
                log.warning("ending: %d answers in flight are given up", len(self._sampling))
                break
            with contextlib.suppress(SamplerError, PoolError):  # the first trouble is the one that is told
                await self._take_in(finished)
        with contextlib.suppress(SamplerError, PoolError):
            await self._take_in_done()

    async def _act_on_confirmed(self, event: Confirmed) -> None:
        search = self._searches[event.problem_id]
        search.standing.add(event, epoch=self._ledger.epoch, seconds=self._seconds())
        self._write_best(search)
        await self._confirmer.consider(search)

    def _act_on(self, event: Sampled | Unsampled | Judged | Abandoned) -> None:
        search = self._searches[event.problem_id]
        self._ready.setdefault(event.problem_id, search)
        if isinstance(event, Abandoned):
            if search.done and search.ended is not None and search.ended.end is not EndReason.INADMISSIBLE:
                self._going_on.add(event.problem_id)  # a confirmation found it at fault after its end was told
            search.abandon(event.reason)
            self._to_sample = deque(job for job in self._to_sample if job.search is not search)
            self._to_judge = deque(job for job in self._to_judge if job.search is not search)
            return
        best_before = search.standing.best
        to_judge = search.add(event, epoch=self._ledger.epoch, seconds=self._seconds())
        if to_judge is not None:
            attempt = Attempt(epoch=self._ledger.epoch, number=1)
            self._to_judge.append(JudgeJob(search=search, candidate=to_judge, attempt=attempt))
        best = search.standing.best
        if best is not None and best is not best_before:
            self._write_best(search)
            self._on_event(NewBest(problem_id=event.problem_id, verdict=best))

    async def _record(self, events: Sequence[DurableEvent]) -> None:
        """Returns when `events` are durable. The loop stays live while the disk works."""
        if events:
            await asyncio.to_thread(self._write, events, self._seconds())
            for event in events:
                self._on_event(event)

    def _write(self, events: Sequence[DurableEvent], seconds: float) -> None:
        for event in events:
            if isinstance(event, Sampled):
                self._folder.write_candidate(event.candidate)
            if isinstance(event, Confirmed):
                self._confirmer.keep_evidence(event, search=self._searches[event.problem_id])
        self._ledger.append(events, seconds=seconds)

    def _write_best(self, search: Search) -> None:
        """Nothing stands there that failed when it was judged again."""
        winner, standing = search.standing.winner, search.standing
        if winner is None:
            self._folder.remove_best(search.problem.id)
            return
        candidate = self._ledger.observation(winner.candidate_id).candidate
        observation = Observation(candidate=candidate, verdict=winner)
        self._folder.write_best(search.problem, observation, confirmed=standing.confirmed is not None)

    def _record_stop(self) -> None:
        """The time since the last event was worked too. A ledger that takes nothing more loses it, and the run ends."""
        stops = [SearchEnded(problem_id=id, end=EndReason.STOPPED, detail=None) for id in self._searches]
        with contextlib.suppress(LedgerError):
            self._ledger.append(stops, seconds=self._seconds())

    async def _cancel(self) -> None:
        tasks = self._sampling | self._judging
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _seconds(self) -> float:
        """Since this process began with the run."""
        return self._clock() - self._started_at
