"""Which candidate to try next. Pure: a strategy is a function of its seed and its calls."""

from strategies.base import Strategy
from strategies.best_of_n import BestOfN
from strategies.repair import Repair

STRATEGIES: dict[str, type[Strategy]] = {"best_of_n": BestOfN, "repair": Repair}

__all__ = ["STRATEGIES", "BestOfN", "Repair", "Strategy"]
