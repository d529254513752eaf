"""``agreement``: the text that says what most say, by embeddings of a real server or model, or picked by a model."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom import Meter
from fathom.errors import LimitError, SpecError
from fathom.judges.agreement import Agreement, closeness
from fathom.judges.base import Candidate
from fathom.judges.embedding import LocalEmbedder
from fathom.judges.registry import make_judge
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.model import LanguageModel

TEXTS = ["Buy the house now.", "You should buy the house at once.", "Buy the house now.", "Sell your shares."]


@st.composite
def directions(draw: st.DrawFn) -> list[list[float]]:
    angles = draw(st.lists(st.floats(0, 2 * math.pi), min_size=2, max_size=8))
    return [[math.cos(angle), math.sin(angle)] for angle in angles]


@given(directions())
def test_closeness_is_the_mean_similarity_to_the_others(vectors: list[list[float]]) -> None:
    for i, score in enumerate(closeness(vectors)):
        cosines = [sum(a * b for a, b in zip(vectors[i], v, strict=True)) for j, v in enumerate(vectors) if j != i]
        assert score == pytest.approx((1 + sum(cosines) / len(cosines)) / 2, abs=1e-9)


@given(directions(), st.randoms(use_true_random=False))
def test_closeness_does_not_depend_on_the_order(vectors: list[list[float]], rng: random.Random) -> None:
    order = rng.sample(range(len(vectors)), len(vectors))
    mixed = closeness([vectors[i] for i in order])
    assert mixed == pytest.approx([closeness(vectors)[i] for i in order], abs=1e-9)


class Embeddings:
    """A server that embeds a text by the letters that it has."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.url = ""
        self.broken = False

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        if self.broken:
            return web.json_response({"data": [{"index": 0, "embedding": [0.0, 0.0]}]})
        rows = [[float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in body["input"]]
        data = [{"index": i, "embedding": row} for i, row in enumerate(rows)]
        return web.json_response({"data": data[::-1], "usage": {"prompt_tokens": 30}})


@pytest.fixture
async def server() -> AsyncGenerator[Embeddings, None]:
    served = Embeddings()
    app = web.Application()
    app.router.add_post("/v1/embeddings", served.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield served
    await runner.cleanup()


async def test_by_a_servers_embeddings_the_outlier_is_last_and_empties_do_not_count(server: Embeddings) -> None:
    judge = make_judge(f'agreement(server="{server.url}", model=e)')
    assert judge is not None
    verdicts = await judge.judge("?", [Candidate(text, text) for text in [*TEXTS, "", "Solution:"]])
    scores = [verdict.score for verdict in verdicts]
    assert scores[0] == scores[2] == max(scores)
    assert min(scores[:4]) == scores[3]
    assert [(verdict.score, verdict.passed) for verdict in verdicts[4:]] == [(0.0, False)] * 2
    (body,) = server.bodies
    assert body == {"model": "e", "input": list(dict.fromkeys(TEXTS))}


async def test_texts_that_came_often_weigh_more(server: Embeddings) -> None:
    judge = make_judge(f'agreement(server="{server.url}", model=e)')
    assert judge is not None
    rare, often = "aaaa b", "zzzz y"
    verdicts = await judge.judge("?", [Candidate(text, text) for text in [rare, often, often, "ay"]])
    assert verdicts[1].score > verdicts[0].score


async def test_a_broken_server_costs_the_verdicts_and_not_the_answer(server: Embeddings) -> None:
    server.broken = True
    model = LanguageModel(ScriptedEngine(lambda prompt, rng: rng.choice(TEXTS)), form="text")
    strategy = f'best-of-n(width=6, judge=agreement(server="{server.url}", model=e))'
    result = await fathom.asolve(model, "Advise me", strategy=strategy)
    assert result.answer in TEXTS
    assert any("no embeddings" in note for note in result.receipt.notes)


async def test_the_model_picks_and_pays_for_it() -> None:
    shown: list[str] = []

    def script(prompt: Prompt, rng: random.Random) -> str:
        if not prompt.messages[0].content.startswith("Several responses"):
            return rng.choice(TEXTS)
        shown.append(prompt.messages[-1].content)
        return '{"pick": "B"}'

    model = LanguageModel(ScriptedEngine(script), form="text")
    result = await fathom.asolve(model, "Advise me", strategy="best-of-n(width=5, judge=agreement(by=model))", seed=3)
    (prompt,) = shown
    picked = prompt.split("<B-")[1].split("\n")[1]
    assert result.answer == picked
    assert result.receipt.spent.tokens_by_role["judge"] == 2


def picking(shown: list[str]) -> LanguageModel:
    """Answers with a number, and picks the first of those that it is shown."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        if not prompt.messages[0].content.startswith("Several responses"):
            return f"We should do number {rng.randrange(10**6)}."
        shown.append(prompt.messages[-1].content)
        return '{"pick": "A"}'

    return LanguageModel(ScriptedEngine(script), form="text")


@pytest.mark.parametrize("strategy", ["best-of-n", "auto", "direct | best-of-n"])
async def test_more_texts_than_a_model_can_pick_from_are_refused_before_anything_is_spent(strategy: str) -> None:
    shown: list[str] = []
    model, meter = picking(shown), Meter()
    with pytest.raises(LimitError, match=r"at most 26 answers.*27"):
        await fathom.asolve(model, "?", strategy=f"{strategy}(width=27, judge=agreement(by=model))", budget=meter)
    assert meter.spent.calls == 0


@pytest.mark.parametrize(
    "spec",
    [
        "best-of-n(judge=agreement(by=model))",
        "auto(judge=agreement(by=model))",
        "vote(width=30, stop=never) | best-of-n(width=10, judge=agreement(by=model))",
    ],
)
async def test_a_budget_for_more_texts_is_used_as_far_as_a_model_can_pick(spec: str) -> None:
    shown: list[str] = []
    result = await fathom.asolve(picking(shown), "?", strategy=spec, budget=fathom.Budget(width=60))
    (prompt,) = shown
    assert prompt.count("number") <= 26
    assert result.answer in prompt
    assert not any("no verdict" in note for note in result.receipt.notes)


async def test_a_model_that_picks_nothing_gives_no_verdict() -> None:
    model = LanguageModel(ScriptedEngine(lambda prompt, rng: '{"pick": "Q"}'))
    session = await model.open(fathom.Problem.of("?"), Meter())
    judge = Agreement(by="model").bind(Meter(), session)
    result = await fathom.asolve(
        LanguageModel(ScriptedEngine(lambda prompt, rng: rng.choice(TEXTS)), form="text"),
        "?",
        strategy=fathom.BestOfN(width=4, judge=judge),
    )
    assert result.answer in TEXTS
    assert any("no verdict" in note for note in result.receipt.notes)


@pytest.mark.parametrize(
    "spec", ["agreement(by=vote)", 'agreement(by=model, server="http://x")', 'agreement(server="http://localhost/v1")']
)
def test_options_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(SpecError):
        make_judge(spec)


@pytest.mark.slow
async def test_the_sentence_model_knows_meaning_from_wording() -> None:
    texts = [
        "The company should be sold, since its debts outweigh its prospects.",
        "Sell the firm: it owes more than it can ever earn.",
        "Given how much is owed, a sale of the business is the better choice.",
        "The company should be kept, since its prospects outweigh its debts.",
        "I enjoy hiking in the mountains.",
    ]
    meter = Meter()
    vectors = await LocalEmbedder("", meter).embed(texts)
    assert all(sum(x * x for x in vector) == pytest.approx(1) for vector in vectors)
    scores = closeness(vectors)
    assert min(scores) == scores[4]
    assert meter.spent.calls == 1
    assert meter.spent.prompt_tokens > 40
    verdicts = await Agreement().judge("?", [Candidate(text, text) for text in texts])
    assert [verdict.score for verdict in verdicts] == pytest.approx(scores, abs=1e-5)
