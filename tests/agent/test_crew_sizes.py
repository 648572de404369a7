"""How many workers a machine or a cluster gets."""

from __future__ import annotations

import pytest

from agent.config import RayConfig
from agent.crew_sizes import crew_sizes
from agent.pool import PoolError


@pytest.mark.parametrize(
    ("asked", "replaying", "machine", "sizes"),
    [
        (RayConfig(), False, (2, 0), (1, 1, 1.0)),
        (RayConfig(), False, (1, 0), (1, 1, 0.5)),
        (RayConfig(), False, (16, 8), (8, 8, 1.0)),
        (RayConfig(), True, (16, 1), (15, 1, 1.0)),
        (RayConfig(), True, (2, 2), (1, 2, 0.5)),
        (RayConfig(trace_workers=2, judges=2), False, (2, 0), (2, 2, 0.5)),
        (RayConfig(trace_workers=5, judges=2), False, (2, 0), (5, 2, 0.25)),
        (RayConfig(judges=1), True, (16, 8), (15, 1, 1.0)),
    ],
)
def test_crews_fit_the_machine(
    asked: RayConfig, replaying: bool, machine: tuple[int, int], sizes: tuple[int, int, float]
) -> None:
    found = crew_sizes(asked, replaying=replaying, num_cores=machine[0], num_gpus=machine[1])
    assert (found.num_tracers, found.num_judges, found.cores_per_worker) == sizes


@pytest.mark.parametrize(("judges", "num_gpus"), [(None, 0), (2, 1)])
def test_replay_without_enough_gpus_is_refused(judges: int | None, num_gpus: int) -> None:
    with pytest.raises(PoolError, match="a GPU for each judge"):
        crew_sizes(RayConfig(judges=judges), replaying=True, num_cores=4, num_gpus=num_gpus)
