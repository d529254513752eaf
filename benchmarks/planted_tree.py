"""Searches on planted trees, at equal numbers of model tokens, with judges as noisy as one likes.

    python benchmarks/planted_tree.py --questions 400

There is no model: the cores are asked and told directly. A question is a chain of DEPTH steps. On the right track the
next step is right with a probability that is the question's own, drawn between 0.65 and 0.95; a wrong step leaves the
track, and each step after it finds back with probability 0.05. What ends on the track is the right answer; what does
not gives one of four wrong answers, the likeliest half of the time. So the true value of every beginning, the
probability that it will end right, is known. A judge says sigmoid(logit(value) + noise · z), with z a standard normal
number that belongs to the text: it is wrong about the same text in the same way each time.

Every step is 30 tokens. A search of width w has w · DEPTH steps to spend, whatever it makes of them. ``direct`` stands
for one sample, and what it leaves unspent cannot be spent by it. The interval is Wilson's, of 95 %, over questions.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fathom.judges.base import Candidate, Verdict
from fathom.lab.statistics import wilson
from fathom.records import Trajectory
from fathom.search import STRATEGIES, Strategy
from fathom.search.base import Conclude, Grow, Judge, Search, Terms

DEPTH = 8
STEP_TOKENS = 30
RECOVERY = 0.05
WRONG = (0.5, 0.25, 0.15, 0.1)
STRATEGY_SPECS = (
    "direct",
    "vote(stop=never)",
    "best-of-n",
    "best-of-n(weighted=true)",
    "beam",
    "beam(select=best)",
    "dvts",
    "rebase",
    "particles",
    "particles(select=best)",
    "particles(anneal=true, steps=8)",
)


class Planted:
    """Stands for the judge: a core only wants to know that there is one; the question itself answers for it."""

    name = "planted"

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        raise NotImplementedError


@dataclass
class Question:
    """A chain of steps. A beginning is a text of a character a step: a digit for one on the track, else a capital."""

    number: int
    z: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.right = random.Random(self.number).uniform(0.65, 0.95)
        on, off = [1.0], [0.0]
        for _ in range(DEPTH):
            on, off = (
                [*on, self.right * on[-1] + (1 - self.right) * off[-1]],
                [*off, RECOVERY * on[-1] + (1 - RECOVERY) * off[-1]],
            )
        self.values = {True: on, False: off}

    def step(self, text: str, rng: random.Random) -> str:
        """The text with one more step, in one of three wordings where it is right."""
        if rng.random() < (self.right if on_track(text) else RECOVERY):
            return text + rng.choice("123")
        return text + rng.choices("WXYZ", WRONG)[0]

    def answer(self, text: str) -> str:
        """What was concluded: right, or the wrong answer that the last step stands for."""
        return "right" if on_track(text) else text[-1]

    def score(self, text: str, noise: float) -> float:
        value = min(0.98, max(0.02, self.values[on_track(text)][DEPTH - len(text)]))
        if text not in self.z:
            self.z[text] = random.Random(f"{self.number}:{text}").gauss(0, 1)
        return 1 / (1 + math.exp(-(math.log(value / (1 - value)) + noise * self.z[text])))


def on_track(text: str) -> bool:
    return text[-1:] not in ("W", "X", "Y", "Z")


@dataclass
class Play:
    """One search on one question: the model, the judge and the meter in one."""

    question: Question
    core: Search
    noise: float
    rng: random.Random
    tokens: int = 0

    def run(self) -> str | None:
        while self.core.stopped is None and (actions := self.core.ask(1 << 20)):
            for action in actions:
                match action:
                    case Grow(ids, parent, to_step=to_step):
                        for id in ids:
                            self.core.tell(self._grown(id, parent, 1 if to_step else DEPTH))
                    case Judge(ids):
                        for id in ids:
                            text = self.core.trajectories[id].text
                            self.core.tell_verdict(id, Verdict(self.question.score(text, self.noise)))
                    case Conclude():
                        raise AssertionError("every line of thought ends by itself here")
        return self.core.standing.answer

    def _grown(self, id: int, parent: int | None, steps: int) -> Trajectory:
        text = self.core.trajectories[parent].text if parent is not None else ""
        for _ in range(steps):
            text = self.question.step(text, self.rng)
        self.tokens += steps * STEP_TOKENS
        depth, done = len(text) * STEP_TOKENS, len(text) == DEPTH
        answer = self.question.answer(text) if done else None
        return Trajectory(id, parent, depth, text, answer, answer or "", finished=done)


def judged(spec: str, width: int) -> Strategy:
    strategy = STRATEGIES.build(spec)
    names = strategy.__dataclass_fields__
    options = {"judge": Planted()} if "judge" in names else {}
    return type(strategy)(**{**vars(strategy), **options, **({"width": width} if "width" in names else {})})


def measure(spec: str, width: int, noise: float, questions: int) -> tuple[int, float]:
    """How many questions were answered right, and the mean tokens spent on one."""
    right = tokens = 0
    for number in range(questions):
        core = judged(spec, width).begin(Terms(seed=number))
        play = Play(Question(number), core, noise, random.Random(f"{spec} {width} {number}"))
        right += play.run() == "right"
        tokens += play.tokens
    return right, tokens / questions


def table(cells: Sequence[tuple[int, float]], questions: int, heads: Sequence[str]) -> None:
    """Markdown: a row for each strategy, a column for each (width, noise)."""
    print("| strategy | tokens | " + " | ".join(heads) + " |")
    print("|---|---:|" + "---|" * len(heads))
    for spec in STRATEGY_SPECS:
        row, spent = [], []
        for width, noise in cells:
            right, tokens = measure(spec, width, noise, questions)
            interval = wilson(right, questions)
            row.append(f"{right / questions:.0%} [{interval.low:.0%}, {interval.high:.0%}]")
            spent.append(f"{tokens:.0f}")
        print(f"| `{spec}` | {' / '.join(dict.fromkeys(spent))} | " + " | ".join(row) + " |", flush=True)


def calibration(noise: float, questions: int = 200) -> float:
    """The judge's AUC on finished chains, pooled over questions."""
    rng, scores = random.Random(0), {True: list[float](), False: list[float]()}
    for number in range(questions):
        question, text = Question(number), ""
        for _ in range(DEPTH):
            text = question.step(text, rng)
        scores[on_track(text)].append(question.score(text, noise))
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[True] for b in scores[False]]
    return sum(pairs) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs="*", default=[4, 64], help="further widths, at the middle noise")
    parser.add_argument("--noise", type=float, nargs="+", default=[2.0, 4.0, 8.0])
    asked = parser.parse_args()
    began = time.monotonic()
    heads = [f"noise {noise:g} (AUC {calibration(noise):.2f})" for noise in asked.noise]
    print(f"{asked.questions} questions, width {asked.width}\n")
    table([(asked.width, noise) for noise in asked.noise], asked.questions, heads)
    if asked.widths:
        middle = sorted(asked.noise)[len(asked.noise) // 2]
        print(f"\n{asked.questions} questions, noise {middle:g}\n")
        table([(w, middle) for w in asked.widths], asked.questions, [f"width {w}" for w in asked.widths])
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
