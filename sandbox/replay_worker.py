"""The process that holds the GPU: opens problems, verifies plans and times them, one request after the other.

Trusted, and never imports what a model wrote. Problems stay open between requests, so their inputs, answers and eager
graphs are made once; whatever a candidate may have spoilt goes with the process. Makes no verdicts. Run as
`python -m sandbox.replay_worker`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

from sandbox import environment, timing
from sandbox.calibrate import MAX_CASES, admit, calibrate
from sandbox.calibration import Calibration
from sandbox.capture import Flush
from sandbox.choose import choose
from sandbox.cuda_driver import CudaDriver
from sandbox.cuda_fault import StickyFault
from sandbox.execute import weights_by_name
from sandbox.plan import decode
from sandbox.reference import Case, InadmissibleProblem, Reference, matched_precision
from sandbox.replay import Check, verify
from sandbox.runner import CandidateFault, Runner
from sandbox.seeds import case_seeds
from sandbox.types import Problem, Status, Tolerance, content_hash
from sandbox.worker_process import read_message, write_message

_NUM_TIMING_SETS = 2
# What open problems may keep: a share of the device's memory, and expected values on the host.
_DEVICE_SHARE = 0.25
_HOST_BYTES = 16 << 30
_PARENT_POLL_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class OpenProblem:
    """A problem whose reference has run. `baseline` is made when its first candidate passes."""

    reference: Reference
    cases: Sequence[Case]
    timing_seeds: Sequence[int]
    baseline: timing.Baseline | None = None

    @property
    def host_bytes(self) -> int:
        return sum(expected.kept_bytes for case in self.cases for expected in case.expected)


class ReplayWorker:
    """Answers requests. Each answer is plain data; "dead" in it says that this process must not be used again."""

    def __init__(self) -> None:
        matched_precision()
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._driver = CudaDriver()
        self._flush = Flush(driver=self._driver, device=self._device)
        self._machine: timing.Machine | None = None
        self._problems: OrderedDict[str, OpenProblem] = OrderedDict()
        self._calibrations: dict[tuple[str, str], Calibration] = {}
        self._runner: Runner | None = None

    def answer(self, body: dict[str, Any], blobs: Sequence[memoryview]) -> dict[str, Any]:
        """Dispatches one request."""
        match body["do"]:
            case "probe":
                return self._probe()
            case "open":
                return self._open(body, blobs)
            case "verify":
                return self._verify(self._problems[body["key"]], bytes(blobs[0]))
            case "baseline":
                return self._prepare_baseline(self._problems[body["key"]])
            case "time":
                return self._time(self._problems[body["key"]], body)
            case unknown:
                raise ValueError(f"unknown request {unknown!r}; known: probe, open, verify, baseline, time")

    def _probe(self) -> dict[str, Any]:
        """Shows that the device computes, and says what it is."""
        total = int(torch.ones(1024, device=self._device).sum())
        return {"healthy": total == 1024, "conditions": self._conditions()}

    def _conditions(self) -> dict[str, str]:
        told = {
            "gpu": torch.cuda.get_device_name(self._device),
            "driver": environment.gpu()["driver"],
            "torch": torch.__version__,
            "triton": metadata.version("triton"),
        }
        return {name: str(value) for name, value in told.items() if value is not None}

    def _open(self, body: dict[str, Any], blobs: Sequence[memoryview]) -> dict[str, Any]:
        """Makes the cases of a problem, unless they are there, and checks the reference against itself.

        Cases fit the plan that comes along: the weights that it takes by name are varied. Without one they all are.
        """
        problem = Problem(**{**body["problem"], "tolerance": Tolerance(**body["problem"]["tolerance"])})
        weights, precision = body["spec"]["weights"], body["precision"]
        vary = weights_by_name(decode(bytes(blobs[0])), weights) if blobs else frozenset(name for name, _, _ in weights)
        key = content_hash(problem.key, precision, *sorted(vary))
        calibrated = (problem.key, precision)
        if body["calibration"] is not None:  # from a worker before this one
            self._calibrations[calibrated] = Calibration.from_json(body["calibration"])
        self._drop_runner()
        if key in self._problems:
            self._problems.move_to_end(key)
            return _opened(key, self._problems[key], self._calibrations[calibrated])
        try:
            opened = self._roomy(key, lambda: self._make(problem, body, vary=vary))
        except InadmissibleProblem as error:
            return {"inadmissible": str(error), "calibration": _plain(self._calibrations.get(calibrated))}
        except torch.OutOfMemoryError:
            return {"inadmissible": "the reference does not fit into the GPU's memory", "calibration": None}
        self._problems[key] = opened
        self._make_room(keep=key, all_of_it=False)
        return _opened(key, opened, self._calibrations[calibrated])

    def _make(self, problem: Problem, body: dict[str, Any], *, vary: frozenset[str]) -> OpenProblem:
        """Calibrates the problem, unless that was done, and makes its cases. Raises InadmissibleProblem."""
        reference = Reference(problem, spec=body["spec"], device=self._device)
        precision, made = body["precision"], None
        drawn = case_seeds(problem, secret=body["secret"], count=MAX_CASES + _NUM_TIMING_SETS)
        seeds, timing_seeds = drawn[:MAX_CASES], drawn[MAX_CASES:]
        known = self._calibrations.get((problem.key, precision))
        if known is None:
            known, made = calibrate(reference, seeds=seeds, num_cases=body["num_seeds"], precision=precision)
            self._calibrations[problem.key, precision] = known
        cases = admit(reference, known, made=made, seeds=seeds, vary=vary, precision=precision)
        return OpenProblem(reference=reference, cases=cases, timing_seeds=timing_seeds)

    def _verify(self, opened: OpenProblem, plan: bytes) -> dict[str, Any]:
        """Settles the plan's choices and checks it; what passes stays loaded for timing."""
        self._drop_runner()
        start = time.monotonic()
        key = next(k for k, v in self._problems.items() if v is opened)
        for last_try in (False, True):
            runner = Runner(decode(plan), driver=self._driver, device=self._device)
            try:
                choices, names = choose(runner, opened.cases[0], flush=self._flush)
                check = verify(runner, opened.cases)
            except CandidateFault as fault:
                if fault.status is Status.OUT_OF_MEMORY and not last_try:
                    self._make_room(keep=key, all_of_it=True)
                    continue
                return {**_told(fault), "seconds": time.monotonic() - start}
            break
        self._runner = runner
        return {**_checked(check), "choices": list(choices), "chosen": list(names), "seconds": time.monotonic() - start}

    def _prepare_baseline(self, opened: OpenProblem) -> dict[str, Any]:
        """Makes the eager graphs on inputs of their own: what they leave in memory answers nothing that is checked."""
        start = time.monotonic()
        if self._machine is None:
            self._machine = timing.survey(self._flush, device=self._device, conditions=self._conditions())
        if opened.baseline is None:
            first = opened.cases[0]
            inputs = [opened.reference.inputs(seed) for seed in opened.timing_seeds]
            cases = [dataclasses.replace(first, inputs=leaves, expected=()) for leaves in inputs]
            opened.baseline = timing.prepare_baseline(opened.reference, cases, flush=self._flush)
        return {"seconds": time.monotonic() - start}

    def _time(self, opened: OpenProblem, body: dict[str, Any]) -> dict[str, Any]:
        """Times the plan that passed last, once more if the time cannot be true."""
        assert self._runner is not None and self._machine is not None and opened.baseline is not None
        start = time.monotonic()
        reply: dict[str, Any] = {"status": None, "failure": None, "performance": None, "not_timed": None}
        for _ in range(2):
            try:
                measured = timing.measure(
                    self._runner, opened.baseline, verified=opened.cases[0], machine=self._machine,
                    min_kernel_share=body["min_kernel_share"], num_rounds=body["num_rounds"],
                    seconds=body["timing_seconds"],
                )  # fmt: skip
            except timing.ImplausibleTime as error:
                reply["not_timed"] = f"implausible time: {error}"
                continue
            except torch.OutOfMemoryError:
                reply["not_timed"] = "no memory is left to time it"
            except CandidateFault as fault:
                if fault.status is Status.OUT_OF_MEMORY:
                    reply["not_timed"] = "no memory is left to time it"
                else:
                    reply |= _told(fault)
            else:
                reply |= {"status": measured.status, "not_timed": None}
                reply |= {
                    n: _plain(v) for n, v in (("failure", measured.failure), ("performance", measured.performance))
                }
            break
        if not reply.get("dead"):
            self._drop_runner()
        return {**reply, "seconds": time.monotonic() - start}

    def _roomy(self, key: str, work: Any) -> Any:
        """Runs `work`, once more with nothing else in memory if memory runs out."""
        try:
            return work()
        except torch.OutOfMemoryError:
            self._make_room(keep=key, all_of_it=True)
            return work()

    def _make_room(self, *, keep: str, all_of_it: bool) -> None:
        """Forgets problems, the longest unused first, until what is kept is within bounds; or all but one."""
        limit = torch.cuda.get_device_properties(self._device).total_memory * _DEVICE_SHARE
        for key in [k for k in self._problems if k != keep]:
            host = sum(problem.host_bytes for problem in self._problems.values())
            if not all_of_it and torch.cuda.memory_allocated(self._device) <= limit and host <= _HOST_BYTES:
                return
            del self._problems[key]
        if all_of_it:
            torch.cuda.empty_cache()

    def _drop_runner(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def _opened(key: str, opened: OpenProblem, calibration: Calibration) -> dict[str, Any]:
    return {
        "inadmissible": None,
        "key": key,
        "seeds": [case.seed for case in opened.cases],
        "kinds": [case.kind for case in opened.cases],
        "hidden": [name for case in opened.cases for name in case.hidden],
        "calibration": dataclasses.asdict(calibration),
    }


def _plain(record: Any) -> dict[str, Any] | None:
    return None if record is None else dataclasses.asdict(record)


def _checked(check: Check) -> dict[str, Any]:
    return {**dataclasses.asdict(check), "dead": check.spoilt}


def _told(fault: CandidateFault) -> dict[str, Any]:
    return {"status": fault.status, "failure": _plain(fault.failure), "dead": fault.dead}


def main() -> None:
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    worker: ReplayWorker | None = None
    while (message := read_message(requests)) is not None:
        try:
            worker = worker or ReplayWorker()
            reply = worker.answer(*message)
        except StickyFault as error:
            reply = {"error": f"the CUDA context is dead: {error}", "dead": True}
        except Exception as error:  # noqa: BLE001  the outermost frame: whatever it is, it is ours, and the judge is to hear of it
            reply = {"error": f"{type(error).__name__}: {error}"[:2000], "dead": True}
        # Failures may hold NaN and infinities, which Python's JSON carries and the wire's own refuses.
        write_message(replies, {"json": json.dumps(reply)})
        if reply.get("dead"):
            break
    sys.stderr.flush()
    os._exit(0)  # a dead context makes an orderly exit fail


def _leave_with(parent: int) -> None:
    """Ends this process when the one that started it is gone, even while a kernel runs."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
