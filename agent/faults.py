"""What went wrong with a run's machines: judges and engines that failed, GPUs that are not used any more.

One JSON object a line in the run's folder, for whoever reads its report. Knows nothing of who noticed, and decides
nothing: what was in hand is done again elsewhere, and no candidate is charged for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

log = logging.getLogger(__name__)


class FaultKind(StrEnum):
    """What happened."""

    JUDGE_FAILED = "judge_failed"  # its process on the GPU, or the judge itself, was lost in mid-job
    GPU_QUARANTINED = "gpu_quarantined"  # no candidate is judged there any more
    ENGINE_DIED = "engine_died"  # and was started again
    ENGINE_GIVEN_UP = "engine_given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`gpus` are UUIDs where those could be told, else the names that Ray has for them. `reason` is one line."""

    kind: FaultKind
    gpus: tuple[str, ...]
    reason: str


Tell = Callable[[Fault], None]


class FaultLog:
    """The file of one run. Faults of later epochs follow those of earlier ones."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
        self._path, self._clock = path, clock

    def tell(self, fault: Fault) -> None:
        """A disk that takes no line costs the line, not the run."""
        line = json.dumps({"at": self._clock(), **asdict(fault)})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            log.warning("fault_not_written: %s: %s", self._path, error)


def read_faults(path: Path) -> tuple[Fault, ...]:
    """Every fault in order; () where there is no file. A last line that was cut off is left out. Raises ValueError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    whole, _, _ = text.rpartition("\n")
    return tuple(_fault(line, path=path) for line in whole.splitlines())


def _fault(line: str, *, path: Path) -> Fault:
    try:
        raw = json.loads(line)
        return Fault(kind=FaultKind(raw["kind"]), gpus=tuple(raw["gpus"]), reason=raw["reason"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: a line is no fault: {line[:200]}") from error
