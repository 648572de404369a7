"""Counts what becomes of a folder of answers to KernelBench: as they are, with the restored names, and with rules.

    nice python tests/benchmarks/public_answers.py ANSWERS KERNELBENCH --out RESULTS.jsonl [--gpu 0] [--tracers N]

from the repository's root. ANSWERS holds `level1`, `level2`, ... with one Python file a problem, named as in the
KernelBench checkout. Each answer is judged three times:

- `as_is`: the names that PyTorch 2.7 removed from Inductor's runtime are taken away again before it is imported;
- `restored`: as the judge does it;
- `rules`: if that failed, mended by its findings and judged again, up to four times, as the operator `fix` would.

Nothing is timed. Without a GPU most of KernelBench is too large to check, which counts as `unverified`; there the rules
go on where findings are left, since a GPU would have told of the failure. `--tracers` answers are at work at once, each
with a sandbox of its own; one judge takes their plans in turn. After `--seconds` no further answer is begun. What is in
RESULTS is not judged again, so an interrupted run goes on. Prints Markdown: counts by status, and for each rule how
many answers it was applied to, how many of those got further than before, and how many passed.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox.extract import with_model_alias
from sandbox.judge import Judge, ProblemFailed, open_judge, verdict_of
from sandbox.mend import mended, rules
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Finding, Operator, Problem, Status, Verdict
from sandbox.zygote import SandboxError
from tests.judge_settings import judge_settings

MAX_FIXES = 4
WAYS = ("as_is", "restored", "rules")
PROBLEM_FAILED, JUDGE_FAILED = "problem_failed", "judge_failed"  # no verdict: the problem's fault, or ours
MAX_ATTEMPTS = 2  # at what is our fault
# Takes away what the judge restores, and nothing else.
WITHOUT_NAMES = (
    "import torch._inductor.runtime.triton_heuristics as _heuristics; [delattr(_heuristics, _name) for _name in "
    '("grid", "split_scan_grid", "grid_combo_kernels", "cooperative_reduction_grid") if hasattr(_heuristics, _name)]\n'
)
# How far a candidate got, furthest last.
STAGES = {
    status: stage
    for stage, statuses in enumerate(
        (
            (Status.NO_KERNEL, Status.REJECTED),
            (Status.TRACE_ERROR, Status.UNTRACEABLE, Status.TIMEOUT, Status.OUT_OF_MEMORY),
            (Status.COMPILE_ERROR, Status.LAUNCH_ERROR),
            (Status.WRONG_SHAPE, Status.WRONG_DTYPE, Status.ILLEGAL_ACCESS, Status.WRONG_VALUES, Status.UNVERIFIED),
            (Status.PASSED,),
        )
    )
    for status in statuses
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One answer judged in one way. `rules` were applied before, `labels` and `message` are the last verdict's."""

    answer: str
    way: str
    status: str
    labels: tuple[str, ...]
    rules: tuple[str, ...]
    message: str
    seconds: float


def _outcome(answer: str, way: str, verdict: Verdict, *, start: float, rules: tuple[str, ...] = ()) -> Outcome:
    failure = verdict.failure
    return Outcome(
        answer=answer,
        way=way,
        status=verdict.status.value,
        labels=verdict.labels,
        rules=rules,
        message="" if failure is None else f"{failure.error_class}: {failure.message[:200]}",
        seconds=round(time.monotonic() - start, 3),
    )


def _without_verdict(answer: str, status: str, error: Exception, *, start: float) -> list[Outcome]:
    seconds = round(time.monotonic() - start, 3)
    message = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return [
        Outcome(answer=answer, way=way, status=status, labels=(), rules=(), message=message, seconds=seconds)
        for way in WAYS
    ]


class Bench:
    """`outcomes` may be called by as many threads as there are tracers."""

    def __init__(self, *, gpu: int | None, num_tracers: int) -> None:
        mode = "interpret" if gpu is None else "replay"
        settings = judge_settings(mode=mode, timing_rounds=0)
        self._on_gpu = gpu is not None
        self._tracers = [Tracer(settings) for _ in range(num_tracers)]
        self._idle: queue.SimpleQueue[Tracer] = queue.SimpleQueue()
        for tracer in self._tracers:
            self._idle.put(tracer)
        self._judge: Judge = open_judge(settings, device=gpu)
        self._judging = threading.Lock()

    def outcomes(self, answer: Path, problem: Problem, *, name: str) -> list[Outcome]:
        """One for each way, in their order."""
        source, _ = with_model_alias(answer.read_text(encoding="utf-8", errors="replace"))
        start = time.monotonic()
        tracer = self._idle.get()
        try:
            for number in range(1, MAX_ATTEMPTS + 1):
                try:
                    return self._outcomes(source, problem, name=name, tracer=tracer)
                except SandboxError as error:
                    print(f"{name}: attempt {number}: {error}", file=sys.stderr, flush=True)
                    if number == MAX_ATTEMPTS:
                        return _without_verdict(name, JUDGE_FAILED, error, start=start)
        except ProblemFailed as error:
            return _without_verdict(name, PROBLEM_FAILED, error, start=start)
        finally:
            self._idle.put(tracer)
        raise AssertionError("the last attempt returns")

    def _outcomes(self, source: str, problem: Problem, *, name: str, tracer: Tracer) -> list[Outcome]:
        """Raises SandboxError, ProblemFailed."""
        start = time.monotonic()
        as_is, _ = self._verdict(WITHOUT_NAMES + source, problem, tracer=tracer)
        found = [_outcome(name, "as_is", as_is, start=start)]
        start = time.monotonic()
        verdict, findings = self._verdict(source, problem, tracer=tracer)
        found.append(_outcome(name, "restored", verdict, start=start))
        applied: list[str] = []
        seen = {source}
        while not verdict.passed and len(seen) <= MAX_FIXES and (source := mended(source, findings)) not in seen:
            seen.add(source)
            applied += rules(findings)
            verdict, findings = self._verdict(source, problem, tracer=tracer)
        rest = tuple(dict.fromkeys(applied))
        return [*found, _outcome(name, "rules", verdict, start=start, rules=rest)]

    def _verdict(self, source: str, problem: Problem, *, tracer: Tracer) -> tuple[Verdict, tuple[Finding, ...]]:
        """The verdict, and the findings that go with a failure. Raises SandboxError, ProblemFailed."""
        candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
        traced = tracer.trace(problem, candidate)
        if traced.plan is None:
            verdict = verdict_of(traced)
            return verdict, verdict.findings
        with self._judging:
            verdict = self._judge.judge(problem, candidate, traced)
        too_large = verdict.status is Status.UNVERIFIED and not self._on_gpu
        return verdict, traced.findings if too_large else verdict.findings

    def close(self) -> None:
        for tracer in self._tracers:
            tracer.close()
        self._judge.close()


