"""One real vLLM engine for all tests that only ask it: starting one takes the better part of a minute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from agent.engine_config import EngineConfig
from agent.sampler_config import VllmSamplerConfig
from agent.vllm_engine import Answer, EngineFacts

PYTHON = os.environ.get("KERNELLOOP_VLLM_PYTHON")  # an interpreter that has vLLM, where this one has not
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


class SharedEngine:
    """Started by the first sampler, ended with Ray and not with a sampler."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._facts: EngineFacts | None = None

    @property
    def name(self) -> str:
        return "shared engine"

    async def start(self) -> EngineFacts:
        if self._facts is None:
            self._facts = await self._engine.start()
        return self._facts

    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        answer: Answer = await self._engine.generate(prompt_token_ids, options, seed, request_id)
        return answer

    async def abort(self, request_id: str) -> None:
        await self._engine.abort(request_id)

    async def sleep(self, deep: bool) -> None: ...

    async def wake_up(self) -> None: ...

    async def stop(self) -> None: ...


@cache
def shared_engine(model: Path, *, max_model_len: int) -> SharedEngine:
    from agent.ray_cluster import start_ray
    from agent.ray_engines import open_engines

    start_ray(None)
    config = VllmSamplerConfig(kind="vllm", model=str(model), concurrency=32)
    engine = EngineConfig(
        python=PYTHON, environment=CPU, enforce_eager=True, max_model_len=max_model_len, memory_share=0.3
    )
    (only,) = open_engines(config, engine, num_engines=1, seats=None, on_gpu=False)
    return SharedEngine(only)


def end_shared_engines() -> None:
    """With their Ray, for a test that starts one of its own; whoever asks next gets a new engine."""
    import ray

    shared_engine.cache_clear()
    ray.shutdown()
