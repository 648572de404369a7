"""Judges candidates by replaying their plans on one GPU, in a process of its own that can be killed and replaced.

Decides who is to blame for what goes wrong there. Loads no torch itself and never touches the GPU.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from sandbox.baselines import BASELINE_COMMAND, Baselines, TimingTask
from sandbox.bounded import Recent
from sandbox.calibration import Calibration
from sandbox.clocks import Clocks
from sandbox.gpu_workers import GpuWorkers, Usage, visible_gpu
from sandbox.judge import MAX_VERDICTS, ProblemShortOfMemory, again, failed, hidden_weights, precheck, verdict_of
from sandbox.kernel_figures import kernel_figures
from sandbox.output_form import unfit
from sandbox.plan import ChoiceStep, Plan, decode, resolve
from sandbox.precision import plan_precision
from sandbox.seeds import new_secret
from sandbox.settings import JudgeSettings
from sandbox.time_on_gpu import Timed, TimeOnGpu
from sandbox.tracer import ProblemFailed, Traced
from sandbox.types import (
    Candidate,
    Correctness,
    Failure,
    Performance,
    Problem,
    Spend,
    Status,
    Verdict,
    failure_from_json,
)
from sandbox.worker_process import WorkerEnded, WorkerLate
from sandbox.zygote import SandboxError

_log = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")

WORKER_COMMAND = (sys.executable, "-m", "sandbox.replay_worker")
_COMPILE_SECONDS = 120.0  # for each baseline that is compiled; what takes longer is left out, and said
_OPEN_SECONDS = 600.0  # a large reference in float64, several seeds
_MANY_ELEMENTS = 1 << 28  # of inputs: in float64 and over several cases they want most of a GPU
_TIMING_SLACK = 4.0  # warming up, capturing and checking take their time too
_LEAST_SECONDS = 0.5  # a kernel's deadline; below it launching and lazy loading would count
_CHARGED = ("replay", "time")


@dataclasses.dataclass(frozen=True, slots=True)
class _Blame:
    """What counts against the candidate."""

    status: Status
    failure: Failure


def _blame(answer: Mapping[str, Any]) -> _Blame:
    failure = failure_from_json(answer["failure"])
    assert failure is not None
    return _Blame(Status(answer["status"]), failure)


class _Blamed(Exception):
    """Ends a candidate's judging where it is told deep inside."""

    def __init__(self, blame: _Blame) -> None:
        super().__init__(blame)
        self.blame = blame


def run_seconds(plan: Plan, settings: JudgeSettings, *, eager_us: float, num_cases: int) -> float:
    """What a plan's kernels may take in all while it is verified: each case runs once, one of them up to four times,
    and each alternative of an autotuned launch at least twice."""
    alternatives = sum(len(step.alternatives) for step in plan.steps if isinstance(step, ChoiceStep))
    slowest = settings.max_slowdown * eager_us * 1e-6 * (num_cases + 3 + 2 * alternatives)
    return min(max(slowest, _LEAST_SECONDS), settings.replay_seconds)


def _too_slow(seconds: float, max_slowdown: float | None) -> _Blame:
    message = f"the kernels did not finish within {seconds:.3g} s"
    if max_slowdown is not None:
        message += f"; they may take {max_slowdown:g} times PyTorch's own time, and {_LEAST_SECONDS:g} s at least"
    return _Blame(Status.TIMEOUT, Failure(error_class="Timeout", message=message))


