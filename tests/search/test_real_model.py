"""Every search on the real embedded model: tiny budgets, whole accounts, an answer in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

import fathom
from fathom import Budget, StopReason
from fathom.language.model import LanguageModel
from fathom.search import STRATEGIES

pytestmark = pytest.mark.slow

DEPTH = 20
STEPS = "step_tokens=10, steps=2"
SPECS = [
    "direct",
    "vote(width=4)",
    "vote(width=4, confidence=tail, window=4, warmup=2)",
    "best-of-n(width=4, judge=arithmetic)",
    "first(width=4)",
    "halving(width=4, units=5)",
    f"beam(width=4, branching=2, {STEPS})",
    f"dvts(width=4, branching=2, {STEPS})",
    f"rebase(width=4, {STEPS})",
    f"particles(width=4, {STEPS})",
    "mcts(width=3)",
    "refine(rounds=1)",
    "fuse(width=2, k=2, rounds=1)",
    "ensemble(models=[smollm2-135m], width=2)",
    "cascade(models=[smollm2-135m], width=2, confident=1)",
    "vote(width=2) | refine(rounds=1, judge=arithmetic)",
]


def test_every_search_has_its_turn() -> None:
    assert {spec.partition("(")[0] for spec in SPECS} == {entry.name for entry in STRATEGIES} - {"auto"}


@pytest.mark.parametrize("spec", SPECS)
async def test_it_answers_within_its_budget_and_accounts_for_all(embedded: LanguageModel, spec: str) -> None:
    budget = Budget(depth=DEPTH, tokens=400)
    sampling = replace(embedded.sampling, temperature=0.2)  # which rounding errors, that differ by load, hardly move
    model = embedded.using(sampling=sampling)
    result = await fathom.asolve(model, "What is 2 + 3?", strategy=spec, budget=budget, seed=1)
    receipt = result.receipt
    assert result.answer
    assert receipt.stopped in (StopReason.EXHAUSTED, StopReason.DECIDED, StopReason.CONVERGED, StopReason.VERIFIED)
    spent = receipt.spent
    assert 0 < spent.tokens == sum(spent.tokens_by_role.values()) <= 400
    assert spent.depth <= DEPTH
    assert spent.width >= 1
    assert spent.reused_tokens > 0  # the instructions were read ahead
    raw = [t for t in result.trajectories if not t.finished and t.answer is not None]
    assert bool(raw) <= (spent.tokens_by_role.get("conclude", 0) > 0)
    assert any(character.isdigit() for character in result.answer)
    if spec in ("direct", "vote(width=4)"):
        assert result.answer == "5"
