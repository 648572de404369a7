"""Puts the best of an ended search to the test again: judged once more with fresh processes, seeds and timing.

The best of many noisy figures is partly luck, and a race may pass by luck too; what a run reports is what this finds.
Decides which candidate is next; knows nothing of files, displays or of how a pool judges.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import asdict

from agent.events import Confirmed, EndReason
from agent.evidence import Bundle, write_bundle
from agent.jobs import Abandoned, ConfirmJob
from agent.ledger import Ledger, confirming
from agent.pool import Pool
from agent.run_folder import RunFolder
from agent.search import Search, Standing
from sandbox.settings import JudgeSettings
from sandbox.tracer import ProblemFailed
from sandbox.types import Verdict


def next_to_confirm(standing: Standing, *, most: int) -> Verdict | None:
    """The passed candidate to be confirmed next, or None where nothing would change.

    After one that held, the next best is tried only if it was measured faster than that one was confirmed to be, with
    intervals apart. At most `most` are tried after an end of the search; one whose plan was tried is not tried again.
    """
    if standing.num_confirmed_since_judged >= most:
        return None
    tried = {verdict.candidate_id for verdict in standing.confirmations}
    plans = {verdict.plan_hash for verdict in standing.passed if verdict.candidate_id in tried}
    left = [verdict for verdict in standing.passed if verdict.plan_hash not in plans]
    best = max(left, key=lambda verdict: verdict.rank, default=None)  # of equals the first
    held = standing.confirmed
    if best is None or held is None:
        return best
    if best.performance is None or held.performance is None:
        return None
    return best if best.performance.speedup_low > held.performance.speedup_high else None


class Confirmer:
    """What is still to be confirmed, one candidate of a problem at a time, and the evidence of what was."""

    def __init__(self, *, pool: Pool, ledger: Ledger, folder: RunFolder, most: int, settings: JudgeSettings) -> None:
        """At most `most` candidates of a problem; 0 confirms nothing. `settings` are those that the pool confirms
        with."""
        self._pool = pool
        self._ledger = ledger
        self._folder = folder
        self._most = most
        self._settings = settings
        self.waiting: deque[ConfirmJob] = deque()

    async def consider(self, search: Search) -> None:
        """Queues what is next for a search that has ended; a problem that cannot be judged has nothing to confirm."""
        if search.ended is None or search.ended.end is EndReason.INADMISSIBLE:
            return
        verdict = next_to_confirm(search.standing, most=self._most)
        if verdict is not None:
            candidate = self._ledger.observation(verdict.candidate_id).candidate
            (attempt,) = await asyncio.to_thread(self._ledger.begin_attempts, [confirming(candidate.id)])
            self.waiting.append(ConfirmJob(search=search, candidate=candidate, attempt=attempt))

    async def confirm(self, job: ConfirmJob) -> Confirmed | Abandoned:
        """Raises PoolError."""
        problem = job.search.problem
        try:
            confirmation = await self._pool.confirm(problem, job.candidate)
        except ProblemFailed as error:
            return Abandoned(problem_id=problem.id, reason=str(error))
        return Confirmed(
            problem_id=problem.id, verdict=confirmation.verdict, attempt=job.attempt, plan=confirmation.plan
        )

    def keep_evidence(self, event: Confirmed, *, search: Search) -> None:
        """Writes the bundle of a confirmation that makes its candidate the winner. Raises RunFolderError."""
        held = search.standing.confirmed
        if not event.verdict.passed or (held is not None and held.rank >= event.verdict.rank):
            return
        searched = self._ledger.observation(event.verdict.candidate_id)
        bundle = Bundle(
            problem=search.problem,
            candidate=searched.candidate,
            verdict=event.verdict,
            searching=searched.verdict,
            plan=event.plan,
            settings=asdict(self._settings),
            environment=self._folder.read_environment(),
        )
        write_bundle(bundle, self._folder.evidence(search.problem.id))
