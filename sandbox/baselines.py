"""Keeps the process that times PyTorch, and knows for each problem how long each baseline takes.

Decides which baselines can be used and says why others are left out; a baseline process that dies is our fault. Loads
no torch and never touches the GPU itself.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import statistics
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sandbox import isolation
from sandbox.baseline_cache import BaselineCache, BaselineTime, cache_key, private_folder
from sandbox.environment import num_cores
from sandbox.gpu_workers import worker_environment
from sandbox.settings import JudgeSettings
from sandbox.spread import MIN_VALUES, spread
from sandbox.types import Problem, content_hash
from sandbox.worker_process import WorkerEnded, WorkerLate, WorkerProcess
from sandbox.zygote import SandboxError

_log = logging.getLogger(__name__)

BASELINE_COMMAND = (sys.executable, "-m", "sandbox.baseline_worker")
_START_SECONDS = 180.0  # importing torch from a cold disk and opening a context
_OPEN_SECONDS = 600.0  # very large modules are drawn on the CPU
_MEASURE_SECONDS = 300.0
_REPLAYS = 5
_INTERVAL = 0.01  # of each baseline's own time, when they are compared with each other
_WARM_UP_SECONDS = 0.03  # an idle GPU takes some milliseconds to raise its clock
_LONG_US = 10_000.0  # runs as long as that warm up by themselves
_MAX_ROUNDS = 40
_ROUNDS_SECONDS = 3.0
_MAX_TABLES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingTask:
    """One problem as both processes build it: the same seeds give the same weights and the same timing inputs."""

    problem: Problem
    spec: Mapping[str, Any]
    seed: int
    timing_seeds: tuple[int, ...]

    @property
    def key(self) -> str:
        return content_hash(self.problem.key, str(self.seed), *map(str, self.timing_seeds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is known of a problem's baselines. `left_out` has the reason for each that cannot be used; `notes` say why
    some could not be captured; `kept` says that the times are from an earlier process, `elsewhere` which GPU of the
    same model that had, if it was another."""

    times: Mapping[str, BaselineTime]
    left_out: Mapping[str, str]
    notes: Mapping[str, str]
    kept: bool
    elsewhere: str | None = None
    short_of_memory: bool = False  # of those left out

    @property
    def source(self) -> str:
        """When and where they were measured, in words."""
        if not self.kept:
            return "once for this problem"
        return "by an earlier process" + ("" if self.elsewhere is None else f" on another GPU, {self.elsewhere}")

    @property
    def best(self) -> str:
        """The fastest baseline; ValueError where there is none."""
        return min(self.times, key=lambda name: self.times[name].time_us)


