"""A search for one verified kernel with a model at hand: what it gives, what it keeps, how it says that none is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent import run_command
from agent.config import RunConfig
from agent.controller import Controller
from agent.sampler import Completion, RecordedSampler, Sampler, SampleRequest, SamplerError
from agent.verified import NoKernelPassed, PoolByTurns, SamplerByTurns, Stopping, Task, Turns, find_kernel
from sandbox.types import Candidate, Operator, Problem, Proposal
from tests.agent.word_pool import PROBLEM, WordPool


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_command, "open_pool", lambda config, tell: WordPool())
    monkeypatch.setattr("sandbox.environment.output_of", lambda command: None)  # no GPU, on GPU machines too


def answer(text: str) -> str:
    return f"```python\n# {text}\nclass ModelNew:\n    pass\n```\n"


def find(folder: Path, *, answers: list[dict[str, Any]], code: str = PROBLEM, run_dir: Path | None = None) -> str:
    recording = folder / "answers.jsonl"
    lines = [{"problem": "problem", "operator": "draft", **line} for line in answers]
    recording.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = Task(code=code, sampler={"kind": "recorded", "path": str(recording)}, num_samples=6, seed=3)
    found = find_kernel(task, open_sampler=lambda run: RecordedSampler(recording), run_dir=run_dir, on_gpu=False)
    assert found.verdict.passed
    return found.candidate.source


def test_the_kernel_that_passed_is_given_also_where_a_repair_was_needed(tmp_path: Path) -> None:
    answers = [
        {"id": "1", "completion": answer("BAD")},
        {"id": "2", "completion": answer("GOOD after all"), "operator": "repair", "parent": "1"},
    ]
    assert "# GOOD after all" in find(tmp_path, answers=answers)


def test_none_that_passed_is_an_error_that_counts_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(NoKernelPassed, match=r"no kernel passed in 2 samples \(wrong_values 2\)"):
        find(tmp_path, answers=[{"id": "1", "completion": answer("BAD")}, {"id": "2", "completion": answer("WORSE")}])
    with pytest.raises(NoKernelPassed, match="cannot be judged: the reference does not agree with itself"):
        find(tmp_path, answers=[{"id": "1", "completion": answer("GOOD")}], code=f"# INADMISSIBLE\n{PROBLEM}")


def test_a_run_folder_that_is_named_keeps_the_run(tmp_path: Path) -> None:
    run_dir = tmp_path / "kept"
    with pytest.raises(NoKernelPassed, match=f"see {run_dir}"):
        find(tmp_path, answers=[{"id": "1", "completion": answer("BAD")}], run_dir=run_dir)
    assert "wrong_values" in (run_dir / "report.md").read_text()
    assert run_command.resume(run_dir, as_json=True) == 0


def test_a_sampler_that_fails_is_an_error_with_its_cause(tmp_path: Path) -> None:
    class Down:
        async def sample(self, request: SampleRequest) -> Completion:
            raise SamplerError("the model is down")

        async def close(self) -> None:
            return None

    def open_down(run: RunConfig) -> Sampler:
        return Down()

    recording = tmp_path / "answers.jsonl"
    recording.write_text(json.dumps({"id": "1", "problem": "p", "operator": "draft", "completion": "x"}))
    task = Task(code=PROBLEM, sampler={"kind": "recorded", "path": str(recording)}, num_samples=2, seed=0)
    with pytest.raises(SamplerError, match="the search failed: the model is down"):
        find_kernel(task, open_sampler=open_down, run_dir=None, on_gpu=False)


def test_a_module_that_is_none_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"problem\.py"):
        find(tmp_path, answers=[{"id": "1", "completion": "x"}], code="x = 1\n")


def test_an_interrupt_reaches_a_controller_that_is_not_there_yet() -> None:
    class Stopped:
        num_stops = 0

        def stop(self) -> None:
            self.num_stops += 1

    controller: Any = Stopped()
    stopping = Stopping()
    stopping.stop()
    held: Controller = controller
    stopping.hold(held)
    assert controller.num_stops == 1


def test_on_one_gpu_nothing_is_sampled_while_a_candidate_is_judged() -> None:
    now: list[str] = []
    seen: list[set[str]] = []

    async def busy(what: str) -> None:
        now.append(what)
        try:
            for _ in range(3):
                seen.append(set(now))
                await asyncio.sleep(0)
        finally:
            now.remove(what)

    class Busy:
        capacity = 1

        async def sample(self, request: SampleRequest) -> Any:
            await busy("sample")

        async def judge(self, problem: Problem, candidate: Candidate) -> Any:
            await busy("judge")

        async def confirm(self, problem: Problem, candidate: Candidate) -> Any:
            await busy("judge")

        async def close(self) -> None:
            return None

    async def work() -> None:
        turns = Turns()
        sampler, pool = SamplerByTurns(Busy(), turns=turns), PoolByTurns(Busy(), turns=turns)
        problem = Problem(id="p", source="", origin="test")
        candidate = Candidate(problem_id="p", source="x", operator=Operator.DRAFT)
        draft = Proposal(id="d", operator=Operator.DRAFT)
        asked = SampleRequest(problem=problem, proposal=draft, ordinal=0, prompt="", parents=(), seed=0)
        works: list[Any] = []
        for _ in range(5):
            works += [sampler.sample(asked), sampler.sample(asked), pool.judge(problem, candidate)]
        works.append(pool.confirm(problem, candidate))
        given_up = asyncio.ensure_future(pool.judge(problem, candidate))
        tasks = [asyncio.ensure_future(item) for item in works]
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks), timeout=30)

    asyncio.run(work())
    assert {"sample"} in seen
    assert {"judge"} in seen
    assert {"sample", "judge"} not in seen
