"""A whole run over samplers whose servers and engines fail: it ends right, and nothing is lost or charged twice.

Searches, controller and ledger are the real ones. The HTTP server is scripted; so is the engine, but it lives and dies
in real Ray actors.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.engine_config import EngineConfig
from agent.events import Outcome, RunSummary, Unsampled
from agent.faults import Fault, FaultKind, Tell
from agent.http_sampler import HttpSampler
from agent.ledger import Ledger
from agent.run_folder import RunFolder
from agent.sampler import SamplerError
from agent.sampler_config import HttpSamplerConfig, VllmSamplerConfig
from agent.vllm_engine import Answer, EngineDead, EngineFacts, RequestInvalid
from agent.vllm_sampler import VllmSampler
from tests.small_run import NUM_PROBLEMS, NUM_SAMPLES, assert_whole, run, sampled_in

ray = pytest.importorskip("ray")

from agent.ray_engines import RayEngine, open_engines  # noqa: E402  after the check that Ray is there

PROMPT_TOKENS, COMPLETION_TOKENS = 11, 4


# HTTP


class Faulty(BaseHTTPRequestHandler):
    """Two of three requests go wrong, each time in another way."""

    server: FaultyServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = next(self.server.numbers)
        if number % 3 == 2:
            text = f"```python\nclass ModelNew:\n    by = '{asked['prompt']}'\n```"
            usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
            choices = [{"text": text, "finish_reason": "stop"}]
            self.reply(200, json.dumps({"choices": choices, "usage": usage}).encode())
        else:
            FAULTS[(number - number // 3) % len(FAULTS)](self)

    def reply(self, status: int, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def cut_off(self, body: bytes) -> None:
        self.reply(200, body, length=len(body) + 100)
        self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Silent."""


HALF = b'{"choices": [{"text": "```python\\nclass Mod'
FAULTS: list[Callable[[Faulty], None]] = [
    lambda handler: handler.reply(429, b"slow down"),
    lambda handler: handler.reply(500, b"engine died"),
    lambda handler: handler.reply(200, b"<html>garbage"),
    lambda handler: handler.reply(200, b""),
    lambda handler: handler.cut_off(HALF),
    lambda handler: handler.reply(200, b'{"choices": [{"text": "half", "finish_reason": "abort"}]}'),
    Faulty.hang_up,
]