class Baselines:
    """One GPU's baselines. The process starts when a table is first asked for."""

    def __init__(self, settings: JudgeSettings, *, device: int, compile_seconds: float, command: Sequence[str]) -> None:
        """A baseline that is not compiled within `compile_seconds` is left out."""
        self._settings, self._device, self._command = settings, device, tuple(command)
        self._compile_seconds = compile_seconds
        self.has_whole_gpu = True  # see `judge.Judge`
        self._worker: WorkerProcess | None = None
        self._conditions: dict[str, str] = {}
        self._gpu_uuid: str | None = None  # as the process tells it; no part of what times are kept under
        self._tables: OrderedDict[tuple[str, str], Table] = OrderedDict()

    @cached_property
    def _kept_folder(self) -> Path | None:
        return isolation.kept_folder(self._settings)

    @cached_property
    def _cache(self) -> BaselineCache | None:
        return None if self._kept_folder is None else BaselineCache(self._kept_folder / "baselines")

    def table(self, task: TimingTask, *, kind: str) -> Table:
        """The problem's baselines, with the best of them ready to be measured. Where memory is short that another time
        may be there, the table is not remembered. Raises SandboxError."""
        self._opened(task)
        known = self._tables.get((task.problem.key, kind)) or self._kept(task, kind)
        if known is not None and self._best_ready(task, known, kind):
            return self._remember(task, kind, known)
        measured = self._measured(task, kind)
        if measured.short_of_memory and not self.has_whole_gpu:
            return measured
        if self._cache is not None and measured.times:
            told = self._conditions | ({} if self._gpu_uuid is None else {"gpu_uuid": self._gpu_uuid})
            self._cache.store(self._cache_key(task, kind), measured.times, conditions=told)
        return self._remember(task, kind, measured)

    def measure(self, task: TimingTask, name: str, *, kind: str, replays: int) -> list[float]:
        """Device times in microseconds. Raises WorkerLate or WorkerEnded, after which `table` makes all ready again,
        and SandboxError."""
        request = {"do": "measure", "key": task.key, "name": name, "kind": kind, "replays": replays}
        return [float(t) for t in self._exchange(request, seconds=_MEASURE_SECONDS)["times_us"]]

    def release(self) -> None:
        """Frees what the process holds of problems, for one that needs the memory; times stay known."""
        if self._worker is None:
            return
        try:
            self._exchange({"do": "release"}, seconds=_MEASURE_SECONDS)
        except (WorkerLate, WorkerEnded) as error:
            _log.warning("baseline_worker_lost: at release: %s", error)

    def check_gpu(self, gpu_uuid: str | None) -> None:
        """Raises SandboxError where the process has another GPU than the candidate's: their times do not compare."""
        if None not in (gpu_uuid, self._gpu_uuid) and gpu_uuid != self._gpu_uuid:
            raise SandboxError(f"the baselines run on {self._gpu_uuid}, and the candidate on {gpu_uuid}")

    def forget(self, task: TimingTask, *, kind: str) -> None:
        """Drops what is known of the problem's times, because it is no longer so."""
        self._tables.pop((task.problem.key, kind), None)
        if self._cache is not None:
            self._cache.drop(self._cache_key(task, kind))

    def _remember(self, task: TimingTask, kind: str, table: Table) -> Table:
        self._tables[task.problem.key, kind] = table
        self._tables.move_to_end((task.problem.key, kind))
        while len(self._tables) > _MAX_TABLES:
            self._tables.popitem(last=False)
        return table

    def _cache_key(self, task: TimingTask, kind: str) -> str:
        return cache_key(task.problem.key, self._conditions, precision=self._settings.precision, kind=kind)

    def _kept(self, task: TimingTask, kind: str) -> Table | None:
        """The times of an earlier process, if it measured every baseline that is asked for."""
        if self._cache is None:
            return None
        kept = self._cache.load(self._cache_key(task, kind))
        times = {name: kept.times[name] for name in self._settings.baselines if name in kept.times}
        if len(times) < len(self._settings.baselines):
            return None
        elsewhere = None if kept.gpu_uuid == self._gpu_uuid else kept.gpu_uuid
        return Table(times=times, left_out={}, notes={}, kept=True, elsewhere=elsewhere)

    def _best_ready(self, task: TimingTask, table: Table, kind: str) -> bool:
        """Whether the best of an earlier table can be had again, in the way in which it was timed."""
        if not table.times:
            return True
        answer = self._prepare(task, table.best, kind)
        return answer["unusable"] is None and answer["kind"] == table.times[table.best].kind

    def _measured(self, task: TimingTask, kind: str) -> Table:
        """Makes and times every baseline, one after the other; only the fastest stays in memory."""
        times: dict[str, BaselineTime] = {}
        left_out: dict[str, str] = {}
        notes: dict[str, str] = {}
        short = False
        for name in self._settings.baselines:
            answer, time_us = self._made_and_timed(task, name, kind, held=tuple(times))
            if answer["unusable"] is not None:
                left_out[name] = answer["unusable"]
                short = short or bool(answer.get("out_of_memory"))
                _log.warning("baseline_left_out: %s: %s: %s", task.problem.id, name, answer["unusable"])
                continue
            times[name] = BaselineTime(time_us=time_us, kind=answer["kind"])
            if answer["uncapturable"] is not None:
                notes[name] = answer["uncapturable"]
            best = min(times, key=lambda n: times[n].time_us)
            self._let_go(task, [n for n in times if n != best])
        table = Table(times=times, left_out=left_out, notes=notes, kept=False, short_of_memory=short)
        if not self._best_ready(task, table, kind):  # the process that had it ready is lost
            raise SandboxError(f"the baseline {table.best} was timed, and cannot be had again")
        return table

    def _made_and_timed(
        self, task: TimingTask, name: str, kind: str, *, held: Sequence[str]
    ) -> tuple[dict[str, Any], float]:
        """The worker's answer and the baseline's time (0 where it is unusable); a lost process is replaced once."""
        for last in (False, True):
            answer = self._prepare(task, name, kind)
            if answer.get("out_of_memory") and held:
                self._let_go(task, held)
                answer = self._prepare(task, name, kind)
            if answer["unusable"] is not None:
                return answer, 0.0
            try:
                return answer, self._alone_us(task, name, kind)
            except (WorkerLate, WorkerEnded) as error:
                if last:
                    raise SandboxError(f"the baseline worker failed twice at measure: {error}") from error
        raise AssertionError("unreachable")

    def _alone_us(self, task: TimingTask, name: str, kind: str) -> float:
        """The median of rounds, measured until it is known to `_INTERVAL` or the time is over."""
        values: list[float] = []
        start = time.monotonic()
        while len(values) < _MAX_ROUNDS and not _settled(values, time.monotonic() - start):
            value = statistics.median(self.measure(task, name, kind=kind, replays=_REPLAYS))
            if time.monotonic() - start > _WARM_UP_SECONDS or value > _LONG_US:
                values.append(value)
        return statistics.median(values)

    def _let_go(self, task: TimingTask, names: Sequence[str]) -> None:
        """Frees what these baselines hold; a worker that is lost holds nothing."""
        if not names or self._worker is None or self._opened(task) is not None:
            return
        try:
            self._exchange({"do": "forget", "key": task.key, "names": list(names)}, seconds=_MEASURE_SECONDS)
        except (WorkerLate, WorkerEnded) as error:
            _log.warning("baseline_worker_lost: at forget: %s", error)

    def _prepare(self, task: TimingTask, name: str, kind: str) -> dict[str, Any]:
        """The worker's answer; "unusable" has the reason where this baseline cannot be had. Raises SandboxError."""
        request = {"do": "prepare", "key": task.key, "name": name, "kind": kind}
        seconds = _OPEN_SECONDS if name == "eager" else self._compile_seconds
        ended: WorkerEnded | None = None
        for _ in range(2):
            if (reason := self._opened(task)) is not None:
                return {"unusable": reason, "out_of_memory": True}
            try:
                return self._exchange(request, seconds=seconds)
            except WorkerLate as error:
                if name == "eager":
                    raise SandboxError(f"eager PyTorch did not run within {seconds:g} s") from error
                return {"unusable": f"not compiled within {seconds:g} s"}
            except WorkerEnded as error:
                ended = error
        if name == "eager":
            raise SandboxError(f"the baseline worker failed twice at eager: {ended}") from ended
        return {"unusable": f"compiling it ended its process twice: {ended}"[:300]}

    def _opened(self, task: TimingTask) -> str | None:
        """Has the worker hold the problem, or says why it cannot; a lost worker is replaced once."""
        request = {
            "do": "open", "key": task.key, "problem": dataclasses.asdict(task.problem), "spec": task.spec,
            "seed": task.seed, "timing_seeds": task.timing_seeds, "precision": self._settings.precision,
        }  # fmt: skip
        for last in (False, True):
            try:
                reason: str | None = self._exchange(request, seconds=_OPEN_SECONDS)["unusable"]
                return reason
            except (WorkerLate, WorkerEnded) as error:
                if last:
                    raise SandboxError(f"the baseline worker failed twice at open: {error}") from error
        raise AssertionError("unreachable")

    def _exchange(self, request: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """Raises WorkerLate, WorkerEnded and SandboxError; a worker without an answer is replaced at the next call."""
        worker = self._ready()
        try:
            answer: dict[str, Any] = json.loads(worker.call(request, deadline_seconds=seconds)["json"])
        except (WorkerLate, WorkerEnded, SandboxError):
            self.close()
            raise
        if answer.get("dead"):
            self.close()
        if "error" in answer:
            raise SandboxError(f"the baseline worker failed at {request['do']}: {answer['error']}")
        return answer

    def _ready(self) -> WorkerProcess:
        if self._worker is None:
            worker = WorkerProcess(
                self._command,
                environment=lambda home: baseline_environment(home, device=self._device, cache_dir=self._kept_folder),
            )
            try:
                probe = json.loads(worker.call({"do": "probe"}, deadline_seconds=_START_SECONDS)["json"])
            except (WorkerLate, WorkerEnded) as error:
                worker.close()
                raise SandboxError(f"the baseline worker did not start: {error}") from error
            if "error" in probe or not probe["healthy"]:
                worker.close()
                raise SandboxError(f"the GPU does not compute: {probe.get('error', 'a sum came out wrong')}")
            self._worker, self._conditions, self._gpu_uuid = worker, probe["conditions"], probe.get("gpu_uuid")
        return self._worker

    def close(self) -> None:
        """Kills the process and the compilers that it started; it starts again when it is asked."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _settled(values: Sequence[float], seconds: float) -> bool:
    """Whether the median is known to `_INTERVAL`, or the time is over."""
    if len(values) < MIN_VALUES:
        return False
    found = spread(values)
    return seconds > _ROUNDS_SECONDS or (found.high - found.low) / found.median <= _INTERVAL


def baseline_environment(home: str, *, device: int, cache_dir: Path | None) -> dict[str, str]:
    """A GPU worker's environment, compilers on all cores, and caches that outlive the process where there is a folder.

    Raises SandboxError where that folder cannot be used.
    """
    caches: dict[str, str] = {}
    if cache_dir is not None:
        for name in ("inductor", "triton"):
            folder = private_folder(cache_dir.absolute() / "compiled_baselines" / name)
            caches[f"{'TORCHINDUCTOR' if name == 'inductor' else 'TRITON'}_CACHE_DIR"] = str(folder)
    return {
        **worker_environment(home, device=device),
        **caches,
        "TORCHINDUCTOR_MAX_AUTOTUNE_GEMM_BACKENDS": "ATEN,TRITON",
        "TORCHINDUCTOR_COMPILE_THREADS": str(num_cores()),
        "TORCHINDUCTOR_AUTOTUNE_IN_SUBPROC": "0",  # what tunes on the GPU ends with this process
    }
