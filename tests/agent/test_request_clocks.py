"""A request's time limit counts what it ran, and nothing of the time that it stood still."""

from __future__ import annotations

import asyncio

import pytest

from agent.request_clocks import RequestClocks

SOON = 0.05


def test_a_limit_stands_still_between_stop_and_start() -> None:
    async def work() -> None:
        clocks, loop = RequestClocks(), asyncio.get_running_loop()
        usual, passed = loop.time, [0.0]

        async def pass_seconds(seconds: float) -> None:
            passed[0] += seconds
            await asyncio.sleep(0)

        loop.time = lambda: usual() + passed[0]  # type: ignore[method-assign]
        in_time = False
        with pytest.raises(TimeoutError):
            async with clocks.limit(3600):
                await pass_seconds(1200)
                clocks.stop()
                clocks.stop()
                await pass_seconds(100_000)
                clocks.start()
                clocks.start()
                await pass_seconds(1200)
                in_time = True
                await pass_seconds(1201)
                await asyncio.sleep(10)
        assert in_time

    asyncio.run(work())


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
