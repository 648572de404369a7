"""Workers of one kind in Ray actors, and how jobs are given to them; a dead one is replaced, a bad GPU left alone.

Knows nothing of what jobs are, of strategies or of the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from agent.gpu_health import GpuHealth
from agent.matching import Matching, NoneLeft
from agent.pool import MAX_ATTEMPTS, PoolError
from agent.ray_cluster import Seat, one_line
from sandbox import environment
from sandbox.gpu_workers import GpuUnusable
from sandbox.judge import ProblemFailed, SandboxError

if TYPE_CHECKING:
    from ray.actor import ActorHandle

log = logging.getLogger(__name__)

START_SECONDS = 120.0  # a node that joins may still have to load KernelLoop's modules from a cold disk
CLOSE_SECONDS = 5.0

ResultT = TypeVar("ResultT")
Job = Callable[[Any], ResultT]


class Tool(Protocol):
    """What a worker holds: a tracer or a judge."""

    def close(self) -> None: ...


class Worker:
    """Runs in a Ray actor, one job at a time. Opens its tool for the first job, and again after the sandbox failed."""

    def __init__(self, open_tool: Callable[[], Tool]) -> None:
        """Names its GPU by UUID to whatever it starts: Ray does not hide GPUs from actors that have none, and an index
        counts in another order where CUDA is not told otherwise."""
        self._visible = ",".join(str(gpu_id) for gpu_id in ray.get_gpu_ids())
        found = environment.gpu_named(self._visible, among=environment.gpus()) if self._visible else None
        self._gpu = self._visible if found is None else found.uuid
        self._model = None if found is None else found.model
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # Ray's own, for a name that is no UUID
        os.environ["CUDA_VISIBLE_DEVICES"] = self._gpu
        self._open_tool = open_tool
        self._tool: Tool | None = None

    def seat(self) -> Seat:
        node_id = ray.get_runtime_context().get_node_id()
        return Seat(
            node_id=node_id, pid=os.getpid(), visible=self._visible, gpu=self._gpu or None, model=self._model
        )  # fmt: skip

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


@dataclass(slots=True, eq=False)
class _Member:
    """A worker of the crew; `seat` is None until it is up."""

    actor: ActorHandle
    seat: Seat | None = None

    @property
    def gpu(self) -> str | None:
        return None if self.seat is None else self.seat.gpu


class _FailedAt:
    """Where one job has failed so far."""

    def __init__(self) -> None:
        self._members: set[_Member] = set()
        self._gpus: set[str] = set()

    def add(self, member: _Member) -> None:
        self._members.add(member)
        if member.gpu is not None:
            self._gpus.add(member.gpu)

    def holds(self, member: _Member) -> bool:
        return member in self._members or member.gpu in self._gpus


class Crew:
    """Workers of one kind. A job goes to an idle worker or waits here, so a worker that dies takes one job with it.

    A dead worker is replaced while its job goes to another. Where no replacement can be placed, the crew gets smaller;
    so it does by a GPU that fails again and again, or is given up at once: its worker stays, idle, and holds what Ray
    has booked for it, lest a replacement or an engine is put there.
    """

    def __init__(
        self, kind: str, *, spawn: Callable[[], ActorHandle], num_workers: int, health: GpuHealth | None
    ) -> None:
        """Without `health` no GPU is ever left alone."""
        self._kind = kind
        self._spawn = spawn
        self._health = health
        self._members = [_Member(spawn()) for _ in range(num_workers)]
        self._parked: list[_Member] = []
        self._replacing: set[asyncio.Task[None]] = set()
        self._matching: Matching[_Member] = Matching()
        self._closed = False

    def wait_until_up(self) -> None:
        """Raises PoolError when the workers cannot all be placed or started."""
        started = [member.actor.seat.remote() for member in self._members]
        up, missing = ray.wait(started, num_returns=len(started), timeout=START_SECONDS)
        if missing:
            free = {name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "GPU")}
            raise PoolError(
                f"the cluster placed {len(up)} of {len(started)} {self._kind}s within {START_SECONDS:g} s; free: {free}"
            )
        try:
            for member, seat in zip(self._members, ray.get(started), strict=True):
                member.seat = seat
        except RayError as error:
            raise PoolError(f"a {self._kind} did not start: {one_line(error)}") from error
        for member in self._members:
            self._matching.give(member)

    @property
    def seats(self) -> list[Seat]:
        """Of the workers that are up."""
        return [member.seat for member in self._members if member.seat is not None]

    async def do(self, job: Job[ResultT], *, subject: str, topic: str) -> ResultT:
        """The job's result, after up to MAX_ATTEMPTS attempts, each by another worker, on another GPU, if there is one.

        A worker that has had the topic before is preferred. Raises PoolError, and ProblemFailed from the job.
        """
        failed_at = _FailedAt()
        for number in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._attempt(job, subject=subject, topic=topic, failed_at=failed_at)
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
        self._matching.end()
        for task in self._replacing:
            task.cancel()
        all_of_them = [*self._members, *self._parked]
        closing = [member.actor.close.remote() for member in all_of_them]
        if closing:
            await asyncio.to_thread(ray.wait, closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        for member in all_of_them:
            ray.kill(member.actor)
        self._members.clear()
        self._parked.clear()

    async def _attempt(self, job: Job[ResultT], *, subject: str, topic: str, failed_at: _FailedAt) -> ResultT:
        """Raises SandboxError, WorkerDied, ProblemFailed; and PoolError for another fault, which would only repeat."""
        try:
            member = await self._matching.take(topic, avoid=failed_at.holds)
        except NoneLeft as error:
            closed = ": the pool is closed" if self._closed else ""
            raise PoolError(f"{subject}: no {self._kind} is left{closed}") from error
        lost: RayError | None = None
        try:
            result: ResultT = await member.actor.do.remote(job)
        except RayTaskError as error:
            raise self._told(error, member, subject=subject, failed_at=failed_at) from error
        except RayError as error:
            lost = error
            failed_at.add(member)
            self._count(member, subject=subject, reason=f"its process was lost: {type(error).__name__}")
            raise WorkerDied(one_line(error)) from error
        finally:
            # A cancelled caller leaves the worker at its job; the next one then queues behind it.
            if lost is None:
                self._give_back(member)
            elif not self._closed and member in self._members:
                self._start_replacing(member)
        if self._health is not None and member.gpu is not None:
            self._health.worked(member.gpu)
        return result

    def _told(
        self, error: RayTaskError, member: _Member, *, subject: str, failed_at: _FailedAt
    ) -> SandboxError | ProblemFailed | PoolError:
        """What the worker raised, as what it is: Ray's own wrapping puts the worker's whole traceback into the
        message."""
        cause = error.cause
        if isinstance(cause, GpuUnusable):
            if self._health is not None and member.gpu is not None:
                self._health.quarantine(member.gpu, reason=str(cause))
            self._leave_out(member, reason=str(cause))
            return GpuUnusable(str(cause))
        if isinstance(cause, SandboxError):
            failed_at.add(member)
            self._count(member, subject=subject, reason=one_line(cause))
        if isinstance(cause, SandboxError | ProblemFailed):
            return type(cause)(str(cause))
        return PoolError(f"{subject}: a {self._kind} is at fault: {one_line(cause)}")

    def _count(self, member: _Member, *, subject: str, reason: str) -> None:
        if self._health is not None and member.gpu is not None and not self._closed:
            self._health.failed(member.gpu, subject=subject, reason=reason)

    def _is_quarantined(self, member: _Member) -> bool:
        return self._health is not None and member.gpu in self._health.quarantined

    def _give_back(self, member: _Member) -> None:
        if member not in self._members:
            return  # left out meanwhile
        if self._is_quarantined(member):
            self._leave_out(member, reason=f"{member.gpu} is in quarantine")
        else:
            self._matching.give(member)

    def _start_replacing(self, dead: _Member) -> None:
        task = asyncio.create_task(self._replace(dead))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, dead: _Member) -> None:
        """By a worker on a GPU that is not in quarantine. One that Ray puts on such a GPU keeps it from others."""
        ray.kill(dead.actor)  # one that only lost its connection must not live on beside its replacement
        self._matching.leave(dead)
        member = self._spawned(instead_of=dead)
        while await self._is_up(member) and self._is_quarantined(member):
            bad = member
            if ray.available_resources().get("GPU", 0.0) < 1.0:
                self._leave_out(bad, reason=f"{bad.gpu} is in quarantine")
                return
            member = self._spawned(instead_of=bad)
            self._parked.append(bad)
        if member.seat is not None:
            log.warning("worker_replaced: a %s, now process %d", self._kind, member.seat.pid)
            self._matching.give(member)

    def _spawned(self, *, instead_of: _Member) -> _Member:
        member = _Member(self._spawn())
        self._members[self._members.index(instead_of)] = member
        return member

    async def _is_up(self, member: _Member) -> bool:
        """Whether it came up; else it is left out."""
        try:
            member.seat = await asyncio.wait_for(member.actor.seat.remote(), timeout=START_SECONDS)
        except (RayError, TimeoutError) as error:
            self._leave_out(member, reason=one_line(error))
        return member.seat is not None

    def _leave_out(self, member: _Member, *, reason: str) -> None:
        """For good. It is kept, idle, where it holds a GPU that is in quarantine."""
        if self._closed:
            return  # `close` has them all
        log.error("worker_not_replaced: one %s fewer: %s", self._kind, reason)
        self._matching.leave(member)
        self._members.remove(member)
        if self._is_quarantined(member):
            self._parked.append(member)
            member.actor.close.remote()
        else:
            ray.kill(member.actor)
        if not self._members:
            self._matching.end()
