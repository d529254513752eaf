"""A reward model behind a server: one request per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from fathom.errors import UpstreamError
from fathom.judges.prm_formats import ServerFormat

if TYPE_CHECKING:
    from fathom.judges.serving import JudgeServer

__all__ = ["ServerScorer", "StepScorer"]


class StepScorer(Protocol):
    """A process reward model."""

    async def scores(self, problem: str, steps: Sequence[str]) -> list[float]:
        """The score of each step, in [0, 1]; a scorer of which only the last step's matters may give that alone."""


class ServerScorer:
    """Asks a server. Raises UpstreamError for a reply that does not hold what the format promises."""

    def __init__(self, server: JudgeServer, form: ServerFormat) -> None:
        self.server = server
        self.form = form

    async def scores(self, problem: str, steps: Sequence[str]) -> list[float]:
        reply = await self.server.post(self.form.path, self.form.body(problem, steps))
        try:
            scores = self.form.read(reply)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise UpstreamError(f"{self.server.name} sent no scores ({type(error).__name__}: {error})") from None
        if len(scores) != self.form.expected(steps):
            raise UpstreamError(f"{self.server.name} sent {len(scores)} scores for {self.form.expected(steps)} steps")
        return scores
