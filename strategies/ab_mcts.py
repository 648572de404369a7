"""Tree search that decides at every node whether to go wider or deeper, by Thompson sampling.

Knows nothing of prompts or judges. After AB-MCTS-A (Inoue et al. 2025, arXiv:2503.04412): at each node a new child
(GEN) stands against all existing children together (CONT), and only within CONT the children against each other.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox.types import Observation, Proposal
from strategies.informed import Choice, Informed, Tried

PRIOR_COUNT = 0.5  # of either side: Jeffreys' prior of a share
MAX_DRAWN = 64  # children of a node; with very many arms, drawing for all of them explores for ever


@dataclass(slots=True)
class Arm:
    """Rewards in [0, 1] as fractional successes of a Beta distribution, and what is open behind it."""

    num_told: int = 0
    sum_rewards: float = 0.0
    num_open: int = 0

    @property
    def mean(self) -> float:
        return (self.sum_rewards + PRIOR_COUNT) / (self.num_told + 2 * PRIOR_COUNT)

    def counts(self, *, virtual_loss: float) -> tuple[float, float]:
        """The Beta's parameters. Each open proposal counts as one told, at the mean less the share `virtual_loss`."""
        imagined = self.num_open * self.mean * (1.0 - virtual_loss)
        successes = PRIOR_COUNT + self.sum_rewards + imagined
        return successes, 2 * PRIOR_COUNT + self.num_told + self.num_open - successes


