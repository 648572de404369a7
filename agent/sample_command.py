"""The command `sample`: asks a configuration's model for drafts of one problem and shows them. Nothing is judged.

Knows nothing of how a sampler works. Seeds and prompts are those of a run's drafts in kind, not one by one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from agent.answer import seed_of
from agent.checkpoint import CheckpointError, locate, read_checkpoint
from agent.config import RunConfig, config_of, load_config
from agent.config_section import ConfigError
from agent.sampler import (
    Completion,
    PromptRefused,
    Sampler,
    SampleRequest,
    SamplerExhausted,
    SamplerRefused,
    SlowToStart,
)
from agent.sampler_config import LocalModelSection
from agent.sampling import check_engines, check_sampler, open_prompt_writer, open_sampler
from agent.waiting import Waiting, interrupts_told
from agent.wording import printable
from sandbox import strict_json
from sandbox.extract import extract
from sandbox.problems import ProblemError, load_problems
from sandbox.types import Operator, Problem, Proposal

MAX_ANSWER_TOKENS = 2048
NUM_NAMED = 3  # of the problems in a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One of the answers asked for; `completion` None says why in `refusal`."""

    number: int
    seed: int
    completion: Completion | None
    refusal: str | None


def sample(
    problem_path: Path,
    *,
    num_answers: int,
    config_path: Path | None,
    model: str | None,
    overrides: list[str],
    as_json: bool,
) -> int:
    """0 if there was any answer. Raises the errors of whatever is not usable."""
    problem = one_problem(problem_path)
    config = sampling_config(problem_path, config_path=config_path, model=model, overrides=overrides)
    try:
        check_engines(config, replaying=False)
        check_sampler(config.sampler, engine=config.engine)
        writer = open_prompt_writer(config.sampler, engine=config.engine)
    except (ConfigError, SamplerRefused, CheckpointError) as error:
        if config_path is None:
            raise
        raise type(error)(f"{config_path}: {error}") from error
    prompt = writer.render(problem, proposal(0), ())
    console = Console(soft_wrap=True)
    answers = asyncio.run(show_all(problem, prompt=prompt, num_answers=num_answers, config=config, console=console,
                                   as_json=as_json))  # fmt: skip
    return 0 if answers else 1


def one_problem(path: Path) -> Problem:
    """Raises ProblemError."""
    first, *more = load_problems(path)
    if more:
        names = ", ".join(Path(problem.origin).name for problem in (first, *more)[:NUM_NAMED])
        rest = f" and {len(more) + 1 - NUM_NAMED} more" if len(more) >= NUM_NAMED else ""
        raise ProblemError(f"{path}: holds {len(more) + 1} problems, and sample takes one: {names}{rest}")
    return first


