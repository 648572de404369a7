"""The process that times PyTorch itself: eager, and compiled by torch.compile, on a problem's timing inputs.

It is never sent a plan or a candidate, so nothing of theirs can be near its memory, its caches or its clock. Chooses
nothing: which baseline counts is `baselines.py`'s matter. Run as `python -m sandbox.baseline_worker`.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch

from sandbox import environment
from sandbox.agreement import disagreement
from sandbox.capture import CaptureFailed, Flush, GraphTimer, StreamTimer, Timer, rotate
from sandbox.cuda_driver import CudaDriver
from sandbox.error_line import first_line
from sandbox.module_state import all_tensors
from sandbox.reference import Reference
from sandbox.trees import tensors_in
from sandbox.types import Problem, Tolerance
from sandbox.worker_main import serve

# torch.compile's mode for each baseline that is compiled; None is its default.
MODES: dict[str, str | None] = {"compile": None, "compile_max_autotune": "max-autotune-no-cudagraphs"}
_DEVICE_SHARE = 0.25  # of the device's memory, for the problems that stay open
_MAX_OPEN = 32
_COMPILED_RUNS = 2  # before capture: the first compiles, and what it leaves to the second is settled too
# How far a compiled answer may be from eager's, as root mean square over eager's: it sums in another order, and keeps
# intermediate values in float32 where eager rounds them. A wrong program is further off than that.
_BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 2e-2}
_LOWERED_BOUND = 2e-2  # with TF32 or reduced accumulation


class WrongAnswer(RuntimeError):
    """A compiled module does not give eager's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One baseline's timers, one an input set; `uncapturable` says why they are on a stream though a graph was asked
    for. `call` keeps alive what the graphs launch."""

    timers: Sequence[Timer]
    kind: str
    uncapturable: str | None
    call: Callable[..., Any]


@dataclass(slots=True, kw_only=True)
class OpenProblem:
    """A problem's module, never called itself, and its arguments for each timing input set."""

    model: torch.nn.Module
    arguments: Sequence[Any]
    bound: float | None
    prepared: dict[tuple[str, str], Prepared] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)


