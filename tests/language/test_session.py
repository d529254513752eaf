"""How a language model is asked, concluded and read, on engines with and without a given beginning."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from undisturbed import undisturbed
from upstreams import Upstream

import fathom
from fathom import Budget, Message, Meter, Problem, Result
from fathom.errors import NoAnswer, PromptTooLong, UpstreamError, UsageError
from fathom.language.engines.base import Price, Prompt, Request
from fathom.language.engines.openai import OpenAIEngine
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.language.prompts import FORMS, AnswerForm, closed_box
from fathom.reasoner import Expansion


def play(text: str, form: str = "short", **options: Any) -> LanguageModel:
    return LanguageModel(ScriptedEngine(lambda prompt, rng: text, **options), form=form)


def concluding(answer: str, **options: Any) -> LanguageModel:
    """A model that reasons without end, and concludes with these words."""
    engine = ScriptedEngine(lambda prompt, rng: answer if prompt.prefix_text else " so" * 500, **options)
    return LanguageModel(engine)


@given(st.text(alphabet="ab{}12", max_size=30))
def test_a_box_is_closed_where_its_braces_balance(text: str) -> None:
    depth, closed = 1, False
    for mark in text:
        depth += {"{": 1, "}": -1}.get(mark, 0)
        closed = closed or depth == 0
    assert closed_box(text) == closed


def test_what_was_cut_is_closed() -> None:
    short, code = FORMS[AnswerForm.SHORT], FORMS[AnswerForm.CODE]
    assert short.extract(short.complete("a \\boxed{7")) == "7"
    assert short.complete("a \\boxed{7} and on") == "a \\boxed{7} and on"
    assert code.extract(code.complete("```python\nx = 1")) is not None


@pytest.mark.parametrize(("parameters", "roles"), [(10**8, "suau"), (10**11, "su"), (0, "su")])
async def test_the_opening_joins_a_given_system_message_and_shows_small_models_an_example(
    parameters: int, roles: str
) -> None:
    seen: list[Prompt] = []

    def script(prompt: Prompt, rng: random.Random) -> str:
        seen.append(prompt)
        return "\\boxed{1}"

    model = LanguageModel(ScriptedEngine(script, parameters=parameters))
    await fathom.asolve(model, [Message("system", "Be kind."), Message("user", "?")], strategy="direct")
    assert "".join(m.role[0] for m in seen[0].messages) == roles
    assert seen[0].messages[0].content.endswith("Be kind.")


async def test_without_reasoning_the_model_is_asked_for_the_answer_alone() -> None:
    seen: list[Prompt] = []

    def script(prompt: Prompt, rng: random.Random) -> str:
        seen.append(prompt)
        return "5}"

    await fathom.asolve(LanguageModel(ScriptedEngine(script)), "?", budget=Budget(depth=0, width=1))
    assert "only" in seen[0].messages[0].content
    assert seen[0].prefix_text == "\\boxed{"


async def test_the_text_form_sends_the_prompt_as_it_is_and_takes_all_of_the_output() -> None:
    seen: list[Prompt] = []

    def script(prompt: Prompt, rng: random.Random) -> str:
        seen.append(prompt)
        return "<think>let me see</think>\nA poem, in two lines,\nand its end."

    result = await fathom.asolve(LanguageModel(ScriptedEngine(script), form="text"), "Write.", strategy="direct")
    assert seen[0].messages == (Message("user", "Write."),)
    assert result.answer == "A poem, in two lines,\nand its end."


async def test_the_code_form_takes_the_last_block() -> None:
    result = await fathom.asolve(play("Sure:\n```python\ndef f():\n    return 1\n```\nDone.", form="code"), "?")
    assert result.answer.strip() == "def f():\n    return 1"


def coding(*said: str) -> tuple[LanguageModel, list[Prompt]]:
    """A model that says the first on being asked, and the next whenever it is asked again; and what it was asked."""
    seen: list[Prompt] = []

    def script(prompt: Prompt, rng: random.Random) -> str:
        seen.append(prompt)
        return said[len(seen) - 1]

    return LanguageModel(ScriptedEngine(script), form="code"), seen


async def test_a_conclusion_goes_on_with_the_code_that_was_cut() -> None:
    whole = "So:\n```python\ndef f(a):\n    b = a + 1\n    return b\n```\nThat is it."
    for depth in range(9, len(whole.split())):  # words
        model, seen = coding(whole, "")
        await fathom.asolve(model, "?", strategy=f"direct(depth={depth})")
        if len(seen) == 1:  # cut behind the block: there was nothing to ask
            continue
        written = seen[1].prefix_text
        assert whole.startswith(written)
        model, seen = coding(whole, whole.removeprefix(written))
        result = await fathom.asolve(model, "?", strategy=f"direct(depth={depth})")
        assert result.answer == "def f(a):\n    b = a + 1\n    return b\n"
        assert whole.startswith(result.text)


async def test_code_that_stands_before_a_chain_is_cut_is_the_answer_and_nothing_is_asked() -> None:
    model, seen = coding("```python\nx = 1\n```\n" + "because " * 100)
    result = await fathom.asolve(model, "?", strategy="direct(depth=20)")
    assert (result.answer, len(seen), result.receipt.spent.tokens) == ("x = 1\n", 1, 20)


@pytest.mark.parametrize(
    "written",
    [
        "First I " * 20,
        "<think>\n```python\nx = 1\n" + "y " * 50,
        "```bash\npip\n```\n" + "then " * 50,
        "```python\n\n```\n" + "then " * 50,
    ],
)
async def test_where_no_code_was_begun_a_conclusion_begins_it(written: str) -> None:
    model, seen = coding(written, "z = 3\n```")
    result = await fathom.asolve(model, "?", strategy="direct(depth=20)")
    assert seen[1].prefix_text.endswith("\n\n```python\n")
    assert result.answer == "z = 3\n"


async def test_code_that_is_cut_for_good_is_left_without_the_statement_that_was_cut() -> None:
    body = "```python\ndef f(a):\n    return a\n\n"
    model, _ = coding(body + "print(" + "1 + " * 100, "1 + " * 1000)
    result = await fathom.asolve(model, "?", strategy="direct(depth=30)")
    assert result.answer is not None
    assert result.answer.strip() == "def f(a):\n    return a"


async def test_codes_that_differ_only_in_case_are_different_answers() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        return f"```python\n{rng.choice(['a = B', 'A = b'])}\n```"

    model = LanguageModel(ScriptedEngine(script), form="code")
    result = await fathom.asolve(model, "?", strategy="vote(width=12, stop=never)")
    assert len(result.receipt.candidates) == 2


async def test_a_thought_that_is_cut_is_closed_before_the_conclusion() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        if prompt.prefix_text:
            assert prompt.prefix_text.endswith("\n</think>\n\nThe answer is \\boxed{")
            return "9}"
        return "<think>" + "and then " * 300

    model = LanguageModel(ScriptedEngine(script))
    result = await fathom.asolve(model, "?", strategy="vote(width=2, depth=40)")
    assert result.answer == "9"
    assert result.receipt.candidates[0].finished is False


async def test_answers_asked_for_in_the_same_words_are_one_request() -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        result = await fathom.asolve(LanguageModel(engine), "?", strategy="vote(width=6, depth=0, stop=never)")
        await engine.aclose()
    assert [body.get("n") for body in server.bodies] == [6]
    assert sum(candidate.votes for candidate in result.receipt.candidates) == 6
    assert result.receipt.spent.calls == 6


async def test_a_sum_that_was_cut_is_shown_as_what_it_comes_to() -> None:
    a, b = random.SystemRandom().sample(range(100, 1000), 2)

    def script(prompt: Prompt, rng: random.Random) -> str:
        return f"{a} + {b}" + " =" * 50 if prompt.prefix_text.endswith("\\boxed{") else " so" * 500

    model = LanguageModel(ScriptedEngine(script))
    result = await fathom.asolve(model, "?", strategy="vote(width=1, depth=4)")
    assert result.answer == str(a + b)
    assert f"{a} + {b}" in result.text


async def test_a_sum_that_was_cut_while_it_was_worked_out_is_what_it_comes_to() -> None:
    a, b = random.SystemRandom().sample(range(100, 1000), 2)
    beginnings = [f"{a} * {b} = {'1 + ' * 30}", f"x = {a} * {b} = {a} * ({b} - 1 + 1) = {'1 + ' * 30}"]
    for beginning in beginnings:
        result = await fathom.asolve(concluding(beginning), "?", strategy="vote(width=1, depth=4)")
        assert result.answer == str(a * b)


@pytest.mark.parametrize("whole", [True, False])
async def test_an_answer_whose_meaning_takes_longer_than_there_is_time_is_given_all_the_same(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(text: str) -> None:
        time.sleep(2)

    monkeypatch.setattr("fathom.answers.meaning.expression_key", slow)
    root = f"\\sqrt{{{random.SystemRandom().randrange(10**9)}}}"  # which no test has asked for before
    model = concluding(root + "}" * whole + " + 1" * 30, latency=Latency(token=0.002))
    result = await fathom.asolve(model, "?", strategy="vote(width=1, depth=4, stop=never)", within=0.5)
    assert result.answer.startswith(root)
    assert result.receipt.spent.seconds < 1


async def test_a_conclusion_that_is_cut_in_the_middle_never_outvotes_a_whole_one() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        if prompt.prefix_text:
            return " ".join("1234567" * 9)  # never closes the box
        return "\\boxed{7}" if rng.random() < 0.3 else "so " * 50

    model = LanguageModel(ScriptedEngine(script))
    result = await fathom.asolve(model, "?", strategy="vote(width=20, depth=10, stop=never)")
    assert result.answer == "7"
    assert result.receipt.candidates[1].votes > result.receipt.candidates[0].votes


async def test_a_server_that_cannot_continue_a_beginning_is_asked_for_the_answer() -> None:
    def say(body: dict[str, Any], choice: int) -> list[str]:
        last = body["messages"][-1]["content"]
        return ["\\boxed{", "31", "}"] if "final answer" in last else ["hm "] * 400

    with Upstream(many=1, tokens=say) as server:
        engine = OpenAIEngine("m", server.url, prefix="none")
        result = await fathom.asolve(LanguageModel(engine), "?", budget=Budget(width=2, depth=20, seconds=20))
        await engine.aclose()
    assert result.answer == "31"
    asked = server.bodies[-1]["messages"]
    assert [m["role"] for m in asked] == ["system", "user", "assistant", "user"]
    assert asked[2]["content"].startswith("hm")


async def test_code_that_was_cut_is_the_answer_where_a_server_says_no_more() -> None:
    value = random.SystemRandom().randrange(10**6)

    def say(body: dict[str, Any], choice: int) -> list[str]:
        if "Time is up" in body["messages"][-1]["content"]:
            return []
        return ["```python\n", "x", " = ", str(value), "\n", *["f("] * 50]

    with Upstream(many=1, tokens=say) as server:
        engine = OpenAIEngine("m", server.url, prefix="none")
        model = LanguageModel(engine, form="code")
        result = await fathom.asolve(model, "?", strategy="direct(depth=20)")
        await engine.aclose()
    assert len(server.bodies) == 2
    assert result.answer == f"x = {value}"


async def test_without_a_deadline_nothing_is_streamed_and_with_one_it_is() -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        model = LanguageModel(engine)
        await fathom.asolve(model, "?", strategy="vote(width=4)")
        await fathom.asolve(model, "?", strategy="vote(width=4)", within="100s")
        await engine.aclose()
    assert [bool(body.get("stream")) for body in server.bodies] == [False, True]


async def test_a_short_deadline_leaves_the_depth_that_fits() -> None:
    strategy = "vote(width=16, stop=never)"

    async def widths() -> list[int]:
        latency = Latency(token=0.01, crowding=0.5)
        model = LanguageModel(ScriptedEngine({"1": 1}, latency=latency, room=16))
        await model.prepare()
        found = [await fathom.asolve(model, "?", strategy=strategy, within=within) for within in (0.4, 20)]
        return [result.receipt.spent.width for result in found]

    brief, ample = await undisturbed(widths)
    assert brief < ample == 16


async def test_a_deadline_that_leaves_no_time_to_reason_gets_the_bare_answer() -> None:
    model = LanguageModel(ScriptedEngine({"8": 1}, latency=Latency(token=0.03)))
    await model.prepare()
    result = await undisturbed(lambda: fathom.asolve(model, "?", within=0.3))
    assert result.answer == "8"
    assert "sample" not in result.receipt.spent.tokens_by_role


@pytest.mark.parametrize("deadline", [0.3, 0.6, 1.2])
async def test_of_a_server_that_nothing_is_known_of_a_first_question_is_answered_in_time(deadline: float) -> None:
    latency = Latency(first=random.uniform(0.02, 0.05), token=random.uniform(0.008, 0.016))
    engine = ScriptedEngine(lambda prompt, rng: "7}" if prompt.prefix_text else " so" * 500, latency=latency, room=4)
    result = await undisturbed(lambda: fathom.asolve(LanguageModel(engine), "?", within=deadline))
    assert result.answer == "7"
    assert {"sample", "conclude"} <= result.receipt.spent.tokens_by_role.keys()


async def test_a_server_that_was_slow_to_begin_is_asked_for_the_bare_answer_where_there_is_no_time_for_more() -> None:

    async def answers() -> list[Result]:
        model = LanguageModel(ScriptedEngine({"8": 1}, latency=Latency(first=0.3, token=0.002)))
        return [await fathom.asolve(model, "?", strategy="vote(width=4)", within=within) for within in (20, 0.7, 20)]

    first, brief, ample = await undisturbed(answers)
    assert first.receipt.spent.width == 4
    assert brief.answer == "8"
    assert "sample" not in brief.receipt.spent.tokens_by_role
    assert ample.receipt.spent.tokens_by_role["sample"] > 0


async def test_an_unknown_answer_form_says_which_there_are() -> None:
    with pytest.raises(UsageError, match="short"):
        LanguageModel(ScriptedEngine({"1": 1}), form="poem")


async def test_a_continuation_without_a_token_to_grow_by_is_its_parent_and_no_new_line_of_thought() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        return "9}" if prompt.prefix_text.endswith("\\boxed{") else " so" * 100

    model = LanguageModel(ScriptedEngine(script))
    meter = Meter(Budget(tokens=40))
    session = await model.open(Problem.of("?"), meter)
    (parent,) = [t async for t in session.expand(Expansion((0,), units=4), meter)]
    (child,) = [t async for t in session.expand(Expansion((1,), parent, units=0), meter)]
    assert (child.id, child.parent, child.text, child.depth) == (1, 0, parent.text, parent.depth)
    (concluded,) = [t async for t in session.conclude([child], meter)]
    assert concluded.text.startswith(" so so so so")
    assert concluded.answer == "9"
    assert meter.spent.width == 1
    await session.aclose()


async def test_a_parent_whose_children_did_not_come_back_can_still_be_concluded() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        return "9}" if prompt.prefix_text.endswith("\\boxed{") else " so" * 100

    def fail(seed: int) -> UpstreamError | None:
        return UpstreamError("gone") if seed == 1 else None

    model = LanguageModel(ScriptedEngine(script, fail=fail))
    meter = Meter(Budget(tokens=100))
    session = await model.open(Problem.of("?"), meter)
    (parent,) = [t async for t in session.expand(Expansion((0,), units=4), meter)]
    (child,) = [t async for t in session.expand(Expansion((1,), parent, units=4), meter)]
    assert child.reason == "failed"
    session.drop([child])
    (concluded,) = [t async for t in session.conclude([parent], meter)]
    assert concluded.answer == "9"
    await session.aclose()
    assert meter.tokens_left == 100 - meter.spent.tokens


@pytest.mark.parametrize("wave", [1, 4])
async def test_what_a_finished_sample_did_not_use_is_there_for_the_next(wave: int) -> None:
    model = LanguageModel(ScriptedEngine({"7": 0.5, "8": 0.5}))
    vote = fathom.Vote(width=40, wave=wave, stop="never")
    result = await fathom.asolve(model, "Which?", strategy=vote, budget=Budget(tokens=3000))
    assert result.receipt.spent.width == 40
    all_at_once = await fathom.asolve(model, "Which?", strategy=fathom.Vote(width=40, stop="never"))
    assert result.receipt.spent.memory_bytes < all_at_once.receipt.spent.memory_bytes


async def test_drafted_tokens_are_in_the_receipt() -> None:
    accepted, rejected = random.randrange(1, 50), random.randrange(50)
    account = {"timings": {"draft_n": accepted + rejected, "draft_n_accepted": accepted}}
    with Upstream(account=account) as server:
        model = LanguageModel(OpenAIEngine("m", server.url))
        result = await fathom.asolve(model, "What is it?", strategy="vote(width=3)")
        await model.aclose()
    spent = result.receipt.spent
    assert spent.accepted_draft_tokens * rejected == spent.rejected_draft_tokens * accepted
    assert spent.accepted_draft_tokens == accepted * len(server.bodies)


async def test_a_cost_limit_holds_for_servers_that_count_for_themselves() -> None:
    """The prompt is not counted here, and is by far the dearest part."""

    class Uncounted(ScriptedEngine):
        async def count(self, prompt: Prompt) -> int | None:
            return None

    price = Price(prompt=2.5, completion=10.0)
    model = LanguageModel(Uncounted({"42": 1.0, "41": 1.0}, price=price))
    question = "word " * 20_000
    with pytest.raises(NoAnswer):
        await fathom.asolve(model, question, strategy="vote(width=8)", budget=Budget(cost=0.05))
    enough = 4 * price.cost(30_000, 2000)
    result = await fathom.asolve(model, question, strategy="vote(width=8, stop=never)", budget=Budget(cost=enough))
    assert result.answer in ("41", "42")
    assert 0 < (result.receipt.spent.cost or 0.0) <= enough


async def test_attempts_too_long_to_be_shown_cost_themselves_and_not_the_answers_in_hand() -> None:
    long = "so it goes " * 100

    class Narrow(ScriptedEngine):
        def generate(self, request: Request) -> Any:
            words = " ".join(message.content for message in request.prompt.messages)
            if len(words.split()) > 300:
                raise PromptTooLong("the prompt is too long: shorten it")
            return super().generate(request)

    model = LanguageModel(Narrow(lambda prompt, rng: f"{long}\\boxed{{42}}"))
    result = await fathom.asolve(model, "?", strategy="vote(width=3, stop=never) | fuse(width=3, k=3, rounds=1)")
    assert result.answer == "42"


@pytest.mark.parametrize("strategy", ["direct", "vote(width=4)"])
async def test_one_call_is_enough_for_an_answer(strategy: str) -> None:
    result = await fathom.asolve(play("so \\boxed{42}"), "?", strategy=strategy, budget=Budget(calls=1))
    assert result.answer == "42"
    assert result.receipt.spent.calls == 1


async def test_being_made_to_go_on_is_a_call_each_time() -> None:
    model = play("so it is " * 5 + "\\boxed{42}")
    result = await fathom.asolve(model, "?", strategy="direct(at_least=400)", budget=Budget(calls=4))
    assert result.answer == "42"
    assert 2 <= result.receipt.spent.calls <= 4


async def test_a_model_that_says_nothing_is_not_made_to_go_on_for_ever() -> None:
    with pytest.raises(NoAnswer):
        await fathom.asolve(play(""), "?", strategy="direct(at_least=400)")


async def test_runs_with_seeds_that_follow_each_other_draw_nothing_in_common() -> None:
    seen: list[set[int]] = []

    def script(prompt: Prompt, rng: random.Random) -> str:
        seen[-1].add(rng.getrandbits(64))
        return "\\boxed{1}"

    model = LanguageModel(ScriptedEngine(script))
    for seed in range(7, 12):
        seen.append(set())
        await fathom.asolve(model, "?", strategy="vote(width=16, stop=never)", seed=seed)
    assert len(set().union(*seen)) == 5 * 16
