"""How many workers a machine or a cluster gets."""

from __future__ import annotations

import pytest

from agent.config import RayConfig
from agent.crew_sizes import crew_sizes
from agent.engine_config import EngineConfig
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
    found = crew_sizes(asked, replaying=replaying, engines=None, num_cores=machine[0], num_gpus=machine[1])
    assert (found.num_tracers, found.num_judges, found.cores_per_worker) == sizes


@pytest.mark.parametrize(("judges", "num_gpus"), [(None, 0), (2, 1)])
def test_replay_without_enough_gpus_is_refused(judges: int | None, num_gpus: int) -> None:
    with pytest.raises(PoolError, match="a GPU for each judge"):
        crew_sizes(RayConfig(judges=judges), replaying=True, engines=None, num_cores=4, num_gpus=num_gpus)


@pytest.mark.parametrize(
    ("asked", "engines", "replaying", "num_gpus", "judges_and_engines"),
    [
        (RayConfig(), EngineConfig(), True, 2, (1, 1)),
        (RayConfig(), EngineConfig(), True, 4, (1, 3)),
        (RayConfig(), EngineConfig(), True, 8, (2, 6)),
        (RayConfig(judges=1), EngineConfig(), True, 8, (1, 7)),
        (RayConfig(), EngineConfig(num_engines=1), True, 8, (7, 1)),
        (RayConfig(), EngineConfig(tensor_parallel=2), True, 8, (2, 3)),
        (RayConfig(), EngineConfig(), False, 4, (8, 4)),  # interpreters want no GPU
        (RayConfig(), EngineConfig(), False, 0, (8, 1)),
        (RayConfig(), EngineConfig(placement="shared"), True, 1, (1, 1)),
        (RayConfig(), EngineConfig(placement="shared"), True, 8, (8, 8)),
        (RayConfig(judges=3), EngineConfig(placement="shared", num_engines=2), True, 8, (3, 2)),
    ],
)
def test_engines_get_the_gpus_that_judges_leave_or_share_theirs(
    asked: RayConfig, engines: EngineConfig, replaying: bool, num_gpus: int, judges_and_engines: tuple[int, int]
) -> None:
    found = crew_sizes(asked, replaying=replaying, engines=engines, num_cores=16, num_gpus=num_gpus)
    assert (found.num_judges, found.num_engines) == judges_and_engines
    booked = (found.num_judges + found.num_tracers) * found.cores_per_worker
    assert booked <= 16 - found.num_engines, "each engine keeps a core"


@pytest.mark.parametrize(
    ("judges", "engines", "num_gpus", "says"),
    [
        (None, EngineConfig(), 1, "placement: shared"),
        (2, EngineConfig(num_engines=2), 3, "a GPU for each judge"),
        (None, EngineConfig(tensor_parallel=4), 2, "want 4 each"),
        (1, EngineConfig(placement="shared", num_engines=2), 4, "there are 1 judges' GPUs to share"),
    ],
)
def test_engines_for_which_there_is_no_room_are_refused(
    judges: int | None, engines: EngineConfig, num_gpus: int, says: str
) -> None:
    with pytest.raises(PoolError, match=says):
        crew_sizes(RayConfig(judges=judges), replaying=True, engines=engines, num_cores=16, num_gpus=num_gpus)
