"""A request's time limit counts what it ran, and nothing of the time that it stood still."""

from __future__ import annotations

import asyncio

import pytest

from agent.request_clocks import RequestClocks

SOON = 0.05


def test_a_limit_stands_still_between_stop_and_start() -> None:
    async def work() -> float:
        clocks, loop = RequestClocks(), asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(TimeoutError):
            async with clocks.limit(2 * SOON):
                await asyncio.sleep(SOON)
                clocks.stop()
                clocks.stop()
                await asyncio.sleep(4 * SOON)
                clocks.start()
                clocks.start()
                await asyncio.sleep(10)
        return loop.time() - begun

    assert asyncio.run(work()) >= 5.9 * SOON


def test_a_request_that_ends_in_time_leaves_no_clock_behind() -> None:
    async def work() -> None:
        clocks = RequestClocks()
        async with clocks.limit(10.0):
            clocks.stop()
        clocks.start()
        with pytest.raises(TimeoutError):
            async with clocks.limit(SOON):
                await asyncio.sleep(10)

    asyncio.run(work())
