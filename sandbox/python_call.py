"""Measures the wall time of one Python call of a candidate's module on a GPU, host code and launches included.

The candidate runs in a sandboxed process of its own (`python_caller.py`), the problem's own `Model` in another. The
clock is here: a process is told to make n calls and answers when they are done and the device has been waited for. It
is the candidate's process that says so, and it could have skipped the work: the figure is shown, and never ranked or
mixed with a verdict. Loads no torch.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox import control_group, namespaces
from sandbox.gpu_workers import worker_environment
from sandbox.isolation import layers_for
from sandbox.python_caller import limits_for
from sandbox.types import Problem
from sandbox.worker_process import WorkerEnded, WorkerLate, WorkerProcess
from sandbox.zygote import SandboxError

_COMMAND = (sys.executable, "-P", "-m", "sandbox.python_caller")
_SEED = 42  # public: nothing is checked here
_NUM_WARM_UP_CALLS = 3
_BATCH_SECONDS = 0.05  # from here on the message to and fro is lost in a batch
_NUM_BATCHES = 7
_MAX_CALLS = 1 << 20
_START_SECONDS = 180.0  # importing torch from a cold disk and opening the GPU
_FIRST_SECONDS = 120.0  # loading the program and its first calls: kernels are compiled there, and may be tuned


class PythonCallFailed(RuntimeError):
    """The candidate's process did not do the calls. The message says how it failed, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonCall:
    """Microseconds of one call: the median over batches, the fastest and the slowest batch, and the eager module's
    median. `num_calls` is how many calls a batch had."""

    call_us: float
    low_us: float
    high_us: float
    num_calls: int
    eager_call_us: float
    conditions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """What one process was timed at: microseconds a call, one figure a batch."""

    call_us: tuple[float, ...]
    num_calls: int
    conditions: Mapping[str, str]


def measure_call(problem: Problem, source: str, *, device: int, seconds: float, isolation: str) -> PythonCall:
    """Times `ModelNew` of `source` and `Model` of `problem` on GPU `device`, each for `seconds` at most once its first
    calls are over, in which it compiles.

    Raises PythonCallFailed, IsolationError where `isolation` cannot be had, or SandboxError for what is not the
    candidate's doing.
    """
    layers = layers_for(isolation)
    candidate = time_calls(problem, source, device=f"cuda:{device}", seconds=seconds, layers=layers)
    try:
        eager = time_calls(problem, None, device=f"cuda:{device}", seconds=seconds, layers=layers)
    except PythonCallFailed as error:
        raise SandboxError(f"{problem.id} could not be called in a process of its own: {error}") from error
    return PythonCall(
        call_us=statistics.median(candidate.call_us),
        low_us=min(candidate.call_us),
        high_us=max(candidate.call_us),
        num_calls=candidate.num_calls,
        eager_call_us=statistics.median(eager.call_us),
        conditions={**candidate.conditions, "clock": "wall", "told_by": "the candidate's process"},
    )


def time_calls(
    problem: Problem, source: str | None, *, device: str, seconds: float, layers: tuple[str, ...]
) -> Batches:
    """Times a candidate's `ModelNew`, or with `source` None the problem's `Model`, on "cuda:N" or "cpu"; `seconds` are
    for what comes after the first calls."""
    index = 0 if device == "cpu" else int(device.removeprefix("cuda:"))

    def environment(home: str) -> Mapping[str, str]:
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        return {**worker_environment(home, device=index), **hidden}

    whole = _START_SECONDS + _FIRST_SECONDS + seconds
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(_bounded(layers, seconds=whole))
        worker = stack.enter_context(contextlib.closing(WorkerProcess(_COMMAND, environment=environment)))
        request = {"layers": layers, "gpu": device != "cpu", "seconds": whole, "group": group}
        conditions = _started(worker, request)
        # From here on its answers are the candidate's.
        body = {"do": "load", "problem": problem.source, "source": source, "seed": _SEED}
        return _batches(worker, body, conditions, seconds=seconds)


@contextlib.contextmanager
def _bounded(layers: tuple[str, ...], *, seconds: float) -> Iterator[tuple[str, ...]]:
    """A control group for one process and all that it starts, if `layers` has them. Raises SandboxError."""
    if "control_group" not in layers:
        yield ()
        return
    try:
        group = control_group.make()
        try:
            group.limit(limits_for(seconds), inherited_bytes=namespaces.SHARED_BYTES, num_others=1)
            yield group.folders
        finally:
            group.remove()
    except OSError as error:
        raise SandboxError(f"a control group for Python calls could not be made: {error}") from error


def _started(worker: WorkerProcess, request: Mapping[str, Any]) -> Mapping[str, str]:
    """The conditions that the process reports once its walls stand and its device computes. Raises SandboxError."""
    try:
        answer = json.loads(worker.call(request, deadline_seconds=_START_SECONDS)["json"])
    except (WorkerLate, WorkerEnded) as error:
        raise SandboxError(f"the process for Python calls did not start: {error}") from error
    if "error" in answer:
        raise SandboxError(f"the process for Python calls did not start: {answer['error']}")
    return {str(name): str(value) for name, value in answer["conditions"].items()}


def _batches(
    worker: WorkerProcess, load: Mapping[str, Any], conditions: Mapping[str, str], *, seconds: float
) -> Batches:
    deadline = time.monotonic() + _FIRST_SECONDS
    _tell(worker, load, deadline=deadline)
    for _ in range(_NUM_WARM_UP_CALLS):
        _batch(worker, 1, deadline=deadline)
    deadline, num_calls = time.monotonic() + seconds, 1
    while num_calls < _MAX_CALLS and _batch(worker, num_calls, deadline=deadline) < _BATCH_SECONDS:
        num_calls *= 2
    took = [_batch(worker, num_calls, deadline=deadline) for _ in range(_NUM_BATCHES)]
    return Batches(call_us=tuple(1e6 * t / num_calls for t in took), num_calls=num_calls, conditions=conditions)


def _batch(worker: WorkerProcess, num_calls: int, *, deadline: float) -> float:
    """Seconds that `num_calls` calls took."""
    start = time.perf_counter()
    _tell(worker, {"do": "call", "num_calls": num_calls}, deadline=deadline)
    return time.perf_counter() - start


def _tell(worker: WorkerProcess, body: Mapping[str, Any], *, deadline: float) -> None:
    """Sends one request and reads the answer as hostile data. Raises PythonCallFailed."""
    try:
        answer = worker.call(body, deadline_seconds=max(0.0, deadline - time.monotonic()))
    except WorkerLate as error:
        raise PythonCallFailed(f"the calls did not end in time, at {body['do']}") from error
    except WorkerEnded as error:
        raise PythonCallFailed(f"the process ended at {body['do']}: {str(error)[-400:]}") from error
    except SandboxError as error:
        raise PythonCallFailed(f"the answer to {body['do']} is not a message") from error
    if not isinstance(answer, dict) or answer.get("done") is not True:
        told = answer.get("error") if isinstance(answer, dict) else None
        raise PythonCallFailed(str(told)[:400].replace("\n", " ") if told else f"no answer to {body['do']}")
