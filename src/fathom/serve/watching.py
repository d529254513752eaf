"""``POST /v1/fathom/stream``: a run as it happens, for those who want to see it: every trajectory's text as it grows,
the votes, the answer firming up. The playground draws it.

Trajectories of a language model are seen growing by listening to what the engine says: a choice draws with a seed of
its own, by which it is known whose it is. Those of a model that holds an answer after every step are looked at where
they grow, in its session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import replace

import msgspec
from aiohttp import web

from fathom.budget import Meter
from fathom.language.engines.base import Engine, Generation, Piece, Request
from fathom.language.engines.wrapped import WrappedEngine, WrappedGeneration
from fathom.language.model import LanguageModel, first_seed
from fathom.reasoner import Capability, Reasoner, Session
from fathom.records import Candidate, Problem, Result, Trajectory, Update
from fathom.recount import Unfolding
from fathom.serve import thinking
from fathom.serve.asking import Ask, ask_of, options_of
from fathom.serve.gateway import Gateway
from fathom.serve.models import choose
from fathom.serve.plain import Plain
from fathom.serve.replies import Events
from fathom.serve.wire import ChatRequest, Report
from fathom.team import members_of, varied

__all__ = ["Begin", "End", "Tick", "watch"]

EVERY = 0.05  # seconds between two looks

Hear = Callable[[int, str], None]


class Begin(msgspec.Struct, tag="begin"):
    """A run begins: what it is, and how much it may spend."""

    model: str
    strategy: str
    limits: dict[str, float]


class Ended(msgspec.Struct):
    """A trajectory that has come to an end, or to an answer."""

    id: int
    answer: str | None
    finished: bool
    reason: str
    depth: int
    text: str


class Board(msgspec.Struct):
    """An answer that a trajectory held from a depth on; ``valid`` is whether it is right, where the model knows."""

    id: int
    depth: int
    text: str
    valid: bool | None


class Tick(msgspec.Struct, tag="tick"):
    """What is new: ``grown`` is text by trajectory, ``boards`` what they held in turn, ``ended`` who ended, and how the
    run stands."""

    seconds: float
    tokens: int
    running: int
    answer: str | None
    confidence: float
    candidates: tuple[Candidate, ...]
    grown: dict[int, str]
    boards: list[Board]
    ended: list[Ended]


class End(msgspec.Struct, tag="end"):
    """The answer, and its receipt."""

    content: str
    fathom: Report


class _Overheard(WrappedGeneration):
    """A generation whose pieces are heard by another as well."""

    def __init__(self, generation: Generation, first: int, hear: Hear) -> None:
        super().__init__(generation)
        self._first = first
        self._hear = hear

    def see(self, piece: Piece) -> None:
        self._hear(self._first + piece.index, piece.reasoning + piece.text)


class OverheardEngine(WrappedEngine):
    """An engine that tells ``hear`` what every trajectory says. Trajectory 0 draws with ``seed``, and so on."""

    def __init__(self, engine: Engine, seed: int, hear: Hear) -> None:
        super().__init__(engine)
        self._seed = seed
        self._hear = hear

    def generate(self, request: Request) -> Generation:
        generation = self._engine.generate(replace(request, stream=True))
        if request.seed is None:
            return generation
        return _Overheard(generation, request.seed - self._seed, self._hear)

    async def aclose(self) -> None:
        """Nothing: the engine itself belongs to the gateway."""


class Overlooked:
    """A reasoner whose session can be looked into while it is used."""

    def __init__(self, reasoner: Reasoner) -> None:
        self._reasoner = reasoner
        self._session: Session | None = None
        self._told: dict[int, int] = {}  # how many answers of each trajectory

    @property
    def name(self) -> str:
        return self._reasoner.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._reasoner.capabilities

    @property
    def max_width(self) -> int | None:
        return self._reasoner.max_width

    async def open(
        self, problem: Problem, meter: Meter, *, seed: int = 0, wants: frozenset[Capability] = frozenset()
    ) -> Session:
        self._session = await self._reasoner.open(problem, meter, seed=seed, wants=wants)
        return self._session

    async def aclose(self) -> None:
        """Nothing: the reasoner itself belongs to the gateway."""

    def boards(self, given: Iterable[Trajectory]) -> list[Board]:
        """What its trajectories held since it was last asked, those that were given back too."""
        if not isinstance(self._session, Unfolding):
            return []
        found: list[Board] = []
        for id, held in self._session.unfolding(given, self._told):
            self._told[id] = self._told.get(id, 0) + len(held)
            found += [Board(id, each.depth, each.answer, each.valid) for each in held]
        return found


async def watch(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    """The run of a chat request, told by events ``begin``, ``tick`` and ``end``, or ``error``."""
    client = gateway.keys.client_of(request.headers)
    said = await gateway.read(request, ChatRequest)
    served = choose(gateway.models, said.model)
    ask = await ask_of(said, options_of(said.fathom, request.headers), served, gateway.config)
    meter, events = gateway.meter(request, ask), Events(request)
    async with gateway.visit(request, client, ask, meter):
        try:
            await (_watch_plain if ask.strategy is None else _watch_search)(gateway, ask, meter, events)
        except Exception as error:
            return await events.fail(error, served.masks)
    return await events.end(b"")


async def _watch_plain(gateway: Gateway, ask: Ask, meter: Meter, events: Events) -> None:
    plain = Plain(ask, meter, stream=True, most_seconds=gateway.config.limits.seconds)
    await events.send(Begin(ask.served.id, "direct", meter.limits))
    async with aclosing(plain.pieces()) as pieces:
        async for piece in pieces:
            grown = {piece.index: piece.reasoning + piece.text}
            await events.send(Tick(meter.elapsed, meter.spent.tokens, 1, None, 0.0, (), grown, [], []))
    await events.send(End("".join(plain.choices[0].text), plain.report))


async def _watch_search(gateway: Gateway, ask: Ask, meter: Meter, events: Events) -> None:
    grown: dict[int, str] = {}

    def hear(id: int, text: str) -> None:
        if text:
            grown[id] = grown.get(id, "") + text

    run = await thinking.prepare(ask, meter, lambda model, seed: _seen(model, seed, hear))
    await events.send(Begin(ask.served.id, ask.label, meter.limits))
    seen: dict[int, Trajectory] = {}
    result: Result | None = None
    last = time.monotonic()
    with thinking.counted(run, gateway):
        async with aclosing(run.updates(every=EVERY)) as updates:
            async for update in updates:
                result = update.final
                if result is None and time.monotonic() - last < EVERY:
                    continue
                last = time.monotonic()
                now = run.search.trajectories
                given = [t for id, t in now.items() if seen.get(id) is not t]
                boards = run.model.boards(given) if isinstance(run.model, Overlooked) else []
                seen, grown_now = dict(now), dict(grown)
                grown.clear()
                await events.send(_tick(update, grown_now, boards, given))
    assert result is not None, "the last update has the result"
    await events.send(End(thinking.content_of(result), thinking.report_of(result, ask)))


def _tick(update: Update, grown: dict[int, str], boards: list[Board], given: list[Trajectory]) -> Tick:
    return Tick(
        update.spent.seconds,
        update.spent.tokens,
        update.running,
        update.answer,
        update.confidence,
        update.candidates,
        grown,
        boards,
        [_ended(trajectory) for trajectory in given],
    )


def _ended(trajectory: Trajectory) -> Ended:
    t = trajectory
    return Ended(t.id, t.answer, t.finished, t.reason, t.depth, t.text)


def _seen(model: Reasoner, seed: int, hear: Hear) -> Reasoner:
    if not any(isinstance(member, LanguageModel) for member in members_of(model)):
        return Overlooked(model)

    def heard(model: LanguageModel) -> LanguageModel:
        found = model.using()
        found.engine = OverheardEngine(model.engine, first_seed(seed), hear)
        return found

    return varied(model, heard)
