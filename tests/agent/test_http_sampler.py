"""The HTTP sampler against a real server on loopback that fails in every way it may, and then answers."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agent.engine_config import RepetitionSection
from agent.http_sampler import HttpSampler, endpoint, retry_after_seconds
from agent.sampler import Completion, PromptRefused, SampleRequest, SamplerError, SamplerRefused, estimate_tokens
from agent.sampler_config import HttpSamplerConfig
from sandbox.types import Operator, Problem, Proposal

Act = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Plays the next act of the server's script for each request; the last act repeats."""

    server: ScriptedServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
            act = self.server.script[min(len(self.server.seen), len(self.server.script)) - 1]
            self.server.num_inside += 1
            self.server.most_inside = max(self.server.most_inside, self.server.num_inside)
        try:
            act(self)
        finally:
            with self.server.lock:
                self.server.num_inside -= 1

    def send(self, status: int, body: bytes, **headers: str) -> None:
        with self.server.lock:  # before the client can see the reply and send its next request
            self.server.num_inside -= 1
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        with self.server.lock:
            self.server.num_inside += 1

    def log_message(self, *_: Any) -> None:
        """Silent."""


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Sequence[Act]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.lock = threading.Lock()
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.num_inside = 0
        self.most_inside = 0

    def handle_error(self, *_: Any) -> None:
        """A client that gave up waiting is part of the play."""


def says(status: int, body: bytes = b"", **headers: str) -> Act:
    return lambda handler: handler.send(status, body, **headers)


def answers(reply: Any) -> Act:
    return says(200, json.dumps(reply).encode(), Content_Type="application/json")


def hangs(handler: Handler) -> None:
    time.sleep(1.0)
    handler.close_connection = True


def hangs_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def breaks_off(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    hangs_up(handler)


def trickles(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(10):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)
    handler.close_connection = True


USAGE = {"prompt_tokens": 21, "completion_tokens": 5}
RIGHT = answers({"choices": [{"index": 0, "text": "code", "finish_reason": "stop"}], "usage": USAGE, "id": "x"})


@dataclass
class Setup:
    """A server that plays `script`, and what the sampler slept."""

    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def config(self, server: ScriptedServer, **options: Any) -> HttpSamplerConfig:
        defaults: dict[str, Any] = {
            "base_url": f"http://127.0.0.1:{server.server_port}",
            "model": "m",
            "timeout_seconds": 20.0,
            "concurrency": 4,
        }
        return HttpSamplerConfig(kind="http", **{**defaults, **options})

    def sampler(self, server: ScriptedServer, *, environ: dict[str, str] | None = None, **options: Any) -> HttpSampler:
        return HttpSampler(
            self.config(server, **options), environ=environ or {}, jitter=random.Random(1), sleep=self.sleep
        )


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ScriptedServer]]:
    monkeypatch.setenv("NO_PROXY", "*")
    servers: list[ScriptedServer] = []

    def start(*script: Act) -> ScriptedServer:
        server = ScriptedServer(script)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def request(seed: int = 5) -> SampleRequest:
    return SampleRequest(
        problem=Problem(id="relu", source="class Model: ...", origin="test"),
        proposal=Proposal(id="draft-0", operator=Operator.DRAFT),
        ordinal=0,
        prompt="Write a kernel.",
        parents=(),
        seed=seed,
    )


def sample(sampler: HttpSampler, *requests: SampleRequest) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        try:
            return await asyncio.gather(*(sampler.sample(each) for each in requests))
        finally:
            await sampler.close()

    return asyncio.run(all_of_them())


def test_a_completions_server_gets_all_settings_and_its_answer_comes_back(serve: Any) -> None:
    server = serve(RIGHT)
    sampler = Setup().sampler(server, temperature=0.6, top_p=0.9, max_tokens=77)
    assert sample(sampler, request(seed=2**40 + 3)) == [
        Completion(text="code", finish_reason="stop", prompt_tokens=21, completion_tokens=5, sampler="http m")
    ]
    ((path, headers, body),) = server.seen
    assert path == "/v1/completions"
    assert "Authorization" not in headers
    assert body == {
        "model": "m",
        "prompt": "Write a kernel.",
        "n": 1,
        "max_tokens": 77,
        "temperature": 0.6,
        "top_p": 0.9,
        "seed": 2**40 + 3,
        "stream": False,
    }


def test_what_not_every_server_knows_is_sent_where_it_is_asked_for(serve: Any) -> None:
    told = {"text": "code", "finish_reason": "stop", "token_ids": [7, 8, 1]}
    server = serve(answers({"choices": [told], "usage": {"prompt_tokens": 3, "completion_tokens": 3}}))
    config = Setup().config(
        server, top_k=40, stop=["<end>"], answer_token_ids=True, repetition=RepetitionSection(min_count=9)
    )
    sampler = HttpSampler(config, environ={}, jitter=random.Random(1), encode=lambda prompt: (5, 0, len(prompt)))
    (completion,) = sample(sampler, request())
    assert completion.token_ids == (7, 8, 1)
    ((_, _, body),) = server.seen
    assert body["prompt"] == [5, 0, len("Write a kernel.")]
    assert (body["top_k"], body["stop"], body["return_token_ids"]) == (40, ["<end>"], True)
    assert body["repetition_detection"] == {"min_pattern_size": 1, "max_pattern_size": 64, "min_count": 9}


