"""Answers for a loop under load: they take an engine's time, and have a meaning that no engine with dummy weights has.

Knows nothing of what becomes of them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent.sampler import Completion, SampleRequest
from agent.vllm_sampler import VllmSampler
from sandbox.types import Problem
from tests.benchmarks.candidates import Kind, mixed_set

ROOT = Path(__file__).parents[2]
SLOTS_WITHOUT_ENGINES = 64


class Programs:
    """Answers with a meaning: for each problem its programs in turn, each time under another kernel's name, which makes
    it another plan."""

    def __init__(self, problems: Sequence[Problem], *, seed: int) -> None:
        recorded = ROOT / "configs/completions/recorded.jsonl"
        entries = mixed_set(problems, count=800, seed=seed, recorded=recorded)
        self._sources: dict[str, list[str]] = {}
        for entry in entries:
            if entry.kind in (Kind.RIGHT, Kind.WRONG, Kind.BROKEN):
                self._sources.setdefault(entry.problem.id, []).append(entry.candidate.source)
        self._turns = Counter[str]()

    @property
    def problem_ids(self) -> list[str]:
        return sorted(self._sources)

    def next(self, problem_id: str) -> str:
        sources, turn = self._sources[problem_id], self._turns[problem_id]
        self._turns[problem_id] += 1
        name = f"kernel_{turn}"
        text = sources[turn % len(sources)].replace("def kernel(", f"def {name}(").replace("kernel[", f"{name}[")
        return f"```python\n# answer {turn}\n{text}\n```"


class Meaningful:
    """Waits for the engines' answers and says something else. Without engines, at once.

    The first answers are asked for over `spread_seconds`: all of one length, they would come in waves for ever.
    """

    def __init__(self, engines: VllmSampler | None, programs: Programs, *, spread_seconds: float) -> None:
        self._engines, self._programs = engines, programs
        self._dice, self._spread_seconds = random.Random(0), spread_seconds
        self._num_asked = 0

    @property
    def num_slots(self) -> int:
        return SLOTS_WITHOUT_ENGINES if self._engines is None else self._engines.num_slots

    async def wait_until_up(self) -> None:
        if self._engines is not None:
            await self._engines.wait_until_up()

    async def sample(self, request: SampleRequest) -> Completion:
        text = self._programs.next(request.problem.id)
        self._num_asked += 1
        if self._engines is None:
            return Completion(text=text, finish_reason="stop", prompt_tokens=0, completion_tokens=0)
        if self._num_asked <= self.num_slots:
            await asyncio.sleep(self._dice.uniform(0.0, self._spread_seconds))
        answer = await self._engines.sample(request)
        return replace(answer, text=text, token_ids=None, finish_reason="stop")

    async def close(self) -> None:
        if self._engines is not None:
            await self._engines.close()
