"""The solution of a Sudoku nearest to a given board, by beam search over whole batches.

Each beam fills its own most constrained cell, the given board's digit first. The known solution's path is always kept,
so that the search ends with a right board however the others fare. It is what relabels targets in on-policy training,
once a step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.recursive.tasks.sudoku_solver import Grid

__all__ = ["nearest_completion"]


def nearest_completion(grid: Grid, clues: Tensor, board: Tensor, known: Tensor, beams: int = 8) -> Tensor:
    """Solutions (B, L) of ``clues`` that agree with ``board`` in many cells; ``known`` is one solution of each."""
    batch, cells, n = len(clues), grid.n**2, grid.n
    device = clues.device
    peers = torch.zeros(cells, cells, dtype=torch.bool, device=device)
    for number, others in enumerate(grid.peers):
        peers[number, others] = True
    given = F.one_hot(clues, n + 1)[..., 1:].bool()
    barred = (given.float().transpose(1, 2) @ peers.float()).transpose(1, 2) > 0
    # The state of every beam: digits still open in each cell, the cells filled, agreement so far, and whether it is
    # the known solution's path.
    open_digits = (~barred & (clues == 0)[..., None])[:, None]
    filled = clues[:, None].clone()
    score = torch.zeros(batch, 1, device=device)
    on_known = torch.ones(batch, 1, dtype=torch.bool, device=device)
    rows = torch.arange(batch, device=device)[:, None]
    for _ in range(int((clues == 0).sum(-1).max())):
        width = filled.shape[1]
        cell = open_digits.sum(-1).masked_fill(filled > 0, n + 1).argmin(-1)
        done = (filled > 0).all(-1)
        wanted = board.gather(1, cell) - 1
        target = known.gather(1, cell) - 1
        digits = torch.arange(n, device=device)
        allowed = open_digits.gather(2, cell[..., None, None].expand(-1, -1, 1, n))[:, :, 0]
        # A finished beam has one successor: itself.
        allowed = torch.where(done[..., None], digits == 0, allowed)
        gained = (digits == wanted[..., None]) & ~done[..., None]
        successor = (score[..., None] + gained.float()).masked_fill(~allowed, -torch.inf)
        keeps_known = on_known[..., None] & (
            done[..., None] & (digits == 0) | ~done[..., None] & (digits == target[..., None])
        )
        ranking = successor + keeps_known * 1e6
        chosen = ranking.flatten(1).topk(min(beams, width * n), -1).indices
        beam, digit = chosen // n, chosen % n
        score, on_known = successor.flatten(1).gather(1, chosen), keeps_known.flatten(1).gather(1, chosen)
        filled, open_digits = filled[rows, beam].clone(), open_digits[rows, beam].clone()
        at, was_done = cell.gather(1, beam), done.gather(1, beam)
        placed = torch.where(was_done, filled.gather(2, at[..., None])[..., 0], digit + 1)
        filled.scatter_(2, at[..., None], placed[..., None])
        cleared = peers[at][..., None] & (digits == digit[..., None])[:, :, None] & ~was_done[..., None, None]
        open_digits &= ~cleared
    return filled[rows[:, 0], score.argmax(-1)]
