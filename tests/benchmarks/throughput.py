"""Measures how many candidates a minute one GPU's judge gets through, and what faults cost. Prints a table.

From the repository's root, on a GPU machine: `python tests/benchmarks/throughput.py --candidates 1000 --out t.json`;
for a look at the driver without one: `--mode interpret --candidates 60 --tracers 2`. Tracers, each with a sandbox of
its own, feed one judge through a queue, in one process and without Ray. The set is `candidates.py`'s.

`gpu_busy_share` is the time that a process on the GPU had a request, over the time that some plan was waiting or at
work. The serial run judges a random part of the harmless ones again, one by one, with nothing beside them, and compares
statuses.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.gpu_judge import GpuJudge
from sandbox.gpu_workers import Usage
from sandbox.judge import Judge, open_judge, verdict_of
from sandbox.problems import load_problems
from sandbox.tracer import Traced, Tracer
from sandbox.types import JudgeSettings, Problem, Verdict
from tests.benchmarks.candidates import Entry, mixed_set
from tests.benchmarks.recipes import extra_problems
from tests.judge_settings import judge_settings

ROOT = Path(__file__).parents[2]
BAR_PER_MINUTE, BAR_BUSY_SHARE = 600.0, 0.7
_GPU_STAGES = ("reference", "replay", "baseline", "time")
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
    wall_seconds: float = 0.0
    pending_seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)

    @property
    def per_minute(self) -> float:
        return 60.0 * len(self.judged) / self.wall_seconds


class Pending:
    """How long at least one plan was waiting or at work."""

    def __init__(self) -> None:
        self._lock, self._count, self._since, self.seconds = threading.Lock(), 0, 0.0, 0.0

    def add(self, change: int) -> None:
        with self._lock:
            if self._count == 0:
                self._since = time.monotonic()
            self._count += change
            if self._count == 0:
                self.seconds += time.monotonic() - self._since


def usage_of(judge: Judge) -> Usage:
    return judge.usage if isinstance(judge, GpuJudge) else Usage()


class Driver:
    """Tracers in threads of their own, which wait for their sandboxes, and the judge in the caller's thread."""

    def __init__(self, settings: JudgeSettings, *, device: int | None, num_tracers: int) -> None:
        self._judge = open_judge(settings, device=device)
        self._tracers = [Tracer(settings) for _ in range(num_tracers)]

    def warm(self, entries: Sequence[Entry], problem: Problem) -> None:
        """Starts every process, and judges one candidate of a problem; nothing of this is measured."""
        threads = [threading.Thread(target=tracer.spec, args=(problem,)) for tracer in self._tracers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        entry = next(e for e in entries if e.problem is problem)
        self._judge.judge(problem, entry.candidate, self._tracers[0].trace(problem, entry.candidate))

    def run(self, entries: Sequence[Entry], *, seconds: float) -> Run:
        """Judges `entries` in order, or as many as are traced within `seconds`."""
        run, pending, start = Run(), Pending(), time.monotonic()
        todo: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        traced: queue.Queue[tuple[Entry, Traced] | None] = queue.Queue(maxsize=_QUEUE)
        for entry in entries:
            todo.put(entry)

        def trace(tracer: Tracer) -> None:
            while time.monotonic() - start < seconds:
                try:
                    entry = todo.get_nowait()
                except queue.Empty:
                    break
                try:
                    found = tracer.trace(entry.problem, entry.candidate)
                except Exception as error:  # noqa: BLE001  a thread's outermost frame: told, and counted as an error
                    run.errors.append(f"{entry.candidate.id}: {type(error).__name__}: {error}"[:300])
                    continue
                if found.plan is not None:
                    pending.add(+1)
                traced.put((entry, found))
            traced.put(None)

        threads = [threading.Thread(target=trace, args=(tracer,)) for tracer in self._tracers]
        for thread in threads:
            thread.start()
        before = asdict(usage_of(self._judge))
        self._consume(run, traced, pending, num_open=len(threads))
        run.wall_seconds, run.pending_seconds = time.monotonic() - start, pending.seconds
        after = asdict(usage_of(self._judge))
        run.usage = Usage(**{name: after[name] - before[name] for name in after})
        return run

    def _consume(
        self, run: Run, traced: queue.Queue[tuple[Entry, Traced] | None], pending: Pending, *, num_open: int
    ) -> None:
        while num_open:
            item = traced.get()
            if item is None:
                num_open -= 1
                continue
            entry, found = item
            before = asdict(usage_of(self._judge))
            try:
                done = found.plan is None
                verdict = verdict_of(found) if done else self._judge.judge(entry.problem, entry.candidate, found)
            except Exception as error:  # noqa: BLE001  ours or the problem's: told, and counted as an error
                run.errors.append(f"{entry.candidate.id}: {type(error).__name__}: {error}"[:300])
                continue
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


def stage_table(judged: Iterable[Judged]) -> dict[str, dict[str, float]]:
    """For each stage: how often, least, median, 90th percentile and in all, in seconds. The least seen is the floor
    that this machine has shown."""
    times: dict[str, list[float]] = {}
    for item in judged:
        for stage, seconds in item.verdict.stage_seconds.items():
            times.setdefault(stage, []).append(seconds)
    return {
        stage: {
            "count": len(found), "least": min(found), "median": statistics.median(found),
            "p90": sorted(found)[int(0.9 * (len(found) - 1))], "total": sum(found),
        }
        for stage, found in times.items()
    }  # fmt: skip


def kernel_seconds(judged: Iterable[Judged], *, num_cases: int) -> dict[str, float]:
    """What the device had to do in any case for the timed candidates: their kernels once a case and once more, and the
    timed runs of candidate and baseline. The floor of `replay` and `time` in all."""
    timed = [(j.verdict.performance, j) for j in judged if j.verdict.performance is not None]
    return {
        "replay": sum(p.runtime_us * (num_cases + 1) for p, _ in timed) * 1e-6,
        "time": sum((p.runtime_us + p.baseline_us[p.against]) * p.repetitions for p, _ in timed) * 1e-6,
    }


def fault_costs(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """For each kind of harm: what it took itself, and what the next candidate waited for a worker and for its problem
    to be opened again, as medians and at most, in seconds."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    at_gpu = [j for j in judged if j.verdict.plan_hash is not None]
    following = {id(a): b for a, b in itertools.pairwise(at_gpu)}
    for item in judged:
        if item.entry.kind.harmful:
            after = following.get(id(item))
            own = sum(s for name, s in item.verdict.stage_seconds.items() if name != "reference")
            next_waits = 0.0 if after is None else after.waited_seconds
            lost = after is not None and item.lost_workers > 0
            reopening = after.verdict.stage_seconds.get("reference", 0.0) if lost and after is not None else 0.0
            found.setdefault(item.entry.kind, []).append((own, next_waits, reopening))
    costs: dict[str, dict[str, float]] = {}
    for kind, rows in found.items():
        costs[kind] = {"count": len(rows)}
        for name, column in zip(("own", "next_waits", "reopening"), zip(*rows, strict=True), strict=True):
            costs[kind] |= {f"{name}_median": statistics.median(column), f"{name}_max": max(column)}
    return costs


def gpu_seconds(run: Run) -> float:
    """The time that the candidate's or the baseline's process had a request; waiting for one to be ready is none."""
    stages = (j.verdict.stage_seconds.get(stage, 0.0) for j in run.judged for stage in _GPU_STAGES)
    return max(sum(stages) - run.usage.waiting_seconds, 0.0)


def told(run: Run, *, num_cases: int) -> dict[str, Any]:
    """The figures of one run, plain."""
    by_kind: dict[str, Counter[str]] = {}
    for item in run.judged:
        by_kind.setdefault(item.entry.kind, Counter())[item.verdict.status] += 1
    no_plan = [j for j in run.judged if j.verdict.plan_hash is None]
    return {
        "judged": len(run.judged),
        "errors": run.errors,
        "wall_seconds": run.wall_seconds,
        "per_minute": run.per_minute if run.judged else 0.0,
        "gpu_busy_share": gpu_seconds(run) / run.pending_seconds if run.pending_seconds else 0.0,
        "usage": asdict(run.usage),
        "without_plan": len(no_plan),
        "gpu_seconds_without_plan": sum(j.verdict.spend.gpu_seconds for j in no_plan),
        "statuses": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
        "stages": stage_table(run.judged),
        "kernel_seconds": kernel_seconds(run.judged, num_cases=num_cases),
        "faults": fault_costs(run.judged),
        "verdicts": {j.entry.candidate.id: [j.entry.problem.id, j.entry.kind, j.verdict.status] for j in run.judged},
    }


def compared(main: Run, serial: Run) -> dict[str, Any]:
    """Statuses of the serial run that differ from the main one's."""
    known = {j.entry.candidate.id: j for j in main.judged}
    pairs = [(known[j.entry.candidate.id], j) for j in serial.judged if j.entry.candidate.id in known]
    changed = [(a, b) for a, b in pairs if a.verdict.status != b.verdict.status]
    return {
        "compared": len(pairs),
        "changed": len(changed),
        "which": [
            [a.entry.problem.id, a.entry.kind, a.verdict.status, b.verdict.status, a.verdict.feedback[:200],
             b.verdict.feedback[:200]] for a, b in changed
        ],
    }  # fmt: skip


def unexpected(run: Run) -> list[list[str]]:
    """Right candidates that did not pass: a fault of this script, or of the judge."""
    return [
        [j.entry.problem.id, j.verdict.status, j.verdict.feedback[:300], j.entry.candidate.source]
        for j in run.judged
        if j.entry.kind == "right" and not j.verdict.passed
    ]


def show(result: dict[str, Any]) -> None:
    main = result["main"]
    print(f"mix: {result['mix']}; {result['problems']} problems")
    print(
        f"{main['judged']} candidates in {main['wall_seconds']:.1f} s: {main['per_minute']:.0f}/min"
        f" (bar {BAR_PER_MINUTE:.0f}); GPU busy {main['gpu_busy_share']:.1%} (bar {BAR_BUSY_SHARE:.0%});"
        f" {main['gpu_seconds_without_plan']:.3f} GPU-s on {main['without_plan']} without a plan (bar 0);"
        f" {main['usage']['num_lost']} workers replaced; {len(main['errors'])} errors of ours"
    )
    for stage, row in main["stages"].items():
        floor = main["kernel_seconds"].get(stage)
        print(
            f"{stage:>10}: {row['count']:5.0f} x, least {row['least']:.4f}, median {row['median']:.4f},"
            f" p90 {row['p90']:.4f}, total {row['total']:.1f} s"
            + (f", of which kernels of timed candidates {floor:.1f} s" if floor is not None else "")
        )
    for kind, statuses in main["statuses"].items():
        print(f"{kind:>15}: {statuses}")
    for kind, row in main["faults"].items():
        print(f"{kind:>15}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()))
    if result["serial"] is not None:
        serial = result["comparison"]
        print(f"serial: {serial['compared']} compared, {serial['changed']} changed (bar 0): {serial['which'][:5]}")
    print(f"right ones that did not pass: {len(result['unexpected'])}: {[u[:3] for u in result['unexpected'][:5]]}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("replay", "interpret"), default="replay")
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9, help="no candidate is traced after so long")
    parser.add_argument("--serial", type=int, default=250, help="how many are judged again, serially")
    parser.add_argument("--serial-seconds", type=float, default=1e9)
    parser.add_argument("--tracers", type=int, default=max((os.cpu_count() or 1) - 2, 1))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timing-rounds", type=int, default=60)
    parser.add_argument("--timing-seconds", type=float, default=2.0)
    parser.add_argument("--max-slowdown", type=float, default=1000.0, help="than eager; beyond it a kernel times out")
    parser.add_argument("--racing", action="store_true")
    parser.add_argument("--baselines", nargs="+", default=["eager"])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    large = chosen.mode == "replay"
    settings = judge_settings(
        mode=chosen.mode, baselines=tuple(chosen.baselines), timing_rounds=chosen.timing_rounds,
        timing_seconds=chosen.timing_seconds, racing=chosen.racing,
        max_slowdown=chosen.max_slowdown,
    )  # fmt: skip
    problems = load_problems(ROOT / "configs" / ("problems_large" if large else "problems"))
    problems += extra_problems(num_rows=8192 if large else 64, num_columns=4096 if large else 100)
    entries = mixed_set(
        problems, count=chosen.candidates, seed=chosen.seed, recorded=ROOT / "configs/completions/quickstart.jsonl"
    )
    device = 0 if large else None
    driver = Driver(settings, device=device, num_tracers=chosen.tracers)
    try:
        driver.warm(entries, entries[0].problem)
        main_run = driver.run(entries, seconds=chosen.seconds)
    finally:
        driver.close()
    serial_run = None
    if chosen.serial:
        harmless = [j.entry for j in main_run.judged if not j.entry.kind.harmful]
        part = random.Random(chosen.seed).sample(harmless, min(chosen.serial, len(harmless)))
        alone = Driver(settings, device=device, num_tracers=1)
        try:
            serial_run = alone.run(part, seconds=chosen.serial_seconds)
        finally:
            alone.close()
    result = {
        "mix": dict(Counter(str(e.kind) for e in entries)),
        "problems": len({e.problem.id for e in entries}),
        "options": {name: str(value) for name, value in vars(chosen).items()},
        "environment": environment.record(),
        "main": told(main_run, num_cases=settings.num_seeds),
        "serial": None if serial_run is None else told(serial_run, num_cases=settings.num_seeds),
        "comparison": None if serial_run is None else compared(main_run, serial_run),
        "unexpected": unexpected(main_run),
    }
    show(result)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