class _Stages:
    """One candidate on its way to a verdict, and where the time went."""

    def __init__(self, traced: Traced, plan: Plan) -> None:
        self.traced = traced
        self.kernels = kernel_figures(plan)
        self.gpu: str | None = None  # until one was asked
        self._seconds: dict[str, float] = {}

    def timed(self, stage: str, work: Callable[[], ResultT]) -> ResultT:
        start = time.monotonic()
        try:
            return work()
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + time.monotonic() - start

    @property
    def _gpu_seconds(self) -> float:
        """What the candidate had the GPU for; making the problem's own answers is charged to nobody."""
        return sum(self._seconds.get(stage, 0.0) for stage in _CHARGED)

    def failed(self, blame: _Blame, *, labels: Sequence[str], correctness: Correctness | None = None) -> Verdict:
        return failed(
            self.traced, blame.status, blame.failure, labels=labels, correctness=correctness, kernels=self.kernels,
            stage_seconds=self._seconds, gpu_seconds=self._gpu_seconds, gpu=self.gpu,
        )  # fmt: skip

    def passed(self, *, labels: Sequence[str], correctness: Correctness, performance: Performance | None) -> Verdict:
        return Verdict(
            candidate_id=self.traced.candidate_id,
            status=Status.PASSED,
            correctness=correctness,
            performance=performance,
            plan_hash=self.traced.plan_hash,
            labels=(*self.traced.labels, *labels),
            kernels=self.kernels,
            stage_seconds={**self.traced.stage_seconds, **self._seconds},
            spend=Spend(judged=1, gpu_seconds=self._gpu_seconds),
            gpu=self.gpu,
        )


