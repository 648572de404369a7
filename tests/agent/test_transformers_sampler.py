"""The sampler in this process beyond what all samplers keep to: models that will not load or break, closing, room."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.checkpoint import CheckpointError
from agent.config import ConfigError
from agent.engine_config import EngineConfig
from agent.prompts import PromptTooLong
from agent.sampler import Completion, SampleRequest, SamplerError, SamplerRefused
from agent.sampler_config import TransformersSamplerConfig
from agent.sampling import check_sampler, open_prompt_writer
from agent.transformers_sampler import TransformersSampler, default_threads
from sandbox.types import Operator, Problem, Proposal

PROBLEM = Problem(id="p", source="class Model: pass\n", origin="test")


def config(folder: Path, **options: Any) -> TransformersSamplerConfig:
    defaults: dict[str, Any] = {"device": "cpu", "max_tokens": 16, "threads": 1, "batch_size": 2}
    return TransformersSamplerConfig(kind="transformers", model=str(folder), **{**defaults, **options})


def request(seed: int, prompt: str = "import torch") -> SampleRequest:
    proposal = Proposal(id="d", operator=Operator.DRAFT, parents=())
    return SampleRequest(problem=PROBLEM, proposal=proposal, ordinal=0, prompt=prompt, parents=(), seed=seed)


async def sampled(sampler: TransformersSampler, *seeds: int) -> list[Any]:
    try:
        return await asyncio.gather(*(sampler.sample(request(seed)) for seed in seeds), return_exceptions=True)
    finally:
        await sampler.close()


def test_weights_that_do_not_load_are_the_users_to_mend_and_told_to_all(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"not weights")

    async def work() -> None:
        sampler = TransformersSampler(config(folder))
        with pytest.raises(SamplerRefused, match=f"sampler.model: {folder}"):
            await sampler.wait_until_up()
        refused = await sampled(sampler, 1, 2, 3)
        assert all(isinstance(outcome, SamplerRefused) and "\n" not in str(outcome) for outcome in refused)

    asyncio.run(work())


class ScriptedDecoder:
    """Has one place and an answer of one token; `fault` is raised instead."""

    num_free = 1
    device = "cpu"

    def __init__(self, fault: Callable[[], Exception] | None = None) -> None:
        self._fault = fault

    def use_threads(self, number: int) -> int:
        return number

    def begin(self, order: object) -> Any:
        if self._fault is not None:
            raise self._fault()
        raise AssertionError("not reached")

    def step(self) -> list[Any]:
        return []

    def end(self, row: object) -> None:
        return None


def test_a_model_that_breaks_is_our_fault_and_is_told_to_all(tiny_checkpoint: Path) -> None:
    def broken() -> Any:
        return ScriptedDecoder(fault=lambda: RuntimeError("out of\nmemory"))

    outcomes = asyncio.run(sampled(TransformersSampler(config(tiny_checkpoint), load=broken), 1, 2, 3))
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert isinstance(outcome, SamplerError)
        assert not isinstance(outcome, SamplerRefused)
        assert "RuntimeError: out of memory" in str(outcome)


def test_closing_tells_those_who_still_wait_and_refuses_those_who_come_later(tiny_checkpoint: Path) -> None:
    may_load = threading.Event()

    def slow() -> Any:
        may_load.wait(60)
        return ScriptedDecoder()

    async def work() -> None:
        sampler = TransformersSampler(config(tiny_checkpoint), load=slow)
        waiting = [asyncio.create_task(sampler.sample(request(seed))) for seed in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(sampler.close())
        await asyncio.sleep(0)
        may_load.set()
        await closing
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == [f"{tiny_checkpoint}: the sampler is closed"] * 5
        with pytest.raises(SamplerError, match="closed"):
            await sampler.sample(request(9))

    asyncio.run(work())


def test_closing_breaks_off_what_is_being_loaded(tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    loading = threading.Event()

    def load() -> Any:
        loading.set()
        while True:
            time.sleep(0.001)

    async def work(*, leave: bool) -> None:
        sampler = TransformersSampler(config(tiny_checkpoint), load=load)
        waiting = asyncio.create_task(sampler.wait_until_up())
        assert await asyncio.to_thread(loading.wait, 60)
        if leave:
            waiting.cancel()
        await sampler.close()
        with pytest.raises(asyncio.CancelledError if leave else SamplerError):
            await waiting

    asyncio.run(work(leave=False))
    asyncio.run(work(leave=True))
    gc.collect()  # which is when asyncio speaks of errors that nobody took
    assert not caplog.records


def test_the_loop_stays_live_while_the_model_works(tiny_checkpoint: Path) -> None:
    async def work() -> int:
        sampler = TransformersSampler(config(tiny_checkpoint))
        task = asyncio.create_task(sampled(sampler, *range(12)))
        num_turns = 0
        while not task.done():
            await asyncio.sleep(0.001)
            num_turns += 1
        assert all(isinstance(outcome, Completion) for outcome in await task)
        return num_turns

    assert asyncio.run(work()) >= 3


def test_prompt_and_answer_must_fit_the_context_together(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.max_tokens: 512 leaves no room .* 512 tokens"):
        check_sampler(config(tiny_checkpoint, max_tokens=512), engine=EngineConfig())
    with pytest.raises(ConfigError, match=r"sampler\.prompt_tokens: 400 and max_tokens 200 are more than the 512"):
        check_sampler(config(tiny_checkpoint, max_tokens=200, prompt_tokens=400), engine=EngineConfig())
    check_sampler(config(tiny_checkpoint), engine=EngineConfig())
    with pytest.raises(CheckpointError, match="neither a folder"):
        check_sampler(config(tiny_checkpoint / "not there"), engine=EngineConfig())


def test_prompts_are_limited_by_the_context_less_the_answer(tiny_checkpoint: Path) -> None:
    draft = Proposal(id="d", operator=Operator.DRAFT, parents=())
    prompt = open_prompt_writer(config(tiny_checkpoint), engine=EngineConfig()).render(PROBLEM, draft, ())
    assert prompt == "\n<|begin_of_text|>Rewrite this module:\nclass Model: pass\nThe answer:\n"
    with pytest.raises(PromptTooLong, match="the limit is 20"):
        open_prompt_writer(config(tiny_checkpoint, prompt_tokens=20), engine=EngineConfig()).render(PROBLEM, draft, ())


def test_judges_keep_a_core_where_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (8, 4)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert default_threads() == threads
