"""The `ask`/`tell` protocol of every strategy, and the count of what it has open.

Knows nothing of models, judges, budgets, clocks or files: the controller holds those.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from sandbox.types import Observation, Operator, Proposal


class Strategy(Protocol):
    """Chooses what to try next on one problem. The same seed and the same calls give the same proposals.

    `ask` returns None when there is nothing to ask now; that call changes nothing, so a caller may ask as often as it
    likes. With nothing open, a strategy either proposes or is finished. Every proposal is told once, in any order.
    A proposal told None could not be sampled: the sampler has no more answers of its kind for that proposal's parents.
    """

    def __init__(self, *, seed: int, **options: Any) -> None: ...

    def ask(self) -> Proposal | None:
        """The next proposal, or None when there is nothing to ask now."""
        ...

    def tell(self, proposal: Proposal, observation: Observation | None) -> None:
        """How `proposal` ended. Raises ValueError if it is not open."""
        ...

    @property
    def finished(self) -> bool:
        """No later `ask` will propose anything, whatever is told."""
        ...


@runtime_checkable
class FixesFirst(Protocol):
    """What a strategy has besides that proposes fixes, which cost no samples: a search that has no samples left still
    asks it for those."""

    @property
    def fixes_next(self) -> bool:
        """The next `ask` proposes a fix. Asking this changes nothing."""
        ...


@runtime_checkable
class TunesFirst(Protocol):
    """What a strategy has besides that proposes TUNE, which costs no samples either."""

    @property
    def tunes_next(self) -> bool:
        """The next `ask` proposes TUNE. Asking this changes nothing."""
        ...


class OpenProposals:
    """Numbers the proposals of one search and bounds how many are open at a time."""

    def __init__(self, *, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"in_flight must be at least 1, not {limit}")
        self._limit = limit
        self._num_made = 0
        self._open: dict[str, Proposal] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        return len(self._open) >= self._limit

    def make(self, operator: Operator, *, parents: tuple[str, ...]) -> Proposal:
        """A new open proposal."""
        proposal = Proposal(id=f"{operator}-{self._num_made}", operator=operator, parents=parents)
        self._num_made += 1
        self._open[proposal.id] = proposal
        return proposal

    def close(self, proposal: Proposal) -> None:
        """Raises ValueError if `proposal` is not open."""
        if self._open.get(proposal.id) != proposal:
            raise ValueError(f"proposal {proposal.id!r} is not open")
        del self._open[proposal.id]
