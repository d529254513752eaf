from __future__ import annotations

from fathom.api import strategy_of
from fathom.judges.base import Candidate, Once
from fathom.judges.registry import JUDGES
from fathom.judges.value import Value
from fathom.reasoner import Capability
from fathom.search import STRATEGIES


async def test_the_models_word_is_its_value_until_it_knows() -> None:
    candidates = [
        Candidate("a", value=0.3),
        Candidate("a", value=0.8),  # the same board, deeper: judged anew
        Candidate("b", "b", value=0.9, valid=False),
        Candidate("c", "c", value=0.1, valid=True),
        Candidate("d"),
    ]
    verdicts = await Once(JUDGES.build("value")).judge("", candidates)
    assert [v.score for v in verdicts] == [0.3, 0.8, 0.0, 1.0, 0.0]
    assert [v.passed for v in verdicts] == [None, None, False, True, None]
    assert "without a value" in verdicts[-1].detail


def test_it_is_asked_where_nobody_else_is_named_and_needs_a_value() -> None:
    one = STRATEGIES.build("halving")
    assert str(one.judged_by_default(Value())) == "halving(judge=value)"
    assert one.judged_by_default(Value()).required == {Capability.VALUE, Capability.CONTINUE}
    for named in ("halving(judge=logprob)", "vote"):
        assert str(STRATEGIES.build(named).judged_by_default(Value())) == named
    pipeline = strategy_of("vote | best-of-n | halving(judge=logprob)").judged_by_default(Value())
    assert str(pipeline) == "vote | best-of-n(judge=value) | halving(judge=logprob)"
