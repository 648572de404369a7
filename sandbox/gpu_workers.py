"""Keeps the process that holds one GPU: started, probed, replaced when it is lost, with a spare beside it.

Knows what a worker answers to `probe` and that an answer may say `dead` or `error`; nothing of problems, plans or
blame. Loads no torch and never touches the GPU itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox import isolation
from sandbox.worker_process import WorkerEnded, WorkerLate, WorkerProcess
from sandbox.zygote import SandboxError

_START_SECONDS = 180.0  # importing torch from a cold disk and opening a context
_NUM_CPU_THREADS = "4"  # for weights, which are drawn on the CPU


class GpuWorkers:
    """The worker of one GPU. `device` counts among the GPUs that this process may see."""

    def __init__(self, command: Sequence[str], *, device: int) -> None:
        self._command, self._device = tuple(command), device
        self._worker: WorkerProcess | None = None
        self._spare: WorkerProcess | None = None
        self.conditions: dict[str, str] = {}

    def exchange(self, request: Mapping[str, Any], blobs: Sequence[bytes], *, seconds: float) -> dict[str, Any]:
        """The worker's answer. Raises WorkerLate or WorkerEnded, whoever's fault that is, and SandboxError for its own
        errors; what cannot be used any more is replaced at the next call."""
        worker = self._ready()
        try:
            answer: dict[str, Any] = json.loads(worker.call(request, blobs, deadline_seconds=seconds)["json"])
        except (WorkerLate, WorkerEnded):
            self._discard()
            raise
        if answer.get("dead"):
            self._discard()
        if "error" in answer:
            raise SandboxError(f"the GPU worker failed at {request['do']}: {answer['error']}")
        return answer

    def _ready(self) -> WorkerProcess:
        """A worker that has shown that its GPU computes. Raises SandboxError."""
        if self._worker is None:
            worker, self._spare = self._spare or self._start(), None
            try:
                probe = json.loads(worker.call({"do": "probe"}, deadline_seconds=_START_SECONDS)["json"])
            except (WorkerLate, WorkerEnded) as error:
                worker.close()
                raise SandboxError(f"the GPU worker did not start: {error}") from error
            if "error" in probe or not probe["healthy"]:
                worker.close()
                raise SandboxError(f"the GPU does not compute: {probe.get('error', 'a sum came out wrong')}")
            self.conditions = probe["conditions"]
            self._worker, self._spare = worker, self._start()
        return self._worker

    def _start(self) -> WorkerProcess:
        """A worker that imports what it needs while another one works; it opens the GPU at its first request."""
        return WorkerProcess(self._command, environment=lambda home: worker_environment(home, device=self._device))

    def replace(self) -> None:
        """Ends the process that holds the GPU; the next call gets one that has seen nothing yet."""
        self._discard()

    def _discard(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def close(self) -> None:
        self._discard()
        if self._spare is not None:
            self._spare.close()
            self._spare = None


def visible_gpu(device: int) -> str:
    """The index or UUID of GPU number `device` among those that this process may see."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[device] if device < len(visible) else str(device)


def worker_environment(home: str, *, device: int) -> dict[str, str]:
    """The scrubbed environment, one GPU, and where this process found its libraries."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    paths = (str(Path(__file__).parent.parent), *sys.path)
    return {
        **isolation.scrubbed_environment(home),
        **kept,
        "OMP_NUM_THREADS": _NUM_CPU_THREADS,
        "CUDA_VISIBLE_DEVICES": visible_gpu(device),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
