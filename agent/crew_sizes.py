"""Decides how many workers of each kind a cluster gets, and the cores that each of them books.

Knows nothing of how they are placed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.config import RayConfig
from agent.pool import PoolError

RESOURCE_UNITS_PER_CORE = 10_000  # Ray's own resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSizes:
    """How many workers of each kind, and the cores that each of them books."""

    num_tracers: int
    num_judges: int
    cores_per_worker: float


def crew_sizes(config: RayConfig, *, replaying: bool, num_cores: int, num_gpus: int) -> CrewSizes:
    """What `config` says; else a judge for each GPU to replay, or for half the cores to interpret. Raises PoolError."""
    if num_cores < 1:
        raise PoolError("the Ray cluster has no whole core for workers")
    num_judges = config.judges or (num_gpus if replaying else max(1, num_cores // 2))
    if replaying and not 1 <= num_judges <= num_gpus:
        raise PoolError(
            f"replay needs a GPU for each judge; the Ray cluster has {num_gpus}, ray.judges is {num_judges}"
        )
    num_tracers = config.trace_workers or max(1, num_cores - num_judges)
    # A whole number of workers to a core, or some would fit the sum of the nodes' cores and no single node.
    workers_per_core = math.ceil((num_tracers + num_judges) / num_cores)
    cores_per_worker = math.floor(RESOURCE_UNITS_PER_CORE / workers_per_core) / RESOURCE_UNITS_PER_CORE
    return CrewSizes(num_tracers=num_tracers, num_judges=num_judges, cores_per_worker=cores_per_worker)