def test_all_attempts_together_have_a_deadline(serve: Any) -> None:
    server = serve(says(503, b"loading", Retry_After="60"))
    config = Setup().config(server, total_seconds=0.3, max_retries=1000)
    sampler = HttpSampler(config, environ={}, jitter=random.Random(1))
    with pytest.raises(SamplerError, match=r"no completion within 0\.3 s, last: status 503: loading"):
        sample(sampler, request())
    assert len(server.seen) == 1


def test_a_chat_server_gets_a_message_and_its_own_path(serve: Any) -> None:
    message = {"role": "assistant", "content": "code"}
    server = serve(answers({"choices": [{"message": message, "finish_reason": "length"}], "usage": USAGE}))
    setup = Setup()
    base_url = f"http://127.0.0.1:{server.server_port}/api/v3/"
    (completion,) = sample(setup.sampler(server, api="chat", base_url=base_url), request())
    assert (completion.text, completion.finish_reason) == ("code", "length")
    ((path, _, body),) = server.seen
    assert path == "/api/v3/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "Write a kernel."}]
    assert "prompt" not in body


def test_a_chat_answer_that_is_all_thinking_is_empty(serve: Any) -> None:
    server = serve(answers({"choices": [{"message": {"content": None}, "finish_reason": "length"}], "usage": USAGE}))
    (completion,) = sample(Setup().sampler(server, api="chat"), request())
    assert (completion.text, completion.finish_reason) == ("", "length")


def test_an_empty_answer_that_the_model_ended_or_that_cost_tokens_is_one(serve: Any) -> None:
    for reason, num_tokens in (("stop", 0), (None, 7)):
        usage = {"prompt_tokens": 5, "completion_tokens": num_tokens}
        server = serve(answers({"choices": [{"text": "", "finish_reason": reason}], "usage": usage}))
        (completion,) = sample(Setup().sampler(server), request())
        assert (completion.text, completion.finish_reason, completion.completion_tokens) == ("", reason, num_tokens)


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": "many", "completion_tokens": -1}, {"prompt_tokens": 10**30}]
)
def test_missing_counts_are_estimated_and_said_to_be(serve: Any, usage: Any) -> None:
    server = serve(answers({"choices": [{"text": "code" * 9, "finish_reason": None}], "usage": usage}))
    (completion,) = sample(Setup().sampler(server), request())
    assert completion.tokens_estimated
    assert completion.completion_tokens == estimate_tokens("code" * 9)
    assert completion.prompt_tokens == estimate_tokens("Write a kernel.")


@pytest.mark.parametrize(
    "fault",
    [
        says(429, b"slow down"),
        says(408),
        says(500, b"oops"),
        says(503),
        says(200, b"<html>"),
        says(200, b""),
        says(200, b"\x1f\x8b garbage", Content_Encoding="gzip"),
        answers({"error": {"message": "overloaded"}}),
        answers({"choices": []}),
        answers({"choices": [{"text": "", "finish_reason": None}], "usage": {"completion_tokens": 0}}),
        answers({"choices": [{"text": "", "finish_reason": None}]}),
        answers({"choices": [{"message": {"content": "the other form"}}]}),
        answers({"choices": [{"text": "half of it", "finish_reason": "abort"}], "usage": USAGE}),
        answers({"choices": [{"text": "no such token", "token_ids": [-1]}], "usage": USAGE}),
        answers({"choices": [{"text": "no such token", "token_ids": [2**40]}], "usage": USAGE}),
        hangs,
        hangs_up,
        breaks_off,
        trickles,
    ],
)
def test_whatever_may_pass_is_tried_again(serve: Any, fault: Act) -> None:
    server = serve(fault, fault, RIGHT)
    setup = Setup()
    timeout_seconds = 0.5 if fault in (hangs, trickles) else 20.0
    assert sample(setup.sampler(server, timeout_seconds=timeout_seconds), request())[0].text == "code"
    assert len(server.seen) == 3
    assert 0.25 <= setup.slept[0] <= 0.5 <= setup.slept[1] <= 1.0


def test_a_server_that_stays_down_is_our_fault_after_bounded_attempts(serve: Any) -> None:
    server = serve(says(500, b"cuda error\nsecond line"))
    setup = Setup()
    with pytest.raises(SamplerError, match="no completion in 8 attempts, last: status 500: cuda error") as caught:
        sample(setup.sampler(server, max_retries=7), request())
    assert not isinstance(caught.value, SamplerRefused)
    assert "\n" not in str(caught.value)
    assert len(server.seen) == 8
    assert setup.slept == sorted(setup.slept)
    assert max(setup.slept) <= 30.0


