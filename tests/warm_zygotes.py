"""Warm processes that outlive the tracers and judges of single tests: starting one takes five seconds of a core.

A warm process learns nothing from its calls, each of which has a child of its own, so one that answered its last call
serves the next tracer as a fresh one would. What starts its own `Zygote`, as the tests of isolation do, is not touched.
"""

from __future__ import annotations

from typing import Any

from sandbox.zygote import ChildOutcome, Zygote

Key = tuple[tuple[str, ...], str]


class _Kept(Zygote):
    """Goes back to its `WarmZygotes` when it is closed in good order."""

    def __init__(self, owner: WarmZygotes, key: Key) -> None:
        self._owner, self._key, self._in_order = owner, key, False
        entries, level = key
        super().__init__(entries, isolation_level=level)
        self._in_order = True

    def run(self, *args: Any, **kwargs: Any) -> ChildOutcome:
        self._in_order = False
        outcome = super().run(*args, **kwargs)
        self._in_order = True
        return outcome

    def close(self) -> None:
        if self._in_order and self._process.poll() is None:
            self._owner.idle.setdefault(self._key, []).append(self)
        else:
            self.end()

    def end(self) -> None:
        super().close()


class WarmZygotes:
    """Takes the place of the class `Zygote`."""

    def __init__(self) -> None:
        self.idle: dict[Key, list[_Kept]] = {}

    def __call__(self, entries: tuple[str, ...], *, isolation_level: str) -> Zygote:
        key = (entries, isolation_level)
        idle = self.idle.get(key, [])
        while idle:
            kept = idle.pop()
            if kept._process.poll() is None:
                return kept
            kept.end()
        return _Kept(self, key)

    def close(self) -> None:
        for kept in (kept for idle in self.idle.values() for kept in idle):
            kept.end()
        self.idle.clear()
