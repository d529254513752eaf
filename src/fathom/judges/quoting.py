"""What a model judge is shown of a candidate: text marked as data, which can neither end its mark nor pass as empty.

A candidate is written by a model, and may hold anything: instructions to the judge, a forged end of the quotation, the
control tokens of a chat template. And judges can be opened with *master keys* (Zhao et al., arXiv 2507.08794): a colon,
or "Thought process:" and nothing else, which many models take for a solution. Those are refused without asking.
"""

from __future__ import annotations

import hashlib
import re

from fathom.judges.base import Candidate

__all__ = ["defused", "hollow", "quoted"]

_CONTROL = re.compile(
    r"<(?=[|｜/]|s>|start_of|end_of|bos>|eos>)|\[(?=/?(?:INST|SYS|AVAILABLE_TOOLS|TOOL))", re.IGNORECASE
)
_WORDS = re.compile(r"[^\W_]+")
_COMMANDS = re.compile(r"\\[A-Za-z]+|</?(?:think|thinking|reasoning|answer)>")
_BOXED = re.compile(r"\\boxed\s*\{[^}]*[^\W_]")
_MAX_OPENER = 400
_OPENERS = re.compile(
    r"""(?:
      (?:(?:my|the|a|here\s+is|here\s+s|heres)\s+)*
      (?:thought|thinking|thinking\s+out\s+loud|reasoning|solution|answer|final\s+answer|explanation|analysis|response
        |proof|result|solution\s+process|approach)(?:\s+(?:process|steps?|below|follows|is))*
     |(?:ok(?:ay)?|so|well|now|sure|alright|certainly|of\s+course)
     |let(?:\s+)?(?:s|us|me)\s+(?:begin|start|think|solve|work|break|go|tackle|analy[sz]e|see|do|figure|approach|reason
        |find|consider)(?:\s+(?:to|by|with|through|about|on|at|solve|solving|thinking|the|this|that|it|problem|question
        |equation|task|down|out|step|steps|by|carefully|slowly|together|first|a|look|reasoning|in|detail))*
     |(?:to|in\s+order\s+to)\s+(?:solve|answer)(?:\s+(?:the|this|that|problem|question|equation|it|we|need|to))*
     |step\s+by\s+step|steps?\s+(?:\d+|one)
     |i\s+(?:will|ll|need\s+to|should)\s+(?:solve|think|answer)(?:\s+(?:this|the|it|problem|question|step|by|about))*
     |respuesta|soluci[oó]n|réponse|lösung|antwort|解|解答|答案|思考过程|かいせつ|解説
    )(?:\s+|$)""",
    re.IGNORECASE | re.VERBOSE,
)


def hollow(candidate: Candidate) -> str | None:
    """Why the candidate is not worth a judge's time: it is empty, or an opening and nothing after it. Else None."""
    text = candidate.text if candidate.text.strip() else candidate.answer or ""
    words = _WORDS.findall(_COMMANDS.sub(" ", text))
    if not words:
        return "an empty answer"
    rest = " ".join(words)
    if len(rest) > _MAX_OPENER or _BOXED.search(text):
        return None
    while opener := _OPENERS.match(rest):
        rest = rest[opener.end() :]
    return None if rest else "the opening of an answer, and nothing after it"


def defused(text: str) -> str:
    """The text with no control token of a chat template in it: they lose their bracket."""
    return _CONTROL.sub("‹", text)


def quoted(**texts: str) -> str:
    """The texts, each between tags of its name and a mark that none of them can hold, one after the other.

    The mark is drawn from the texts themselves: a text that held it would have to hold its own SHA-256. So the same
    texts always make the same prompt, which random marks would not. Chat templates' control tokens lose their bracket.
    """
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in texts.items()).encode("utf-8", "replace"))
    mark = digest.hexdigest()[:20]
    return "\n\n".join(f"<{name}-{mark}>\n{defused(text).strip()}\n</{name}-{mark}>" for name, text in texts.items())