class GpuJudge:
    """One GPU's judge. `device` counts among the GPUs that this process may see."""

    def __init__(
        self,
        settings: JudgeSettings,
        *,
        device: int,
        command: Sequence[str] = WORKER_COMMAND,
        baseline_command: Sequence[str] = BASELINE_COMMAND,
        beside: GpuJudge | None = None,
        secret: str | None = None,
    ) -> None:
        """`beside` is another judge of the same GPU, whose processes are used and left open. `secret` is for who must
        judge on the same inputs again, as tests do; None draws a fresh one. A confirmation draws its own."""
        self.has_whole_gpu = True
        self._settings = settings
        self._device = device
        self._owns_processes = beside is None
        if beside is None:
            seconds = _COMPILE_SECONDS
            self._workers = GpuWorkers(command, device=device)
            self._baselines = Baselines(settings, device=device, compile_seconds=seconds, command=baseline_command)
        else:
            self._workers, self._baselines = beside._workers, beside._baselines
        self._timing = TimeOnGpu(settings, baselines=self._baselines, clocks=Clocks(visible_gpu(device)))
        self._secret = new_secret(settings.seed) if secret is None else secret
        self._verdicts: Recent[tuple[str, str], Verdict] = Recent(limit=MAX_VERDICTS)
        self._calibrations: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._last_opened: str | None = None

    @property
    def usage(self) -> Usage:
        """Where the time on the GPU went so far."""
        return self._workers.usage

    def judge(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        """The verdict. Raises SandboxError when the fault is ours, ProblemFailed when it is the problem's."""
        if traced.plan is None or traced.plan_hash is None:
            return verdict_of(traced)
        key = (problem.key, traced.plan_hash)
        known = self._verdicts.get(key)
        if known is None:
            known = self._judge(problem, traced, timed=self._settings.timing_rounds > 0)
            if self.has_whole_gpu or not known.is_short_of_memory:
                self._verdicts[key] = known
            return known
        return dataclasses.replace(again(known, traced), spend=Spend(judged=1))

    def verify(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        """As `judge`, but nothing is timed and nothing is remembered."""
        if traced.plan_hash is None or self._verdicts.get((problem.key, traced.plan_hash)) is not None:
            return self.judge(problem, candidate, traced)
        return self._judge(problem, traced, timed=False)

    def confirm(self, problem: Problem, candidate: Candidate, traced: Traced, *, settings: JudgeSettings) -> Verdict:
        """In a process that has seen neither problem nor candidate. It stays this judge's, which opens its problems
        there anew. The process of the baselines is kept: no candidate has touched it."""
        self._workers.replace()
        anew = GpuJudge(settings, device=self._device, beside=self)
        anew.has_whole_gpu = self.has_whole_gpu
        return anew.judge(problem, candidate, traced)

    def calibrate(self, problem: Problem, spec: Mapping[str, Any], *, precision: str) -> Calibration:
        """What null programs make of the problem. Raises ProblemFailed where its reference does not stand."""
        try:
            self._open(problem, spec, [], precision=precision)
        except ProblemFailed:
            known = self._calibrations.get((problem.key, precision))
            if known is None or known["admitted"]:
                raise
        told = self._calibrations[problem.key, precision]
        assert told is not None
        return Calibration.from_json(told)

    def _judge(self, problem: Problem, traced: Traced, *, timed: bool) -> Verdict:
        assert traced.plan is not None and traced.spec is not None
        self._baselines.has_whole_gpu = self.has_whole_gpu
        plan, raw, spec = decode(traced.plan), [traced.plan], traced.spec
        labels, refused = precheck(plan, self._settings)
        refused = unfit(plan, spec) or refused
        if refused is not None:
            return failed(traced, *refused, labels=labels, kernels=kernel_figures(plan))
        stages = _Stages(traced, plan)
        opened = stages.timed("reference", lambda: self._open(problem, spec, raw, precision=plan_precision(plan)))
        stages.gpu = self._workers.conditions.get("gpu_uuid")
        if (unseen := hidden_weights(opened["hidden"])) is not None:
            return stages.failed(_Blame(*unseen), labels=labels)
        allowed = run_seconds(plan, self._settings, eager_us=opened["eager_us"], num_cases=len(opened["seeds"]))
        request = {"do": "verify", "key": opened["key"], "run_seconds": allowed}
        verified = stages.timed("replay", lambda: self._ask(request, raw, seconds=self._settings.replay_seconds))
        if isinstance(verified, _Blame):
            return stages.failed(verified, labels=labels)
        if verified.get("inadmissible") is not None:
            raise ProblemFailed(f"{problem.origin}: {problem.id}: {verified['inadmissible']}")
        correctness = self._correctness(opened, verified)
        if verified["status"] is not None:
            return stages.failed(_blame(verified), labels=labels, correctness=correctness)
        assert correctness is not None
        settled = resolve(plan, tuple(verified["choices"]))
        stages.kernels = kernel_figures(settled)
        labels, refused = precheck(settled, self._settings, verified["writes"])
        labels = (*labels, f"weights_{correctness.weights}", *verified["labels"])
        if refused is not None:
            return stages.failed(_Blame(*refused), labels=labels, correctness=correctness)
        if not timed:  # asked for correctness only
            return stages.passed(labels=labels, correctness=correctness, performance=None)
        task = TimingTask(
            problem=problem, spec=spec, seed=opened["seeds"][0], timing_seeds=tuple(opened["timing_seeds"])
        )  # fmt: skip
        return self._time(task, opened["key"], stages, labels, correctness)

    def _time(
        self, task: TimingTask, key: str, stages: _Stages, labels: tuple[str, ...], correctness: Correctness
    ) -> Verdict:
        request = {"do": "timing_inputs", "key": key}
        made = stages.timed("baseline", lambda: self._ours(request, seconds=_OPEN_SECONDS))
        timed = Timed(performance=None, not_timed=made["not_timed"], short_of_memory=made["not_timed"] is not None)
        if timed.not_timed is None:
            with ExitStack() as leaving:
                stages.timed("quiet", lambda: leaving.enter_context(self._workers.quiet()))
                try:
                    timed = self._timing.time(task, key=key, ask=self._ask_timing, stage=stages.timed)
                except _Blamed as blamed:
                    return stages.failed(blamed.blame, labels=labels, correctness=correctness)
        if timed.not_timed is not None:
            _log.error("not_timed: candidate %s: %s", stages.traced.candidate_id, timed.not_timed)
            labels = (*labels, "not_timed", *(["short_of_memory"] if timed.short_of_memory else []))
        labels = (*labels, *timed.labels)
        return stages.passed(labels=labels, correctness=correctness, performance=timed.performance)

    def _ask_timing(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A step of timing the candidate. Raises _Blamed."""
        seconds = self._settings.replay_seconds + _TIMING_SLACK * self._settings.timing_seconds
        answer = self._ask(request, [], seconds=seconds)
        if isinstance(answer, _Blame):
            raise _Blamed(answer)
        if answer["status"] is not None:
            raise _Blamed(_blame(answer))
        return answer

    def _correctness(self, opened: Mapping[str, Any], answer: Mapping[str, Any]) -> Correctness | None:
        if "weights" not in answer:
            return None
        worst, worst_rms = (answer[name] for name in ("max_error_ratio", "rms_error_ratio"))
        told = {**self._workers.conditions, "kinds": ",".join(opened["kinds"]), "precision": opened["precision"]}
        told["reference"] = "float64" if opened["exact"] else "the declared dtype"
        if answer.get("chosen"):
            told["autotune"] = "; ".join(answer["chosen"])
        return Correctness(
            checked_by="replay",
            seeds=tuple(opened["seeds"]),
            weights=answer["weights"],
            max_error_ratio=worst if math.isfinite(worst) else None,
            rms_error_ratio=worst_rms if math.isfinite(worst_rms) else None,
            conditions=told,
        )

    def _open(
        self, problem: Problem, spec: Mapping[str, Any], plan: Sequence[bytes], *, precision: str
    ) -> dict[str, Any]:
        """Has the problem calibrated, once, and its cases made. Raises ProblemFailed where it cannot be judged."""
        request = {
            "do": "open",
            "problem": dataclasses.asdict(problem),
            "spec": spec,
            "secret": self._secret,
            "num_seeds": self._settings.num_seeds,
            "precision": precision,
            "calibration": self._calibrations.get((problem.key, precision)),
        }
        if problem.key != self._last_opened and _num_elements(spec) > _MANY_ELEMENTS:
            self._baselines.release()
        self._last_opened = problem.key
        answer = self._ours({**request, "alone": False}, plan, seconds=_OPEN_SECONDS)
        if answer.get("out_of_memory"):
            self._baselines.release()
            answer = self._ours({**request, "alone": self.has_whole_gpu}, plan, seconds=_OPEN_SECONDS)
            if answer.get("out_of_memory") and not self.has_whole_gpu:
                raise ProblemShortOfMemory(f"{problem.origin}: {problem.id}: {answer['inadmissible']}")
        self._calibrations[problem.key, precision] = answer["calibration"]
        if answer["inadmissible"] is not None:
            raise ProblemFailed(f"{problem.origin}: {problem.id}: {answer['inadmissible']}")
        return {**answer, "precision": precision}

    def _ours(self, request: Mapping[str, Any], blobs: Sequence[bytes] = (), *, seconds: float) -> dict[str, Any]:
        """A request that no candidate has a part in: whatever goes wrong is ours."""
        try:
            return self._workers.exchange(request, blobs, seconds=seconds)
        except (WorkerLate, WorkerEnded) as error:
            raise SandboxError(f"the GPU worker failed at {request['do']}: {error}") from error

    def _ask(self, request: Mapping[str, Any], blobs: Sequence[bytes], *, seconds: float) -> dict[str, Any] | _Blame:
        """A request about a candidate: a worker that hangs or crashes on it is the candidate's doing."""
        try:
            answer = self._workers.exchange(request, blobs, seconds=seconds)
        except WorkerLate:
            return _too_slow(seconds, None)
        except WorkerEnded as error:
            if error.killed_from_outside or error.signal is None:
                raise SandboxError(f"the GPU worker failed at {request['do']}: {error}") from error
            message = f"launching the kernels crashed the process that did it (signal {error.signal})"
            return _Blame(Status.LAUNCH_ERROR, Failure(error_class="ProcessEnded", message=message))
        return _too_slow(request["run_seconds"], self._settings.max_slowdown) if answer.get("late") else answer

    def close(self) -> None:
        if self._owns_processes:
            self._workers.close()
            self._baselines.close()


def _num_elements(spec: Mapping[str, Any]) -> int:
    """Of all tensors that the problem's inputs hold."""
    return sum(math.prod(shape) for _, shape, _ in spec.get("tensors", ()))
