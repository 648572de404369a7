"""Beam search: generation by generation, the best few are taken further, the rest is dropped.

Knows nothing of prompts or judges. The classic scheme (Lowerre 1976, the Harpy system) over whole programs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.types import Observation, Proposal
from strategies.informed import Choice, Informed, Tried


@dataclass(slots=True, kw_only=True)
class Generation:
    """What is still to be asked for, what is open, and what has come of one beam's present generation."""

    depth: int
    to_ask: list[Choice]
    survivors: list[Tried] = field(default_factory=list)  # of the generation before
    born: list[Tried] = field(default_factory=list)
    num_open: int = 0

    @property
    def over(self) -> bool:
        return not self.to_ask and self.num_open == 0


class Beam(Informed):
    """Drafts `width * branch` programs, then `depth` times takes the best `width` further, `branch` times each.

    The best are chosen among the generation and its survivors, so that a bad child does not take its parent's place.
    A generation waits for all of its programs; meanwhile another beam begins beside it, so that no slot stays idle, and
    the oldest beam goes first. Makes no random choice.
    Options: `in_flight`, the most proposals open at a time; `width`, `branch`, `depth`; `stop_when_passed`, end the
    search at the first pass; `fix`, mend by rule first; `tune`, points for the fastest.
    """

    def __init__(
        self,
        *,
        seed: int,
        in_flight: int,
        width: int,
        branch: int,
        depth: int,
        stop_when_passed: bool,
        fix: bool,
        tune: int,
    ) -> None:
        super().__init__(seed=seed, in_flight=in_flight, stop_when_passed=stop_when_passed, fix=fix, tune=tune)
        if min(width, branch) < 1 or depth < 0:
            raise ValueError(f"a beam needs width, branch >= 1 and depth >= 0, not {width}, {branch}, {depth}")
        self._width = width
        self._branch = branch
        self._depth = depth
        self._beams: list[Generation] = []  # oldest first
        self._generation_of: dict[str, Generation] = {}  # by id of the open proposal

    def _choose(self) -> Choice | None:
        beam = self._next_beam()
        return self._draft_choice() if beam is None else beam.to_ask[0]

    def _opened(self, proposal: Proposal) -> None:
        beam = self._next_beam()
        if beam is None:
            drafts = [Choice(operator=proposal.operator)] * (self._width * self._branch)
            beam = Generation(depth=0, to_ask=drafts)
            self._beams.append(beam)
        beam.to_ask.pop(0)
        beam.num_open += 1
        self._generation_of[proposal.id] = beam

    def _learn(self, proposal: Proposal, observation: Observation | None) -> None:
        beam = self._generation_of.pop(proposal.id)
        beam.num_open -= 1
        if observation is not None and (tried := self._note(observation)) is not None:
            beam.born.append(tried)
        self._go_on()

    def end_drafts(self) -> None:
        super().end_drafts()
        self._go_on()

    def _go_on(self) -> None:
        """Takes out what cannot be sampled, and takes every generation that is over further."""
        for beam in list(self._beams):
            beam.to_ask = [choice for choice in beam.to_ask if choice not in self._barren]
            if beam.over:
                self._advance(beam)

    def _next_beam(self) -> Generation | None:
        return next((beam for beam in self._beams if beam.to_ask), None)

    def _advance(self, beam: Generation) -> None:
        """Begins the next generation, or ends the beam."""
        living = [tried for tried in (*beam.survivors, *beam.born) if self._next_choice(tried) is not None]
        best = sorted(living, key=lambda tried: (-tried.reward, tried.number))[: self._width]
        beam.to_ask = [choice for tried in best for choice in self._children(tried)]
        beam.depth += 1
        beam.survivors, beam.born = best, []
        if beam.depth > self._depth or not beam.to_ask:
            self._beams.remove(beam)

    def _children(self, tried: Tried) -> list[Choice]:
        choice = self._next_choice(tried)
        return [] if choice is None else [choice] * self._branch
