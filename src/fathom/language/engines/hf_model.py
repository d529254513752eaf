"""A causal language model of transformers, its tokens and its chat template, with nothing in it of scheduling.

Weights are read from safetensors files and no code that comes with a model is run. Only models are taken whose cache
can be cut and shared at any position, since all that the engine saves rests on it. Torch and transformers are imported
when a model is opened.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fathom.errors import DownloadError, EngineError, MissingDependency, ModelFileError
from fathom.language.draft_control import cpu_clock

__all__ = ["HFModel", "HFVocabulary"]

_PLAIN_CHAT = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}Assistant:"
)


class HFVocabulary:
    """The tokens of a model, from text to ids and back."""

    def __init__(self, tokenizer: Any, size: int, ends: frozenset[int], bos: list[int]) -> None:
        backend = tokenizer.backend_tokenizer
        self._special = backend
        self._plain = type(backend).from_str(backend.to_str())
        self._plain.encode_special_tokens = True
        self.size, self._ends, self.bos = size, ends, bos
        self._controls = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._to_token = tokenizer.convert_ids_to_tokens
        self._added = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items()}
        decoder = json.dumps(json.loads(backend.to_str()).get("decoder") or {})
        self._bytes = _byte_alphabet() if '"ByteLevel"' in decoder else None
        self._pieces: dict[int, bytes] = {}

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``; control tokens that it spells out are read as such only when ``special``."""
        whole = text.encode("utf-8", errors="replace").decode()  # a lone surrogate has no encoding
        encoded = (self._special if special else self._plain).encode(whole, add_special_tokens=False)
        return list(encoded.ids)

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for a control token."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._spell(token)
        return known

    def _spell(self, token: int) -> bytes:
        if token in self._controls:
            return b""
        if token in self._added:
            return self._added[token].encode()
        word = self._to_token(token)
        if word is None:  # rows of the model beyond the tokeniser's words
            return b""
        if self._bytes is not None and all(letter in self._bytes for letter in word):
            return bytes(self._bytes[letter] for letter in word)
        if len(word) == 6 and word.startswith("<0x") and word.endswith(">"):
            return bytes([int(word[3:5], 16)])
        return str(word).replace("▁", " ").encode()

    def ends(self, token: int) -> bool:
        """Whether the token ends the model's turn."""
        return token in self._ends

    def control(self, token: int) -> str | None:
        """The text of a control token; None for every other."""
        return self._controls.get(token)


