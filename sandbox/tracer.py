"""Turns a candidate into a plan, or into the reason why there is none. The untrusted half of judging.

The plan that comes out of here holds kernels that a second child compiled from their text; what the candidate's own
process says that it compiled is thrown away.

Owns one warm sandbox and what it learned of each problem (its spec). Needs no GPU; any node with cores can do it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from sandbox import isolation, wire
from sandbox.bounded import Recent
from sandbox.clean_kernels import Refused, with_clean_kernels
from sandbox.findings import MAX_FINDINGS, find
from sandbox.kernel_store import KernelStore
from sandbox.plan import MAX_RANK, Plan, decode, encode, plan_hash
from sandbox.screen import screen
from sandbox.settings import JudgeSettings, Limits
from sandbox.size_literals import AssertedSize
from sandbox.types import Candidate, Failure, Finding, Problem, Status
from sandbox.unknown_names import NameTable
from sandbox.zygote import ChildOutcome, SandboxError, Zygote

_log = logging.getLogger(__name__)
# A cubin is some ten thousand bytes.
_STORE_MEMORY_BYTES, _STORE_DISK_BYTES = 64 << 20, 2 << 30
_MAX_SPECS = 1000  # some kilobytes each


class ProblemFailed(ValueError):
    """A problem's own code cannot be described. The user's to mend; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What tracing gave: a validated plan's bytes and the problem's spec, or a status and a failure. `findings` are for
    a verdict against the candidate."""

    candidate_id: str
    plan: bytes | None = None
    plan_hash: str | None = None
    spec: Mapping[str, Any] | None = None
    status: Status | None = None
    failure: Failure | None = None
    findings: tuple[Finding, ...] = ()
    labels: tuple[str, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0

    def __post_init__(self) -> None:
        if (self.plan is None) != (self.failure is not None) or (self.failure is None) != (self.status is None):
            raise ValueError("a trace is either a plan or a failure with a status")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """A plan that is fit to be judged, or why it is not, and the child that compiled for it, if one was needed."""

    plan: Plan | Refused
    compiling: ChildOutcome | None


class Tracer:
    """Traces candidates one at a time. Use as a context manager, or call `close`."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self._zygote: Zygote | None = None
        self._specs: Recent[str, dict[str, Any]] = Recent(limit=_MAX_SPECS)

    @cached_property
    def _store(self) -> KernelStore:
        kept = isolation.kept_folder(self._settings)
        folder = None if kept is None else kept / "kernels"
        return KernelStore(folder, memory_bytes=_STORE_MEMORY_BYTES, disk_bytes=_STORE_DISK_BYTES)

    def trace(self, problem: Problem, candidate: Candidate) -> Traced:
        """The plan of `candidate`. Raises SandboxError when the fault is ours, ProblemFailed when it is the
        problem's."""
        screened = screen(candidate.source)
        if screened is not None:
            return Traced(candidate_id=candidate.id, status=screened.status, failure=screened.failure)
        start = time.monotonic()
        spec = self.spec(problem)
        request = wire.pack({"source": candidate.source, "spec": spec, "capability": self._settings.capability})
        outcome = self._run("trace", request, self._settings.trace_limits)
        seconds = {"trace": time.monotonic() - start}
        status, failure, plan = _read(outcome)
        if plan is None:
            return Traced(
                candidate_id=candidate.id, status=status, failure=failure, stage_seconds=seconds,
                findings=find(candidate.source, table=self._names, sizes=_sizes(outcome)), **_total(outcome),
            )  # fmt: skip
        checked = self._check(plan, seconds)
        usage = _total(outcome, checked.compiling)
        if isinstance(checked.plan, Refused):
            refused = checked.plan
            return Traced(
                candidate_id=candidate.id, status=refused.status, failure=refused.failure, stage_seconds=seconds,
                findings=find(candidate.source, table=self._names), **usage,
            )  # fmt: skip
        return Traced(
            candidate_id=candidate.id, plan=encode(checked.plan), plan_hash=plan_hash(checked.plan), spec=spec,
            findings=find(candidate.source, table=self._names, plan=checked.plan, spec=spec),
            labels=checked.plan.labels, stage_seconds=seconds, **usage,
        )  # fmt: skip

    @cached_property
    def _names(self) -> NameTable:
        """What the modules of this machine's torch and triton have."""
        outcome = self._run("names", wire.pack({}), self._settings.trace_limits)
        if outcome.result is None:
            raise SandboxError(f"the names of installed modules cannot be listed: the process {_how_it_ended(outcome)}")
        table: NameTable = wire.unpack(outcome.result)[0]
        return table

    def _check(self, raw: bytes, seconds: dict[str, float]) -> _Checked:
        """The validated plan with its kernels compiled by us; notes in `seconds` what that took."""
        start = time.monotonic()
        compiling = None
        try:
            decoded = decode(raw)
            seconds["check"] = time.monotonic() - start
            start = time.monotonic()
            plan, compiling = with_clean_kernels(
                decoded, capability=self._settings.capability, store=self._store,
                compile_recipes=lambda request: self._run("compile", request, self._settings.trace_limits),
            )  # fmt: skip
            seconds["compile"] = time.monotonic() - start
        except (ValueError, RecursionError) as error:  # PlanError is a ValueError
            failure = Failure(error_class="PlanError", message=str(error))
            return _Checked(plan=Refused(status=Status.REJECTED, failure=failure), compiling=compiling)
        return _Checked(plan=plan, compiling=compiling)

    def spec(self, problem: Problem) -> dict[str, Any]:
        """The problem's inputs and weights as shapes, asked for once a problem."""
        spec = self._specs.get(problem.key)
        if spec is None:
            outcome = self._run("describe", wire.pack({"source": problem.source}), self._settings.trace_limits)
            if outcome.result is None:
                raise ProblemFailed(f"{problem.origin}: {problem.id} cannot be described ({_how_it_ended(outcome)})")
            try:
                spec, _ = wire.unpack(outcome.result)
            except wire.WireError as error:
                raise ProblemFailed(f"{problem.origin}: {problem.id} cannot be described: {error}") from error
            if "error" in spec:
                raise ProblemFailed(
                    f"{problem.origin}: {problem.id} cannot be described: {spec['error'].splitlines()[0]}"
                )
            self._specs[problem.key] = spec
        return spec

    def _run(self, entry: str, request: bytes, limits: Limits) -> ChildOutcome:
        if self._zygote is None:
            self._zygote = Zygote(("describe", "names", "trace", "compile"), isolation_level=self._settings.isolation)
        try:
            return self._zygote.run(entry, request, limits=limits)
        except BaseException:  # whatever it was, the warm process may be in the middle of a call
            self.close()  # the next call starts a fresh one
            raise

    def close(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _total(*outcomes: ChildOutcome | None) -> dict[str, Any]:
    """What children used together."""
    ran = [outcome for outcome in outcomes if outcome is not None]
    return {
        "cpu_seconds": sum(outcome.cpu_seconds for outcome in ran),
        "max_rss_bytes": max(outcome.max_rss_bytes for outcome in ran),
    }


def _read(outcome: ChildOutcome) -> tuple[Status | None, Failure | None, bytes | None]:
    """(status, failure, None) or (None, None, plan) from what a trace child left; its words are taken as data."""
    if outcome.result is None:
        return *_ended(outcome), None
    try:
        body, blobs = wire.unpack(outcome.result)
        if body["status"] is None:
            (plan,) = blobs
            return None, None, bytes(plan)
        status, raw = Status(body["status"]), body["failure"]
        if status in (Status.PASSED, Status.UNVERIFIED):
            raise ValueError("not a status that tracing gives")
        failure = Failure(
            error_class=_told(raw["error_class"], 200),
            message=_told(raw["message"], 2000),
            line_number=raw["line_number"] if type(raw["line_number"]) is int else None,
            source_line=None if raw["source_line"] is None else _told(raw["source_line"], 400),
        )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        message = f"the trace's result is not one: {str(error)[:200]}"
        return Status.REJECTED, Failure(error_class="ForgedResult", message=message), None
    return status, failure, None


def _sizes(outcome: ChildOutcome) -> list[AssertedSize]:
    """The sizes that a failed child says it saw where others were asserted. Data out of the sandbox: what is malformed
    is nothing."""
    try:
        body, _ = wire.unpack(outcome.result or b"")
        found = [(line, tuple(size), tuple(stride)) for line, size, stride in body["sizes"]]
    except (ValueError, LookupError, TypeError):
        return []
    numbers = [n for line, size, stride in found for n in (line, *size, *stride)]
    fit = len(found) <= MAX_FINDINGS and all(max(len(size), len(stride)) <= MAX_RANK for _, size, stride in found)
    return found if fit and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers) else []


def _told(raw: Any, max_chars: int) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"a {type(raw).__name__} in place of a text")
    return raw[:max_chars]


def _ended(outcome: ChildOutcome) -> tuple[Status, Failure]:
    """The status and failure of a child that left no result."""
    told = _how_it_ended(outcome)
    if outcome.out_of_memory:
        return Status.OUT_OF_MEMORY, Failure(error_class="OutOfMemory", message=f"the candidate's process {told}")
    if outcome.timed_out:
        return Status.TIMEOUT, Failure(error_class="Timeout", message=f"tracing the candidate {told}")
    return Status.TRACE_ERROR, Failure(error_class="ProcessEnded", message=f"the candidate's process {told}")


def _how_it_ended(outcome: ChildOutcome) -> str:
    if outcome.out_of_memory:
        return "took more memory than its limit, together with those it started"
    if outcome.timed_out:
        return f"did not end within its time limit ({outcome.wall_seconds:.0f} s)"
    if outcome.signal is not None:
        return f"was killed by signal {outcome.signal}"
    return f"exited with code {outcome.exit_code} and left no result"
