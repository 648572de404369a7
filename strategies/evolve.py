"""Evolution on islands: each keeps the best program of every behaviour, and now and then sends its best on.

Knows nothing of prompts or judges. After FunSearch's islands (Romera-Paredes et al. 2024, Nature 625) and the archives
of MAP-Elites (arXiv:1504.04909), which AlphaEvolve (arXiv:2506.13131) joins in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.types import Observation, Operator, Proposal, Status
from strategies.behaviour import Behaviour, behaviour_of
from strategies.informed import Choice, Informed, Tried

Cell = Behaviour | Status  # failures have no behaviour: the status stands for it


@dataclass(slots=True, kw_only=True)
class Island:
    """`elites` holds the best program of each cell, in the order in which the cells were found."""

    elites: dict[Cell, Tried] = field(default_factory=dict)
    num_founders: int = 0  # drafts that were asked for here
    num_open: int = 0
    num_told: int = 0

    def admit(self, tried: Tried, *, cell: Cell) -> None:
        """Of equal failures the newest stays: the older has had its repairs."""
        held = self.elites.get(cell)
        if held is None or tried.reward > held.reward or (tried.reward == held.reward and not tried.passed):
            self.elites[cell] = tried

    @property
    def best(self) -> Tried | None:
        return max(self.elites.values(), key=lambda tried: (tried.reward, -tried.number), default=None)


class Evolve(Informed):
    """Founds each island with `founders` drafts, then takes its elites further: repairs, improvements, merges.

    The island with the least work goes first. A parent is drawn by rank among the island's elites, 1 / (1 + rank + what
    is open from it), so that what is in flight spreads over the cells. Failures are elites too, one for each status,
    until something passes on the island; from then on only passes are parents. With chance `draft_share` a draft brings
    new blood, with `merge_share` two timed passes of different behaviour are merged. After every `migrate_every`
    results of an island its best is made known to the next.
    Options: `in_flight`, the most proposals open at a time; `islands`, `founders`, `migrate_every`, `draft_share`,
    `merge_share`; `stop_when_passed`, end the search at the first pass; `fix`, mend by rule first; `tune`, points for
    the fastest.
    """

    def __init__(
        self,
        *,
        seed: int,
        in_flight: int,
        islands: int,
        founders: int,
        migrate_every: int,
        draft_share: float,
        merge_share: float,
        stop_when_passed: bool,
        fix: bool,
        tune: int,
    ) -> None:
        super().__init__(seed=seed, in_flight=in_flight, stop_when_passed=stop_when_passed, fix=fix, tune=tune)
        if min(islands, founders, migrate_every) < 1:
            raise ValueError("islands, founders and migrate_every must be at least 1")
        if not (0 <= draft_share <= 1 and 0 <= merge_share <= 1):
            raise ValueError("draft_share and merge_share must be in [0, 1]")
        self._founders = founders
        self._migrate_every = migrate_every
        self._draft_share = draft_share
        self._merge_share = merge_share
        self._islands = [Island() for _ in range(islands)]
        self._island_of: dict[str, int] = {}  # by id of the open proposal
        self._cells: dict[str, Cell] = {}  # by candidate id
        self._chosen_island = 0

    def _choose(self) -> Choice | None:
        order = sorted(range(len(self._islands)), key=lambda i: (self._work(self._islands[i]), i))
        for number in order:
            choice = self._choose_on(self._islands[number])
            if choice is not None:
                self._chosen_island = number
                return choice
        return None

    def _choose_on(self, island: Island) -> Choice | None:
        draft = self._draft_choice()
        if draft is not None and (island.num_founders < self._founders or self._rng.random() < self._draft_share):
            return draft
        parents = self._parents(island)
        if not parents:
            return draft
        if self._rng.random() < self._merge_share:
            merge = self._merge_drawn([tried for tried in parents if tried.passed])
            if merge is not None:
                return merge
        return self._next_choice(self._drawn_by_rank(parents))

    def _opened(self, proposal: Proposal) -> None:
        island = self._islands[self._chosen_island]
        island.num_open += 1
        island.num_founders += proposal.operator is Operator.DRAFT
        self._island_of[proposal.id] = self._chosen_island

    def _learn(self, proposal: Proposal, observation: Observation | None) -> None:
        number = self._island_of.pop(proposal.id)
        island = self._islands[number]
        island.num_open -= 1
        island.num_told += 1
        if observation is not None and (tried := self._note(observation)) is not None:
            cell = behaviour_of(observation) if tried.passed else tried.status
            self._cells[tried.candidate_id] = cell
            island.admit(tried, cell=cell)
        if island.num_told % self._migrate_every == 0 and (best := island.best) is not None:
            neighbour = self._islands[(number + 1) % len(self._islands)]
            neighbour.admit(best, cell=self._cells[best.candidate_id])

    def _work(self, island: Island) -> int:
        return island.num_open + island.num_told

    def _parents(self, island: Island) -> list[Tried]:
        """The elites that can be taken further, best first; failures only where nothing on the island has passed."""
        passed_here = any(tried.passed for tried in island.elites.values())
        usable = [tried for tried in island.elites.values() if tried.passed or not passed_here]
        usable = [tried for tried in usable if self._next_choice(tried) is not None]
        return sorted(usable, key=lambda tried: (-tried.reward, tried.number))
