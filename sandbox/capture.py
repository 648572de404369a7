"""Makes work on the GPU measurable: captured in a CUDA graph, or run on a stream, after L2 is written over.

Knows nothing of rounds, baselines or verdicts: it answers how long one run took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch

from sandbox.cuda_driver import CudaDriver
from sandbox.execute import Arena, run_aten
from sandbox.plan import AtenStep, LaunchStep, Plan
from sandbox.plan_buffers import adoptable_storages, fresh_storages, last_uses
from sandbox.runner import Runner

_WARM_UP_RUNS = 2
# Without a graph the host has to be ahead of the device: each write of the flush gives it some thirty microseconds.
_HEAD_START_WRITES = 5


class CaptureFailed(Exception):
    """The work cannot be captured in a CUDA graph; the message is CUDA's reason."""


class Timer(Protocol):
    """Runs the same work again and says how long the device took."""

    def measure_us(self) -> float: ...


class Flush:
    """Leaves L2 holding nothing of use: a buffer of twice its size is written, and persisting lines are reset."""

    def __init__(self, *, driver: CudaDriver, device: torch.device) -> None:
        self._driver = driver
        self.num_bytes = 2 * int(torch.cuda.get_device_properties(device).L2_cache_size)
        self._buffer = torch.zeros(self.num_bytes // 4, dtype=torch.int32, device=device)

    def reset_persisting(self) -> None:
        """For the host to call before each measurement; it cannot be captured."""
        self._driver.reset_persisting_l2()

    def write(self) -> None:
        """Enqueues the writes."""
        self._buffer.fill_(1)


class GraphTimer:
    """Work in a CUDA graph of its own, between two event nodes: flush, event, work, event.

    With the events inside the graph no launch from the host lies between them. What the events themselves take is what
    an empty graph measures; it is stated with the results, not subtracted.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        *,
        flush: Flush,
        before: Callable[[], None] | None = None,
        reads: Callable[[], Any] | None = None,
    ) -> None:
        """`before` comes ahead of the flush, each time. `reads` gives what `work` would read now and may drop, as a
        module that puts a new tensor in the place of one it holds: the graph goes on reading the old one. Raises
        CaptureFailed, and whatever `work` raises when it is run outside of a capture."""
        _warm_up(work, before)
        self._flush = flush
        self._reads = None if reads is None else reads()
        self._graph = torch.cuda.CUDAGraph()
        self._start, self._end = (new_event(external=True) for _ in range(2))
        try:
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                if before is not None:
                    before()
                flush.write()
                self._start.record()
                self.result = work()  # kept, since the graph writes to it
                self._end.record()
        except RuntimeError as error:
            torch.cuda.synchronize()  # raises if it was not the capture but the device that failed
            if isinstance(error, torch.OutOfMemoryError):
                raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CaptureFailed(lines[0][:200]) from error

    def measure_us(self) -> float:
        """Runs the graph once and waits for it."""
        self._flush.reset_persisting()
        self._graph.replay()
        torch.cuda.current_stream().synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e3


class StreamTimer:
    """The same on a stream, for work that cannot be captured; launches count where the device waits for the host."""

    def __init__(self, work: Callable[[], Any], *, flush: Flush, before: Callable[[], None] | None = None) -> None:
        _warm_up(work, before)
        self._work, self._flush, self._before = work, flush, before
        self._start, self._end = (new_event() for _ in range(2))

    def measure_us(self) -> float:
        self._flush.reset_persisting()
        if self._before is not None:
            self._before()
        for _ in range(_HEAD_START_WRITES):
            self._flush.write()
        self._start.record()
        self.result = self._work()
        self._end.record()
        torch.cuda.current_stream().synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e3


def rotate(timers: Sequence[Timer], *, turn: int, replays: int) -> tuple[list[float], int]:
    """Times `replays` runs, the timers in turn from number `turn` on; gives the next turn too.

    Where several are asked for, one more comes first and is not told: another process had the GPU until now.
    """
    if replays > 1:
        timers[(turn - 1) % len(timers)].measure_us()
    times_us = [timers[(turn + n) % len(timers)].measure_us() for n in range(replays)]
    return times_us, turn + replays


def new_event(*, external: bool = False) -> torch.cuda.Event:
    """A timing event; an `external` one becomes a node of the graph that it is recorded in."""
    return torch.cuda.Event(enable_timing=True, external=external)  # type: ignore[no-untyped-call]


def _warm_up(work: Callable[[], Any], before: Callable[[], None] | None) -> None:
    """On a side stream, as capturing asks for: libraries make their handles and plans here."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_RUNS):
            if before is not None:
                before()
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()


class TimedPlan:
    """A plan's forward pass on one arena without guard bands, as a program that uses torch would run it.

    An operator's result is taken as the buffer itself where the plan made that buffer for it, so that no copy is timed
    which the candidate does not make; and once nothing needs it any more its memory is there for the next result, as
    it would be in that program.
    """

    def __init__(
        self, runner: Runner, arena: AdoptingArena, *, bound: Mapping[int, torch.Tensor], keep: bool = False
    ) -> None:
        """`bound` is the content that some buffers are to have before each run. With `keep` all results stay, for parts
        of the plan to be run alone."""
        self._runner, self._arena, self._bound = runner, arena, bound
        self._launch = runner.launcher(arena)
        self._over = {} if keep else last_uses(runner.plan)

    def forget(self) -> None:
        """Takes from the buffers what an earlier run left, so that no kernel finds its own answer there: what a program
        would have to make anew holds poison again, and what it may keep is as it was bound."""
        for storage in fresh_storages(self._runner.plan):
            self._arena.poison(storage)
        for storage, content in self._bound.items():
            self._arena.buffer(storage).copy_(content)

    def run(self) -> None:
        """Enqueues every step."""
        for at, step in enumerate(self._runner.plan.steps):
            if isinstance(step, LaunchStep):
                self._launch(step)
            elif isinstance(step, AtenStep):
                run_aten(step, self._arena)
            self._arena.let_go(self._over.get(at, ()))

    def run_launches(self) -> None:
        """Enqueues the kernels only; what operators would have made is left from the last whole run."""
        for step in self._runner.plan.steps:
            if isinstance(step, LaunchStep):
                self._launch(step)

    def run_operators(self) -> None:
        """Enqueues torch's operators only; what kernels would have made is left from the last whole run."""
        for step in self._runner.plan.steps:
            if isinstance(step, AtenStep):
                run_aten(step, self._arena)


class AdoptingArena(Arena):
    """An arena whose buffers can be replaced by the results that operators allocate."""

    def __init__(self, plan: Plan, *, device: torch.device, poison: int) -> None:
        super().__init__(plan, device=device, poison=poison, guard_bytes=0)
        self._adoptable = adoptable_storages(plan)

    def place(self, result: torch.Tensor, value: int, *, op: str) -> None:
        """Makes `result` the buffer of `value` where its layout is the plan's, else copies it."""
        record = self.plan.values[value]
        size = self.plan.storages[record.storage].num_bytes
        memory = result.untyped_storage()
        owned = {buffer.untyped_storage().data_ptr() for at, buffer in self._buffers.items() if at != record.storage}
        fits = result.stride() == record.stride and result.storage_offset() == record.offset and memory.nbytes() >= size
        if record.storage in self._adoptable and fits and memory.data_ptr() not in owned:
            self._buffers[record.storage] = torch.empty(0, dtype=torch.uint8, device=self.device).set_(
                memory, 0, (size,), (1,)
            )
            return
        super().place(result, value, op=op)

    def let_go(self, storages: Iterable[int]) -> None:
        """Drops buffers, whose memory is its allocator's again."""
        for storage in storages:
            self._buffers.pop(storage, None)
