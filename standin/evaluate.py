"""Evaluates a sampler on generated problems: drafts, one repair of those that failed, and what comes of them.

    python -m standin.evaluate CONFIG.yaml [key=value ...] --out FOLDER [--seeds SPLIT:A..B ...] [--samples N] ...

Any sampler that a run can use, asked with the prompts that a run would write. Everything is judged by interpreting, so
that many are judged at once and no GPU is taken from the model; nothing is timed. What was sampled and judged stands in
FOLDER/samples.jsonl and is not done again. Under `--minutes`, what has begun when they are over is finished, so what is
there is not the shortest answers but the first ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Protocol, get_args

from agent.answer import sampled, seed_of
from agent.config import RunConfig, load_config
from agent.config_section import ConfigError
from agent.controller import Render
from agent.events import Attempt
from agent.pool import PoolError
from agent.prompts import PromptError, PromptTooLong
from agent.run_command import find_problems
from agent.sampler import PromptRefused, Sampler, SampleRequest, SamplerError, SamplerExhausted
from agent.sampler_config import GenerationSection
from agent.sampling import open_prompt_writer, open_sampler
from sandbox import environment
from sandbox.problems import ProblemError
from sandbox.tracer import ProblemFailed
from sandbox.types import Candidate, Observation, Operator, Problem, Proposal, Verdict
from standin.evaluation import RecordError, Sample, SampleFile, SampleKey, evaluation_of, read_samples, to_repair
from standin.evaluation_page import evaluation_page
from standin.judging import ProcessPool
from standin.pairs import Pair, Split, pair, seed_range
from standin.sequences import failed_attempt

SAMPLES_FILE = "samples.jsonl"
TELL_EVERY = 50
DRAFTS_SHARE = 1 / 2  # of the minutes; the rest is for finishing them and for repairs
QUEUED = 2  # answers begun for each that is sampled at a time: the others are being judged

# A problem, how it is asked, the sample's number, and for a repair what failed.
Task = tuple[Problem, Operator, int, Observation | None]


class Judging(Protocol):
    """What gives verdicts: any pool of the agent's."""

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict: ...


