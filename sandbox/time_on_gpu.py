"""Times one verified candidate against its problem's best baseline, each in its own process, one at a time.

Decides against what, for how long, and what the figure says of itself. Blame is whoever asks the candidate's process:
what that raises passes through. Loads no torch and never touches the GPU itself.
"""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sandbox.baselines import Baselines, Table, TimingTask
from sandbox.clocks import Clocks
from sandbox.rounds import Ended, Rounds, StopRule, interleave
from sandbox.settings import JudgeSettings
from sandbox.types import Performance
from sandbox.worker_process import WorkerEnded, WorkerLate
from sandbox.zygote import SandboxError

ResultT = TypeVar("ResultT")

_MAX_INCUMBENTS = 4096
# A best baseline that is further than that from its earlier time casts doubt on the others' too.
_MAX_DRIFT = 0.05
_LOWERED = {"tf32": "TF32", "fp16_accumulate": "reduced-precision accumulation"}


class AskCandidate(Protocol):
    """Sends a request to the candidate's process; raises what ends the candidate's judging."""

    def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]: ...


class Stage(Protocol):
    """Runs work and charges its time to a stage, "time" (the candidate's) or "baseline" (nobody's)."""

    def __call__(self, stage: str, work: Callable[[], ResultT]) -> ResultT: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A performance, or the reason why there is none though the candidate passed."""

    performance: Performance | None
    not_timed: str | None
    short_of_memory: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A candidate and its baselines, ready. `asked` is how the baselines were asked to be timed, `kind` how both sides
    are; `stream_reason` says why that is a stream."""

    task: TimingTask
    key: str
    ready: Mapping[str, Any]
    asked: str
    kind: str
    stream_reason: str | None
    table: Table


class _NotTimed(Exception):
    """This candidate cannot be timed; the message says why."""

    def __init__(self, message: str, *, short_of_memory: bool = False) -> None:
        super().__init__(message)
        self.short_of_memory = short_of_memory


