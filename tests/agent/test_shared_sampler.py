"""One engine serves all arms that differ in how they draw, and each arm draws as it says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.config import RunConfig, config_of
from agent.sampler import Completion, Sampler, SampleRequest
from agent.shared_sampler import SharedSamplers, open_shared
from agent.transformers_sampler import TransformersSampler
from sandbox.types import Operator, Problem, Proposal
from tests.agent.scripted_run import ScriptedSampler
from tests.agent.word_pool import PROBLEM


def config(folder: Path, **sampler: object) -> RunConfig:
    (folder / "problem.py").write_text(PROBLEM, encoding="utf-8")
    return config_of({"problems": str(folder / "problem.py"), "sampler": sampler}, path=folder / "x.yaml")


def arms_of(folder: Path, model: Path, **temperatures: float) -> dict[str, RunConfig]:
    common = {"kind": "transformers", "model": str(model), "max_tokens": 12, "device": "cpu", "concurrency": 8}
    return {arm: config(folder, **common, temperature=temperature) for arm, temperature in temperatures.items()}


def request(seed: int) -> SampleRequest:
    problem = Problem(id="p", source="x", origin="test")
    proposal = Proposal(id="draft-0", operator=Operator.DRAFT)
    return SampleRequest(problem=problem, proposal=proposal, ordinal=0, prompt="def f(", parents=(), seed=seed)


def transformers_sampler(config: RunConfig) -> Sampler:
    assert config.sampler.kind == "transformers"
    return TransformersSampler(config.sampler)


def test_one_model_is_loaded_and_every_arm_draws_at_its_own_temperature(tmp_path: Path, tiny_checkpoint: Path) -> None:
    arms = arms_of(tmp_path, tiny_checkpoint, likeliest=0.0, warm=1.0, warmest=3.0)

    async def drawn(shared: SharedSamplers) -> dict[str, list[Completion]]:
        found = {arm: [await shared.by_arm[arm].sample(request(seed)) for seed in (1, 2, 3)] for arm in arms}
        await shared.close()
        return found

    shared = open_shared(arms, open_engine=transformers_sampler)
    assert len(shared.engines) == 1
    together = asyncio.run(drawn(shared))
    assert len({completion.text for completion in together["likeliest"]}) == 1
    assert len({completion.text for completion in together["warmest"]}) == 3
    for arm, arm_config in arms.items():
        alone = asyncio.run(drawn_alone(arm_config))
        assert [completion.text for completion in together[arm]] == alone, "an engine of its own says the same"


async def drawn_alone(config: RunConfig) -> list[str]:
    sampler = transformers_sampler(config)
    found = [(await sampler.sample(request(seed))).text for seed in (1, 2, 3)]
    await sampler.close()
    return found


def test_another_model_is_another_engine_and_the_narrowest_is_shared_evenly(tmp_path: Path) -> None:
    arms = {
        arm: config(tmp_path, kind="http", base_url="http://localhost:1", model=model, concurrency=concurrency)
        for arm, model, concurrency in (("a", "one", 9), ("b", "two", 64), ("c", "one", 9))
    }
    opened: list[RunConfig] = []

    def open_engine(config: RunConfig) -> Sampler:
        opened.append(config)
        return ScriptedSampler()

    shared = open_shared(arms, open_engine=open_engine)
    assert len(opened) == len(shared.engines) == 2
    assert shared.by_arm["a"] is shared.by_arm["c"] is not shared.by_arm["b"]
    assert shared.slots_each == 3
