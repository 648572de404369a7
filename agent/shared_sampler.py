"""The samplers of an experiment's arms: one engine for all arms that differ in nothing but how they draw from it.

So a model is loaded once, and answers of several arms are generated in one batch. Knows nothing of cells or seeds.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from agent.config import RunConfig
from agent.sampler import Completion, Sampler, SampleRequest
from agent.sampler_config import SamplerConfig, TransformersSamplerConfig, VllmSamplerConfig
from agent.transformers_sampler import TransformersSampler
from agent.vllm_sampler import VllmSampler

# What is told with each request, or is the prompt writer's: an engine is the same whatever these are.
DRAWING = frozenset(
    {
        "temperature", "operator_temperatures", "top_p", "top_k", "max_tokens", "concurrency", "template",
        "operator_templates", "prompt_tokens", "stop", "repetition",
    }
)  # fmt: skip


class DrawnAs:
    """A sampler over somebody else's engine, under settings of its own."""

    def __init__(self, draw: Callable[[SampleRequest], Awaitable[Completion]]) -> None:
        self._draw = draw

    async def sample(self, request: SampleRequest) -> Completion:
        return await self._draw(request)

    async def close(self) -> None:
        """The engine is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSamplers:
    """`by_arm` are used, `engines` are waited for and closed: the arms that have one in common have it once."""

    by_arm: Mapping[str, Sampler]
    engines: tuple[Sampler, ...]
    slots_each: int

    async def close(self) -> None:
        for engine in self.engines:
            await engine.close()


def open_shared(arms: Mapping[str, RunConfig], *, open_engine: Callable[[RunConfig], Sampler]) -> SharedSamplers:
    """Each arm may have `slots_each` answers in flight: an even share of what the narrowest engine works on at once.

    The share is the same for all arms, and stays so when some arms have ended: what is in flight is what a strategy
    has to do without, so it is a condition of the experiment.
    """
    engines: dict[str, Sampler] = {}
    for config in arms.values():
        key = engine_key(config.sampler)
        engines[key] = engines.get(key) or open_engine(config)
    by_arm = {arm: drawing_as(engines[engine_key(c.sampler)], config=c.sampler) for arm, c in arms.items()}
    widths = [num_slots(engines[engine_key(config.sampler)], config=config.sampler) for config in arms.values()]
    return SharedSamplers(by_arm=by_arm, engines=tuple(engines.values()), slots_each=max(1, min(widths) // len(arms)))


def engine_key(config: SamplerConfig) -> str:
    """Equal for the samplers that one engine can serve."""
    shareable = isinstance(config, TransformersSamplerConfig | VllmSamplerConfig)
    return json.dumps(config.model_dump(mode="json", exclude=set(DRAWING) if shareable else None), sort_keys=True)


def drawing_as(engine: Sampler, *, config: SamplerConfig) -> Sampler:
    if isinstance(engine, TransformersSampler) and isinstance(config, TransformersSamplerConfig):
        return DrawnAs(partial(engine.sample_under, config=config))
    if isinstance(engine, VllmSampler) and isinstance(config, VllmSamplerConfig):
        return DrawnAs(partial(engine.sample_under, config=config))
    return engine


def num_slots(engine: Sampler, *, config: SamplerConfig) -> int:
    return engine.num_slots if isinstance(engine, VllmSampler) else config.concurrency
