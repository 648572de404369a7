"""Measures how many candidates a minute one GPU's judge gets through, and what faults cost. Prints a table.

From the repository's root, on a GPU machine: `python tests/benchmarks/throughput.py --candidates 1000 --out t.json`;
for a look at the driver without one: `--mode interpret --candidates 60 --tracers 2`. Tracers, each with a sandbox of
its own, feed one judge through a queue, in one process and without Ray. The set is `candidates.py`'s.

`--budget-seconds` is hard, for the whole script (`budget.py`). The rate counts from the first candidate that a tracer
is handed to the last verdict; starting up comes before and is told beside it. A run that is cut off says so, and its
rate is over what was judged.

`gpu_busy_share` is the time that a process on the GPU had a request, over the time that some plan was waiting or at
work. The serial run judges a random part of the harmless ones again, one by one, with nothing beside them, and compares
statuses.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.problems import load_problems
from tests.benchmarks.budget import Budget, run_within
from tests.benchmarks.candidates import Kind, mixed_set
from tests.benchmarks.driver import Driver, Judged, Run
from tests.benchmarks.recipes import extra_problems
from tests.judge_settings import judge_settings

ROOT = Path(__file__).parents[2]
BAR_PER_MINUTE, BAR_BUSY_SHARE = 600.0, 0.7
_GPU_STAGES = ("reference", "replay", "baseline", "time")


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


def kind_seconds(judged: Iterable[Judged]) -> dict[str, dict[str, float]]:
    """For each kind and stage the seconds in all; where the time of a run went. `waited` is for a worker."""
    found: dict[str, dict[str, float]] = {}
    for item in judged:
        row = found.setdefault(item.entry.kind, {})
        for stage, seconds in (*item.verdict.stage_seconds.items(), ("waited", item.waited_seconds)):
            row[stage] = row.get(stage, 0.0) + seconds
    return found


def gpu_seconds(run: Run) -> float:
    """The time that the candidate's or the baseline's process had a request; waiting for one to be ready is none."""
    stages = (j.verdict.stage_seconds.get(stage, 0.0) for j in list(run.judged) for stage in _GPU_STAGES)
    return max(sum(stages) - run.usage.waiting_seconds, 0.0)


def told(run: Run, *, num_cases: int) -> dict[str, Any]:
    """The figures of one run, plain."""
    by_kind: dict[str, Counter[str]] = {}
    judged = list(run.judged)  # it may be growing
    for item in judged:
        by_kind.setdefault(item.entry.kind, Counter())[item.verdict.status] += 1
    no_plan = [j for j in judged if j.verdict.plan_hash is None]
    return {
        "judged": len(judged),
        "of": run.num_entries,
        "cut_off": run.cut_off,
        "errors": list(run.errors),
        "wall_seconds": run.wall_seconds,
        "per_minute": run.per_minute,
        "gpu_busy_share": gpu_seconds(run) / run.pending_seconds if run.pending_seconds else 0.0,
        "usage": asdict(run.usage),
        "without_plan": len(no_plan),
        "gpu_seconds_without_plan": sum(j.verdict.spend.gpu_seconds for j in no_plan),
        "statuses": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
        "stages": stage_table(judged),
        "kind_seconds": kind_seconds(judged),
        "kernel_seconds": kernel_seconds(judged, num_cases=num_cases),
        "faults": fault_costs(judged),
        "verdicts": {j.entry.candidate.id: [j.entry.problem.id, j.entry.kind, j.verdict.status] for j in judged},
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


def show_run(main: dict[str, Any]) -> None:
    of = f"CUT OFF, of {main['of']}: the rate is that of these" if main["cut_off"] else "all of the set"
    print(
        f"{main['judged']} candidates ({of}) in {main['wall_seconds']:.1f} s: {main['per_minute']:.0f}/min"
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
    for kind, row in main["kind_seconds"].items():
        print(f"{kind:>15}: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in row.items()) + " s in all")
    for kind, row in main["faults"].items():
        print(f"{kind:>15}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()))


class Throughput:
    """The whole measurement: a run of the set, and a part of it again, serially."""

    def __init__(self, chosen: argparse.Namespace, budget: Budget) -> None:
        self._chosen, self._budget = chosen, budget
        self._large = chosen.mode == "replay"
        self._settings = judge_settings(
            mode=chosen.mode, baselines=tuple(chosen.baselines), timing_rounds=chosen.timing_rounds,
            timing_seconds=chosen.timing_seconds, racing=chosen.racing, max_slowdown=chosen.max_slowdown,
        )  # fmt: skip
        problems = load_problems(ROOT / "configs" / ("problems_large" if self._large else "problems"))
        problems += extra_problems(
            num_rows=8192 if self._large else 64, num_columns=4096 if self._large else 100
        )  # fmt: skip
        self._entries = mixed_set(
            problems, count=chosen.candidates, seed=chosen.seed, recorded=ROOT / "configs/completions/recorded.jsonl"
        )
        if chosen.harmless:
            self._entries = [entry for entry in self._entries if not entry.kind.harmful]
        self._environment = environment.record()
        self._main, self._serial = Run(), Run()
        self._driver: Driver | None = None
        self._started_after: float | None = None

    def work(self) -> None:
        chosen, budget = self._chosen, self._budget
        held_back = min(chosen.serial_seconds, 0.5 * budget.left_seconds) if chosen.serial else 0.0
        self._driver = self._opened(num_tracers=chosen.tracers)
        self._started_after = budget.spent_seconds
        self._driver.run(self._entries, self._main, until=budget.work_until - held_back)
        self._driver.close()
        if chosen.serial and budget.left_seconds > 0:
            harmless = [j.entry for j in self._main.judged if not j.entry.kind.harmful]
            part = random.Random(chosen.seed).sample(harmless, min(chosen.serial, len(harmless)))
            self._driver = Driver(self._settings, device=self._device, num_tracers=1)
            self._driver.run(part, self._serial, until=budget.work_until)

    @property
    def _device(self) -> int | None:
        return 0 if self._large else None

    def _opened(self, *, num_tracers: int) -> Driver:
        self._driver = driver = Driver(self._settings, device=self._device, num_tracers=num_tracers)
        problem = self._entries[0].problem
        mine = [e for e in self._entries if e.problem is problem]
        driver.warm(next((e for e in mine if e.kind is Kind.RIGHT), mine[0]))
        return driver

    def progress(self) -> str:
        serial = self._serial.num_entries > 0
        run, doing = self._serial if serial else self._main, "" if self._driver is None else self._driver.doing
        return f"{'serial: ' * serial}{len(run.judged)} judged, {run.per_minute:.0f}/min; {doing}"

    def record(self) -> dict[str, Any]:
        entries, num_cases = self._entries, self._settings.num_seeds
        return {
            "mix": dict(Counter(str(e.kind) for e in entries)),
            "problems": len({e.problem.id for e in entries}),
            "options": {name: str(value) for name, value in vars(self._chosen).items()},
            "environment": self._environment,
            "start_up_seconds": self._started_after,
            "main": told(self._main, num_cases=num_cases),
            "serial": told(self._serial, num_cases=num_cases) if self._serial.num_entries else None,
            "comparison": compared(self._main, self._serial) if self._serial.num_entries else None,
            "unexpected": unexpected(self._main),
        }

    def show(self, record: dict[str, Any]) -> None:
        started = record["start_up_seconds"]
        print(f"mix: {record['mix']}; {record['problems']} problems")
        print("not started up yet" if started is None else f"started up in {started:.1f} s, not counted in the rate")
        show_run(record["main"])
        if record["serial"] is not None:
            serial, cut = record["comparison"], ", CUT OFF" if record["serial"]["cut_off"] else ""
            print(
                f"serial: {serial['compared']} compared of {record['serial']['of']}{cut}, {serial['changed']} changed"
                f" (bar 0): {serial['which'][:5]}"
            )
        wrong = record["unexpected"]
        print(f"right ones that did not pass: {len(wrong)}: {[u[:3] for u in wrong[:5]]}")

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("replay", "interpret"), default="replay")
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--harmless", action="store_true", help="leave out those that crash, hang or exhaust memory")
    parser.add_argument("--budget-seconds", type=float, default=580.0, help="of the whole script")
    parser.add_argument("--serial", type=int, default=250, help="how many are judged again, serially; 0 for none")
    parser.add_argument("--serial-seconds", type=float, default=60.0, help="of the budget, kept for these at least")
    parser.add_argument("--tracers", type=int, default=max(environment.num_cores() - 2, 1))
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
    budget = Budget(chosen.budget_seconds)
    run_within(budget, Throughput(chosen, budget), out=chosen.out)


if __name__ == "__main__":
    main()