def sampling_config(
    problem_path: Path, *, config_path: Path | None, model: str | None, overrides: list[str]
) -> RunConfig:
    """The run configuration for one problem: a file's, or one with nothing but a checkpoint in this process."""
    if (config_path is None) == (model is None):
        raise ConfigError("sample: give either --config CONFIG.yaml or --model FOLDER")
    if config_path is not None:
        return load_config(config_path, [f"problems={json.dumps(str(problem_path))}", *overrides])
    assert model is not None
    folder = locate(model)
    max_tokens = min(MAX_ANSWER_TOKENS, read_checkpoint(folder).context_tokens // 2)
    sampler = {"kind": "transformers", "model": str(folder), "max_tokens": max_tokens}
    return config_of({"problems": str(problem_path), "sampler": sampler}, path=folder, overrides=overrides)


def proposal(number: int) -> Proposal:
    return Proposal(id=f"sample-{number}", operator=Operator.DRAFT, parents=())


async def show_all(
    problem: Problem, *, prompt: str, num_answers: int, config: RunConfig, console: Console, as_json: bool
) -> int:
    """Shows answers as they come, then what came of them. Gives how many there were."""
    with interrupts_told():
        sampler = open_sampler(config)
        try:
            if isinstance(sampler, SlowToStart):
                await loaded(sampler, config=config)
            print(f"asking for {num_answers} answer(s) ...", file=sys.stderr, flush=True)
            began_at = time.monotonic()
            requests = [
                SampleRequest(
                    problem=problem, proposal=proposal(number), ordinal=number, prompt=prompt, parents=(),
                    seed=seed_of(config.seed, problem.id, f"sample {number}"),
                )
                for number in range(num_answers)
            ]  # fmt: skip
            answers = answers_to(requests, sampler=sampler, at_once=config.sampler.concurrency)
            shown = await show_each(answers, num_asked=num_answers, console=console, as_json=as_json)
            seconds = time.monotonic() - began_at
        finally:
            await sampler.close()
    completions = [answer.completion for answer in shown if answer.completion is not None]
    conclude(completions, num_asked=num_answers, seconds=seconds, console=console, as_json=as_json)
    return len(completions)


async def loaded(sampler: SlowToStart, *, config: RunConfig) -> None:
    some = "some minutes" if config.sampler.kind == "vllm" else "some seconds"
    print(f"loading {printable(model_of(config))}, {some} ...", file=sys.stderr, flush=True)
    with Waiting("loading"):
        await sampler.wait_until_up()


async def show_each(
    answers: AsyncGenerator[Answer, None], *, num_asked: int, console: Console, as_json: bool
) -> list[Answer]:
    shown: list[Answer] = []
    async with aclosing(answers):
        while True:
            with Waiting(f"{len(shown)} of {num_asked} answers"):
                answer = await anext(answers, None)
            if answer is None:
                return shown
            shown.append(answer)
            show(answer, console=console, as_json=as_json)


def model_of(config: RunConfig) -> str:
    return config.sampler.model if isinstance(config.sampler, LocalModelSection) else config.sampler.kind


async def answers_to(requests: list[SampleRequest], *, sampler: Sampler, at_once: int) -> AsyncGenerator[Answer, None]:
    """In the order in which they come. Who stops listening cancels the rest. Raises SamplerError."""
    free = asyncio.Semaphore(at_once)

    async def answer(request: SampleRequest) -> Answer:
        async with free:
            try:
                completion = await sampler.sample(request)
            except (PromptRefused, SamplerExhausted) as error:
                return Answer(number=request.ordinal, seed=request.seed, completion=None, refusal=str(error))
        return Answer(number=request.ordinal, seed=request.seed, completion=completion, refusal=None)

    tasks = [asyncio.create_task(answer(request)) for request in requests]
    try:
        for finished in asyncio.as_completed(tasks):
            yield await finished
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def show(answer: Answer, *, console: Console, as_json: bool) -> None:
    if as_json:
        print(strict_json.dumps({"event": "completion", **asdict(answer)}), flush=True)
        return
    completion = answer.completion
    if completion is None:
        console.rule(f"{answer.number}  no answer")
        console.print(printable(answer.refusal or ""), markup=False, highlight=False)
        return
    ended = completion.finish_reason or "no finish reason"
    console.rule(f"{answer.number}  {completion.completion_tokens} tokens, {ended}, seed {answer.seed}")
    for line in completion.text.splitlines():
        console.print(printable(line), markup=False, highlight=False)


def conclude(completions: list[Completion], *, num_asked: int, seconds: float, console: Console, as_json: bool) -> None:
    facts = summary(completions, num_asked=num_asked, seconds=seconds)
    if as_json:
        print(strict_json.dumps({"event": "summary", **facts}), flush=True)
        return
    console.rule()
    estimated = " (estimated)" if facts["tokens_estimated"] else ""
    console.print(
        f"{facts['answers']} of {num_asked} answers, {facts['with_code']} with code, {facts['truncated']} cut off; "
        f"{facts['completion_tokens']} tokens{estimated} in {seconds:.1f} s: {facts['tokens_per_second']:.0f} tokens/s",
        markup=False, highlight=False,
    )  # fmt: skip


def summary(completions: list[Completion], *, num_asked: int, seconds: float) -> dict[str, Any]:
    """The rate is over the time from the first request to the last answer; loading a model is not in it."""
    extractions = [extract(completion.text, finish_reason=completion.finish_reason) for completion in completions]
    num_tokens = sum(completion.completion_tokens for completion in completions)
    return {
        "asked": num_asked,
        "answers": len(completions),
        "with_code": sum(extraction.source is not None for extraction in extractions),
        "truncated": sum(extraction.truncated for extraction in extractions),
        "prompt_tokens": sum(completion.prompt_tokens for completion in completions),
        "completion_tokens": num_tokens,
        "tokens_estimated": any(completion.tokens_estimated for completion in completions),
        "seconds": seconds,
        "tokens_per_second": num_tokens / seconds,
    }
