"""How to spend a budget: one file per strategy, all of them on the Reasoner protocol only."""

from fathom.search.base import STRATEGIES, Strategy
from fathom.search.best_of_n import BestOfN
from fathom.search.cascade import Cascade
from fathom.search.direct import Direct
from fathom.search.ensemble import Ensemble
from fathom.search.vote import Vote

__all__ = ["STRATEGIES", "BestOfN", "Cascade", "Direct", "Ensemble", "Strategy", "Vote"]
