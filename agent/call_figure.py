"""Adds to a verdict what one real call of the module from Python takes, where a GPU is there to measure it.

Knows nothing of how the call is made: `sandbox/python_call.py` does that, in a sandboxed process with the GPU. What
that process says is the candidate's word and never decides anything; it is shown with its conditions.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sandbox.isolation import IsolationError
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Verdict
from sandbox.zygote import SandboxError

log = logging.getLogger(__name__)

CALL_SECONDS = 20.0  # at most, for calls that take seconds; batches of short ones take one in all


def with_python_call(
    verdict: Verdict, *, problem: Problem, candidate: Candidate, settings: JudgeSettings, device: int = 0
) -> Verdict:
    """The verdict with `python_call_us`, or as it was with the reason among the conditions of its performance.

    `device` counts among the GPUs that this process may see. A verdict that was not timed is left alone.
    """
    performance = verdict.performance
    if performance is None:
        return verdict
    told = {**performance.conditions}
    call_us: float | None = None
    from sandbox.python_call import PythonCallFailed, measure_call  # after what needs no GPU

    try:
        call = measure_call(
            problem, candidate.source, device=device, seconds=CALL_SECONDS, isolation=settings.isolation
        )
    except (SandboxError, IsolationError, PythonCallFailed) as error:
        log.warning("python_call_not_measured: candidate %s: %s", candidate.id, error)
        told["python_call"] = f"not measured: {' '.join(str(error).split())[:300]}"
    else:
        call_us = call.call_us
        told |= {f"python_call {name}": str(value) for name, value in call.conditions.items()}
        told["python_call"] = (
            f"{call.call_us:.2f} us, batches of {call.num_calls} calls {call.low_us:.2f} to {call.high_us:.2f}; "
            f"eager {call.eager_call_us:.2f} us; wall time, as told by the candidate's own process"
        )
    return replace(verdict, performance=replace(performance, python_call_us=call_us, conditions=told))
