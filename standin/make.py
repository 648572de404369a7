"""Makes verified examples: generates pairs, judges each, breaks some and judges those too.

    python -m standin.make --split train --count 3000 --out FOLDER --workers 2

Writes shards of JSON lines, each whole or absent, so a run that was killed goes on where it stopped. What is in a shard
depends on nothing but the split, its seeds and the source: not on the number of workers, and not on the machine but for
its versions of torch and Triton.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import get_args

import sandbox
from sandbox.tracer import ProblemFailed
from sandbox.types import Status, content_hash
from sandbox.zygote import SandboxError
from standin.breaking import broken_further
from standin.examples import Example, draft_of, repair_of, write_examples
from standin.pairs import Pair, Split, composition, pair
from standin.tally import Refusal, Tally, added, read_tally, summary, write_tally
from standin.verify import close_opened, opened

SHARD_SEEDS = 10  # some seconds of a core, to lose or to wait for
_ATTEMPTS = 3  # at a shard, where the sandbox fails
_GENERATOR = (
    "answer_text.py", "breaking.py", "naming.py", "operations.py", "pairs.py", "problem_text.py", "row_kernels.py",
    "row_kinds.py", "shapes.py", "slips.py", "verify.py", "words.py",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made. `repairs` is how often a pair is broken as well, on average."""

    split: Split
    out: Path
    repairs: float


class StaleShard(ValueError):
    """A folder holds what another version made: the user's to settle. One line."""


def make_shard(first: int, *, order: Order) -> Tally:
    """Makes the shard that starts with seed `first`, or reads the tally of one that is there.

    Raises StaleShard, or SandboxError where the sandbox fails again and again.
    """
    shard, tally_file = shard_path(order, first), shard_path(order, first).with_suffix(".json")
    made_by = fingerprint(order)
    if shard.exists():
        tally = read_tally(tally_file)
        if tally.made_by != made_by:
            raise StaleShard(
                f"{shard}: was made by another generator, judge or share of repairs; choose another folder"
            )
        return tally
    for attempt in range(_ATTEMPTS):
        try:
            examples, tally = _made(range(first, first + SHARD_SEEDS), order=order)
            break
        except SandboxError:
            close_opened()
            if attempt == _ATTEMPTS - 1:
                raise
    tally.made_by = made_by
    write_tally(tally, tally_file)
    part = shard.with_suffix(".part")
    write_examples(examples, part)
    os.replace(part, shard)  # last: a shard that is there is whole, and so is its tally
    return tally


@cache
def fingerprint(order: Order) -> str:
    """Tells generators and judges, whose words are in the examples, apart: what is mixed in one folder would be
    reproducible by none."""
    folder = Path(__file__).parent
    files = [folder / name for name in _GENERATOR] + sorted((folder / "families").glob("*.py"))
    files += sorted(Path(sandbox.__file__).parent.glob("*.py"))
    return content_hash(str(order.repairs), *(file.read_text(encoding="utf-8") for file in files))[:16]


def shard_path(order: Order, first: int) -> Path:
    return order.out / f"{order.split}-{first:09d}.jsonl"


def _made(seeds: Sequence[int], *, order: Order) -> tuple[list[Example], Tally]:
    examples: list[Example] = []
    tally = Tally()
    start = time.monotonic()
    seen: set[tuple[str, str]] = set()
    for seed in seeds:
        made = pair(seed, split=order.split)
        if (made.problem, made.answer) in seen:  # answers to one problem may come out alike
            tally.repeated += 1
            continue
        seen.add((made.problem, made.answer))
        if not _verified(made, tally):
            continue
        examples.append(draft_of(made))
        whole, rest = divmod(order.repairs, 1)
        count = int(whole) + (Random(f"repair {order.split} {seed}").random() < rest)
        examples += [repair for number in range(count) for repair in _repairs(made, tally, number=number)]
    tally.wall_seconds = time.monotonic() - start
    return examples, tally


def _verified(made: Pair, tally: Tally) -> bool:
    """Whether our judge passes the pair; anything else is a fault of the generator, and is noted as such."""
    try:
        verdict = opened().verdict(made.problem, made.answer)
    except ProblemFailed as error:
        status, told = "problem", str(error)
    else:
        tally.time(verdict.stage_seconds)
        if verdict.passed and verdict.labels[0] == "triton":
            tally.verified[made.family] += 1
            return True
        status, told = str(verdict.status), verdict.feedback or ", ".join(verdict.labels)
    where = composition(made.seed, split=made.split)
    tally.refused.append(Refusal(seed=made.seed, family=made.family, status=status, composition=where, told=told[:500]))
    return False


def _repairs(made: Pair, tally: Tally, *, number: int) -> Iterator[Example]:
    """The pair as a repair, if its broken answer of that number fails."""
    slip = broken_further(made, seed=number)
    verdict = opened().verdict(made.problem, slip.source)
    tally.time(verdict.stage_seconds)
    tally.broken[f"{slip.name}: {verdict.status}"] += 1
    if verdict.status not in (Status.PASSED, Status.UNVERIFIED):
        yield repair_of(made, attempt=slip.source, feedback=verdict.feedback)


def make(firsts: Sequence[int], *, order: Order, workers: int, deadline: float = math.inf) -> Iterator[Tally]:
    """Makes the shards that start with those seeds, in any order, and gives their tallies as they come. After
    `deadline`, on the clock that all processes of a machine share, none is begun."""
    work = partial(_made_in_time, order=order, deadline=deadline)
    if workers == 1:
        yield from filter(None, map(work, firsts))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(work, first) for first in firsts]):
            if (tally := done.result()) is not None:
                yield tally


def _made_in_time(first: int, *, order: Order, deadline: float) -> Tally | None:
    return make_shard(first, order=order) if time.monotonic() < deadline else None


def _told(firsts: Sequence[int], *, order: Order, workers: int, deadline: float) -> Tally:
    """Makes the shards and tells how far it is, on a terminal as a bar, else in a line now and then."""
    total, done, start, shown = Tally(), 0, time.monotonic(), 0.0
    tallies = make(firsts, order=order, workers=workers, deadline=deadline)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        tallies = iter(track(tallies, "making examples", total=len(firsts), console=Console(stderr=True)))
    for tally in tallies:
        total, done = added(total, tally), done + 1
        if not sys.stderr.isatty() and (time.monotonic() - start - shown > 10 or done == len(firsts)):
            shown = time.monotonic() - start
            print(f"{done} of {len(firsts)} shards, {shown:.0f} s, {total.line()}", file=sys.stderr, flush=True)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin.make", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--split", choices=get_args(Split), required=True)
    parser.add_argument(
        "--count", type=int, required=True, help=f"seeds, at most; rounded up to whole shards of {SHARD_SEEDS}"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="the first seed, rounded down to a whole shard")
    parser.add_argument("--repairs", type=float, default=0.5, help="broken answers of each pair, on average")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no shard is begun")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    order = Order(split=options.split, out=options.out, repairs=options.repairs)
    first = options.start - options.start % SHARD_SEEDS
    firsts = range(first, first + options.count, SHARD_SEEDS)
    start = time.monotonic()
    try:
        deadline = start + 60 * options.minutes
        total = _told(firsts, order=order, workers=options.workers, deadline=deadline)
    except StaleShard as error:
        raise SystemExit(f"make: {error}") from error
    print(summary(total, elapsed_seconds=time.monotonic() - start))
    close_opened()
    (options.out / f"{options.split}-summary.txt").write_text(summary(total, elapsed_seconds=None), encoding="utf-8")
    raise SystemExit(1 if total.refused else 0)


if __name__ == "__main__":
    main()
