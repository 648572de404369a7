"""How far a speedup can be trusted: measured again and again, picked as the best of many, and against which baseline.

`python tests/benchmarks/timing_trust.py --out FOLDER [--parts table,repeat,best] [--processes 8] [--count 100]
[--baselines eager] [--budget-seconds 580]` from the repository's root, on a GPU machine. The budget is hard and the
whole script's (`budget.py`); the parts share it evenly, and say how far they came.

- table: the recorded answers to configs/problems_large; for each problem its fastest right one, all three baselines
  or those that are asked for, and the speedup against the best of them.
- repeat: those answers measured in as many fresh pairs of processes as `--processes` says: the coefficient of variation
  of each one's speedup; median (bar 1 %) and 95th percentile (bar 3 %) over the kernels.
- best: `--count` candidates that are eager PyTorch itself, told apart by a constant that changes nothing: the largest
  speedup among them, and what a fresh judge finds for that one (bar: within 2 % of 1).

Compiled baselines are kept in `FOLDER/cache`. Each part writes `FOLDER/PART.json` when it is over, and all of them,
as far as they are, stand in `FOLDER/trust.json`; the tables are printed last.
"""

from __future__ import annotations

import argparse
import copy
import json
import queue
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.extract import extract
from sandbox.gpu_judge import GpuJudge
from sandbox.problems import load_problems
from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from sandbox.types import BASELINES, Candidate, Operator, Problem, Verdict
from sandbox.zygote import SandboxError
from tests.benchmarks.budget import Budget, run_within
from tests.judge_settings import judge_settings

ROOT = Path(__file__).parents[2]
PARTS = ("table", "repeat", "best")
_NUM_BEST_SIZES = {"small": "64, 1024", "large": "4096, 4096"}
_SAME = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x * 2.0 + 1.0).clamp(max={limit})
def get_inputs():
    return [torch.randn({size})]
def get_init_inputs():
    return []
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One candidate, traced."""

    name: str
    problem: Problem
    candidate: Candidate
    traced: Traced


def settings_for(out: Path, **changes: object) -> JudgeSettings:
    """Replaying, as a run does by default, every candidate to its end."""
    chosen = {"mode": "replay", "baselines": BASELINES, "cache_dir": str(out / "cache"), **changes}
    return judge_settings(**chosen)


@contextmanager
def fresh_judge(settings: JudgeSettings) -> Iterator[GpuJudge]:
    judge = GpuJudge(settings, device=0)
    try:
        yield judge
    finally:
        judge.close()


def traced_all(todo: Sequence[tuple[str, Problem, Candidate]], settings: JudgeSettings) -> list[Entry]:
    """Traces on all cores; what gives no plan is left out."""
    waiting: queue.Queue[tuple[str, Problem, Candidate]] = queue.Queue()
    for item in todo:
        waiting.put(item)
    found: dict[str, Entry] = {}

    def work() -> None:
        with Tracer(settings) as tracer:
            while True:
                try:
                    name, problem, candidate = waiting.get_nowait()
                except queue.Empty:
                    return
                traced = tracer.trace(problem, candidate)
                if traced.plan is not None:
                    found[name] = Entry(name=name, problem=problem, candidate=candidate, traced=traced)

    num_threads = min(len(todo), max(1, environment.num_cores() - 2))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[name] for name, _, _ in todo if name in found]


def recorded(settings: JudgeSettings) -> list[Entry]:
    """The recorded answers to the large problems."""
    problems = {problem.id: problem for problem in load_problems(ROOT / "configs/problems_large")}
    todo = []
    for line in (ROOT / "configs/completions/recorded.jsonl").read_text().splitlines():
        record = json.loads(line)
        source = extract(record["completion"], finish_reason=record.get("finish_reason")).source
        if source is not None and record["problem"] in problems:
            problem = problems[record["problem"]]
            todo.append(
                (record["id"], problem, Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT))
            )
    return traced_all(todo, settings)


def judged(judge: GpuJudge, entry: Entry) -> Verdict | None:
    """The verdict; None, and a line, where the fault is ours."""
    try:
        return judge.judge(entry.problem, entry.candidate, entry.traced)
    except SandboxError as error:
        print(f"{entry.name}: our fault: {error}", flush=True)
        return None


def table_part(entries: Sequence[Entry], settings: JudgeSettings, found: dict[str, Any], *, until: float) -> None:
    """The fastest right answer to each problem. Like the other parts it fills `found` as it goes on."""
    found |= {"rows": {}, "stages": [], "judged": 0, "of": len(entries)}
    best: dict[str, float] = {}
    with fresh_judge(settings) as judge:
        for entry in entries:
            if time.monotonic() > until:
                break
            verdict = judged(judge, entry)
            found["judged"] += 1
            if verdict is None or verdict.performance is None:
                continue
            found["stages"].append({"name": entry.name, **verdict.stage_seconds})
            if verdict.speedup > best.get(entry.problem.id, 0.0):
                best[entry.problem.id] = verdict.speedup
                row = {"candidate": entry.name, "performance": asdict(verdict.performance)}
                found["rows"] = dict(sorted({**found["rows"], entry.problem.id: row}.items()))


def repeat_part(
    entries: Sequence[Entry],
    winners: Sequence[str],
    settings: JudgeSettings,
    found: dict[str, Any],
    processes: int,
    *,
    until: float,
) -> None:
    """Each winner's speedup in one fresh pair of processes after the other."""
    chosen = [entry for entry in entries if entry.name in winners]
    speedups: dict[str, list[float]] = {entry.name: [] for entry in chosen}
    against: dict[str, list[str]] = {entry.name: [] for entry in chosen}
    spent: list[float] = []
    found |= {"speedups": speedups, "against": against, "process_seconds": spent, "of": processes}
    for _ in range(processes):
        if spent and time.monotonic() + statistics.mean(spent) > until:
            break
        began = time.monotonic()
        with fresh_judge(settings) as judge:
            for entry in chosen:
                verdict = judged(judge, entry)
                if verdict is not None and verdict.performance is not None:
                    speedups[entry.name].append(verdict.speedup)
                    against[entry.name].append(verdict.performance.against)
        spent.append(time.monotonic() - began)


