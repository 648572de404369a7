"""What every sampler keeps to, whatever its kind: one test, run over all of them, on a tiny checkpoint.

A new kind joins by a line in KINDS: how it is opened, and what it promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.sampler import Completion, PromptRefused, RecordedSampler, Sampler, SampleRequest
from agent.sampler_config import HttpSamplerConfig, TransformersSamplerConfig, VllmSamplerConfig
from agent.tokens import Tokens
from sandbox.types import Operator, Problem, Proposal

PROBLEM = Problem(id="p", source="class Model: pass\n", origin="test")
MAX_TOKENS = 24
CONTEXT_TOKENS = 512  # of the tiny checkpoint
NUM_RECORDED = 40
SERVED = "tiny"
T = TypeVar("T")


def request(number: int, *, prompt: str = "import torch", seed: int | None = None) -> SampleRequest:
    return SampleRequest(
        problem=PROBLEM,
        proposal=Proposal(id=f"p{number}", operator=Operator.DRAFT, parents=()),
        ordinal=number,
        prompt=prompt,
        parents=(),
        seed=number if seed is None else seed,
    )


@contextlib.contextmanager
def recorded(checkpoint: Path, folder: Path) -> Iterator[Sampler]:
    lines = [
        {"id": str(n), "problem": "p", "operator": "draft", "completion": f"answer {n}", "finish_reason": "stop"}
        for n in range(NUM_RECORDED)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    yield RecordedSampler(folder / "answers.jsonl")


class TinyServer(BaseHTTPRequestHandler):
    """Speaks the completions form: an answer by its seed, as long as it may be if the seed is odd, and a context."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        num_prompt = len(asked["prompt"])
        if num_prompt + asked["max_tokens"] > CONTEXT_TOKENS:
            return self.reply(400, {"message": f"This model's maximum context length is {CONTEXT_TOKENS} tokens."})
        whole = random.Random(asked["seed"]).choices("abcdefgh", k=asked["max_tokens"])
        text = "".join(whole if asked["seed"] % 2 else whole[: asked["seed"] % 7 + 3])
        choice = {"index": 0, "text": text, "finish_reason": "length" if asked["seed"] % 2 else "stop"}
        usage = {"prompt_tokens": num_prompt, "completion_tokens": len(text)}
        return self.reply(200, {"choices": [choice], "usage": usage})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        with contextlib.suppress(ConnectionError):  # a client that gave up is part of the test
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@contextlib.contextmanager
def http(checkpoint: Path, folder: Path) -> Iterator[Sampler]:
    from agent.http_sampler import HttpSampler

    server = ThreadingHTTPServer(("127.0.0.1", 0), TinyServer)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    serving.start()
    config = HttpSamplerConfig(
        kind="http", base_url=f"http://127.0.0.1:{server.server_port}", model=SERVED, max_tokens=MAX_TOKENS
    )
    try:
        yield HttpSampler(config, environ={}, jitter=random.Random(0))
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@contextlib.contextmanager
def transformers(checkpoint: Path, folder: Path) -> Iterator[Sampler]:
    from agent.transformers_sampler import TransformersSampler

    yield TransformersSampler(
        TransformersSamplerConfig(
            kind="transformers", model=str(checkpoint), device="cpu", max_tokens=MAX_TOKENS, batch_size=6, threads=1
        )
    )


