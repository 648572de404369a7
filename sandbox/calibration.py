"""What calibrating a problem gave. A record that loads no torch; `calibrate.py` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Whether a problem can be judged, and on which cases.

    `kinds` are those of its cases, in order. `passed` names the null programs that no kind of input rejects and that
    make the problem inadmissible; `unseen` the operations, weights and inputs that could be left out without any case
    telling; `seen_weights` the weights that could not.
    """

    admitted: bool
    reason: str | None
    num_nulls: int
    num_rejected: int
    passed: tuple[str, ...]
    unseen: tuple[str, ...]
    seen_weights: tuple[str, ...]
    kinds: tuple[str, ...]
    seconds: float

    def __post_init__(self) -> None:
        if self.admitted != (self.reason is None) or self.admitted == bool(self.passed):
            raise ValueError("an admitted problem has no reason and no null program that passes; another has both")

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        values: dict[str, Any] = {f.name: raw[f.name] for f in fields(cls)}
        for name in ("passed", "unseen", "seen_weights", "kinds"):
            values[name] = tuple(values[name])
        return cls(**values)
