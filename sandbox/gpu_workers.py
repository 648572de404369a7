"""Keeps the process that holds one GPU: started, probed, replaced when it is lost, with spares beside it.

The first spares have their CUDA contexts open before they are needed; the others have done their imports. A lost worker
is killed at once and waited for in the background. Knows what a worker answers to `load` and `probe` and that an answer
may say `dead` or `error`; nothing of problems, plans or blame. Loads no torch and never touches the GPU itself.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import isolation
from sandbox.worker_process import WorkerEnded, WorkerLate, WorkerProcess
from sandbox.zygote import SandboxError

_log = logging.getLogger(__name__)

_START_SECONDS = 180.0  # importing torch from a cold disk and opening a context
_REAP_SECONDS = 60.0  # a context with a running kernel is torn down in seconds; longer, and the GPU is stuck
_MAX_FAULTS = 3  # in a row, none of them any candidate's
# Importing torch takes seconds: so many spares keep up with a loss a second or two. Two losses may come one right after
# the other. Only open ones take GPU memory.
_NUM_SPARES, _NUM_OPEN = 4, 2
_NUM_CPU_THREADS = "4"  # for weights, which are drawn on the CPU
# What a GPU's processes keep of this one's environment: where libraries are, in which order CUDA numbers GPUs, and what
# a machine's owner has switched off between them.
KEPT_VARIABLES = (
    "LD_LIBRARY_PATH",
    "PATH",
    "CUDA_DEVICE_ORDER",
    "NCCL_NVLS_ENABLE",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST",
    "NVSHMEM_DISABLE_NVLS",
)


class GpuUnusable(SandboxError):
    """The GPU is given up: it failed several times in a row through no candidate's fault. The message names it."""


@dataclass(slots=True)
class Usage:
    """Where the time of a GPU's judge went: in the worker's hands, and waiting for a worker to be ready. `num_lost`
    counts the workers that had to be replaced."""

    busy_seconds: float = 0.0
    waiting_seconds: float = 0.0
    num_lost: int = 0


class _Starting:
    """A worker on its way to being used: it imports first, which needs no GPU, and opens the GPU when it is told to."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self._probe: dict[str, Any] | None = None
        self.opening = False
        self._paused = False
        process.send({"do": "load"}, deadline=_start_deadline())

    def advance(self) -> None:
        """Opens the GPU if the imports are done, and takes the probe's answer if it is there; waits for neither."""
        if not self.opening and self.process.answered:
            self._open()
        if self.opening and self._probe is None and self.process.answered:
            self._take_probe()

    @property
    def progress(self) -> int:
        """How far it is: 2 its GPU is open, 1 on its way there, 0 importing."""
        if not self.opening:
            return 0
        return 2 if self._probe is not None or self.process.answered else 1

    def pause(self) -> None:
        """Keeps it off the GPU until `go_on`, if it is on its way there."""
        self.advance()
        if self.opening and self._probe is None:
            self.process.pause()
            self._paused = True

    def go_on(self) -> None:
        if self._paused:
            self.process.resume()
            self._paused = False

    def finish(self) -> dict[str, Any]:
        """The probe's answer. Raises WorkerLate, WorkerEnded, or SandboxError where the GPU does not compute."""
        self.go_on()
        if not self.opening:
            self._open()
        if self._probe is None:
            self._take_probe()
        assert self._probe is not None
        if "error" in self._probe or not self._probe["healthy"]:
            raise SandboxError(f"the GPU does not compute: {self._probe.get('error', 'a known answer came out wrong')}")
        return self._probe

    def _open(self) -> None:
        self.process.receive(deadline=_start_deadline())
        self.process.send({"do": "probe"}, deadline=_start_deadline())
        self.opening = True

    def _take_probe(self) -> None:
        self._probe = json.loads(self.process.receive(deadline=_start_deadline())["json"])
        if "warm_up_seconds" in self._probe:
            _log.info("gpu_open: process %d, warmed up in %.2f s", self.process.pid, self._probe["warm_up_seconds"])


def _start_deadline() -> float:
    return time.monotonic() + _START_SECONDS


