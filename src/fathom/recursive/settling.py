"""Seeing that a latent trajectory has come to rest, or goes round in circles, from sixteen numbers a step.

Steps are remembered as *footprints*: a random projection of h, whose distances are those of the latents (Johnson and
Lindenstrauss), and a hash of the answer where it was decoded. They lie in one table, a ring of recent steps for each
slot, so that a step allocates nothing that outlives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import torch
from torch import Tensor

from fathom.errors import LimitError

__all__ = ["End", "Footprints", "Settling"]

FEATURES = 16
RECENT = 16
"""Steps that are remembered."""


class End(StrEnum):
    """Why a trajectory took no further step."""

    HALTED = "halted"
    CONVERGED = "converged"
    LOOPED = "looped"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True)
class Settling:
    """When a trajectory counts as settled.

    Its latent moves less than ``tolerance`` (root mean square, of a state of unit scale) from one step to the next, or
    its answer does not change, for ``patience`` steps on end (*converged*); or the latent comes back that close to
    where it was up to ``period`` steps ago (*looped*). A stochastic model's latent never rests: there it is the answer
    that does.
    """

    tolerance: float = 0.02
    period: int = 6
    patience: int = 2

    def __post_init__(self) -> None:
        if min(self.period, self.patience) < 1 or self.period + self.patience > RECENT:
            raise LimitError(
                "period",
                f"period and patience of settling must be at least 1, and at most {RECENT} together, "
                f"not {self.period} and {self.patience}",
            )


@cache
def _powers(length: int) -> Tensor:
    """The weights, (length,), of an answer's hash."""
    return torch.tensor([pow(1_000_003, i, 2**61 - 1) for i in range(length)])


class Footprints:
    """The recent steps of the trajectories in ``slots`` slots, whose states hold ``size`` numbers."""

    def __init__(self, slots: int, size: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self._projection = torch.randn(size, FEATURES, generator=generator).to(device) / (FEATURES * size) ** 0.5
        self._latents = torch.empty(slots, RECENT, FEATURES)
        self._answers = torch.empty(slots, RECENT, dtype=torch.long)

    def record(self, slots: Tensor, depths: Tensor, h: Tensor) -> None:
        """Remember the states ``h`` (B, S, D) that the trajectories in ``slots`` have at ``depths``, both (B,)."""
        self._latents[slots, depths % RECENT] = (h.flatten(1).float() @ self._projection).cpu()

    def record_answers(self, slots: Tensor, depths: Tensor, answers: Tensor) -> None:
        """Remember the answers (B, L) that they decode to."""
        self._answers[slots, depths % RECENT] = (answers * _powers(answers.shape[1])).sum(-1)

    def copy(self, origin: int, slot: int) -> None:
        """Give ``slot`` the past of ``origin``."""
        self._latents[slot], self._answers[slot] = self._latents[origin], self._answers[origin]

    def latents(self, slot: int, depth: int) -> Tensor:
        """The projections, (n, 16), of the last steps up to ``depth``, oldest first."""
        return self._latents[slot, torch.arange(max(1, depth - RECENT + 1), depth + 1) % RECENT]

    def settled(self, slots: Tensor, depths: Tensor, settling: Settling) -> list[End | None]:
        """Which trajectories have settled at ``depths``, by :meth:`record` and :meth:`record_answers`."""
        back = torch.arange(settling.patience)
        stands = self._answers[slots[:, None], (depths[:, None] - torch.arange(settling.patience + 1)) % RECENT]
        same_answer = (stands == stands[:, :1]).all(-1) & (depths > settling.patience)
        at = self._latents[slots[:, None], (depths[:, None] - back) % RECENT]
        then = depths[:, None, None] - torch.arange(1, settling.period + 1)[:, None] - back  # (B, period, patience)
        distance = (at[:, None] - self._latents[slots[:, None, None], then % RECENT]).norm(dim=-1)
        close = (distance < settling.tolerance) & (then >= 1)
        still, back_again = close[:, 0].all(-1), close.any(1).all(-1)
        return [
            self._end(*flags) for flags in zip(same_answer.tolist(), still.tolist(), back_again.tolist(), strict=True)
        ]

    @staticmethod
    def _end(same_answer: bool, still: bool, back_again: bool) -> End | None:
        if same_answer or still:
            return End.CONVERGED
        return End.LOOPED if back_again else None