@dataclass(slots=True, eq=False)
class Node:
    """A program in the tree; the root stands for the problem and has none.

    `wider` holds what came of its own new children, `deeper` what came of going through a child, `all` both, and its
    own reward. `ranked` are the children at or below which something can be asked for, the most promising first: kept
    in order by every change, so that a choice among thousands costs no more than one among `MAX_DRAWN`.
    """

    number: int  # in the order of becoming nodes
    parent: Node | None
    tried: Tried | None
    wider: Arm = field(default_factory=Arm)
    deeper: Arm = field(default_factory=Arm)
    all: Arm = field(default_factory=Arm)
    num_hasty: int = 0  # new children that were asked for because none was there yet, while others were open
    num_usable: int = 0  # nodes, itself and below, at which something can be asked for
    ranked: list[tuple[float, int, Node]] = field(default_factory=list)  # negative mean, number
    key: tuple[float, int] = (0.0, 0)  # under which its parent has it

    @property
    def path(self) -> Iterator[Node]:
        """From itself up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    @property
    def promising(self) -> list[Node]:
        """The children that are drawn for, in the order in which they came."""
        return sorted((entry[2] for entry in self.ranked[:MAX_DRAWN]), key=lambda child: child.number)

    def rank(self, child: Node, *, virtual_loss: float) -> None:
        successes, failures = child.all.counts(virtual_loss=virtual_loss)
        child.key = (-successes / (successes + failures), child.number)
        insort(self.ranked, (*child.key, child))

    def unrank(self, child: Node) -> None:
        del self.ranked[bisect_left(self.ranked, child.key, key=lambda entry: entry[:2])]


class AbMcts(Informed):
    """Walks from the root: wider makes a new child of the node it is at, deeper goes on to one of its children.

    A new child of the root is a draft, of a failure a repair, of a timed pass an improvement. A program that leads
    nowhere, or that was there before, is no node; its reward counts for the nodes above, a repetition with nothing.
    What is open counts as told at the mean less the share `virtual_loss` of it (virtual loss: Chaslot et al. 2008):
    against another new child of the same node, and against the children it is below, so that work in flight spreads
    over the children. It never counts against going deeper, or hundreds in flight would flatten the tree into drafts.
    What was asked for in haste, because a node had no child yet and others of its new children were open, is made good:
    of later draws for a new child there, each stands for one of those, and the next is drawn.
    Of a node's children the `MAX_DRAWN` with the highest means are drawn for.
    Options: `in_flight`, the most proposals open at a time; `virtual_loss` in [0, 1]; `stop_when_passed`, end the
    search at the first pass; `fix`, mend by rule first; `tune`, points for the fastest.
    """

    def __init__(
        self, *, seed: int, in_flight: int, virtual_loss: float, stop_when_passed: bool, fix: bool, tune: int
    ) -> None:
        super().__init__(seed=seed, in_flight=in_flight, stop_when_passed=stop_when_passed, fix=fix, tune=tune)
        if not 0 <= virtual_loss <= 1:
            raise ValueError(f"virtual_loss must be in [0, 1], not {virtual_loss}")
        self._virtual_loss = virtual_loss
        self._root = Node(number=0, parent=None, tried=None, num_usable=1)
        self._num_nodes = 1
        self._chosen = self._root
        self._made_good: list[tuple[Node, int]] = []  # on the way to the last choice
        self._node_of: dict[str, Node] = {}  # that is being widened, by id of the open proposal
        self._nodes: dict[str, Node] = {}  # by candidate id

    def _choose(self) -> Choice | None:
        node = self._root
        self._made_good = []
        while True:
            choice = self._choice_at(node)
            if choice is None and not node.ranked:
                return None
            if choice is not None and not (node.ranked and self._goes_deeper(node)):
                self._chosen = node
                return choice
            node = max(node.promising, key=lambda child: self._drawn(child.all))

    def _opened(self, proposal: Proposal) -> None:
        node = self._chosen
        for above, num in self._made_good:
            above.num_hasty -= num
        node.num_hasty += node.wider.num_open > 0 and not node.ranked
        self._node_of[proposal.id] = node
        self._count_open(self._chosen, change=1)

    def _learn(self, proposal: Proposal, observation: Observation | None) -> None:
        node = self._node_of.pop(proposal.id)
        self._count_open(node, change=-1)
        if observation is None:
            return
        tried = self._note(observation)
        gained = 0.0 if tried is None else tried.reward
        self._count_told(node, gained=gained)
        if tried is not None and self._next_choice(tried) is not None:
            child = Node(number=self._num_nodes, parent=node, tried=tried)
            child.all.num_told, child.all.sum_rewards = 1, gained
            self._num_nodes += 1
            self._nodes[tried.candidate_id] = child
            self._count_usable(child, change=1)

    def _bar(self, choice: Choice) -> None:
        if choice not in self._barren:
            self._count_usable(self._nodes[choice.parents[0]] if choice.parents else self._root, change=-1)
        super()._bar(choice)

    def _choice_at(self, node: Node) -> Choice | None:
        return self._draft_choice() if node.tried is None else self._next_choice(node.tried)

    def _goes_deeper(self, node: Node) -> bool:
        """Draws until it does; a draw for a new child stands for one of those that were asked for in haste."""
        for num in range(node.num_hasty + 1):
            if self._drawn(node.deeper) > self._drawn(node.wider):
                self._made_good.append((node, num))
                return True
        self._made_good.append((node, node.num_hasty))
        return False

    def _drawn(self, arm: Arm) -> float:
        return self._rng.betavariate(*arm.counts(virtual_loss=self._virtual_loss))

    def _count_open(self, node: Node, *, change: int) -> None:
        node.wider.num_open += change
        for above in node.path:
            above.all.num_open += change
            self._rank_again(above)

    def _count_told(self, node: Node, *, gained: float) -> None:
        for above in node.path:
            for arm in (node.wider if above is node else above.deeper, above.all):
                arm.num_told += 1
                arm.sum_rewards += gained
            self._rank_again(above)

    def _count_usable(self, node: Node, *, change: int) -> None:
        for above in node.path:
            before, above.num_usable = above.num_usable, above.num_usable + change
            if above.parent is not None and not before:
                above.parent.rank(above, virtual_loss=self._virtual_loss)
            elif above.parent is not None and not above.num_usable:
                above.parent.unrank(above)

    def _rank_again(self, node: Node) -> None:
        if node.parent is not None and node.num_usable:
            node.parent.unrank(node)
            node.parent.rank(node, virtual_loss=self._virtual_loss)
