"""Judges candidates on Ray: trace workers on any cores, and one judge a GPU or interpreters on cores.

Knows nothing of strategies, samplers or the ledger, and no candidate code runs in its
processes: the tracers and judges that its workers hold keep that in sandboxed children.

Every node must have KernelLoop installed. Deadlines are kept inside the workers, never by Ray.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import ray

from agent.config import RayConfig
from agent.crew_sizes import CrewSizes
from agent.engine_config import EngineConfig
from agent.faults import Fault, FaultKind, Tell
from agent.gpu_health import GpuHealth
from agent.gpu_lease import GpuLease, LeaseBroken
from agent.pool import Confirmation, PoolError, confirmation_of, confirming, kept_plan
from agent.ray_cluster import Seat, sizes_here, start_ray
from agent.ray_crew import Crew, Worker
from sandbox.bounded import Recent
from sandbox.judge import Judge, ProblemFailed, ProblemShortOfMemory, Traced, Tracer, again, open_judge, verdict_of
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Spend, Status, Verdict

log = logging.getLogger(__name__)

# What is remembered: plans of some hundred kB each, verdicts of some kB.
MAX_TRACES = 500
MAX_VERDICTS = 10_000

# What a judge finds beside a generating engine stands, but for what an engine may have caused, and what is yet to be
# timed.
NEEDS_GPU_ALONE = frozenset({Status.PASSED, Status.TIMEOUT, Status.OUT_OF_MEMORY})

ResultT = TypeVar("ResultT")
TracerFactory = Callable[[JudgeSettings], Tracer]
JudgeFactory = Callable[..., Judge]  # (settings, *, device: int | None)


class RayPool:
    """Traces, then judges each plan once: candidates of one problem whose plans are equal share a verdict.

    `config.address` None starts a Ray of its own on this machine; one that already runs in this process is used as it
    is. On a cluster with fewer cores than workers, workers share cores.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        config: RayConfig,
        *,
        engines: EngineConfig | None = None,
        lease: GpuLease | None = None,
        tell: Tell | None = None,
        tracer_factory: TracerFactory = Tracer,
        judge_factory: JudgeFactory = open_judge,
    ) -> None:
        """Returns when all workers are up, in some seconds. Both factories must pickle. Raises PoolError.

        `engines` are GPUs' other users, for whom room is left. With a `lease` they share the judges' GPUs: what needs a
        GPU to itself is done while it says so. `tell` hears of what fails on GPUs.
        """
        self._settings = settings
        self._traces: Recent[tuple[str, str], asyncio.Task[Traced]] = Recent(limit=MAX_TRACES)
        self._verdicts: Recent[tuple[str, str], asyncio.Task[Verdict]] = Recent(limit=MAX_VERDICTS)
        self._lease = lease
        self._short_of_memory: set[str] = set()  # problems for which there is too little beside a frozen engine
        self._tell = tell or _log_only
        self._health = GpuHealth(self._tell)
        self._batch = 0 if engines is None else engines.time_together
        self._owns_ray = start_ray(config.address)
        try:
            sizes = sizes_here(config, replaying=settings.mode == "replay", engines=engines)
            # Judges are placed first: trace workers must not take the few cores that a GPU's node may have.
            self._judges = _judge_crew(settings, sizes=sizes, factory=judge_factory, health=self._health)
            self._judges.wait_until_up()
            check_alike(self._judges.seats)
            self._tracers = _trace_crew(settings, sizes=sizes, factory=tracer_factory)
            self._tracers.wait_until_up()
        except PoolError:
            if self._owns_ray:
                ray.shutdown()
            raise
        self._num_workers = sizes.num_tracers + sizes.num_judges

    @property
    def capacity(self) -> int:
        """Twice the workers: one candidate at work and one that waits; and those that wait to be timed together."""
        return 2 * self._num_workers + (0 if self._lease is None else self._batch)

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        """Raises PoolError, and ProblemFailed when the problem itself cannot be judged."""
        subject = f"problem {problem.id}, candidate {candidate.id}"
        trace = partial(_trace, problem=problem, candidate=candidate)
        traced = await _once(
            self._traces,
            (problem.key, candidate.id),
            lambda: self._tracers.do(trace, subject=subject, topic=problem.key),
        )
        if traced.plan_hash is None or traced.failure is not None:
            return verdict_of(traced)
        arguments: dict[str, Any] = {"problem": problem, "candidate": candidate, "traced": traced}
        verdict = await _once(
            self._verdicts, (problem.key, traced.plan_hash), lambda: self._judged(arguments, subject=subject)
        )
        if verdict.candidate_id == candidate.id:
            return verdict
        return replace(again(verdict, traced), spend=Spend())

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        """Raises PoolError, and ProblemFailed when the problem itself cannot be judged."""
        subject = f"problem {problem.id}, candidate {candidate.id}, confirming"
        traced = await self._tracers.do(
            partial(_trace, problem=problem, candidate=candidate), subject=subject, topic=problem.key
        )
        if traced.plan_hash is None or traced.failure is not None:
            return Confirmation(verdict=verdict_of(traced), plan=None)
        job = partial(
            confirmation_of, problem=problem, candidate=candidate, traced=traced, settings=confirming(self._settings)
        )
        verdict = await self._alone(job, subject=subject, topic=problem.key, whole=False)
        return Confirmation(verdict=verdict, plan=kept_plan(traced))

    @property
    def lease(self) -> GpuLease | None:
        """By which engines share the judges' GPUs; None where they do not."""
        return self._lease

    def hear(self, fault: Fault) -> None:
        """Of an engine of the same run. Where one was given up no judge is placed either; one that is there shows that
        the GPU works."""
        self._tell(fault)
        if fault.kind is FaultKind.ENGINE_GIVEN_UP:
            for gpu in set(fault.gpus) - {seat.gpu for seat in self._judges.seats}:
                self._health.quarantine(gpu, reason=fault.reason)

    def seats(self) -> list[Seat]:
        """Where the judges are."""
        return self._judges.seats

    async def _judged(self, arguments: Mapping[str, Any], *, subject: str) -> Verdict:
        """Correctness first, where engines share the GPUs: that may be checked while they generate."""
        before, topic, whole = 0.0, arguments["problem"].key, False
        if self._lease is not None and topic not in self._short_of_memory:
            try:
                async with self._lease.checking():
                    verdict = await self._judges.do(partial(_verify, **arguments), subject=subject, topic=topic)
                if verdict.status not in NEEDS_GPU_ALONE:
                    return verdict
                before, whole = verdict.spend.gpu_seconds, verdict.is_short_of_memory
            except ProblemShortOfMemory:
                self._short_of_memory.add(topic)
            except ProblemFailed:
                pass  # it may be the engine's doing
        verdict = await self._alone(partial(_judge, **arguments), subject=subject, topic=topic, whole=whole)
        return charged(verdict, before)

    async def _alone(self, job: Callable[[Judge], Verdict], *, subject: str, topic: str, whole: bool) -> Verdict:
        """On a GPU that no engine computes on; with all its memory if `whole`, or where there was too little beside a
        frozen engine's. Raises PoolError where the GPU is not to be had any more, and ProblemFailed."""
        if self._lease is None:
            return await self._judges.do(job, subject=subject, topic=topic)
        before, short = 0.0, self._lease.freezes and not whole and topic not in self._short_of_memory
        try:
            async with self._lease.timing(whole=not short):
                verdict = await self._judges.do(
                    partial(_beside, job=job) if short else job, subject=subject, topic=topic
                )
            if not short or not verdict.is_short_of_memory:
                return verdict
            before = verdict.spend.gpu_seconds
            if verdict.status is not Status.OUT_OF_MEMORY:  # its baselines' doing, and the next candidate's fate
                self._short_of_memory.add(topic)
        except LeaseBroken as error:
            raise PoolError(str(error)) from error
        except ProblemShortOfMemory:
            if not short:
                raise
            self._short_of_memory.add(topic)
        return charged(await self._alone(job, subject=subject, topic=topic, whole=True), before)

    async def close(self) -> None:
        """Ends the workers, and Ray if this pool started it."""
        await asyncio.gather(self._tracers.close(), self._judges.close())
        for task in (*self._traces.values(), *self._verdicts.values()):
            task.cancel()
        if self._owns_ray:
            await asyncio.to_thread(ray.shutdown)


