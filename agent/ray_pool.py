"""Judges candidates on Ray: trace workers on any cores, and one judge a GPU or interpreters on cores.

Knows nothing of strategies, samplers or the ledger, and no candidate code runs in its
processes: the tracers and judges that its workers hold keep that in sandboxed children.

Every node must have KernelLoop installed. Deadlines are kept inside the workers, never by Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from agent.config import RayConfig
from agent.crew_sizes import CrewSizes
from agent.engine_config import EngineConfig
from agent.gpu_lease import GpuLease, LeaseBroken
from agent.pool import MAX_ATTEMPTS, Confirmation, PoolError, confirmation_of, confirming, kept_plan
from agent.ray_cluster import Seat, one_line, sizes_here, start_ray
from sandbox.bounded import Recent
from sandbox.gpu_workers import GpuUnusable
from sandbox.judge import Judge, ProblemFailed, SandboxError, Traced, Tracer, again, open_judge, verdict_of
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Spend, Status, Verdict

if TYPE_CHECKING:
    from ray.actor import ActorHandle

log = logging.getLogger(__name__)

START_SECONDS = 120.0  # a node that joins may still have to load KernelLoop's modules from a cold disk
CLOSE_SECONDS = 5.0
# What is remembered: plans of some hundred kB each, verdicts of some kB.
MAX_TRACES = 500
MAX_VERDICTS = 10_000

# What a judge finds beside a generating engine stands, but for what an engine may have caused, and what is yet to be
# timed.
NEEDS_GPU_ALONE = frozenset({Status.PASSED, Status.TIMEOUT, Status.OUT_OF_MEMORY})

ResultT = TypeVar("ResultT")
Job = Callable[[Any], ResultT]
TracerFactory = Callable[[JudgeSettings], Tracer]
JudgeFactory = Callable[..., Judge]  # (settings, *, device: int | None)


class Tool(Protocol):
    """What a worker holds: a tracer or a judge."""

    def close(self) -> None: ...


class Worker:
    """Runs in a Ray actor, one job at a time. Opens its tool for the first job, and again after the sandbox failed."""

    def __init__(self, open_tool: Callable[[], Tool]) -> None:
        # Ray does not hide GPUs from actors that have none; CUDA reads this when it is first used.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu_id) for gpu_id in ray.get_gpu_ids())
        self._open_tool = open_tool
        self._tool: Tool | None = None

    def pid(self) -> int:
        return os.getpid()

    def seat(self) -> Seat:
        """Raises no error: a worker without a GPU has none to share, and is never asked."""
        return Seat(node_id=ray.get_runtime_context().get_node_id(), gpu=os.environ["CUDA_VISIBLE_DEVICES"])

    def do(self, job: Job[ResultT]) -> ResultT:
        """Raises SandboxError."""
        try:
            if self._tool is None:
                self._tool = self._open_tool()
            return job(self._tool)
        except SandboxError:
            self.close()
            raise

    def close(self) -> None:
        tool, self._tool = self._tool, None
        if tool is not None:
            tool.close()


class WorkerDied(RuntimeError):
    """A worker's process, node or connection was lost in mid-job."""