def pairs(answers: Path, kernelbench: Path) -> Iterator[tuple[str, Path, Problem]]:
    """Each answer whose problem is there, as (name, file, problem)."""
    root = kernelbench / "KernelBench" if (kernelbench / "KernelBench").is_dir() else kernelbench
    for answer in sorted(answers.glob("level*/*.py")):
        file = root / answer.parent.name / answer.name
        if not file.exists():
            print(f"no problem for {answer}", file=sys.stderr)
            continue
        name = f"{answer.parent.name}/{answer.stem}"
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name.replace("/", "_"))
        yield name, answer, Problem(id=safe, source=file.read_text(encoding="utf-8"), origin=name)


def read(out: Path) -> list[Outcome]:
    if not out.exists():
        return []
    raw = (json.loads(line) for line in out.read_text().splitlines())
    return [Outcome(**{**r, "labels": tuple(r["labels"]), "rules": tuple(r["rules"])}) for r in raw]


def table(outcomes: list[Outcome]) -> Iterator[str]:
    levels = sorted({outcome.answer.split("/")[0] for outcome in outcomes})
    for level in (*levels, "level"):
        some = [outcome for outcome in outcomes if outcome.answer.startswith(level)]
        counts = {way: Counter(o.status for o in some if o.way == way) for way in WAYS}
        known = (*(s.value for s in Status), PROBLEM_FAILED, JUDGE_FAILED)
        statuses = [s for s in known if any(c[s] for c in counts.values())]
        yield f"\n{'all' if level == 'level' else level}: {counts['restored'].total()} answers\n"
        yield f"| status | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}"
        for status in statuses:
            yield f"| {status} | {' | '.join(str(counts[way][status]) for way in WAYS)} |"
    before = {o.answer: o for o in outcomes if o.way == "restored"}
    after = [o for o in outcomes if o.way == "rules" and o.rules]
    yield "\n| rule | answers mended | got further | passed |\n|---|---|---|---|"
    for rule in sorted({rule for o in after for rule in o.rules}):
        touched = [o for o in after if rule in o.rules]
        further = sum(STAGES[Status(o.status)] > STAGES[Status(before[o.answer].status)] for o in touched)
        yield f"| {rule} | {len(touched)} | {further} | {sum(o.status == Status.PASSED for o in touched)} |"
    yield f"\n{sum(o.seconds for o in outcomes):.0f} s of answers at work in all"


def judge_all(bench: Bench, todo: Sequence[tuple[str, Path, Problem]], *, arguments: argparse.Namespace) -> None:
    """Writes each answer's outcomes as soon as they are known."""
    until = time.monotonic() + arguments.seconds
    writing = threading.Lock()

    def one(name: str, answer: Path, problem: Problem) -> None:
        if time.monotonic() > until:
            return
        found = bench.outcomes(answer, problem, name=name)
        with writing, arguments.out.open("a") as out:
            out.write("".join(json.dumps(asdict(outcome)) + "\n" for outcome in found))
            print(name, *(outcome.status for outcome in found), flush=True, file=sys.stderr)

    with ThreadPoolExecutor(arguments.tracers) as threads:
        for done in [threads.submit(one, *item) for item in todo]:
            done.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("kernelbench", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpu", type=int, default=None)
    parser.add_argument("--tracers", type=int, default=1)
    parser.add_argument("--limit", type=int, default=None, help="the first N answers only")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then no further answer is begun")
    arguments = parser.parse_args()
    done = {outcome.answer for outcome in read(arguments.out) if outcome.way == WAYS[-1]}
    some = list(pairs(arguments.answers, arguments.kernelbench))[: arguments.limit]
    start = time.monotonic()
    bench = Bench(gpu=arguments.gpu, num_tracers=arguments.tracers)
    try:
        judge_all(bench, [item for item in some if item[0] not in done], arguments=arguments)
    finally:
        bench.close()
    print("\n".join(table(read(arguments.out))))
    print(f"\nthis run took {time.monotonic() - start:.0f} s, with {arguments.tracers} tracers")


if __name__ == "__main__":
    main()