@contextlib.contextmanager
def vllm(checkpoint: Path, folder: Path) -> Iterator[Sampler]:
    from agent.vllm_sampler import VllmSampler
    from tests.shared_engine import shared_engine

    yield VllmSampler(
        VllmSamplerConfig(kind="vllm", model=str(checkpoint), max_tokens=MAX_TOKENS, concurrency=8, repetition=None),
        [shared_engine(checkpoint, max_model_len=CONTEXT_TOKENS)],
        encode=Tokens(checkpoint, bos="as_shipped").encode,
        max_restarts=0,
        lease=None,
    )


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of sampler. `asks_a_model`: seeds and lengths matter. `tells_ids`: its completions carry token ids."""

    name: str
    open: Callable[[Path, Path], contextlib.AbstractContextManager[Sampler]]
    asks_a_model: bool
    tells_ids: bool


KINDS = [
    Kind(name="recorded", open=recorded, asks_a_model=False, tells_ids=False),
    Kind(name="http", open=http, asks_a_model=True, tells_ids=False),
    Kind(name="transformers", open=transformers, asks_a_model=True, tells_ids=True),
    Kind(name="vllm", open=vllm, asks_a_model=True, tells_ids=True),
]
EVERY = [pytest.param(kind, marks=[pytest.mark.vllm] if kind.name == "vllm" else [], id=kind.name) for kind in KINDS]
MODELS = [each for each, kind in zip(EVERY, KINDS, strict=True) if kind.asks_a_model]


def using(kind: Kind, checkpoint: Path, folder: Path, work: Callable[[Sampler], Awaitable[T]]) -> T:
    """What `work` gives with a fresh sampler, which is closed afterwards."""

    seconds = 1200 if kind.name == "vllm" else 120  # a real engine has to start

    async def whole() -> T:
        with kind.open(checkpoint, folder) as sampler:
            try:
                return await asyncio.wait_for(asyncio.ensure_future(work(sampler)), timeout=seconds)
            finally:
                await asyncio.wait_for(sampler.close(), timeout=60)

    return asyncio.run(whole())


async def all_of(sampler: Sampler, *requests: SampleRequest) -> list[Completion]:
    return await asyncio.gather(*(sampler.sample(item) for item in requests))


@pytest.mark.parametrize("kind", EVERY)
def test_many_at_once_get_each_its_own_answer_with_true_counts(
    kind: Kind, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    async def work(sampler: Sampler) -> tuple[list[Completion], list[Completion]]:
        return await all_of(sampler, *(request(n) for n in range(20))), await all_of(sampler, request(7))

    many, (alone,) = using(kind, tiny_checkpoint, tmp_path, work)
    assert len({completion.text for completion in many}) > 15
    assert many[7] == alone  # whatever came beside it
    assert all(completion.sampler is not None and completion.sampler.startswith(kind.name) for completion in many)
    tokens = Tokens(tiny_checkpoint, bos="as_shipped")
    for completion in many:
        assert (completion.token_ids is not None) == kind.tells_ids
        if completion.token_ids is not None:
            assert completion.completion_tokens == len(completion.token_ids)
            assert completion.prompt_tokens == tokens.count("import torch")
            assert not completion.tokens_estimated
            ended_by_token = completion.finish_reason == "stop"
            said = completion.token_ids[:-1] if ended_by_token else completion.token_ids
            # vLLM keeps half a character at the very end to itself.
            assert completion.text.rstrip("\ufffd") == tokens.decode(said).rstrip("\ufffd")


@pytest.mark.parametrize("kind", MODELS)
def test_a_seed_gives_the_same_text_again_and_another_seed_another(
    kind: Kind, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    async def work(sampler: Sampler) -> list[Completion]:
        return await all_of(sampler, *(request(n, seed=seed) for n, seed in enumerate((5, 5, 7, 9))))

    first, again, other, another = using(kind, tiny_checkpoint, tmp_path, work)
    assert first == again
    assert len({first.text, other.text, another.text}) == 3


@pytest.mark.parametrize("kind", MODELS)
def test_an_answer_says_whether_it_ended_or_ran_out_of_room(kind: Kind, tiny_checkpoint: Path, tmp_path: Path) -> None:
    async def work(sampler: Sampler) -> list[Completion]:
        return await all_of(sampler, *(request(n) for n in range(30)))

    completions = using(kind, tiny_checkpoint, tmp_path, work)
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    for completion in completions:
        assert completion.completion_tokens <= MAX_TOKENS
        assert completion.finish_reason == "stop" or completion.completion_tokens == MAX_TOKENS


@pytest.mark.parametrize("kind", MODELS)
def test_a_prompt_beyond_the_context_is_refused_and_others_are_answered(
    kind: Kind, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    async def work(sampler: Sampler) -> list[Any]:
        asked = (request(0, prompt="import torch " * 400), request(1))
        return await asyncio.gather(*(sampler.sample(item) for item in asked), return_exceptions=True)

    refused, answered = using(kind, tiny_checkpoint, tmp_path, work)
    assert isinstance(refused, PromptRefused)
    assert re.search(r"lower sampler\.\w+", str(refused))  # the key to change
    assert isinstance(answered, Completion)


@pytest.mark.parametrize("kind", EVERY)
def test_who_gives_up_holds_nobody_else_back(kind: Kind, tiny_checkpoint: Path, tmp_path: Path) -> None:
    async def work(sampler: Sampler) -> tuple[list[Any], Completion]:
        tasks = [asyncio.create_task(sampler.sample(request(n))) for n in range(12)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True), await sampler.sample(request(20))

    outcomes, later = using(kind, tiny_checkpoint, tmp_path, work)
    assert all(isinstance(outcome, Completion) for outcome in outcomes[1::2])
    assert isinstance(later, Completion)


@pytest.mark.parametrize("kind", EVERY)
def test_closed_after_all_have_given_up_it_leaves_no_thread_behind(
    kind: Kind, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    async def work(sampler: Sampler) -> list[Any]:
        tasks = [asyncio.create_task(sampler.sample(request(n))) for n in range(12)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    before = set(threading.enumerate())
    assert len(using(kind, tiny_checkpoint, tmp_path, work)) == 12
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(10)  # the server's own see the end of their connection a moment later
    assert [thread.name for thread in left if thread.is_alive()] == []
