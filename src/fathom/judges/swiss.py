"""A Swiss tournament: the best of n by few comparisons of two (arXiv 2603.04304).

In every round those meet who stand next to each other by their points so far, and have not met yet: the comparisons go
where the order is in doubt. After ⌈log₂ n⌉ rounds of decided matches one player at most is unbeaten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["Swiss"]


class Swiss:
    """A tournament of players 0 to n-1: `pairs` gives the next round, `tell` takes its results; pure and deterministic.

    A player without an opponent in a round rests, and is paired later as if it had won.
    """

    def __init__(self, players: int, rounds: int | None = None) -> None:
        self.players = players
        self.rounds_left = math.ceil(math.log2(players)) if players > 1 else 0
        if rounds is not None:
            self.rounds_left = min(rounds, players - 1)
        self._points = [0.0] * players
        self._games: list[dict[int, float]] = [{} for _ in range(players)]  # by opponent
        self._rested: set[int] = set()

    def pairs(self) -> list[tuple[int, int]]:
        """Who meets in the next round; empty when the tournament is over."""
        if self.rounds_left == 0:
            return []
        self.rounds_left -= 1
        waiting = sorted(range(self.players), key=lambda player: (-self._points[player], player))
        if len(waiting) % 2:
            rest = next((p for p in reversed(waiting) if p not in self._rested), waiting[-1])
            waiting.remove(rest)
            self._rested.add(rest)
            self._points[rest] += 1
        pairs = []
        while waiting:
            first = waiting.pop(0)
            met = self._games[first]
            second = next((player for player in waiting if player not in met), waiting[0])
            waiting.remove(second)
            pairs.append((first, second))
        return pairs

    def tell(self, results: Mapping[tuple[int, int], float | None]) -> None:
        """The result of each pair: the first one's share of the point, or None where there was no verdict."""
        for (first, second), share in results.items():
            if share is not None:
                self._points[first] += share
                self._points[second] += 1 - share
                self._games[first][second] = share
                self._games[second][first] = 1 - share

    def score(self, player: int) -> float | None:
        """The share of points from the matches that were judged, in [0, 1]; None where there were none."""
        games = self._games[player].values()
        return min(1.0, max(0.0, math.fsum(games) / len(games))) if games else None
