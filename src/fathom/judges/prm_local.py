"""Process reward models in process, by transformers: one small class a format.

Models come from a directory with safetensors files, and no code that comes with them is run: their backbone
is one that transformers knows, and the small head that scores is applied here. Torch and transformers are imported when
a model is loaded.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from fathom.budget import Meter
from fathom.errors import EngineError, MissingDependency, ModelFileError
from fathom.judges.prm_formats import without

__all__ = ["LOCAL", "LocalScorer"]

_QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


class LocalFormat(ABC):
    """A loaded model: how a solution is written for it, and how it scores the ends of the steps.

    Raises ModelFileError for a directory that holds no such model, MissingDependency without the packages.
    """

    backbone: ClassVar[str] = "AutoModel"
    tag: ClassVar[str]

    def __init__(self, path: str) -> None:
        if not (Path(path) / "config.json").is_file():
            raise ModelFileError(f"{path} is no directory of a transformers model: it has no config.json")
        transformers = _transformers()
        import torch

        self.torch: Any = torch
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
            kind = getattr(transformers, self.backbone)
            self.model, found = kind.from_pretrained(path, dtype="auto", output_loading_info=True, **local)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelFileError(f"{path} does not load as a transformers model: {error}") from None
        if found["missing_keys"]:  # transformers would fill them with random numbers
            raise ModelFileError(f"{path} lacks weights of its model, {sorted(found['missing_keys'])[0]} among them")
        self.model.eval()
        self.parameters = sum(weight.numel() for weight in self.model.parameters())
        ids = self.tokenizer.encode(self.tag, add_special_tokens=False)
        if not ids:
            raise ModelFileError(f"{path}: its tokeniser knows no {self.tag!r}, which this format ends its steps with")
        self.tag_id: int = ids[-1]
        added = (token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special)
        own = (self.tag, *self.tokenizer.all_special_tokens, *added)
        self.own_tokens = tuple(dict.fromkeys(token for token in own if token.strip()))
        self.load_head(path)

    def load_head(self, path: str) -> None:  # noqa: B027 - a language model needs none
        """Load what comes on top of the backbone."""

    @abstractmethod
    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Token ids, and the positions of the ends of the steps."""

    @abstractmethod
    def at(self, ids: Any, ends: Any) -> Any:
        """The scores at the positions ``ends`` (steps,) of the ids (1, length): a tensor (steps,) in [0, 1]."""

    def scores(self, problem: str, steps: Sequence[str]) -> tuple[list[float], int]:
        """The score of each step, and the number of tokens read. Blocks."""
        ids, ends = self.encode(problem, steps)
        if len(ends) != len(steps):
            raise EngineError(f"found {len(ends)} ends of steps for {len(steps)} steps; is the format the model's?")
        with self.torch.inference_mode():
            found = self.at(self.torch.tensor([ids]), self.torch.tensor(ends))
        return [min(1.0, max(0.0, score)) for score in found.tolist()], len(ids)

    def plain(self, text: str) -> str:
        """The text with no token of the model's own in it, the tag least of all: a step ends only where it does, and a
        turn where the chat template ends it."""
        for token in self.own_tokens:
            text = without(token, text)
        return text

    def tagged(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """The ids, and where among them the tags are."""
        return ids, [at for at, id in enumerate(ids) if id == self.tag_id]


class QwenMathPRM(LocalFormat):
    """Qwen2.5-Math-PRM (arXiv 2501.07301): a chat with ``<extra_0>`` behind each step, where a head of two layers tells
    wrong from right."""

    tag = "<extra_0>"

    def load_head(self, path: str) -> None:
        self.head = [_tensor(path, f"score.{layer}.{part}") for layer in (0, 2) for part in ("weight", "bias")]

    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        turns = [
            {"role": "system", "content": _QWEN_SYSTEM},
            {"role": "user", "content": self.plain(problem)},
            {"role": "assistant", "content": "".join(self.plain(step) + self.tag for step in steps)},
        ]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
        return self.tagged(self.tokenizer.encode(text, add_special_tokens=False))

    def at(self, ids: Any, ends: Any) -> Any:
        w0, b0, w1, b1 = (tensor.float() for tensor in self.head)
        hidden = self.model(input_ids=ids).last_hidden_state[0, ends].float()  # (steps, width)
        return ((hidden @ w0.T + b0).relu() @ w1.T + b1).softmax(-1)[:, 1]


class SkyworkPRM(LocalFormat):
    """Skywork-o1-Open-PRM: the problem, then steps that each end with a new line, where a value head gives a logit."""

    tag = "\n"

    def load_head(self, path: str) -> None:
        self.weight, self.bias = (_tensor(path, f"v_head.summary.{part}").float() for part in ("weight", "bias"))

    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        def encode(text: str) -> list[int]:
            return list(self.tokenizer.encode(text, add_special_tokens=False))

        ids = encode(f"{self.tokenizer.bos_token or ''}{self.plain(problem)}\n")
        ends = []
        for step in steps:  # by the piece, so that no token reaches from one step into the next
            ids += [*encode(self.plain(step)), self.tag_id]
            ends.append(len(ids) - 1)
        return ids, ends

    def at(self, ids: Any, ends: Any) -> Any:
        hidden = self.model(input_ids=ids).last_hidden_state[0, ends].float()  # (steps, width)
        return (hidden @ self.weight.T + self.bias)[:, 0].sigmoid()


class MathShepherd(LocalFormat):
    """Math-Shepherd (arXiv 2312.08935): a language model that says + or - at the letters ки behind each step."""

    backbone = "AutoModelForCausalLM"
    tag = "ки"

    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        text = "\n".join(f"{self.plain(step)} {self.tag}" for step in steps)
        return self.tagged(self.tokenizer.encode(f"{self.plain(problem)} {text}"))

    def at(self, ids: Any, ends: Any) -> Any:
        signs = [self.tokenizer.encode(sign, add_special_tokens=False)[-1] for sign in ("+", "-")]
        return self.model(input_ids=ids).logits[0, ends][:, signs].float().softmax(-1)[:, 0]


LOCAL: Mapping[str, type[LocalFormat]] = {
    "qwen-math-prm": QwenMathPRM,
    "skywork-o1-prm": SkyworkPRM,
    "math-shepherd": MathShepherd,
}


def _transformers() -> Any:
    try:
        import_module("torch")
        return import_module("transformers")
    except ImportError as error:
        raise MissingDependency(error.name or "transformers", "hf", "a process reward model in process") from None


def _tensor(path: str, name: str) -> Any:
    """A tensor of the model's files, found by its full name or the end of it."""
    from safetensors import safe_open

    for file in sorted(Path(path).glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - the reader is no mapping
                if key == name or key.endswith(f".{name}"):
                    return opened.get_tensor(key)
    raise ModelFileError(f"{path} has no tensor {name} in its safetensors files; is the format the model's?")


_TURN = threading.Lock()


@lru_cache(maxsize=2)
def _load(path: str, form: str) -> LocalFormat:
    return LOCAL[form](path)


def _score(path: str, form: str, problem: str, steps: Sequence[str]) -> tuple[list[float], int, int]:
    with _TURN:
        model = _load(path, form)
        return *model.scores(problem, steps), model.parameters


class LocalScorer:
    """Asks a model in process, which is loaded at the first question and kept; one question at a time.

    A question that was begun goes on where the run is cancelled, since threads cannot be stopped.
    """

    def __init__(self, path: str, form: str, meter: Meter) -> None:
        self.path = path
        self.form = form
        self.meter = meter

    async def scores(self, problem: str, steps: Sequence[str]) -> list[float]:
        if (ended := self.meter.exhausted) is not None:
            raise EngineError(f"the budget ended ({ended}) before the reward model was asked")
        scores, read, parameters = await asyncio.to_thread(_score, self.path, self.form, problem, steps)
        self.meter.charge("judge", calls=1, prompt_tokens=read, flops=2.0 * parameters * read)
        return scores
