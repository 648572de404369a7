"""The process that holds the GPU: opens problems, verifies plans and times them, one request after the other.

Trusted, and never imports what a model wrote. Problems stay open between requests, so their inputs and answers are
made once; whatever a candidate may have spoilt goes with the process. Makes no verdicts. Run as
`python -m sandbox.replay_worker`.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

import torch

from sandbox import environment, timing, warm_up
from sandbox.calibrate import MAX_ADDED, admit, calibrate
from sandbox.calibration import Calibration
from sandbox.capture import Flush, new_event
from sandbox.choose import choose
from sandbox.cuda_driver import CudaDriver
from sandbox.execute import weights_by_name
from sandbox.next_call import NextCall
from sandbox.peak_memory import least_peak_bytes
from sandbox.plan import ITEM_BYTES, decode
from sandbox.reduced_precision import matched_precision
from sandbox.reference import Case, InadmissibleProblem, Reference
from sandbox.replay import Check, verify
from sandbox.runner import CandidateFault, Runner, out_of_memory
from sandbox.seal import Seal
from sandbox.seeds import called_again, case_seeds
from sandbox.types import Problem, Status, Tolerance, content_hash
from sandbox.vault import Vault
from sandbox.watchdog import Watchdog
from sandbox.worker_main import serve

ResultT = TypeVar("ResultT")

# Input sets that a plan is timed on, in turn. Where memory lies takes or gives a short kernel some percent for as long
# as the process lives, so small problems are spread over more places.
_NUM_TIMING_SETS, _MANY_TIMING_SETS = 2, 8
_SMALL_BYTES = 8 << 20  # of a problem's inputs and answer
_NO_MEMORY = "no memory is left to time it"
_FAULT_SECONDS = 0.5  # on an H200 the driver told of a trap 0.35 to 0.44 s after the launch, alone on the GPU
# What open problems may keep: a share of the device's memory, and expected values on the host.
_DEVICE_SHARE = 0.25
_HOST_BYTES = 16 << 30


@dataclass(slots=True, kw_only=True)
class OpenProblem:
    """A problem whose reference has run. `timing_cases` are made when its first candidate passes. `seal` is on what
    kernels could write to, and must not."""

    reference: Reference
    cases: Sequence[Case]
    next_call: NextCall
    seal: Seal
    timing_seeds: Sequence[int]
    eager_us: float
    timing_cases: Sequence[Case] = ()

    @property
    def host_bytes(self) -> int:
        return sum(expected.kept_bytes for case in self.cases for expected in case.expected)


class ReplayWorker:
    """Answers requests. Each answer is plain data; "dead" in it says that this process must not be used again."""

    def __init__(self, *, on_late: Callable[[], None]) -> None:
        """`on_late` is called when a candidate's kernels outlast their time, and ends the process."""
        matched_precision()
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._driver = CudaDriver()
        self._flush = Flush(driver=self._driver, device=self._device)
        total = torch.cuda.get_device_properties(self._device).total_memory
        self._limit_bytes = int(total * _DEVICE_SHARE)
        self._vault = Vault(self._driver, device=self._device, limit_bytes=self._limit_bytes)
        self._machine: timing.Machine | None = None
        self._problems: OrderedDict[str, OpenProblem] = OrderedDict()
        self._calibrations: dict[tuple[str, str], Calibration] = {}
        self._runner: Runner | None = None
        self._timed: timing.TimedCandidate | None = None
        self._watchdog = Watchdog(on_late, grace_seconds=_FAULT_SECONDS)
        self._conditions = _conditions(self._device)
        self._warm_up_seconds: float | None = None

    def answer(self, body: dict[str, Any], blobs: Sequence[memoryview]) -> dict[str, Any]:
        """Dispatches one request. What candidates run in it may take its `run_seconds`, if it has any."""
        self._watchdog.allow(body.get("run_seconds"))
        match body["do"]:
            case "probe":
                return self._probe()
            case "open":
                return self._open(body, blobs)
            case "verify":
                return self._verify(self._problems[body["key"]], bytes(blobs[0]))
            case "timing_inputs":
                return self._timing_inputs(self._problems[body["key"]], body["key"])
            case "prepare":
                return self._on_candidate(lambda: self._prepare(self._problems[body["key"]], body))
            case "measure":
                return self._on_candidate(lambda: self._measure(body["replays"]))
            case "finish":
                return self._on_candidate(lambda: self._finish(self._problems[body["key"]]))
            case unknown:
                known = "probe, open, verify, timing_inputs, prepare, measure, finish"
                raise ValueError(f"unknown request {unknown!r}; known: {known}")

    def _probe(self) -> dict[str, Any]:
        """Shows that the device computes, and says what it is. The first probe judges a problem of our own."""
        total = int(torch.ones(1024, device=self._device).sum())
        healthy = total == 1024
        if self._warm_up_seconds is None:
            healthy = self._warm_up() and healthy
        return {"healthy": healthy, "conditions": self._conditions, "warm_up_seconds": self._warm_up_seconds}

    def _warm_up(self) -> bool:
        """Whether a right plan passes and wrong answers do not. Leaves nothing behind but what torch and CUDA have
        loaded for it."""
        start = time.monotonic()
        opened = self._make(warm_up.PROBLEM, warm_up.REQUEST, vary=frozenset(warm_up.WEIGHTS))
        runner = Runner(warm_up.plan(), driver=self._driver, device=self._device, watchdog=self._watchdog)
        check = verify(runner, opened.cases, next_call=opened.next_call)
        runner.close()
        seen = warm_up.wrong_answers_are_seen(self._device)
        del opened, runner
        self._calibrations.clear()
        torch.cuda.empty_cache()
        self._warm_up_seconds = time.monotonic() - start
        return check.status is None and seen

    def _open(self, body: dict[str, Any], blobs: Sequence[memoryview]) -> dict[str, Any]:
        """Makes the cases of a problem, unless they are there, and checks the reference against itself.

        Cases fit the plan that comes along: the weights that it takes by name are varied. Without one they all are.
        "alone" says that nothing else on the GPU is left to be freed.
        """
        problem = Problem(**{**body["problem"], "tolerance": Tolerance(**body["problem"]["tolerance"])})
        weights, precision = body["spec"]["weights"], body["precision"]
        vary = weights_by_name(decode(bytes(blobs[0])), weights) if blobs else frozenset(name for name, _, _ in weights)
        key = content_hash(problem.key, precision, *sorted(vary))
        calibrated = (problem.key, precision)
        if body["calibration"] is not None:  # from a worker before this one
            self._calibrations[calibrated] = Calibration.from_json(body["calibration"])
        self._drop_runner()
        if key in self._problems and not self._problems[key].seal.broken:  # by another problem's candidate, unseen
            self._problems.move_to_end(key)
            return _opened(key, self._problems[key], self._calibrations[calibrated])
        self._problems.pop(key, None)
        try:
            opened = self._roomy(key, lambda: self._make(problem, body, vary=vary))
        except InadmissibleProblem as error:
            return {"inadmissible": str(error), "calibration": _plain(self._calibrations.get(calibrated))}
        except torch.OutOfMemoryError:
            reason = f"the reference does not fit into the GPU's memory{self._taken_by_others()}"
            return {"inadmissible": reason, "calibration": None, "out_of_memory": True}
        self._problems[key] = opened
        self._make_room(keep=key, all_of_it=False)
        return _opened(key, opened, self._calibrations[calibrated])

    def _make(self, problem: Problem, body: dict[str, Any], *, vary: frozenset[str]) -> OpenProblem:
        """Calibrates the problem, unless that was done, and makes its cases. Raises InadmissibleProblem."""
        reference = Reference(
            problem, spec=body["spec"], device=self._device, may_narrow=body["alone"], keep=self._vault.keep
        )
        precision, made = body["precision"], None
        count = body["num_seeds"] + MAX_ADDED
        drawn = case_seeds(problem, secret=body["secret"], count=count + _MANY_TIMING_SETS)
        seeds, timing_seeds = drawn[:count], drawn[count:]
        known = self._calibrations.get((problem.key, precision))
        if known is None:
            known, made = calibrate(reference, seeds=seeds, num_cases=body["num_seeds"], precision=precision)
            self._calibrations[problem.key, precision] = known
        cases = admit(reference, known, made=made, seeds=seeds, vary=vary, precision=precision)
        eager_us, num_sets = _eager_us(reference, cases[0]), _num_timing_sets(cases[0])
        seal = Seal(t for case in cases for t in (*case.inputs, *case.weights.values(), *case.attributes.values()))
        next_call = NextCall(reference, cases[called_again(len(cases))], seal=seal)
        return OpenProblem(
            reference=reference,
            cases=cases,
            next_call=next_call,
            seal=seal,
            timing_seeds=timing_seeds[:num_sets],
            eager_us=eager_us,
        )

    def _verify(self, opened: OpenProblem, plan: bytes) -> dict[str, Any]:
        """Settles the plan's choices and checks it; what passes stays loaded for timing."""
        self._drop_runner()
        start = time.monotonic()
        key = next(k for k, v in self._problems.items() if v is opened)
        if least_peak_bytes(decode(plan)) > torch.cuda.get_device_properties(self._device).total_memory:
            return {**_told(out_of_memory()), "seconds": time.monotonic() - start}
        for last_try in (False, True):
            self._drop_runner()
            runner = Runner(decode(plan), driver=self._driver, device=self._device, watchdog=self._watchdog)
            self._runner = runner  # also where it fails, so that its kernels are unloaded
            try:
                choices, names = choose(runner, opened.cases[0], flush=self._flush)
                check = verify(runner, opened.cases, next_call=opened.next_call)
            except InadmissibleProblem as error:
                return {"inadmissible": f"a second call of the reference: {error}"}
            except CandidateFault as fault:
                if fault.status is not Status.OUT_OF_MEMORY or last_try:
                    return {**_told(fault), "seconds": time.monotonic() - start}
            except torch.OutOfMemoryError:  # of comparing: nobody's fault
                if last_try:
                    raise
            else:
                break
            self._make_room(keep=key, all_of_it=True)
        if not check.spoilt and opened.seal.broken:
            return {**_told(_stray_write()), "seconds": time.monotonic() - start}
        return {**_checked(check), "choices": list(choices), "chosen": list(names), "seconds": time.monotonic() - start}

    def _timing_inputs(self, opened: OpenProblem, key: str) -> dict[str, Any]:
        """Makes the inputs for timing, and learns what the device gives: the problem's part and the machine's."""
        try:
            if self._machine is None:
                self._machine = timing.survey(self._flush, device=self._device, conditions=self._conditions)
            if not opened.timing_cases:
                made = self._roomy(key, lambda: [opened.reference.inputs(seed) for seed in opened.timing_seeds])
                opened.timing_cases = [dataclasses.replace(opened.cases[0], inputs=t, expected=()) for t in made]
        except torch.OutOfMemoryError:
            return {"not_timed": _NO_MEMORY}
        return {"not_timed": None}

    def _on_candidate(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A step of timing the plan that passed last; its faults are answers."""
        reply = {"status": None, "failure": None, "not_timed": None, "dead": False}
        try:
            return {**reply, **work()}
        except torch.OutOfMemoryError:
            return {**reply, "not_timed": _NO_MEMORY}
        except CandidateFault as fault:
            if fault.status is Status.OUT_OF_MEMORY:
                return {**reply, "not_timed": _NO_MEMORY}
            return {**reply, **_told(fault)}

    def _prepare(self, opened: OpenProblem, body: dict[str, Any]) -> dict[str, Any]:
        """Makes the graphs on inputs of their own: what they leave in memory answers nothing that is checked."""
        assert self._runner is not None and self._machine is not None and opened.timing_cases
        runner, first, machine = self._runner, opened.cases[0], self._machine
        self._timed = None

        def made() -> tuple[timing.TimedCandidate, float]:
            timed = timing.TimedCandidate(runner, opened.timing_cases, kind=body["kind"], machine=machine)
            return timed, timed.kernel_share()

        timed, share = self._roomy(body["key"], made)
        if (failure := timing.too_little_in_kernels(share, body["min_kernel_share"])) is not None:
            return {"status": Status.REJECTED, "failure": _plain(failure)}
        self._timed = timed
        torch.cuda.empty_cache()  # what warming up left is the baselines' process's to use
        return {
            "kind": timed.kind,
            "num_sets": timed.num_sets,
            "uncapturable": timed.uncapturable,
            "floor_us": timing.floor_us(runner.plan, first, machine),
            "least_plausible_us": timing.least_plausible_us(first, machine),
            "conditions": {**machine.conditions, "input_sets": str(timed.num_sets), "kernel_share": f"{share:.3f}"},
        }

    def _measure(self, replays: int) -> dict[str, Any]:
        assert self._timed is not None
        return {"times_us": self._timed.measure_us(replays)}

    def _finish(self, opened: OpenProblem) -> dict[str, Any]:
        """Checks the answers of what was timed, and lets go of it."""
        assert self._timed is not None
        failure = self._timed.check(opened.cases[0])
        if opened.seal.broken:
            raise _stray_write()
        self._drop_runner()
        return {} if failure is None else {"status": Status.WRONG_VALUES, "failure": _plain(failure)}

    def _roomy(self, key: str, work: Callable[[], ResultT]) -> ResultT:
        """Runs `work`, once more with nothing else in memory if memory runs out."""
        try:
            return work()
        except torch.OutOfMemoryError:
            pass
        except CandidateFault as fault:
            if fault.status is not Status.OUT_OF_MEMORY:
                raise
        gc.collect()  # the error held what the failed attempt had made
        self._make_room(keep=key, all_of_it=True)
        return work()

    def _taken_by_others(self) -> str:
        """What other processes leave of the GPU, in words for a reason; nothing where they take little."""
        free, total = torch.cuda.mem_get_info(self._device)
        others = total - free - torch.cuda.memory_reserved(self._device) - self._vault.num_bytes
        return f", of which other processes hold {others >> 30} of {total >> 30} GiB" if others > total // 8 else ""

    def _make_room(self, *, keep: str, all_of_it: bool) -> None:
        """Forgets problems, the longest unused first, until what is kept is within bounds; or all but one."""
        for key in [k for k in self._problems if k != keep]:
            host = sum(problem.host_bytes for problem in self._problems.values())
            held = torch.cuda.memory_allocated(self._device) + self._vault.num_bytes
            if not all_of_it and held <= self._limit_bytes and host <= _HOST_BYTES:
                return
            del self._problems[key]
        if all_of_it:
            torch.cuda.empty_cache()

    def _drop_runner(self) -> None:
        self._timed = None  # its graphs launch the runner's kernels
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def _conditions(device: torch.device) -> dict[str, str]:
    told = {
        "gpu": torch.cuda.get_device_name(device),
        "gpu_uuid": environment.gpu_uuid(torch.cuda.get_device_properties(device).uuid),
        "driver": environment.gpu()["driver"],
        "torch": torch.__version__,
        "triton": metadata.version("triton"),
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _opened(key: str, opened: OpenProblem, calibration: Calibration) -> dict[str, Any]:
    return {
        "inadmissible": None,
        "key": key,
        "seeds": [case.seed for case in opened.cases],
        "timing_seeds": list(opened.timing_seeds),
        "kinds": [case.kind for case in opened.cases],
        "hidden": [name for case in opened.cases for name in case.hidden],
        "exact": all(case.exact for case in opened.cases),
        "eager_us": opened.eager_us,
        "calibration": dataclasses.asdict(calibration),
    }


def _num_timing_sets(case: Case) -> int:
    outputs = sum(math.prod(want.shape) * ITEM_BYTES[want.dtype] for want in case.expected)
    small = sum(t.nbytes for t in case.inputs) + outputs <= _SMALL_BYTES
    return _MANY_TIMING_SETS if small else _NUM_TIMING_SETS


def _eager_us(reference: Reference, case: Case) -> float:
    """The device time of one call of the eager reference, its second: the first one makes what libraries keep."""
    call = reference.baseline(dataclasses.replace(case, inputs=tuple(t.clone() for t in case.inputs)))  # it may write
    call()
    start, end = new_event(), new_event()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e3


def _stray_write() -> CandidateFault:
    message = "a kernel writes outside its tensor, far from it: into inputs or weights that it was not given"
    return CandidateFault(Status.ILLEGAL_ACCESS, "IllegalAccess", message, True)


def _plain(record: Any) -> dict[str, Any] | None:
    return None if record is None else dataclasses.asdict(record)


def _checked(check: Check) -> dict[str, Any]:
    return {**dataclasses.asdict(check), "dead": check.spoilt}


def _told(fault: CandidateFault) -> dict[str, Any]:
    return {"status": fault.status, "failure": _plain(fault.failure), "dead": fault.dead}


if __name__ == "__main__":
    serve(lambda give_up: ReplayWorker(on_late=give_up), load=warm_up.on_cpu)
