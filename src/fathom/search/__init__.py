"""How to spend a budget: one file per strategy, all of them on the Reasoner protocol only."""

from fathom.search.base import STRATEGIES, Strategy
from fathom.search.beam import Beam
from fathom.search.best_of_n import BestOfN
from fathom.search.cascade import Cascade
from fathom.search.direct import Direct
from fathom.search.dvts import DiverseTrees
from fathom.search.ensemble import Ensemble
from fathom.search.first import First
from fathom.search.fuse import Fuse
from fathom.search.halving import Halving
from fathom.search.mcts import Mcts
from fathom.search.particles import Particles
from fathom.search.rebase import Rebase
from fathom.search.refine import Refine
from fathom.search.then import Then
from fathom.search.vote import Vote

__all__ = [
    "STRATEGIES",
    "Beam",
    "BestOfN",
    "Cascade",
    "Direct",
    "DiverseTrees",
    "Ensemble",
    "First",
    "Fuse",
    "Halving",
    "Mcts",
    "Particles",
    "Rebase",
    "Refine",
    "Strategy",
    "Then",
    "Vote",
]