class Crew:
    """Workers of one kind. A job goes to an idle worker or waits here, so a worker that dies takes one job with it.

    A dead worker is replaced while its job goes to another. Where no replacement can be placed, the crew gets smaller.
    """

    def __init__(self, kind: str, *, spawn: Callable[[], ActorHandle], num_workers: int) -> None:
        self._kind = kind
        self._spawn = spawn
        self._workers = [spawn() for _ in range(num_workers)]
        self._replacing: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Queue[ActorHandle | None] = asyncio.Queue()  # None: there will be no more
        self._closed = False

    def wait_until_up(self) -> None:
        """Raises PoolError when the workers cannot all be placed or started."""
        started = [worker.pid.remote() for worker in self._workers]
        up, missing = ray.wait(started, num_returns=len(started), timeout=START_SECONDS)
        if missing:
            free = {name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "GPU")}
            raise PoolError(
                f"the cluster placed {len(up)} of {len(started)} {self._kind}s within {START_SECONDS:g} s; free: {free}"
            )
        try:
            ray.get(up)
        except RayError as error:
            raise PoolError(f"a {self._kind} did not start: {one_line(error)}") from error
        for worker in self._workers:
            self._idle.put_nowait(worker)

    def seats(self) -> list[Seat]:
        """Where the workers are. Raises PoolError."""
        try:
            seats: list[Seat] = ray.get([worker.seat.remote() for worker in self._workers])
            return seats
        except RayError as error:
            raise PoolError(f"a {self._kind} did not say where it is: {one_line(error)}") from error

    async def do(self, job: Job[ResultT], *, subject: str) -> ResultT:
        """The job's result, after up to MAX_ATTEMPTS attempts. Raises PoolError, and ProblemFailed from the job."""
        for number in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._attempt(job, subject=subject)
            except (SandboxError, WorkerDied) as error:
                if self._closed or number == MAX_ATTEMPTS:
                    raise PoolError(f"{subject}: attempt {number} at a {self._kind}: {one_line(error)}") from error
                event = "worker_died" if isinstance(error, WorkerDied) else "sandbox_failed"
                place = f"a {self._kind}, attempt {number} of {MAX_ATTEMPTS}"
                log.warning("%s: %s, %s: %s", event, subject, place, one_line(error))
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Workers end their sandbox processes, then themselves. After CLOSE_SECONDS those still at work are killed."""
        self._closed = True
        self._idle.put_nowait(None)
        for task in self._replacing:
            task.cancel()
        closing = [worker.close.remote() for worker in self._workers]
        if closing:
            await asyncio.to_thread(ray.wait, closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        for worker in self._workers:
            ray.kill(worker)
        self._workers.clear()

    async def _attempt(self, job: Job[ResultT], *, subject: str) -> ResultT:
        """Raises SandboxError, WorkerDied, ProblemFailed; and PoolError for another fault, which would only repeat."""
        worker = await self._idle.get()
        if worker is None:
            self._idle.put_nowait(None)  # for the next who waits
            raise PoolError(f"{subject}: no {self._kind} is left" + (": the pool is closed" if self._closed else ""))
        alive = True
        try:
            result: ResultT = await worker.do.remote(job)
        except RayTaskError as error:
            # Raised anew as what they are: Ray's own wrapping puts the worker's whole traceback into the message.
            if isinstance(error.cause, GpuUnusable):
                alive = False
                self._drop(worker, reason=str(error.cause))
                raise GpuUnusable(str(error.cause)) from error
            if isinstance(error.cause, SandboxError | ProblemFailed):
                raise type(error.cause)(str(error.cause)) from error
            raise PoolError(f"{subject}: a {self._kind} is at fault: {one_line(error.cause)}") from error
        except RayError as error:
            alive = False
            raise WorkerDied(one_line(error)) from error
        finally:
            # A cancelled caller leaves the worker at its job; the next one then queues behind it.
            if alive:
                self._idle.put_nowait(worker)
            elif not self._closed and worker in self._workers:
                self._start_replacing(worker)
        return result

    def _start_replacing(self, dead: ActorHandle) -> None:
        task = asyncio.create_task(self._replace(dead))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, dead: ActorHandle) -> None:
        ray.kill(dead)  # one that only lost its connection must not live on beside its replacement
        self._workers.remove(dead)
        worker = self._spawn()
        self._workers.append(worker)
        try:
            pid = await asyncio.wait_for(worker.pid.remote(), timeout=START_SECONDS)
        except (RayError, TimeoutError) as error:
            self._drop(worker, reason=one_line(error))
            return
        log.warning("worker_replaced: a %s, now process %d", self._kind, pid)
        self._idle.put_nowait(worker)

    def _drop(self, worker: ActorHandle, *, reason: str) -> None:
        log.error("worker_not_replaced: one %s fewer: %s", self._kind, reason)
        ray.kill(worker)
        self._workers.remove(worker)
        if not self._workers:
            self._idle.put_nowait(None)


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
        tracer_factory: TracerFactory = Tracer,
        judge_factory: JudgeFactory = open_judge,
    ) -> None:
        """Returns when all workers are up, in some seconds. Both factories must pickle. Raises PoolError.

        `engines` are GPUs' other users, for whom room is left. With a `lease` they share the judges' GPUs: what needs a
        GPU to itself is done while it says so.
        """
        self._settings = settings
        self._traces: Recent[tuple[str, str], asyncio.Task[Traced]] = Recent(limit=MAX_TRACES)
        self._verdicts: Recent[tuple[str, str], asyncio.Task[Verdict]] = Recent(limit=MAX_VERDICTS)
        self._lease = lease
        self._batch = 0 if engines is None else engines.time_together
        self._owns_ray = start_ray(config.address)
        try:
            sizes = sizes_here(config, replaying=settings.mode == "replay", engines=engines)
            # Judges are placed first: trace workers must not take the few cores that a GPU's node may have.
            self._judges = _judge_crew(settings, sizes=sizes, factory=judge_factory)
            self._judges.wait_until_up()
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
            self._traces, (problem.key, candidate.id), lambda: self._tracers.do(trace, subject=subject)
        )
        if traced.plan_hash is None or traced.failure is not None:
            return verdict_of(traced)
        arguments = {"problem": problem, "candidate": candidate, "traced": traced}
        verdict = await _once(
            self._verdicts, (problem.key, traced.plan_hash), lambda: self._judged(arguments, subject=subject)
        )
        if verdict.candidate_id == candidate.id:
            return verdict
        return replace(again(verdict, traced), spend=Spend())

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        """Raises PoolError, and ProblemFailed when the problem itself cannot be judged."""
        subject = f"problem {problem.id}, candidate {candidate.id}, confirming"
        traced = await self._tracers.do(partial(_trace, problem=problem, candidate=candidate), subject=subject)
        if traced.plan_hash is None or traced.failure is not None:
            return Confirmation(verdict=verdict_of(traced), plan=None)
        job = partial(
            confirmation_of, problem=problem, candidate=candidate, traced=traced, settings=confirming(self._settings)
        )
        async with self._alone():
            return Confirmation(verdict=await self._judges.do(job, subject=subject), plan=kept_plan(traced))

    @property
    def lease(self) -> GpuLease | None:
        """By which engines share the judges' GPUs; None where they do not."""
        return self._lease

    def seats(self) -> list[Seat]:
        """Where the judges are. Raises PoolError."""
        return self._judges.seats()

    async def _judged(self, arguments: Mapping[str, Any], *, subject: str) -> Verdict:
        """Correctness first, where engines share the GPUs: that may be checked while they generate."""
        before = Spend()
        if self._lease is not None:
            with contextlib.suppress(ProblemFailed):  # it may have found no room beside an engine
                async with self._lease.checking():
                    verdict = await self._judges.do(partial(_verify, **arguments), subject=subject)
                if verdict.status not in NEEDS_GPU_ALONE:
                    return verdict
                before = verdict.spend
        async with self._alone():
            verdict = await self._judges.do(partial(_judge, **arguments), subject=subject)
        return replace(
            verdict, spend=replace(verdict.spend, gpu_seconds=verdict.spend.gpu_seconds + before.gpu_seconds)
        )

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Raises PoolError where the GPU is not to be had any more."""
        try:
            async with contextlib.nullcontext() if self._lease is None else self._lease.timing():
                yield
        except LeaseBroken as error:
            raise PoolError(str(error)) from error

    async def close(self) -> None:
        """Ends the workers, and Ray if this pool started it."""
        await asyncio.gather(self._tracers.close(), self._judges.close())
        for task in (*self._traces.values(), *self._verdicts.values()):
            task.cancel()
        if self._owns_ray:
            await asyncio.to_thread(ray.shutdown)


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


def _judge_crew(settings: JudgeSettings, *, sizes: CrewSizes, factory: JudgeFactory) -> Crew:
    replaying = settings.mode == "replay"
    actor = ray.remote(num_cpus=sizes.cores_per_worker, num_gpus=1 if replaying else 0)(Worker)
    # A replaying worker sees one GPU only, so that is its device 0.
    open_tool = partial(factory, settings, device=0 if replaying else None)
    return Crew("judge", spawn=partial(actor.remote, open_tool), num_workers=sizes.num_judges)


def _trace_crew(settings: JudgeSettings, *, sizes: CrewSizes, factory: TracerFactory) -> Crew:
    actor = ray.remote(num_cpus=sizes.cores_per_worker, num_gpus=0)(Worker)
    return Crew("trace worker", spawn=partial(actor.remote, partial(factory, settings)), num_workers=sizes.num_tracers)


def _trace(tracer: Tracer, *, problem: Problem, candidate: Candidate) -> Traced:
    return tracer.trace(problem, candidate)


def _judge(judge: Judge, *, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
    return judge.judge(problem, candidate, traced)


def _verify(judge: Judge, *, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
    return judge.verify(problem, candidate, traced)