class TimeOnGpu:
    """Times candidates on one GPU, one after the other, and knows the best of each problem so far."""

    def __init__(self, settings: JudgeSettings, *, baselines: Baselines, clocks: Clocks) -> None:
        self._settings, self._baselines, self._clocks = settings, baselines, clocks
        self._incumbents: OrderedDict[tuple[str, str], float] = OrderedDict()

    def time(self, task: TimingTask, *, key: str, ask: AskCandidate, stage: Stage) -> Timed:
        """Times the plan that the candidate's process verified last; `key` is that process's name for the problem.

        Raises SandboxError, and what `ask` raises.
        """
        try:
            performance = self._timed(task, key=key, ask=ask, stage=stage)
        except _NotTimed as reason:
            return Timed(performance=None, not_timed=str(reason), short_of_memory=reason.short_of_memory)
        raced = "raced_out" in performance.conditions
        if not raced:
            self._remember(task, performance)
        return Timed(performance=performance, not_timed=None, labels=("raced_out",) if raced else ())

    def _timed(self, task: TimingTask, *, key: str, ask: AskCandidate, stage: Stage) -> Performance:
        pair = self._paired(task, key=key, ask=ask, stage=stage)
        before = self._clocks.read_quickly()
        rounds = self._plausible_rounds(pair, ask=ask, stage=stage)
        after = self._clocks.read()
        _answered(stage("time", lambda: ask({"do": "finish", "key": key})))
        told = {**pair.ready["conditions"], **self._told(pair, rounds), **_clocks_told(before, after)}
        return self._performance(pair, rounds, told)

    def _paired(self, task: TimingTask, *, key: str, ask: AskCandidate, stage: Stage) -> _Pair:
        """Both sides made ready, in a graph if both can be captured. Raises _NotTimed."""
        ready = stage("time", lambda: self._prepared(ask, key, "graph"))
        asked, reason = ready["kind"], ready["uncapturable"]
        table = stage("baseline", lambda: self._baselines.table(task, kind=asked))
        self._baselines.check_gpu(ready["conditions"].get("gpu_uuid"))
        if table.short_of_memory and not self._baselines.has_whole_gpu:
            raise _NotTimed("some baseline finds no room beside an engine", short_of_memory=True)
        if not table.times:
            reasons = "; ".join(f"{name}: {why}" for name, why in table.left_out.items())
            raise _NotTimed(f"no baseline can be timed: {reasons}")
        kind = table.times[table.best].kind
        if kind != asked:
            ready = stage("time", lambda: self._prepared(ask, key, kind))
            reason = f"{table.best}: {table.notes.get(table.best, 'cannot be captured')}"
        return _Pair(task=task, key=key, ready=ready, asked=asked, kind=kind, stream_reason=reason, table=table)

    def _prepared(self, ask: AskCandidate, key: str, kind: str) -> dict[str, Any]:
        settings = self._settings
        share = settings.min_kernel_share if settings.policy == "triton" else None
        return _answered(ask({"do": "prepare", "key": key, "kind": kind, "min_kernel_share": share}))

    def _plausible_rounds(self, pair: _Pair, *, ask: AskCandidate, stage: Stage) -> Rounds:
        """Rounds whose times can be true; once more if they cannot. Raises _NotTimed, and SandboxError."""
        least_us = pair.ready["least_plausible_us"]
        for _ in range(2):
            rounds = self._rounds_of_both(pair, ask=ask, stage=stage)
            runtime_us = statistics.median(rounds.candidate_us)
            if runtime_us >= least_us:
                return rounds
        raise _NotTimed(f"implausible time: {runtime_us:.2f} us, where moving the bytes once takes {least_us:.2f} us")

    def _rounds_of_both(self, pair: _Pair, *, ask: AskCandidate, stage: Stage) -> Rounds:
        """A baseline process that is lost on the way is replaced once, and the rounds begin anew."""
        for last in (False, True):
            try:
                return stage("time", lambda: self._rounds(pair, ask=ask))
            except (WorkerLate, WorkerEnded) as error:
                if last:
                    raise SandboxError(f"the baseline worker failed twice at measure: {error}") from error
                again = stage("baseline", lambda: self._baselines.table(pair.task, kind=pair.asked))
                if again.best != pair.table.best:
                    raise SandboxError(f"the baseline {pair.table.best} cannot be had again") from error
        raise AssertionError("unreachable")

    def _rounds(self, pair: _Pair, *, ask: AskCandidate) -> Rounds:
        settings, against = self._settings, pair.table.best
        rule = StopRule(
            interval=settings.timing_interval,
            max_rounds=settings.timing_rounds,
            seconds=settings.timing_seconds,
            incumbent=self._incumbents.get((pair.task.problem.key, against)) if settings.racing else None,
            input_sets=pair.ready["num_sets"],
        )

        def candidate(replays: int) -> list[float]:
            answer = _answered(ask({"do": "measure", "key": pair.key, "replays": replays}))
            return [float(t) for t in answer["times_us"]]

        def baseline(replays: int) -> list[float]:
            return self._baselines.measure(pair.task, against, kind=pair.asked, replays=replays)

        return interleave(candidate, baseline, rule=rule, clock=time.monotonic)

    def _told(self, pair: _Pair, rounds: Rounds) -> dict[str, str]:
        table = pair.table
        told = {
            "precision": _precision_told(self._settings.precision),
            "timer": "cuda graph, event nodes" if pair.kind == "graph" else f"stream, events ({pair.stream_reason})",
            "replays_per_round": str(rounds.replays_per_round),
            "ended": rounds.ended.value,
            "processes": "candidate and baseline each in its own, in turn",
        }
        told |= {f"left_out.{name}": why for name, why in table.left_out.items()}
        other = {name: t.kind for name, t in table.times.items() if t.kind != pair.kind}
        told |= {f"timer.{n}": f"{kind} ({table.notes.get(n, 'as it was first timed')})" for n, kind in other.items()}
        return told

    def _performance(self, pair: _Pair, rounds: Rounds, told: dict[str, str]) -> Performance:
        table, against, live_us = pair.table, pair.table.best, statistics.median(rounds.baseline_us)
        scale = live_us / table.times[against].time_us
        baseline_us = {name: known.time_us * scale for name, known in table.times.items()} | {against: live_us}
        if others := [name for name in table.times if name != against]:
            told["baselines"] = f"{against} in the rounds; {', '.join(others)} {table.source}, times {scale:.3f}"
        if abs(scale - 1) > _MAX_DRIFT:
            told["baselines_drift"] = f"{against} takes {scale:.3f} of its earlier time"
            if table.kept:  # another process's times are not believed twice; our own would come out the same again
                self._baselines.forget(pair.task, kind=pair.asked)
        if rounds.ended is Ended.RACED_OUT:
            best = self._incumbents[pair.task.problem.key, against]
            told["raced_out"] = f"stopped early: below {best:.4g}, the best of this problem so far"
        ratio = rounds.ratio
        return Performance(
            runtime_us=statistics.median(rounds.candidate_us), baseline_us=baseline_us, against=against,
            speedup=ratio.median, speedup_low=ratio.low, speedup_high=ratio.high,
            repetitions=len(rounds.candidate_us), floor_us=pair.ready["floor_us"],
            samples_us={"candidate": rounds.candidate_us, against: rounds.baseline_us}, conditions=told,
        )  # fmt: skip

    def _remember(self, task: TimingTask, performance: Performance) -> None:
        """Keeps the best lower bound; what is to be beaten is what is sure of it."""
        key = (task.problem.key, performance.against)
        self._incumbents[key] = max(self._incumbents.get(key, 0.0), performance.speedup_low)
        self._incumbents.move_to_end(key)
        while len(self._incumbents) > _MAX_INCUMBENTS:
            self._incumbents.popitem(last=False)


def _answered(answer: dict[str, Any]) -> dict[str, Any]:
    """Raises _NotTimed, which is for want of memory."""
    if answer["not_timed"] is not None:
        raise _NotTimed(answer["not_timed"], short_of_memory=True)
    return answer


def _precision_told(precision: Sequence[str]) -> str:
    """The policy in words, for both sides."""
    lowered = [words for name, words in _LOWERED.items() if name in precision]
    return f"{' and '.join(lowered)} allowed" if lowered else "ieee: no TF32, no reduced-precision accumulation"


def _clocks_told(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Readings after the rounds, and those from before them that differ."""
    return {**after, **{f"{name}_before": value for name, value in before.items() if after.get(name) != value}}