def charged(verdict: Verdict, gpu_seconds: float) -> Verdict:
    """With what an earlier judging of the same candidate took."""
    return replace(verdict, spend=replace(verdict.spend, gpu_seconds=verdict.spend.gpu_seconds + gpu_seconds))


async def _once(
    known: Recent[tuple[str, str], asyncio.Task[ResultT]],
    key: tuple[str, str],
    start: Callable[[], Coroutine[Any, Any, ResultT]],
) -> ResultT:
    """The result of `start()`, which equal callers share while `known` has it; a failure is not kept."""
    task = known.get(key)
    if task is None:
        task = known[key] = asyncio.create_task(start())
        task.add_done_callback(partial(_forget_failure, known, key))
    return await asyncio.shield(task)  # others may wait for it too


def _forget_failure(
    known: Recent[tuple[str, str], asyncio.Task[ResultT]], key: tuple[str, str], task: asyncio.Task[ResultT]
) -> None:
    if task.cancelled() or task.exception() is not None:
        known.pop(key)


def check_alike(seats: list[Seat]) -> None:
    """Raises PoolError where judges sit on GPUs of unlike models: speedups of one are not ranked against another's."""
    models = sorted({seat.model for seat in seats if seat.model is not None})
    if len(models) > 1:
        raise PoolError(
            f"judges would share their problems between unlike GPUs ({', '.join(models)}), whose speedups do not "
            "compare: start Ray with CUDA_VISIBLE_DEVICES naming GPUs of one model"
        )


