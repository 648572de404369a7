"""What each GPU had a part in, in a run. Knows nothing of how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sandbox.types import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuShare:
    """What one GPU had a part in: verdicts of searches and confirmations, and the seconds that they were charged.
    `model` is None where no verdict of it says so."""

    uuid: str
    model: str | None = None
    num_verdicts: int = 0
    gpu_seconds: float = 0.0


class GpuTally:
    """Counts verdict by verdict; one that names no GPU is left out."""

    def __init__(self) -> None:
        self._shares: dict[str, GpuShare] = {}

    def add(self, verdict: Verdict) -> None:
        if verdict.gpu is None:
            return
        share = self._shares.get(verdict.gpu, GpuShare(uuid=verdict.gpu))
        told = None if verdict.correctness is None else verdict.correctness.conditions.get("gpu")
        self._shares[verdict.gpu] = replace(
            share,
            model=share.model or told,
            num_verdicts=share.num_verdicts + 1,
            gpu_seconds=share.gpu_seconds + verdict.spend.gpu_seconds,
        )

    @property
    def shares(self) -> tuple[GpuShare, ...]:
        """In the order of the names."""
        return tuple(self._shares[uuid] for uuid in sorted(self._shares))