def equals(count: int, settings: JudgeSettings) -> dict[str, list[Entry]]:
    """For each size, candidates that differ in a constant alone."""
    todo: dict[str, list[tuple[str, Problem, Candidate]]] = {}
    for name, size in _NUM_BEST_SIZES.items():
        problem = Problem(id=name, source=_SAME.format(limit="1000000.0", size=size), origin="timing_trust")
        for n in range(count):
            source = _SAME.format(limit=f"{1_000_000 + n}.0", size=size) + "\nModelNew = Model\n"
            candidate = Candidate(problem_id=name, source=source, operator=Operator.DRAFT)
            todo.setdefault(name, []).append((f"{name}-{n}", problem, candidate))
    traced = traced_all([item for items in todo.values() for item in items], settings)
    found = {name: [entry for entry in traced if entry.problem.id == name] for name in todo}
    for name, entries in found.items():
        if len({entry.traced.plan_hash for entry in entries}) != count:
            raise SystemExit(f"{name}: the {count} candidates are not {count} plans")
    return found


def best_part(out: Path, found: dict[str, Any], count: int, *, until: float) -> None:
    """The best of many equals, and what a fresh judge says of it."""
    settings = settings_for(out, baselines=("eager",), policy="any", min_kernel_share=0.0, cache_dir=None)
    sets = equals(count, settings)
    for num_done, (name, entries) in enumerate(sets.items()):
        share = (until - time.monotonic()) / (len(sets) - num_done)
        best_of(entries, settings, found.setdefault(name, {}), until=time.monotonic() + share)


def best_of(entries: Sequence[Entry], settings: JudgeSettings, found: dict[str, Any], *, until: float) -> None:
    """One size's. A fresh judge's first verdict, which takes longest, shows what confirming will take."""
    speedups: list[float] = []
    found |= {"speedups": speedups, "of": len(entries), "raw_maximum": None, "confirmed": None}
    began, first_seconds, top = time.monotonic(), 0.0, entries[0]
    with fresh_judge(settings) as judge:
        for entry in entries:
            if time.monotonic() + 1.2 * first_seconds > until:
                break
            verdict = judged(judge, entry)
            first_seconds = first_seconds or time.monotonic() - began
            if verdict is not None and verdict.performance is not None:
                speedups.append(verdict.speedup)
                if verdict.speedup == max(speedups):
                    found["raw_maximum"], top = verdict.speedup, entry
    if not speedups:
        return
    with fresh_judge(settings) as judge:
        again = judged(judge, top)
    if again is not None and again.performance is not None:
        found["confirmed"] = asdict(again.performance)


def print_table(found: dict[str, Any]) -> None:
    print(f"\ntable: {found['judged']} of {found['of']} candidates judged")
    print(f"{'problem':<20} {'candidate':>10} {'eager':>9} {'compile':>9} {'autotune':>9}  speedup (95 %) against")
    for problem, row in found["rows"].items():
        figures = row["performance"]
        times = [figures["baseline_us"].get(name) for name in BASELINES]
        cells = " ".join(f"{'left out' if t is None else f'{t:.1f}':>9}" for t in times)
        low, high = figures["speedup_low"], figures["speedup_high"]
        speedup = f"{figures['speedup']:.3f} ({low:.3f} to {high:.3f}) {figures['against']}"
        print(f"{problem:<20} {figures['runtime_us']:>10.1f} {cells}  {speedup}")
    for stage in ("replay", "baseline", "time"):
        spent = sorted(line[stage] for line in found["stages"] if stage in line)
        if spent:
            print(f"stage {stage}: median {statistics.median(spent):.3f} s, largest {spent[-1]:.3f} s")
    for problem, row in found["rows"].items():
        for name, text in row["performance"]["conditions"].items():
            if name.startswith(("left_out.", "baselines_drift")):
                print(f"{problem}: {name}: {text}")