def _log_only(fault: Fault) -> None:
    log.warning("%s: %s: %s", fault.kind, ", ".join(fault.gpus), fault.reason)


def _judge_crew(settings: JudgeSettings, *, sizes: CrewSizes, factory: JudgeFactory, health: GpuHealth) -> Crew:
    replaying = settings.mode == "replay"
    actor = ray.remote(num_cpus=sizes.cores_per_worker, num_gpus=1 if replaying else 0)(Worker)
    # A replaying worker sees one GPU only, so that is its device 0.
    open_tool = partial(factory, settings, device=0 if replaying else None)
    spawn = partial(actor.remote, open_tool)
    return Crew("judge", spawn=spawn, num_workers=sizes.num_judges, health=health)


def _trace_crew(settings: JudgeSettings, *, sizes: CrewSizes, factory: TracerFactory) -> Crew:
    actor = ray.remote(num_cpus=sizes.cores_per_worker, num_gpus=0)(Worker)
    spawn = partial(actor.remote, partial(factory, settings))
    return Crew("trace worker", spawn=spawn, num_workers=sizes.num_tracers, health=None)


def _trace(tracer: Tracer, *, problem: Problem, candidate: Candidate) -> Traced:
    return tracer.trace(problem, candidate)


def _judge(judge: Judge, *, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
    return judge.judge(problem, candidate, traced)


def _verify(judge: Judge, *, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
    """Beside an engine."""
    return _beside(judge, job=lambda judge: judge.verify(problem, candidate, traced))


def _beside(judge: Judge, *, job: Callable[[Judge], Verdict]) -> Verdict:
    """While an engine has some of the memory."""
    judge.has_whole_gpu = False
    try:
        return job(judge)
    finally:
        judge.has_whole_gpu = True
