"""Which candidate to try next. Pure: a strategy is a function of its seed and its calls."""

from strategies.ab_mcts import AbMcts
from strategies.base import Strategy
from strategies.beam import Beam
from strategies.best_of_n import BestOfN
from strategies.evolve import Evolve
from strategies.portfolio import Portfolio
from strategies.repair import Repair

STRATEGIES: dict[str, type[Strategy]] = {
    "best_of_n": BestOfN,
    "repair": Repair,
    "beam": Beam,
    "evolve": Evolve,
    "ab_mcts": AbMcts,
    "portfolio": Portfolio,
}

__all__ = ["STRATEGIES", "AbMcts", "Beam", "BestOfN", "Evolve", "Portfolio", "Repair", "Strategy"]
