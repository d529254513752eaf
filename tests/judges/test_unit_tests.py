"""Tests decide, whatever a candidate does: it may exit, print, patch or lie, and passes only by being right."""

from __future__ import annotations

import random

import pytest

from fathom.judges.base import Candidate
from fathom.judges.unit_tests import UnitTests

JUDGE = UnitTests(
    seconds=60.0,
    code="import random\nn = random.randint(2, 10**6)\nassert double(n) == 2 * n\nassert double([n]) == [n, n]",
)


def _cheats() -> dict[str, str]:
    return {
        "exit": "import sys\nsys.exit(0)",
        "exit in the call": "import os\ndef double(x): os._exit(0)",
        "exit early": "import os\nos._exit(0)\ndef double(x): return x * 2",
        "print": "print('[true, \"\"]', flush=True)\ndef double(x):\n    print('[true, \"\"]', flush=True)",
        "write everywhere": """
import os
def shout():
    for descriptor in range(30):
        try: os.write(descriptor, b'[true, ""]\\n' * 3)
        except OSError: pass
shout()
def double(x): shout(); return x
""",
        "equals everything": """
class Chameleon(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
def double(x): return Chameleon(7)
""",
        "strange object": "class A:\n    def __eq__(self, other): return True\ndef double(x): return A()",
        "patch": "import builtins, json\nbuiltins.AssertionError = json.dumps = None\ndef double(x): return 0",
        "kill": "import os\ndef double(x):\n    os.kill(os.getppid(), 9); os.kill(1, 9)\n    return 0",
        "read the tests": """
import gc
found = [held for held in gc.get_objects() if ' '.join(['assert', 'double(n)']) in repr(held)]
double = (lambda x: x * 2) if found else None
""",
        "close": "import os\nos.closerange(0, 100)\ndef double(x): return x * 2",
        "thread": "import os, threading\nthreading.Thread(target=os._exit, args=(0,)).start()\ndef double(x): return 1",
        "too much": "def double(x): return 'x' * 10**8",
        "nested": "def double(x):\n    y = []\n    for _ in range(10**5): y = [y]\n    return y",
        "assert": "def double(x): raise SystemExit(0)",
        "syntax": "def double(x) return",
        "nothing": "",
    }


@pytest.mark.parametrize("name", _cheats())
async def test_cheats_do_not_pass(name: str) -> None:
    (verdict,) = await JUDGE.judge("", [Candidate(f"```python\n{_cheats()[name]}\n```")])
    assert verdict.passed is False, verdict
    assert verdict.score == 0


QUESTION = 'def f(x):\n    """Squares.\n    >>> f(4)\n    16\n    >>> f(5)\n    25\n    """\n'
WRONG = "def f(x): return 0\n"
SHADOWS = {
    "the examiner": "def expect(*a): pass\ndef expect_shown(*a): pass\n",
    "the examiner, by a value": "expect = expect_shown = 1\n",
    "builtins": "def abs(x): return 0\n",
    "builtins, by values": "abs = AssertionError = Exception = 0\n",
    "importing": "def __import__(*a): pass\n__builtins__ = {}\n",
    "importing, in the examiner's own words": """
import gc
def __import__(*a): pass
for line in gc.get_objects():
    if type(line).__name__ == 'Line':
        line.send(['defined', ['f', '__import__', '__builtins__', 'expect', 'abs'], {'expect': 1, '__debug__': False}])
""",
}


@pytest.mark.parametrize("shadow", SHADOWS)
@pytest.mark.parametrize(
    "judge",
    [
        UnitTests(seconds=60.0),
        UnitTests(seconds=60.0, code="import math\nassert abs(f(3) - math.sqrt(81)) < 1e-6"),
    ],
    ids=["examples", "code"],
)
async def test_no_name_of_the_candidate_takes_the_place_of_what_decides(judge: UnitTests, shadow: str) -> None:
    (verdict,) = await judge.judge(QUESTION, [Candidate(f"```python\n{SHADOWS[shadow]}{WRONG}\n```")])
    assert (verdict.passed, verdict.score) == (False, 0.0), verdict


async def test_a_builtins_name_is_the_candidates_where_the_question_asks_for_it() -> None:
    question = 'def sum(xs):\n    """The alternating sum.\n    >>> sum([5, 3, 1])\n    3\n    """\n'
    right, wrong = "def sum(xs): return xs[0] - xs[1] + xs[2]", "def add(xs): return xs[0]"
    verdicts = await UnitTests(seconds=60.0, code="assert sum([9, 1, 2]) == 10").judge(
        question, [Candidate(f"```python\n{code}\n```") for code in (right, wrong)]
    )
    assert [verdict.passed for verdict in verdicts] == [True, False]


async def test_the_right_program_passes() -> None:
    (verdict,) = await JUDGE.judge("", [Candidate("```python\ndef double(x): return x * 2\n```")])
    assert verdict.passed, verdict


async def test_data_crosses_as_it_is() -> None:
    n = random.randint(1, 10**9)
    values = f"[None, True, {n}, -0.5, float('inf'), 'é\\n', b'\\xff', 1j, [1, (2,)], {{1, 2}}, frozenset({{3}}), "
    values += f"{{(1, 2): [{n}]}}, range(3), 10**5000]"
    code = f"for value in {values}:\n    got = echo(value)\n    assert got == value and type(got) is type(value), got\n"
    code += "items = [3, 1, 2]\nassert sort(items) is None\nassert items == [1, 2, 3]\n"
    code += "try:\n    fail('why')\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'why'\n"
    code += f"assert LIMIT == {n}\nassert add(1, b=2) == 3"
    program = f"LIMIT = {n}\ndef echo(x): return x\ndef sort(x): x.sort()\ndef fail(x): raise ValueError(x)\n"
    program += "def add(a, b): return a + b"
    (verdict,) = await UnitTests(seconds=60.0, code=code).judge("", [Candidate(f"```python\n{program}\n```")])
    assert verdict.passed, verdict


async def test_time_runs_out_for_the_slow_only_and_what_passed_before_counts() -> None:
    question = 'def f(x):\n    """\n    >>> f(1)\n    1\n    >>> f(2)\n    2\n    """\n'
    judge = UnitTests(seconds=8.0)
    slow, fast = "    import time\n    time.sleep(1000 * (x - 1))\n    return x\n", "    return x\n"
    verdicts = await judge.judge(question, [Candidate(slow), Candidate(fast)])
    assert (verdicts[0].score, verdicts[0].passed) == (0.5, False)
    assert "out of time" in verdicts[0].detail
    assert verdicts[1].passed


async def test_without_examples_there_is_no_verdict() -> None:
    (verdict,) = await UnitTests().judge("What is love?", [Candidate("```python\nlove = 1\n```")])
    assert verdict.passed is None
    assert "tests(code=…)" in verdict.detail