class Evaluator:
    """Samples and judges what `file` does not hold yet. At most `slots` answers are asked for at a time.

    `clock` is what deadlines are read on, after which nothing is begun.
    """

    def __init__(
        self,
        *,
        sampler: Sampler,
        pool: Judging,
        render: Render,
        file: SampleFile,
        slots: int,
        seed: int,
        tell: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._sampler = sampler
        self._pool = pool
        self._render = render
        self._file = file
        self._begun = asyncio.Semaphore(QUEUED * slots)
        self._slots = asyncio.Semaphore(slots)
        self._seed = seed
        self._tell = tell
        self._clock = clock

    async def draft(self, problems: Iterable[Problem], *, num_drafts: int, deadline: float = math.inf) -> None:
        """Raises SamplerError or PoolError; what was done by then is kept. A problem that cannot be judged is told."""
        tasks = ((problem, Operator.DRAFT, number, None) for problem in problems for number in range(num_drafts))
        await self._all(tasks, deadline=deadline)

    async def repair(
        self,
        problems: Iterable[Problem],
        *,
        num_drafts: int,
        most: int,
        deadline: float = math.inf,
        only: Collection[SampleKey] | None = None,
    ) -> None:
        """One repair of each of a problem's `most` drafts, chosen by lot, that failed; or of those of which a repair
        has a key in `only`. Raises as `draft`."""
        tasks: list[Task] = []
        for problem in problems:
            known = (self._file.samples.get((problem.id, Operator.DRAFT, number)) for number in range(num_drafts))
            drafts = [draft for draft in known if draft is not None]
            failed = to_repair(drafts, most=most, seed=self._seed)
            if only is not None:
                failed = [draft for draft in drafts if (problem.id, Operator.REPAIR, draft.number) in only]
            tasks += [
                (problem, Operator.REPAIR, d.number, failed_attempt(d.source, problem=problem, feedback=d.feedback))
                for d in failed
            ]
        await self._all(tasks, deadline=deadline)

    async def _all(self, tasks: Iterable[Task], *, deadline: float) -> None:
        wanted = [task for task in tasks if (task[0].id, task[1], task[2]) not in self._file.samples]
        num_done = 0

        async def do(task: Task) -> None:
            nonlocal num_done
            async with self._begun:
                if self._clock() >= deadline:
                    return
                await self._one(*task)
            num_done += 1
            if num_done % TELL_EVERY == 0 or num_done == len(wanted):
                self._tell(f"{num_done}/{len(wanted)} {task[1]}s")

        async with asyncio.TaskGroup() as group:
            for task in wanted:
                group.create_task(do(task))
        if num_done < len(wanted):
            self._tell(f"out of time after {num_done} of {len(wanted)}")

    async def _one(self, problem: Problem, operator: Operator, number: int, failed: Observation | None) -> None:
        parents = () if failed is None else (failed,)
        ids = tuple(parent.candidate.id for parent in parents)
        proposal = Proposal(id=f"{operator}-{number}", operator=operator, parents=ids)
        try:
            request = SampleRequest(
                problem=problem,
                proposal=proposal,
                ordinal=number,
                prompt=self._render(problem, proposal, parents),
                parents=tuple(parent.candidate for parent in parents),
                seed=seed_of(self._seed, problem.id, proposal.id),
            )
            async with self._slots:
                completion = await self._sampler.sample(request)
        except (PromptTooLong, PromptRefused, SamplerExhausted) as error:
            self._tell(f"{problem.id}, {proposal.id}: no answer: {error}")
            return
        answer = sampled(request, completion=completion, attempt=Attempt(epoch=1, number=1))
        try:
            verdict = await self._pool.judge(problem, answer.candidate)
        except ProblemFailed as error:
            self._tell(f"{problem.id}: cannot be judged: {error}")
            return
        self._file.add(
            Sample(
                problem=problem.id,
                operator=operator,
                number=number,
                status=verdict.status,
                truncated=answer.candidate.truncated,
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
                finish_reason=completion.finish_reason,
                completion=completion.text,
                source=answer.candidate.source,
                feedback=verdict.feedback,
            )
        )


def problems_of(seeds: Iterable[tuple[Split, range]]) -> list[Problem]:
    """The problems of those pairs, each once, the splits in turn: whatever time allows, all are reached alike."""
    in_turn = (made for turn in zip_longest(*(_pairs(split, each) for split, each in seeds)) for made in turn if made)
    sources = {made.problem: name_of(made) for made in in_turn}
    return [Problem(id=name, source=source, origin="standin") for source, name in sources.items()]


def _pairs(split: Split, seeds: range) -> Iterator[Pair]:
    return (pair(seed, split=split) for seed in seeds)


def name_of(made: Pair) -> str:
    """What its problem is called; where several pairs have one problem, the last one's name is used."""
    return f"{made.split}_{made.family}_{made.seed}"


def split_and_seeds(text: str) -> tuple[Split, range]:
    """`SPLIT:A..B`. Raises ValueError."""
    for split in get_args(Split):
        if text.startswith(f"{split}:"):
            return split, seed_range(text.partition(":")[2])
    raise ValueError(f"{text!r} names none of {', '.join(get_args(Split))}")


async def evaluate(config: RunConfig, *, problems: Sequence[Problem], options: argparse.Namespace) -> None:
    """Raises SamplerError or what judging raises, with what was done kept."""
    started, seconds = time.monotonic(), 60 * options.minutes
    file = SampleFile(options.out / SAMPLES_FILE)
    settings = config.judge.model_copy(update={"mode": "interpret"}).settings(config.seed, gpu_available=False)
    pool = ProcessPool(settings, workers=options.judges)
    try:
        sampler = open_sampler(config)
        try:
            evaluator = Evaluator(
                sampler=sampler,
                pool=pool,
                render=open_prompt_writer(config.sampler, engine=config.engine).render,
                file=file,
                slots=config.sampler.concurrency,
                seed=config.seed,
                tell=lambda line: print(line, file=sys.stderr, flush=True),
                clock=time.monotonic,
            )
            drafted, only = started + seconds * (DRAFTS_SHARE if options.repairs else 1), None
            if options.after is None:
                await evaluator.draft(problems, num_drafts=options.samples, deadline=drafted)
            else:
                only = take_drafts(options.after, file)
            await evaluator.repair(
                problems, num_drafts=options.samples, most=options.repairs, deadline=started + seconds, only=only
            )
        finally:
            await sampler.close()
    finally:
        await pool.close()
        file.close()


def take_drafts(folder: Path, file: SampleFile) -> set[SampleKey]:
    """Puts the drafts of another evaluation into `file`; the keys of its repairs. Raises RecordError."""
    samples = read_samples(folder / SAMPLES_FILE)
    for key, sample in samples.items():
        if sample.operator is Operator.DRAFT and key not in file.samples:
            file.add(sample)
    return {key for key in samples if key[1] is Operator.REPAIR}


def conclude(config: RunConfig, *, problems: Sequence[Problem], options: argparse.Namespace) -> None:
    """Writes and shows the figures. Raises RecordError."""
    samples = read_samples(options.out / SAMPLES_FILE)
    groups = {problem.id: split_of(problem.id) for problem in problems}
    evaluation = evaluation_of(samples.values(), groups=groups, num_drafts=options.samples, seed=config.seed)
    (options.out / "evaluation.json").write_text(json.dumps(asdict(evaluation), indent=2) + "\n", encoding="utf-8")
    page = f"{conditions(config)}\n\n{evaluation_page(evaluation)}"
    (options.out / "evaluation.md").write_text(page, encoding="utf-8")
    print(page)


def split_of(name: str) -> str:
    """Of a generated problem by its name; others have none."""
    return next((split for split in get_args(Split) if name.startswith(f"{split}_")), "given")


def conditions(config: RunConfig) -> str:
    """What the answers were drawn with, in one line."""
    asked = config.sampler
    if not isinstance(asked, GenerationSection):
        return f"Sampler {asked.kind}, seed {config.seed}."
    at = ", ".join(f"{asked.temperature_of(each)} for {each}s" for each in (Operator.DRAFT, Operator.REPAIR))
    return f"Temperature {at}, top-p {asked.top_p}, at most {asked.max_tokens} tokens, seed {config.seed}."


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m standin.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path, help="a run configuration: its sampler, judge and seed are used")
    parser.add_argument("overrides", nargs="*", help="key=value, as for kernelloop run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--seeds", type=split_and_seeds, nargs="+", default=[],
        help="SPLIT:A..B, problems that the generator makes of those seeds; else the configuration's problems",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=16, help="drafts of each problem")
    parser.add_argument(
        "--repairs", type=int, default=3, help="drafts of each problem that are repaired if they failed"
    )
    parser.add_argument(
        "--after", type=Path, help="an evaluation whose drafts are taken, and of which the same drafts are repaired"
    )
    parser.add_argument("--judges", type=int, default=environment.num_cores(), help="processes that judge")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no answer is begun")
    return parser.parse_intermixed_args()


def main() -> None:
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        config = load_config(options.config, options.overrides)
        problems = problems_of(options.seeds) if options.seeds else find_problems(config.problems)
        run(config, problems=problems, options=options)
        conclude(config, problems=problems, options=options)
    except (ConfigError, PromptError, ProblemError, RecordError) as error:
        raise SystemExit(f"evaluate: {error}") from error


def run(config: RunConfig, *, problems: Sequence[Problem], options: argparse.Namespace) -> None:
    """Ends with a line where a model or a machine gives out; the same command then goes on."""
    try:
        asyncio.run(evaluate(config, problems=problems, options=options))
    except* (SamplerError, PoolError) as group:
        raise SystemExit(f"evaluate: {group.exceptions[0]}; run it again to go on") from group


if __name__ == "__main__":
    main()
