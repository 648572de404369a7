"""Starts a Ray of the run's own, or joins one, and says what it has room for.

Knows nothing of what runs there.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from agent.config import RayConfig
from agent.crew_sizes import CrewSizes, crew_sizes
from agent.engine_config import EngineConfig
from agent.pool import PoolError
from sandbox.environment import num_cores

CONNECT_SECONDS = 10.0
# Plans and prompts are all that passes through the store: some hundred kB each, one or two a worker.
OBJECT_STORE_BYTES = 256 * 2**20
MAX_QUOTED_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A worker's place. `visible` is its GPU as Ray names it on that node, "" where it has none; `gpu` the same GPU's
    UUID, or that name where the UUID is not to be told; `model` what nvidia-smi calls it."""

    node_id: str
    pid: int
    visible: str
    gpu: str | None
    model: str | None


def start_ray(address: str | None) -> bool:
    """Whether it was started or joined here; one that already runs in this process is used as it is.

    Raises PoolError. A Ray of our own is reached by token only, which Ray keeps in the user's home.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:  # "local", and not whatever RAY_ADDRESS names
            # Ray itself counts the machine's cores, whatever a batch system leaves to this process.
            store = OBJECT_STORE_BYTES
            ray.init("local", num_cpus=num_cores(), include_dashboard=False, object_store_memory=store, **quiet)
        else:
            _check_reachable(address)
            ray.init(address=address, **quiet)
    except (RayError, RuntimeError, ValueError, OSError) as error:
        where = "start on this machine" if address is None else f"connect to {address}"
        hint = "" if address is None else " (a cluster that wants a token also wants RAY_AUTH_MODE=token here)"
        raise PoolError(f"Ray could not {where}: {one_line(error)}{hint}") from error
    return True


def sizes_here(config: RayConfig, *, replaying: bool, engines: EngineConfig | None) -> CrewSizes:
    """For the cluster that is joined. Raises PoolError."""
    total = ray.cluster_resources()
    return crew_sizes(
        config,
        replaying=replaying,
        engines=engines,
        num_cores=int(total.get("CPU", 0)),
        num_gpus=num_gpus_here(),
    )


def num_gpus_here() -> int:
    """Of the whole cluster that is joined."""
    return int(ray.cluster_resources().get("GPU", 0))


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_QUOTED_CHARACTERS]}"


def _check_reachable(address: str) -> None:
    """Raises OSError. Ray itself tries for ten minutes where nobody listens."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
