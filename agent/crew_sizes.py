"""Decides how many workers of each kind a cluster gets, and the cores that each of them books.

Knows nothing of how they are placed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.config import RayConfig
from agent.engine_config import EngineConfig
from agent.pool import PoolError

RESOURCE_UNITS_PER_CORE = 10_000  # Ray's own resolution
ENGINES_PER_JUDGE = 4  # where about a quarter of the answers reach the GPU: the README's cluster section has the rule
TRACERS_PER_JUDGE = 9  # keep one judge busy: 326 seconds of theirs for what took a judge 38 s (docs/benchmarks.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSizes:
    """How many of each kind, and the cores that each worker books. An engine books none, but a core is left for it."""

    num_tracers: int
    num_judges: int
    num_engines: int
    cores_per_worker: float


def crew_sizes(
    config: RayConfig, *, replaying: bool, engines: EngineConfig | None, num_cores: int, num_gpus: int
) -> CrewSizes:
    """What the configuration says; else GPUs for judges and engines, or half the cores to interpret on.

    Raises PoolError.
    """
    if num_cores < 1:
        raise PoolError("the Ray cluster has no whole core for workers")
    num_engines = 0 if engines is None else _num_engines(config, engines, replaying=replaying, num_gpus=num_gpus)
    num_left = num_gpus
    if engines is not None and engines.placement == "own":
        num_left -= num_engines * engines.tensor_parallel if num_gpus else 0
    num_judges = config.judges or (max(0, num_left) if replaying else max(1, num_cores // 2))
    if replaying and not 1 <= num_judges <= num_left:
        raise PoolError(_too_few(config, num_gpus=num_gpus, num_engines=num_engines, engines=engines))
    num_for_workers = max(1, num_cores - num_engines)
    num_tracers = config.trace_workers or max(1, num_for_workers - num_judges)
    # A whole number of workers to a core, or some would fit the sum of the nodes' cores and no single node.
    workers_per_core = math.ceil((num_tracers + num_judges) / num_for_workers)
    cores_per_worker = math.floor(RESOURCE_UNITS_PER_CORE / workers_per_core) / RESOURCE_UNITS_PER_CORE
    return CrewSizes(
        num_tracers=num_tracers, num_judges=num_judges, num_engines=num_engines, cores_per_worker=cores_per_worker
    )


def _num_engines(config: RayConfig, engines: EngineConfig, *, replaying: bool, num_gpus: int) -> int:
    """Raises PoolError where the GPUs are not enough."""
    if num_gpus == 0:
        return engines.num_engines or 1
    if engines.placement == "shared":
        num_shared = (config.judges or num_gpus) if replaying else num_gpus
        if (engines.num_engines or 0) > num_shared:
            raise PoolError(
                f"engine.num_engines is {engines.num_engines}, and there are {num_shared} judges' GPUs to share"
            )
        return engines.num_engines or num_shared
    num_for_judges = (config.judges or math.ceil(num_gpus / (1 + ENGINES_PER_JUDGE))) if replaying else 0
    num_engines = engines.num_engines or max(1, (num_gpus - num_for_judges) // engines.tensor_parallel)
    if num_engines * engines.tensor_parallel > num_gpus:
        raise PoolError(_too_few(config, num_gpus=num_gpus, num_engines=num_engines, engines=engines))
    return num_engines


def _too_few(config: RayConfig, *, num_gpus: int, num_engines: int, engines: EngineConfig | None) -> str:
    told = f"replay needs a GPU for each judge; the Ray cluster has {num_gpus}, ray.judges is {config.judges}"
    if engines is None or num_engines == 0:
        return told
    each = engines.tensor_parallel
    return f"{told}, and {num_engines} vLLM engine(s) want {each} each; engine.placement: shared lets them share"
