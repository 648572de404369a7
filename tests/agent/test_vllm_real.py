"""Real vLLM with a tiny model of random weights: under Ray, killed in mid-request, and behind `vllm serve`.

Each engine takes the better part of a minute to start, so there are two in all. KERNELLOOP_VLLM_PYTHON names the
interpreter that has vLLM where this one has not; tests/vllm_environment.sh makes one for a CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.engine_config import EngineConfig
from agent.gpu_lease import GpuLease
from agent.http_sampler import HttpSampler
from agent.sampler import Completion, PromptRefused, Sampler, SampleRequest
from agent.sampler_config import HttpSamplerConfig, VllmSamplerConfig
from agent.vllm_engine import children_of
from sandbox.types import Operator, Problem, Proposal
from tests.llama_folder import TINY, make_folder
from tests.served_model import served
from tests.shared_engine import CPU, PYTHON, end_shared_engines
from tests.small_run import NUM_PROBLEMS, NUM_SAMPLES, assert_whole, run, sampled_in

ray = pytest.importorskip("ray")
tokenizers = pytest.importorskip("tokenizers")

from agent.ray_engines import open_engines  # noqa: E402  after the check that Ray is there
from agent.vllm_sampler import VllmSampler  # noqa: E402

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

CONTEXT = 1024
MAX_TOKENS = 48


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"), TINY, seed=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    end_shared_engines()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def request(number: int, *, prompt: str = "import torch", seed: int | None = None) -> SampleRequest:
    return SampleRequest(
        problem=Problem(id="p", source="class Model: ...", origin="test"),
        proposal=Proposal(id=f"p{number}", operator=Operator.DRAFT),
        ordinal=number,
        prompt=prompt,
        parents=(),
        seed=number if seed is None else seed,
    )


async def all_of(sampler: Sampler, *requests: SampleRequest) -> list[Completion]:
    return await asyncio.gather(*(sampler.sample(each) for each in requests))


async def check(sampler: Sampler, *, model: Path) -> None:
    """What holds of every sampler over vLLM."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    many = await all_of(sampler, *(request(n) for n in range(24)))
    (again,) = await all_of(sampler, request(7))
    assert again.text == many[7].text, "a seed gives its text again, whatever came beside it"
    assert len({completion.text for completion in many}) > 20
    for completion in many:
        assert completion.token_ids is not None
        assert completion.completion_tokens == len(completion.token_ids) <= MAX_TOKENS
        assert completion.prompt_tokens == len(tokenizer.encode("import torch").ids)
        assert not completion.tokens_estimated
        assert completion.finish_reason == ("length" if len(completion.token_ids) == MAX_TOKENS else "stop")
        # vLLM keeps half a character at the very end to itself.
        assert completion.text.rstrip("\ufffd") == tokenizer.decode(completion.token_ids).rstrip("\ufffd")
    with pytest.raises(PromptRefused):
        await sampler.sample(request(0, prompt="x = 1\n" * CONTEXT))


async def check_freezing(sampler: Sampler, lease: GpuLease) -> None:
    """Requests in flight stand still while somebody has the GPU, and then give the answers that they would have."""
    requests = [request(n) for n in range(96)]
    expected = await all_of(sampler, *requests)
    asking = [asyncio.create_task(sampler.sample(each)) for each in requests]
    while sum(task.done() for task in asking) < 8:
        await asyncio.sleep(0.01)
    for _ in range(2):
        async with lease.timing():
            num_done = sum(task.done() for task in asking)
            await asyncio.sleep(1.0)
            assert sum(task.done() for task in asking) == num_done < len(asking)
        await asyncio.sleep(0.05)
    answers = await asyncio.gather(*asking)
    assert [answer.text for answer in answers] == [answer.text for answer in expected]


def test_engines_under_ray_answer_and_survive_a_kill_in_mid_request(
    cluster: None, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    config = VllmSamplerConfig(
        kind="vllm", model=str(model), max_tokens=MAX_TOKENS, temperature=1.0, concurrency=32, repetition=None
    )
    engine = EngineConfig(
        python=PYTHON, environment=CPU, enforce_eager=True, max_model_len=CONTEXT, memory_share=0.3, start_seconds=900
    )
    lease = GpuLease(batch=1, patience_seconds=60.0, freezes=True)
    sampler = VllmSampler(
        config,
        open_engines(config, engine, num_engines=1, seats=None, on_gpu=False),
        encode=lambda prompt: tuple(tokenizer.encode(prompt).ids),
        max_restarts=1,
        lease=lease,
    )

    async def work() -> float:
        start = time.monotonic()
        (facts,) = await sampler.wait_until_up()
        up_seconds = time.monotonic() - start
        await check(sampler, model=model)
        start = time.monotonic()
        answers = await all_of(sampler, *(request(n, prompt="def forward(self, x):\n" * 12) for n in range(64)))
        rate = sum(answer.completion_tokens for answer in answers) / (time.monotonic() - start)
        with capsys.disabled():
            print(f"\nvLLM {facts.vllm} under Ray: up in {up_seconds:.0f} s, {rate:.0f} tokens/s")
        await check_freezing(sampler, lease)
        running = asyncio.create_task(run(tmp_path, sampler))
        while not (tmp_path / "ledger.sqlite").exists() or len(children_of(facts.pid)) == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # in mid-request: the run takes seconds
        for pid in children_of(facts.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert_whole(tmp_path, await running)
        return rate

    assert asyncio.run(work()) > 0
    assert len(sampled_in(tmp_path)) == NUM_PROBLEMS * NUM_SAMPLES
    assert sampler.num_deaths == 1, "the kill came while the run was at work"


def test_the_http_sampler_over_a_real_vllm_serve(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    with served(model, name="tiny", max_model_len=CONTEXT, log=tmp_path / "serve.log") as base_url:
        config = HttpSamplerConfig(
            kind="http", base_url=base_url, model="tiny", max_tokens=MAX_TOKENS, answer_token_ids=True
        )

        async def work() -> None:
            for encode in (None, lambda prompt: tokenizer.encode(prompt).ids):
                sampler = HttpSampler(config, environ={}, jitter=random.Random(0), encode=encode)
                try:
                    await check(sampler, model=model)
                finally:
                    await sampler.close()
            sampler = HttpSampler(config, environ={}, jitter=random.Random(0))
            assert_whole(tmp_path, await run(tmp_path, sampler))

        asyncio.run(work())
