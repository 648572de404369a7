"""What an engine's process does without vLLM: it leaves no orphan behind, and tells whose fault a failure is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.vllm_engine import EngineDead, RequestInvalid, VllmEngine

ROOT = Path(__file__).parents[2]

# Starts a child in a session of its own, as vLLM does with its workers, and one in that.
ENGINE = """
import os, subprocess, sys, time
from agent.vllm_engine import children_of, guard_over
child = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
while len(children_of(os.getpid())) < 2:
    time.sleep(0.01)
print(*children_of(os.getpid()), flush=True)
guard = guard_over(os.getpid())
print("guarded", flush=True)
time.sleep(600)
"""


def test_what_an_engine_started_ends_with_it_even_by_sigkill() -> None:
    engine = subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert engine.stdout is not None
    pids = [int(pid) for pid in engine.stdout.readline().split()]
    assert engine.stdout.readline() == "guarded\n"
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    engine.stdout.close()
    deadline = time.monotonic() + 60.0
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A process that has ended, and that nobody has waited for, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class EngineDeadError(Exception):
    """vLLM's own name."""


class EngineGenerateError(Exception):
    """vLLM's own name."""


class FailingEngine:
    """As `AsyncLLM`: raises over its only request, and may be dead after it."""

    def __init__(self, error: Exception, *, errored: bool) -> None:
        self._error = error
        self.errored = errored

    async def generate(self, prompt: object, params: object, *, request_id: str) -> AsyncIterator[object]:
        raise self._error
        yield  # what makes it a generator

    async def abort(self, request_id: str) -> None:
        self.aborted = request_id

    async def is_sleeping(self) -> bool:
        if self.errored:
            raise self._error
        return False


@pytest.fixture
def vllm_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that `VllmEngine.generate` imports."""
    contents: dict[str, dict[str, Any]] = {
        "vllm": {"SamplingParams": lambda **options: options},
        "vllm.sampling_params": {"RequestOutputKind": types.SimpleNamespace(FINAL_ONLY=2)},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.exceptions": {
            "EngineDeadError": EngineDeadError,
            "EngineGenerateError": EngineGenerateError,
        },
    }
    for name, found in contents.items():
        module = types.ModuleType(name)
        vars(module).update(found)
        monkeypatch.setitem(sys.modules, name, module)
    vars(sys.modules["vllm"])["sampling_params"] = sys.modules["vllm.sampling_params"]


def failing(error: Exception, *, errored: bool = False) -> VllmEngine:
    engine = VllmEngine({}, visible_gpus=None, environment={})
    engine._engine = FailingEngine(error, errored=errored)
    return engine


@pytest.mark.parametrize(
    ("error", "errored", "told"),
    [
        (EngineDeadError("gone"), True, EngineDead),
        (EngineGenerateError(), True, EngineDead),
        (ValueError("the prompt is too long"), False, RequestInvalid),
        (ValueError("whatever"), True, EngineDead),
    ],
)
def test_a_failed_request_is_blamed_on_the_engine_or_on_itself(
    vllm_in_name: None, error: Exception, errored: bool, told: type[Exception]
) -> None:
    with pytest.raises(told):
        asyncio.run(failing(error, errored=errored).generate([1], {"max_tokens": 1}, 0, "a"))


def test_a_request_that_a_living_engine_failed_over_is_no_bad_request(vllm_in_name: None) -> None:
    answer = asyncio.run(failing(EngineGenerateError()).generate([1], {"max_tokens": 1}, 0, "a"))
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("", (), "error")


def test_a_request_is_taken_back_and_the_engine_says_whether_it_lives(vllm_in_name: None) -> None:
    living, dead = (failing(EngineDeadError("gone"), errored=errored) for errored in (False, True))
    asyncio.run(living.abort("a"))
    assert living._engine.aborted == "a"
    with pytest.raises(EngineDead, match="gone"):  # though vLLM's own `abort` said nothing
        asyncio.run(dead.abort("a"))
