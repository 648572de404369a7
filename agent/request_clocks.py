"""Time limits of requests in flight, which stand still together while the requests are frozen.

Knows nothing of engines or leases.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class RequestClocks:
    """One limit for each request; used in one event loop."""

    def __init__(self) -> None:
        self._left: dict[asyncio.Timeout, float] = {}  # what was left when they stopped last

    @contextlib.asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        """Raises TimeoutError when the block has taken longer, the time between `stop` and `start` not counted."""
        async with asyncio.timeout(seconds) as clock:
            self._left[clock] = seconds
            try:
                yield
            finally:
                del self._left[clock]

    def stop(self) -> None:
        now = asyncio.get_running_loop().time()
        for clock in self._left:
            if (when := clock.when()) is not None and not clock.expired():
                self._left[clock] = when - now
                clock.reschedule(None)

    def start(self) -> None:
        now = asyncio.get_running_loop().time()
        for clock, left_seconds in self._left.items():
            if clock.when() is None and not clock.expired():
                clock.reschedule(now + left_seconds)
