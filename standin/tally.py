"""Counts of what a run of `make.py` has verified, refused and broken, by shard and in all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A generated pair that our judge does not pass: a fault of the generator."""

    seed: int
    family: str
    status: str
    composition: str
    told: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """`verified` is by family, `broken` by slip and status; `stage_seconds` is where the judge's time went, and
    `wall_seconds` what the shards took together."""

    verified: Counter[str] = field(default_factory=Counter)
    refused: list[Refusal] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    judged: int = 0
    stage_seconds: Counter[str] = field(default_factory=Counter)  # of floats, for their sums
    wall_seconds: float = 0.0
    made_by: str = ""  # the generator's fingerprint

    def time(self, stage_seconds: Mapping[str, float]) -> None:
        """Notes one judgement."""
        self.judged += 1
        for stage, seconds in stage_seconds.items():
            self.stage_seconds[stage] += seconds  # type: ignore[assignment]

    def num_repairs(self) -> int:
        return sum(n for name, n in self.broken.items() if not name.endswith((": passed", ": unverified")))

    def line(self) -> str:
        return (
            f"{self.verified.total()} verified, {len(self.refused)} refused, {self.num_repairs()} repairs, "
            f"{self.judged / max(self.wall_seconds, 1e-9):.2f} judged a second and worker"
        )


def added(left: Tally, right: Tally) -> Tally:
    return Tally(
        verified=left.verified + right.verified,
        refused=[*left.refused, *right.refused],
        broken=left.broken + right.broken,
        repeated=left.repeated + right.repeated,
        judged=left.judged + right.judged,
        stage_seconds=left.stage_seconds + right.stage_seconds,
        wall_seconds=left.wall_seconds + right.wall_seconds,
    )


def write_tally(tally: Tally, path: Path) -> None:
    raw = {item.name: getattr(tally, item.name) for item in fields(tally)}
    raw["refused"] = [asdict(refusal) for refusal in tally.refused]
    path.write_text(json.dumps(raw), encoding="utf-8")


def read_tally(path: Path) -> Tally:
    raw = json.loads(path.read_text(encoding="utf-8"))
    counters = {name: Counter(raw[name]) for name in ("verified", "broken", "stage_seconds")}
    return Tally(**{**raw, **counters, "refused": [Refusal(**refusal) for refusal in raw["refused"]]})


def summary(tally: Tally, *, elapsed_seconds: float | None) -> str:
    """Some lines for people."""
    lines = [tally.line()]
    if elapsed_seconds is not None:
        lines[0] += f", {elapsed_seconds:.0f} s"
    for family, count in sorted(tally.verified.items()):
        lines.append(f"  {family:12} {count} verified, {sum(r.family == family for r in tally.refused)} refused")
    lines.append(f"  {tally.repeated} answers came out alike and were left out")
    stages = {stage: seconds / max(tally.judged, 1) for stage, seconds in tally.stage_seconds.items()}
    lines.append("  seconds a judgement: " + ", ".join(f"{name} {value:.3f}" for name, value in stages.items()))
    statuses = Counter(name.rpartition(": ")[2] for name in tally.broken.elements())
    lines.append("  broken answers: " + ", ".join(f"{name} {n}" for name, n in statuses.most_common()))
    lines += [f"  REFUSED {r.status}: seed {r.seed}, {r.composition}: {r.told}" for r in tally.refused[:20]]
    return "\n".join(lines) + "\n"