def _byte_alphabet() -> dict[str, int]:
    """The letters that byte-level BPE writes bytes with: printable Latin-1 as it is, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


class HFModel:
    """The model in a directory, or of an id on the model hub, ready to run.

    ``device`` None takes a GPU where there is one. On a CPU weights are held in 32 bits, elsewhere as in the file.
    Raises MissingDependency, ModelFileError for what does not load, DownloadError for what the hub does not deliver.
    """

    def __init__(self, name: str, *, device: str | None = None) -> None:
        transformers, self.torch = _import("transformers"), _import("torch")
        self.name = name
        self.device = device or _best_device(self.torch)
        local = _is_local(name)
        options = {"trust_remote_code": False, "local_files_only": local}
        dtype = self.torch.float32 if self.device == "cpu" else "auto"
        damaged = _import("safetensors").SafetensorError
        shown = transformers.utils.logging.is_progress_bar_enabled()
        transformers.utils.logging.disable_progress_bar()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
            self.model, found = transformers.AutoModelForCausalLM.from_pretrained(
                name, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
            self.model = self.model.to(self.device).eval()
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, damaged) as error:
            raise _not_loaded(name, local, error) from error
        finally:
            if shown:
                transformers.utils.logging.enable_progress_bar()
        if found["missing_keys"]:  # transformers would fill them with random numbers
            raise ModelFileError(f"{name} lacks weights of its model, {sorted(found['missing_keys'])[0]} among them")
        self.piece = 64 if self.device == "cpu" else 512  # prompt tokens that are read at a time
        self.clock = cpu_clock() if self.device == "cpu" else time.perf_counter  # for what a step costs
        self._new_cache = transformers.DynamicCache
        self.version = f"transformers {transformers.__version__}, torch {self.torch.__version__}, {self.device}"
        config = self.model.config.get_text_config(decoder=True)
        _check_plain(name, self.model, config, tokenizer)
        self._describe(config)
        self._tokenizer = tokenizer
        self.template: str | None = tokenizer.chat_template or _PLAIN_CHAT
        named = tokenizer.special_tokens_map.items()
        self.named_tokens = {name: str(token) for name, token in named if not isinstance(token, list)}
        ends = self.model.generation_config.eos_token_id
        ids = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
        bare = tokenizer.chat_template is None and bool(tokenizer("")["input_ids"])
        bos = [tokenizer.bos_token_id] if bare and tokenizer.bos_token_id is not None else []
        self.vocabulary = HFVocabulary(tokenizer, int(config.vocab_size), frozenset(ids), bos)
        self._keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def _describe(self, config: Any) -> None:
        self.n_parameters = sum(weight.numel() for weight in self.model.parameters())
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.bytes_per_token = 2 * config.num_hidden_layers * heads * width * self.model.dtype.itemsize
        windows = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        self.takes_trees = not windows  # a mask of our own would replace that of the windows

    def words(self) -> dict[str, int]:
        """The tokeniser's words and their ids."""
        return dict(self._tokenizer.get_vocab())

    def render(self, template: str, messages: Sequence[tuple[str, str]]) -> str:
        """The chat as text, up to where the assistant begins. Raises EngineError on a template that refuses it."""
        chat = [{"role": role, "content": content} for role, content in messages]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    chat, chat_template=template, tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as error:  # whatever a template of unknown origin raises
            roles = ", ".join(role for role, _ in messages)
            raise EngineError(f"the chat template of {self.name} refuses messages of {roles}: {error}") from error

    def cache(self, layers: Sequence[tuple[Any, Any]] = (), length: int = 0) -> Any:
        """A cache that begins with the first ``length`` tokens of ``layers``, the keys and values of each."""
        cache = self._new_cache()
        for i, (keys, values) in enumerate(layers):
            cache.update(keys[:, :, :length], values[:, :, :length], i)
        return cache

    def forward(self, rows: Sequence[Sequence[int]], cache: Any, *, keep: int, **more: Any) -> Any:
        """Logits after the last ``keep`` tokens of each row, (rows, keep, vocabulary); all rows join the cache."""
        torch = self.torch
        if self._keeps:
            more["logits_to_keep"] = keep
        with torch.inference_mode():
            ids = torch.tensor(rows, device=self.device)
            found = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **more)
        return found.logits[:, -keep:].float()


def _is_local(name: str) -> bool:
    """Whether it is a directory. Raises ModelFileError for what can only be a path and leads nowhere."""
    if Path(name).expanduser().is_dir():
        return True
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name:
        raise ModelFileError(f"{name} is no directory; give that of a transformers model, or an id of the model hub")
    return False


def _not_loaded(name: str, local: bool, error: Exception) -> EngineError | DownloadError:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if local:
        return ModelFileError(f"{name} does not load as a causal language model of transformers: {said}")
    return DownloadError(
        f"the model hub did not deliver {name}: {said} Check the id and the network, or give the path of a directory "
        "that holds the model"
    )


def _check_plain(name: str, model: Any, config: Any, tokenizer: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ())
    if getattr(model, "_is_stateful", False) or not kinds <= {"full_attention", "sliding_attention"}:
        raise EngineError(f"{name} keeps a state that cannot be cut and shared; it cannot be run by this engine")
    if model.config.is_encoder_decoder:
        raise EngineError(f"{name} has an encoder; this engine runs plain decoders")
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ModelFileError(f"{name} has no tokenizer.json, which this engine needs")


def _best_device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependency(error.name or name, "hf", "a model of transformers in process") from error