class FaultyServer(ThreadingHTTPServer):
    daemon_threads = True
    numbers: Iterator[int]

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is part of the play."""


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    server = FaultyServer(("127.0.0.1", 0), Faulty)
    server.numbers = itertools.count()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def http_sampler(server: FaultyServer, *, max_retries: int) -> HttpSampler:
    async def soon(seconds: float) -> None:
        await asyncio.sleep(0.001)

    config = HttpSamplerConfig(
        kind="http", base_url=f"http://127.0.0.1:{server.server_port}", model="m", max_retries=max_retries
    )
    return HttpSampler(config, environ={}, jitter=random.Random(1), sleep=soon)


def test_a_run_over_a_server_that_fails_in_every_way_is_whole(faulty: FaultyServer, tmp_path: Path) -> None:
    assert_whole(tmp_path, asyncio.run(run(tmp_path, http_sampler(faulty, max_retries=60))))
    assert {event.num_tokens for event in sampled_in(tmp_path)} == {PROMPT_TOKENS + COMPLETION_TOKENS}
    assert next(faulty.numbers) >= 3 * NUM_PROBLEMS * NUM_SAMPLES - 2


def test_a_run_that_gave_up_on_its_server_is_resumed_and_charged_once(faulty: FaultyServer, tmp_path: Path) -> None:
    outcomes: list[RunSummary] = []
    while not outcomes or outcomes[-1].outcome is Outcome.FAILED:
        assert len(outcomes) < 200
        outcomes.append(asyncio.run(run(tmp_path, http_sampler(faulty, max_retries=1))))
    assert len(outcomes) > 1
    assert "no completion in 2 attempts" in (outcomes[0].error or "")
    assert_whole(tmp_path, outcomes[-1])


# Engines


class TwinEngine:
    """As `VllmEngine`, without vLLM: its model is an echo. `folder` is where the test reads what became of it.

    `die_at` has, for each life in turn, the number of the request over which it dies: as a process by SIGKILL where
    `how` is `killed`, as an engine whose process lives on where it is `dead`, as one that answers nothing more where
    it is `hung`.
    """

    def __init__(
        self, arguments: Mapping[str, Any], *, visible_gpus: str | None, environment: Mapping[str, str]
    ) -> None:
        self._folder, self._how = Path(arguments["folder"]), arguments["how"]
        self._requests = 0
        self._dead = False
        life = next(number for number in itertools.count(1) if self._took(number))
        with (self._folder / "lives").open("a") as file:
            file.write(f"{os.getpid()}\n")
        self._die_at = arguments["die_at"][life - 1] if life <= len(arguments["die_at"]) else None

    def _took(self, life: int) -> bool:
        """Two engines that start at once must not both be the first."""
        try:
            (self._folder / f"life {life}").mkdir()
        except FileExistsError:
            return False
        return True

    async def start(self) -> EngineFacts:
        if self._die_at == 0:
            raise EngineDead("did not start: no memory")
        return EngineFacts(os.getpid(), "twin", 100_000, True, ("GPU-5f",))

    async def _answer_if_it_can(self) -> None:
        if self._dead and self._how == "hung":
            await asyncio.sleep(3600)

    async def abort(self, request_id: str) -> None:
        await self._answer_if_it_can()

    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        await self._answer_if_it_can()
        if self._dead:
            raise EngineDead("EngineDeadError")
        self._requests += 1
        with (self._folder / "asked").open("a") as file:
            file.write(f"{request_id.rpartition('/')[0]} {seed}\n")
        if self._requests == self._die_at:
            if self._how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            self._dead = True
            await self._answer_if_it_can()
            raise EngineDead("EngineDeadError: EngineCore encountered an issue")
        if len(prompt_token_ids) > 1000:
            raise RequestInvalid("the prompt is longer than the maximum model length")
        await asyncio.sleep(0.005)
        await self._answer_if_it_can()
        if self._dead:
            raise EngineDead("EngineDeadError")
        return Answer(f"```python\nclass ModelNew:\n    by = {seed}\n```", (1,) * COMPLETION_TOKENS, "stop")

    async def sleep(self, deep: bool) -> None: ...

    async def wake_up(self) -> None: ...

    async def stop(self) -> None: ...


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray's workers cannot import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        _system_config={"timeout_ms_task_wait_for_death_info": 60_000},  # how it died, for which Ray waits 1 s
    )  # fmt: skip
    yield
    ray.shutdown()


def twin_engines(folder: Path, *, how: str, die_at: list[int | None], num_engines: int) -> list[RayEngine]:
    config = VllmSamplerConfig(kind="vllm", model="m", concurrency=4)
    engine = EngineConfig(arguments={})
    arguments = {"folder": str(folder), "how": how, "die_at": die_at}
    return open_engines(
        config, engine, num_engines=num_engines, seats=None, on_gpu=False,
        engine_class=TwinEngine, arguments=arguments,
    )  # fmt: skip


def vllm_sampler(
    folder: Path,
    *,
    how: str = "killed",
    die_at: list[int | None],
    num_engines: int = 2,
    max_restarts: int = 3,
    tell: Tell | None = None,
    prompt_tokens: int = PROMPT_TOKENS,
    timeout_seconds: float = 900.0,
) -> VllmSampler:
    return VllmSampler(
        VllmSamplerConfig(kind="vllm", model="m", concurrency=4, max_tokens=9, timeout_seconds=timeout_seconds),
        twin_engines(folder, how=how, die_at=die_at, num_engines=num_engines),
        encode=lambda prompt: (1,) * prompt_tokens,
        max_restarts=max_restarts,
        lease=None,
        tell=tell,
    )


def lives_in(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "lives").read_text().split()]


@pytest.mark.parametrize("how", ["killed", "dead"])
def test_a_run_whose_engines_die_in_mid_request_is_whole(cluster: None, tmp_path: Path, how: str) -> None:
    sampler = vllm_sampler(tmp_path, how=how, die_at=[5, 9])
    assert_whole(tmp_path, asyncio.run(run(tmp_path, sampler, until=lambda: len(lives_in(tmp_path)) >= 4)))
    assert len(lives_in(tmp_path)) == 4, "each of the two that died was started again, once"
    asked = Counter((tmp_path / "asked").read_text().splitlines())
    assert max(asked.values()) > 1, "some request was asked again, with the seed that it had"
    assert len(asked) == NUM_PROBLEMS * NUM_SAMPLES
    deadline = time.monotonic() + 30.0
    while [pid for pid in lives_in(tmp_path) if Path(f"/proc/{pid}/cmdline").exists()]:
        assert time.monotonic() < deadline, "all processes are gone"
        time.sleep(0.05)


def test_an_engine_that_does_not_even_take_a_request_back_is_started_again(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.ray_engines.ABORT_SECONDS", 0.2)
    sampler = vllm_sampler(tmp_path, how="hung", die_at=[5], timeout_seconds=2.0)
    # The other engine may answer all that is left before a new actor is up.
    assert_whole(tmp_path, asyncio.run(run(tmp_path, sampler, until=lambda: len(lives_in(tmp_path)) >= 3)))
    assert len(lives_in(tmp_path)) == 3


def test_engines_that_go_on_dying_end_the_run_which_is_resumed_and_charged_once(cluster: None, tmp_path: Path) -> None:
    sampler = vllm_sampler(tmp_path, die_at=[3] * 4, num_engines=1, max_restarts=1)
    failed = asyncio.run(run(tmp_path, sampler))
    assert failed.outcome is Outcome.FAILED
    assert "no vLLM engine is left: engine 0: ActorDiedError" in (failed.error or "")
    assert "\n" not in (failed.error or "")
    assert len(lives_in(tmp_path)) == 2
    for life in (3, 4):
        (tmp_path / f"life {life}").mkdir()  # the fault is mended
    assert_whole(tmp_path, asyncio.run(run(tmp_path, vllm_sampler(tmp_path, die_at=[3] * 4, num_engines=1))))


def test_each_death_is_told_with_the_gpu_and_the_last_as_such(cluster: None, tmp_path: Path) -> None:
    faults: list[Fault] = []
    sampler = vllm_sampler(tmp_path, die_at=[3] * 4, num_engines=1, max_restarts=1, tell=faults.append)
    assert asyncio.run(run(tmp_path, sampler)).outcome is Outcome.FAILED
    told = [(fault.kind, fault.gpus) for fault in faults]
    assert told == [(FaultKind.ENGINE_DIED, ("GPU-5f",)), (FaultKind.ENGINE_GIVEN_UP, ("GPU-5f",))]
    assert all(fault.reason.startswith("engine 0: ActorDiedError") for fault in faults)


def test_an_engine_that_never_comes_up_is_tried_once_and_its_cause_is_told(cluster: None, tmp_path: Path) -> None:
    async def work() -> None:
        sampler = vllm_sampler(tmp_path, die_at=[0], num_engines=1)
        try:
            with pytest.raises(SamplerError, match=r"no vLLM engine came up: engine 0: .*no memory"):
                await sampler.wait_until_up()
        finally:
            await sampler.close()

    asyncio.run(work())
    assert len(lives_in(tmp_path)) == 1


def test_a_prompt_that_an_engine_finds_too_long_names_the_keys_to_lower(cluster: None, tmp_path: Path) -> None:
    sampler = vllm_sampler(tmp_path, die_at=[None], num_engines=1, prompt_tokens=1001)
    summary = asyncio.run(run(tmp_path, sampler))
    assert summary.outcome is Outcome.COMPLETED
    with Ledger.open_read_only(RunFolder(tmp_path).ledger) as ledger:
        reasons = {entry.event.reason for entry in ledger.events() if isinstance(entry.event, Unsampled)}
    assert len(reasons) == 1 and reasons.pop().endswith("; lower sampler.prompt_tokens or sampler.max_tokens")
