"""Traces programs in a thread of its own, in the order in which they will be asked for: one core traces while another
judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from tests.adversarial.layers import Program


class TracedAhead:
    """What tracing gives for each of `programs`. `settings` takes a program's limit in seconds, None for the usual."""

    def __init__(self, programs: Sequence[Program], *, settings: Callable[[float | None], JudgeSettings]) -> None:
        self._settings = settings
        self.tracer = Tracer(settings(None))
        self._pool = ThreadPoolExecutor(1)  # whose end would end the warm process that it started
        self._traced = {program.path: self._pool.submit(self._trace, program) for program in programs}

    def __getitem__(self, path: Path) -> Traced:
        return self._traced[path].result()

    def _trace(self, program: Program) -> Traced:
        self.tracer._settings = self._settings(None)
        self.tracer.spec(program.problem)
        self.tracer._settings = self._settings(program.wall_seconds)
        return self.tracer.trace(program.problem, program.candidate)

    def close(self) -> None:
        for future in self._traced.values():
            future.cancel()
        self._pool.submit(self.tracer.close).result()
        self._pool.shutdown()