def test_requests_that_fail_together_are_told_once(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(*[says(503, b"loading")] * 4, RIGHT)
    together = asyncio.Event()
    num_waiting = 0

    async def sleep(seconds: float) -> None:
        nonlocal num_waiting
        num_waiting += 1
        if num_waiting == 4:
            together.set()
        await together.wait()

    sampler = HttpSampler(Setup().config(server), environ={}, jitter=random.Random(1), sleep=sleep)
    assert len(sample(sampler, *(request() for _ in range(4)))) == 4
    assert len([record for record in caplog.records if "trying again" in record.message]) == 1


def test_nobody_listening_is_our_fault_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = HttpSamplerConfig(
        kind="http", base_url=f"http://127.0.0.1:{port}/v1", model="m", timeout_seconds=5.0, max_retries=1
    )
    sampler = HttpSampler(config, environ={}, jitter=random.Random(1), sleep=Setup().sleep)
    with pytest.raises(SamplerError, match="2 attempts, last: ConnectError"):
        sample(sampler, request())


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_what_the_user_must_mend_is_never_tried_again(serve: Any, status: int) -> None:
    server = serve(says(status, b'{"error":\n "no such model m"}'))
    setup = Setup()
    with pytest.raises(SamplerRefused, match=f"status {status}: .*no such model m") as caught:
        sample(setup.sampler(server), request())
    assert "\n" not in str(caught.value)
    assert len(server.seen) == 1
    assert setup.slept == []


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"),
        (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
        (400, '{"error": {"code": "context_length_exceeded", "message": "too many tokens"}}'),
        (400, '{"error": {"type": "exceed_context_size_error", "message": "exceeds the available context size"}}'),
        (422, "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
        (413, "prompt is too long"),
    ],
)
def test_a_prompt_too_long_for_the_server_is_no_fault_of_the_key_or_the_model(
    serve: Any, status: int, told: str
) -> None:
    server = serve(says(status, told.encode()))
    with pytest.raises(PromptRefused, match=rf"status {status}: .*; lower sampler\.prompt_characters or"):
        sample(Setup().sampler(server), request())
    assert len(server.seen) == 1


def test_the_server_may_ask_for_patience_within_reason(serve: Any) -> None:
    date, later = "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:40 GMT"
    script = [says(429, Retry_After="7"), says(503, Retry_After="99999"), says(429, Retry_After="soon"), RIGHT]
    setup = Setup()
    sample(setup.sampler(serve(*script)), request())
    assert setup.slept[:2] == [7.0, 300.0]
    assert 1.0 <= setup.slept[2] <= 2.0
    assert retry_after_seconds({"retry-after": later, "date": date}) == 40.0
    assert retry_after_seconds({"retry-after": date, "date": later}) == 0.0
    assert retry_after_seconds({"retry-after": later}) is None
    assert retry_after_seconds({}) is None


def test_no_more_than_the_configured_number_are_in_flight(serve: Any) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.03)
        RIGHT(handler)

    server = serve(slow)
    completions = sample(Setup().sampler(server, concurrency=3), *map(request, range(20)))
    assert len(completions) == 20
    assert server.most_inside == 3
    assert sorted(body["seed"] for _, _, body in server.seen) == list(range(20))


def test_the_key_is_sent_and_stands_in_no_log_and_no_error(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = "sk-very-secret"
    server = serve(says(500, f"key {key} failed".encode()), says(401, f"Incorrect key: {key}".encode()))
    sampler = Setup().sampler(server, api_key_env="THE_KEY", environ={"THE_KEY": f"{key}\n"})
    with pytest.raises(SamplerRefused, match=r"Incorrect key: \[key\]"):
        sample(sampler, request())
    assert server.seen[0][1]["Authorization"] == f"Bearer {key}"
    assert key not in caplog.text
    assert "trying again" in caplog.text


@pytest.mark.parametrize("environ", [{}, {"THE_KEY": " "}, {"THE_KEY": "a\x00b"}, {"THE_KEY": "schlüssel"}])
def test_an_unusable_key_is_named_by_its_variable_alone(serve: Any, environ: dict[str, str]) -> None:
    with pytest.raises(SamplerRefused, match=r"api_key_env: .*THE_KEY") as caught:
        Setup().sampler(serve(RIGHT), api_key_env="THE_KEY", environ=environ)
    assert "schlüssel" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url", ["localhost:8000", "ftp://x/v1", "http://", "http://x:port", "http://a:b@x/v1", ""]
)
def test_an_unusable_address_is_refused(base_url: str) -> None:
    with pytest.raises(SamplerRefused, match=r"sampler\.base_url"):
        endpoint(base_url, api="chat")


def test_a_password_in_an_address_is_not_told() -> None:
    with pytest.raises(SamplerRefused) as told:
        endpoint("ftp://somebody:hunter2@x/v1", api="chat")
    assert "hunter2" not in str(told.value)


def test_addresses_with_and_without_a_path() -> None:
    assert endpoint("http://x:1", api="completions") == "http://x:1/v1/completions"
    assert endpoint("http://x:1/v1/", api="chat") == "http://x:1/v1/chat/completions"
    assert endpoint("https://x/openai/v1", api="chat") == "https://x/openai/v1/chat/completions"
