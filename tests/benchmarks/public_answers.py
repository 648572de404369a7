"""Counts what becomes of a folder of answers to KernelBench: as they are, with the restored names, and with rules.

`nice python tests/benchmarks/public_answers.py ANSWERS KERNELBENCH --out RESULTS.jsonl [--gpu 0] [--limit N]` from the
repository's root. ANSWERS holds `level1`, `level2`, ... with one Python file a problem, named as in the KernelBench
checkout. Each answer is judged three times:

- `as_is`: the names that PyTorch 2.7 removed from Inductor's runtime are taken away again before it is imported;
- `restored`: as the judge does it;
- `rules`: if that failed, mended by its findings and judged again, up to four times, as the operator `fix` would.

Nothing is timed. Without a GPU most of KernelBench is too large to check, which counts as `unverified`; there the rules
go on where findings are left, since a GPU would have told of the failure. What is in RESULTS is not judged again, so an
interrupted run goes on. Prints Markdown: counts by status, and for each rule how many answers it was applied to, how
many of those got further than before, and how many passed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox.extract import with_model_alias
from sandbox.judge import Judge, ProblemFailed, open_judge
from sandbox.mend import mended, rules
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Finding, Operator, Problem, Status, Verdict
from tests.judge_settings import judge_settings

MAX_FIXES = 4
WAYS = ("as_is", "restored", "rules")
PROBLEM_FAILED = "problem_failed"
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


def _outcome(answer: str, way: str, verdict: Verdict | None, *, start: float, rules: tuple[str, ...] = ()) -> Outcome:
    failure = None if verdict is None else verdict.failure
    return Outcome(
        answer=answer,
        way=way,
        status=PROBLEM_FAILED if verdict is None else verdict.status.value,
        labels=() if verdict is None else verdict.labels,
        rules=rules,
        message="" if failure is None else f"{failure.error_class}: {failure.message[:200]}",
        seconds=round(time.monotonic() - start, 3),
    )


class Bench:
    def __init__(self, *, gpu: int | None) -> None:
        mode = "interpret" if gpu is None else "replay"
        settings = judge_settings(mode=mode, timing_rounds=0)
        self._on_gpu = gpu is not None
        self._tracer = Tracer(settings)
        self._judge: Judge = open_judge(settings, device=gpu)

    def outcomes(self, answer: Path, problem: Problem, *, name: str) -> list[Outcome]:
        """One for each way, in their order."""
        source, _ = with_model_alias(answer.read_text(encoding="utf-8", errors="replace"))
        start = time.monotonic()
        try:
            as_is, _ = self._verdict(WITHOUT_NAMES + source, problem)
            found = [_outcome(name, "as_is", as_is, start=start)]
            start = time.monotonic()
            verdict, findings = self._verdict(source, problem)
            found.append(_outcome(name, "restored", verdict, start=start))
            applied: list[str] = []
            seen = {source}
            while not verdict.passed and len(seen) <= MAX_FIXES and (source := mended(source, findings)) not in seen:
                seen.add(source)
                applied += rules(findings)
                verdict, findings = self._verdict(source, problem)
            rest = tuple(dict.fromkeys(applied))
            return [*found, _outcome(name, "rules", verdict, start=start, rules=rest)]
        except ProblemFailed:
            return [_outcome(name, way, None, start=start) for way in WAYS]

    def _verdict(self, source: str, problem: Problem) -> tuple[Verdict, tuple[Finding, ...]]:
        """The verdict, and the findings that a failure of this candidate goes with."""
        candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
        traced = self._tracer.trace(problem, candidate)
        verdict = self._judge.judge(problem, candidate, traced)
        too_large = verdict.status is Status.UNVERIFIED and not self._on_gpu
        return verdict, traced.findings if too_large else verdict.findings

    def close(self) -> None:
        self._tracer.close()
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
        statuses = [s for s in (*(s.value for s in Status), PROBLEM_FAILED) if any(c[s] for c in counts.values())]
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
    yield f"\n{sum(o.seconds for o in outcomes):.0f} s in all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("kernelbench", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpu", type=int, default=None)
    parser.add_argument("--limit", type=int, default=None, help="the first N answers only")
    arguments = parser.parse_args()
    done = {outcome.answer for outcome in read(arguments.out) if outcome.way == WAYS[-1]}
    bench = Bench(gpu=arguments.gpu)
    try:
        for name, answer, problem in list(pairs(arguments.answers, arguments.kernelbench))[: arguments.limit]:
            if name in done:
                continue
            found = bench.outcomes(answer, problem, name=name)
            with arguments.out.open("a") as out:
                out.write("".join(json.dumps(asdict(outcome)) + "\n" for outcome in found))
            print(name, *(outcome.status for outcome in found), flush=True, file=sys.stderr)
    finally:
        bench.close()
    print("\n".join(table(read(arguments.out))))


if __name__ == "__main__":
    main()
