"""One request that engines die over, or never answer, costs itself its answer and nobody else theirs.

Searches, controller and ledger are the real ones; the engine is scripted, in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.events import Outcome, Unsampled
from agent.ledger import Ledger
from agent.run_folder import RunFolder
from agent.sampler_config import VllmSamplerConfig
from agent.vllm_engine import Answer, EngineDead, EngineFacts
from agent.vllm_sampler import VllmSampler
from tests.small_run import NUM_PROBLEMS, NUM_SAMPLES, assert_whole, run, sampled_in

VICTIM = "p3"  # the problem whose first prompt is the trouble


class ScriptedEngine:
    """Answers at once, but for the first prompt of VICTIM that it sees: over that one it dies, or never answers."""

    name = "engine 0"

    def __init__(self, *, dies: bool = False, answers_to_abort: bool = True, num_silent: int | None = None) -> None:
        """`num_silent` is how many times the trouble is none; None: always."""
        self._dies, self._answers_to_abort, self._num_left = dies, answers_to_abort, num_silent
        self._trouble: str | None = None
        self._dead = asyncio.Event()
        self.num_starts = 0
        self.beside: list[set[str]] = []  # what was open, with the trouble, when it died
        self.aborted: list[str] = []
        self._open: set[str] = set()

    async def start(self) -> EngineFacts:
        self.num_starts += 1
        self._dead = asyncio.Event()
        return EngineFacts(1, "twin", 100_000, True)

    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        prompt = bytes(prompt_token_ids).decode()
        if self._trouble is None and prompt.startswith(VICTIM):
            self._trouble = prompt
        self._open.add(prompt)
        try:
            if prompt == self._trouble and self._num_left != 0:
                self._num_left = None if self._num_left is None else self._num_left - 1
                await self._make_trouble()
            await self._unless_dead(0.002)
        finally:
            self._open.discard(prompt)
        return Answer(f"```python\nclass ModelNew:\n    by = {seed}\n```", (1, 2), "stop")

    async def _make_trouble(self) -> None:
        if self._dies:
            await asyncio.sleep(0.001)  # in which others come to be in flight beside it
            self.beside.append(set(self._open))
            self._dead.set()
        else:
            await self._unless_dead(3600.0)

    async def _unless_dead(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._dead.wait(), timeout=seconds)
        except TimeoutError:
            return
        raise EngineDead("EngineDeadError: EngineCore encountered an issue")

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)
        if not self._answers_to_abort:
            self._dead.set()
            raise EngineDead("abort took more than 60 s")

    async def sleep(self, deep: bool) -> None: ...

    async def wake_up(self) -> None: ...

    async def stop(self) -> None: ...


def run_over(folder: Path, engine: ScriptedEngine, *, timeout_seconds: float = 900.0) -> Any:
    async def whole() -> Any:
        sampler = VllmSampler(
            VllmSamplerConfig(kind="vllm", model="m", max_tokens=9, timeout_seconds=timeout_seconds),
            [engine],
            encode=lambda prompt: tuple(prompt.encode()),
            max_restarts=3,
            lease=None,
        )
        async with asyncio.timeout(60):
            return await run(folder, sampler)

    return asyncio.run(whole())


def unsampled_in(folder: Path) -> list[Unsampled]:
    with Ledger.open_read_only(RunFolder(folder).ledger) as ledger:
        return [entry.event for entry in ledger.events() if isinstance(entry.event, Unsampled)]


def assert_others_are_whole(folder: Path) -> None:
    sampled = [event for event in sampled_in(folder) if event.problem_id != VICTIM]
    assert len(sampled) == (NUM_PROBLEMS - 1) * NUM_SAMPLES


def test_a_prompt_that_kills_engine_after_engine_goes_without_an_answer_and_the_run_goes_on(tmp_path: Path) -> None:
    engine = ScriptedEngine(dies=True)
    assert run_over(tmp_path, engine).outcome is Outcome.COMPLETED
    (only,) = unsampled_in(tmp_path)
    assert only.problem_id == VICTIM
    assert "3 engines died over this request, the last one of EngineDeadError" in only.reason
    assert engine.num_starts == 4
    first, second, third = engine.beside
    assert len(first) > 1, "others were in flight, and nobody knew whose fault it was"
    assert not first & second & third - {f"{VICTIM} {only.proposal.id}"}, "none of them was there each time"
    assert_others_are_whole(tmp_path)


def test_a_late_request_is_taken_back_and_its_engine_goes_on_with_the_others(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    assert run_over(tmp_path, engine, timeout_seconds=0.5).outcome is Outcome.COMPLETED
    (only,) = unsampled_in(tmp_path)
    assert "no answer within 0.5 s, 3 times; raise sampler.timeout_seconds" in only.reason
    assert engine.num_starts == 1
    assert len(set(engine.aborted)) == 3
    assert all(request_id.startswith(f"{VICTIM}/{only.proposal.id}/") for request_id in engine.aborted)
    assert_others_are_whole(tmp_path)


@pytest.mark.parametrize("answers_to_abort", [True, False])
def test_what_is_late_once_is_asked_again_of_an_engine_that_lives(tmp_path: Path, answers_to_abort: bool) -> None:
    engine = ScriptedEngine(num_silent=1, answers_to_abort=answers_to_abort)
    assert_whole(tmp_path, run_over(tmp_path, engine, timeout_seconds=0.5))
    assert engine.num_starts == (1 if answers_to_abort else 2), "one that does not answer is started again"
