"""Feeds one judge from several tracers through a queue, and keeps what each candidate cost.

In one process and without Ray. Knows nothing of the set's making, of tables or of files.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from sandbox.gpu_judge import GpuJudge
from sandbox.gpu_workers import Usage
from sandbox.judge import Judge, open_judge, verdict_of
from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from sandbox.types import Verdict
from tests.benchmarks.candidates import Entry

_QUEUE = 64  # traced candidates that may wait: plans are some hundred kB each


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One candidate's verdict, and what the judge waited for a worker and spent on opening the problem before."""

    entry: Entry
    verdict: Verdict
    waited_seconds: float
    lost_workers: int


@dataclass(slots=True)
class Run:
    """One pass over a set."""

    judged: list[Judged] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    num_entries: int = 0
    wall_seconds: float = 0.0  # to the last verdict, like the next two
    pending_seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)

    @property
    def per_minute(self) -> float:
        return 60.0 * len(self.judged) / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def cut_off(self) -> bool:
        return len(self.judged) + len(self.errors) < self.num_entries


class Pending:
    """How long at least one plan was waiting or at work."""

    def __init__(self) -> None:
        self._lock, self._count, self._since, self._seconds = threading.Lock(), 0, 0.0, 0.0

    def add(self, change: int) -> None:
        with self._lock:
            if self._count == 0:
                self._since = time.monotonic()
            self._count += change
            if self._count == 0:
                self._seconds += time.monotonic() - self._since

    @property
    def seconds(self) -> float:
        """Until now."""
        with self._lock:
            return self._seconds + (time.monotonic() - self._since if self._count else 0.0)


def usage_of(judge: Judge) -> Usage:
    return judge.usage if isinstance(judge, GpuJudge) else Usage()


_Traced = tuple[Entry, Traced]


class Driver:
    """Tracers in threads of their own, which wait for their sandboxes, and the judge in the caller's thread."""

    def __init__(self, settings: JudgeSettings, *, device: int | None, num_tracers: int) -> None:
        self._judge = open_judge(settings, device=device)
        self._tracers = [Tracer(settings) for _ in range(num_tracers)]
        self._todo: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._traced: queue.Queue[_Traced | None] = queue.Queue(maxsize=_QUEUE)
        self._doing, self._since = "starting", time.monotonic()

    @property
    def doing(self) -> str:
        """What the judge does, for how long, and what waits for it."""
        seconds = time.monotonic() - self._since
        return f"{self._traced.qsize()} queued, {self._todo.qsize()} to trace; {self._doing} for {seconds:.1f} s"

    def _does(self, what: str) -> None:
        self._doing, self._since = what, time.monotonic()

    def warm(self, entry: Entry) -> None:
        """Starts every process, and judges one candidate, which is best a right one; nothing of this is measured."""
        self._does("starting the tracers")
        threads = [threading.Thread(target=t.spec, args=(entry.problem,), daemon=True) for t in self._tracers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._does("starting the judge")
        self._judge.judge(entry.problem, entry.candidate, self._tracers[0].trace(entry.problem, entry.candidate))

    def run(self, entries: Sequence[Entry], run: Run, *, until: float) -> None:
        """Judges `entries` in order into `run`, or as many as there is time for `until` then, a time of
        `time.monotonic`: what is traced and still waits is not judged."""
        run.num_entries, pending, start = len(entries), Pending(), time.monotonic()
        for entry in entries:
            self._todo.put(entry)
        for tracer in self._tracers:
            threading.Thread(target=self._trace, args=(tracer, run, pending, until), daemon=True).start()
        before = asdict(usage_of(self._judge))
        num_open = len(self._tracers)
        while num_open and (left := until - time.monotonic()) > 0:
            self._does("waiting for a traced one")
            try:
                item = self._traced.get(timeout=left)
            except queue.Empty:
                break
            if item is None:
                num_open -= 1
                continue
            self._judge_one(*item, run, pending)
            after = asdict(usage_of(self._judge))
            run.usage = Usage(**{name: after[name] - before[name] for name in after})
            run.wall_seconds, run.pending_seconds = time.monotonic() - start, pending.seconds
        self._does("over")

    def _trace(self, tracer: Tracer, run: Run, pending: Pending, until: float) -> None:
        while time.monotonic() < until:
            try:
                entry = self._todo.get_nowait()
            except queue.Empty:
                break
            try:
                found = tracer.trace(entry.problem, entry.candidate)
            except Exception as error:  # noqa: BLE001  a thread's outermost frame: told, and counted as an error
                if time.monotonic() >= until:  # its sandbox may have been closed under it
                    break
                run.errors.append(f"{entry.candidate.id}: {type(error).__name__}: {error}"[:300])
                continue
            if found.plan is not None:
                pending.add(+1)
            self._traced.put((entry, found))
        self._traced.put(None)

    def _judge_one(self, entry: Entry, found: Traced, run: Run, pending: Pending) -> None:
        self._does(f"judging {entry.problem.id}, {entry.kind}")
        before = asdict(usage_of(self._judge))
        try:
            done = found.plan is None
            verdict = verdict_of(found) if done else self._judge.judge(entry.problem, entry.candidate, found)
        except Exception as error:  # noqa: BLE001  ours or the problem's: told, and counted as an error
            run.errors.append(f"{entry.candidate.id}: {type(error).__name__}: {error}"[:300])
            return
        finally:
            if found.plan is not None:
                pending.add(-1)
        after = asdict(usage_of(self._judge))
        run.judged.append(
            Judged(
                entry=entry,
                verdict=verdict,
                waited_seconds=after["waiting_seconds"] - before["waiting_seconds"],
                lost_workers=after["num_lost"] - before["num_lost"],
            )
        )

    def close(self) -> None:
        self._judge.close()
        for tracer in self._tracers:
            tracer.close()
