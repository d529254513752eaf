"""A script that thinks for a while, and questions that it gets right now and then."""

from __future__ import annotations

import random
from collections.abc import Callable

from fathom.lab.datasets.base import Dataset, Question, exactly
from fathom.language.engines.base import Prompt


def rambling(fresh: int) -> Callable[[Prompt, random.Random], str]:
    """A script that thinks for a while and gives one of several answers, or now and then none."""

    def write(prompt: Prompt, rng: random.Random) -> str:
        question = prompt.messages[-1].content
        own = random.Random(f"{fresh} {question}")
        answer = rng.choices([f"{own.randrange(90)}" for _ in range(4)], [own.random() ** 2 for _ in range(4)])[0]
        if prompt.prefix_text.endswith("\\boxed{"):
            return answer + "}."
        words = " ".join(rng.choices(("so", "then", "hmm"), k=rng.randrange(1, 25)))
        return words if rng.random() < 0.1 else f"{words} \\boxed{{{answer}}}."

    return write


def sums(fresh: int, count: int) -> Dataset:
    """Questions with references that the rambling model gets right now and then."""
    questions = []
    for number in range(count):
        prompt = f"question {number} of {fresh}?"
        own = random.Random(f"{fresh} {prompt}")
        questions.append(Question(str(number), prompt, reference := f"{own.randrange(90)}", exactly(reference)))
    return Dataset(f"sums {fresh}", questions)
