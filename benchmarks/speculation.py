"""Does speculation pay, and is it off where it does not? On a simulated clock, against plain decoding.

    python benchmarks/speculation.py [--tokens 4000] [--seed 0]

A simulated engine makes tokens; a pass costs what its machine's cost curve says for the rows in it, with 5 % of noise,
and drafted tokens are accepted with the given chance. Rows are cost curves:

- *memory-bound*: a GPU that waits for its weights; sixteen rows cost a sixth more than one;
- *CPU*: quantised kernels as the embedded engine measured them; four rows cost 1.8 steps, sixteen 5.7;
- *slow CPU*: kernels for which verifying five rows costs more than five steps, and sixteen 7.5;
- *width 16*: sixteen texts on that GPU, which now waits for arithmetic: every row counts;
- *changing*: memory-bound with easy drafts, then neither, then again;
- *copying*: text in which stretches that repeat the prompt, with long agreement, alternate with new ones;
- *draft model*: a model of a third or of a thirtieth of the size drafts; it has to read each prompt, too, and whatever
  was written without it. Texts are 80 or 400 tokens after a prompt of 150.

Printed are the share of drafted tokens that were accepted, tokens per pass of the target, time relative to plain
decoding after the warm-up of 64 steps (below 1 is faster), the same for always drafting four tokens, and for the best
fixed length, known afterwards. ``tests/language/test_draft_control.py`` holds the controlled runs to at most 1.03.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fathom.language.draft_control import CHAINS, DraftControl, Shape
from fathom.language.drafting import Line, Lookahead
from fathom.language.speculative import Draft

WARM = 64
PROMPT = 150  # tokens that a draft model has to read
READING = 0.25  # steps of a model that reading a token takes it


def memory_bound(rows: int) -> float:
    return 1.0 + 0.01 * (rows - 1)


def _between(known: tuple[tuple[int, float], ...]) -> Callable[[int], float]:
    def cost(rows: int) -> float:
        for (low, less), (high, more) in itertools.pairwise(known):
            if rows <= high:
                return less + (more - less) * (rows - low) / (high - low)
        return known[-1][1] * rows / known[-1][0]

    return cost


cpu = _between(((1, 1.0), (2, 1.31), (4, 1.81), (8, 3.39), (16, 5.73)))
slow_cpu = _between(((1, 1.0), (2, 2.1), (4, 4.3), (5, 6.5), (16, 7.5)))


def busy_gpu(rows: int) -> float:
    """A batch of sixteen texts: beyond that many rows each costs its share."""
    return max(1.0, rows / 16)


@dataclass(frozen=True)
class Scene:
    """``chance(step)`` gives evidence and chance of acceptance for the draft at a step; evidence 0 is no draft."""

    name: str
    cost: Callable[[int], float]
    chance: Callable[[int], tuple[int, float]]
    width: int = 1
    cost_later: Callable[[int], float] | None = None
    prior: bool = False  # whether the pace of the machine was measured before
    drafting: float = 0.0  # steps that a drafted token takes
    answer: int = 80  # tokens of a text that a model drafts for

    def curve(self, step: int) -> Callable[[int], float]:
        return self.cost_later if self.cost_later is not None and (step // 1000) % 2 else self.cost


@dataclass
class Run:
    passes: int = 0
    tokens: int = 0
    seconds: float = 0.0
    plain: float = 0.0
    drafted: int = 0
    accepted: int = 0

    @property
    def ratio(self) -> float:
        return self.seconds / self.plain


def run(scene: Scene, control: DraftControl, tokens: int, seed: int, *, learns_for_free: bool = True) -> Run:
    """Make so many tokens for each text after the warm-up."""
    rng = random.Random(seed)
    found = Run()
    step = made = 0
    while found.tokens < tokens:
        curve = scene.curve(made)
        evidence, chance = scene.chance(made)
        shape = control.choose(evidence, control.longest, scene.width) if evidence else None
        length = shape.length if shape else 0
        runs = [_run(rng, chance, control.longest) for _ in range(scene.width)]
        accepted = min(*runs, length) if scene.width > 1 else min(runs[0], length)
        seconds = 0.01 * curve(scene.width * (1 + length)) * rng.gauss(1, 0.05)
        for right in runs if evidence and (shape or learns_for_free) else ():
            control.note(evidence, 1, length if shape else control.longest, min(right, length) if shape else right)
        control.observe(length, accepted + 1, seconds, scene.width)
        step += 1
        made += accepted + 1
        if step > WARM:
            found.passes += 1
            found.tokens += accepted + 1
            found.seconds += seconds
            found.plain += 0.01 * curve(scene.width) * (accepted + 1)
            found.drafted += length
            found.accepted += accepted
    return found


def _run(rng: random.Random, chance: float, most: int) -> int:
    """How many drafted tokens in a row are right."""
    return next((i for i in range(most) if rng.random() >= chance), most)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class SimulatedModel:
    """A drafter that takes its time. What it drafts is zeros as far as it is right, as the whole text is."""

    scene: Scene
    clock: Clock
    rng: random.Random
    behind: int = PROMPT
    free = False

    def read(self) -> int:
        read = min(64, self.behind)
        self._spend(read * READING)
        self.behind -= read
        return read

    def draft(self, most: int, branches: int = 1) -> Draft:
        self._spend(max(0, self.behind - 1) * READING + most)
        self.behind = 0
        right = _run(self.rng, self.scene.chance(0)[1], most)
        return Draft.chain([0] * right + [1] * (most - right))

    def extend(self, tokens: Sequence[int]) -> None:
        self.behind = self.behind + len(tokens) if self.behind else 1

    def _spend(self, tokens: float) -> None:
        self.clock.now += 0.01 * self.scene.drafting * tokens * self.rng.gauss(1, 0.05)


def run_model(scene: Scene, control: DraftControl, tokens: int, seed: int) -> Run:
    """The same with a model that drafts, through all that engines do."""
    rng, clock = random.Random(seed), Clock()
    ahead, found = Lookahead(control, clock), Run()
    step = 0
    while found.tokens < tokens:
        line, left = Line(SimulatedModel(scene, clock, rng)), scene.answer
        while left > 0:
            began = clock.now
            (draft,) = ahead.draft([line], left - 1)
            clock.now += 0.01 * scene.cost(1 + len(draft)) * rng.gauss(1, 0.05)
            made = [0] * (1 + sum(token == 0 for token in draft.tokens))
            (accepted,) = ahead.settle([line], [made], clock.now - began)
            left -= len(made)
            step += 1
            if step > WARM:
                found.passes += 1
                found.tokens += len(made)
                found.seconds += clock.now - began
                found.plain += 0.01 * len(made)
                found.drafted += len(draft)
                found.accepted += accepted
    return found


def _copying(step: int) -> tuple[int, float]:
    """Forty tokens of new text with chance agreement, then sixty that are copied."""
    return (3, 0.3) if step % 100 < 40 else (20, 0.97)


SCENES = [
    Scene("memory-bound, 80 % accepted", memory_bound, lambda step: (8, 0.8)),
    Scene("memory-bound, 30 % accepted", memory_bound, lambda step: (2, 0.3)),
    Scene("memory-bound, never right", memory_bound, lambda step: (2, 0.0)),
    Scene("CPU, 83 % accepted", cpu, lambda step: (8, 0.83)),
    Scene("CPU, 83 % accepted, pace known", cpu, lambda step: (8, 0.83), prior=True),
    Scene("CPU, 30 % accepted", cpu, lambda step: (4, 0.3)),
    Scene("CPU, copying, pace known", cpu, _copying, prior=True),
    Scene("slow CPU, 83 % accepted", slow_cpu, lambda step: (8, 0.83)),
    Scene("slow CPU, copying, pace known", slow_cpu, _copying, prior=True),
    Scene("memory-bound, copying", memory_bound, _copying),
    Scene("width 4, 80 % accepted", busy_gpu, lambda step: (8, 0.8), width=4),
    Scene("width 16, 80 % accepted", busy_gpu, lambda step: (8, 0.8), width=16),
    Scene(
        "changing",
        memory_bound,
        lambda step: (8, 0.8 if (step // 1000) % 2 == 0 else 0.1),
        cost_later=slow_cpu,
    ),
    Scene("CPU, draft model 1/3, 80 %", cpu, lambda step: (0, 0.8), prior=True, drafting=0.35),
    Scene("CPU, draft model 1/30, 70 %", cpu, lambda step: (0, 0.7), prior=True, drafting=0.03, answer=400),
    Scene("memory-bound, draft model 1/30, 70 %", memory_bound, lambda step: (0, 0.7), drafting=0.03, answer=400),
    Scene("memory-bound, draft model 1/3, 30 %", memory_bound, lambda step: (0, 0.3), drafting=0.35),
]


def controlled(scene: Scene) -> DraftControl:
    control = DraftControl(drafting=scene.drafting)
    if scene.prior:
        control.expect(scene.cost, READING)
    return control


def simulate(scene: Scene, control: DraftControl, tokens: int, seed: int) -> Run:
    return (run_model if scene.drafting else run)(scene, control, tokens, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"{'':36} {'accepted':>8} {'tok/pass':>8} {'time':>6} {'always 4':>9} {'best fixed':>16}")
    for scene in SCENES:
        ours = simulate(scene, controlled(scene), asked.tokens, asked.seed)
        fixed = {shape.length: simulate(scene, DraftControl(fixed=shape), asked.tokens, asked.seed) for shape in CHAINS}
        four = simulate(scene, DraftControl(fixed=Shape(4)), asked.tokens, asked.seed)
        best = min(fixed, key=lambda length: fixed[length].ratio)
        told = f"{fixed[best].ratio:.2f} at {best}" if fixed[best].ratio < 1 else "1.00 at 0"
        share = f"{ours.accepted / ours.drafted:8.0%}" if ours.drafted else f"{'-':>8}"
        print(
            f"{scene.name:36} {share} {ours.tokens / ours.passes:8.2f} {ours.ratio:6.3f} {four.ratio:9.2f} {told:>16}"
        )


if __name__ == "__main__":
    main()