def print_repeat(found: dict[str, Any]) -> None:
    print(f"\nrepeat: {len(found['process_seconds'])} of {found['of']} processes, each to its end")
    print(f"{'kernel':<24} {'n':>3} {'median':>8} {'CV':>8}  against")
    spreads = []
    for name, speedups in sorted(found["speedups"].items()):
        if len(speedups) < 2:
            continue
        spreads.append(statistics.stdev(speedups) / statistics.mean(speedups))
        against = ", ".join(sorted(set(found["against"][name])))
        print(f"{name:<24} {len(speedups):>3} {statistics.median(speedups):>8.3f} {spreads[-1]:>8.2%}  {against}")
    if spreads:
        ordered = sorted(spreads)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
        middle = statistics.median(ordered)
        print(f"CV over {len(ordered)} kernels: median {middle:.2%} (bar 1 %), p95 {p95:.2%} (bar 3 %)")


def print_best(found: dict[str, Any]) -> None:
    print()
    for name, result in found.items():
        speedups, again = result["speedups"], result["confirmed"]
        if not speedups:
            print(f"best of equals, {name}: none of {result['of']} judged")
            continue
        confirmed = "not timed" if again is None else f"{again['speedup']:.4f}"
        print(
            f"best of {len(speedups)} equals (of {result['of']}), {name}: raw median {statistics.median(speedups):.4f},"
            f" raw maximum {result['raw_maximum']:.4f}; confirmed in a fresh judge {confirmed} (bar: 0.98 to 1.02)"
        )


class TimingTrust:
    """The parts that were asked for, one after the other."""

    def __init__(self, chosen: argparse.Namespace, budget: Budget) -> None:
        self._chosen, self._budget, self._out = chosen, budget, Path(chosen.out)
        self._found: dict[str, dict[str, Any]] = {}
        self._environment = environment.record()

    def work(self) -> None:
        chosen, out = self._chosen, self._out
        settings = settings_for(out, baselines=tuple(chosen.baselines))
        entries = recorded(settings) if {"table", "repeat"} & set(chosen.parts) else []
        parts = [part for part in PARTS if part in chosen.parts]
        for num_done, part in enumerate(parts):
            until = self._budget.until(1 / (len(parts) - num_done))
            found = self._found.setdefault(part, {})
            if part == "table":
                table_part(entries, settings, found, until=until)
            elif part == "repeat":
                rows = json.loads((out / "table.json").read_text())["rows"]
                winners = [row["candidate"] for row in rows.values()][: chosen.kernels]
                repeat_part(entries, winners, settings, found, chosen.processes, until=until)
            else:
                best_part(out, found, chosen.count, until=until)
            (out / f"{part}.json").write_text(json.dumps(found, indent=1))

    def progress(self) -> str:
        if not self._found:
            return "tracing"
        part, found = list(self._found.items())[-1]
        if part == "best":
            return "best: " + (
                ", ".join(f"{n}: {len(r['speedups'])}" for n, r in list(found.items()) if r) or "tracing"
            )
        done = found.get("judged") if part == "table" else len(found.get("process_seconds", ()))
        return f"{part}: {done} of {found.get('of')}"

    def record(self) -> dict[str, Any]:
        while True:
            try:
                copied: dict[str, Any] = copy.deepcopy(self._found)
                return {"environment": self._environment, **copied}
            except RuntimeError:  # a part has just put down another key
                continue

    def show(self, record: dict[str, Any]) -> None:
        print(json.dumps(record["environment"]))
        for part, tell in (("table", print_table), ("repeat", print_repeat), ("best", print_best)):
            if record.get(part):
                tell(record[part])
            elif part in self._chosen.parts:
                print(f"{part}: not reached")

    def close(self) -> None:
        """Its processes end with this one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS), help="of table, repeat, best; repeat needs table's file")
    parser.add_argument("--processes", type=int, default=8, help="fresh judges for `repeat`")
    parser.add_argument("--kernels", type=int, default=17, help="at most so many kernels in `repeat`")
    parser.add_argument("--count", type=int, default=100, help="equal candidates for `best`")
    parser.add_argument("--baselines", nargs="+", choices=BASELINES, default=BASELINES, help="of table and repeat")
    parser.add_argument("--budget-seconds", type=float, default=580.0, help="of the whole script")
    chosen = parser.parse_args()
    chosen.parts = chosen.parts.split(",")
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}; known: {', '.join(PARTS)}")
    chosen.out = chosen.out.absolute()
    chosen.out.mkdir(parents=True, exist_ok=True)
    budget = Budget(chosen.budget_seconds)
    run_within(budget, TimingTrust(chosen, budget), out=chosen.out / "trust.json")


if __name__ == "__main__":
    main()
