"""Sees which buffers each launch of a plan writes, so that a kernel launched on junk is told from one that works.

Only looks; what follows from it is `plan_check.dataflow`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sandbox.execute import Arena, same_bits
from sandbox.plan import LaunchStep
from sandbox.plan_check import step_refs

_MEMORY_SHARE = 0.5  # of the free memory that copies of one launch's buffers may take


class WriteObserver:
    """A launcher that compares a launch's buffers before and after.

    `writes` has the storages that each launch wrote, in order. It is None once a launch's buffers were too large to
    copy: half an observation would call live launches dead.
    """

    def __init__(self, arena: Arena, launch: Callable[[LaunchStep], None]) -> None:
        self._arena, self._launch = arena, launch
        inputs = {arena.plan.values[i].storage for i in arena.plan.inputs}
        self._candidates = set(range(len(arena.plan.storages))) - inputs
        self.writes: list[list[int]] | None = []

    def __call__(self, step: LaunchStep) -> None:
        storages = self._storages(step)
        needed = sum(self._arena.plan.storages[s].num_bytes for s in storages)
        if self.writes is not None and needed > torch.cuda.mem_get_info(self._arena.device)[0] * _MEMORY_SHARE:
            self.writes = None
        if self.writes is None:
            self._launch(step)
            return
        before = {storage: self._arena.buffer(storage).clone() for storage in storages}
        self._launch(step)
        self.writes.append([s for s, content in before.items() if not same_bits(content, self._arena.buffer(s))])

    def _storages(self, step: LaunchStep) -> list[int]:
        plan = self._arena.plan
        return sorted({plan.values[i].storage for i in step_refs(plan, step)} & self._candidates)