class GpuWorkers:
    """The worker of one GPU. `device` counts among the GPUs that this process may see.

    `conditions` says what the GPU is, as its last probe told.
    """

    def __init__(self, command: Sequence[str], *, device: int) -> None:
        self._command, self._device = tuple(command), device
        self._worker: WorkerProcess | None = None
        self._spares: list[_Starting] = []
        self._open_spares = True  # until one fails
        self._is_quiet = False
        self._num_faults = 0
        self._reapers: list[threading.Thread] = []
        self.conditions: dict[str, str] = {}
        self.usage = Usage()

    def exchange(self, request: Mapping[str, Any], blobs: Sequence[bytes], *, seconds: float) -> dict[str, Any]:
        """The worker's answer.

        Raises WorkerLate or WorkerEnded, whoever's fault that is, and SandboxError for its own errors; what cannot be
        used any more is replaced at the next call.
        """
        asked = time.monotonic()
        worker = self._ready()
        start = time.monotonic()
        self.usage.waiting_seconds += start - asked
        deadline = start + seconds
        try:
            worker.send(request, blobs, deadline=deadline)
            answer: dict[str, Any] = json.loads(worker.receive(deadline=deadline)["json"])
        except (WorkerLate, WorkerEnded, SandboxError):
            self._discard()
            raise
        finally:
            self.usage.busy_seconds += time.monotonic() - start
        if answer.get("dead"):
            self._discard()
        if "error" in answer:
            raise SandboxError(f"the GPU worker failed at {request['do']}: {answer['error']}")
        if not self._is_quiet:
            self._tend(lambda spare: spare.advance())
        return answer

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Keeps the GPU free of all of ours but the worker: timing must have its block.

        Waits until lost workers are gone; a spare on its way to the GPU goes on afterwards. Raises GpuUnusable where a
        killed process does not end.
        """
        self._ready()
        for reaper in self._reapers:
            reaper.join(timeout=_REAP_SECONDS)
            if reaper.is_alive():
                raise GpuUnusable(f"{self._name()} is given up: a killed process does not end on it")
        self._reapers.clear()
        self._tend(lambda spare: spare.pause())
        self._is_quiet = True
        try:
            yield
        finally:
            self._is_quiet = False
            for spare in self._spares[:_NUM_OPEN]:
                spare.go_on()

    def _ready(self) -> WorkerProcess:
        """A worker that has shown that its GPU computes. Raises GpuUnusable after several that have not."""
        while self._worker is None:
            try:
                starting = self._take_spare() if self._spares else self._start()
            except (WorkerLate, WorkerEnded, SandboxError) as error:
                self._count_fault(error)
                continue
            try:
                probe = starting.finish()
            except (WorkerLate, WorkerEnded, SandboxError) as error:
                self._reap(starting.process)
                self._count_fault(error)
                continue
            self._num_faults, self._open_spares = 0, True
            self.conditions = probe["conditions"]
            self._worker = starting.process
            self._start_spares()
        return self._worker

    def _take_spare(self) -> _Starting:
        """The one that is ready first: whichever that is, the first to be started may be late."""
        furthest = max(range(len(self._spares)), key=lambda index: self._spares[index].progress)
        return self._spares.pop(furthest)

    def _start(self) -> _Starting:
        process = WorkerProcess(self._command, environment=lambda home: worker_environment(home, device=self._device))
        try:
            return _Starting(process)
        except (WorkerLate, WorkerEnded):
            self._reap(process)
            raise

    def _start_spares(self) -> None:
        while len(self._spares) < _NUM_SPARES:
            try:
                self._spares.append(self._start())
            except (WorkerLate, WorkerEnded, SandboxError) as error:
                self._count_fault(error)
                return

    def _tend(self, work: Callable[[_Starting], object]) -> None:
        """Does `work` on the first spares. One that fails counts as a fault, and no other is opened before the worker
        is replaced: where memory is short because the worker uses it, the next would fail too."""
        for spare in self._spares[:_NUM_OPEN]:
            if not self._open_spares:
                return
            try:
                work(spare)
            except (WorkerLate, WorkerEnded, SandboxError) as error:
                self._open_spares = False
                self._spares.remove(spare)
                self._reap(spare.process)
                self._count_fault(error)

    def _count_fault(self, error: Exception) -> None:
        """Raises GpuUnusable when there were too many in a row."""
        self._num_faults += 1
        _log.warning("gpu_fault: %s, %d in a row: %s", self._name(), self._num_faults, error)
        if self._num_faults >= _MAX_FAULTS:
            message = f"{self._name()} is given up after {self._num_faults} faults in a row: {error}"
            raise GpuUnusable(message) from error

    def _name(self) -> str:
        visible = worker_environment("", device=self._device)["CUDA_VISIBLE_DEVICES"]
        return self.conditions.get("gpu_uuid", f"GPU {visible}")

    def replace(self) -> None:
        """Ends the process that holds the GPU; the next call gets one that has seen nothing yet."""
        self._discard()

    def _discard(self) -> None:
        if self._worker is not None:
            self._reap(self._worker)
            self._worker = None
            self.usage.num_lost += 1

    def _reap(self, process: WorkerProcess) -> None:
        """Has a process killed now and waits for its end in the background: with a kernel still running, or a dead
        context, that takes a second or more."""
        process.strike()
        reaper = threading.Thread(target=process.close, name="reaper", daemon=True)
        reaper.start()
        self._reapers = [r for r in self._reapers if r.is_alive()] + [reaper]

    def close(self) -> None:
        """Ends all processes and waits for their end."""
        if self._worker is not None:
            self._reap(self._worker)
            self._worker = None
        while self._spares:
            self._reap(self._spares.pop().process)
        for reaper in self._reapers:
            reaper.join(timeout=_REAP_SECONDS)


def visible_gpu(device: int) -> str:
    """The index or UUID of GPU number `device` among those that this process may see."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[device] if device < len(visible) else str(device)


def worker_environment(home: str, *, device: int) -> dict[str, str]:
    """The scrubbed environment, one GPU, and where this process found its libraries."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    paths = (str(Path(__file__).parent.parent), *sys.path)
    return {
        **isolation.scrubbed_environment(home),
        **kept,
        "OMP_NUM_THREADS": _NUM_CPU_THREADS,
        "CUDA_VISIBLE_DEVICES": visible_gpu(device),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
