"""Ladders: the cheap model settles what it can, the better one gets the rest, and limits hold."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import fathom
from fathom import Budget
from fathom.errors import UnknownModel, UsageError
from fathom.language.engines.base import Price, Prompt
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.models import open_model
from fathom.planning.ladder import EMBEDDED, Ladder
from fathom.planning.prepare import plan_for

Make = Callable[..., LanguageModel]


async def ladder(
    scripted: Make, small: dict[str, float], large: dict[str, float], token: float = 0.001, slower: float = 5.0
) -> Ladder:
    """A model of 0.5 B parameters and one of 7 B that is slower."""
    members = [
        scripted(small, name="small", parameters=5 * 10**8, latency=Latency(0, token), room=8),
        scripted(large, name="large", parameters=7 * 10**9, latency=Latency(0, slower * token), room=8),
    ]
    for member in members:
        await member.prepare()
    return Ladder(members)


async def test_what_the_small_model_agrees_on_is_not_asked_of_the_large_one(scripted: Make) -> None:
    right = str(random.SystemRandom().randrange(1000, 10**6))
    model = await ladder(scripted, {right: 1}, {"7": 1})
    result = await fathom.asolve(model, "?", budget=Budget(seconds=20))
    assert result.answer == right
    assert result.receipt.strategy == "auto: vote(width=3) by small"
    assert model.members[1].engine.cancelled == 0  # type: ignore[attr-defined]


async def test_where_it_differs_the_large_one_answers(scripted: Make) -> None:
    right = str(random.SystemRandom().randrange(1000, 10**6))
    model = await ladder(scripted, {str(n): 1 for n in range(20)}, {right: 1})
    result = await fathom.asolve(model, "?", budget=Budget(seconds=20))
    assert result.answer == right
    assert "by small | vote(" in result.receipt.strategy
    assert result.receipt.strategy.endswith("by large")
    limited = await fathom.asolve(model, "?", budget=Budget(width=9))
    assert limited.answer == right
    assert limited.receipt.spent.width <= 9


async def test_of_models_of_unknown_size_the_later_one_is_taken_to_be_better_and_dearer(scripted: Make) -> None:
    right = str(random.SystemRandom().randrange(1000, 10**6))
    unknown = {"parameters": 0}
    model = Ladder([scripted({right: 1}, name="first", **unknown), scripted({"7": 1}, name="second", **unknown)])
    assert (await plan_for(model, Budget())).choice.model == "second"
    assert (await fathom.asolve(model, "?")).receipt.strategy == "auto: vote(width=3) by first"


async def test_what_was_learned_of_the_first_one_does_not_make_the_next_look_cheap(scripted: Make) -> None:
    def think_long(prompt: Prompt, rng: random.Random) -> str:
        return "so " * 300 + "\\boxed{7}"

    name = f"{random.SystemRandom().getrandbits(40):x}"  # of which nothing was learned
    model = Ladder([scripted(think_long, name=f"{name}-{i}", parameters=0) for i in range(2)])
    told = [(await fathom.asolve(model, "?")).receipt.strategy for _ in range(6)]
    assert set(told) == {f"auto: vote(width=3) by {name}-0"}


async def test_a_cheaper_model_is_asked_first_where_it_is_much_cheaper(scripted: Make) -> None:
    def ladder(small: float, large: float) -> Ladder:
        return Ladder(
            [
                scripted({"1": 1}, name="first", parameters=5 * 10**8, price=Price(small, small)),
                scripted({"2": 1}, name="second", parameters=7 * 10**9, price=Price(large, large)),
            ]
        )

    assert (await fathom.asolve(ladder(0.1, 1.0), "?")).receipt.strategy == "auto: vote(width=3) by first"
    assert (await fathom.asolve(ladder(1.0, 1.0), "?")).receipt.strategy.endswith("by second")


async def test_a_short_deadline_leaves_the_small_one_alone(scripted: Make) -> None:
    model = await ladder(scripted, {"1": 1}, {"7": 1}, token=0.1, slower=50)
    found = await plan_for(model, Budget(seconds=8))
    assert found.choice.model == "small"
    assert (await plan_for(model, Budget(seconds=3000))).choice.model == "large"


async def test_a_strategy_of_one_model_asks_the_first(scripted: Make) -> None:
    model = await ladder(scripted, {"1": 1}, {"7": 1})
    result = await fathom.asolve(model, "?", strategy="vote(width=2)")
    assert result.answer == "1"
    assert result.receipt.model == "ladder:small,large"


async def test_a_ladder_needs_two_models_that_exist() -> None:
    assert EMBEDDED[0].startswith("smollm2")
    with pytest.raises(UsageError, match="two models or more"):
        await open_model("ladder:embedded,")
    with pytest.raises(UnknownModel, match="nobody"):
        await open_model("ladder:nobody,embedded")


async def test_a_ladder_is_asked_in_the_form_that_the_verifier_reads(scripted: Make) -> None:
    factor = random.SystemRandom().randrange(3, 1000)
    question = f'def times(x):\n    """Multiply.\n\n    >>> times(2)\n    {2 * factor}\n    """\n'

    def write(prompt: Prompt, rng: random.Random) -> str:
        return f"Like this:\n```python\ndef times(x):\n    return x * {factor}\n```"

    model = Ladder([LanguageModel(ScriptedEngine(write)), scripted({"1": 1})])
    result = await fathom.asolve(model, question, strategy="best-of-n(width=2, judge=tests)")
    assert (result.answer, result.receipt.valid) == (f"def times(x):\n    return x * {factor}\n", True)
