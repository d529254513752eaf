"""How sure a language model is of what it writes, token by token (DeepConf, arXiv 2508.15260), and a watch that tells
the moment at which it has become too unsure for its line of thought to be worth going on with."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from fathom.reasoner import Floor

__all__ = ["Watch", "token_confidence"]

_LEAST = -100.0  # some servers tell -9999 or minus infinity of a token that sampling had excluded


def token_confidence(top: Sequence[float]) -> float:
    """The paper's C of one token, in nats: the negative mean log-probability of its likeliest candidates, of which
    there must be one. The surer the model is of one of them, the less probable are the others, and the higher is C."""
    return -math.fsum(max(_LEAST, logprob) for logprob in top) / len(top)


class Watch:
    """The mean confidence of the last ``floor.window`` tokens of one line of thought, as it grows."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self._recent: deque[float] = deque(maxlen=floor.window)
        self._sum = 0.0
        self._seen = 0

    def fell(self, tops: Sequence[Sequence[float]]) -> bool:
        """Whether that mean was once under the floor. ``tops`` are the likeliest tokens' log-probabilities at every
        token so far; those that were seen before are not looked at again."""
        for top in tops[self._seen :]:
            self._seen += 1
            if not top:
                continue
            if len(self._recent) == self.floor.window:
                self._sum -= self._recent[0]
            self._recent.append(token_confidence(top))
            self._sum += self._recent[-1]
            if len(self._recent) == self.floor.window and self._sum < self.floor.least * self.floor.window:
                return True
        return False
