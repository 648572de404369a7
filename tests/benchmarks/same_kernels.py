"""Times the same plans on every GPU of a machine, several times each, and says how far the speedups lie apart.

All GPUs at once, each judge in a thread of its own. Knows nothing of how candidates were made.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sandbox.gpu_judge import GpuJudge
from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from sandbox.types import Performance
from tests.benchmarks.candidates import Entry

_NUM_TRACERS = 8
_TOLD = ("sm_clock_mhz", "temperature_c", "power_w", "copy_bandwidth_gb_s")


class SameKernels:
    """`found[candidate id][gpu]` has a performance for each repetition."""

    def __init__(self, settings: JudgeSettings, *, num_gpus: int, repeats: int) -> None:
        self._settings, self._repeats = settings, repeats
        self._judges = [GpuJudge(settings, device=number) for number in range(num_gpus)]
        self.found: dict[str, dict[str, list[Performance]]] = {}
        self.errors: list[str] = []
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def run(self, entries: Sequence[Entry], *, until: float) -> None:
        """`until` is a time of `time.monotonic`; what is begun by then is finished."""
        traced = self._traced(entries)
        self._entries = {entry.candidate.id: entry for entry, _ in traced}
        threads = [threading.Thread(target=self._time_all, args=(judge, traced, until)) for judge in self._judges]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _traced(self, entries: Sequence[Entry]) -> list[tuple[Entry, Traced]]:
        tracers = [Tracer(self._settings) for _ in range(min(_NUM_TRACERS, max(1, len(entries))))]

        def trace(number: int) -> list[tuple[Entry, Traced]]:
            mine = entries[number :: len(tracers)]
            return [(entry, tracers[number].trace(entry.problem, entry.candidate)) for entry in mine]

        try:
            with ThreadPoolExecutor(len(tracers)) as threads:
                found = [pair for part in threads.map(trace, range(len(tracers))) for pair in part]
        finally:
            for tracer in tracers:
                tracer.close()
        return [(entry, each) for entry, each in found if each.plan is not None]

    def _time_all(self, judge: GpuJudge, traced: Sequence[tuple[Entry, Traced]], until: float) -> None:
        """Each plan as often as asked for before the next: its problem stays open."""
        for entry, plan in traced:
            for _ in range(self._repeats):
                if time.monotonic() > until:
                    return
                try:
                    # One beside the other knows nothing of its verdicts, and uses its processes.
                    fresh = GpuJudge(self._settings, device=judge._device, beside=judge, secret=judge._secret)
                    verdict = fresh.judge(entry.problem, entry.candidate, plan)
                except Exception as error:  # noqa: BLE001  told, and the others go on
                    self.errors.append(f"{entry.problem.id}: {type(error).__name__}: {error}"[:300])
                    break
                if verdict.performance is None or verdict.gpu is None:
                    self.errors.append(f"{entry.problem.id}: {verdict.status}, not timed"[:300])
                    break
                with self._lock:
                    by_gpu = self.found.setdefault(entry.candidate.id, {})
                    by_gpu.setdefault(verdict.gpu, []).append(verdict.performance)

    def told(self) -> list[dict[str, Any]]:
        """A row a kernel, of those that every GPU timed at least once."""
        with self._lock:
            found = {key: {gpu: list(each) for gpu, each in by_gpu.items()} for key, by_gpu in self.found.items()}
        return [
            row_of(self._entries[key].problem.id, by_gpu)
            for key, by_gpu in found.items()
            if len(by_gpu) == len(self._judges)
        ]

    def close(self) -> None:
        for judge in self._judges:
            judge.close()


def row_of(problem_id: str, by_gpu: dict[str, list[Performance]]) -> dict[str, Any]:
    """Medians by GPU. `apart` is the largest over the least median speedup, less one; `apart_alone` the same among the
    repetitions on one GPU, at most."""
    speedups = {gpu: [each.speedup for each in mine] for gpu, mine in sorted(by_gpu.items())}
    medians = [statistics.median(values) for values in speedups.values()]
    return {
        "problem": problem_id,
        "speedups": {gpu: round(statistics.median(values), 4) for gpu, values in speedups.items()},
        "runtime_us": {gpu: round(statistics.median(p.runtime_us for p in by_gpu[gpu]), 2) for gpu in speedups},
        "apart": round(max(medians) / min(medians) - 1, 4),
        "apart_alone": round(max(max(values) / min(values) - 1 for values in speedups.values()), 4),
        "repeats": min(len(values) for values in speedups.values()),
        "conditions": {
            gpu: {name: by_gpu[gpu][-1].conditions[name] for name in _TOLD if name in by_gpu[gpu][-1].conditions}
            for gpu in speedups
        },
    }


def agreement(rows: Sequence[dict[str, Any]], *, within: float) -> dict[str, Any]:
    """How many kernels' speedups agree, and the worst."""
    apart = [row["apart"] for row in rows]
    return {
        "kernels": len(rows),
        "agree": sum(value <= within for value in apart),
        "most_apart": max(apart, default=None),
        "median_apart": statistics.median(apart) if apart else None,
        "median_apart_alone": statistics.median(row["apart_alone"] for row in rows) if rows else None,
        "outside": [row["problem"] for row in rows if row["apart"] > within],
    }
