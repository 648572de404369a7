"""Counts what fails on each GPU and says which of them nothing is given to any more.

GPUs go by UUID: an index may mean another one after a reset, on another node, or to another process. Knows nothing of
Ray or of what is run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from agent.faults import Fault, FaultKind, Tell

log = logging.getLogger(__name__)

MAX_FAULTS = 3  # in a row on one GPU
MIN_SUBJECTS = 2  # among them: what fails on one candidate alone may be that candidate's doing


@dataclass(slots=True)
class _Row:
    """The faults on a GPU since something last worked there."""

    num_faults: int = 0
    subjects: set[str] = field(default_factory=set)


class GpuHealth:
    """Of all GPUs of a run, for as long as the run's process lives: a resumed run tries every GPU again."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._rows: dict[str, _Row] = {}
        self._quarantined: set[str] = set()

    @property
    def quarantined(self) -> frozenset[str]:
        return frozenset(self._quarantined)

    def worked(self, gpu: str) -> None:
        self._rows.pop(gpu, None)

    def failed(self, gpu: str, *, subject: str, reason: str) -> None:
        """Once more, while it was at work on `subject`. The third time in a row puts it in quarantine, if not all three
        were at the same."""
        row = self._rows.setdefault(gpu, _Row())
        row.num_faults += 1
        row.subjects.add(subject)
        self._tell(Fault(kind=FaultKind.JUDGE_FAILED, gpus=(gpu,), reason=reason))
        if row.num_faults >= MAX_FAULTS and len(row.subjects) >= MIN_SUBJECTS:
            self.quarantine(gpu, reason=f"{row.num_faults} faults in a row, the last: {reason}")

    def quarantine(self, gpu: str, *, reason: str) -> None:
        if gpu not in self._quarantined:
            self._quarantined.add(gpu)
            log.error("gpu_quarantined: %s: %s", gpu, reason)
            self._tell(Fault(kind=FaultKind.GPU_QUARANTINED, gpus=(gpu,), reason=reason))
