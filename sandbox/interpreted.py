"""Reads what an interpret child left, and compares it with what was expected.

The child ran a candidate's kernels, so its message is hostile: whatever is not exactly what `interpret.py` sends counts
against the candidate. Torch is imported only when there is something to compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sandbox import environment, wire
from sandbox.alternatives import alternative_names
from sandbox.plan import LaunchStep, Plan
from sandbox.plan_check import first_choices
from sandbox.tracer import ProblemFailed
from sandbox.types import Correctness, Failure, Status
from sandbox.zygote import ChildOutcome


def read_interpreted(
    outcome: ChildOutcome, cases: Sequence[Any], plan: Plan, *, following: Callable[[], Any]
) -> tuple[Status | None, Failure | None, Correctness | None, list[list[int]] | None]:
    """Compares what an interpret child left with what was expected; anything malformed counts against the candidate.

    `following` gives what a call on other inputs must answer, after the case that was sent with some. The last item is
    the buffers that each launch wrote, or None where the child did not get so far. Raises ProblemFailed where
    `following` does.
    """
    if outcome.result is None:
        return *_interpret_ended(outcome), None, None
    try:
        body, blobs = wire.unpack(outcome.result)
        return _compared(body, iter(blobs), cases, plan, following=following)
    except ProblemFailed:
        raise
    except (
        ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, StopIteration
    ) as error:  # fmt: skip
        message = f"the interpreter's result is not one: {str(error)[:200]}"
        return Status.REJECTED, Failure(error_class="ForgedResult", message=message), None, None


def _compared(
    body: Mapping[str, Any],
    blobs: Iterator[memoryview],
    cases: Sequence[Any],
    plan: Plan,
    *,
    following: Callable[[], Any],
) -> tuple[Status | None, Failure | None, Correctness | None, list[list[int]] | None]:
    from sandbox.compare import compare, in_next_call
    from sandbox.interpret import unpack_tensor

    worst, worst_rms = 0.0, 0.0
    for position, (case, answer) in enumerate(zip(cases, body["cases"], strict=False)):
        names = alternative_names(plan, position)
        if answer["status"] is not None:
            status, failure = _told_failure(answer)
            return status, _under(names, failure), None, None
        calls = [[unpack_tensor(head, next(blobs)) for head in heads] for heads in answer["outputs"]]
        comparison = compare(calls[0], case.expected)
        for outputs in calls[1:]:
            if comparison.failure is None:
                comparison = in_next_call(compare(outputs, case.expected), same_inputs=True)
        if answer["followed"]:
            outputs = [unpack_tensor(head, next(blobs)) for head in answer["followed"]]
            if comparison.failure is None:
                comparison = in_next_call(compare(outputs, following().expected), same_inputs=False)
        worst, worst_rms = max(worst, comparison.max_error_ratio), max(worst_rms, comparison.rms_error_ratio)
        if comparison.failure is not None:
            correctness = _correctness(cases, str(answer["weights"]), worst, worst_rms)
            lanes = _index(answer["stray_reads"], 1 << 62, "stray_reads")
            if lanes > 0:  # what explains wrong values is told in their stead
                message = f"kernel reads outside its tensors: {lanes} lanes are out of bounds, and the result is wrong"
                stray = Failure(error_class="IllegalAccess", message=message)
                return Status.ILLEGAL_ACCESS, stray, correctness, None
            return comparison.status, _under(names, comparison.failure), correctness, None
    if len(body["cases"]) != len(cases):
        raise ValueError("fewer cases than were asked for")
    first = body["cases"][0]
    return None, None, _correctness(cases, str(first["weights"]), worst, worst_rms), _writes(first["writes"], plan)


def _under(names: str, failure: Failure) -> Failure:
    """The same failure, which says under which configurations it came about."""
    if not names:
        return failure
    mismatch = failure.mismatch and replace(failure.mismatch, output=f"{failure.mismatch.output} under {names[:45]}")
    return replace(failure, message=f"{failure.message} under {names[:200]}"[:2200], mismatch=mismatch)


# How the interpret child may say that a plan failed; what passes is decided on this side.
_FAILED = frozenset(
    (
        Status.ILLEGAL_ACCESS,
        Status.UNVERIFIED,
        Status.REJECTED,
        Status.TRACE_ERROR,
        Status.OUT_OF_MEMORY,
        Status.WRONG_VALUES,
    )
)


def _told_failure(answer: Mapping[str, Any]) -> tuple[Status, Failure]:
    status, error_class, message = Status(answer["status"]), answer["error_class"], answer["message"]
    if status not in _FAILED or not isinstance(error_class, str) or not isinstance(message, str):
        raise ValueError(f"{status} is not how interpreting fails, or its words are none")
    return status, Failure(error_class=error_class[:200], message=message[:2000])


def _writes(raw: Any, plan: Plan) -> list[list[int]]:
    """The buffers that each launch wrote. Raises ValueError unless there is one list a launch."""
    num_launches = sum(isinstance(step, LaunchStep) for step in first_choices(plan))
    if not isinstance(raw, list) or len(raw) != num_launches or not all(isinstance(launch, list) for launch in raw):
        raise ValueError(f"not one list of writes for each of {num_launches} launches")
    return [[_index(storage, len(plan.storages), "a buffer") for storage in launch] for launch in raw]


def _index(raw: Any, limit: int, what: str) -> int:
    if type(raw) is not int or not 0 <= raw < limit:
        raise ValueError(f"{what} is {raw!r:.40}")
    return raw


def _interpret_ended(outcome: ChildOutcome) -> tuple[Status, Failure]:
    if outcome.out_of_memory:
        message = "interpreting the plan took more memory than the limit"
        return Status.OUT_OF_MEMORY, Failure(error_class="OutOfMemory", message=message)
    if outcome.timed_out:
        message = f"too slow to check without a GPU: interpreting took longer than {outcome.wall_seconds:.0f} s"
        return Status.UNVERIFIED, Failure(error_class="TooLarge", message=message)
    if outcome.signal == 11:
        return Status.ILLEGAL_ACCESS, Failure(
            error_class="IllegalAccess", message="a kernel accesses memory outside its tensors"
        )
    message = f"interpreting the plan ended without a result (signal {outcome.signal}, exit code {outcome.exit_code})"
    return Status.LAUNCH_ERROR, Failure(error_class="ProcessEnded", message=message)


def _correctness(cases: Sequence[Any], weights: str, worst: float, worst_rms: float) -> Correctness:
    finite = math.isfinite(worst) and math.isfinite(worst_rms)
    return Correctness(
        checked_by="interpret",
        seeds=tuple(case.seed for case in cases),
        weights=weights if weights in ("by_name", "by_seed", "mixed", "none") else "none",
        max_error_ratio=worst if finite else None,
        rms_error_ratio=worst_rms if finite else None,
        conditions={
            "device": "cpu",
            "kinds": ",".join(case.kind for case in cases),
            "precision": cases[0].precision,
            "torch": str(environment.version("torch")),
            "triton": str(environment.version("triton")),
        },
    )
