"""Starts a Ray of the run's own, or joins one.

Knows nothing of what runs there.
"""

from __future__ import annotations

import logging
import socket
from typing import Any

import ray
from ray.exceptions import RayError

from agent.pool import PoolError

CONNECT_SECONDS = 10.0
# Plans and prompts are all that passes through the store: some hundred kB each, one or two a worker.
OBJECT_STORE_BYTES = 256 * 2**20
MAX_QUOTED_CHARACTERS = 300


def start_ray(address: str | None) -> bool:
    """Whether it was started or joined here; one that already runs in this process is used as it is.

    Raises PoolError. A Ray of our own is reached by token only, which Ray keeps in the user's home.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:  # "local", and not whatever RAY_ADDRESS names
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        else:
            _check_reachable(address)
            ray.init(address=address, **quiet)
    except (RayError, RuntimeError, ValueError, OSError) as error:
        where = "start on this machine" if address is None else f"connect to {address}"
        hint = "" if address is None else " (a cluster that wants a token also wants RAY_AUTH_MODE=token here)"
        raise PoolError(f"Ray could not {where}: {one_line(error)}{hint}") from error
    return True


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_QUOTED_CHARACTERS]}"


def _check_reachable(address: str) -> None:
    """Raises OSError. Ray itself tries for ten minutes where nobody listens."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
