"""The tokens of a model: from text to ids and back.

Every event loop that has a prompt asks here, while the worker's thread may be freeing the model; so each call holds a
lock, and after the end says that it is the end.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from fathom.errors import EngineError
from fathom.language.engines.llama_c import Library

__all__ = ["Vocabulary"]


class Vocabulary:
    """The vocabulary of a model. Every method raises EngineError once the engine was closed."""

    def __init__(self, library: Library, handle: int) -> None:
        self._lib = library
        self._handle: int | None = handle
        self._lock = threading.Lock()
        self._pieces: dict[int, bytes] = {}
        self.size = int(library.llama_vocab_n_tokens(handle))
        turn = int(library.llama_vocab_eot(handle))
        self.end_of_turn = turn if turn >= 0 else int(library.llama_vocab_eos(handle))
        wants_bos = library.llama_vocab_get_add_bos(handle)
        self.bos: list[int] = [int(library.llama_vocab_bos(handle))] if wants_bos else []  # begins every text

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._lock:
            if self._handle is None:
                raise EngineError("the engine was closed")
            return function(self._handle, *arguments)

    def retire(self) -> None:
        """The model is about to be freed."""
        with self._lock:
            self._handle = None

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``. Control tokens such as ``<|im_end|>`` are read as such only when ``special``."""
        if not text:
            return []
        data = text.encode("utf-8", errors="replace")  # a lone surrogate has no encoding
        room = len(data) + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._call(self._lib.llama_tokenize, data, len(data), ids, room, False, special)
            if count >= 0:
                return list(ids[:count])
            if -count <= room:
                raise EngineError(f"a text of {len(data)} bytes is too long to be tokenised")
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for a control token."""
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(256)
            size = self._call(self._lib.llama_token_to_piece, token, buffer, len(buffer), 0, False)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = self._call(self._lib.llama_token_to_piece, token, buffer, len(buffer), 0, False)
            known = self._pieces[token] = buffer.raw[: max(size, 0)]
        return known

    def ends(self, token: int) -> bool:
        """Whether the token ends the model's turn."""
        return bool(self._call(self._lib.llama_vocab_is_eog, token))

    def control(self, token: int) -> str | None:
        """The text of a control token; None for every other."""
        if not self._call(self._lib.llama_vocab_is_control, token):
            return None
        return str(self._call(self._lib.llama_vocab_get_text, token), "utf-8", "replace")
