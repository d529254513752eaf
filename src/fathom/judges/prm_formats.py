"""What is sent to servers that run reward models, and how their replies are read: one small class a format.

A format that a server has for whole texts (score, classify, rerank) is asked for the text up to the end of each step.
Scores lie in [0, 1]: of a format that answers in logits they are the sigmoid, and one that promises probabilities and
sends anything else is refused, rather than bent into shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from fathom.errors import UpstreamError

__all__ = ["LOCAL_FORMATS", "SERVER_FORMATS", "ServerFormat", "without"]

LOCAL_FORMATS = ("qwen-math-prm", "skywork-o1-prm", "math-shepherd")
"""The formats of `fathom.judges.prm_local`, which needs packages that may not be there."""


def without(tag: str, text: str) -> str:
    """A text in which a step cannot end: with a space for each tag, so that what was around it makes no new one."""
    return text.replace(tag, " ")


class ServerFormat(ABC):
    """One way of asking. ``last_only`` says that nothing but the last step's score will be looked at."""

    path: ClassVar[str]

    def __init__(self, model: str, *, last_only: bool) -> None:
        self.model = model
        self.last_only = last_only

    @abstractmethod
    def body(self, problem: str, steps: Sequence[str]) -> dict[str, Any]:
        """What to post."""

    @abstractmethod
    def read(self, reply: Any) -> list[float]:
        """The scores in a reply, in the order of what was asked. KeyError, TypeError and the like mean garbage."""

    def expected(self, steps: Sequence[str]) -> int:
        """How many scores a good reply has."""
        return 1 if self.last_only else len(steps)

    def texts(self, steps: Sequence[str]) -> list[str]:
        """The solution up to the end of each step that matters."""
        ends = [len(steps)] if self.last_only else range(1, len(steps) + 1)
        return ["\n\n".join(steps[:end]) for end in ends]


class VLLMPooling(ServerFormat):
    """vLLM's ``/pooling`` of a model that scores at step tags, such as Qwen2.5-Math-PRM: one pair of probabilities,
    wrong and right, for each ``<extra_0>``."""

    path = "pooling"

    def body(self, problem: str, steps: Sequence[str]) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [
                {
                    "role": "system",
                    "content": "Please reason step by step, and put your final answer within \\boxed{}.",
                },
                {"role": "user", "content": without("<extra_0>", problem)},
                {"role": "assistant", "content": "".join(f"{without('<extra_0>', step)}<extra_0>" for step in steps)},
            ],
        }

    def expected(self, steps: Sequence[str]) -> int:
        return len(steps)

    def read(self, reply: Any) -> list[float]:
        (only,) = reply["data"]
        return [_probability(row[-1] if isinstance(row, list) else row) for row in only["data"]]


class VLLMScore(ServerFormat):
    """vLLM's ``/score``, which gives probabilities."""

    path = "score"

    def body(self, problem: str, steps: Sequence[str]) -> dict[str, Any]:
        return {"model": self.model, "text_1": problem, "text_2": self.texts(steps)}

    def read(self, reply: Any) -> list[float]:
        return _in_order(reply["data"], lambda item: _probability(item["score"]))


class SGLangClassify(ServerFormat):
    """SGLang's ``/classify`` of a reward model with one output, a logit."""

    path = "classify"

    def body(self, problem: str, steps: Sequence[str]) -> dict[str, Any]:
        return {"model": self.model, "text": [f"{problem}\n\n{text}" for text in self.texts(steps)]}

    def read(self, reply: Any) -> list[float]:
        found = []
        for item in reply if isinstance(reply, list) else [reply]:
            (logit,) = item["embedding"]
            found.append(_sigmoid(logit))
        return found


class LlamaReranking(ServerFormat):
    """llama.cpp's ``/reranking``, which gives logits, and not in the order of the documents."""

    path = "reranking"

    def body(self, problem: str, steps: Sequence[str]) -> dict[str, Any]:
        return {"model": self.model, "query": problem, "documents": self.texts(steps)}

    def read(self, reply: Any) -> list[float]:
        return _in_order(reply["results"], lambda item: _sigmoid(item["relevance_score"]))


SERVER_FORMATS: Mapping[str, type[ServerFormat]] = {
    "vllm-pooling": VLLMPooling,
    "vllm-score": VLLMScore,
    "sglang-classify": SGLangClassify,
    "llamacpp-reranking": LlamaReranking,
}


def _in_order(items: Any, read: Callable[[Any], float]) -> list[float]:
    scores = {item["index"]: read(item) for item in items}
    return [scores[index] for index in range(len(items))]


def _probability(value: Any) -> float:
    if isinstance(value, int | float) and 0.0 <= value <= 1.0:
        return float(value)
    raise UpstreamError(f"the reward model's score {value!r:.40} is no probability; is its activation switched off?")


def _sigmoid(logit: Any) -> float:
    if not isinstance(logit, int | float) or math.isnan(logit):
        raise UpstreamError(f"the reward model's score {logit!r:.40} is no number")
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
