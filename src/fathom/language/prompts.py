"""The words that turn a chat model into a reasoner: how it is asked to think, to answer, and to come to an end.

An *answer form* says what counts as the answer in a model's output. The instructions are kept short, since a small
model on a slow machine has to read them, and come first in the prompt, so that an engine reads them once for all
questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fathom.answers import (
    at_once,
    blocks_of,
    canonical,
    code_block,
    extract,
    needs_algebra,
    thought_of,
    whole_statements,
)
from fathom.records import Message, Problem, Trajectory

__all__ = ["FORMS", "AnswerForm", "Form", "after", "again", "closed_box", "visible"]


class AnswerForm(StrEnum):
    """What the answer is in an output."""

    SHORT = "short"  # a stated result: a number, a choice, a formula, a few words
    CODE = "code"  # the last block of code
    TEXT = "text"  # all of it; the prompt is sent as it is


@dataclass(frozen=True)
class Form:
    """The words for one answer form.

    ``think`` and ``answer`` are the instructions with and without reasoning. ``shown`` is a question with its worked
    answer and its bare one, for models so small that an example tells them more than words do: it makes their reasoning
    several times shorter. ``cue`` is what the model is made to begin its conclusion with, ``bare_cue`` the same where
    there was no reasoning before, and ``request`` how it is asked for it where an engine cannot continue a given
    beginning. ``tokens`` is what a conclusion may take.
    """

    think: str
    answer: str
    cue: str
    bare_cue: str
    request: str
    tokens: int
    shown: tuple[str, str, str] | None = None
    manner: ClassVar[str] = ""
    """How it is brought to its conclusion, where that is not only a matter of words: sweeps that differ in it are not
    mixed."""

    def opening(self, *, direct: bool, example: bool) -> tuple[Message, ...]:
        """What stands before every problem: the instruction, and the example where it is wanted."""
        words = self.answer if direct else self.think
        if not words:
            return ()
        turns = [Message("system", words)]
        if example and self.shown is not None:
            question, worked, bare = self.shown
            turns += [Message("user", question), Message("assistant", bare if direct else worked)]
        return tuple(turns)

    def extract(self, text: str) -> str | None:
        """The answer in a finished output, or None where it states none."""
        raise NotImplementedError

    def meaning(self, answer: str) -> tuple[str, bool]:
        """What votes for the answer are counted by, and whether its meaning could be made out."""
        return " ".join(answer.split()), bool(answer.strip())

    def unfinished(self, answer: str) -> tuple[str, str]:
        """What an answer comes to that was cut, and the key it is counted by: of ``6 \\times 7 = 4`` it is 42, which
        the model had not come to say. For when there is no time left, so it takes none."""
        return answer, " ".join(answer.split())

    def marked(self, text: str) -> bool:
        """Whether the text holds an answer that is marked as the instruction asks for it."""
        return False

    def ponders(self, answer: str) -> bool:
        """Whether making out the meaning may take long enough to hold up an event loop."""
        return False

    def closed(self, continuation: str) -> bool:
        """Whether what the model wrote after the cue holds the whole answer."""
        return False

    def complete(self, text: str) -> str:
        """The text with the answer closed that it may have been cut in."""
        return text

    def states(self, text: str) -> bool:
        """Whether a text that was cut has come to its answer before, so that there is nothing left to ask."""
        return False

    def begun(self, text: str) -> str:
        """The answer that a text was cut in, with what marks its beginning: a conclusion goes on with it. Else empty,
        and a conclusion begins the answer itself."""
        return ""


class _Short(Form):
    def extract(self, text: str) -> str | None:
        return extract(text)

    def meaning(self, answer: str) -> tuple[str, bool]:
        found = canonical(answer)
        return found.key, found.parsed

    def unfinished(self, answer: str) -> tuple[str, str]:
        found = at_once(answer.rpartition("=")[0].rstrip(" =") or answer)
        return (found.text, found.key) if found.key.startswith("n:") else (answer, at_once(answer).key)

    def marked(self, text: str) -> bool:
        return "\\boxed{" in text

    def ponders(self, answer: str) -> bool:
        return needs_algebra(answer)

    def closed(self, continuation: str) -> bool:
        return "\n" in continuation or closed_box(continuation)

    def complete(self, text: str) -> str:
        at = text.rfind("\\boxed{")
        if at < 0 or closed_box(text[at + 7 :]):
            return text
        return text.splitlines()[0].rstrip() + "}" if at == 0 else text[:at] + self.complete(text[at:])


class _Code(Form):
    manner = "goes on with the block that it was cut in"

    def extract(self, text: str) -> str | None:
        return code_block(text)

    def marked(self, text: str) -> bool:
        return text.count("```") > 1

    def closed(self, continuation: str) -> bool:
        return "```" in continuation

    def complete(self, text: str) -> str:
        return text if text.count("```") % 2 == 0 else text + "\n```"

    def unfinished(self, answer: str) -> tuple[str, str]:
        return super().unfinished(whole_statements(answer))

    def states(self, text: str) -> bool:
        found = blocks_of(thought_of(text).spoken)
        python = (code for language, code in found.closed if not language or language.startswith("py"))
        return not found.open and any(code.strip() for code in python)

    def begun(self, text: str) -> str:
        return blocks_of(thought_of(text).spoken).open


class _Text(Form):
    def extract(self, text: str) -> str | None:
        return visible(text) or None


FORMS = {
    AnswerForm.SHORT: _Short(
        think="Think step by step, briefly. End with the answer in \\boxed{}.",
        answer="Reply with only the answer in \\boxed{}.",
        cue="\n\nThe answer is \\boxed{",
        bare_cue="\\boxed{",
        request="Time is up. Reply with only your final answer in \\boxed{}.",
        tokens=24,
        shown=(
            "A shop has 34 boxes of 26 pens and sells 15 pens. How many are left?",
            "34 * 26 = 34 * 20 + 34 * 6 = 680 + 204 = 884\n884 - 15 = 869\n\\boxed{869}",
            "\\boxed{869}",
        ),
    ),
    AnswerForm.CODE: _Code(
        think="Reply with the complete Python code in one code block.",
        answer="Reply with the complete Python code in one code block.",
        cue="\n\n```python\n",
        bare_cue="```python\n",
        request="Time is up. Reply with only the complete Python code in one code block.",
        tokens=192,
    ),
    AnswerForm.TEXT: _Text(think="", answer="", cue="", bare_cue="", request="", tokens=0),
}


def after(opening: tuple[Message, ...], problem: Problem) -> tuple[Message, ...]:
    """The problem's messages behind an opening; a system message of its own is joined to the opening's."""
    messages = problem.messages
    if opening and messages[0].role in ("system", "developer"):
        head = Message(messages[0].role, f"{opening[0].content}\n\n{messages[0].content}")
        return (head, *opening[1:], *messages[1:])
    return (*opening, *messages)


def again(attempts: Sequence[Trajectory], finding: str) -> tuple[Message, ...]:
    """The turns that show earlier attempts and ask for a better one: one is revised, several are combined.

    Attempts are marked as data, so that what stands in them is not taken for an instruction.
    """
    if len(attempts) == 1:
        said = f"{finding.strip()}\n\n" if finding.strip() else ""
        asked = f"{said}Check the attempt above, correct what is wrong in it, and answer the question again in full."
        return (Message("assistant", attempts[0].text), Message("user", asked))
    shown = "\n\n".join(f"<attempt {i}>\n{t.text.strip()}\n</attempt {i}>" for i, t in enumerate(attempts, 1))
    asked = "These are attempts at the question, some of them wrong. Take what is right in them and answer it in full."
    return (Message("assistant", shown), Message("user", f"{finding}\n\n{asked}".strip()))


def visible(text: str) -> str:
    """The text without reasoning sections."""
    return thought_of(text).spoken.strip()


def closed_box(text: str) -> bool:
    """Whether a ``\\boxed{`` that this text continues is closed in it, its own brace counted as open."""
    depth = 1
    for mark in text:
        depth += (mark == "{") - (mark == "}")
        if depth == 0:
            return True
    return False