class BaselineWorker:
    """Answers requests."""

    def __init__(self) -> None:
        # Beyond its limit of recompilations Dynamo runs eager in silence, and eager would be timed as compiled.
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._flush = Flush(driver=CudaDriver(), device=self._device)
        self._problems: OrderedDict[str, OpenProblem] = OrderedDict()

    def answer(self, body: dict[str, Any], blobs: Sequence[memoryview]) -> dict[str, Any]:
        """Dispatches one request."""
        match body["do"]:
            case "probe":
                return self._probe()
            case "open":
                return self._open(body)
            case "prepare":
                return self._prepare(self._problems[body["key"]], name=body["name"], kind=body["kind"])
            case "measure":
                return self._measure(self._problems[body["key"]], body)
            case "forget":
                return self._forget(self._problems[body["key"]], names=body["names"])
            case "release":
                self._make_room(all_of_it=True)
                return {}
            case unknown:
                known = "probe, open, prepare, measure, forget, release"
                raise ValueError(f"unknown request {unknown!r}; known: {known}")

    def _probe(self) -> dict[str, Any]:
        total = int(torch.ones(1024, device=self._device).sum())
        told = {
            "gpu": torch.cuda.get_device_name(self._device),
            "driver": environment.gpu()["driver"],
            "torch": torch.__version__,
            "triton": metadata.version("triton"),
        }
        told = {name: str(value) for name, value in told.items() if value is not None}
        uuid = environment.gpu_uuid(torch.cuda.get_device_properties(self._device).uuid)
        return {"healthy": total == 1024, "conditions": told, "gpu_uuid": uuid}

    def _open(self, body: dict[str, Any]) -> dict[str, Any]:
        """Builds the module and its inputs from the seeds that the candidates' process uses for the same; "unusable"
        says why they cannot be had."""
        if body["key"] in self._problems:
            self._problems.move_to_end(body["key"])
            return {"unusable": None}
        allow(body["precision"])
        self._reset()
        self._make_room(all_of_it=False)
        for last in (False, True):
            try:
                self._problems[body["key"]] = self._built(body)
                break
            except torch.OutOfMemoryError:
                if last:
                    return {"unusable": "its inputs and weights do not fit into the GPU's memory beside the candidate"}
                self._make_room(all_of_it=True)
        return {"unusable": None}

    def _built(self, body: dict[str, Any]) -> OpenProblem:
        problem = Problem(**{**body["problem"], "tolerance": Tolerance(**body["problem"]["tolerance"])})
        reference = Reference(problem, spec=body["spec"], device=self._device)
        return OpenProblem(
            model=reference.module(body["seed"]),
            arguments=[reference.arguments(reference.inputs(seed)) for seed in body["timing_seeds"]],
            bound=None if set(body["precision"]) == {"ieee"} else _LOWERED_BOUND,
        )

    def _reset(self) -> None:
        """Has Dynamo forget what it compiled for other problems. Graphs stay as they are captured; compiled modules on
        a stream would compile anew in the middle of a measurement, so these are made again when they are asked for."""
        torch._dynamo.reset()
        for opened in self._problems.values():
            for key in [key for key, made in opened.prepared.items() if key[0] in MODES and made.kind == "stream"]:
                del opened.prepared[key]

    def _make_room(self, *, all_of_it: bool) -> None:
        """Forgets problems, the longest unused first, until what is kept is within bounds; or all of them."""
        limit = 0.0 if all_of_it else torch.cuda.get_device_properties(self._device).total_memory * _DEVICE_SHARE
        while self._problems and (len(self._problems) >= _MAX_OPEN or self._kept_bytes() > limit):
            self._problems.popitem(last=False)
        torch.cuda.empty_cache()

    def _kept_bytes(self) -> int:
        return int(torch.cuda.memory_allocated(self._device)) - self._flush.num_bytes

    def _prepare(self, opened: OpenProblem, *, name: str, kind: str) -> dict[str, Any]:
        """Makes one baseline ready; "unusable" says why it cannot be."""
        if (name, kind) not in opened.prepared:
            try:
                opened.prepared[name, kind] = self._build(opened, name=name, kind=kind)
            except Exception as error:  # noqa: BLE001  a compiler, or the user's own module under it, may raise anything
                torch.cuda.synchronize()  # raises if it was the device that failed
                torch.cuda.empty_cache()
                return {"unusable": first_line(error), "out_of_memory": isinstance(error, torch.OutOfMemoryError)}
        made = opened.prepared[name, kind]
        return {"unusable": None, "kind": made.kind, "uncapturable": made.uncapturable}

    def _build(self, opened: OpenProblem, *, name: str, kind: str) -> Prepared:
        model = copy.deepcopy(opened.model)
        # `dynamic=False`: shapes do not change here, and a second input set must not lead to a general kernel.
        module = torch.compile(model, mode=MODES[name], dynamic=False, fullgraph=False) if name in MODES else model

        def on(arguments: Any) -> Callable[[], Any]:
            def call() -> Any:
                with torch.no_grad():
                    return module(*arguments)

            return call

        calls = [on(arguments) for arguments in opened.arguments]
        if name in MODES:
            _check_compiled(opened, module)
            for call in calls:
                call()
        if kind == "graph":
            try:
                graphs = [GraphTimer(call, flush=self._flush, reads=lambda: all_tensors(model)) for call in calls]
                return Prepared(timers=graphs, kind="graph", uncapturable=None, call=module)
            except CaptureFailed as error:
                reason = str(error)
        streams = [StreamTimer(call, flush=self._flush) for call in calls]
        return Prepared(timers=streams, kind="stream", uncapturable=reason if kind == "graph" else None, call=module)

    def _measure(self, opened: OpenProblem, body: dict[str, Any]) -> dict[str, Any]:
        name, turn = body["name"], opened.turns.get(body["name"], 0)
        timers = opened.prepared[name, body["kind"]].timers
        times_us, opened.turns[name] = rotate(timers, turn=turn, replays=body["replays"])
        return {"times_us": times_us}

    def _forget(self, opened: OpenProblem, *, names: Sequence[str]) -> dict[str, Any]:
        for key in [key for key in opened.prepared if key[0] in names]:
            del opened.prepared[key]
        torch.cuda.empty_cache()
        return {}


def allow(precision: Sequence[str]) -> None:
    """Lets torch compute in what the run's policy allows to kernels, and in nothing less precise."""
    tf32, fp16 = "tf32" in precision, "fp16_accumulate" in precision
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = fp16
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = fp16
    torch.backends.cuda.matmul.allow_fp16_accumulation = fp16


def _check_compiled(opened: OpenProblem, module: Callable[..., Any]) -> None:
    """Compares with eager on every input set. Raises WrongAnswer."""
    eager = copy.deepcopy(opened.model)
    for arguments in opened.arguments:
        with torch.no_grad():
            for _ in range(_COMPILED_RUNS):  # both as often: a module may keep something for its next call
                theirs = [t for _, t in tensors_in(eager(*copy.deepcopy(arguments)))]
                ours = [t for _, t in tensors_in(module(*copy.deepcopy(arguments)))]
        bounds = [_BOUNDS.get(t.dtype, _LOWERED_BOUND) for t in theirs if t.is_floating_point()]
        bound = opened.bound or max(bounds, default=0.0)
        if (reason := disagreement(ours, theirs, bound=bound)) is not None:
            raise WrongAnswer(f"its answer is not eager's: {reason}")


if __name__ == "__main__":
    serve(lambda _: BaselineWorker())
