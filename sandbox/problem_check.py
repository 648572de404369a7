"""Checks problems before anybody spends samples on them: each is described, calibrated, and admitted or not.

Needs no candidate and no model. Describing runs in threads ahead of the one judge.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sandbox.calibration import Calibration
from sandbox.interruptible import Interrupted, Interruptible
from sandbox.judge import Calibrator, ProblemFailed, SandboxError, Tracer
from sandbox.plan import ITEM_BYTES
from sandbox.settings import JudgeSettings
from sandbox.types import Problem

_INTERRUPT_SECONDS = 5.0  # then a describing thread is waited for without interrupting it again


class Admission(StrEnum):
    """How checking a problem ended."""

    ADMITTED = "admitted"
    INADMISSIBLE = "inadmissible"
    UNCHECKED = "unchecked"  # too large for a machine without a GPU
    OUR_FAULT = "our_fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemCheck:
    """What came of one problem. `calibration` is None where it did not come to that; `seconds` is the judge's time."""

    problem_id: str
    admission: Admission
    reason: str | None
    calibration: Calibration | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data: one line of a report."""
        return dataclasses.asdict(self)


def check_problems(
    problems: Sequence[Problem], *, judge: Calibrator, settings: JudgeSettings, num_threads: int, precision: str
) -> Iterator[ProblemCheck]:
    """One check a problem, as they come. Closing the iterator early leaves the rest unchecked."""
    todo: queue.Queue[Problem] = queue.Queue()
    described: queue.Queue[tuple[Problem, Mapping[str, Any] | ProblemFailed | SandboxError]] = queue.Queue()
    for problem in problems:
        todo.put(problem)
    describing = [Interruptible() for _ in range(min(num_threads, len(problems)))]
    threads = [
        threading.Thread(target=_describe_all, args=(todo, described, settings, running), daemon=True)
        for running in describing
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in problems:
            problem, spec = described.get()
            yield check_problem(problem, spec, judge=judge, settings=settings, precision=precision)
    finally:
        for running in describing:
            running.end()
        for running, thread in zip(describing, threads, strict=True):
            running.join(seconds=_INTERRUPT_SECONDS)
            thread.join()


def check_problem(
    problem: Problem,
    spec: Mapping[str, Any] | ProblemFailed | SandboxError,
    *,
    judge: Calibrator,
    settings: JudgeSettings,
    precision: str,
) -> ProblemCheck:
    """Calibrates one problem, whose spec is known or could not be had."""
    start = time.monotonic()

    def checked(admission: Admission, reason: str | None, calibration: Calibration | None = None) -> ProblemCheck:
        return ProblemCheck(
            problem_id=problem.id, admission=admission, reason=reason, calibration=calibration,
            seconds=round(time.monotonic() - start, 3),
        )  # fmt: skip

    try:
        if isinstance(spec, ProblemFailed | SandboxError):
            raise spec
        if settings.mode == "interpret" and (size := _num_bytes(spec)) > settings.interpret_max_bytes:
            limit = settings.interpret_max_bytes
            return checked(Admission.UNCHECKED, f"needs a GPU: {size} bytes of tensors, the limit is {limit}")
        calibration = judge.calibrate(problem, spec, precision=precision)
    except ProblemFailed as error:
        return checked(Admission.INADMISSIBLE, str(error).removeprefix(f"{problem.origin}: "))
    except SandboxError as error:
        return checked(Admission.OUR_FAULT, str(error))
    if not calibration.admitted:
        return checked(Admission.INADMISSIBLE, calibration.reason, calibration)
    return checked(Admission.ADMITTED, None, calibration)


def _describe_all(todo: Any, described: Any, settings: JudgeSettings, running: Interruptible) -> None:
    """Describes problems until none is left, or until it is ended."""
    with contextlib.suppress(Interrupted):
        running.call(lambda: _describe_each(todo, described, settings))


def _describe_each(todo: Any, described: Any, settings: JudgeSettings) -> None:
    with Tracer(settings) as tracer:
        while True:
            try:
                problem = todo.get_nowait()
            except queue.Empty:
                return
            try:
                described.put((problem, tracer.spec(problem)))
            except (ProblemFailed, SandboxError) as error:
                described.put((problem, error))
            except BaseException as error:  # whoever waits must hear of it
                described.put((problem, SandboxError(f"describing ended with {type(error).__name__}: {error}")))
                raise


def _num_bytes(spec: Mapping[str, Any]) -> int:
    """What inputs, weights and outputs take."""
    kinds = [(dtype, shape) for dtype, shape, _ in spec["tensors"]]
    kinds += [(dtype, shape) for _, dtype, shape in (*spec["weights"], *(spec["outputs"] or ()))]
    return sum(ITEM_BYTES.get(dtype, 8) * math.prod(shape) for dtype, shape in kinds)
