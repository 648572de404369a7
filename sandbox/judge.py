"""Reaches a verdict on a traced candidate: policy, then interpreting or replaying, comparing, and what the verdict
says.

Only this side makes verdicts. `open_judge` gives the judge that a machine can run: a GPU's, or the interpreting one of
this file, which times nothing.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from sandbox import wire
from sandbox.bounded import Recent
from sandbox.calibration import Calibration
from sandbox.feedback import render_feedback
from sandbox.interpreted import read_interpreted
from sandbox.kernel_figures import kernel_figures
from sandbox.output_form import unfit
from sandbox.plan import LaunchStep, Plan, decode
from sandbox.plan_check import Work, dataflow, first_choices, tensor_refs
from sandbox.precision import plan_precision, refused_precision
from sandbox.seeds import called_again, case_seeds, new_secret
from sandbox.settings import JudgeSettings
from sandbox.tracer import ProblemFailed, Traced, Tracer
from sandbox.types import Candidate, Correctness, Failure, Finding, KernelFigures, Problem, Spend, Status, Verdict
from sandbox.zygote import ChildOutcome, SandboxError, Zygote

__all__ = [
    "Calibrator",
    "Judge",
    "ProblemFailed",
    "ProblemShortOfMemory",
    "SandboxError",
    "Traced",
    "Tracer",
    "again",
    "failed",
    "open_judge",
    "precheck",
    "verdict_of",
]


MAX_VERDICTS = 10_000  # that a judge remembers: some kilobytes each
_OPEN_BYTES = 1 << 30  # what open problems may keep


class ProblemShortOfMemory(ProblemFailed):
    """The reference finds no room while part of the GPU's memory is somebody else's."""


class Judge(Protocol):
    """Judges traced candidates, one at a time. Equal plans on one problem are judged once.

    `has_whole_gpu`, which may be set before each call, is False while part of the GPU's memory is somebody else's for a
    time: what is short of memory then is told as such, and nothing that follows from it is remembered.
    """

    has_whole_gpu: bool

    def judge(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        """The verdict. Raises SandboxError when the fault is ours, ProblemFailed when it is the problem's."""
        ...

    def verify(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        """As `judge`, but nothing is timed: the GPU may be busy with something else. Not remembered."""
        ...

    def confirm(self, problem: Problem, candidate: Candidate, traced: Traced, *, settings: JudgeSettings) -> Verdict:
        """The verdict of another judge: fresh secret seeds, fresh processes, nothing known from before. Raises as
        `judge` does."""
        ...

    def close(self) -> None: ...


class Calibrator(Judge, Protocol):
    """A judge that also says what it would make of a problem, without a candidate."""

    def calibrate(self, problem: Problem, spec: Mapping[str, Any], *, precision: str) -> Calibration:
        """What null programs make of the problem. Raises ProblemFailed where its reference does not stand."""
        ...


def open_judge(settings: JudgeSettings, *, device: int | None) -> Calibrator:
    """The judge for a GPU, or without one (`device` None) the interpreting judge."""
    if device is None:
        return InterpretJudge(settings)
    from sandbox.gpu_judge import GpuJudge

    return GpuJudge(settings, device=device)


def verdict_of(traced: Traced) -> Verdict:
    """The verdict on a candidate that gave no plan."""
    if traced.status is None or traced.failure is None:
        raise ValueError("a traced plan needs a judge")
    return failed(traced, traced.status, traced.failure)


def failed(
    traced: Traced,
    status: Status,
    failure: Failure,
    *,
    labels: Sequence[str] = (),
    correctness: Correctness | None = None,
    kernels: tuple[KernelFigures, ...] = (),
    stage_seconds: Mapping[str, float] | None = None,
    gpu_seconds: float = 0.0,
    gpu: str | None = None,
) -> Verdict:
    """A verdict against the candidate, with the feedback that the model will read."""
    findings = _blamed(traced, status)
    return Verdict(
        candidate_id=traced.candidate_id,
        status=status,
        failure=failure,
        feedback=render_feedback(status, failure, findings),
        correctness=correctness,
        plan_hash=traced.plan_hash,
        labels=(*traced.labels, *labels),
        kernels=kernels,
        findings=findings,
        stage_seconds={**traced.stage_seconds, **(stage_seconds or {})},
        spend=Spend(judged=1, gpu_seconds=gpu_seconds),
        gpu=gpu,
    )


def again(known: Verdict, traced: Traced) -> Verdict:
    """What was said of an equal plan, said of this candidate, whose text is another."""
    findings = _blamed(traced, known.status)
    told = known.feedback if known.failure is None else render_feedback(known.status, known.failure, findings)
    return dataclasses.replace(
        known, candidate_id=traced.candidate_id, feedback=told, findings=findings,
        stage_seconds=dict(traced.stage_seconds),
    )  # fmt: skip


def _blamed(traced: Traced, status: Status) -> tuple[Finding, ...]:
    """The findings that a verdict carries: none where there is nothing for the program to mend."""
    return () if status in (Status.PASSED, Status.UNVERIFIED) else traced.findings


def precheck(
    plan: Plan, settings: JudgeSettings, writes: Sequence[Collection[int]] | None = None
) -> tuple[tuple[str, ...], tuple[Status, Failure] | None]:
    """The labels that the plan's dataflow and its kernels' dots give, and the status and failure if the run's policy
    or its precisions do not let it win.

    `writes` are the buffers that each launch was seen to write, once it has run.
    """
    flow = dataflow(plan, writes)
    precision = f"precision_{plan_precision(plan)}"
    if all(plan.values[i].num_elements == 0 for i in tensor_refs(plan.outputs)):
        return ("empty", precision), None  # nothing to compute, so nothing to ask of a kernel
    labels: tuple[str, ...] = (flow.work.value, precision)
    if flow.dead_launches:
        labels = (*labels, "dead_launches")
    operators = ", ".join(dict.fromkeys(flow.live_ops))
    messages = {
        Work.TORCH: f"the answer is computed by torch operators ({operators}), not by a Triton kernel",
        Work.DEAD: "a Triton kernel is launched, but no output depends on it",
        Work.NONE: "nothing is computed: the output is an input or a constant",
    }
    if settings.policy != "any" and flow.work in messages:
        return labels, (Status.REJECTED, Failure(error_class="Policy", message=messages[flow.work][:400]))
    if (reason := refused_precision(plan, settings.precision)) is not None:
        return labels, (Status.REJECTED, Failure(error_class="Precision", message=reason))
    return labels, None


def hidden_weights(names: Iterable[str]) -> tuple[Status, Failure] | None:
    """Refuses to pass a candidate that may ignore a weight unseen: one that construction makes constant (a bias of
    zeros) and that the candidate does not take by name, so that it cannot be given other values."""
    found = sorted(set(names))
    if not found:
        return None
    message = f"whether {', '.join(found[:6])} is applied cannot be seen: register it under the reference's name"
    return Status.UNVERIFIED, Failure(error_class="HiddenWeights", message=message)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A problem ready to be judged on. `next_call` comes after the case that is called again, on inputs `others`."""

    reference: Any
    cases: Sequence[Any]
    next_call: Any
    others: Sequence[Any]

    def following(self) -> Any:
        """That call with what it must answer. Raises ProblemFailed where the reference fails in it."""
        from sandbox.reference import InadmissibleProblem

        try:
            return self.next_call.answered()
        except InadmissibleProblem as error:
            problem = self.reference.problem
            raise ProblemFailed(f"{problem.origin}: {problem.id}: a second call of the reference: {error}") from error


class InterpretJudge:
    """Judges without a GPU: a sandboxed child interprets the plan on small secret inputs. Never times."""

    def __init__(self, settings: JudgeSettings, *, secret: str | None = None) -> None:
        """`secret` is for who must judge on the same inputs again, as tests do; None draws a fresh one. It is not
        handed on: a confirmation draws its own."""
        self.has_whole_gpu = True  # and asks for none of it
        self._settings = settings
        self._zygote: Zygote | None = None
        self._secret = new_secret(settings.seed) if secret is None else secret
        self._problems: dict[tuple[str, frozenset[str], str], _Opened] = {}
        self._calibrations: dict[tuple[str, str], Calibration] = {}
        self._verdicts: Recent[tuple[str, str], Verdict] = Recent(limit=MAX_VERDICTS)

    def judge(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        if traced.plan is None or traced.plan_hash is None:
            return verdict_of(traced)
        known = self._verdicts.get((problem.key, traced.plan_hash))
        if known is None:
            verdict = self._judge(problem, traced)
            known = dataclasses.replace(verdict, kernels=kernel_figures(decode(traced.plan)))
            self._verdicts[problem.key, traced.plan_hash] = known
            return known
        return again(known, traced)

    def verify(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        return self.judge(problem, candidate, traced)

    def confirm(self, problem: Problem, candidate: Candidate, traced: Traced, *, settings: JudgeSettings) -> Verdict:
        """Shares the warm process alone, which forks a fresh child for each plan."""
        other = InterpretJudge(settings)
        other._zygote, self._zygote = self._zygote, None
        try:
            return other.judge(problem, candidate, traced)
        finally:
            self._zygote, other._zygote = other._zygote, None
            other.close()

    def _judge(self, problem: Problem, traced: Traced) -> Verdict:
        assert traced.plan is not None and traced.spec is not None
        from sandbox.execute import weights_by_name  # torch comes with it, so not before it is needed

        plan = decode(traced.plan)
        labels, refused = precheck(plan, self._settings)
        refused = unfit(plan, traced.spec) or refused
        if refused is None and (reason := too_large(plan, self._settings)) is not None:
            refused = (Status.UNVERIFIED, Failure(error_class="TooLarge", message=reason))
        if refused is not None:
            return failed(traced, *refused, labels=labels)
        seconds: dict[str, float] = {}
        start = time.monotonic()
        vary = weights_by_name(plan, traced.spec["weights"])
        opened = self._opened(problem, traced.spec, vary=vary, precision=plan_precision(plan))
        if (unseen := hidden_weights(name for case in opened.cases for name in case.hidden)) is not None:
            return failed(traced, *unseen, labels=labels)
        seconds["reference"] = time.monotonic() - start
        start = time.monotonic()
        outcome = self._run(interpret_request(traced.plan, opened.cases, others=opened.others))
        seconds["interpret"] = time.monotonic() - start
        return self._verdict(traced, plan, outcome, opened, seconds=seconds)

    def _verdict(
        self, traced: Traced, plan: Plan, outcome: ChildOutcome, opened: _Opened, *, seconds: dict[str, float]
    ) -> Verdict:
        start = time.monotonic()
        status, failure, correctness, writes = read_interpreted(outcome, opened.cases, plan, following=opened.following)
        seconds["compare"] = time.monotonic() - start
        labels, refused = precheck(plan, self._settings, writes)
        if status is None and refused is not None:
            status, failure = refused
        if status is not None and failure is not None:
            return failed(traced, status, failure, labels=labels, correctness=correctness, stage_seconds=seconds)
        assert correctness is not None
        return Verdict(
            candidate_id=traced.candidate_id,
            status=Status.PASSED,
            correctness=correctness,
            plan_hash=traced.plan_hash,
            labels=(*traced.labels, *labels, f"weights_{correctness.weights}"),
            stage_seconds={**traced.stage_seconds, **seconds},
            spend=Spend(judged=1),
        )

    def calibrate(self, problem: Problem, spec: Mapping[str, Any], *, precision: str) -> Calibration:
        every = frozenset(name for name, _, _ in spec["weights"])
        try:
            self._opened(problem, spec, vary=every, precision=precision)
        except ProblemFailed:
            known = self._calibrations.get((problem.key, precision))
            if known is None or known.admitted:
                raise
        return self._calibrations[problem.key, precision]

    def _opened(self, problem: Problem, spec: Mapping[str, Any], *, vary: frozenset[str], precision: str) -> _Opened:
        """The problem's cases, made once. Torch is imported here, and only for its CPU."""
        import torch

        from sandbox.calibrate import MAX_ADDED, admit, calibrate
        from sandbox.next_call import NextCall
        from sandbox.reference import InadmissibleProblem, Reference

        key, problem_key = (problem.key, vary, precision), (problem.key, precision)
        if key not in self._problems:
            torch.set_num_threads(1)  # the other core traces
            try:
                reference = Reference(problem, spec=spec, device=torch.device("cpu"))
                seeds = case_seeds(problem, secret=self._secret, count=self._settings.num_seeds + MAX_ADDED)
                known, cases = self._calibrations.get(problem_key), None
                if known is None:
                    known, cases = calibrate(
                        reference, seeds=seeds, num_cases=self._settings.num_seeds, precision=precision
                    )
                    self._calibrations[problem_key] = known
                cases = admit(reference, known, made=cases, seeds=seeds, vary=vary, precision=precision)
                call = NextCall(reference, cases[called_again(len(cases))])
                opened = _Opened(reference=reference, cases=cases, next_call=call, others=call.inputs())
                self._problems[key] = opened
            except InadmissibleProblem as error:
                raise ProblemFailed(f"{problem.origin}: {problem.id}: {error}") from error
            while len(self._problems) > 1 and sum(map(_num_bytes, self._problems.values())) > _OPEN_BYTES:
                del self._problems[next(iter(self._problems))]  # the oldest; it is opened again if it comes back
        return self._problems[key]

    def _run(self, request: bytes) -> ChildOutcome:
        if self._zygote is None:
            self._zygote = Zygote(("interpret",), isolation_level=self._settings.isolation)
        try:
            return self._zygote.run("interpret", request, limits=self._settings.interpret_limits)
        except BaseException:  # whatever it was, the warm process may be in the middle of a call
            self.close()
            raise

    def close(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()


def _num_bytes(opened: _Opened) -> int:
    """What is kept of a problem: inputs, weights, answers and the reference's modules."""
    cases = opened.cases
    given = [t for case in cases for t in (*case.inputs, *case.weights.values())]
    tensors = sum(int(t.nbytes) for t in (*given, *opened.others))
    answers = sum(int(expected.kept_bytes) for case in cases for expected in case.expected)
    return tensors + answers + int(opened.reference.kept_bytes)


def too_large(plan: Plan, settings: JudgeSettings) -> str | None:
    """Why this plan cannot be interpreted in reasonable time, or None."""
    num_bytes = sum(s.num_bytes for s in plan.storages)
    programs = sum(math.prod(s.grid) for s in first_choices(plan) if isinstance(s, LaunchStep))
    if num_bytes > settings.interpret_max_bytes:
        limit = settings.interpret_max_bytes
        return f"too large to check without a GPU: {num_bytes} bytes of tensors, the limit is {limit}"
    if programs > settings.interpret_max_programs:
        limit = settings.interpret_max_programs
        return f"too large to check without a GPU: {programs} kernel programs, the limit is {limit}"
    return None


def interpret_request(plan: bytes, cases: Sequence[Any], *, others: Sequence[Any]) -> bytes:
    """The message that asks for a plan to be interpreted on the inputs and weights of `cases`, and on `others` after
    the one of them that is called again."""
    from sandbox.compare import POISON
    from sandbox.interpret import pack_tensor

    blobs, heads = [plan], []
    for position, case in enumerate(cases):
        inputs = [pack_tensor(t) for t in case.inputs]
        weights = {name: pack_tensor(t) for name, t in case.weights.items()}
        more = [pack_tensor(t) for t in others] if position == called_again(len(cases)) else []
        blobs += [raw for _, raw in (*inputs, *weights.values(), *more)]
        heads.append(
            {
                "seed": case.seed,
                "poison": POISON[position % len(POISON)],
                "stateful": case.stateful,
                "inputs": [head for head, _ in inputs],
                "weights": {name: head for name, (head, _) in weights.items()},
                "others": [head for head, _ in more],
            }
        )
    return wire.pack({"cases": heads}, blobs)
